// The audit log.

import { get } from "./api.js";
import { byId, cell, el, show, table } from "./dom.js";
import { ago, moment } from "./words.js";

const PAGE_SIZE = 100;

/** Formats the details of an entry in one line; null values are left out. */
export function detailsOf(entry) {
  const present = Object.entries(entry.details).filter(([, value]) => value !== null);
  return present.map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`).join(", ");
}

function row(entry, now) {
  const subject = entry.subject?.startsWith("evt_")
    ? el("a", { class: "mono", href: `#/timeline/${entry.subject}` }, entry.subject)
    : el("span", { class: "mono" }, entry.subject ?? "");
  return el("tr", { "data-row": entry.id, "data-entry": entry.action },
    cell("Time", el("time", { datetime: entry.at, title: moment(entry.at) }, ago(entry.at, now))),
    el("th", { scope: "row", "data-head": "Action" }, el("div", {}, entry.action)),
    cell("Operator", el("span", { class: "mono" }, entry.actor)),
    cell("Channel", entry.channel ?? ""),
    cell("Details", subject, el("span", { class: "quiet" }, detailsOf(entry))));
}

/** Shows the newest entries. */
export async function showAudit({ now }) {
  const { entries } = await get(`audit?limit=${PAGE_SIZE}`);
  show(byId("audit"), entries.length > 0
    ? table("Entries of the audit log", ["Time", "Action", "Operator", "Channel", "Details"], entries.map((entry) => row(entry, now)))
    : el("p", { class: "empty" }, "No actions recorded."));
}
