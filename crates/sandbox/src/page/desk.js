// The conversation at the agent's desk: its consumer, its messages, and the agent's actions.

import { Log, advance, bubble, file, note, paragraph } from "./bubble.js";
import { card, quickReplies } from "./card.js";
import { consumerOf, fileAddress, isMessage, isOfConsumer } from "./cloud.js";
import { Composer } from "./composer.js";
import { byId, make, showText } from "./dom.js";
import { brandName, nameOf } from "./names.js";

/** The time after which a silent consumer no longer counts as typing, in milliseconds. */
const TYPING_LIFE = 30_000;

/** The Cloud's names of roles, with their names in the bridge's API. */
const ROLES = { ASSIGNED_AGENT: "agent", AGENT: "bot", MANAGER: "manager", CONTROLLER: "system" };

const RECEIPTS = { ACCEPT: "delivered", READ: "read" };

/** The desk, which shows the selected conversation. */
export class Desk {
  /** True if an agent answers by script. The script then also sends the read receipts. */
  scripted = false;

  #cloud;
  #composer;
  #log = new Log(byId("agent-log"));
  #conversation = null;
  /** The number of events that are shown, by dialog. Events are only ever added. */
  #shown = new Map();
  /** The bubbles by dialog and sequence. */
  #items = new Map();
  #agent = null;
  #isOpen = false;
  /** The messages, by dialog and sequence, for which a read receipt was sent. */
  #read = new Set();

  constructor(cloud) {
    this.#cloud = cloud;
    this.#composer = new Composer(cloud);
  }

  /** Shows a conversation; null hides the desk. */
  show(conversation) {
    const isOther = conversation?.id !== this.#conversation?.id;
    this.#conversation = conversation;
    byId("desk").hidden = conversation === null;
    this.#composer.serve(conversation);
    if (conversation === null) return;
    if (isOther) this.#clear();
    this.#describe(conversation, isOther);
    for (const dialog of conversation.dialogs) this.#showDialog(conversation, dialog);
    this.#showTyping(conversation);
    this.#acknowledge(conversation);
    if (isOther) this.#log.end();
  }

