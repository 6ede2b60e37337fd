// The replay of deliveries. Events are counted first, and replayed only after a confirmation.

import { post } from "./api.js";
import { offerChannels, queuedText, withCallback } from "./channels.js";
import { showMessage, withKey } from "./dialogs.js";
import { byId } from "./dom.js";
import { counted, number } from "./words.js";

const DAY_MS = 24 * 60 * 60 * 1000;

/** The request whose events were counted. It is sent when the operator confirms. */
let prepared = null;

/** Formats a time for an input field in local time. */
function local(time) {
  const shifted = new Date(time - new Date(time).getTimezoneOffset() * 60000);
  return shifted.toISOString().slice(0, 19);
}

function request() {
  const until = byId("replay-until").value;
  const state = byId("replay-state").value;
  return {
    channel: byId("replay-channel").value,
    since: new Date(byId("replay-since").value).toISOString(),
    ...(until && { until: new Date(until).toISOString() }),
    ...(state && { state }),
  };
}

/** Forgets the request whose events were counted. */
function reset() {
  prepared = null;
  byId("replay-do").hidden = true;
  byId("replay-count").textContent = "";
  showMessage(byId("replay-error"), null);
}

/** Opens the dialog, with a channel preselected if one is given. */
export function openReplay(channel, overview) {
  const select = byId("replay-channel");
  offerChannels(select, withCallback(overview));
  if (channel) {
    select.value = channel;
  }
  byId("replay-since").value = local(Date.parse(overview.now) - DAY_MS);
  byId("replay-until").value = "";
  reset();
  byId("replay-dialog").showModal();
}

async function count() {
  reset();
  const selection = request();
  const answer = await withKey(() => post("replay", { ...selection, dry_run: true }));
  if (answer === undefined) {
    return;
  }
  const events = counted(answer.count, "event");
  byId("replay-count").textContent = answer.count === 0 ? "No events match." : `${events} would be delivered again.`;
  if (answer.count > 0) {
    prepared = selection;
    byId("replay-do").textContent = `Replay ${events}`;
    byId("replay-do").hidden = false;
  }
}

async function replay(overview) {
  const selection = prepared;
  reset();
  const answer = await withKey(() => post("replay", selection));
  if (answer !== undefined) {
    const isOne = answer.count === 1;
    byId("replay-count").textContent = queuedText(number(answer.count), selection.channel, overview, { isOne });
  }
}

async function attempt(action) {
  const buttons = [byId("replay-dry"), byId("replay-do")];
  buttons.forEach((button) => { button.disabled = true; });
  try {
    await action();
  } catch (error) {
    showMessage(byId("replay-error"), error.text ?? "Enter a date and a time.");
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

/** Replays the counted events. */
export function doReplay(overview) {
  return prepared ? attempt(() => replay(overview)) : undefined;
}

byId("replay-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(count);
});

byId("replay-form").addEventListener("input", reset);
