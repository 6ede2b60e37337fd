// Faults by a click: in the Cloud's answers, in its notifications, and in the demo's callback.
// Pending faults are stored on the server, so each tab shows the same.

import { byId, button, gathered, make, showText } from "./dom.js";

/** A count so high that the fault stays until it is withdrawn. */
const ALWAYS = 1_000_000;

/**
 * The delay before the pending faults are read again, in milliseconds. Any request may have used
 * one up.
 */
const GATHER = 200;

const FAULTS = "/_sandbox/faults";
const DISTURBANCES = "/_sandbox/webhooks/disturbances";
const RELEASE = "/_sandbox/webhooks/release";
const CALLBACK = "/_demo/callback";

/** The type of the events that are messages, so that no fault is used up by typing or a receipt. */
const MESSAGE = "ContentEvent";

/**
 * The faults on offer. `body` injects one; `is` recognizes it among the pending ones. `after` says
 * what follows once it is turned off. `holds` is true if it holds messages back.
 */
const OFFERED_FAULTS = [
  {
    id: "away",
    title: "Cloud unavailable",
    text: "Every request is answered 503. Messages are queued and sent in order afterwards.",
    list: FAULTS,
    body: { operation: "any", times: ALWAYS, answer: { reply: { status: 503 } } },
    is: ({ operation, answer }) => operation === "any" && answer.reply?.status === 503,
    after: "Turned off. The bridge sends queued messages with its next attempt.",
  },
  {
    id: "throttled",
    title: "429",
    text: "The next 3 attempts to send a message get 429 with Retry-After: 2.",
    list: FAULTS,
    body: { operation: "send", event: MESSAGE, times: 3, answer: { reply: { status: 429, retry_after: "2" } } },
    is: ({ answer }) => answer.reply?.status === 429,
  },
  {
    id: "slow",
    title: "Slow",
    text: "The next message takes 8 s, so the bridge gives up after 5 s. It sends the message again if no echo comes.",
    list: FAULTS,
    body: { operation: "send", event: MESSAGE, times: 1, answer: { delay: { seconds: 8 } } },
    is: ({ answer }) => answer.delay !== undefined,
  },
  {
    id: "lost",
    title: "Answer lost",
    text: "The next message reaches the Cloud, but the answer is lost. The message must not arrive twice.",
    list: FAULTS,
    body: { operation: "send", event: MESSAGE, times: 1, after_applying: true, answer: "cut" },
    is: ({ answer, after_applying: after }) => answer === "cut" && after === true,
  },
  {
    id: "token",
    title: "AppJWT refused",
    text: "All AppJWTs become invalid at once. The bridge obtains a new one, and users notice nothing.",
    act: (cloud) => cloud.request("POST", "/_sandbox/tokens/revoke", { app: true, consumer: false }),
    done: "Revoked. The next request shows how the bridge recovers.",
  },
  {
    id: "duplicate",
    title: "Duplicate notifications",
    text: "The Cloud reports the next 3 messages twice. The user sees each message once.",
    list: DISTURBANCES,
    body: { trouble: "duplicate", times: 3, only: "content" },
    is: ({ trouble }) => trouble === "duplicate",
  },
  {
    id: "reorder",
    title: "Out of order",
    text: "The Cloud reports the agent's next message after the event that follows it, such as typing.",
    list: DISTURBANCES,
    body: { trouble: "reorder", times: 1, only: "content", by: "ASSIGNED_AGENT" },
    is: ({ trouble }) => trouble === "reorder",
    holds: true,
  },
  {
    id: "callback",
    title: "Callback failing",
    text: "The channel's callback answers 503. Events are kept and delivered in order afterwards.",
    list: CALLBACK,
    demo: true,
  },
];

/** The panel of faults. Dispatches `off` with the id of a fault that was turned off. */
export class Faults extends EventTarget {
  #cloud;
  #cards = new Map();

