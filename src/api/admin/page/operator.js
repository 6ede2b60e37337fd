// The operator's page: navigation, actions, and a refresh every two seconds while the page is
// visible.

import { get, post, storeKey } from "./api.js";
import { showAudit } from "./audit.js";
import { offerChannels, showChannels } from "./channels.js";
import { askForKey, confirm, showKey, showMessage } from "./dialogs.js";
import { byId } from "./dom.js";
import { selectNewest, selectOlder, showFailures } from "./failures.js";
import { showOverview } from "./overview.js";
import { doReplay, openReplay } from "./replay.js";
import { readText, showTimeline } from "./timeline.js";

/** 2 s: the interval between refreshes while the page is visible. */
const REFRESH_INTERVAL_MS = 2000;

const PARTS = ["overview", "failures", "timeline", "audit"];

/** The last overview that the service sent. */
let overview = null;
let shownRoute = null;
let refreshing = null;
let refreshAgain = false;

/** The part of the page that the address names, and its subject, such as an event's id. */
/** Decodes a part of the URL; text with a broken percent-encoding is returned as it is. */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

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
      byId("search-id").value = subject;
    }
  }
}

/** Selects an option if it exists. */
function selectOption(select, value) {
  if ([...select.options].some((option) => option.value === value)) {
    select.value = value;
  }
}

function showLive(isLive) {
  const live = byId("live");
  const text = isLive ? "Live" : "Stale: no answer";
  live.dataset.live = isLive ? "live" : "stale";
  if (live.textContent !== text) {
    live.textContent = text;
  }
}

async function refreshOnce() {
  try {
    overview = await get("overview");
    showOverview(overview);
    showChannels(overview);
    offerChannels(byId("failures-channel"), overview.channels);
    showKey(overview.may_act);
    document.querySelector("section [data-action=replay]").hidden = !overview.may_act;
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
    showLive(true);
  } catch (error) {
    showLive(false);
    if (error.status === undefined) {
      throw error;
    }
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

/** Shows a success message above the current part. */
function showSuccess(text) {
  const notice = byId("notice");
  notice.dataset.tone = "good";
  showMessage(notice, text);
}

const CONFIRMATIONS = {
  pause: ({ channel }) => [{
    title: `Pause ${channel}?`, button: "Pause",
    text: "Nothing is sent to its callback URL until it is resumed. Events wait until then, or until they expire.",
  }, () => post("pause", { channel }), `Callbacks to ${channel} paused.`],
  resume: ({ channel }) => [{
    title: `Resume ${channel}?`, button: "Resume",
    text: "All waiting events are sent to its callback URL at once.",
  }, () => post("resume", { channel }), `Callbacks to ${channel} resumed.`],
  retry: ({ event }) => [{
    title: "Deliver again?", button: "Deliver again",
    text: `${event} is sent again, whatever its state, after the earlier events of the same user.`,
  }, () => post(`events/${encodeURIComponent(event)}/retry`), `${event} will be delivered again.`],
  read: ({ event }) => [{
    title: "Show the text?", button: "Show the text",
    text: "The text and the user are shown here. This is recorded in the audit log.",
  }, async () => { await readText(event); return true; }, null],
};

const ACTIONS = {
  key: () => askForKey(),
  close: (data, button) => button.closest("dialog").close(""),
  "forget-key": (data, button) => { storeKey(null); button.closest("dialog").close(""); },
  replay: ({ channel }) => overview && openReplay(channel ?? byId("failures-channel").value, overview),
  "replay-do": () => doReplay(),
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
      showSuccess(success);
    }
  } else {
    await ACTIONS[action]?.({ ...button.dataset }, button);
  }
  refresh();
});

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = `#/timeline/${encodeURIComponent(byId("search-id").value.trim())}`;
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
