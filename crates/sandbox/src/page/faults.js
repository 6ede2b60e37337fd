// Trouble by a click: what the Cloud does to the bridge, what it does to its notifications, and a callback that fails. What is
// ordered stands on the server, so each tab shows the same.

import { byId, button, gathered, make, say } from "./dom.js";

/** So often that it strikes until it is taken back. */
const ALWAYS = 1_000_000;

/** Milliseconds: after how much silence the orders are looked at, since each request may have used one up. */
const GATHER = 200;

const FAULTS = "/_sandbox/faults";
const DISTURBANCES = "/_sandbox/webhooks/disturbances";
const CALLBACK = "/_demo/callback";

/** The troubles. `order` is what is sent; `is` recognises it among what is still to strike. */
const TROUBLES = [
  {
    id: "away",
    title: "Cloud away",
    text: "Every request is answered 503. Messages queue, and go out in order afterwards.",
    list: FAULTS,
    order: { operation: "any", times: ALWAYS, answer: { reply: { status: 503 } } },
    is: ({ operation, answer }) => operation === "any" && answer.reply?.status === 503,
  },
  {
    id: "throttled",
    title: "429",
    text: "The next 3 messages are told to come again after 2 s.",
    list: FAULTS,
    order: { operation: "send", times: 3, answer: { reply: { status: 429, retry_after: "2" } } },
    is: ({ answer }) => answer.reply?.status === 429,
  },
  {
    id: "slow",
    title: "Slow",
    text: "The next answer takes 8 s, longer than the bridge lets a channel wait.",
    list: FAULTS,
    order: { operation: "send", times: 1, answer: { delay: { seconds: 8 } } },
    is: ({ answer }) => answer.delay !== undefined,
  },
  {
    id: "lost",
    title: "Answer lost",
    text: "The next message arrives, but its answer does not. It must not arrive twice.",
    list: FAULTS,
    order: { operation: "send", times: 1, after_applying: true, answer: "cut" },
    is: ({ answer, after_applying: after }) => answer === "cut" && after === true,
  },
  {
    id: "token",
    title: "AppJWT refused",
    text: "All AppJWTs end at once. The bridge fetches another and nobody notices.",
    act: (cloud) => cloud.ask("POST", "/_sandbox/tokens/revoke", { app: true, consumer: false }),
    done: "Ended. The next request shows how the bridge gets over it.",
  },
  {
    id: "duplicate",
    title: "Webhook twice",
    text: "The next 3 notifications come twice. The user sees each once.",
    list: DISTURBANCES,
    order: { trouble: "duplicate", times: 3 },
    is: ({ trouble }) => trouble === "duplicate",
  },
  {
    id: "reorder",
    title: "Out of order",
    text: "The next message comes after the one behind it.",
    list: DISTURBANCES,
    order: { trouble: "reorder", times: 1, only: "content" },
    is: ({ trouble }) => trouble === "reorder",
  },
  {
    id: "callback",
    title: "Callback failing",
    text: "The channel's callback answers 503. Events wait, and are delivered in order afterwards.",
    list: CALLBACK,
    demo: true,
  },
];

/** The panel. */
export class Faults {
  #cloud;
  #cards = new Map();

  /** Has what is ordered looked at soon. */
  soon = gathered(() => this.#refresh(), GATHER);

  constructor(cloud, isDemo) {
    this.#cloud = cloud;
    const troubles = TROUBLES.filter(({ demo }) => isDemo || !demo);
    for (const trouble of troubles) this.#offer(trouble);
    this.soon();
  }

  #offer(trouble) {
    const { id, title, text } = trouble;
    const state = make("p", { class: "fault-state", role: "status" });
    const start = button(title, () => this.#try(() => this.#start(trouble, state)), {
      class: "fault-start",
      id: `fault-${id}`,
      "aria-describedby": `fault-${id}-text`,
    });
    const stop = button("Take back", () => this.#try(() => this.#stop(trouble)), {
      class: "quiet",
      id: `fault-${id}-stop`,
      hidden: true,
      "aria-label": `Take back: ${title}`,
    });
    const item = make("li", { class: "fault", data: { fault: id, active: "false" } },
      start, make("p", { id: `fault-${id}-text`, class: "hint", text }), state, stop);
    byId("fault-list").append(item);
    this.#cards.set(id, { trouble, item, state, stop });
  }

  async #start(trouble, state) {
    if (trouble.act) {
      await trouble.act(this.#cloud);
      state.textContent = trouble.done;
    } else if (trouble.list === CALLBACK) {
      await this.#cloud.ask("PUT", CALLBACK, { failing: true });
    } else {
      // Pressed again it begins anew, rather than to pile up.
      await this.#stop(trouble);
      await this.#cloud.ask("POST", trouble.list, trouble.order);
    }
  }

  /** Takes one back. The server takes back all of a list, so the others are ordered again as they were. */
  async #stop({ list, is }) {
    if (list === CALLBACK) {
      await this.#cloud.ask("PUT", CALLBACK, { failing: false });
      return;
    }
    const others = (await this.#orders(list)).filter((order) => !is(order));
    await this.#cloud.ask("DELETE", list);
    for (const order of others) await this.#cloud.ask("POST", list, order);
  }

  async #try(doing) {
    try {
      await doing();
      say(byId("faults-error"), null);
    } catch (error) {
      say(byId("faults-error"), error.message);
    }
    await this.soon();
  }

  async #orders(list) {
    const answer = await this.#cloud.ask("GET", list);
    return Array.isArray(answer) ? answer : Object.values(answer).find(Array.isArray) ?? [];
  }

  async #refresh() {
    try {
      const lists = { [FAULTS]: await this.#orders(FAULTS), [DISTURBANCES]: await this.#orders(DISTURBANCES) };
      for (const { trouble, item, state, stop } of this.#cards.values()) {
        if (trouble.act) continue;
        const left = trouble.list === CALLBACK
          ? ((await this.#cloud.ask("GET", CALLBACK)).failing ? ALWAYS : 0)
          : lists[trouble.list].filter(trouble.is).reduce((sum, { times }) => sum + times, 0);
        item.dataset.active = left > 0;
        stop.hidden = left === 0;
        state.textContent = describe(left);
      }
    } catch (error) {
      say(byId("faults-error"), error.message);
    }
  }
}

function describe(left) {
  if (left === 0) return "";
  if (left > ALWAYS / 2) return "Active until taken back";
  return `Active: strikes ${left} more ${left === 1 ? "time" : "times"}`;
}
