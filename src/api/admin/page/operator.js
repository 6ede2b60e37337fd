// The operator's page: navigation, actions, and a refresh every two seconds while the page is
// visible.

import { act, keepKey, look } from "./api.js";
import { showAudit } from "./audit.js";
import { offerChannels, showChannels } from "./channels.js";
import { askForKey, confirm, showKey, tell } from "./dialogs.js";
import { byId } from "./dom.js";
import { showFailures, turnToNewest, turnToOlder } from "./failures.js";
import { showOverview } from "./overview.js";
import { doReplay, openReplay } from "./replay.js";
import { readText, showTimeline } from "./timeline.js";

/** 2 s: the interval between refreshes while the page is visible. */
const EVERY = 2000;

const PARTS = ["overview", "failures", "timeline", "audit"];

/** The last overview that the service sent. */
let overview = null;
let shownPart = null;
let looking = null;
let again = false;

/** The part of the page that the address names, and the rest of the address. */
function place() {
  const [part, ...rest] = location.hash.replace(/^#\//, "").split("/");
  const of = decodeURIComponent(rest.join("/"));
  return PARTS.includes(part) ? { part, of } : { part: "overview", of: "" };
}

function showPart({ part, of }) {
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
  const whole = `${part}/${of}`;
  if (whole !== shownPart) {
    shownPart = whole;
    turnToNewest();
    tell(byId("notice"), null);
    if (part === "timeline") {
      byId("search-id").value = of;
    }
  }
}

/** Selects an option if it exists. */
function choose(select, value) {
  if ([...select.options].some((option) => option.value === value)) {
    select.value = value;
  }
}

function showLive(isLive) {
  const live = byId("live");
  const words = isLive ? "Live" : "Stale: no answer";
  live.dataset.live = isLive ? "live" : "stale";
  if (live.textContent !== words) {
    live.textContent = words;
  }
}

async function refreshOnce() {
  try {
    overview = await look("overview");
    showOverview(overview);
    showChannels(overview);
    offerChannels(byId("failures-channel"), overview.channels);
    showKey(overview.may_act);
    document.querySelector("section [data-action=replay]").hidden = !overview.may_act;
    const { part, of } = place();
    showPart({ part, of });
    if (part === "failures") {
      choose(byId("failures-channel"), of);
      await showFailures(overview);
    } else if (part === "timeline") {
      await showTimeline(of, overview);
    } else if (part === "audit") {
      await showAudit(overview);
    }
    showLive(true);
  } catch (refusal) {
    showLive(false);
    if (refusal.status === undefined) {
      throw refusal;
    }
  }
}

/** Refreshes now. A refresh that is already running is followed by another one. */
async function refresh() {
  again = true;
  if (looking) {
    return looking;
  }
  looking = (async () => {
    while (again) {
      again = false;
      await refreshOnce();
    }
  })().finally(() => { looking = null; });
  return looking;
}

/** Shows a success message above the current part. */
function done(words) {
  const notice = byId("notice");
  notice.dataset.tone = "good";
  tell(notice, words);
}

const QUESTIONS = {
  pause: ({ channel }) => [{
    title: `Pause ${channel}?`, button: "Pause",
    text: "Nothing is sent to its callback URL until it is resumed. Events wait until then, or until they expire.",
  }, () => act("pause", { channel }), `Callbacks to ${channel} paused.`],
  resume: ({ channel }) => [{
    title: `Resume ${channel}?`, button: "Resume",
    text: "All waiting events are sent to its callback URL at once.",
  }, () => act("resume", { channel }), `Callbacks to ${channel} resumed.`],
  retry: ({ event }) => [{
    title: "Deliver again?", button: "Deliver again",
    text: `${event} is sent again, whatever its state, after the earlier events of the same user.`,
  }, () => act(`events/${encodeURIComponent(event)}/retry`), `${event} will be delivered again.`],
  read: ({ event }) => [{
    title: "Show the text?", button: "Show the text",
    text: "The text and the user are shown here. This is recorded in the audit log.",
  }, async () => { await readText(event); return true; }, null],
};

const ACTIONS = {
  key: () => askForKey(),
  close: (data, button) => button.closest("dialog").close(""),
  "forget-key": (data, button) => { keepKey(null); button.closest("dialog").close(""); },
  replay: ({ channel }) => overview && openReplay(channel ?? byId("failures-channel").value, overview),
  "replay-do": () => doReplay(),
  "failures-older": turnToOlder,
  "failures-newest": turnToNewest,
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) {
    return;
  }
  const { action } = button.dataset;
  const question = QUESTIONS[action];
  if (question) {
    const [words, work, told] = question({ ...button.dataset });
    if (await confirm(words, work) && told) {
      done(told);
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
    showPart(place());
    refresh();
  }
});

document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());

setInterval(() => document.visibilityState === "visible" && refresh(), EVERY);
showPart(place());
refresh();
