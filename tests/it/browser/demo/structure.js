// The body of a function that returns the parts of the page that assistive technology cannot read:
// controls without a name, broken lists, skipped headings, and ids that occur twice.

const wrong = [];
const check = (isRight, element, fault) => {
  if (!isRight) wrong.push(`${element.outerHTML.slice(0, 120)}: ${fault}`);
};
const visible = (selector) => [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility());
const textOf = (id) => document.getElementById(id)?.textContent ?? "";

function nameOf(element) {
  const referenced = (element.getAttribute("aria-labelledby") ?? "").split(" ").map(textOf).join(" ");
  const labels = [...(element.labels ?? [])].map((label) => label.textContent).join(" ");
  const own = element.matches("input, textarea, select") ? "" : element.textContent;
  return [element.getAttribute("aria-label"), referenced, labels, own].find((text) => text?.trim());
}

for (const control of visible("a, button, input, textarea, select, summary, [role=log], [role=dialog], [role=group]")) {
  check(nameOf(control), control, "has no name");
}
for (const section of visible("section, nav")) {
  check(section.matches("[aria-labelledby], [aria-label]"), section, "is a region without a name");
}
for (const list of visible("ol, ul")) {
  check(!list.hasAttribute("role"), list, "is no list any more");
  check([...list.children].every(({ tagName }) => tagName === "LI"), list, "contains something else than entries");
}
for (const entry of visible("li")) check(entry.parentElement.matches("ol, ul"), entry, "is in no list");
for (const image of visible("img")) check(image.alt, image, "has no alternative text");
for (const scrolling of visible(".log, pre")) check(scrolling.tabIndex === 0, scrolling, "cannot be scrolled with the keyboard");
let level = 0;
for (const heading of visible("h1, h2, h3, h4, h5, h6")) {
  const next = Number(heading.tagName[1]);
  check(next <= level + 1, heading, `follows a heading of level ${level}`);
  level = next;
}
for (const { id } of document.querySelectorAll("[id]")) {
  const same = document.querySelectorAll(`#${CSS.escape(id)}`);
  check(same.length === 1, same[0], "has an id that occurs twice");
}
return wrong;
