/**
 * The fields of the form: one function for each kind of input makes a control from the input's JSON
 * Schema in the workflow's definition.
 *
 * A field is `{ name, element, label, get, set, refuse, require, focus }`. `get()` returns the value
 * for the request, undefined to leave it out, NaN for what is no number; `refuse(message)` shows what
 * is wrong with the value: form_check.js says so at once, and the bridge, which decides.
 */

import { button, make, slider } from "./dom.js";
import { fieldFrame, uniqueId } from "./field_frame.js";
import { fileField } from "./media_field.js";
import { pictureField } from "./picture_field.js";
import { say } from "./texts.js";

// With more steps than this, no slider is precise enough to pick one value.
const MAX_SLIDER_STEPS = 2500;
// Up to this many choices, each at most this many characters long, are shown side by side.
const MAX_SIDE_BY_SIDE = 4;
const MAX_SHORT_CHOICE = 12;
// Drawn seeds are below this: a double holds them exactly, and every node accepts them.
const SEEDS = 2 ** 50;

function text(name, schema, { main }) {
  const long = main || schema["x-multiline"];
  const area = make("textarea", {
    rows: long ? 3 : 1,
    maxlength: schema.maxLength,
    spellcheck: main ? undefined : "false",
    class: long ? "long" : "",
  });
  return {
    ...fieldFrame(name, schema, area),
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
  const bounded = minimum !== undefined && maximum !== undefined && maximum > minimum;
  const hasSlider = bounded && (maximum - minimum) / step <= MAX_SLIDER_STEPS;
  const range = hasSlider ? slider({ min: minimum, max: maximum, step }) : null;
  const row = make("div", { class: "number" }, range, entry);
  const frame = fieldFrame(name, schema, entry, row);
  const follow = () => {
    if (!range) return;
    range.value = entry.value;
    range.follow();
  };
  range?.setAttribute("aria-labelledby", frame.label.id);
  range?.addEventListener("input", () => (entry.value = range.value));
  entry.addEventListener("input", follow);
  return {
    ...frame,
    get: () => {
      // The browser gives no text for what it cannot read as a number.
      if (entry.validity.badInput) return NaN;
      return entry.value === "" ? undefined : Number(entry.value);
    },
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
    placeholder: say("seed.placeholder"),
  });
  const set = (value) => {
    entry.value = value ?? "";
    entry.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const roll = button("dice", say("seed.draw"), () => set(randomSeed(schema)), { quiet: true });
  const clear = button("close", say("seed.clear"), () => set(""), { quiet: true });
  const row = make("div", { class: "joined" }, entry, roll, clear);
  const frame = fieldFrame(name, schema, entry, row);
  return {
    ...frame,
    // Seeds may be larger than a double holds: those are sent as digits, which the bridge reads.
    get: () => (entry.value.trim() === "" ? undefined : exact(entry.value.trim())),
    set: (value) => (entry.value = value ?? ""),
  };
}

/** A number if a double holds it exactly, else the digits. */
function exact(digits) {
  const value = Number(digits);
  return Number.isSafeInteger(value) ? value : digits;
}

function randomSeed({ minimum = 0, maximum = SEEDS }) {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  const random = (high * 2 ** 21 + (low >>> 11)) / 2 ** 53;
  const most = Math.min(maximum, SEEDS);
  return String(Math.floor(minimum + random * (most - minimum + 1)));
}

function boolean(name, schema) {
  const box = make("input", { type: "checkbox", role: "switch", class: "switch" });
  return {
    ...fieldFrame(name, schema, box),
    get: () => box.checked,
    set: (value) => (box.checked = Boolean(value)),
  };
}

function choice(name, schema, { choices }) {
  const all = schema.enum ?? choices(schema["x-choices"]);
  if (!all) return text(name, schema, {});
  const few = all.length <= MAX_SIDE_BY_SIDE && all.every((each) => String(each).length <= MAX_SHORT_CHOICE);
  return few ? sideBySide(name, schema, all) : list(name, schema, all);
}

function list(name, schema, known) {
  const all = [...known];
  const select = make("select");
  select.append(...all.map((each, index) => make("option", { value: index }, String(each))));
  const frame = fieldFrame(name, schema, select);
  return {
    ...frame,
    get: () => (select.selectedIndex < 0 ? undefined : all[select.selectedIndex]),
    set: (value) => {
      select.selectedIndex = all.indexOf(value);
      // No longer among the choices, such as a deleted model: shown nevertheless; the bridge decides.
      if (select.selectedIndex < 0 && value !== undefined) {
        all.push(value);
        select.append(make("option", { value: all.length - 1 }, String(value)));
        select.selectedIndex = all.length - 1;
      }
    },
  };
}

function sideBySide(name, schema, all) {
  const group = uniqueId("choice");
  const radios = all.map((_, index) => make("input", { type: "radio", name: group, value: index }));
  const row = make(
    "div",
    { class: "segments", role: "radiogroup" },
    all.map((each, index) => make("label", {}, radios[index], make("span", {}, String(each)))),
  );
  const frame = fieldFrame(name, schema, radios[0] ?? row, row);
  row.setAttribute("aria-labelledby", frame.label.id);
  frame.label.removeAttribute("for");
  return {
    ...frame,
    get: () => all[radios.findIndex((radio) => radio.checked)],
    set: (value) => radios.forEach((radio, index) => (radio.checked = all[index] === value)),
  };
}

function json(name, schema) {
  const area = make("textarea", { rows: 3, class: "code", spellcheck: "false" });
  return {
    ...fieldFrame(name, schema, area),
    get: () => {
      if (area.value.trim() === "") return undefined;
      try {
        return JSON.parse(area.value);
      } catch {
        return area.value; // not JSON: the bridge answers what is wrong
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
 * Makes the field of an input. `tools` holds what some kinds need: `main` (true for the main text
 * input), `choices(name)`, `changed()`, `client` for uploads, `picture()` for the image that a mask
 * is painted over, `hasMask()` (whether the workflow has a mask input). An unknown kind is text.
 */
export function makeField(name, schema, tools) {
  const kind = schema.enum || schema["x-choices"] ? "choice" : schema["x-kind"];
  const field = (KINDS[kind] ?? text)(name, schema, tools);
  field.schema = schema;
  if (schema.default !== undefined) field.set(schema.default);
  return field;
}
