/**
 * The fields of a form, one kind each: what a definition's JSON Schema says of an input, as a
 * control that people can use.
 *
 * Every field is `{ name, element, get, set, refuse }`. `get()` gives the value as a request takes
 * it, undefined to leave it out; `refuse(message)` marks the field, `refuse(null)` clears it. What
 * is allowed the bridge decides: it alone knows, and its answer comes to the field.
 */

import { button, make, slider } from "./dom.js";
import { pictureField } from "./picture.js";
import { fileField } from "./file.js";
import { title } from "./words.js";

// More stops than this, and a slider cannot be set to a value that one means.
const MAX_STOPS = 2500;
// Up to so many short choices all stand side by side.
const MAX_SIDE_BY_SIDE = 4;
const SHORT = 12;
// Fits a double exactly, and any node's seed.
const SEEDS = 2 ** 50;

let count = 0;

/**
 * A field's frame: label, description, room for an error. Returns what each kind builds upon;
 * `control` is what the label names and what takes the focus when the field is refused.
 */
export function frame(name, schema, control, ...around) {
  count += 1;
  const id = `field-${count}`;
  control.id ||= id;
  const about = make("p", { class: "about", id: `${id}-about` }, schema.description ?? "");
  const problem = make("p", { class: "problem", id: `${id}-problem`, role: "alert", hidden: true });
  control.setAttribute("aria-describedby", `${about.id} ${problem.id}`);
  const label = make("label", { for: control.id, id: `${id}-label` }, labelOf(name, schema));
  const element = make(
    "div",
    { class: "field", "data-input": name, "data-kind": schema["x-kind"] },
    label,
    schema.description ? about : null,
    make("div", { class: "control" }, ...(around.length ? around : [control])),
    problem,
  );
  const refuse = (message) => {
    problem.textContent = message ?? "";
    problem.hidden = !message;
    element.classList.toggle("refused", Boolean(message));
    if (message) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  };
  element.addEventListener("input", () => refuse(null));
  return { name, element, label, refuse, focus: () => control.focus() };
}

function labelOf(name, schema) {
  const place = schema["x-place"];
  if (place === undefined) return schema.title ?? title(name);
  return place ? `${place}: ${name.split(".").at(-1)}` : name;
}

function text(name, schema, { main }) {
  const long = main || schema["x-multiline"];
  const area = make("textarea", {
    rows: long ? 3 : 1,
    maxlength: schema.maxLength,
    spellcheck: main ? undefined : "false",
    class: long ? "long" : "",
  });
  return {
    ...frame(name, schema, area),
    get: () => area.value,
    set: (value) => (area.value = value ?? ""),
  };
}

function number(name, schema) {
  const { minimum, maximum } = schema;
  const whole = schema["x-kind"] === "integer";
  const step = schema["x-step"] ?? (whole ? 1 : 0.01);
  const entry = make("input", {
    type: "number",
    inputmode: whole ? "numeric" : "decimal",
    step: "any",
    min: minimum,
    max: maximum,
  });
  const fits = minimum !== undefined && maximum !== undefined && maximum > minimum;
  const slides = fits && (maximum - minimum) / step <= MAX_STOPS;
  const range = slides ? slider({ min: minimum, max: maximum, step }) : null;
  const row = make("div", { class: "number" }, range, entry);
  const made = frame(name, schema, entry, row);
  const follow = () => {
    if (!range) return;
    range.value = entry.value;
    range.follow();
  };
  range?.setAttribute("aria-labelledby", made.label.id);
  range?.addEventListener("input", () => (entry.value = range.value));
  entry.addEventListener("input", follow);
  return {
    ...made,
    get: () => (entry.value === "" ? undefined : Number(entry.value)),
    set: (value) => {
      entry.value = value ?? "";
      follow();
    },
  };
}

