/**
 * Making elements, and the little that every part of the page needs of the document.
 *
 * Text goes in as text nodes alone, never as markup: what a workflow's file or a prompt says cannot
 * become an element.
 */

/** Makes an element: `make("a", { href: "#x", onclick: go }, "text", child)`. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the drawings that index.html carries, as an ornament: its control has a name besides. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button with a drawing and a word; `quiet` keeps the word for those who cannot see. */
export function button(name, text, onclick, { quiet = false, kind = "" } = {}) {
  return make(
    "button",
    { type: "button", class: `button ${kind}`, title: quiet ? text : undefined, onclick },
    icon(name),
    make("span", { class: quiet ? "unseen" : "" }, text),
  );
}

export function byId(id) {
  return document.getElementById(id);
}

/** A slider. How far it is goes to the stylesheet, which cannot ask. */
export function slider(properties) {
  const range = make("input", { type: "range", ...properties });
  range.follow = () => {
    const share = (range.value - range.min) / (range.max - range.min);
    range.style.setProperty("--share", `${100 * share}%`);
  };
  range.addEventListener("input", range.follow);
  range.follow();
  return range;
}

/** Shows or hides an element. */
export function show(element, shown) {
  element.hidden = !shown;
}

/** Says something to those who hear the page. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/**
 * Puts a text on the clipboard. Outside of https and localhost browsers give no clipboard; the old
 * way works there.
 */
export async function copy(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = make("textarea", { class: "unseen", value: text, "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Hands bytes to the browser's downloads. */
export function save(url, filename) {
  const link = make("a", { href: url, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
}
