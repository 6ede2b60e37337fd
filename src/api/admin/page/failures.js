// Failed deliveries of a channel, a page at a time.

import { look } from "./api.js";
import { byId, el, show, table } from "./dom.js";
import { ago, answer, moment } from "./words.js";

const PAGE = 50;

/** Where the page begins; nothing: with the newest. */
let before = null;
let next = null;

const cell = (head, ...shown) => el("td", { "data-head": head }, el("div", {}, ...shown));

function row(delivery, now, mayAct) {
  const last = delivery.last_try;
  const id = delivery.event_id;
  return el("tr", { "data-row": id, "data-event": id },
    el("th", { scope: "row", "data-head": "Event" }, el("div", {},
      el("a", { class: "mono", href: `#/timeline/${id}` }, id), el("span", { class: "quiet" }, delivery.type))),
    cell("User", delivery.user_id),
    cell("Came up", el("time", { datetime: delivery.created_at, title: moment(delivery.created_at) }, ago(delivery.created_at, now))),
    cell("Why", delivery.failure ?? "unknown"),
    cell("Last answer", answer(last), last && el("span", { class: "quiet" }, ago(last.at, now))),
    el("td", { class: "number", "data-head": "Tries" }, el("div", {}, delivery.attempts)),
    el("td", { class: "acts" }, mayAct && el("button", { type: "button", class: "plain", "data-action": "retry", "data-event": id }, "Deliver again")));
}

/** Shows the page that is looked at. */
export async function showFailures({ now, may_act }) {
  const channel = byId("failures-channel").value;
  if (!channel) {
    show(byId("failures"), el("p", { class: "empty" }, "No channel has a callback URL, so nothing is delivered by itself."));
    return;
  }
  const query = new URLSearchParams({ channel, state: "failed", limit: PAGE });
  if (before) {
    query.set("before", before);
  }
  const page = await look(`deliveries?${query}`);
  if (byId("failures-channel").value !== channel) {
    return;
  }
  next = page.next ?? null;
  byId("failures-older").hidden = !next;
  byId("failures-newest").hidden = !before;
  const rows = page.deliveries.map((delivery) => row(delivery, now, may_act));
  show(byId("failures"), rows.length > 0
    ? table("Failed deliveries", ["Event", "User", "Came up", "Why", "Last answer", "Tries", ""], rows)
    : el("p", { class: "empty" }, "Nothing has failed here."));
}

/** Turns to the page of older ones. */
export function turnToOlder() {
  before = next ?? before;
}

/** Turns back to the newest. */
export function turnToNewest() {
  before = null;
}
