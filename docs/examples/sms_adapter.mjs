#!/usr/bin/env node
// @ts-check
/**
 * An example of a channel adapter: it connects an SMS gateway to the bridge. docs/adapter.md explains it.
 *
 * The gateway posts each message as a form to /sms, and the bridge posts its events to /liveperson. The gateway's forms
 * are those of Twilio; change `receiveSms` and `sendSms` for another one. Node.js 18 or newer is all that it needs:
 *
 *     docs/examples/sms_adapter.mjs    # with the variables below
 *
 * The process may be killed at any moment. No message is lost or doubled:
 *
 * - Before the adapter answers 2xx, the message or its effect is on disk (`write`).
 * - Towards the bridge, a repeated request has the same bytes and the same Idempotency-Key, so it takes effect once.
 * - Towards the gateway, a repeated part has the same Idempotency-Key. If your gateway ignores this header, a part may
 *   come twice if the process dies between the gateway's answer and the next statement of the program.
 */

import { createHmac, timingSafeEqual } from "node:crypto";
import fs from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Returns a variable of the environment. */
function variable(/** @type {string} */ name, /** @type {string | undefined} */ standard = undefined) {
  const value = process.env[name] ?? standard;
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

const LISTEN = variable("LISTEN", "127.0.0.1:8700");
const STATE_FILE = variable("STATE_FILE", "sms_adapter.log");
// The bridge: its URL, a key of the channel, and the channel's callback_secret. While you replace the secret, list the
// old and the new one, separated by a space.
const API_URL = variable("API_URL", "http://127.0.0.1:8080");
const API_KEY = variable("SMS_API_KEY");
const CALLBACK_SECRETS = words(variable("SMS_CALLBACK_SECRET"));
const CALLBACK_KEYS = CALLBACK_SECRETS.map((it) => Buffer.from(it.replace("whsec_", ""), "base64"));
// The gateway: its send API, the number that users see, and two credentials (name:password). The adapter sends the
// first one to the gateway. The gateway sends the second one to the adapter: put it into the URL of its webhook.
const GATEWAY_URL = variable("GATEWAY_URL");
const GATEWAY_NUMBER = variable("GATEWAY_NUMBER");
const GATEWAY_AUTH = variable("GATEWAY_AUTH");
const GATEWAY_WEBHOOK_AUTH = variable("GATEWAY_WEBHOOK_AUTH");
const GATEWAY_MAX_CHARS = Number(variable("GATEWAY_MAX_CHARS", "1600"));

const OPT_OUT = new Set(["STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"]);
const OPT_IN = new Set(["START", "YES", "UNSTOP"]);
// The types of file that phones show in a multimedia message. Any other file is sent as a link.
const PICTURES = new Set(["JPG", "JPEG", "PNG", "GIF"]);
// 5 min: the greatest difference between the clocks, and the time for which a recorded callback could be repeated.
const TOLERANCE = 300;
// 8 days: ids are remembered for longer than the bridge stores and may repeat an event (`retention`, 7 days).
const MEMORY = 8 * 86400;

/** @typedef {{ key: string, user: string, kind: "text" | "file" | "erase", body: string }} Request */
/** @typedef {{ status: number, headers: Headers, content: ArrayBuffer }} Answer */
/** @typedef {{ status: number, retryAfter?: number }} Verdict */

/**
 * A change of the state. `requests` are added at the end of their user's queue, or with `first` at its beginning.
 * @typedef {{ message?: string, event?: string, parts?: number, at?: number, optOut?: string, optIn?: string,
 *             settled?: Request, requests?: Request[], first?: boolean }} Change
 */

// --- The state: a file of changes, one in a line, that is read again at the start

/** The requests that the bridge has not accepted yet, by user. @type {Map<string, Request[]>} */
const waiting = new Map();
/** The gateway's messages, and the time of each. @type {Map<string, number>} */
const messages = new Map();
/** The number of parts of each event that the gateway has accepted. @type {Map<string, [parts: number, at: number]>} */
const events = new Map();
/** @type {Set<string>} */
const optedOut = new Set();

function apply(/** @type {Change} */ change) {
  if (change.message) messages.set(change.message, change.at ?? 0);
  if (change.event) events.set(change.event, [change.parts ?? 0, change.at ?? 0]);
  if (change.optIn) optedOut.delete(change.optIn);
  if (change.optOut) optedOut.add(change.optOut) && waiting.delete(change.optOut);
  if (change.settled) {
    const { key, user } = change.settled;
    const rest = (waiting.get(user) ?? []).filter((it) => it.key !== key);
    rest.length ? waiting.set(user, rest) : waiting.delete(user);
  }
  for (const request of change.requests ?? []) {
    const queue = waiting.get(request.user) ?? [];
    waiting.set(request.user, change.first ? [request, ...queue] : [...queue, request]);
  }
}

/** Stores a change. It is on disk when this function returns. */
function write(/** @type {Change} */ change) {
  const size = fs.fstatSync(file).size;
  try {
    fs.appendFileSync(file, JSON.stringify(change) + "\n");
    fs.fsyncSync(file);
  } catch (error) {
    // Such as a full disk. Half a line must not stay, since the next one would be added to it.
    fs.ftruncateSync(file, size);
    throw error;
  }
  apply(change);
}

/** Replaces the file by one that has only the present state, without ids that are too old. */
function compact() {
  const oldest = now() - MEMORY;
  for (const [id, at] of messages) if (at < oldest) messages.delete(id);
  for (const [id, [, at]] of events) if (at < oldest) events.delete(id);
  /** @type {Change[]} */
  const changes = [
    ...[...messages].map(([message, at]) => ({ message, at })),
    ...[...events].map(([event, [parts, at]]) => ({ event, parts, at })),
    ...[...optedOut].map((optOut) => ({ optOut })),
    ...[...waiting.values()].map((requests) => ({ requests })),
  ];
  const next = fs.openSync(STATE_FILE + ".next", "w", 0o600);
  fs.appendFileSync(next, changes.map((it) => JSON.stringify(it) + "\n").join(""));
  fs.fsyncSync(next);
  fs.renameSync(STATE_FILE + ".next", STATE_FILE);
  const folder = fs.openSync(path.dirname(path.resolve(STATE_FILE)), "r");
  fs.fsyncSync(folder);
  fs.closeSync(folder);
  if (file) fs.closeSync(file);
  return next;
}

function now() {
  return Date.now() / 1000;
}

function words(/** @type {string} */ text) {
  return text.split(/\s+/).filter(Boolean);
}

function basic(/** @type {string} */ credentials) {
  return "Basic " + Buffer.from(credentials).toString("base64");
}

/** Compares in constant time. */
function isEqual(/** @type {string} */ one, /** @type {string} */ other) {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Writes to the log, which has neither texts nor phone numbers nor keys. */
function log(/** @type {string} */ text, /** @type {unknown} */ error = undefined) {
  console.error(new Date().toISOString(), text, error ?? "");
}

/**
 * Sends a request. The status is 0 if there was no complete answer. After a redirect to another host, such as from the
 * gateway to its file storage, `fetch` does not repeat the credentials.
 * @param {string} method
 * @param {string} url
 * @param {Record<string, string>} headers
 * @param {string | FormData | URLSearchParams} [body]
 * @returns {Promise<Answer>}
 */
async function call(method, url, headers, body, timeout = 30_000) {
  try {
    const answer = await fetch(url, { method, headers, body, signal: AbortSignal.timeout(timeout) });
    return { status: answer.status, headers: answer.headers, content: await answer.arrayBuffer() };
  } catch {
    return { status: 0, headers: new Headers(), content: new ArrayBuffer(0) };
  }
}

/** @template T @param {Headers} headers @param {T} standard */
function retryAfter(headers, standard) {
  const value = headers.get("retry-after") ?? "";
  return /^\d+$/.test(value) ? Number(value) : standard;
}

// --- From the gateway to the bridge

/**
 * Stores a message of the gateway, as the requests to the bridge that it leads to.
 *
 * It is on disk before the gateway gets a 2xx, since many gateways never post a message again. If a gateway does, as
 * after a lost answer, the message's id is known, and nothing happens.
 */
function receiveSms(/** @type {URLSearchParams} */ form) {
  const [sid, user, text] = ["MessageSid", "From", "Body"].map((name) => form.get(name) ?? "");
  const word = text.trim().toUpperCase();
  if (messages.has(sid)) return;
  /** @type {Change} */
  const change = { message: sid, at: now() };
  /** @type {[Request["kind"], string][]} */
  const requests = [];
  if (OPT_OUT.has(word)) {
    // From now on, no event goes to this number, even if the bridge is unavailable and the erasure must wait. Messages
    // that still wait would be erased at once, so they are dropped.
    change.optOut = user;
    requests.push(["erase", ""]);
  } else if (OPT_IN.has(word) && optedOut.has(user)) {
    change.optIn = user;
  } else if (!optedOut.has(user)) {
    // With match_choice, the bridge turns an answer such as "2" into the choice that it names. The body is stored as
    // JSON: a repeated request must have the same bytes.
    if (word) requests.push(["text", JSON.stringify({ text, match_choice: true })]);
    for (let n = 0; n < Number(form.get("NumMedia") ?? 0); n++) requests.push(["file", form.get(`MediaUrl${n}`) ?? ""]);
  }
  change.requests = requests.map(([kind, body], number) => ({ key: `${sid}-${number}`, user, kind, body }));
  write(change);
  void forward(user);
}

/** @type {Set<string>} */
const busy = new Set();

/**
 * Sends a user's stored requests to the bridge in order, while those of other users are sent too.
 *
 * The next request is sent only after the answer to the one before. Only then does the bridge keep their order.
 */
async function forward(/** @type {string} */ user) {
  if (busy.has(user)) return;
  busy.add(user);
  for (let failures = 0, request; (request = waiting.get(user)?.[0]); ) {
    let pause = 0;
    try {
      const { status, headers } = await requestBridge(request);
      if (status >= 200 && status < 300) {
        // A promise (201 or 202): the bridge delivers the message, even if the Cloud is unavailable now.
        write({ settled: request });
      } else if (request.kind === "file" && [400, 404, 410, 413, 415, 422].includes(status)) {
        // The file is gone, too large or not a picture, and the agent should know about it. This is another request, so
        // it needs another key.
        const body = JSON.stringify({ text: "[The user has sent a file that cannot be shown here.]" });
        const note = { key: `${request.key}-note`, user, kind: /** @type {const} */ ("text"), body };
        write({ settled: request, requests: waiting.get(user)?.[0] === request ? [note] : [], first: true });
      } else if (
        [400, 413, 422].includes(status) ||
        ([500, 504].includes(status) && headers.has("idempotency-replayed"))
      ) {
        // The request breaks a rule. Or the bridge cannot find out if the Cloud has the message, and the same key only
        // repeats the answer.
        log(`${request.key} is given up: status ${status}`);
        write({ settled: request });
      } else {
        // Nothing was done (409, 429, 502, 503), or the outcome is unknown (no answer, 500, 504). Another attempt under
        // the same key is safe in both cases.
        pause = retryAfter(headers, Math.min(2 ** failures, 60));
        log(`${request.key} waits for ${pause} s: status ${status}`);
      }
    } catch (error) {
      pause = 10;
      log(`${request.key} waits for 10 s`, error);
    }
    failures = pause ? Math.min(failures + 1, 6) : 0;
    if (pause) await sleep(pause * 1000);
  }
  busy.delete(user);
}

/** Sends one request to the bridge. */
async function requestBridge(/** @type {Request} */ { key, user, kind, body }) {
  // The user's id is the phone number. In a path, its + is %2B.
  const url = `${API_URL}/v1/users/${encodeURIComponent(user)}`;
  const headers = { Authorization: `Bearer ${API_KEY}`, "Idempotency-Key": key };
  // 204: all is done. 202: the user is erased, and the bridge closes the conversation once it reaches the Cloud.
  if (kind === "erase") return call("DELETE", url, headers);
  if (kind === "text") return call("POST", `${url}/messages`, { ...headers, "Content-Type": "application/json" }, body);
  // The gateway returns the same bytes each time, so the file is not stored here.
  const isGateway = new URL(body).host === new URL(GATEWAY_URL).host;
  const fetched = await call("GET", body, isGateway ? { Authorization: basic(GATEWAY_AUTH) } : {});
  if (fetched.status !== 200) return fetched;
  // The bridge compares only the file of a repeated form, so the boundary may differ.
  const form = new FormData();
  form.set("file", new Blob([fetched.content]), "file");
  return call("POST", `${url}/files`, headers, form);
}

// --- From the bridge to the gateway

/** Checks the signature of a callback over the bytes as they arrived (Standard Webhooks). */
function isFromBridge(/** @type {import("node:http").IncomingHttpHeaders} */ headers, /** @type {Buffer} */ body) {
  const stamp = String(headers["webhook-timestamp"]);
  if (!/^\d{1,11}$/.test(stamp) || Math.abs(now() - Number(stamp)) > TOLERANCE) return false;
  const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${stamp}.`), body]);
  const expected = CALLBACK_KEYS.map((key) => "v1," + createHmac("sha256", key).update(signed).digest("base64"));
  const given = words(String(headers["webhook-signature"]));
  return expected.filter((one) => given.filter((other) => isEqual(one, other)).length).length > 0;
}

/** @type {Set<string>} */
const inProgress = new Set();

/**
 * Passes an event on to the gateway.
 *
 * This direction needs no queue here. Until the adapter answers 2xx, the bridge stores the event, sends it again, and
 * holds back the user's later ones.
 * @param {any} event
 * @returns {Promise<Verdict>}
 */
async function receiveEvent({ id, type, user_id: user, data }) {
  if (type === "message.failed") log(`${data.id} did not reach the Cloud: ${data.failure.code}`);
  // Typing, receipts and the states of conversations have no equivalent in SMS.
  if (type !== "message.created") return { status: 204 };
  // SMS cannot show a secure form, and is no safe way for its answers. After a 422 the bridge tells the agent that the
  // user has not received the form.
  if (data.rich && "invitationId" in data.rich) return { status: 422 };
  // The bridge has given up an attempt that still runs here (after 10 s). It will try again.
  if (inProgress.has(id)) return { status: 503, retryAfter: 1 };
  if (optedOut.has(user)) return { status: 204 };
  inProgress.add(id);
  try {
    for (const [number, part] of partsOf(data).entries()) {
      // An event may come again: after a lost answer, after a kill, or because somebody replays it. The parts that the
      // gateway has accepted are not sent again.
      if (number < (events.get(id)?.[0] ?? 0)) continue;
      const { status, headers } = await sendSms(user, part, `${id}-${number}`);
      // The gateway will never accept it, such as for a number that does not exist. The agent learns of it.
      if (status === 400 || status === 422) return { status: 422 };
      if (status < 200 || status >= 300) return { status: 503, retryAfter: retryAfter(headers, undefined) };
      write({ event: id, parts: number + 1, at: now() });
    }
    return { status: 204 };
  } finally {
    inProgress.delete(id);
  }
}

/**
 * Returns the text messages for an event. It always cuts in the same way.
 *
 * `text` already has all that a text-only channel can show: the numbered choices, and the caption of a file. `file.url`
 * works without a key if the channel has signed_file_links.
 * @param {{ text: string, file?: { file_type: string, url: string } }} data
 */
function partsOf({ text, file }) {
  const picture = file && PICTURES.has(file.file_type.toUpperCase()) ? file.url : undefined;
  let rest = [...(file && !picture ? `${text}\n${file.url}` : text).trim()];
  const parts = [];
  while (rest.length > GATEWAY_MAX_CHARS) {
    // Cuts at the last line break, or else at the last space, or else anywhere.
    const head = rest.slice(0, GATEWAY_MAX_CHARS + 1);
    const cut = Math.max(head.lastIndexOf("\n"), 0) || Math.max(head.lastIndexOf(" "), 0) || GATEWAY_MAX_CHARS;
    parts.push({ text: rest.slice(0, cut).join("").trimEnd(), picture: undefined });
    rest = [...rest.slice(cut).join("").trimStart()];
  }
  if (rest.length || picture) parts.push({ text: rest.join(""), picture });
  return parts;
}

/**
 * Sends one text message through the gateway.
 * @param {string} user
 * @param {{ text: string, picture?: string }} part
 * @param {string} key
 */
function sendSms(user, part, key) {
  const form = new URLSearchParams({ From: GATEWAY_NUMBER, To: user, Body: part.text });
  if (part.picture) form.set("MediaUrl", part.picture);
  // 5 s: the bridge waits 10 s for the answer to its callback.
  return call("POST", GATEWAY_URL, { Authorization: basic(GATEWAY_AUTH), "Idempotency-Key": key }, form, 5000);
}

// --- The server

/** @returns {Promise<Verdict>} */
async function handlePost(/** @type {import("node:http").IncomingMessage} */ request, /** @type {Buffer} */ body) {
  const [path] = (request.url ?? "").split("?");
  if (path === "/sms") {
    if (!isEqual(request.headers.authorization ?? "", basic(GATEWAY_WEBHOOK_AUTH))) return { status: 401 };
    const form = new URLSearchParams(body.toString());
    if (!form.get("MessageSid") || !form.get("From")) return { status: 400 };
    receiveSms(form);
    return { status: 204 };
  }
  if (path !== "/liveperson") return { status: 404 };
  if (!isFromBridge(request.headers, body)) return { status: 401 };
  return receiveEvent(JSON.parse(body.toString()));
}

const server = createServer(async (request, response) => {
  /** @type {Verdict} */
  let verdict = { status: 413 };
  try {
    const chunks = [];
    let length = 0;
    for await (const chunk of request) {
      if ((length += chunk.length) < 10_000_000) chunks.push(chunk);
    }
    if (length < 10_000_000) verdict = await handlePost(request, Buffer.concat(chunks));
  } catch (error) {
    // Such as a full disk. Nothing is promised, so the sender tries again.
    log("a post failed", error);
    verdict = { status: 503 };
  }
  const pause = verdict.retryAfter === undefined ? {} : { "Retry-After": verdict.retryAfter };
  response.writeHead(verdict.status, pause).end();
});

// The last line may be incomplete after a power failure. Nothing was promised for it.
const stored = fs.existsSync(STATE_FILE) ? fs.readFileSync(STATE_FILE, "utf8").split("\n").slice(0, -1) : [];
for (const line of stored) apply(JSON.parse(line));
let file = 0;
file = compact();
setInterval(() => {
  try {
    file = compact();
  } catch (error) {
    log("the state was not compacted", error);
  }
}, 86_400_000);
for (const user of waiting.keys()) void forward(user);

server.keepAliveTimeout = 60_000;
const [, host, port] = /** @type {RegExpMatchArray} */ (LISTEN.match(/^(.*):(\d+)$/));
server.listen(Number(port), host, () => {
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  console.log(`listening on http://${host}:${address.port}`);
});
