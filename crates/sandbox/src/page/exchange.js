// One request and its answer in full, and the same request for a shell.

import { button, make } from "./dom.js";

/** What stands for a secret: the simulated Cloud never sends these. */
const MASK = "•••";

/** What the simulated Cloud writes for a body that is no text, and at the end of one that it has cut. */
const NOT_WHOLE = /^\(.*, \d+ bytes\)$|\n… \(cut: \d+ of \d+ bytes\)$/;

/** Headers that curl makes by itself, or that only a browser has a use for. */
const NOT_FOR_CURL = /^(host|content-length|connection|accept-encoding|transfer-encoding|user-agent|accept-language|origin|sec-.*)$/i;

/** Both sides of an entry of the wire. */
export function details(entry) {
  const { request, response, status, operation, url } = entry;
  const answer = status === null
    ? [make("p", { class: "hint", text: "No answer came." })]
    : [part("Headers", headersOf(response)), part("Body", pretty(response.body))];
  return make("div", { class: "exchange" },
    make("p", { class: "exchange-url" },
      make("code", { text: `${entry.method} ${url}` }),
      operation ? make("span", { class: "hint", text: ` ${operation}` }) : null),
    make("div", { class: "exchange-sides" },
      make("section", {}, make("h4", { text: "Request" }), part("Headers", headersOf(request)), part("Body", pretty(request.body))),
      make("section", {}, make("h4", { text: status === null ? "Answer" : `Answer ${status}` }), ...answer)),
    copying(entry));
}

function part(title, text) {
  return text ? make("div", {}, make("h5", { text: title }), make("pre", { tabindex: "0", text })) : null;
}

const headersOf = ({ headers }) => Object.entries(headers ?? {}).map(([name, value]) => `${name}: ${value}`).join("\n");

/** JSON with its members in lines of their own; all else as it came. */
function pretty(body) {
  if (!body) return "";
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

/** The button that copies the request. Where the browser does not let the page copy, the line is there to be marked. */
function copying(entry) {
  const line = make("textarea", { class: "curl", readonly: true, rows: "3", hidden: true, "aria-label": "The request for a shell" });
  const said = make("span", { class: "hint", role: "status" });
  const copy = button("Copy as curl", async () => {
    line.value = curl(entry);
    line.hidden = false;
    try {
      await navigator.clipboard.writeText(line.value);
      said.textContent = "Copied.";
    } catch {
      line.select();
      said.textContent = "Copy it from here:";
    }
  }, { class: "quiet", data: { action: "curl" } });
  return make("div", { class: "copying" }, copy, said, line);
}

/**
 * A line for a shell that sends the request again. `$TOKEN` stands for what is secret, and a file of one's own for a body
 * that is not known whole.
 */
export function curl({ method, url, request }) {
  const { headers = {}, body } = request;
  const isForm = /^multipart\//i.test(headers["content-type"] ?? "");
  const words = ["curl -sS", `-X ${method}`, quoted(url)];
  for (const [name, value] of Object.entries(headers)) {
    if (!NOT_FOR_CURL.test(name) && !(isForm && name === "content-type")) words.push(`-H ${quoted(`${name}: ${value}`)}`);
  }
  if (isForm) words.push("-F file=@FILE");
  else if (NOT_WHOLE.test(body ?? "")) words.push("--data-binary @FILE");
  else if (body) words.push(`--data-raw ${quoted(body)}`);
  return words.join(" ");
}

/** A word for a shell: what is secret in double quotes, where the shell fills it in, and the rest in single ones. */
function quoted(text) {
  const single = (part) => (part === "" ? "" : `'${part.replaceAll("'", String.raw`'\''`)}'`);
  return text.split(MASK).map(single).join('"$TOKEN"') || "''";
}
