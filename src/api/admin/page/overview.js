// The replica, its database and the accounts.

import { byId, el, facts, mark, show } from "./dom.js";
import { hasRecentError, hasRecentRefusal, troubles } from "./summary.js";
import { ago, cloudError, counted, duration, rejection } from "./words.js";

function tile(name, shown, more) {
  return el("dl", { class: "tile" }, el("dt", {}, name), el("dd", {}, shown), more && el("dd", {}, more));
}

function service(overview) {
  const found = troubles(overview).length;
  if (!overview.ready) {
    return tile("Service", mark("Not ready", "bad"), overview.reasons.join("; "));
  }
  return found > 0
    ? tile("Service", mark("Ready", "warn"), `${counted(found, "problem")}, listed above`)
    : tile("Service", mark("Ready", "good"));
}

function databaseState(database) {
  if (!database.answers) {
    return "does not answer";
  }
  return database.writable ? "answers" : "accepts no writes";
}

function replica(overview) {
  const { database } = overview;
  const pools = database.connections.map((pool) => `${pool.pool}: ${pool.in_use} in use, ${pool.idle} idle`);
  return [
    service(overview),
    tile("Version", overview.version, "of this replica"),
    tile("Uptime", duration((Date.parse(overview.now) - Date.parse(overview.started_at)) / 1000), "of this replica"),
    tile("Database", database.engine, databaseState(database)),
    tile("Connections", String(database.connections.reduce((sum, pool) => sum + pool.in_use + pool.idle, 0)), pools.join("; ")),
  ];
}

/** Rows for the notifications that were not used, by reason. */
function rejections(list, now) {
  return list.map((it) => [
    "From the Cloud",
    `${counted(it.count, "notification")} ${it.refused ? "refused" : "ignored"}, the last ${ago(it.last_at, now)}: ${rejection(it.reason)}`,
  ]);
}

/** A row with the number of pending closes of erased users' conversations. */
function closes({ waiting, oldest_at: oldest }, now) {
  return waiting === 0 ? [] : [[
    "Erased users",
    `${counted(waiting, "conversation")} to be closed`,
    el("span", { class: "quiet" }, `oldest erased ${ago(oldest, now)}, retried for 24 hours`),
  ]];
}

function accountMark(it, now) {
  const away = it.hosts_away.length;
  if (away > 0) {
    return mark(`${counted(away, "host")} unreachable`, "bad");
  }
  if (hasRecentError(it, now)) {
    return mark("Recent error", "warn");
  }
  if (hasRecentRefusal(it, now)) {
    return mark("Notifications refused", "bad");
  }
  return it.app_token ? mark("Reachable", "good") : mark("Not contacted yet");
}

/** A card for the notifications of accounts that are not configured, if there were any. */
function foreign(list, now) {
  return list.length > 0 && el("article", { class: "card", "data-row": "", "data-account": "" },
    el("header", {}, el("h3", {}, "Accounts that are not configured")),
    facts(rejections(list, now)));
}

function account(it, now) {
  const state = accountMark(it, now);
  const token = it.app_token;
  const last = it.last_trouble;
  return el("article", { class: "card", "data-row": it.id, "data-account": it.id },
    el("header", {}, el("h3", {}, it.id), state),
    facts([
      ["AppJWT", ...(token
        ? [`expires ${ago(token.expires_at, now)}`, el("span", { class: "quiet" }, `obtained ${ago(token.obtained_at, now)}, renewal due ${ago(token.renew_at, now)}`)]
        : ["none yet"])],
      ["Last error", ...(last
        ? [`The Cloud ${cloudError(last.error)}`, el("span", { class: "quiet" }, `${last.operation}, ${ago(last.at, now)}`)]
        : ["none since the start"])],
      ...closes(it.erasure_closes, now),
      ...rejections(it.rejected_notifications, now),
      ...it.hosts_away.map((host) => [host.host, `${cloudError(host.error)}, ${host.failures} failures in a row`]),
    ]),
    it.hosts.length > 0 && el("details", {}, el("summary", {}, `Domains (${it.hosts.length})`),
      facts(it.hosts.map((host) => [host.service, el("span", { class: "mono" }, host.host), el("span", { class: "quiet" }, `looked up ${ago(host.looked_up_at, now)}`)]))));
}

/** Shows the replica and the accounts. */
export function showOverview(overview) {
  byId("version").textContent = `Operator · ${overview.version}`;
  show(byId("replica"), replica(overview));
  const cards = overview.accounts.map((it) => account(it, overview.now));
  show(byId("accounts"), [...cards, foreign(overview.foreign_notifications, overview.now)].filter(Boolean));
}
