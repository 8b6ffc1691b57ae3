/**
 * Functions that make and change elements of the document.
 *
 * Text is only ever inserted as text nodes, never as markup, so that no text from a workflow's file
 * or a prompt can become an element.
 */

import { LANGUAGE, say } from "./texts.js";

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

/** An icon, one of the symbols in index.html; hidden from screen readers, so add a text too. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon and a text; `quiet` shows the text to screen readers and as a tooltip. */
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

/** Fills in the texts of index.html, which names them: `data-say`, `data-say-label` and the like. */
export function translate() {
  document.documentElement.lang = LANGUAGE;
  for (const element of document.querySelectorAll("[data-say]")) {
    element.textContent = say(element.dataset.say);
  }
  for (const [name, attribute] of [
    ["data-say-label", "aria-label"],
    ["data-say-title", "title"],
    ["data-say-placeholder", "placeholder"],
  ]) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      element.setAttribute(attribute, say(element.getAttribute(name)));
    }
  }
}

/** A slider. `follow()` passes its position to the stylesheet; call it after setting `value`. */
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

/** Lets a screen reader say a text. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Copies a text to the clipboard, also where the page has no Clipboard API (plain http). */
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

/** Saves what is at a URL with the browser's downloads. */
export function save(url, filename) {
  const link = make("a", { href: url, download: filename });
  document.body.append(link);
  link.click();
  link.remove();
}
