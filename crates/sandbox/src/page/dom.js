// Functions that build elements. Text from other people reaches the page only as text: nothing here
// turns it into markup.

/** Returns the element with this id, which the page is known to have. */
export const byId = (id) => document.getElementById(id);

/**
 * Builds an element. `text` is its text, `class` its classes, `data` its data attributes, `on` its
 * listeners. All others are attributes: `true` sets one without a value; `false`, `null` and
 * `undefined` leave it out.
 */
export function make(tag, { text, data = {}, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  for (const [name, value] of Object.entries(data)) {
    if (value != null) element.dataset[name] = value;
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  if (text != null) element.textContent = text;
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Builds a button with a text. A click calls `act`. */
export function button(text, act, properties = {}) {
  return make("button", { type: "button", text, on: { click: act }, ...properties });
}

/** Shows a text in an element, which is hidden while there is no text. */
export function showText(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** Formats the time of day in the reader's time zone; if `precise`, with milliseconds. */
export function timeOfDay(at, precise = false) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  const options = precise
    ? { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" }
    : { hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat(undefined, options).format(time);
}

/** Waits for a number of milliseconds, or until the signal aborts. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}

/**
 * Returns a function that calls `act` soon: once for all calls made meanwhile, and never twice at
 * the same time. Each call returns a promise that resolves when its run of `act` has ended.
 */
export function gathered(act, milliseconds) {
  let waiting = null;
  let running = Promise.resolve();
  return () => {
    waiting ??= (async () => {
      await pause(milliseconds);
      await running;
      waiting = null;
      running = act();
      await running;
    })();
    return waiting;
  };
}
