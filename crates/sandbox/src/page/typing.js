// Whether somebody is typing: told while they do, and ended when they stop.

/** Milliseconds without a key until it counts as a pause. */
const STILL = 3_000;

/** Milliseconds after which it is told again, since it does not last: the bridge ends it after 30 s by itself. */
const AGAIN = 10_000;

/** Watches a text field and tells when its writer begins, `tell(true)`, and stops, `tell(false)`. */
export class Typing {
  #told = 0;
  #timer;
  #tell;

  constructor(field, tell) {
    this.#tell = tell;
    field.addEventListener("input", () => (field.value === "" ? this.end() : this.#begin()));
    field.addEventListener("blur", () => this.end());
  }

  /** It is over, and that need not be told: a message ends it too. */
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

/** Sends a form's text by Enter; Shift and Enter make a new line. */
export function sendByEnter(field) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    field.form.requestSubmit();
  });
}
