// The simulated Cloud's control API. Tests use it too, and this page plays the brand's side through
// it.

import { gathered } from "./dom.js";

/** The time in which changes are gathered for one refresh, in milliseconds. */
const GATHER = 120;

/**
 * The number of latest conversations to read. After many tests, a simulated Cloud can have many
 * thousands.
 */
const LATEST = 100;

/** The interval between refreshes without a sign of a change, in milliseconds. */
const REFRESH_INTERVAL = 10_000;

/**
 * The Cloud. Dispatches `change` when its conversations were read again, and `state` with the error
 * of a refresh, or null after a success.
 */
export class Cloud extends EventTarget {
  /** The latest conversations, the oldest first. */
  conversations = [];

  /** Reads the conversations again soon. Returns a promise that resolves afterwards. */
  refreshSoon = gathered(() => this.#refresh(), GATHER);

  constructor() {
    super();
    setInterval(() => {
      if (document.visibilityState === "visible") this.refreshSoon();
    }, REFRESH_INTERVAL);
  }

  /**
   * Calls the control API. Returns the JSON of the answer, or null if it is empty. Throws an error
   * with the message of a refusal. `options` are further options of fetch.
   */
  async request(method, path, body, options = {}) {
    const headers = { accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    const response = await fetch(path, { ...options, method, headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} was answered ${response.status}: ${refusal(text)}`);
    return text === "" ? null : JSON.parse(text);
  }

  /** Performs an action of the brand's side in a conversation. */
  async act(conversation, action) {
    await this.request("POST", `/_sandbox/conversations/${conversation}/agent`, action);
    await this.refreshSoon();
  }

  /** Has an agent open a conversation with a consumer. Returns the answer, with the id in it. */
  async open(opening) {
    const opened = await this.request("POST", "/_sandbox/agent/conversations", opening);
    await this.refreshSoon();
    return opened;
  }

  /** Makes a change that is not an agent's action, such as the end of the survey. */
  async change(conversation, path, body) {
    await this.request("POST", `/_sandbox/conversations/${conversation}/${path}`, body);
    await this.refreshSoon();
  }

  async #refresh() {
    try {
      this.conversations = await this.request("GET", `/_sandbox/conversations?latest=${LATEST}`);
      this.dispatchEvent(new CustomEvent("state", { detail: null }));
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      this.dispatchEvent(new CustomEvent("state", { detail: String(error.message) }));
    }
  }
}

/** Returns the message of a refusal: its text, or the message in its JSON. */
function refusal(text) {
  try {
    const body = JSON.parse(text);
    return body.message ?? body.error?.message ?? body.error ?? text;
  } catch {
    return text;
  }
}

/** Returns the address of a file's bytes in the Cloud's storage. */
export const fileAddress = (path) => `/_sandbox/files${path.startsWith("/") ? "" : "/"}${path}`;

/** True if an event is a message that the other side can see. */
export function isMessage({ event, audience }) {
  return audience === "ALL" && (event.type === "ContentEvent" || event.type === "RichContentEvent");
}

export const isOfConsumer = ({ originator }) => originator.role === "CONSUMER";

/** Returns the consumer's profile in the Cloud: `{name, facts: [[label, value]]}`. */
export function consumerOf({ profile, ext_consumer_id: id }) {
  const attributes = profile?.authenticatedData?.lp_sdes ?? [];
  const personal = attributes.find(({ type }) => type === "personal")?.personal ?? {};
  const customer = attributes.find(({ type }) => type === "ctmrinfo")?.info ?? {};
  const first = personal.firstname ?? profile?.firstName;
  const last = personal.lastname ?? profile?.lastName;
  const name = [first, last].filter(Boolean).join(" ");
  const { firstname, lastname, ...others } = personal;
  const facts = Object.entries({ ...customer, ...others })
    .map(([label, value]) => [LABELS[label] ?? label, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  return { name: name || id, facts };
}

/** Labels for the engagement attributes whose names in the Cloud are abbreviations. */
const LABELS = { ctype: "Customer type", cstatus: "Customer status" };
