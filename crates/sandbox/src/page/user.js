// The user's phone, in place of a channel's app. It calls only the bridge's API.

import { byId, gathered, pause, showText } from "./dom.js";
import { DemoTokens, Api, EnteredToken } from "./api.js";
import { brandName, nameOf } from "./names.js";
import { Opening } from "./opening.js";
import { Rating } from "./rating.js";
import { Receipts } from "./receipts.js";
import { Stream } from "./stream.js";
import { Thread } from "./thread.js";
import { Typing, sendByEnter } from "./typing.js";

/** The key under which a token that was entered by hand is stored, until the tab is closed. */
const TOKEN_KEY = "liveperson-bridge token";

/** The feature of a conversation that lets a survey follow it. */
const SURVEYS = "MULTI_DIALOG";

/** The time in which events are gathered before a conversation is read, in milliseconds. */
const GATHER = 100;

/** The number of signals after an outage, and the time between them, in milliseconds. */
const MAX_SIGNALS = 20;
const SIGNAL_INTERVAL = 2_000;

/** The phone. Dispatches `change` whenever its contents may have changed. */
export class User extends EventTarget {
  /** The thread of the present user; null before there is one. */
  thread = null;

  #bridge;
  #api;
  #stream;
  #receipts;
  #typingEnds;
  /** The features of the conversation with this id: `{id, features}`. */
  #features = null;
  #readFeaturesSoon = gathered(() => this.#readFeatures(), GATHER);
  #opening = new Opening((opening) => this.#open(opening));
  #rating = new Rating((rating) => this.#api.call("PUT", this.#api.path("conversation", "rating"), { body: rating }));
  #typing = new Typing(byId("user-text"), (isTyping) => this.#sendTyping(isTyping));

  /** Creates the phone. `bridge` is the bridge of the page's settings, or null. */
  constructor(bridge) {
    super();
    this.#bridge = bridge;
    this.#listen();
    const storedToken = sessionStorage.getItem(TOKEN_KEY);
    if (bridge?.mints_tokens) this.#become(byId("user-name").value);
    else if (bridge && storedToken) this.#enter(storedToken);
    else this.#askForToken();
  }

  /** Suggests words to the writer, if an agent by script knows some. */
  suggest(isScripted) {
    const hint = isScripted ? "Write as the user: try menu, card, picture, bye" : "Write as the user";
    byId("user-text").placeholder = hint;
  }

  /** Writes a message as a person does, who types first. Returns the thread's message. */
  compose(text) {
    this.#sendTyping(true);
    return this.#say(text);
  }

  /**
   * Sends typing signals until no message is queued, as an app does whose user goes on typing.
   * After an outage, the first successful request shows the bridge that the Cloud is back.
   */
  async resume() {
    const { thread } = this;
    for (let signals = 0; signals < MAX_SIGNALS && thread === this.thread && thread?.count("queued") > 0; signals++) {
      await this.#sendTyping(false);
      await pause(SIGNAL_INTERVAL);
    }
  }

