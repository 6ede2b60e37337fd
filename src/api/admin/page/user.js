// The recent requests and events of a user. Each look-up is recorded in the audit log, so the page
// does not repeat it by itself, and shows its result until the next one.

import { post } from "./api.js";
import { cell, el, facts, mark, show, table } from "./dom.js";
import { ago, moment, number, toneOf } from "./words.js";

/** The last look-up; null if there was none. */
let found = null;

const REQUESTS = { text: "Text", file: "File", receipts: "Receipts", close: "Close", rating: "Rating" };

/** Looks a user up in the namespace of a channel. */
export async function findUser(channel, id, now) {
  found = { channel, id, at: now, timeline: await post("users/timeline", { channel, user_id: id }) };
  return true;
}

/** The user of the last look-up; undefined if there was none. */
export function foundUser() {
  return found?.id;
}

function row({ item, direction, what, state }, now) {
  return el("tr", { "data-row": item.id, "data-item": item.id },
    cell("Time", el("time", { datetime: item.created_at, title: moment(item.created_at) }, ago(item.created_at, now))),
    el("th", { scope: "row", "data-head": "What" }, el("div", {}, el("a", { href: `#/timeline/${item.id}` }, what),
      el("span", { class: "quiet" }, direction))),
    cell("Channel", item.channel),
    cell("State", state ? mark(state, toneOf(state)) : "no callback URL"),
    el("td", { class: "number", "data-head": "Attempts" }, el("div", {}, number(item.attempts))));
}

function rows({ requests, events }, now) {
  const all = [
    ...requests.map((item) => ({ item, direction: "request to the Cloud", what: REQUESTS[item.kind] ?? item.kind, state: item.state })),
    ...events.map((item) => ({ item, direction: "event to the channel", what: item.type, state: item.delivery })),
  ];
  all.sort((one, other) => Date.parse(other.item.created_at) - Date.parse(one.item.created_at));
  return all.map((it) => row(it, now));
}

function list({ timeline, channel }, now) {
  if (!timeline.known) {
    return el("p", { class: "empty" }, `The bridge does not know this user in the namespace of ${channel}.`);
  }
  const shown = rows(timeline, now);
  return shown.length > 0
    ? table("Requests and events of the user", ["Time", "What", "Channel", "State", "Attempts"], shown)
    : el("p", { class: "empty" }, `No requests and events of the last ${timeline.days} days.`);
}

/** Shows the last look-up; returns false if there was none. */
export function showUser(container, { now, can_act }) {
  if (!found) {
    return false;
  }
  const { id, channel, at, timeline } = found;
  show(container, el("div", { "data-row": id, "data-user": id },
    el("section", { class: "card", "aria-label": "User" },
      el("header", {}, el("h2", {}, id)),
      facts([
        ["Channel", channel],
        ["Looked up", ago(at, now)],
        ["Listed", `newest ${timeline.most} requests and events of ${timeline.days} days`,
          el("span", { class: "quiet" }, "Requests that the Cloud accepted at once are not stored.")],
      ]),
      can_act && el("footer", {}, el("button", { type: "button", class: "plain", "data-action": "find-user",
        "data-channel": channel, "data-user": id }, "Look up again"))),
    list(found, now)));
  return true;
}
