// Typing signals: sent while a person types, and ended when they stop.

/** The time without a key press that counts as a pause, in milliseconds. */
const PAUSE_AFTER = 3_000;

/** The interval at which the signal is repeated, in milliseconds. The bridge ends it after 30 s. */
const REPEAT_INTERVAL = 10_000;

/**
 * A watcher of a text field. Calls `send(true)` when its writer begins, and `send(false)` when they
 * stop.
 */
export class Typing {
  #sentAt = 0;
  #timer;
  #send;

  constructor(field, send) {
    this.#send = send;
    field.addEventListener("input", () => (field.value === "" ? this.end() : this.#begin()));
    field.addEventListener("blur", () => this.end());
  }

  /** Ends typing without a signal, since a message ends it too. */
  reset() {
    clearTimeout(this.#timer);
    this.#sentAt = 0;
  }

  end() {
    if (this.#sentAt > 0) this.#send(false);
    this.reset();
  }

  #begin() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(), PAUSE_AFTER);
    if (Date.now() - this.#sentAt < REPEAT_INTERVAL) return;
    this.#sentAt = Date.now();
    this.#send(true);
  }
}

/** Submits a field's form on Enter. Shift and Enter insert a new line. */
export function sendByEnter(field) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    field.form.requestSubmit();
  });
}
