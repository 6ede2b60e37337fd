// What a chat shows: bubbles, notes between them, and how far a message has come. Both sides of the page use it.

import { make, timeOfDay } from "./dom.js";

/** How far a message of one's own has come, in order; and what is shown then. */
export const STATES = {
  sending: "sending…",
  queued: "queued (202)",
  sent: "sent ✓",
  delivered: "delivered ✓✓",
  read: "read ✓✓",
  failed: "failed",
};

const RANKS = Object.keys(STATES);

/** A list of bubbles that stays at its end unless its reader has scrolled back. */
export class Log {
  #element;
  #atEnd = true;

  constructor(element) {
    this.#element = element;
    element.addEventListener("scroll", () => {
      this.#atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    });
    // What is shown below the list makes it smaller, and a picture has its height only once it is there; its event does
    // not bubble, but it can be caught on its way down.
    new ResizeObserver(() => this.#stay()).observe(element);
    element.addEventListener("load", () => this.#stay(), true);
  }

  clear() {
    this.#element.replaceChildren();
    this.#atEnd = true;
  }

  add(item) {
    this.#element.append(item);
    this.#stay();
    return item;
  }

  end() {
    this.#element.scrollTop = this.#element.scrollHeight;
  }

  #stay() {
    if (this.#atEnd) this.end();
  }
}

/** A message. `side` is `mine`, `theirs` or `private`; `contents` are the elements in it. */
export function bubble({ side, who, at, contents, data = {} }) {
  return make("li", { class: `bubble ${side}`, data: { side, ...data } },
    make("p", { class: "who", text: who }),
    make("div", { class: "contents" }, ...contents),
    make("p", { class: "meta" },
      make("time", { datetime: new Date(at).toISOString(), text: timeOfDay(at) }),
      make("span", { class: "state" })));
}

/** A text in a bubble. */
export const words = (text) => make("p", { class: "words", text });

/** Something that happened between messages. */
export const note = (text, kind) => make("li", { class: "note", data: { note: kind }, text });

/** Shows how far a message has come; it never goes back, but for a failed one that is tried again. */
export function advance(item, state, reason) {
  const now = item.dataset.state;
  if (now && now !== "failed" && RANKS.indexOf(state) < RANKS.indexOf(now)) return;
  item.dataset.state = state;
  item.querySelector(".state").textContent = reason ? `${STATES[state]}: ${reason}` : STATES[state];
}

/** A picture, or a link to a file that is none. `source` is where its bytes are, once they are known. */
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
