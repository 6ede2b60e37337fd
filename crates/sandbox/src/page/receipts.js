// Receipts of the user: each message of the brand is acknowledged when it has arrived, and again when it has been seen.

import { gathered } from "./dom.js";

/** Milliseconds: what arrives or is seen within that time goes in one request. */
const GATHER = 300;

/** Sends the receipts of one thread. */
export class Receipts {
  #facade;
  #thread;
  #waiting = { accept: [], read: [] };
  #watching;
  #messages = new WeakMap();
  #send = gathered(() => this.#flush(), GATHER);

  constructor(facade, thread, root) {
    this.#facade = facade;
    this.#thread = thread;
    this.#watching = new IntersectionObserver((entries) => this.#look(entries), { root, threshold: 0.6 });
    thread.addEventListener("arrived", ({ detail }) => this.#arrived(detail));
  }

  stop() {
    this.#watching.disconnect();
  }

  #arrived(message) {
    if (message.sequence == null) return;
    this.#note("accept", message);
    this.#messages.set(message.item, message);
    this.#watching.observe(message.item);
  }

  /** An observer looks while the page is shown alone, so what it reports has been on a screen. */
  #look(entries) {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting || document.visibilityState !== "visible") continue;
      this.#watching.unobserve(target);
      this.#note("read", this.#messages.get(target));
    }
  }

  #note(status, message) {
    this.#waiting[status].push(message);
    this.#send();
  }

  async #flush() {
    for (const status of ["accept", "read"]) {
      const { conversation } = this.#thread;
      // Numbers are those of the dialog that is open: of another, a receipt would speak of other messages.
      const isCurrent = (message) => conversation?.state === "open"
        && message.conversation === conversation.id && message.dialog === conversation.dialog;
      const sequences = this.#waiting[status].filter(isCurrent).map(({ sequence }) => sequence);
      this.#waiting[status] = [];
      if (sequences.length === 0) continue;
      const path = this.#facade.of("receipts");
      const body = { status, sequences: sequences.slice(-1000) };
      // Where the conversation has ended meanwhile, nobody waits for a receipt any more.
      await this.#facade.call("POST", path, { body, key: crypto.randomUUID() }).catch(() => {});
    }
  }
}
