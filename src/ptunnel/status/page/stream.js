// The stream of server-sent events. It is read with fetch, which unlike EventSource sends the token
// as a header and tells an answer such as 503 from no answer.

const SILENCE = 8000; // milliseconds; the server says something every 2 seconds
const LONGEST_PAUSE = 30000;

export class Stream {
  #url;
  #headers;
  #listener;
  #abort = null;
  #timer = 0;
  #tries = 0;

  /**
   * @param url called for the address of each new connection.
   * @param headers called for its headers.
   * @param listener has heard(name, document) for each event, and lost(reason, next) when the
   *   connection is lost; next: milliseconds until it is tried again.
   */
  constructor(url, headers, listener) {
    this.#url = url;
    this.#headers = headers;
    this.#listener = listener;
  }

  /** Connect, with what url() says now, in place of any connection that there is. */
  open() {
    this.close();
    const abort = new AbortController();
    this.#abort = abort;
    this.#read(abort).catch((error) => {
      if (this.#abort !== abort) return; // closed, or another one is open
      this.close();
      const pause = Math.min(1000 * 2 ** this.#tries, LONGEST_PAUSE) * (0.75 + Math.random() / 4);
      this.#tries += 1;
      this.#timer = setTimeout(() => this.open(), pause);
      this.#listener.lost(error.reason ?? "the server does not answer", pause);
    });
  }

  close() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #read(abort) {
    const watch = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => abort.abort(lost("the server is silent")), SILENCE);
    };
    watch();
    const answer = await fetch(this.#url(), {
      headers: { Accept: "text/event-stream", ...this.#headers() },
      cache: "no-store",
      signal: abort.signal,
    });
    if (!answer.ok) throw lost(await problem(answer));
    let rest = "";
    for await (const text of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
      if (this.#abort !== abort) return;
      watch();
      const events = (rest + text).split(/\r?\n\r?\n/);
      rest = events.pop();
      events.forEach((event) => this.#dispatch(event));
    }
    throw lost("the server closed the connection");
  }

  #dispatch(event) {
    const lines = event.split(/\r?\n/);
    const values = (name) =>
      lines.filter((line) => line.startsWith(`${name}:`))
        .map((line) => line.slice(name.length + 1).replace(/^ /, ""));
    const data = values("data");
    if (!data.length) return; // a comment, which keeps the connection alive
    this.#tries = 0;
    try {
      this.#listener.heard(values("event")[0] ?? "message", JSON.parse(data.join("\n")));
    } catch (error) {
      throw lost(`this page does not understand the server (${error.message}); load it again`);
    }
  }
}

/** The error line of an answer that is no success. */
export async function problem(answer) {
  try {
    return (await answer.json()).error ?? `status ${answer.status}`;
  } catch {
    return `status ${answer.status}`;
  }
}

function lost(reason) {
  return Object.assign(new Error(reason), { reason });
}

// Not every browser iterates over a stream.
async function* chunks(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}
