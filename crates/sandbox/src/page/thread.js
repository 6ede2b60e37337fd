// A user's view of their conversations: their own messages, and the contents of the API's events.
// It knows the API and the list of bubbles, and nothing of the buttons around them.
//
// An event can overtake the answer to the request that caused it, and can come twice after a
// reconnect. So each event is recognized by its id. A message of the user is found by its sequence,
// or by its text while it has no sequence.

import { Log, advance, bubble, file, note, paragraph } from "./bubble.js";
import { card, quickReplies } from "./card.js";
import { button } from "./dom.js";
import { brandName, nameOf } from "./names.js";

/** Receipts of the API that change the state of a message, with that state. */
const RECEIPTS = { accept: "delivered", read: "read", access: "read" };

/** The notes on the end of a conversation, by who closed it. */
const CLOSINGS = { consumer: "You closed the conversation", agent: "The agent closed the conversation" };

/**
 * The user's messages and conversation. Dispatches `change` whenever the conversation or a count
 * changes, `closed` at its end, `typing`, `arrived`, and `failed` if a message cannot be sent.
 */
export class Thread extends EventTarget {
  /**
   * The latest conversation: `{id, state, reason, agent, dialog, survey, rated}`. `dialog` is the
   * id of the open dialog.
   */
  conversation = null;
  /** The ids of all conversations that the page knows. */
  conversations = new Set();
  /** The user's own messages. */
  own = [];
  /** The number of messages that arrived from the brand. */
  arrived = 0;

  #api;
  #log;
  #seen = new Set();
  /**
   * The receipts for sequences that no message of the user has yet, since a receipt can come first.
   */
  #earlyReceipts = new Map();
  /** The outcomes of messages, since an outcome can come before the answer to the request. */
  #outcomes = new Map();
  /**
   * The end of the latest request. Each request waits for it, so that messages keep their order.
   */
  #sending = Promise.resolve();

  constructor(api, element) {
    super();
    this.#api = api;
    this.#log = new Log(element);
    this.#log.clear();
  }

  /**
   * Sends a text, and returns the message. `replyTo` identifies the choice that the user has
   * clicked, if any.
   */
  write(text, replyTo) {
    const body = replyTo ? { text, reply_to: replyTo } : { text };
    return this.#submit({ text, path: "messages", contents: [paragraph(text)], body: () => body });
  }

  /** Sends a file. */
  attach(picture, caption) {
    const type = picture.name.split(".").pop().toUpperCase();
    const body = () => {
      const form = new FormData();
      form.append("file", picture);
      if (caption) form.append("caption", caption);
      return form;
    };
    const contents = [file({ type, caption, source: URL.createObjectURL(picture) })];
    this.#submit({ text: null, path: "files", contents, body });
  }

  /** Applies an event of the API. */
  apply(event) {
    if (this.#seen.has(event.id)) return;
    this.#seen.add(event.id);
    const { type, data, conversation_id: conversation, occurred_at: at } = event;
    if (conversation) this.conversations.add(conversation);
    switch (type) {
      case "message.created": this.#created(conversation, data, at); break;
      case "message.echoed": this.#echoed(conversation, data, at); break;
      case "message.sent":
      case "message.failed": this.#settled(data); break;
      case "receipt.changed": this.#receipt(conversation, data); break;
      case "typing.changed": this.#emit("typing", data); break;
      case "conversation.opened":
      case "conversation.updated":
      case "conversation.closed": this.#changed(conversation, data); break;
    }
    this.#emit("change");
  }

  /** Shows that events were missed. */
  skip() {
    this.#log.add(note("Some events are no longer available", "gap"));
  }

  /** Counts the user's messages that are in one of these states. */
  count(...states) {
    return this.own.filter(({ item }) => states.includes(item.dataset.state)).length;
  }

  #submit({ text, path, contents, body }) {
    const item = bubble({ side: "mine", who: "You", at: new Date(), contents });
    const message = { item, text, sequence: null, dialog: null, conversation: null, id: null };
    this.own.push(message);
    this.#log.add(item);
    this.#log.end();
    // The user's next message answers a question, so its quick replies are over.
    this.#log.endButtons(".choice");
    // All retries use the same key, including one that the user asks for, so that nothing is sent
    // twice.
    const key = crypto.randomUUID();
    const send = () => {
      advance(item, "sending");
      this.#emit("change");
      this.#sending = this.#sending.then(() => this.#send(message, path, body(), key, send));
    };
    send();
    return message;
  }

  async #send(message, path, body, key, retry) {
    const { item } = message;
    try {
      const answer = await this.#api.call("POST", this.#api.path(path), { body, key });
      const { id, sequence, conversation_id: conversation, status } = answer.body;
      Object.assign(message, { id, conversation: conversation ?? message.conversation });
      item.dataset.id = id;
      if (conversation) this.conversations.add(conversation);
      if (sequence != null) this.#number(message, conversation, sequence);
      advance(item, status === "queued" ? "queued" : "sent");
      if (this.#outcomes.has(id)) this.#settled(this.#outcomes.get(id));
    } catch (problem) {
      advance(item, "failed", String(problem));
      if (problem.retryable) {
        item.append(button("Send again", (event) => {
          event.target.remove();
          retry();
        }));
      }
      this.#emit("failed");
    }
    this.#emit("change");
  }

