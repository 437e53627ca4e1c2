// What changes something: calls with the token, which is asked for where it is needed and kept for
// this tab only, and the question before something is cut.

import { show, write } from "./dom.js";
import { problem } from "./stream.js";

const KEPT = "ptunnel-token";
const SILENT = "The server does not answer.";
const byId = (id) => document.getElementById(id);

export class Steering {
  #maySteer = false;
  #resolve = null;
  #submit = null;
  #changed;

  /** @param changed called when the token is another one. */
  constructor(changed) {
    this.#changed = changed;
    byId("steer").addEventListener("click", () => this.#offer());
    byId("forget").addEventListener("click", () => this.#keep(null));
    byId("dialog-cancel").addEventListener("click", () => byId("dialog").close());
    byId("dialog").addEventListener("close", () => this.#finish(false));
    byId("dialog").querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("dismiss").addEventListener("click", () => show(byId("said"), false));
  }

  /** The headers of each request. */
  headers() {
    const token = sessionStorage.getItem(KEPT);
    return token === null ? {} : { Authorization: `Bearer ${token}` };
  }

  /** Show what this page may do, by what the server says. */
  allow(maySteer) {
    this.#maySteer = maySteer;
    document.body.classList.toggle("steers", maySteer);
    show(byId("reload"), maySteer);
    show(byId("steer"), !maySteer);
    show(byId("forget"), maySteer && sessionStorage.getItem(KEPT) !== null);
  }

  /** Ask before something is cut. @return a promise of whether to do it. */
  confirm(title, text, yes) {
    this.#ask({ title, text, yes, token: false, danger: true });
    this.#submit = () => this.#finish(true);
    return new Promise((resolve) => (this.#resolve = resolve));
  }

  /** Do something. @param done what to say when it is done, unless the server says it. */
  async call(method, path, done) {
    try {
      const answer = await fetch(path, {
        method,
        headers: { "X-Ptunnel": "1", ...this.headers() },
        cache: "no-store",
      });
      if (answer.status === 401) return this.#unlock(await problem(answer));
      if (!answer.ok) return this.say(await problem(answer), true);
      this.say(answer.status === 204 ? done : (await answer.json()).message, false);
    } catch {
      this.say("The server did not answer: it is not known whether this was done.", true);
    }
  }

  /** Say how something went, where it is seen and heard. */
  say(text, bad) {
    const said = byId("said");
    write(said.querySelector("span"), text);
    said.classList.toggle("bad", bad);
    show(said, true);
    write(byId("live"), text);
  }

  #unlock(error = "") {
    this.#ask({
      title: "Steer ptunnel",
      text: "Ending sessions, draining and reloading need the token in the file that the key " +
        "status-token-file names. It is kept until this tab is closed, and sent to this server only.",
      yes: "Use token",
      token: true,
      danger: false,
    });
    write(byId("dialog-error"), error);
    this.#submit = () => this.#try(byId("token").value.trim());
  }

  /** Ask for the token, unless the server takes none. */
  async #offer() {
    try {
      const answer = await probe({});
      if (answer.status === 403) this.say(await problem(answer), true);
      else this.#unlock();
    } catch {
      this.say(SILENT, true);
    }
  }

  async #try(token) {
    const error = await refusal(token);
    if (error === "") {
      byId("dialog").close();
      this.#keep(token);
      return;
    }
    write(byId("dialog-error"), error);
    byId("token").select();
  }

  #keep(token) {
    if (token === null) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, token);
    this.allow(token !== null);
    this.#changed();
    this.say(token === null ? "The token is forgotten." : "You may steer now.", false);
  }

  #ask({ title, text, yes, token, danger }) {
    write(byId("dialog-title"), title);
    write(byId("dialog-text"), text);
    write(byId("dialog-yes"), yes);
    write(byId("dialog-error"), "");
    byId("dialog-yes").classList.toggle("danger", danger);
    show(byId("token-label"), token);
    byId("token").value = "";
    byId("dialog").showModal();
    (token ? byId("token") : byId("dialog-cancel")).focus();
  }

  #finish(result) {
    const resolve = this.#resolve;
    this.#resolve = null;
    resolve?.(result);
    if (byId("dialog").open) byId("dialog").close();
    byId("token").value = "";
  }
}

/** Ask to end a session that there is not: what the server says to it tells who may steer. */
function probe(headers) {
  return fetch("api/v1/sessions/none", { method: "DELETE", headers, cache: "no-store" });
}

/** Why a token is not taken; "" if it is. */
async function refusal(token) {
  if (token === "") return "Enter the token.";
  if (!/^[\x21-\x7e]+$/.test(token)) return "A token has letters, digits and signs of ASCII only.";
  try {
    const answer = await probe({ Authorization: `Bearer ${token}` });
    return answer.status === 404 ? "" : await problem(answer);
  } catch {
    return SILENT;
  }
}
