// The agent's workspace: the list of conversations, the selected one, and the switch for the
// scripted agent.

import { consumerOf, isMessage, isOfConsumer } from "./cloud.js";
import { Desk } from "./desk.js";
import { byId, make, showText, timeOfDay } from "./dom.js";

/** The key under which the numbers of seen messages are stored, until the tab is closed. */
const SEEN_KEY = "liveperson-bridge seen";

/** The agent's workspace. Dispatches `script` when the agent's script was read. */
export class Agent extends EventTarget {
  /** The agent's script, as the control API shows it. */
  script = { script: "none" };

  #cloud;
  #desk;
  #selected = null;
  /** The number of the consumer's messages that were seen, by conversation. */
  #seen = new Map(JSON.parse(sessionStorage.getItem(SEEN_KEY) ?? "[]"));

  constructor(cloud) {
    super();
    this.#cloud = cloud;
    this.#desk = new Desk(cloud);
    cloud.addEventListener("change", () => this.#show());
    cloud.addEventListener("state", ({ detail }) => showText(byId("agent-error"), detail));
    document.addEventListener("visibilitychange", () => this.#show());
    byId("script").addEventListener("change", ({ target }) => this.use({ script: target.checked ? "built-in" : "none" }));
    byId("agent-start").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    this.#readSwitch();
  }

  async #readSwitch() {
    try {
      this.script = await this.#cloud.request("GET", "/_sandbox/agent");
      byId("script").checked = this.isScripted();
      this.#desk.scripted = this.isScripted();
      this.dispatchEvent(new Event("script"));
    } catch (error) {
      showText(byId("script-error"), error.message);
    }
  }

  /** Selects a conversation. */
  select(id) {
    this.#selected = id;
    this.#show();
  }

  /** True if an agent answers by script. */
  isScripted() {
    return this.script.script !== "none";
  }

  /** Sets the agent's script. The request outlives the page. */
  async use(script) {
    try {
      await this.#cloud.request("PUT", "/_sandbox/agent", script, { keepalive: true });
      showText(byId("script-error"), null);
    } catch (error) {
      showText(byId("script-error"), error.message);
    }
    await this.#readSwitch();
    this.#show();
  }

  /** Opens a conversation with the consumer of the selected one, and selects it. */
  async #start() {
    const field = byId("agent-start-text");
    const former = this.#cloud.conversations.find(({ id }) => id === this.#selected);
    if (!former || field.value.trim() === "") return;
    const { account: account_id, ext_consumer_id } = former;
    try {
      const { id } = await this.#cloud.open({ account_id, ext_consumer_id, text: field.value });
      field.value = "";
      this.#selected = id;
      showText(byId("desk-error"), null);
    } catch (error) {
      showText(byId("desk-error"), error.message);
    }
    this.#show();
  }

  #show() {
    const conversations = [...this.#cloud.conversations].sort(inOrder);
    const isListed = conversations.some(({ id }) => id === this.#selected);
    // The first conversation is selected by default, so that a new agent need not look for it.
    if (!isListed) this.#selected = conversations[0]?.id ?? null;
    const selected = conversations.find(({ id }) => id === this.#selected) ?? null;
    if (selected && document.visibilityState === "visible") this.#seen.set(selected.id, countFromConsumer(selected));
    const listed = [...this.#seen].filter(([id]) => conversations.some((conversation) => conversation.id === id));
    sessionStorage.setItem(SEEN_KEY, JSON.stringify(listed));
    byId("conversations-none").hidden = conversations.length > 0;
    this.#list(conversations);
    this.#desk.show(selected);
    const isFree = selected && !conversations.some((other) => other.stage === "OPEN" && haveSameConsumer(other, selected));
    byId("agent-start").hidden = !isFree;
  }

  #list(conversations) {
    const list = byId("conversations");
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.conversation : null;
    list.replaceChildren(...conversations.map((conversation) => this.#entry(conversation)));
    if (focused) list.querySelector(`[data-conversation="${CSS.escape(focused)}"]`)?.focus();
  }

  #entry(conversation) {
    const { id, stage, opened_at: openedAt } = conversation;
    const unread = countFromConsumer(conversation) - (this.#seen.get(id) ?? 0);
    const isOpen = stage === "OPEN";
    return make("li", {}, make("button", {
      type: "button",
      class: "conversation",
      "aria-current": id === this.#selected ? "true" : null,
      data: { conversation: id, stage: isOpen ? "open" : "closed", unread: unread > 0 ? unread : null },
      on: { click: () => this.select(id) },
    },
      make("span", { class: "conversation-name", dir: "auto", text: consumerOf(conversation).name }),
      unread > 0 ? make("span", { class: "unread", text: `${unread} new` }) : null,
      make("span", { class: "conversation-last", dir: "auto", text: lastText(conversation) }),
      make("span", { class: "conversation-state", text: `${isOpen ? "open" : "closed"}, ${timeOfDay(openedAt)}` })));
  }
}

/** Compares two conversations: open ones come first, then the newest. */
function inOrder(one, other) {
  return (other.stage === "OPEN") - (one.stage === "OPEN") || other.opened_at.localeCompare(one.opened_at);
}

/** True if two conversations belong to one consumer. */
const haveSameConsumer = (one, other) => one.account === other.account && one.ext_consumer_id === other.ext_consumer_id;

const messages = ({ dialogs }) => dialogs.flatMap(({ events }) => events).filter(isMessage);

const countFromConsumer = (conversation) => messages(conversation).filter(isOfConsumer).length;

function lastText(conversation) {
  const event = messages(conversation).at(-1)?.event;
  if (!event) return "No message yet";
  if (typeof event.message === "string") return event.message;
  return event.type === "RichContentEvent" ? "A card" : event.message?.caption || "A file";
}
