// One event or one queued message, with its timeline.

import { ApiError, get, post } from "./api.js";
import { detailsOf } from "./audit.js";
import { byId, el, facts, mark, show } from "./dom.js";
import { ago, answer, moment, toneOf } from "./words.js";

/** The event whose text the operator asked for. It is shown until another id is opened. */
let shownText = null;

function step({ at, title, more, tone }, now) {
  return el("li", { "data-tone": tone },
    el("p", {}, el("strong", {}, title), more ? `: ${more}` : ""),
    el("p", { class: "quiet" }, el("time", { datetime: at }, moment(at)), ` · ${ago(at, now)}`));
}

function steps(items, now) {
  const ordered = items.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
  return el("section", { class: "card", "aria-label": "Timeline" },
    el("ol", { class: "steps" }, ordered.map((item) => step(item, now))));
}

function eventSteps({ event, delivery, actions }) {
  const attempts = (delivery?.attempts ?? []).map((attempt) => ({
    at: attempt.at,
    title: `Attempt ${attempt.number} ${answer(attempt)}`,
    more: `${attempt.duration_ms} ms`,
    tone: attempt.status >= 200 && attempt.status < 300 ? "good" : "bad",
  }));
  const taken = actions.map((entry) => ({ at: entry.at, title: `${entry.action} by ${entry.actor}`, more: detailsOf(entry) }));
  return [{ at: delivery?.created_at ?? event.occurred_at, title: "Occurred", more: event.type }, ...attempts, ...taken];
}

function eventView(shown, id, { now, may_act }) {
  const { event, delivery } = shown;
  const button = (action, text) => el("button", { type: "button", class: "plain", "data-action": action, "data-event": id }, text);
  const text = shownText?.id === id ? shownText.event : null;
  return el("div", { class: "case", "data-row": id, "data-case": id },
    el("section", { class: "card", "aria-label": "Event" },
      el("header", {}, el("h3", {}, event.type), delivery && mark(delivery.state, toneOf(delivery.state))),
      facts([
        ["ID", el("span", { class: "mono" }, id)],
        ["Channel", shown.channel],
        ["User", text ? text.user_id : event.user_id],
        event.conversation_id && ["Conversation", el("span", { class: "mono" }, event.conversation_id)],
        !delivery && ["Delivery", "none: the channel had no callback URL"],
        delivery?.failure && ["Failed", delivery.failure],
        delivery?.state === "pending" && delivery.deliver_until && ["Retried until", moment(delivery.deliver_until)],
        shown.trace_id && ["Trace", el("span", { class: "mono" }, shown.trace_id)],
      ]),
      el("details", { open: true }, el("summary", {}, text ? "The event as the channel receives it" : "The event without its text"),
        el("pre", { tabindex: "0", "data-body": text ? "whole" : "masked" }, JSON.stringify(text ?? event, null, 2))),
      may_act && el("footer", {}, delivery && button("retry", "Deliver again"), !text && button("read", "Show the text…"))),
    steps(eventSteps(shown), now));
}

const STEPS = {
  accepted: ["Accepted", undefined], postponed: ["Postponed", "warn"], unknown: ["Outcome unknown", "warn"],
  sent: ["Sent to the Cloud", "good"], failed: ["Failed", "bad"],
};

function messageView(message, { now }) {
  const items = message.timeline.map(({ at, what, why }) => {
    const [title, tone] = STEPS[what] ?? [what, undefined];
    return { at, title, more: why, tone };
  });
  const { failure } = message;
  return el("div", { class: "case", "data-row": message.id, "data-case": message.id },
    el("section", { class: "card", "aria-label": "Message" },
      el("header", {}, el("h3", {}, message.file_type ? `File (${message.file_type})` : "Queued request"), mark(message.state, toneOf(message.state))),
      facts([
        ["ID", el("span", { class: "mono" }, message.id)],
        ["Channel", message.channel],
        ["User", message.user_id],
        message.conversation_id && ["Conversation", el("span", { class: "mono" }, message.conversation_id)],
        message.sequences.length > 0 && ["Sequences", message.sequences.join(", ")],
        ["Received", moment(message.created_at)],
        failure && ["Failed", [failure.code, failure.upstream_status, failure.upstream_code].filter(Boolean).join(", ")],
        message.trace_id && ["Trace", el("span", { class: "mono" }, message.trace_id)],
      ])),
    steps(items, now));
}

/** Shows the event or message with this id. */
export async function showTimeline(id, overview) {
  if (shownText && shownText.id !== id) {
    shownText = null;
  }
  const container = byId("timeline");
  if (!id) {
    show(container, el("p", { class: "empty" }, "The ID of an event begins with evt_, the ID of a queued message with msg_."));
    return;
  }
  const path = encodeURIComponent(id);
  try {
    const isMessage = id.startsWith("msg_");
    const shown = await get(isMessage ? `messages/${path}` : `events/${path}`);
    show(container, isMessage ? messageView(shown, overview) : eventView(shown, id, overview));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) {
      throw error;
    }
    show(container, el("p", { class: "empty", "data-missing": id }, error.text));
  }
}

/** Fetches the text of an event, which the audit log records. */
export async function readText(id) {
  const { event } = await post(`events/${encodeURIComponent(id)}/text`);
  shownText = { id, event };
}
