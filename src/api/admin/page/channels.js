// The channels: their backlog, the state of the callback, and the deliveries.

import { byId, el, facts, mark, show } from "./dom.js";
import { ago, callbackLabel, number } from "./words.js";

/** 100,000: the service stops counting the backlog there. */
const MAX_WAITING = 100000;

function waitingRow(name, waiting, now) {
  return waiting && [name, number(waiting.waiting, MAX_WAITING),
    waiting.oldest_at && el("span", { class: "quiet" }, `oldest ${ago(waiting.oldest_at, now)}`)];
}

function callbackMark(channel) {
  if (!channel.has_callback) {
    return mark("No callback");
  }
  return channel.callback ? mark(...callbackLabel(channel.callback)) : mark("Unknown", "warn");
}

function buttons(channel, mayAct) {
  const paused = channel.callback?.state === "paused";
  const canResume = paused || channel.callback?.state === "probed";
  const button = (action, text) =>
    el("button", { type: "button", class: "plain", "data-action": action, "data-channel": channel.id }, text);
  return el("footer", {},
    el("a", { href: `#/failures/${encodeURIComponent(channel.id)}` }, "Failed deliveries"),
    mayAct && !paused && button("pause", "Pause"),
    mayAct && canResume && button("resume", "Resume"),
    mayAct && button("replay", "Replay…"));
}

function card(channel, { now, may_act }) {
  const { callback, deliveries } = channel;
  return el("article", { class: "card", "data-row": channel.id, "data-channel": channel.id, "data-callback": callback?.state },
    el("header", {}, el("h3", {}, channel.id), callbackMark(channel)),
    facts([
      waitingRow("Requests for the Cloud", channel.requests, now),
      waitingRow("Users with pending events", channel.lanes, now),
      callback?.paused_at && ["Paused", ago(callback.paused_at, now)],
      deliveries && channel.has_callback && ["Pending", el("span", { "data-count": "pending" }, number(deliveries.pending, deliveries.most))],
      deliveries && channel.has_callback && ["Failed", el("span", { "data-count": "failed" }, number(deliveries.failed, deliveries.most))],
      deliveries && channel.has_callback && ["Delivered", el("span", { "data-count": "delivered" }, number(deliveries.delivered)),
        el("span", { class: "quiet" }, `of the newest ${number(deliveries.recent)} events`)],
      ["Account", channel.account_id],
    ]),
    channel.has_callback && buttons(channel, may_act));
}

/** Shows the channels. */
export function showChannels(overview) {
  show(byId("channels"), overview.channels.map((channel) => card(channel, overview)));
}

/** Fills a select with the channels that have a callback, and keeps the selection. */
export function offerChannels(select, channels) {
  const offered = channels.filter((channel) => channel.has_callback).map((channel) => channel.id);
  const chosen = select.value;
  show(select, offered.map((id) => el("option", { value: id }, id)));
  if (offered.includes(chosen)) {
    select.value = chosen;
  }
}