function seed(name, schema) {
  const entry = make("input", {
    type: "text",
    inputmode: "numeric",
    autocomplete: "off",
    placeholder: "another each time",
  });
  const set = (value) => {
    entry.value = value ?? "";
    entry.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const roll = button("dice", "Draw a seed and keep it", () => set(drawn(schema)), { quiet: true });
  const clear = button("close", "Another seed each time", () => set(""), { quiet: true });
  const row = make("div", { class: "joined" }, entry, roll, clear);
  const made = frame(name, schema, entry, row);
  return {
    ...made,
    // As text: seeds may be larger than a double holds, and the bridge reads digits.
    get: () => (entry.value.trim() === "" ? undefined : exact(entry.value.trim())),
    set: (value) => (entry.value = value ?? ""),
  };
}

function exact(digits) {
  const value = Number(digits);
  return Number.isSafeInteger(value) ? value : digits;
}

function drawn({ minimum = 0, maximum = SEEDS }) {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  const random = (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
  const most = Math.min(maximum, SEEDS);
  return String(Math.floor(minimum + random * (most - minimum + 1)));
}

function boolean(name, schema) {
  const box = make("input", { type: "checkbox", role: "switch", class: "switch" });
  return {
    ...frame(name, schema, box),
    get: () => box.checked,
    set: (value) => (box.checked = Boolean(value)),
  };
}

function choice(name, schema, { choices }) {
  const all = schema.enum ?? choices(schema["x-choices"]);
  if (!all) return text(name, schema, {});
  const few = all.length <= MAX_SIDE_BY_SIDE && all.every((each) => String(each).length <= SHORT);
  return few ? sideBySide(name, schema, all) : list(name, schema, all);
}

function list(name, schema, known) {
  const all = [...known];
  const select = make("select");
  select.append(...all.map((each, index) => make("option", { value: index }, String(each))));
  const made = frame(name, schema, select);
  return {
    ...made,
    get: () => (select.selectedIndex < 0 ? undefined : all[select.selectedIndex]),
    set: (value) => {
      select.selectedIndex = all.indexOf(value);
      // A model that is not there any more: shown as it is, for the bridge to refuse or not.
      if (select.selectedIndex < 0 && value !== undefined) {
        all.push(value);
        select.append(make("option", { value: all.length - 1 }, String(value)));
        select.selectedIndex = all.length - 1;
      }
    },
  };
}

function sideBySide(name, schema, all) {
  count += 1;
  const group = `choice-${count}`;
  const radios = all.map((_, index) => make("input", { type: "radio", name: group, value: index }));
  const row = make(
    "div",
    { class: "segments", role: "radiogroup" },
    all.map((each, index) => make("label", {}, radios[index], make("span", {}, String(each)))),
  );
  const made = frame(name, schema, radios[0] ?? row, row);
  row.setAttribute("aria-labelledby", made.label.id);
  made.label.removeAttribute("for");
  return {
    ...made,
    get: () => all[radios.findIndex((radio) => radio.checked)],
    set: (value) => radios.forEach((radio, index) => (radio.checked = all[index] === value)),
  };
}

function json(name, schema) {
  const area = make("textarea", { rows: 3, class: "code", spellcheck: "false" });
  return {
    ...frame(name, schema, area),
    get: () => {
      if (area.value.trim() === "") return undefined;
      try {
        return JSON.parse(area.value);
      } catch {
        return area.value; // no JSON: the bridge says what it wants
      }
    },
    set: (value) => (area.value = value === undefined ? "" : JSON.stringify(value, null, 2)),
  };
}

const KINDS = {
  text,
  integer: number,
  float: number,
  seed,
  boolean,
  choice,
  json,
  image: pictureField,
  mask: pictureField,
  audio: fileField,
  video: fileField,
  file: fileField,
};

/**
 * Makes an input's field. `tools` are what some kinds need: `main` (the main text input),
 * `choices(name)`, `client` to upload with, `picture()` for the image that a mask is painted over.
 * A kind that this page does not know is a text: the bridge reads what it can.
 */
export function makeField(name, schema, tools) {
  const known = schema.enum || schema["x-choices"] ? "choice" : schema["x-kind"];
  const field = (KINDS[known] ?? text)(name, schema, tools);
  field.schema = schema;
  if (schema.default !== undefined) field.set(schema.default);
  return field;
}
