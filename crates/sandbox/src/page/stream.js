// Events of the facade as they happen: server-sent events, read with fetch, since EventSource cannot bear an
// Authorization header. It begins at the oldest event that is kept, and goes on behind the last one after every break.

import { pause } from "./dom.js";
import { Problem } from "./facade.js";

/** Milliseconds: a comment comes every 15 s, so a stream that says nothing for longer is dead. */
const SILENCE = 35_000;

/** Milliseconds: how long to wait at most before the stream is begun anew. */
const LONGEST_PAUSE = 8_000;

/** A stream of events: dispatches `event`, `gap`, and `state` whenever it is connected or away. */
export class Stream extends EventTarget {
  #facade;
  #cursor = null;
  #stopping = new AbortController();

  constructor(facade) {
    super();
    this.#facade = facade;
  }

  stop() {
    this.#stopping.abort();
  }

  async run() {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#follow(() => { failures = 0; });
        this.#tell("state", { connected: false, reason: null });
      } catch (problem) {
        if (signal.aborted) return;
        // The cursor of another database means nothing here: what is kept is read from its beginning.
        if (problem.status === 422) this.#cursor = null;
        // A connection that broke is nothing to speak of, as long as the next one comes about.
        this.#tell("state", { connected: false, reason: problem instanceof Problem ? String(problem) : null });
      }
      await pause(Math.min(LONGEST_PAUSE, 500 * 2 ** failures), signal);
    }
  }

  /** Follows one stream to its end. */
  async #follow(connected) {
    const dead = new AbortController();
    const signal = AbortSignal.any([this.#stopping.signal, dead.signal]);
    const headers = { accept: "text/event-stream" };
    if (this.#cursor !== null) headers["last-event-id"] = this.#cursor;
    const response = await this.#facade.fetch("/v1/events", { headers, signal });
    connected();
    this.#tell("state", { connected: true, reason: null });
    let timer;
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => dead.abort(), SILENCE);
    };
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const lines = new Lines((event) => this.#take(event));
    try {
      listen();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        listen();
        lines.take(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take({ id, type, data }) {
    if (type === "gap") {
      this.#tell("gap", JSON.parse(data));
    } else {
      this.#tell("event", JSON.parse(data));
    }
    if (id !== null) this.#cursor = id;
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Puts the pieces of a stream together to events. */
class Lines {
  #rest = "";
  #event = { id: null, type: "message", data: [] };
  #whole;

  constructor(whole) {
    this.#whole = whole;
  }

  take(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) this.#read(line.replace(/\r$/, ""));
  }

  #read(line) {
    const event = this.#event;
    if (line === "") {
      if (event.data.length > 0) this.#whole({ ...event, data: event.data.join("\n") });
      this.#event = { id: null, type: "message", data: [] };
      return;
    }
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line);
    if (name === "id") event.id = value ?? "";
    else if (name === "event") event.type = value ?? "";
    else if (name === "data") event.data.push(value ?? "");
  }
}
