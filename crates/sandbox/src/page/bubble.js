// The contents of a chat: bubbles, notes between them, and the state of each message. Both sides of
// the page use them.

import { make, timeOfDay } from "./dom.js";

/** The states of one's own message, in order, with the text that is shown for each. */
export const STATES = {
  sending: "sending…",
  queued: "queued (202)",
  sent: "sent ✓",
  delivered: "delivered ✓✓",
  read: "read ✓✓",
  failed: "failed",
};

const RANKS = Object.keys(STATES);

/** A list of bubbles that stays scrolled to its end unless the reader has scrolled back. */
export class Log {
  #element;
  #atEnd = true;

  constructor(element) {
    this.#element = element;
    element.addEventListener("scroll", () => {
      this.#atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    });
    // An element that appears below the list makes the list smaller. A picture has its height only
    // once it has loaded; its load event does not bubble, but can be caught in the capture phase.
    new ResizeObserver(() => this.#keepAtEnd()).observe(element);
    element.addEventListener("load", () => this.#keepAtEnd(), true);
  }

  clear() {
    this.#element.replaceChildren();
    this.#atEnd = true;
  }

  add(item) {
    this.#element.append(item);
    this.#keepAtEnd();
    return item;
  }

  end() {
    this.#element.scrollTop = this.#element.scrollHeight;
  }

  #keepAtEnd() {
    if (this.#atEnd) this.end();
  }
}

/** Builds a message. `side` is `mine`, `theirs` or `private`; `contents` are the elements in it. */
export function bubble({ side, who, at, contents, data = {} }) {
  return make("li", { class: `bubble ${side}`, data: { side, ...data } },
    make("p", { class: "who", text: who }),
    make("div", { class: "contents" }, ...contents),
    make("p", { class: "meta" },
      make("time", { datetime: new Date(at).toISOString(), text: timeOfDay(at) }),
      make("span", { class: "state" })));
}

/** Builds a text for a bubble. */
export const paragraph = (text) => make("p", { class: "words", text });

/** Builds a note on an event between messages. */
export const note = (text, kind) => make("li", { class: "note", data: { note: kind }, text });

/**
 * Shows the state of a message. It never goes back, except for a failed message that is sent again.
 */
export function advance(item, state, reason) {
  const now = item.dataset.state;
  if (now && now !== "failed" && RANKS.indexOf(state) < RANKS.indexOf(now)) return;
  item.dataset.state = state;
  item.querySelector(".state").textContent = reason ? `${STATES[state]}: ${reason}` : STATES[state];
}

/**
 * Builds a picture, or a link to a file of another type. `source` is its URL or a promise of it.
 */
export function file({ type, caption, source }) {
  const isPicture = /^(jpe?g|png|gif)$/i.test(type ?? "");
  const shown = make("figure", { class: "file", data: { file: type } });
  const show = (url) => shown.prepend(isPicture
    ? make("img", { src: url, alt: caption || `${type} file` })
    : make("a", { href: url, download: caption || "file", text: `Download (${type})` }));
  if (caption) shown.append(make("figcaption", { text: caption }));
  Promise.resolve(source).then(show, (problem) => {
    shown.prepend(make("p", { class: "alert", text: `${type} file: ${problem}` }));
  });
  return shown;
}
