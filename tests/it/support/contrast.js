// The body of a function that returns each visible text of the page whose contrast is below that of
// WCAG 2, level AA.

const channels = (color) => color.match(/[\d.]+/g).map(Number);
const blend = (under, [red, green, blue, alpha = 1]) =>
  [red, green, blue].map((value, i) => value * alpha + under[i] * (1 - alpha));

function luminance(color) {
  const [red, green, blue] = color.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function background(element) {
  const under = element.parentElement ? background(element.parentElement) : [255, 255, 255];
  return blend(under, channels(getComputedStyle(element).backgroundColor));
}

function contrast(element, style) {
  const ground = background(element);
  const both = [luminance(ground), luminance(blend(ground, channels(style.color)))];
  return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}

// A color that is still changing is not the one that people read.
for (const animation of document.getAnimations()) {
  if (Number.isFinite(animation.effect.getComputedTiming().endTime)) {
    animation.finish();
  }
}
const low = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  const text = texts.currentNode.data.trim();
  if (!text || !element.checkVisibility()) {
    continue;
  }
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = contrast(element, style);
  if (ratio < (isLarge ? 3 : 4.5)) {
    low.push(`${text}: ${ratio.toFixed(2)}`);
  }
}
return low;
