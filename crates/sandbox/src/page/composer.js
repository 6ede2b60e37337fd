// The agent's actions: sending messages of all kinds, transferring and ending the conversation, and
// the survey bot's part.

import { byId, showText } from "./dom.js";
import { Typing, sendByEnter } from "./typing.js";

/** The largest file that this page sends for an agent, in bytes. */
const FILE_LIMIT = 5_000_000;

/** A sample card. Its picture does not exist: pages name it, and do not load it. */
const CARD = {
  type: "vertical",
  elements: [
    { type: "image", url: "https://example.com/shoes.jpg", tooltip: "A pair of running shoes" },
    { type: "text", text: "Running shoes", tag: "title" },
    { type: "text", text: "In your size, here on Friday", tag: "subtitle" },
    {
      type: "horizontal",
      elements: [
        {
          type: "button",
          title: "Order",
          click: {
            actions: [{ type: "publishText", text: "I would like to order the shoes" }],
            metadata: [{ type: "ExternalId", id: "order-shoes" }],
          },
        },
        { type: "button", title: "Not now", click: { actions: [{ type: "publishText", text: "Not now, thank you" }] } },
      ],
    },
  ],
};

/** The forms and buttons below the conversation. */
export class Composer {
  #cloud;
  #conversation = null;
  #typing = new Typing(byId("agent-text"), (isTyping) => this.#sendTyping(isTyping));

  constructor(cloud) {
    this.#cloud = cloud;
    this.#listen();
  }

  /** Serves a conversation from now on. Offers only the actions that are possible in it now. */
  serve(conversation) {
    if (conversation?.id !== this.#conversation?.id) {
      this.#typing.reset();
      showText(byId("desk-error"), null);
    }
    this.#conversation = conversation;
    const isOpen = conversation?.stage === "OPEN";
    const survey = conversation?.dialogs.some(({ kind, state }) => kind === "POST_SURVEY" && state === "OPEN");
    byId("agent-composer").hidden = !isOpen || survey;
    byId("agent-actions").hidden = !isOpen || survey;
    byId("survey-form").hidden = !survey;
    byId("agent-join").hidden = conversation?.participants.some(({ role }) => role === "ASSIGNED_AGENT");
    byId("agent-close-main").hidden = !conversation?.features.includes("MULTI_DIALOG");
  }

  #listen() {
    byId("agent-composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#write();
    });
    sendByEnter(byId("agent-text"));
    byId("agent-file").addEventListener("change", ({ target }) => {
      for (const picture of target.files) this.#attach(picture);
      target.value = "";
    });
    byId("agent-transfer-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const skill = byId("agent-skill").value.trim();
      if (skill !== "") this.#act({ type: "transfer", skill });
    });
    byId("survey-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#publishQuestion();
    });
    const onClick = {
      "agent-card": () => this.#act({ type: "rich", content: CARD }),
      "agent-join": () => this.#act({ type: "join" }),
      "agent-close": () => this.#act({ type: "close" }),
      "agent-close-main": () => this.#change("close-main-dialog", { by: "AGENT" }),
      "survey-end": () => this.#change("survey/end"),
    };
    for (const [id, act] of Object.entries(onClick)) byId(id).addEventListener("click", act);
  }

  async #write() {
    const field = byId("agent-text");
    const text = field.value;
    if (text.trim() === "") return;
    const isPrivate = byId("agent-private").checked;
    const choices = titles(byId("agent-choices").value).map((title) => ({ title }));
    this.#typing.reset();
    const action = { type: "text", text, private: isPrivate, quick_replies: choices };
    if (await this.#act(action)) {
      field.value = "";
      byId("agent-choices").value = "";
      byId("agent-private").checked = false;
    }
  }

  async #attach(picture) {
    if (picture.size > FILE_LIMIT) {
      showText(byId("desk-error"), `${picture.name} has ${picture.size} bytes; the limit is ${FILE_LIMIT}`);
      return;
    }
    await this.#act({
      type: "file",
      content: await base64(picture),
      file_type: picture.name.split(".").pop().toUpperCase(),
      caption: byId("agent-text").value.trim() || picture.name,
    });
    byId("agent-text").value = "";
  }

  async #publishQuestion() {
    const message = byId("survey-question").value.trim();
    if (message === "") return;
    const event = { type: "ContentEvent", contentType: "text/plain", message };
    const replies = titles(byId("survey-choices").value).map((title) => ({
      type: "button",
      title,
      tooltip: title,
      click: { actions: [{ type: "publishText", text: title }] },
    }));
    if (replies.length > 0) event.quickReplies = { type: "quickReplies", itemsPerRow: 8, replies };
    await this.#change("survey", { event });
  }

  #sendTyping(isTyping) {
    if (this.#conversation?.stage !== "OPEN") return;
    // A chat state matters only for the moment. If it fails, sending the message will show the
    // reason.
    this.#cloud.act(this.#conversation.id, { type: "typing", state: isTyping ? "COMPOSING" : "ACTIVE" }).catch(() => {});
  }

  #act(action) {
    return this.#try(this.#cloud.act(this.#conversation.id, action));
  }

  #change(path, body) {
    return this.#try(this.#cloud.change(this.#conversation.id, path, body));
  }

  /** Waits for an action and shows its error, if any. Returns true if it succeeded. */
  async #try(action) {
    try {
      await action;
      showText(byId("desk-error"), null);
      return true;
    } catch (error) {
      showText(byId("desk-error"), error.message);
      return false;
    }
  }
}

const titles = (text) => text.split(",").map((title) => title.trim()).filter(Boolean);

/** Returns the bytes of a file in base64: the part of a data URI after its comma. */
function base64(picture) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(picture);
  });
}
