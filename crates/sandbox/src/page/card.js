// Structured content of the Cloud: cards of texts, pictures and buttons, stacked or side by side.
//
// Pictures are on other hosts, and this page loads nothing from there. A placeholder names them.

import { button, make } from "./dom.js";

/** The greatest depth of nested elements; deeper ones are left out. */
const MAX_DEPTH = 12;

/**
 * Builds an element with all its contents. A click on a button calls `choose` with the message that
 * the user sends, `{text, metadata}`. Without `choose` the buttons are disabled, as on the agent's
 * side.
 */
export function card(content, choose) {
  return make("div", { class: "card", data: { card: content.type } }, element(content, choose, 0));
}

/** Builds the quick replies of an element, as buttons. */
export function quickReplies(replies, choose) {
  const buttons = (replies?.replies ?? []).map((reply) => actionButton(reply, choose, "choice"));
  return buttons.length > 0 ? make("div", { class: "choices" }, ...buttons) : null;
}

function element(content, choose, depth) {
  if (content === null || typeof content !== "object" || depth > MAX_DEPTH) return null;
  const children = (content.elements ?? []).map((child) => element(child, choose, depth + 1));
  switch (content.type) {
    case "vertical":
    case "horizontal":
    case "carousel":
    case "list":
      return make("div", { class: `card-${content.type}` }, ...children);
    case "text":
      return make("p", {
        class: content.tag ? `card-text card-${className(content.tag)}` : "card-text",
        dir: "auto",
        text: content.text,
      });
    case "image":
      return make("p", {
        class: "card-image",
        title: content.url ?? null,
        text: `Picture: ${content.caption ?? content.tooltip ?? "no description"}`,
      });
    case "button":
    case "submitButton":
      return actionButton(content, choose, "card-button");
    case "link":
      return link(content.title ?? content.uri, content.uri);
    default: {
      const text = content.title ?? content.text ?? content.tooltip ?? `[${content.type ?? "content"}]`;
      return make("div", {}, make("p", { class: "card-text", dir: "auto", text }), ...children);
    }
  }
}

/**
 * Builds a button of structured content. It sends a text or opens a link; it is disabled if only
 * the brand's own apps know its action.
 */
function actionButton(content, choose, kind) {
  const actions = content.click?.actions ?? [];
  const publishAction = actions.find((action) => action.type === "publishText");
  const linkAction = actions.find((action) => action.type === "link");
  if (!publishAction && linkAction) return link(content.title, linkAction.uri);
  const choice = { text: publishAction?.text ?? content.title, metadata: content.click?.metadata };
  return button(content.title, () => choose?.(choice), {
    class: kind,
    dir: "auto",
    title: content.tooltip ?? null,
    data: { choice: content.title },
    disabled: !choose || !publishAction,
  });
}

function link(text, uri) {
  const isWeb = /^https?:/i.test(uri ?? "");
  return make("a", {
    class: "card-link",
    text: text ?? uri,
    href: isWeb ? uri : null,
    target: "_blank",
    rel: "noopener noreferrer",
  });
}

const className = (tag) => String(tag).replace(/[^a-z]/gi, "").toLowerCase();
