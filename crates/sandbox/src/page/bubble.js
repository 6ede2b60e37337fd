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

/**
 * A list of bubbles in an element that stays scrolled to its end unless the reader has scrolled
 * back.
 */
export class Log {
  #element;
  #list;
  #atEnd = true;
  /** The position at the last scroll event. */
  #top = 0;

  constructor(element) {
    this.#element = element;
    this.#list = element.querySelector("ol");
    element.addEventListener("scroll", () => this.#scrolled());
    // The element becomes smaller when another one appears below it. The list becomes larger with
    // each bubble, and once more when a picture has loaded.
    const observer = new ResizeObserver(() => this.#keepAtEnd());
    observer.observe(element);
    observer.observe(this.#list);
  }

  clear() {
    this.#list.replaceChildren();
    this.#atEnd = true;
  }

  add(item) {
    this.#list.append(item);
    this.#keepAtEnd();
    return item;
  }

  /** Disables the buttons with this selector, so that nobody answers a question that is over. */
  endButtons(css) {
    const buttons = [...this.#list.querySelectorAll(css)];
    // A disabled button cannot keep the focus.
    if (buttons.includes(document.activeElement)) this.#element.focus({ preventScroll: true });
    for (const button of buttons) button.disabled = true;
  }

  end() {
    this.#element.scrollTop = this.#element.scrollHeight;
  }

  /**
   * Only a reader scrolls back. A list that is no longer at its end without that has become larger
   * before this event.
   */
  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#element;
    if (scrollHeight - scrollTop - clientHeight < 40) this.#atEnd = true;
    else if (scrollTop < this.#top) this.#atEnd = false;
    this.#top = scrollTop;
  }

  #keepAtEnd() {
    if (this.#atEnd) this.end();
  }
}

/** Builds a message. `side` is `mine`, `theirs` or `private`; `contents` are the elements in it. */
export function bubble({ side, who, at, contents, data = {} }) {
  return make("li", { class: `bubble ${side}`, data: { side, ...data } },
    make("p", { class: "who", dir: "auto", text: who }),
    make("div", { class: "contents" }, ...contents),
    make("p", { class: "meta" },
      make("time", { datetime: new Date(at).toISOString(), text: timeOfDay(at) }),
      make("span", { class: "state" })));
}

/** Builds a text for a bubble. */
export const paragraph = (text) => make("p", { class: "words", dir: "auto", text });

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
  if (caption) shown.append(make("figcaption", { dir: "auto", text: caption }));
  Promise.resolve(source).then(show, (problem) => {
    shown.prepend(make("p", { class: "alert", text: `${type} file: ${problem}` }));
  });
  return shown;
}