  #listen() {
    byId("user-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#become(byId("user-name").value.trim());
    });
    byId("user-composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#write();
    });
    sendByEnter(byId("user-text"));
    byId("user-file").addEventListener("change", ({ target }) => {
      for (const picture of target.files) this.thread.attach(picture, byId("user-text").value.trim());
      if (target.files.length > 0) byId("user-text").value = "";
      target.value = "";
    });
    byId("user-open").addEventListener("click", () => this.#opening.show());
    byId("user-close").addEventListener("click", () => this.#close({}));
    byId("user-close-survey").addEventListener("click", () => this.#close({ survey: true }));
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enter(byId("token").value.trim());
    });
    byId("user-token-forget").addEventListener("click", () => {
      sessionStorage.removeItem(TOKEN_KEY);
      location.reload();
    });
  }

  #askForToken() {
    byId("connect").hidden = false;
    byId("connect-origin").textContent = `cors_origins = ["${location.origin}"]`;
    byId("token-form").hidden = !this.#bridge;
    byId("connect-none").hidden = Boolean(this.#bridge);
  }

  /** Continues with a token, as the user that it names. */
  #enter(token) {
    const user = claims(token)?.user;
    if (!user) {
      showText(byId("token-error"), "This is not a user token: expected a JWT with the claim user.");
      this.#askForToken();
      return;
    }
    sessionStorage.setItem(TOKEN_KEY, token);
    byId("user-name").value = user;
    byId("user-name").readOnly = true;
    byId("user-switch").hidden = true;
    byId("user-token-forget").hidden = false;
    this.#begin(new Api(this.#bridge.url, user, new EnteredToken(token)));
  }

  /** Continues as this user, with a token that the demo issues. */
  #become(user) {
    if (user === "" || user === this.#api?.user) return;
    this.#begin(new Api(this.#bridge.url, user, new DemoTokens(user)));
  }

  #begin(api) {
    this.#stream?.stop();
    this.#receipts?.stop();
    byId("connect").hidden = true;
    byId("phone").hidden = false;
    this.#rating.hide();
    this.#showTyping(null);
    this.#features = null;
    this.#api = api;
    const thread = new Thread(api, byId("user-log"));
    const stream = new Stream(api);
    this.thread = thread;
    this.#receipts = new Receipts(api, thread, byId("user-log"));
    this.#stream = stream;
    thread.addEventListener("change", () => this.#show());
    thread.addEventListener("typing", ({ detail }) => this.#showTyping(detail));
    thread.addEventListener("closed", () => this.#rating.show());
    // A message would have ended the typing.
    thread.addEventListener("failed", () => this.#sendTyping(false));
    stream.addEventListener("event", ({ detail }) => {
      if (detail.type === "conversation.opened") this.#rating.hide();
      thread.apply(detail);
    });
    stream.addEventListener("gap", () => thread.skip());
    stream.addEventListener("state", ({ detail }) => this.#showConnection(detail));
    stream.run();
    this.#show();
  }

  #write() {
    const field = byId("user-text");
    const text = field.value;
    if (text.trim() === "") return;
    this.#typing.reset();
    this.#say(text);
    field.value = "";
  }

  #say(text) {
    this.#rating.hide();
    return this.thread.write(text);
  }

  async #open(opening) {
    const path = this.#api.path("conversation");
    await this.#api.call("POST", path, { body: opening, key: crypto.randomUUID() });
  }

  async #close(closing) {
    try {
      const path = this.#api.path("conversation", "close");
      await this.#api.call("POST", path, { body: closing, key: crypto.randomUUID() });
      showText(byId("user-error"), null);
    } catch (problem) {
      showText(byId("user-error"), String(problem));
    }
  }

  /**
   * Sends a typing signal. It matters only for the moment, so it is not retried. Without an open
   * conversation it would not be seen.
   */
  async #sendTyping(isTyping) {
    const { conversation } = this.thread;
    if (conversation?.state !== "open" || conversation.survey) return;
    const body = { state: isTyping ? "composing" : "pause" };
    await this.#api.call("PUT", this.#api.path("typing"), { body, attempts: 1 }).catch(() => {});
  }

  /** Reads the features of the open conversation, which no event reports. */
  async #readFeatures() {
    const { conversation } = this.thread;
    if (conversation?.state !== "open" || conversation.id === this.#features?.id) return;
    try {
      const { body } = await this.#api.call("GET", this.#api.path("conversation"));
      this.#features = { id: body.id, features: body.features };
      this.#show();
    } catch {
      // The next change of the conversation is another occasion.
    }
  }

  #showTyping(typing) {
    clearTimeout(this.#typingEnds);
    const remaining = typing?.state === "composing" ? Date.parse(typing.expires_at) - Date.now() : 0;
    showText(byId("user-typing"), remaining > 0 ? `${brandName(typing.sender)} is typing…` : null);
    if (remaining > 0) this.#typingEnds = setTimeout(() => this.#showTyping(null), remaining);
  }

  #showConnection({ connected, reason }) {
    byId("user").dataset.connected = connected;
    showText(byId("user-error"), connected || !reason ? null : `${reason}. Retrying…`);
  }

  #show() {
    const { conversation } = this.thread;
    const open = conversation?.state === "open";
    const state = byId("user-state");
    state.dataset.state = conversation?.state ?? "none";
    state.textContent = describe(conversation);
    byId("user-open").hidden = open;
    byId("user-close").hidden = !open;
    const features = open && this.#features?.id === conversation.id ? this.#features.features : [];
    byId("user-close-survey").hidden = !features.includes(SURVEYS) || conversation.survey;
    if (conversation?.rated) this.#rating.hide();
    this.#readFeaturesSoon();
    this.dispatchEvent(new Event("change"));
  }
}

function describe(conversation) {
  if (!conversation) return "No conversation yet: the first message opens one";
  if (conversation.state === "closed") return "Closed: the next message opens a new one";
  if (conversation.survey) return "Survey";
  return conversation.agent ? `With ${nameOf(conversation.agent)}` : "Waiting for an agent";
}

/** Returns the claims of a JWT, unchecked: the page only needs to know its user. */
function claims(token) {
  try {
    const base64 = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (unit) => unit.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}
