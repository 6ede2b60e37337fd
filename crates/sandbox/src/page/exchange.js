// One request and its answer in full, and the same request as a shell command.

import { button, make } from "./dom.js";

/** The text that the simulated Cloud sends in place of a secret. */
const MASK = "•••";

/**
 * The text that the simulated Cloud writes for a body that is not text, or at the end of a cut one.
 */
const INCOMPLETE_BODY = /^\(.*, \d+ bytes\)$|\n… \(cut: \d+ of \d+ bytes\)$/;

/** Headers that curl adds by itself, or that only a browser needs. */
const OMITTED_HEADERS = /^(host|content-length|connection|accept-encoding|transfer-encoding|user-agent|accept-language|origin|sec-.*)$/i;

/** Builds both sides of an entry of the traffic view. */
export function details(entry) {
  const { request, response, status, operation, url } = entry;
  const answer = status === null
    ? [make("p", { class: "hint", text: "No answer was received." })]
    : [part("Headers", headersOf(response)), part("Body", pretty(response.body))];
  return make("div", { class: "exchange" },
    make("p", { class: "exchange-url" },
      make("code", { text: `${entry.method} ${url}` }),
      operation ? make("span", { class: "hint", text: ` ${operation}` }) : null),
    make("div", { class: "exchange-sides" },
      make("div", {}, make("h3", { text: "Request" }), part("Headers", headersOf(request)), part("Body", pretty(request.body))),
      make("div", {}, make("h3", { text: status === null ? "Answer" : `Answer ${status}` }), ...answer)),
    copying(entry));
}

function part(title, text) {
  return text ? make("div", {}, make("h4", { text: title }), make("pre", { tabindex: "0", text })) : null;
}

const headersOf = ({ headers }) => Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`).join("\n");

/** Formats JSON with each member on its own line. Returns other text unchanged. */
function pretty(body) {
  if (!body) return "";
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

/**
 * Builds the button that copies the request. If the browser does not let the page copy, the command
 * is selected for the reader to copy.
 */
function copying(entry) {
  const line = make("textarea", { class: "curl", readonly: true, rows: "3", hidden: true, "aria-label": "The request as a shell command" });
  const notice = make("span", { class: "hint", role: "status" });
  const copy = button("Copy as curl", async () => {
    line.value = curl(entry);
    line.hidden = false;
    try {
      await navigator.clipboard.writeText(line.value);
      notice.textContent = "Copied.";
    } catch {
      line.select();
      notice.textContent = "Copy it from here:";
    }
  }, { class: "quiet", data: { action: "curl" } });
  return make("div", { class: "copying" }, copy, notice, line);
}

/**
 * Returns a shell command that sends the request again. `$TOKEN` replaces secrets, and `FILE`
 * replaces a body that is not known in full.
 */
export function curl({ method, url, request }) {
  const { headers = {}, body } = request;
  const isForm = /^multipart\//i.test(headers["content-type"] ?? "");
  const parts = ["curl -sS", `-X ${method}`, quoted(url)];
  for (const [name, value] of Object.entries(headers)) {
    if (!OMITTED_HEADERS.test(name) && !(isForm && name === "content-type")) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  if (isForm) parts.push("-F file=@FILE");
  else if (INCOMPLETE_BODY.test(body ?? "")) parts.push("--data-binary @FILE");
  else if (body) parts.push(`--data-raw ${quoted(body)}`);
  return parts.join(" ");
}

/**
 * Quotes a word for a shell: a secret in double quotes, so that the shell fills it in, and the rest
 * in single quotes.
 */
function quoted(text) {
  const single = (part) => (part === "" ? "" : `'${part.replaceAll("'", String.raw`'\''`)}'`);
  return text.split(MASK).map(single).join('"$TOKEN"') || "''";
}
