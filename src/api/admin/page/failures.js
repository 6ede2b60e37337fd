// The failed deliveries to a channel, a page at a time.

import { get } from "./api.js";
import { canDeliverAgain } from "./channels.js";
import { byId, cell, el, show, table } from "./dom.js";
import { ago, answer, moment } from "./words.js";

const PAGE_SIZE = 50;

/** The cursor at which the page begins; null for the newest deliveries. */
let before = null;
let next = null;

function row(delivery, channel, overview) {
  const { now } = overview;
  const last = delivery.last_try;
  const id = delivery.event_id;
  return el("tr", { "data-row": id, "data-event": id },
    el("th", { scope: "row", "data-head": "Event" }, el("div", {},
      el("a", { class: "mono", href: `#/timeline/${id}` }, id), el("span", { class: "quiet" }, delivery.type))),
    cell("User", delivery.user_id),
    cell("Occurred", el("time", { datetime: delivery.created_at, title: moment(delivery.created_at) }, ago(delivery.created_at, now))),
    cell("Reason", delivery.failure ?? "unknown"),
    cell("Last answer", answer(last), last && el("span", { class: "quiet" }, ago(last.at, now))),
    el("td", { class: "number", "data-head": "Attempts" }, el("div", {}, delivery.attempts)),
    el("td", { class: "acts" }, canDeliverAgain(overview, channel, delivery.type)
      && el("button", { type: "button", class: "plain", "data-action": "retry", "data-event": id, "data-channel": channel }, "Deliver again")));
}

/** Shows the current page. */
export async function showFailures(overview) {
  const channel = byId("failures-channel").value;
  if (!channel) {
    show(byId("failures"), el("p", { class: "empty" }, "No channel has a callback URL, so no events are delivered."));
    return;
  }
  const query = new URLSearchParams({ channel, state: "failed", limit: PAGE_SIZE });
  if (before) {
    query.set("before", before);
  }
  const page = await get(`deliveries?${query}`);
  if (byId("failures-channel").value !== channel) {
    return;
  }
  next = page.next ?? null;
  byId("failures-older").hidden = !next;
  byId("failures-newest").hidden = !before;
  const rows = page.deliveries.map((delivery) => row(delivery, channel, overview));
  show(byId("failures"), rows.length > 0
    ? table("Failed deliveries", ["Event", "User", "Occurred", "Reason", "Last answer", "Attempts", ""], rows)
    : el("p", { class: "empty" }, "No failed deliveries."));
}

/** Selects the page with older deliveries. */
export function selectOlder() {
  before = next ?? before;
}

/** Selects the page with the newest deliveries. */
export function selectNewest() {
  before = null;
}
