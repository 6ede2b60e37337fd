// The form that rates a conversation once it has ended.

import { byId, showText } from "./dom.js";

/** The form, which is shown for one conversation at a time. */
export class Rating {
  #form = byId("rating");
  #rate;

  /** Creates the form. `rate` receives its contents, and may refuse them by throwing. */
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
    showText(byId("rating-error"), null);
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
      showText(byId("rating-error"), "Choose at least one of the two.");
      return;
    }
    try {
      await this.#rate({ csat: csat ? Number(csat) : undefined, fcr: fcr ?? undefined });
      this.hide();
    } catch (problem) {
      showText(byId("rating-error"), String(problem));
    }
  }
}
