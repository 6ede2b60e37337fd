// The form that opens a conversation: the user's profile, the skill and the urgency.

import { byId, showText } from "./dom.js";

/** The dialog with the form. */
export class Opening {
  #dialog = byId("opening");
  #form = byId("opening-form");
  #open;

  /**
   * Creates the dialog. `open` receives the contents of the form, and may refuse them by throwing.
   */
  constructor(open) {
    this.#open = open;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("opening-cancel").addEventListener("click", () => this.#dialog.close());
  }

  show() {
    showText(byId("opening-error"), null);
    this.#dialog.showModal();
  }

  async #submit() {
    const submit = byId("opening-submit");
    submit.disabled = true;
    try {
      await this.#open(this.#read());
      this.#dialog.close();
    } catch (problem) {
      showText(byId("opening-error"), String(problem));
    } finally {
      submit.disabled = false;
    }
  }

  /** Returns the body of the API request that opens a conversation. Empty fields are left out. */
  #read() {
    const fields = new FormData(this.#form);
    const text = (name) => fields.get(name)?.trim() || undefined;
    const customer = text("type") && { type: text("type") };
    const profile = { first_name: text("first_name"), last_name: text("last_name"), customer };
    const isEmpty = Object.values(profile).every((value) => value === undefined);
    return {
      profile: isEmpty ? undefined : profile,
      routing: text("skill") && { skill_id: text("skill") },
      urgency: text("urgency"),
      features: fields.has("survey") ? ["MULTI_DIALOG"] : undefined,
    };
  }
}