  /** Reads the pending faults again soon. */
  refreshSoon = gathered(() => this.#refresh(), GATHER);

  constructor(cloud, isDemo) {
    super();
    this.#cloud = cloud;
    const offered = OFFERED_FAULTS.filter(({ demo }) => isDemo || !demo);
    for (const fault of offered) this.#offer(fault);
    this.refreshSoon();
  }

  /** Injects a fault. */
  async start(id) {
    const card = this.#cards.get(id);
    card.note = null;
    await this.#start(card.fault, card.state);
    await this.refreshSoon();
  }

  /** Turns a fault off. */
  async stop(id) {
    const card = this.#cards.get(id);
    await this.#stop(card.fault);
    card.note = card.fault.after ?? null;
    this.dispatchEvent(new CustomEvent("off", { detail: id }));
    await this.refreshSoon();
  }

  /** Ends the notes on what follows a fault, since nothing is queued any more. */
  settle() {
    for (const card of this.#cards.values()) {
      if (card.note) card.state.textContent = "";
      card.note = null;
    }
  }

  /** Turns all faults off. The requests outlive the page. */
  async stopAll() {
    const withdraw = (method, path, body) => this.#cloud.request(method, path, body, { keepalive: true });
    const requests = [withdraw("DELETE", FAULTS), withdraw("DELETE", DISTURBANCES), withdraw("POST", RELEASE)];
    if (this.#cards.has("callback")) requests.push(withdraw("PUT", CALLBACK, { failing: false }));
    await Promise.all(requests);
    await this.refreshSoon();
  }

  /** True if a fault is pending. */
  isActive(id) {
    return this.#cards.get(id).item.dataset.active === "true";
  }

  #offer(fault) {
    const { id, title, text } = fault;
    const state = make("p", { class: "fault-state", role: "status" });
    const start = button(title, () => this.#try(() => this.start(id)), {
      class: "fault-start",
      id: `fault-${id}`,
      "aria-describedby": `fault-${id}-text`,
    });
    const stop = button("Turn off", () => this.#try(() => this.stop(id)), {
      class: "quiet",
      id: `fault-${id}-stop`,
      hidden: true,
      "aria-label": `Turn off: ${title}`,
    });
    const item = make("li", { class: "fault", data: { fault: id, active: "false" } },
      start, make("p", { id: `fault-${id}-text`, class: "hint", text }), state, stop);
    byId("fault-list").append(item);
    this.#cards.set(id, { fault, item, state, start, stop, note: null });
  }

  async #start(fault, state) {
    if (fault.act) {
      await fault.act(this.#cloud);
      state.textContent = fault.done;
    } else if (fault.list === CALLBACK) {
      await this.#cloud.request("PUT", CALLBACK, { failing: true });
    } else {
      // A second click starts the fault again instead of adding to it.
      await this.#stop(fault);
      await this.#cloud.request("POST", fault.list, fault.body);
    }
  }

  /**
   * Withdraws a fault. The server withdraws the whole list, so the other faults are injected again.
   */
  async #stop({ list, is, holds }) {
    if (list === CALLBACK) {
      await this.#cloud.request("PUT", CALLBACK, { failing: false });
      return;
    }
    const others = (await this.#pending(list)).filter((fault) => !is(fault));
    await this.#cloud.request("DELETE", list);
    for (const fault of others) await this.#cloud.request("POST", list, fault);
    if (holds) await this.#cloud.request("POST", RELEASE);
  }

  async #try(action) {
    try {
      await action();
      showText(byId("faults-error"), null);
    } catch (error) {
      showText(byId("faults-error"), error.message);
    }
    await this.refreshSoon();
  }

  async #pending(list) {
    const answer = await this.#cloud.request("GET", list);
    return Array.isArray(answer) ? answer : Object.values(answer).find(Array.isArray) ?? [];
  }

  async #refresh() {
    try {
      const lists = { [FAULTS]: await this.#pending(FAULTS), [DISTURBANCES]: await this.#pending(DISTURBANCES) };
      for (const { fault, item, state, start, stop, note } of this.#cards.values()) {
        if (fault.act) continue;
        const remaining = fault.list === CALLBACK
          ? ((await this.#cloud.request("GET", CALLBACK)).failing ? ALWAYS : 0)
          : lists[fault.list].filter(fault.is).reduce((sum, { times }) => sum + times, 0);
        item.dataset.active = remaining > 0;
        // A hidden button cannot keep the focus.
        if (remaining === 0 && document.activeElement === stop) start.focus();
        stop.hidden = remaining === 0;
        state.textContent = describe(remaining) || note;
      }
    } catch (error) {
      showText(byId("faults-error"), error.message);
    }
  }
}

function describe(remaining) {
  if (remaining === 0) return "";
  if (remaining > ALWAYS / 2) return "Active until turned off";
  return `Active: ${remaining} more ${remaining === 1 ? "time" : "times"}`;
}
