// The operator's page: navigation, actions, and a refresh every two seconds while the page is
// visible.

import { get, post, storeKey } from "./api.js";
import { showAudit } from "./audit.js";
import { offerChannels, queuedText, showChannels, withCallback } from "./channels.js";
import { askForKey, confirm, showKey, showMessage, withKey } from "./dialogs.js";
import { byId } from "./dom.js";
import { selectNewest, selectOlder, showFailures } from "./failures.js";
import { showOverview } from "./overview.js";
import { doReplay, openReplay } from "./replay.js";
import { showSummary } from "./summary.js";
import { readText, showTimeline } from "./timeline.js";
import { findUser, foundUser } from "./user.js";

/** 2 s: the interval between refreshes while the page is visible. */
const REFRESH_INTERVAL_MS = 2000;

const PARTS = ["overview", "failures", "timeline", "audit"];

/** The last overview that the service sent, and if it can carry out actions (`can_act`). */
let overview = null;
let shownRoute = null;
let refreshing = null;
let refreshAgain = false;

/** Decodes a part of the URL; text with a broken percent-encoding is returned as it is. */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The part of the page that the address names, and its subject, such as an event's id. */
function currentRoute() {
  const [part, ...segments] = location.hash.replace(/^#\//, "").split("/");
  const subject = decode(segments.join("/"));
  return PARTS.includes(part) ? { part, subject } : { part: "overview", subject: "" };
}

function showPart({ part, subject }) {
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.dataset.part !== part;
  }
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${part}`) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  const route = `${part}/${subject}`;
  if (route !== shownRoute) {
    shownRoute = route;
    selectNewest();
    showMessage(byId("notice"), null);
    if (part === "timeline") {
      byId("search-id").value = subject || (foundUser() ?? "");
    }
  }
}

/** Selects an option if it exists. */
function selectOption(select, value) {
  if ([...select.options].some((option) => option.value === value)) {
    select.value = value;
  }
}

const LIVE = { live: "Live", partial: "Live, without the database", stale: "Stale: no answer" };

/** Shows how current the page is: one of the names above. */
function showLive(state) {
  const live = byId("live");
  live.dataset.live = state;
  if (live.textContent !== LIVE[state]) {
    live.textContent = LIVE[state];
  }
}

/** Shows the current part of the page. */
async function refreshPart() {
  const { part, subject } = currentRoute();
  showPart({ part, subject });
  if (part === "failures") {
    selectOption(byId("failures-channel"), subject);
    await showFailures(overview);
  } else if (part === "timeline") {
    await showTimeline(subject, overview);
  } else if (part === "audit") {
    await showAudit(overview);
  }
}

async function refreshOnce() {
  let state = "stale";
  try {
    const answer = await get("overview");
    overview = { ...answer, can_act: answer.may_act && answer.database.writable };
    showSummary(overview);
    showOverview(overview);
    showChannels(overview);
    offerChannels(byId("failures-channel"), withCallback(overview));
    offerChannels(byId("search-channel"), overview.channels);
    showKey(overview.may_act);
    const canReplay = overview.can_act && withCallback(overview).length > 0;
    document.querySelector("section [data-action=replay]").hidden = !canReplay;
    state = overview.database.answers ? "live" : "partial";
    await refreshPart();
  } catch (error) {
    // Without the database, a part of the page has no data.
    state = state === "partial" && error.status === 503 ? state : "stale";
    if (error.status === undefined) {
      throw error;
    }
  } finally {
    showLive(state);
  }
}

/** Refreshes now. A refresh that is already running is followed by another one. */
async function refresh() {
  refreshAgain = true;
  if (refreshing) {
    return refreshing;
  }
  refreshing = (async () => {
    while (refreshAgain) {
      refreshAgain = false;
      await refreshOnce();
    }
  })().finally(() => { refreshing = null; });
  return refreshing;
}

/** Shows a message above the current part: of success (good) or of a failure (bad). */
function showNotice(text, tone) {
  const notice = byId("notice");
  notice.dataset.tone = tone;
  showMessage(notice, text);
}

/** Looks a user up, and shows the result. */
async function lookUp(channel, id) {
  if (!overview?.can_act) {
    showNotice(overview && !overview.may_act
      ? "A user can be looked up only if operator_keys are configured. The ID of an event begins with evt_, the ID of a queued message with msg_."
      : "The database is not available, so no user can be looked up.", "bad");
    return;
  }
  try {
    if (await withKey(() => findUser(channel, id, overview.now))) {
      showNotice(null, "good");
      location.hash = "#/timeline";
    }
  } catch (error) {
    showNotice(error.text ?? String(error), "bad");
  }
}

const CONFIRMATIONS = {
  pause: ({ channel }) => [{
    title: `Pause ${channel}?`, button: "Pause",
    text: "Nothing is sent to its callback URL until it is resumed. Events wait until then, or until they expire.",
  }, () => post("pause", { channel }), () => `Callbacks to ${channel} paused.`],
  resume: ({ channel }) => [{
    title: `Resume ${channel}?`, button: "Resume",
    text: "All waiting events are sent to its callback URL at once.",
  }, () => post("resume", { channel }), () => `Callbacks to ${channel} resumed.`],
  retry: ({ event, channel }) => [{
    title: "Deliver again?", button: "Deliver again",
    text: `${event} is sent again, whatever its state, after the earlier events of the same user.`,
  }, () => post(`events/${encodeURIComponent(event)}/retry`), () => queuedText(event, channel, overview, { isOne: true })],
  read: ({ event }) => [{
    title: "Show the text?", button: "Show the text",
    text: "The text and the user are shown here. This is recorded in the audit log.",
  }, async () => { await readText(event); return true; }, null],
};

const ACTIONS = {
  key: () => askForKey(),
  close: (data, button) => button.closest("dialog").close(""),
  "forget-key": (data, button) => { storeKey(null); button.closest("dialog").close(""); },
  "find-user": ({ channel, user }) => lookUp(channel, user),
  replay: ({ channel }) => overview && openReplay(channel ?? byId("failures-channel").value, overview),
  "replay-do": () => doReplay(overview),
  "failures-older": selectOlder,
  "failures-newest": selectNewest,
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) {
    return;
  }
  const { action } = button.dataset;
  const confirmation = CONFIRMATIONS[action];
  if (confirmation) {
    const [dialog, perform, success] = confirmation({ ...button.dataset });
    if (await confirm(dialog, perform) && success) {
      showNotice(success(), "good");
    }
  } else {
    await ACTIONS[action]?.({ ...button.dataset }, button);
  }
  refresh();
});

byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("search-id").value.trim();
  if (text === "" || /^(evt|msg)_/.test(text)) {
    location.hash = `#/timeline/${encodeURIComponent(text)}`;
  } else {
    await lookUp(byId("search-channel").value, text);
    refresh();
  }
});

byId("failures-channel").addEventListener("change", (event) => {
  location.hash = `#/failures/${encodeURIComponent(event.target.value)}`;
});

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#/")) {
    showPart(currentRoute());
    refresh();
  }
});

document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());

setInterval(() => document.visibilityState === "visible" && refresh(), REFRESH_INTERVAL_MS);
showPart(currentRoute());
refresh();
