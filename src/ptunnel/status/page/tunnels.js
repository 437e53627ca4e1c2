// The tables of tunnels and of the ways that they take.

import { History, draw } from "./chart.js";
import { Rows, mark, show, write } from "./dom.js";
import { bytes, causes, clock, count, parsed, rate, sum, took } from "./units.js";

const byId = (id) => document.getElementById(id);

export class Tunnels {
  #histories = new Map();
  #steering;
  #rows;

  constructor(steering) {
    this.#steering = steering;
    const body = byId("tunnels").tBodies[0];
    this.#rows = new Rows(body, "tunnel-row", (fields, tunnel) => this.#update(fields, tunnel));
    body.addEventListener("act", ({ detail }) => drain(steering, "tunnel", detail.item));
  }

  /** Forget the rates: it is another process now. */
  restart() {
    this.#histories.clear();
  }

  /** Take the figures into the charts, shown or not. */
  add(uptime, tunnels) {
    const histories = new Map();
    for (const { name, bytes_received: received, bytes_sent: sent } of tunnels) {
      const history = this.#histories.get(name) ?? new History();
      history.add(uptime, received, sent);
      histories.set(name, history);
    }
    this.#histories = histories;
  }

  show(tunnels) {
    this.#rows.show(tunnels, (tunnel) => tunnel.name);
    write(byId("tunnel-count"), count(tunnels.length));
    show(byId("no-tunnels"), !tunnels.length);
    show(byId("tunnels").parentElement, tunnels.length > 0);
  }

  #update(fields, tunnel) {
    const history = this.#histories.get(tunnel.name);
    write(fields.name, tunnel.name);
    write(fields.listen, tunnel.listen);
    write(fields.target, tunnel.target ?? "what each client asks for");
    write(fields.kind, tunnel.protocols.map((name) => name.toUpperCase()).join(" and "));
    show(fields.kind, tunnel.kind === "door");
    write(fields.via, tunnel.via.join(", "));
    write(fields.sessions, count(tunnel.sessions));
    write(fields.sessionsMore, `${count(tunnel.sessions_total)} in all`);
    write(fields.connecting, tunnel.connecting ? `${count(tunnel.connecting)} connecting` : "");
    write(fields.receivedRate, rate(history.now.received));
    write(fields.received, bytes(tunnel.bytes_received));
    write(fields.sentRate, rate(history.now.sent));
    write(fields.sent, bytes(tunnel.bytes_sent));
    draw(fields.chart, history, true);
    updateTimes(fields, tunnel.connect_seconds);
    updateFailures(fields, tunnel.failures);
    const left = tunnel.left_total ? { "left before": tunnel.left_total } : {};
    write(fields.ended, count(sum(tunnel.ends) + tunnel.left_total));
    write(fields.ends, causes({ ...tunnel.ends, ...left }));
    write(fields.refused, count(tunnel.refused_total));
    updateDrained(fields, "tunnel", tunnel);
  }
}

export class Proxies {
  #rows;

  constructor(steering) {
    const body = byId("proxies").tBodies[0];
    this.#rows = new Rows(body, "proxy-row", updateProxy);
    body.addEventListener("act", ({ detail }) => drain(steering, "proxy", detail.item));
  }

  show(proxies) {
    this.#rows.show(proxies, (proxy) => proxy.name);
    write(byId("proxy-count"), count(proxies.length));
    show(byId("no-proxies"), !proxies.length);
    show(byId("proxies").parentElement, proxies.length > 0);
  }
}

function updateProxy(fields, proxy) {
  write(fields.name, proxy.name);
  write(fields.address, proxy.address || "without a proxy");
  write(fields.health, proxy.well ? "well" : "in trouble");
  mark(fields.health, "data-well", String(proxy.well));
  write(fields.trouble, proxy.trouble ?? "");
  write(fields.scheme, proxy.scheme ?? "–");
  write(fields.rejection, proxy.rejection ?? "");
  write(fields.connected, count(proxy.connected_total));
  updateTimes(fields, proxy.connect_seconds);
  updateFailures(fields, proxy.failures);
  write(fields.error, proxy.last_error ?? "none");
  const time = proxy.last_error_time;
  write(fields.errorTime, time ? clock(parsed(time)) : "");
  mark(fields.errorTime, "datetime", time ?? null);
  updateDrained(fields, "proxy", proxy);
}

function updateTimes(fields, times) {
  for (const name of ["p50", "p90", "p99"]) write(fields[name], took(times[name]));
}

function updateFailures(fields, failures) {
  const failed = sum(failures);
  write(fields.failed, count(failed));
  fields.failed.classList.toggle("bad", failed > 0);
  write(fields.failures, causes(failures));
}

function updateDrained(fields, kind, item) {
  show(fields.drained, item.drained);
  write(fields.drain, item.drained ? "Undrain" : "Drain…");
  mark(fields.drain, "aria-label", `${item.drained ? "Undrain" : "Drain"} ${kind} ${item.name}`);
}

async function drain(steering, kind, { name, drained }) {
  const path = `api/v1/${kind === "tunnel" ? "tunnels" : "proxies"}/${encodeURIComponent(name)}`;
  if (drained) {
    await steering.call("POST", `${path}/undrain`, `${kind} ${name} serves new clients again.`);
    return;
  }
  const text = kind === "tunnel"
    ? "New clients are turned away until it is undrained. Running sessions go on."
    : "No new session goes through it until it is undrained. Running sessions go on.";
  if (await steering.confirm(`Drain ${kind} ${name}?`, text, "Drain")) {
    await steering.call("POST", `${path}/drain`, `${kind} ${name} is drained.`);
  }
}