  #created(conversation, data, at) {
    this.arrived += 1;
    this.#emit("typing", null);
    const item = this.#log.add(bubble({
      side: "theirs",
      who: brandName(data.sender),
      at,
      contents: this.#contents(data),
      data: { sequence: data.sequence, role: data.sender.role },
    }));
    this.#emit("arrived", { item, conversation, dialog: data.dialog_id, sequence: data.sequence });
  }

  /**
   * Handles the echo of the user's message, which came from this page, from another one, or from
   * curl.
   */
  #echoed(conversation, data, at) {
    const { sequence, dialog_id: dialog, text, file: attached } = data;
    const isSame = (one) => one.conversation === conversation && one.sequence === sequence && (one.dialog ?? dialog) === dialog;
    const couldBe = (one) => one.sequence === null && one.item.dataset.state !== "failed"
      && (attached ? one.text === null : one.text?.trimEnd() === text.trimEnd());
    let message = this.own.find(isSame) ?? this.own.find(couldBe);
    if (!message) {
      const item = bubble({ side: "mine", who: "You", at, contents: this.#contents(data) });
      message = { item, text: attached ? null : text, sequence: null, dialog, conversation, id: null };
      this.own.push(message);
      this.#log.add(item);
      this.#log.endButtons(".choice");
    }
    message.dialog = dialog;
    this.#number(message, conversation, sequence);
    advance(message.item, "sent");
  }

  /**
   * Handles the outcome of a request that was answered 202. The request need not be a message of
   * this page.
   */
  #settled(outcome) {
    this.#outcomes.set(outcome.id, outcome);
    const message = this.own.find(({ id }) => id === outcome.id);
    if (!message) return;
    if (outcome.status === "sent") {
      if (outcome.sequence != null) this.#number(message, outcome.conversation_id, outcome.sequence);
      advance(message.item, "sent");
    } else {
      const { code, upstream } = outcome.failure ?? {};
      advance(message.item, "failed", upstream?.title ?? code);
    }
  }

  #receipt(conversation, { status, sequences }) {
    const state = RECEIPTS[status];
    if (!state) return;
    for (const sequence of sequences) {
      const message = this.own.findLast((one) => one.conversation === conversation && one.sequence === sequence);
      if (message) advance(message.item, state);
      else this.#earlyReceipts.set(`${conversation} ${sequence}`, state);
    }
  }

  /** Sets the sequence of a message, and shows the receipts that came before. */
  #number(message, conversation, sequence) {
    Object.assign(message, { conversation, sequence });
    const state = this.#earlyReceipts.get(`${conversation} ${sequence}`);
    if (state) advance(message.item, state);
  }

  #changed(id, data) {
    // A late event of a former conversation says nothing about the one that is open now.
    if (data.state === "closed" && this.conversation?.state === "open" && this.conversation.id !== id) return;
    const before = this.conversation?.id === id ? this.conversation : null;
    const isOpen = ({ state }) => state === "open";
    const dialog = data.dialogs.findLast(isOpen) ?? null;
    const now = {
      id,
      state: data.state,
      reason: data.close_reason ?? null,
      agent: data.agent?.id ?? null,
      dialog: dialog?.id ?? id,
      survey: dialog?.type === "post_survey",
      rated: Boolean(data.csat),
    };
    this.conversation = now;
    for (const [text, kind] of changes(before, now)) this.#log.add(note(text, kind));
    // A click in a dialog that has ended would be a message of another one.
    if (now.state === "closed" || now.dialog !== before?.dialog) this.#log.endButtons(".choice, .card-button");
    // In a survey the sequences start again.
    if (now.survey && !before?.survey) this.#earlyReceipts.clear();
    // A rating changes the conversation again after its end, which must not dispatch `closed`
    // twice.
    if (now.state === "closed" && before?.state !== "closed") this.#emit("closed", now);
  }

  /** Builds the contents of a message, with the buttons that answer it. */
  #contents(data) {
    const { text, rich, choices = [], file: attached, sequence } = data;
    const choose = (choice) => {
      const { metadata } = choice;
      const isKnown = Array.isArray(metadata) && metadata.length > 0 && sequence != null;
      this.write(choice.text, isKnown ? { sequence, metadata } : undefined);
    };
    const contents = [];
    if (attached) {
      const { id, file_type: type, caption } = attached;
      contents.push(file({ type, caption, source: this.#source(id) }));
    } else if (rich && Array.isArray(rich.elements)) {
      contents.push(card(rich, choose), quickReplies(rich.quickReplies, choose));
      return contents.filter(Boolean);
    } else {
      // The plain text of a message with choices numbers them. Here they are buttons.
      contents.push(paragraph(choices.length > 0 ? rich?.text ?? text : text));
    }
    if (choices.length > 0) {
      contents.push(quickReplies({
        replies: choices.map((choice) => ({
          title: choice.title,
          click: { actions: [{ type: "publishText", text: choice.text }], metadata: choice.metadata },
        })),
      }, choose));
    }
    return contents;
  }

  /** Returns a URL for a file's bytes, which only a request with the token can read. */
  async #source(id) {
    const response = await this.#api.fetch(this.#api.path("files", id));
    return URL.createObjectURL(await response.blob());
  }

  #emit(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Yields the changes of a conversation, as texts with their kinds. */
function* changes(before, now) {
  if (!before) yield ["Conversation opened", "opened"];
  if (now.agent && now.agent !== before?.agent) yield [`${nameOf(now.agent)} joined`, "joined"];
  if (before?.agent && !now.agent && now.state === "open" && !now.survey) {
    yield ["You are being transferred", "transferred"];
  }
  if (now.survey && !before?.survey) yield ["A survey follows", "survey"];
  if (now.state === "closed" && before?.state !== "closed") {
    yield [CLOSINGS[now.reason] ?? "The conversation has ended", "closed"];
  }
  if (now.rated && !before?.rated) yield ["Thank you for your rating", "rated"];
}
