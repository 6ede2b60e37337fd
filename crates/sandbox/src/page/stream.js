// The API's events as they happen: server-sent events, read with fetch, since EventSource cannot
// send an Authorization header. The stream begins at the oldest stored event, and continues after
// the last received one whenever it reconnects.

import { pause } from "./dom.js";
import { Problem } from "./api.js";

/** The silence after which a stream is dead, in milliseconds. A comment comes every 15 s. */
const SILENCE = 35_000;

/** The longest pause before the stream is started again, in milliseconds. */
const LONGEST_PAUSE = 8_000;

/**
 * A stream of events. Dispatches `event` and `gap`, and `state` when it connects or disconnects.
 */
export class Stream extends EventTarget {
  #api;
  #cursor = null;
  #stopping = new AbortController();

  constructor(api) {
    super();
    this.#api = api;
  }

  stop() {
    this.#stopping.abort();
  }

  async run() {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#follow(() => { failures = 0; });
        this.#emit("state", { connected: false, reason: null });
      } catch (problem) {
        if (signal.aborted) return;
        // The cursor of another database is not valid here: reading starts at the oldest stored
        // event.
        if (problem.status === 422) this.#cursor = null;
        // A broken connection is not reported as an error, as long as the next one succeeds.
        this.#emit("state", { connected: false, reason: problem instanceof Problem ? String(problem) : null });
      }
      await pause(Math.min(LONGEST_PAUSE, 500 * 2 ** failures), signal);
    }
  }

  /** Follows one stream until it ends. */
  async #follow(connected) {
    const silence = new AbortController();
    const signal = AbortSignal.any([this.#stopping.signal, silence.signal]);
    const headers = { accept: "text/event-stream" };
    if (this.#cursor !== null) headers["last-event-id"] = this.#cursor;
    const response = await this.#api.fetch("/v1/events", { headers, signal });
    connected();
    this.#emit("state", { connected: true, reason: null });
    let timer;
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE);
    };
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const lines = new Lines((event) => this.#handle(event));
    try {
      restartTimer();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        restartTimer();
        lines.push(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #handle({ id, type, data }) {
    if (type === "gap") {
      this.#emit("gap", JSON.parse(data));
    } else {
      this.#emit("event", JSON.parse(data));
    }
    if (id !== null) this.#cursor = id;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** An assembler of events from the pieces of a stream. */
class Lines {
  #buffer = "";
  #event = { id: null, type: "message", data: [] };
  #onEvent;

  constructor(onEvent) {
    this.#onEvent = onEvent;
  }

  push(text) {
    const lines = (this.#buffer + text).split("\n");
    this.#buffer = lines.pop();
    for (const line of lines) this.#read(line.replace(/\r$/, ""));
  }

  #read(line) {
    const event = this.#event;
    if (line === "") {
      if (event.data.length > 0) this.#onEvent({ ...event, data: event.data.join("\n") });
      this.#event = { id: null, type: "message", data: [] };
      return;
    }
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line);
    if (name === "id") event.id = value ?? "";
    else if (name === "event") event.type = value ?? "";
    else if (name === "data") event.data.push(value ?? "");
  }
}
