// Typing signals: sent while a person types, and ended when they stop.

/** The time without a key press that counts as a pause, in milliseconds. */
const STILL = 3_000;

/** The interval at which the signal is repeated, in milliseconds. The bridge ends it after 30 s. */
const AGAIN = 10_000;

/**
 * A watcher of a text field. Calls `tell(true)` when its writer begins, and `tell(false)` when they
 * stop.
 */
export class Typing {
  #told = 0;
  #timer;
  #tell;

  constructor(field, tell) {
    this.#tell = tell;
    field.addEventListener("input", () => (field.value === "" ? this.end() : this.#begin()));
    field.addEventListener("blur", () => this.end());
  }

  /** Ends typing without a signal, since a message ends it too. */
  forget() {
    clearTimeout(this.#timer);
    this.#told = 0;
  }

  end() {
    if (this.#told > 0) this.#tell(false);
    this.forget();
  }

  #begin() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(), STILL);
    if (Date.now() - this.#told < AGAIN) return;
    this.#told = Date.now();
    this.#tell(true);
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
