// What a user sees of their conversations: the messages they wrote, and what the facade's events tell. It knows the facade and the
// list of bubbles, and nothing of the buttons around them.
//
// An event can overtake the answer to the request that caused it, and can be told twice after a break: each is taken
// by its id, and a message of one's own is found again by its number, or by what it says while it has none.

import { Log, advance, bubble, file, note, words } from "./bubble.js";
import { card, quickReplies } from "./card.js";
import { button } from "./dom.js";
import { brandName, nameOf } from "./names.js";

/** Receipts of the facade that show in a message, and what they show. */
const RECEIPTS = { accept: "delivered", read: "read", access: "read" };

/** The conversation, dispatches `change` whenever it or a count changes, `closed` at its end, `typing`, `arrived`. */
export class Thread extends EventTarget {
  /** The latest conversation: `{id, state, reason, agent, skill, dialog, survey}`; `dialog` is the one that is open. */
  conversation = null;
  /** The ids of all conversations that were heard of. */
  conversations = new Set();
  /** What the user wrote. */
  own = [];
  /** How many messages of the brand arrived. */
  arrived = 0;

  #facade;
  #log;
  #seen = new Set();
  /** Receipts for numbers that no message of one's own has yet: they can come first. */
  #early = new Map();
  /** What became of messages whose answer has not come yet. */
  #outcomes = new Map();
  /** One request after the other, so that messages keep their order. */
  #sending = Promise.resolve();

  constructor(facade, element) {
    super();
    this.#facade = facade;
    this.#log = new Log(element);
    this.#log.clear();
  }

  /** Sends a text; `reply_to` names the choice that it stands for. */
  write(text, replyTo) {
    const body = replyTo ? { text, reply_to: replyTo } : { text };
    this.#submit({ text, path: "messages", contents: [words(text)], body: () => body });
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

  /** Takes an event of the facade. */
  take(event) {
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
      case "typing.changed": this.#tell("typing", data); break;
      case "conversation.opened":
      case "conversation.updated":
      case "conversation.closed": this.#changed(conversation, data); break;
    }
    this.#tell("change");
  }

  /** Shows that something went by unseen. */
  skip() {
    this.#log.add(note("Some events are not kept any more", "gap"));
  }

  /** How many messages of one's own are in one of these states. */
  count(...states) {
    return this.own.filter(({ item }) => states.includes(item.dataset.state)).length;
  }

