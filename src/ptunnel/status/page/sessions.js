// The table of sessions. The server sorts, filters and cuts it into pages, however many there are.

import { Rows, mark, show, write } from "./dom.js";
import { age, bytes, count, rate } from "./units.js";

const PAGE = 100; // rows
const TYPING = 250; // milliseconds
// What one looks for in these is the largest.
const LARGEST_FIRST = new Set(["age", "received", "sent", "rate"]);
const byId = (id) => document.getElementById(id);

export class Sessions {
  #query = { q: "", tunnel: "", sort: "number", order: "asc", limit: PAGE, offset: 0 };
  #steering;
  #changed;
  #rows;
  #typing = 0;

  /** @param changed called when query() says something else. */
  constructor(steering, changed) {
    this.#steering = steering;
    this.#changed = changed;
    const body = byId("session-table").tBodies[0];
    this.#rows = new Rows(body, "session-row", update);
    body.addEventListener("act", ({ detail }) => this.#end(detail.item));
    for (const header of byId("session-table").querySelectorAll("[data-sort]")) {
      header.firstElementChild.addEventListener("click", () => this.#sort(header.dataset.sort));
    }
    byId("filter").addEventListener("input", ({ target }) => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#ask({ q: target.value.trim(), offset: 0 }), TYPING);
    });
    byId("tunnel").addEventListener("change", ({ target }) => {
      this.#ask({ tunnel: target.value, offset: 0 });
    });
    const turn = (pages) => this.#ask({ offset: Math.max(0, this.#query.offset + pages * PAGE) });
    byId("previous").addEventListener("click", () => turn(-1));
    byId("following").addEventListener("click", () => turn(1));
    this.#markSorted();
  }

  /** The query string for what is to be shown. */
  query() {
    const set = Object.entries(this.#query).filter(([, value]) => value !== "");
    return new URLSearchParams(set).toString();
  }

  show({ total, sessions }) {
    const { q, tunnel, offset } = this.#query;
    if (offset && offset >= total) {
      this.#ask({ offset: Math.max(0, Math.floor((total - 1) / PAGE) * PAGE) });
      return;
    }
    this.#rows.show(sessions, (session) => session.number);
    const found = sessions.length;
    write(byId("session-count"), count(total));
    write(byId("range"), found ? `${count(offset + 1)}–${count(offset + found)} of ${count(total)}` : "");
    byId("previous").disabled = offset === 0;
    byId("following").disabled = offset + found >= total;
    show(byId("session-table").parentElement, found > 0);
    show(byId("no-sessions"), !found);
    write(byId("no-sessions"), q || tunnel ? "No session fits the filter." : "No session runs.");
  }

  /** Offer these tunnels to choose from. */
  offer(names) {
    const select = byId("tunnel");
    const options = ["", ...names];
    const offered = [...select.options].map((option) => option.value);
    if (options.length === offered.length && options.every((name, i) => name === offered[i])) return;
    const chosen = this.#query.tunnel;
    select.replaceChildren(...options.map((name) => new Option(name || "all", name)));
    select.value = options.includes(chosen) ? chosen : "";
    if (select.value !== chosen) this.#ask({ tunnel: "", offset: 0 });
  }

  #sort(key) {
    const { sort, order } = this.#query;
    const first = LARGEST_FIRST.has(key) ? "desc" : "asc";
    const other = order === "asc" ? "desc" : "asc";
    this.#ask({ sort: key, order: key === sort ? other : first, offset: 0 });
    this.#markSorted();
  }

  #markSorted() {
    const { sort, order } = this.#query;
    for (const header of byId("session-table").querySelectorAll("[data-sort]")) {
      const sorted = order === "asc" ? "ascending" : "descending";
      mark(header, "aria-sort", header.dataset.sort === sort ? sorted : null);
    }
  }

  #ask(changes) {
    this.#query = { ...this.#query, ...changes };
    this.#changed();
  }

  async #end({ number, client, tunnel }) {
    const title = `End session ${number}?`;
    const text = `The connection of ${client} through ${tunnel} is cut at once, whatever is on its way.`;
    if (await this.#steering.confirm(title, text, "End session")) {
      const path = `api/v1/sessions/${encodeURIComponent(number)}`;
      await this.#steering.call("DELETE", path, `Session ${number} of ${client} has been ended.`);
    }
  }
}

function update(fields, session) {
  write(fields.number, String(session.number));
  write(fields.client, session.client);
  write(fields.tunnel, session.tunnel);
  write(fields.target, session.target ?? "");
  show(fields.asks, session.target !== null);
  write(fields.way, session.way ?? "–");
  write(fields.phase, session.phase);
  mark(fields.phase, "data-phase", session.phase);
  write(fields.age, age(session.seconds));
  write(fields.received, bytes(session.bytes_received));
  write(fields.sent, bytes(session.bytes_sent));
  write(fields.rate, rate(session.rate));
  mark(fields.end, "aria-label", `End session ${session.number} of ${session.client}`);
}
