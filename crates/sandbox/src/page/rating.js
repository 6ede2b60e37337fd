// The form that rates a conversation once it has ended.

import { byId, say } from "./dom.js";

/** The form; it is shown for one conversation at a time. */
export class Rating {
  #form = byId("rating");
  #rate;

  /** `rate` is given what was filled in, and says what became of it; it may refuse by throwing. */
  constructor(rate) {
    this.#rate = rate;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("rating-skip").addEventListener("click", () => this.hide());
  }

  show() {
    this.#form.reset();
    say(byId("rating-error"), null);
    this.#form.hidden = false;
  }

  hide() {
    this.#form.hidden = true;
  }

  async #submit() {
    const fields = new FormData(this.#form);
    const csat = fields.get("csat");
    const fcr = fields.get("fcr");
    if (!csat && !fcr) {
      say(byId("rating-error"), "Choose one of both at least.");
      return;
    }
    try {
      await this.#rate({ csat: csat ? Number(csat) : undefined, fcr: fcr ?? undefined });
      this.hide();
    } catch (problem) {
      say(byId("rating-error"), String(problem));
    }
  }
}
