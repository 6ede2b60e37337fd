// The simulated Cloud's own control: what tests have, and what this page plays the brand's side by.

import { gathered } from "./dom.js";

/** Milliseconds: so many changes as come within that time are looked at together. */
const GATHER = 120;

/** How many conversations are looked at, the latest: a simulated Cloud that tests have used can have many thousands. */
const LATEST = 100;

/** Milliseconds: how often it is looked at without a sign that something has changed. */
const NOW_AND_THEN = 10_000;

/** The Cloud; dispatches `change` when its conversations were read anew, and `state` when it does not answer. */
export class Cloud extends EventTarget {
  /** The latest conversations, the oldest of them first. */
  conversations = [];

  /** Has the conversations read anew soon; a promise of that. */
  soon = gathered(() => this.#refresh(), GATHER);

  constructor() {
    super();
    setInterval(() => {
      if (document.visibilityState === "visible") this.soon();
    }, NOW_AND_THEN);
  }

  /** Asks the control; the answer's JSON, or nothing where it has none. A refusal is an error with its words. */
  async ask(method, path, body) {
    const headers = { accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    const response = await fetch(path, { method, headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${refusal(text)}`);
    return text === "" ? null : JSON.parse(text);
  }

  /** Has someone of the brand do something in a conversation. */
  async act(conversation, action) {
    await this.ask("POST", `/_sandbox/conversations/${conversation}/agent`, action);
    await this.soon();
  }

  /** Has an agent open a conversation with a consumer; the answer names it. */
  async open(opening) {
    const opened = await this.ask("POST", "/_sandbox/agent/conversations", opening);
    await this.soon();
    return opened;
  }

  /** The same for what is not an agent's doing, such as the survey's end. */
  async change(conversation, what, body) {
    await this.ask("POST", `/_sandbox/conversations/${conversation}/${what}`, body);
    await this.soon();
  }

  async #refresh() {
    try {
      this.conversations = await this.ask("GET", `/_sandbox/conversations?latest=${LATEST}`);
      this.dispatchEvent(new CustomEvent("state", { detail: null }));
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      this.dispatchEvent(new CustomEvent("state", { detail: String(error.message) }));
    }
  }
}

/** What a refusal says: its text, or the words in its JSON. */
function refusal(text) {
  try {
    const body = JSON.parse(text);
    return body.message ?? body.error?.message ?? body.error ?? text;
  } catch {
    return text;
  }
}

/** Where the bytes of a file in the Cloud's storage are. */
export const fileAddress = (path) => `/_sandbox/files${path.startsWith("/") ? "" : "/"}${path}`;

/** Whether an event is a message that the other side can see. */
export function isMessage({ event, audience }) {
  return audience === "ALL" && (event.type === "ContentEvent" || event.type === "RichContentEvent");
}

export const isOfConsumer = ({ originator }) => originator.role === "CONSUMER";

/** What the Cloud was told of the consumer: `{name, facts: [[word, value]]}`. */
export function consumerOf({ profile, ext_consumer_id: id }) {
  const attributes = profile?.authenticatedData?.lp_sdes ?? [];
  const personal = attributes.find(({ type }) => type === "personal")?.personal ?? {};
  const customer = attributes.find(({ type }) => type === "ctmrinfo")?.info ?? {};
  const first = personal.firstname ?? profile?.firstName;
  const last = personal.lastname ?? profile?.lastName;
  const name = [first, last].filter(Boolean).join(" ");
  const { firstname, lastname, ...others } = personal;
  const facts = Object.entries({ ...customer, ...others })
    .map(([word, value]) => [WORDS[word] ?? word, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  return { name: name || id, facts };
}

/** The members of engagement attributes that have a short name in the Cloud, in words. */
const WORDS = { ctype: "Customer type", cstatus: "Customer status" };
