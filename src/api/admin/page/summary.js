// The line on top of every part: if the service is ready, and the problems that exist anyway.

import { byId, el, show } from "./dom.js";
import { cloudError, counted, number } from "./words.js";

/** 1 minute: an older error counts as over, since a later call would have failed as well. */
const RECENT_ERROR_SECONDS = 60;

/** 10 minutes: refusals count for longer, since the Cloud repeats them at growing intervals. */
const RECENT_REFUSAL_SECONDS = 600;

/** The number of names that are listed; further ones are only counted. */
const MAX_NAMES = 3;

function isRecent(time, now, seconds) {
  return (Date.parse(now) - Date.parse(time)) / 1000 < seconds;
}

/** True if the Cloud failed the account within the last minute. */
export function hasRecentError({ last_trouble: last }, now) {
  return Boolean(last) && isRecent(last.at, now, RECENT_ERROR_SECONDS);
}

/** True if notifications for the account were refused within the last ten minutes. */
export function hasRecentRefusal({ rejected_notifications: rejected }, now) {
  return rejected.some((it) => it.refused && isRecent(it.last_at, now, RECENT_REFUSAL_SECONDS));
}

function names(items) {
  const shown = items.slice(0, MAX_NAMES).map((item) => item.id);
  const more = items.length - shown.length;
  return new Intl.ListFormat("en").format(more > 0 ? [...shown, `${number(more)} more`] : shown);
}

function callbacks(channels) {
  const inState = (state) => channels.filter(({ callback }) => callback?.state === state);
  const [paused, probed, failing] = ["paused", "probed", "failing"].map(inState);
  const ofThese = (these) => `the callback${these.length === 1 ? "" : "s"} of ${names(these)}`;
  return [
    paused.length > 0 && { text: `${names(paused)} ${paused.length === 1 ? "is" : "are"} paused` },
    probed.length > 0 && { text: `${ofThese(probed)} ${probed.length === 1 ? "is" : "are"} unreachable` },
    failing.length > 0 && { text: `${ofThese(failing)} ${failing.length === 1 ? "fails" : "fail"}` },
  ];
}

function failures(channels) {
  const failed = channels.filter((channel) => channel.deliveries?.failed > 0);
  const sum = failed.reduce((total, { deliveries }) => total + deliveries.failed, 0);
  const isCut = failed.some(({ deliveries }) => deliveries.failed >= deliveries.most);
  return failed.length > 0 && {
    text: `${number(sum)}${isCut ? "+" : ""} deliver${sum === 1 ? "y" : "ies"} to ${names(failed)} failed`,
    link: `#/failures/${encodeURIComponent(failed[0].id)}`,
  };
}

function account(it, now) {
  const away = it.hosts_away.length;
  const last = it.last_trouble;
  return [
    away > 0 && { text: `${counted(away, "host")} of the Cloud ${away === 1 ? "is" : "are"} unreachable (account ${it.id})` },
    away === 0 && hasRecentError(it, now) && { text: `the Cloud ${cloudError(last.error)} (account ${it.id})` },
    hasRecentRefusal(it, now) && { text: `notifications are refused (account ${it.id})` },
  ];
}

/** The problems of a service that may be ready: texts, each with a link if a part shows more. */
export function troubles({ accounts, channels, now }) {
  return [
    ...callbacks(channels),
    failures(channels),
    ...accounts.flatMap((it) => account(it, now)),
  ].filter(Boolean);
}

/** Shows the line. */
export function showSummary(overview) {
  const found = troubles(overview);
  const line = byId("summary");
  line.hidden = false;
  line.dataset.tone = !overview.ready ? "bad" : found.length > 0 ? "warn" : "good";
  const causes = [...overview.reasons.map((text) => ({ text })), ...found];
  const shown = causes.flatMap(({ text, link }, index) =>
    [index > 0 && "; ", link ? el("a", { href: link }, text) : text]);
  const standing = !overview.ready ? "Not ready: " : found.length > 0 ? "Ready, but: " : "Ready, and nothing needs attention";
  show(line, el("strong", {}, standing), ...shown, ".");
}
