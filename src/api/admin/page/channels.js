// The channels: what waits in each direction, the state of the callback, and the deliveries.

import { byId, el, facts, mark, show } from "./dom.js";
import { ago, callbackLabel, counted, number } from "./words.js";

/** 100,000: the service stops counting the backlog there. */
const MAX_WAITING = 100000;

const UNKNOWN = ["State", "unknown: the database does not answer"];

const quiet = (text) => el("span", { class: "quiet" }, text);

function callbackMark(channel) {
  if (!channel.has_callback) {
    return mark("No callback");
  }
  return channel.callback ? mark(...callbackLabel(channel.callback)) : mark("Unknown", "warn");
}

/** The requests of the channel's users. */
function toTheCloud({ account_id: account, requests }, now) {
  return facts([
    requests ? ["Requests waiting", number(requests.waiting, MAX_WAITING),
      requests.oldest_at && quiet(`oldest ${ago(requests.oldest_at, now)}`)] : UNKNOWN,
    ["Account", account],
  ]);
}

/** The events for the channel. */
function toTheChannel(channel, now) {
  const { callback, deliveries, lanes } = channel;
  if (!channel.has_callback) {
    return facts([["Events", "read by the channel itself"]]);
  }
  if (!deliveries) {
    return facts([UNKNOWN]);
  }
  const amount = (name, shown) => el("span", { "data-count": name }, shown);
  return facts([
    callback.paused_at && ["Paused", ago(callback.paused_at, now)],
    ["Events waiting", amount("pending", number(deliveries.pending, deliveries.most)),
      lanes.oldest_at && quiet(`of ${counted(lanes.waiting, "user")}, oldest ${ago(lanes.oldest_at, now)}`)],
    ["Events failed", amount("failed", number(deliveries.failed, deliveries.most))],
    ["Events delivered", amount("delivered", number(deliveries.delivered)), quiet(`of the newest ${number(deliveries.recent)}`)],
  ]);
}

function buttons(channel, canAct) {
  const paused = channel.callback?.state === "paused";
  const canResume = paused || channel.callback?.state === "probed";
  const button = (action, text) =>
    el("button", { type: "button", class: "plain", "data-action": action, "data-channel": channel.id }, text);
  return el("footer", {},
    el("a", { href: `#/failures/${encodeURIComponent(channel.id)}` }, "Failed deliveries"),
    canAct && !paused && button("pause", "Pause"),
    canAct && canResume && button("resume", "Resume"),
    canAct && button("replay", "Replay…"));
}

function card(channel, { now, can_act }) {
  return el("article", { class: "card", "data-row": channel.id, "data-channel": channel.id, "data-callback": channel.callback?.state },
    el("header", {}, el("h3", {}, channel.id), callbackMark(channel)),
    el("h4", {}, "To the Cloud"), toTheCloud(channel, now),
    el("h4", {}, "To the channel"), toTheChannel(channel, now),
    channel.has_callback && buttons(channel, can_act));
}

/** Shows the channels. */
export function showChannels(overview) {
  show(byId("channels"), overview.channels.map((channel) => card(channel, overview)));
}

/** The channels that have a callback. */
export function withCallback({ channels }) {
  return channels.filter((channel) => channel.has_callback);
}

/** True if an event of this type can be delivered again. An old typing event is of no use. */
export function canDeliverAgain(overview, id, type) {
  return overview.can_act && type !== "typing.changed" && withCallback(overview).some((channel) => channel.id === id);
}

/** Says that events are queued, and when they are sent if the channel's callback takes none now. */
export function queuedText(what, id, overview, { isOne = false } = {}) {
  const state = overview.channels.find((channel) => channel.id === id)?.callback?.state;
  switch (state) {
    case "paused":
      return `${what} queued; ${id} is paused: resume it to send ${isOne ? "the event" : "them"}.`;
    case "probed":
      return `${what} queued; ${id} is unreachable: ${isOne ? "the event is" : "they are"} sent when it answers.`;
    default:
      return `${what} queued for delivery.`;
  }
}

/** Fills a select with channels, and keeps the selection. */
export function offerChannels(select, channels) {
  const offered = channels.map((channel) => channel.id);
  const chosen = select.value;
  show(select, offered.map((id) => el("option", { value: id }, id)));
  if (offered.includes(chosen)) {
    select.value = chosen;
  }
}