  #clear() {
    this.#log.clear();
    this.#shown.clear();
    this.#items.clear();
    this.#agent = null;
  }

  #describe(conversation, isOther) {
    const { name, facts } = consumerOf(conversation);
    byId("desk-title").textContent = name;
    const isOpen = conversation.stage === "OPEN";
    const state = byId("desk-state");
    state.dataset.stage = isOpen ? "open" : "closed";
    state.textContent = isOpen ? "open" : `closed by ${(conversation.close_reason ?? "an unknown party").toLowerCase()}`;
    byId("facts").replaceChildren(...[
      ["Consumer", conversation.ext_consumer_id],
      ...facts,
      ["Skill", conversation.skill_id === "-1" ? "none" : conversation.skill_id],
      ["Campaign", conversation.request?.campaignInfo?.campaignId],
      ["Urgency", (conversation.ttr?.ttrType ?? conversation.request?.ttrDefName)?.toLowerCase()],
      ["Features", conversation.features.join(", ")],
      ["Rating", rating(conversation.csat)],
    ].filter(([, value]) => value).flatMap(([label, value]) => [
      make("div", { data: { fact: label.toLowerCase() } }, make("dt", { text: label }), make("dd", { dir: "auto", text: String(value) })),
    ]));
    const agent = conversation.participants.find(({ role }) => role === "ASSIGNED_AGENT")?.id ?? null;
    if (!isOther && agent && agent !== this.#agent) this.#log.add(note(`${nameOf(agent)} joined`, "joined"));
    if (!isOther && !agent && this.#agent && isOpen) {
      this.#log.add(note(`Transferred to skill ${conversation.skill_id}`, "transferred"));
    }
    this.#agent = agent;
    if (!isOther && this.#isOpen && !isOpen) this.#log.add(note("Conversation closed", "closed"));
    this.#isOpen = isOpen;
  }

  #showDialog(conversation, dialog) {
    const shown = this.#shown.get(dialog.id);
    if (shown === undefined && dialog.kind === "POST_SURVEY") this.#log.add(note("Survey", "survey"));
    for (const event of dialog.events.slice(shown ?? 0)) this.#addEvent(conversation, dialog, event);
    this.#shown.set(dialog.id, dialog.events.length);
  }

  #addEvent(conversation, dialog, published) {
    const { event, sequence, originator, audience, at } = published;
    const key = (number) => `${dialog.id} ${number}`;
    const ofConsumer = isOfConsumer(published);
    if (event.type === "AcceptStatusEvent" && ofConsumer) {
      const state = RECEIPTS[event.status];
      for (const number of state ? event.sequenceList : []) {
        const item = this.#items.get(key(number));
        if (item?.dataset.side === "mine") advance(item, state);
      }
    }
    if (event.type !== "ContentEvent" && event.type !== "RichContentEvent") return;
    const isPrivate = audience !== "ALL";
    const who = ofConsumer ? consumerOf(conversation).name : brandName({ id: originator.id, role: ROLES[originator.role] });
    const item = this.#log.add(bubble({
      side: ofConsumer ? "theirs" : isPrivate ? "private" : "mine",
      who: isPrivate ? `${who}, private note` : who,
      at,
      contents: contents(event),
      data: { sequence },
    }));
    this.#items.set(key(sequence), item);
    if (!ofConsumer && !isPrivate) advance(item, "sent");
  }

  #showTyping(conversation) {
    const events = conversation.dialogs.flatMap((dialog) => dialog.events).filter(isOfConsumer);
    const last = events.findLast(({ event }) => event.type === "ChatStateEvent" || event.type === "ContentEvent");
    const isTyping = last?.event.chatState === "COMPOSING" && Date.now() - Date.parse(last.at) < TYPING_LIFE
      && conversation.stage === "OPEN";
    showText(byId("agent-typing"), isTyping ? `${consumerOf(conversation).name} is typing…` : null);
  }

  /**
   * Sends a read receipt for the messages at the desk. It waits for an agent to join, since the
   * receipt alone would make an agent join. It leaves surveys to the bot.
   */
  async #acknowledge(conversation) {
    const main = conversation.dialogs[0];
    const isMine = !this.scripted && this.#agent && main.state === "OPEN" && document.visibilityState === "visible";
    if (!isMine) return;
    const read = main.events.filter((one) => !isOfConsumer(one) && one.event.status === "READ")
      .flatMap(({ event }) => event.sequenceList);
    const sequences = main.events.filter((one) => isOfConsumer(one) && isMessage(one))
      .map(({ sequence }) => sequence)
      .filter((sequence) => !read.includes(sequence) && !this.#read.has(`${main.id} ${sequence}`));
    if (sequences.length === 0) return;
    for (const sequence of sequences) this.#read.add(`${main.id} ${sequence}`);
    const receipt = { type: "receipt", status: "READ", sequences };
    // A failed receipt is no loss: the next message gets a receipt again.
    await this.#cloud.act(conversation.id, receipt).catch(() => {});
  }
}

/** Builds the contents of a published event. */
function contents({ contentType, message, content, type, quickReplies: replies }) {
  const shown = [];
  if (type === "RichContentEvent") {
    shown.push(card(Array.isArray(content) ? { type: "vertical", elements: content } : content));
  } else if (contentType === "hosted/file") {
    const { relativePath, fileType, caption } = message;
    shown.push(file({ type: fileType, caption, source: fileAddress(relativePath) }));
  } else if (typeof message === "string") {
    shown.push(paragraph(message));
  } else {
    shown.push(paragraph(`[${contentType}] ${message?.title ?? ""}`));
  }
  shown.push(quickReplies(replies));
  return shown.filter(Boolean);
}

function rating(csat) {
  if (!csat) return null;
  const { csatRate, csatResolutionConfirmation: resolved } = csat;
  const parts = [csatRate ? `${csatRate} of 5` : null, resolved == null ? null : resolved ? "resolved" : "not resolved"];
  return parts.filter(Boolean).join(", ") || csat.status;
}
