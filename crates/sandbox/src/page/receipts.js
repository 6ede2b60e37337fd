// Receipts of the user: each message of the brand is acknowledged when it arrives, and again when
// it is seen.

import { gathered } from "./dom.js";

/** The time in which messages are gathered for one request, in milliseconds. */
const GATHER = 300;

/** Sends the receipts of one thread. */
export class Receipts {
  #api;
  #thread;
  #queued = { accept: [], read: [] };
  #observer;
  #messages = new WeakMap();
  #send = gathered(() => this.#flush(), GATHER);

  constructor(api, thread, root) {
    this.#api = api;
    this.#thread = thread;
    this.#observer = new IntersectionObserver((entries) => this.#handleIntersections(entries), { root, threshold: 0.6 });
    thread.addEventListener("arrived", ({ detail }) => this.#arrived(detail));
  }

  stop() {
    this.#observer.disconnect();
  }

  #arrived(message) {
    if (message.sequence == null) return;
    this.#enqueue("accept", message);
    this.#messages.set(message.item, message);
    this.#observer.observe(message.item);
  }

  /**
   * Queues read receipts for messages in view. The page must be visible, so that a message has been
   * on a screen.
   */
  #handleIntersections(entries) {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting || document.visibilityState !== "visible") continue;
      this.#observer.unobserve(target);
      this.#enqueue("read", this.#messages.get(target));
    }
  }

  #enqueue(status, message) {
    this.#queued[status].push(message);
    this.#send();
  }

  async #flush() {
    for (const status of ["accept", "read"]) {
      const { conversation } = this.#thread;
      // Sequences are those of the open dialog. In another dialog, a receipt would be about other
      // messages.
      const isCurrent = (message) => conversation?.state === "open"
        && message.conversation === conversation.id && message.dialog === conversation.dialog;
      const sequences = this.#queued[status].filter(isCurrent).map(({ sequence }) => sequence);
      this.#queued[status] = [];
      if (sequences.length === 0) continue;
      const path = this.#api.path("receipts");
      const body = { status, sequences: sequences.slice(-1000) };
      // If the conversation has ended meanwhile, the receipt no longer matters.
      await this.#api.call("POST", path, { body, key: crypto.randomUUID() }).catch(() => {});
    }
  }
}
