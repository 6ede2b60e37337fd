// Structured content of the Cloud: cards of texts, pictures and buttons, below or beside each other.
//
// Pictures are elsewhere in the world, and this page loads nothing from there: a placeholder names them.

import { button, make } from "./dom.js";

/** How deep elements may lie in each other; what is deeper is left out. */
const DEEPEST = 12;

/**
 * An element with all that is in it. `choose` is told what the user says by a button, `{text, metadata}`; without it the
 * buttons cannot be used, as on the agent's side.
 */
export function card(content, choose) {
  return make("div", { class: "card", data: { card: content.type } }, element(content, choose, 0));
}

/** The quick replies that come with an element, as buttons. */
export function quickReplies(replies, choose) {
  const buttons = (replies?.replies ?? []).map((reply) => touch(reply, choose, "choice"));
  return buttons.length > 0 ? make("div", { class: "choices" }, ...buttons) : null;
}

function element(content, choose, depth) {
  if (content === null || typeof content !== "object" || depth > DEEPEST) return null;
  const inside = (content.elements ?? []).map((child) => element(child, choose, depth + 1));
  switch (content.type) {
    case "vertical":
    case "horizontal":
    case "carousel":
    case "list":
      return make("div", { class: `card-${content.type}` }, ...inside);
    case "text":
      return make("p", { class: content.tag ? `card-text card-${word(content.tag)}` : "card-text", text: content.text });
    case "image":
      return make("p", {
        class: "card-image",
        title: content.url ?? null,
        text: `Picture: ${content.caption ?? content.tooltip ?? "without words"}`,
      });
    case "button":
    case "submitButton":
      return touch(content, choose, "card-button");
    case "link":
      return link(content.title ?? content.uri, content.uri);
    default: {
      const words = content.title ?? content.text ?? content.tooltip ?? `[${content.type ?? "content"}]`;
      return make("div", {}, make("p", { class: "card-text", text: words }), ...inside);
    }
  }
}

/** A button of structured content: it says something, leads somewhere, or does what only the brand's own apps know. */
function touch(content, choose, kind) {
  const actions = content.click?.actions ?? [];
  const says = actions.find((action) => action.type === "publishText");
  const leads = actions.find((action) => action.type === "link");
  if (!says && leads) return link(content.title, leads.uri);
  const choice = { text: says?.text ?? content.title, metadata: content.click?.metadata };
  return button(content.title, () => choose?.(choice), {
    class: kind,
    title: content.tooltip ?? null,
    data: { choice: content.title },
    disabled: !choose || !says,
  });
}

function link(text, uri) {
  const leads = /^https?:/i.test(uri ?? "");
  return make("a", {
    class: "card-link",
    text: text ?? uri,
    href: leads ? uri : null,
    target: "_blank",
    rel: "noopener noreferrer",
  });
}

const word = (tag) => String(tag).replace(/[^a-z]/gi, "").toLowerCase();
