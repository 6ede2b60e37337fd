// One event or one queued message, with its timeline.

import { ApiError, get, post } from "./api.js";
import { detailsOf } from "./audit.js";
import { canDeliverAgain } from "./channels.js";
import { byId, el, facts, mark, show } from "./dom.js";
import { showUser } from "./user.js";
import { ago, answer, moment, period, toneOf } from "./words.js";

/** The event whose text the operator asked for. It is shown until another id is opened. */
let shownText = null;

/**
 * Shows steps in a row that are alike as one. A step that may have others like it has a name that
 * they share (`like`), and a function that makes the title and the details of all (`all`).
 */
function step(alike, now) {
  const [first, last] = [alike[0], alike.at(-1)];
  const { title, more } = alike.length > 1 ? first.all(alike) : first;
  const time = alike.length > 1 ? period(first.at, last.at) : moment(first.at);
  return el("li", { "data-tone": first.tone },
    el("p", {}, el("strong", {}, title), more ? `: ${more}` : ""),
    el("p", { class: "quiet" }, el("time", { datetime: last.at }, time), ` · ${ago(last.at, now)}`));
}

function steps(items, now) {
  const ordered = items.sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
  const groups = [];
  for (const item of ordered) {
    const group = groups.at(-1);
    if (item.like && group?.[0].like === item.like) {
      group.push(item);
    } else {
      groups.push([item]);
    }
  }
  return el("section", { class: "card", "aria-label": "Steps" },
    el("ol", { class: "steps" }, groups.map((group) => step(group, now))));
}

function attemptStep(attempt) {
  const outcome = answer(attempt);
  return {
    at: attempt.at,
    title: `Attempt ${attempt.number} ${outcome}`,
    more: `${attempt.duration_ms} ms`,
    tone: attempt.status >= 200 && attempt.status < 300 ? "good" : "bad",
    like: outcome,
    attempt,
    all: (alike) => {
      const attempts = alike.map((it) => it.attempt);
      const longest = Math.max(...attempts.map((it) => it.duration_ms));
      return {
        title: `Attempts ${attempts[0].number} to ${attempts.at(-1).number} ${outcome}`,
        more: `at most ${longest} ms`,
      };
    },
  };
}

function eventSteps({ event, delivery, actions }) {
  const attempts = (delivery?.attempts ?? []).map(attemptStep);
  const taken = actions.map((entry) => ({ at: entry.at, title: `${entry.action} by ${entry.actor}`, more: detailsOf(entry) }));
  return [{ at: delivery?.created_at ?? event.occurred_at, title: "Occurred", more: event.type }, ...attempts, ...taken];
}

function eventView(shown, id, overview) {
  const { event, delivery, channel } = shown;
  const { now, can_act } = overview;
  const button = (action, text) =>
    el("button", { type: "button", class: "plain", "data-action": action, "data-event": id, "data-channel": channel }, text);
  const text = shownText?.id === id ? shownText.event : null;
  return el("div", { class: "case", "data-row": id, "data-case": id },
    el("section", { class: "card", "aria-label": "Event" },
      el("header", {}, el("h2", {}, event.type), delivery && mark(delivery.state, toneOf(delivery.state))),
      facts([
        ["Direction", "event to the channel"],
        ["ID", el("span", { class: "mono" }, id)],
        ["Channel", channel],
        ["User", text ? text.user_id : event.user_id],
        event.conversation_id && ["Conversation", el("span", { class: "mono" }, event.conversation_id)],
        !delivery && ["Delivery", "none: the channel had no callback URL"],
        delivery?.failure && ["Failed", delivery.failure],
        delivery?.state === "pending" && delivery.deliver_until && ["Retried until", moment(delivery.deliver_until)],
        shown.trace_id && ["Trace", el("span", { class: "mono" }, shown.trace_id)],
      ]),
      el("details", { open: true }, el("summary", {}, text ? "The event as the channel receives it" : "The event without its text"),
        el("pre", { tabindex: "0", "data-body": text ? "whole" : "masked" }, JSON.stringify(text ?? event, null, 2))),
      can_act && el("footer", {},
        delivery && canDeliverAgain(overview, channel, event.type) && button("retry", "Deliver again"),
        !text && button("read", "Show the text…"))),
    steps(eventSteps(shown), now));
}

const STEPS = {
  accepted: ["Accepted", undefined], postponed: ["Postponed", "warn"], unknown: ["Outcome unknown", "warn"],
  sent: ["Sent to the Cloud", "good"], failed: ["Failed", "bad"],
};

function messageView(message, { now }) {
  const items = message.timeline.map(({ at, what, why }) => {
    const [title, tone] = STEPS[what] ?? [what, undefined];
    const all = (alike) => ({ title: `${title} ${alike.length} times`, more: why });
    return { at, title, more: why, tone, like: `${what} ${why}`, all };
  });
  const { failure } = message;
  return el("div", { class: "case", "data-row": message.id, "data-case": message.id },
    el("section", { class: "card", "aria-label": "Message" },
      el("header", {}, el("h2", {}, message.file_type ? `File (${message.file_type})` : "Queued request"), mark(message.state, toneOf(message.state))),
      facts([
        ["Direction", "request to the Cloud"],
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

/** Shows the event or message with this id; without an id, the user that was looked up last. */
export async function showTimeline(id, overview) {
  if (shownText && shownText.id !== id) {
    shownText = null;
  }
  const container = byId("timeline");
  if (!id) {
    if (!showUser(container, overview)) {
      show(container, el("p", { class: "empty" }, "The ID of an event begins with evt_, the ID of a queued message with msg_."));
    }
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
