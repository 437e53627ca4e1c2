// The status page: what comes from the stream is shown, and how old it is.

import { History, draw, scale } from "./chart.js";
import { Rows, fields, mark, show, write } from "./dom.js";
import { Sessions } from "./sessions.js";
import { Steering } from "./steering.js";
import { Stream } from "./stream.js";
import { Proxies, Tunnels } from "./tunnels.js";
import { age, bytes, clock, count, parsed, rate } from "./units.js";

const HIDDEN = 60000; // milliseconds; a browser has six connections for all tabs of a server
const SOME_EVENTS = 20;
const byId = (id) => document.getElementById(id);

const steering = new Steering(() => stream.open());
const sessions = new Sessions(steering, () => ask());
const tunnels = new Tunnels(steering);
const proxies = new Proxies(steering);
const stream = new Stream(
  () => `api/v1/stream?${sessions.query()}`,
  () => steering.headers(),
  { heard, lost },
);
const events = new Rows(byId("events"), "event-row", updateEvent);
const facts = fields(byId("facts"));
const tiles = fields(byId("tiles"));
const failed = []; // how many had failed, at which uptime
let flow = new History();
const latest = {}; // the last document of each name
let latestTime = null;
let process = null;
let version = null;
let asked = false; // for other sessions than those that are shown
let connection = "connecting"; // live, lost
let next = 0; // when the connection is tried again
let paused = false;
let allEvents = false;
let hiding = 0;

function heard(name, said) {
  if (name === "status" && said.version !== (version ??= said.version)) {
    location.reload(); // for the page of that version
    return;
  }
  latest[name] = said;
  latestTime = new Date();
  if (name === "status") takeIn(said);
  if (connection !== "live") connected();
  if (!paused || (asked && name === "sessions")) render(name);
  if (name === "sessions") asked = false;
}

/** Take the figures into the charts, shown or not. */
function takeIn(status) {
  const now = `${status.pid} ${status.started}`;
  if (process !== now) {
    process = now;
    flow = new History();
    failed.length = 0;
    tunnels.restart();
  }
  const uptime = status.uptime_seconds;
  flow.add(uptime, status.bytes_received, status.bytes_sent);
  tunnels.add(uptime, status.tunnels);
  failed.push({ uptime, total: status.failures_total });
  while (failed[0].uptime < uptime - 300) failed.shift();
}

function render(name) {
  if (name === "sessions") sessions.show(latest.sessions);
  if (name === "status") renderStatus(latest.status);
}

function renderStatus(status) {
  steering.allow(status.may_steer);
  renderState(status.state);
  write(facts.version, status.version);
  write(facts.uptime, age(status.uptime_seconds));
  write(byId("pid"), String(status.pid));
  write(byId("since"), clock(parsed(status.started)));
  renderWorkers(status.workers);
  renderTiles(status);
  draw(byId("flow"), flow, false);
  write(byId("scale"), `${bytes(scale(flow.peak))}/s`);
  tunnels.show(status.tunnels);
  proxies.show(status.proxies);
  sessions.offer(status.tunnels.map((tunnel) => tunnel.name));
  renderEvents(status.events);
}

function renderState(state) {
  write(byId("state"), state);
  mark(byId("state"), "data-state", state);
}

function renderWorkers(workers) {
  const ready = workers.filter((worker) => worker.ready).length;
  show(facts.workerFact, workers.length > 0);
  write(facts.workers, `${count(ready)} of ${count(workers.length)} ready`);
  facts.workers.classList.toggle("bad", ready < workers.length);
  const each = workers.map(({ number, pid, ready }) =>
    `worker ${number}: ${pid === null ? "no process" : `process ${pid}`}${ready ? "" : ", not ready"}`);
  mark(facts.workers, "title", each.join("\n"));
}

