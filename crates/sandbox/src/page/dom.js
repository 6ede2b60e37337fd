// Building elements. What anybody wrote reaches the page as text alone: there is no way to markup from here.

/** The element of this id, which the page is known to have. */
export const byId = (id) => document.getElementById(id);

/**
 * An element: `text` is its text, `class` its classes, `data` its data attributes, `on` its listeners; all else are
 * attributes, of which `true` stands without a value and `false`, `null` and `undefined` are left out.
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

/** A button with a text that does something. */
export function button(text, act, properties = {}) {
  return make("button", { type: "button", text, on: { click: act }, ...properties });
}

/** Shows a text in an element that is hidden while there is none. */
export function say(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** The time of day as the reader's own clock shows it; `precise` with milliseconds. */
export function timeOfDay(at, precise = false) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  const options = precise
    ? { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" }
    : { hour: "2-digit", minute: "2-digit" };
  return new Intl.DateTimeFormat(undefined, options).format(time);
}

/** Waits so many milliseconds, or until the signal says to stop. */
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
 * A function that has `act` done soon after it was called, however often that is, and never twice at the same time. It
 * gives a promise of the end of what it has set going.
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
