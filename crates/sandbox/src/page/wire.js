// The traffic view: every request between channel, bridge and Cloud, newest first.

import { byId, make, showText, timeOfDay } from "./dom.js";
import { details } from "./exchange.js";

/** The number of rows that are kept. The simulated Cloud itself keeps the latest 1,000. */
const MAX_ROWS = 500;

/** The kinds of exchange, with their names on the page. */
const KINDS = {
  api: "API call",
  cloud: "Cloud call",
  notification: "Notification",
  event: "Event",
};

/** The list of exchanges. Dispatches `entry` for each new one. */
export class Wire extends EventTarget {
  #rows = byId("wire-rows");
  /** The exchanges that arrived while the list was paused. */
  #pausedEntries = [];
  #paused = false;

  constructor() {
    super();
    this.#offerKinds();
    byId("wire-clear").addEventListener("click", () => {
      this.#rows.replaceChildren();
      this.#count();
    });
    byId("wire-pause").addEventListener("click", () => this.#pause());
    this.#follow();
  }

  #follow() {
    const source = new EventSource("/_sandbox/wire");
    source.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    source.addEventListener("open", () => showText(byId("wire-error"), null));
    // EventSource reconnects by itself, and continues after the last entry.
    source.addEventListener("error", () => showText(byId("wire-error"), "The simulated Cloud does not answer. Retrying…"));
  }

  #receive(entry) {
    if (this.#paused) this.#pausedEntries.push(entry);
    else this.#add([entry]);
    this.dispatchEvent(new CustomEvent("entry", { detail: entry }));
  }

  #add(entries) {
    for (const entry of entries.slice(-MAX_ROWS)) this.#rows.prepend(row(entry));
    while (this.#rows.children.length > MAX_ROWS) this.#rows.lastElementChild.remove();
    this.#count();
  }

  #pause() {
    this.#paused = !this.#paused;
    const pause = byId("wire-pause");
    pause.setAttribute("aria-pressed", this.#paused);
    pause.textContent = this.#paused ? "Resume" : "Pause";
    if (!this.#paused) this.#add(this.#pausedEntries.splice(0));
  }

  #count() {
    const count = this.#rows.children.length;
    byId("wire-count").textContent = `${count} ${count === 1 ? "row" : "rows"}`;
    byId("wire-none").hidden = count > 0;
  }

  /**
   * Builds a switch for each kind. The style sheet hides rows, so a switch brings back those that
   * arrived meanwhile.
   */
  #offerKinds() {
    const boxes = Object.entries(KINDS).map(([kind, name]) => {
      const show = ({ target }) => {
        this.#rows.classList.toggle(`without-${kind}`, !target.checked);
      };
      const box = make("input", { type: "checkbox", id: `wire-${kind}`, checked: true, on: { change: show } });
      return make("label", { class: `kind kind-${kind}` }, box, ` ${name}s`);
    });
    byId("wire-kinds").append(...boxes);
  }
}

/** Builds a row, which opens to the whole exchange. */
function row(entry) {
  const { id, at, kind, operation, method, url, status, duration_ms: duration, fault } = entry;
  const known = URL.canParse(url) ? new URL(url) : { pathname: url, search: "" };
  const item = make("details", {
    class: `entry entry-${kind}`,
    data: { id, kind, method, path: known.pathname, status: status ?? "none", operation, fault: fault || null },
  },
    make("summary", {},
      make("time", { datetime: at, text: timeOfDay(at, true) }),
      make("span", { class: `kind kind-${kind}`, text: KINDS[kind] ?? kind }),
      make("span", { class: "method", text: method }),
      make("span", { class: "path", title: url },
        make("span", { class: "location", text: known.pathname + known.search }),
        make("span", { class: "subject", text: subject(entry) }),
        fault ? make("span", { class: "struck", text: "fault" }) : null),
      make("span", { class: `status status-${String(status ?? "x")[0]}`, text: status ?? "no answer" }),
      make("span", { class: "duration", text: duration == null ? "" : `${duration.toFixed(1)} ms` })));
  // Most rows are never opened, so their contents are built only then.
  item.addEventListener("toggle", () => {
    if (item.open && item.children.length === 1) item.append(details(entry));
  });
  return item;
}

/** Returns the subject of a request if its path does not state it. */
function subject({ kind, operation, request }) {
  if (operation) return operation;
  if (kind !== "event" && kind !== "notification") return "";
  try {
    const body = JSON.parse(request.body);
    const published = body.body?.changes?.[0]?.event?.type;
    return published ?? body.type ?? "";
  } catch {
    return "";
  }
}