function renderTiles(status) {
  write(tiles.sessions, count(status.sessions));
  const total = `${count(status.sessions_total)} in all`;
  write(tiles.sessionsMore, status.connecting ? `${count(status.connecting)} connecting; ${total}` : total);
  write(tiles.receivedRate, rate(flow.now.received));
  write(tiles.received, `${bytes(status.bytes_received)} in all`);
  write(tiles.sentRate, rate(flow.now.sent));
  write(tiles.sent, `${bytes(status.bytes_sent)} in all`);
  write(tiles.failures, count(status.failures_total));
  const lately = status.failures_total - failed[0].total;
  write(tiles.failuresMore, `${lately > 0 ? count(lately) : "none"} in five minutes`);
  tiles.failures.classList.toggle("bad", lately > 0);
  write(tiles.refused, count(status.refused_total));
  write(tiles.refusedMore, "clients not served");
  const { used, limit } = status.descriptors;
  write(tiles.descriptors, count(used));
  write(tiles.descriptorsMore, `of ${count(limit)}`);
  tiles.descriptors.classList.toggle("bad", limit > 0 && used > 0.9 * limit);
}

function renderEvents(all) {
  const shown = (allEvents ? all : all.slice(-SOME_EVENTS)).toReversed();
  const seen = new Map();
  events.show(shown, ({ time, tunnel, message, worker }) => {
    const key = JSON.stringify([time, tunnel, message, worker ?? null]);
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return `${key} ${seen.get(key)}`;
  });
  show(byId("more-events"), all.length > SOME_EVENTS);
  write(byId("more-events"), allEvents ? `Show the last ${SOME_EVENTS}` : `Show all ${all.length}`);
  show(byId("no-events"), !all.length);
}

function updateEvent(row, { time, level, tunnel, message, worker }, element) {
  write(row.time, clock(parsed(time)));
  mark(row.time, "datetime", time);
  write(row.level, level);
  mark(element, "data-level", level);
  write(row.tunnel, tunnel ? `${tunnel}:` : "");
  write(row.message, message);
  write(row.worker, worker === undefined || worker === null ? "" : `worker ${worker}`);
}

function connected() {
  const wasLost = connection === "lost";
  connection = "live";
  document.body.classList.remove("lost");
  show(byId("banner"), false);
  if (latest.status) renderState(latest.status.state);
  document.title = `ptunnel ${location.host}`;
  if (wasLost) write(byId("live"), "Connected again.");
}

function lost(reason, pause) {
  next = Date.now() + pause;
  const since = latestTime === null ? "Not connected" : `Connection lost at ${clock(latestTime)}`;
  const old = latestTime === null ? "" : " All figures are from then.";
  write(byId("lost"), `${since}: ${reason}.${old}`);
  if (connection !== "lost") write(byId("live"), byId("lost").textContent);
  connection = "lost";
  document.body.classList.add("lost");
  document.title = `(lost) ptunnel ${location.host}`;
  show(byId("banner"), true);
  renderState("no connection");
  tick();
}

/** Say how old the figures are; not in a live region, which would be read out each second. */
function tick() {
  if (connection !== "lost") return;
  const ago = latestTime === null ? "" : `${age((Date.now() - latestTime) / 1000)} ago; `;
  const wait = Math.ceil((next - Date.now()) / 1000);
  write(byId("next"), `(${ago}${wait > 0 ? `next try in ${wait} s` : "trying"})`);
}

function ask() {
  asked = true;
  if (connection === "lost") return; // the next try asks
  stream.open();
}

function togglePause() {
  paused = !paused;
  mark(byId("pause"), "aria-pressed", String(paused));
  write(byId("pause"), paused ? `Paused at ${clock(latestTime ?? new Date())}` : "Pause");
  document.body.classList.toggle("paused", paused);
  if (!paused) Object.keys(latest).forEach(render);
}

byId("pause").addEventListener("click", togglePause);
byId("again").addEventListener("click", () => stream.open());
byId("reload").addEventListener("click", () => steering.call("POST", "api/v1/reload", "Reloaded."));
byId("more-events").addEventListener("click", () => {
  allEvents = !allEvents;
  renderEvents(latest.status.events);
});
addEventListener("online", () => stream.open());
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      hiding = 0;
      stream.close();
    }, HIDDEN);
  } else if (!hiding || connection === "lost") {
    stream.open();
  }
});

write(byId("host"), location.host);
setInterval(tick, 1000);
stream.open();