  #submit({ text, path, contents, body }) {
    const item = bubble({ side: "mine", who: "You", at: new Date(), contents });
    const message = { item, text, sequence: null, dialog: null, conversation: null, id: null };
    this.own.push(message);
    this.#log.add(item);
    this.#log.end();
    // The same key with each repeat, also with one that the user asks for: what has arrived after all is not sent twice.
    const key = crypto.randomUUID();
    const send = () => {
      advance(item, "sending");
      this.#tell("change");
      this.#sending = this.#sending.then(() => this.#send(message, path, body(), key, send));
    };
    send();
  }

  async #send(message, path, body, key, again) {
    const { item } = message;
    try {
      const answer = await this.#facade.call("POST", this.#facade.of(path), { body, key });
      const { id, sequence, conversation_id: conversation, status } = answer.body;
      Object.assign(message, { id, conversation: conversation ?? message.conversation });
      item.dataset.id = id;
      if (conversation) this.conversations.add(conversation);
      if (sequence != null) this.#number(message, conversation, sequence);
      advance(item, status === "queued" ? "queued" : "sent");
      if (this.#outcomes.has(id)) this.#settled(this.#outcomes.get(id));
    } catch (problem) {
      advance(item, "failed", problem.title);
      item.querySelector(".state").title = String(problem);
      // A file that is too large or no picture remains so.
      if (problem.status !== 413 && problem.status !== 415) {
        item.append(button("Send again", (event) => {
          event.target.remove();
          again();
        }));
      }
    }
    this.#tell("change");
  }

  #created(conversation, data, at) {
    this.arrived += 1;
    this.#tell("typing", null);
    const item = this.#log.add(bubble({
      side: "theirs",
      who: brandName(data.sender),
      at,
      contents: this.#contents(data),
      data: { sequence: data.sequence, role: data.sender.role },
    }));
    this.#tell("arrived", { item, conversation, dialog: data.dialog_id, sequence: data.sequence });
  }

  /** One's own message comes back: from this page, from another one, or from curl. */
  #echoed(conversation, data, at) {
    const { sequence, dialog_id: dialog, text, file: attached } = data;
    const is = (one) => one.conversation === conversation && one.sequence === sequence && (one.dialog ?? dialog) === dialog;
    const could = (one) => one.sequence === null && one.item.dataset.state !== "failed"
      && (attached ? one.text === null : one.text?.trimEnd() === text.trimEnd());
    let message = this.own.find(is) ?? this.own.find(could);
    if (!message) {
      const item = bubble({ side: "mine", who: "You", at, contents: this.#contents(data) });
      message = { item, text: attached ? null : text, sequence: null, dialog, conversation, id: null };
      this.own.push(message);
      this.#log.add(item);
    }
    message.dialog = dialog;
    this.#number(message, conversation, sequence);
    advance(message.item, "sent");
  }

  /** What became of a message that was answered 202. Other requests than messages can be queued as well. */
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
      else this.#early.set(`${conversation} ${sequence}`, state);
    }
  }

  /** Gives a message its place in the conversation, and shows the receipts that were there before. */
  #number(message, conversation, sequence) {
    Object.assign(message, { conversation, sequence });
    const early = this.#early.get(`${conversation} ${sequence}`);
    if (early) advance(message.item, early);
  }

  #changed(id, data) {
    // What is told late of one that has ended says nothing of the one that is open by now.
    if (data.state === "closed" && this.conversation?.state === "open" && this.conversation.id !== id) return;
    const before = this.conversation?.id === id ? this.conversation : null;
    const isOpen = ({ state }) => state === "open";
    const dialog = data.dialogs.findLast(isOpen) ?? null;
    const now = {
      id,
      state: data.state,
      reason: data.close_reason ?? null,
      agent: data.agent?.id ?? null,
      skill: data.skill_id,
      dialog: dialog?.id ?? id,
      survey: dialog?.type === "post_survey",
    };
    this.conversation = now;
    for (const [text, kind] of news(before, now)) this.#log.add(note(text, kind));
    // In a survey the numbers begin anew.
    if (now.survey && !before?.survey) this.#early.clear();
    // A rating is told after the end.
    if (now.state === "closed" && before?.state !== "closed") this.#tell("closed", now);
  }

  /** What a message shows, and the buttons that answer it. */
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
      // Of a text with choices the plain rendering numbers them; here they are buttons.
      contents.push(words(choices.length > 0 ? rich?.text ?? text : text));
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

  /** The address of a file's bytes, which only a request with the token brings. */
  async #source(id) {
    const response = await this.#facade.fetch(this.#facade.of("files", id));
    return URL.createObjectURL(await response.blob());
  }

  #tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What is new in a conversation, in words. */
function* news(before, now) {
  if (!before) yield ["Conversation opened", "opened"];
  if (now.agent && now.agent !== before?.agent) yield [`${nameOf(now.agent)} joined`, "joined"];
  if (before?.agent && !now.agent && now.state === "open" && !now.survey) {
    yield [now.skill ? `Transferred to skill ${now.skill}` : "Transferred", "transferred"];
  }
  if (now.survey && !before?.survey) yield ["A survey follows", "survey"];
  if (now.state === "closed" && before?.state !== "closed") {
    yield [now.reason ? `Conversation closed by ${now.reason}` : "Conversation closed", "closed"];
  }
}
