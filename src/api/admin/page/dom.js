// Creating elements and updating the page. Text is inserted only as text nodes, so it can never
// become markup.

/**
 * Creates an element. Children that are not nodes become text; null, undefined and false are left
 * out.
 */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(attribute, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
  return element;
}

/**
 * Makes a container show these children. Only differences change, so focus, selection and open
 * details survive.
 */
export function show(container, ...children) {
  morph(container, el("div", {}, ...children));
}

function morph(old, fresh) {
  const wanted = [...fresh.childNodes];
  wanted.forEach((node, index) => {
    const known = old.childNodes[index];
    if (!known) {
      old.append(node);
    } else if (isAlike(known, node)) {
      update(known, node);
    } else {
      known.replaceWith(node);
    }
  });
  while (old.childNodes.length > wanted.length) {
    old.lastChild.remove();
  }
}

/** True if one node can be updated to match the other. */
function isAlike(known, node) {
  return known.nodeName === node.nodeName
    && known.dataset?.row === node.dataset?.row;
}

function update(known, node) {
  if (known.nodeType === Node.TEXT_NODE) {
    if (known.data !== node.data) {
      known.data = node.data;
    }
    return;
  }
  for (const { name } of [...known.attributes]) {
    // The operator decides which details are open.
    if (!node.hasAttribute(name) && name !== "open") {
      known.removeAttribute(name);
    }
  }
  for (const { name, value } of node.attributes) {
    if (known.getAttribute(name) !== value) {
      known.setAttribute(name, value);
    }
  }
  morph(known, node);
}

/** A label with a tone: good, warn, bad, or none. */
export function mark(text, tone) {
  return el("span", { class: "mark", "data-tone": tone }, text);
}

/** A list of facts: pairs of a name and a value. */
export function facts(pairs) {
  const items = pairs.filter(Boolean).flatMap(([name, ...shown]) => [el("dt", {}, name), el("dd", {}, ...shown)]);
  return el("dl", { class: "facts" }, items);
}

/** A cell of a table, with the head of its column for narrow screens. */
export function cell(head, ...shown) {
  return el("td", { "data-head": head }, el("div", {}, ...shown));
}

/** A table whose rows become cards on narrow screens. A cell is an element, or text. */
export function table(caption, heads, rows) {
  const head = el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text)));
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    el("table", { class: "stacks" }, el("thead", {}, head), el("tbody", {}, rows)));
}

/** Finds an element by its id. */
export function byId(id) {
  return document.getElementById(id);
}
