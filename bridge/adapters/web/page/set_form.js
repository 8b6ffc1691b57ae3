/** The part of the form that makes a set: up to two inputs, and the values that each of them takes. */

import { byId, make, show } from "./dom.js";
import { labelOf, uniqueId } from "./field_frame.js";
import { product, readAxis, wayOf } from "./set_axes.js";
import { say, sayCount } from "./texts.js";

const AXES = 2;
// What the bridge makes of the outputs of a set.
const COLLECT = ["sheet", "animation", "zip"];

export class SetForm {
  /**
   * `choices(name)` returns a list of choices, `limit()` the most jobs of a set; `changed()` is called
   * whenever the axes change.
   */
  constructor({ choices, limit, changed }) {
    this.choices = choices;
    this.limit = limit;
    this.changed = changed;
    this.axes = [];
    byId("set-axes").addEventListener("input", (event) => {
      event.stopPropagation(); // none of it is a value of the form
      this._changed();
    });
  }

  /** Offers the inputs of a definition. */
  draw({ inputs: { properties = {} } }) {
    const offered = Object.entries(properties).filter(([, schema]) => wayOf(schema));
    this.axes = Array.from({ length: AXES }, (_, at) => new AxisField(at, offered, this.choices));
    this.boxes = COLLECT.map(() => make("input", { type: "checkbox" }));
    const rows = COLLECT.map((each, at) =>
      make("label", { class: "check" }, this.boxes[at], say(`collect.${each}`)),
    );
    const collect = make("fieldset", {}, make("legend", {}, say("set.collect")), make("div", {}, rows));
    const more = make("div", { class: "axis-values" }, collect);
    byId("set-axes").replaceChildren(...this.axes.map(({ element }) => element), more);
    show(byId("set"), offered.length > 0);
    this._changed();
  }

  /** Returns the `axes` as they were entered, each `{ name, entered }`, and what the set is to `collect`. */
  entered() {
    const used = this.axes.filter((axis) => axis.name);
    return {
      axes: used.map((axis) => ({ name: axis.name, entered: axis.entered() })),
      collect: this.collect ?? [],
    };
  }

  /** What the set collects, undefined for nothing. */
  get collect() {
    const chosen = COLLECT.filter((_, at) => this.boxes[at].checked);
    return chosen.length ? chosen : undefined;
  }

  /** Enters what `entered` returned; an input that the workflow does not have any more is left out. */
  enter({ axes, collect }) {
    const known = axes.filter(({ name }) => this.axes[0]?.schemas.has(name));
    for (const [at, axis] of this.axes.entries()) axis.enter(known[at] ?? { name: "", entered: "" });
    for (const [at, box] of this.boxes.entries()) box.checked = collect.includes(COLLECT[at]);
    if (known.length) byId("set").open = true;
    this._changed();
  }

  /** `{ grid, collect }` as `submit` takes them; undefined while no axis, or not each, has its values. */
  get way() {
    const used = this.axes.filter((axis) => axis.name);
    const specs = used.map((axis) => [axis.name, axis.read().spec]);
    if (!specs.length || specs.some(([, spec]) => !spec)) return undefined;
    return { grid: Object.fromEntries(specs), collect: this.collect };
  }

  /** The names of the inputs that take several values. */
  get names() {
    return new Set(this.axes.map((axis) => axis.name).filter(Boolean));
  }

  /** Returns the axes, or null and shows what is wrong with them. */
  check() {
    const used = this.axes.filter((axis) => axis.name);
    const wrong = used.filter((axis) => axis.refuse(axis.read().problem));
    if (!wrong.length && used.length > 1 && used[0].name === used[1].name) {
      used[1].refuse(say("axis.problem.same"));
      wrong.push(used[1]);
    }
    const axes = used.map((axis) => ({ name: axis.name, spec: axis.read().spec }));
    if (!wrong.length && product(axes) > this.limit()) {
      used.at(-1).refuse(say("axis.problem.many", { count: product(axes), limit: this.limit() }));
      wrong.push(used.at(-1));
    }
    wrong[0]?.focus();
    return wrong.length ? null : axes;
  }

  /** Shows an error of the bridge at the axis that it names; false if it names none. */
  refuse({ message, details = {} }) {
    const named = details.input ?? details.field?.replace(/^grid\./, "");
    const axis = this.axes.find((each) => each.name && each.name === named);
    if (!axis) return false;
    byId("set").open = true;
    axis.refuse(message);
    axis.focus();
    return true;
  }

  clearProblems() {
    for (const axis of this.axes) axis.refuse(null);
  }

  _changed() {
    const used = this.axes.filter((axis) => axis.name).map((axis) => axis.read());
    const isReady = used.length > 0 && used.every(({ spec }) => spec);
    const text = isReady ? sayCount("set.run", product(used)) : say("form.run");
    byId("run").lastElementChild.textContent = text;
    show(byId("times"), !used.length);
    this.changed();
  }
}

/** One axis: which input, and its values. */
class AxisField {
  constructor(at, offered, choices) {
    this.schemas = new Map(offered);
    this.choices = choices;
    const id = uniqueId("axis");
    const options = offered.map(([name, schema]) =>
      make("option", { value: name }, labelOf(name, schema)),
    );
    this.select = make("select", { id }, make("option", { value: "" }, say("axis.none")), options);
    this.select.addEventListener("input", () => this._draw());
    this.values = make("div", { class: "axis-values" });
    this.problem = make("p", { class: "problem", role: "alert", hidden: true, id: `${id}-problem` });
    this.element = make(
      "div",
      { class: "field axis" },
      make("label", { for: id }, say(`axis.${at}`)),
      make("div", { class: "control" }, this.select),
      this.values,
      this.problem,
    );
    this.element.addEventListener("input", () => this.refuse(null));
  }

  get name() {
    return this.select.value;
  }

  read() {
    return readAxis(this.schemas.get(this.name), this.entered());
  }

  /** Chooses an input, and enters what `entered` returned for it. */
  enter({ name, entered }) {
    this.select.value = name;
    this._draw();
    this.setEntered(entered);
    this.refuse(null);
  }

  focus() {
    (this.values.querySelector("input, textarea") ?? this.select).focus();
  }

  /** Shows what is wrong, nothing for null; returns whether anything is. */
  refuse(problem) {
    this.problem.textContent = problem ?? "";
    show(this.problem, Boolean(problem));
    this.element.classList.toggle("refused", Boolean(problem));
    return Boolean(problem);
  }

  _draw() {
    const schema = this.schemas.get(this.name);
    this.entered = () => "";
    this.setEntered = () => {};
    this.values.replaceChildren();
    if (!schema) return;
    const ways = { choices: () => this._choices(schema), both: () => say("axis.both") };
    this.values.append((ways[wayOf(schema)] ?? (() => this._text(wayOf(schema))))());
  }

  /** A text: numbers, lines, or a number of seeds. */
  _text(way) {
    const id = uniqueId("axis-values");
    const properties = { id, "aria-describedby": `${id}-hint ${this.problem.id}` };
    const entry =
      way === "lines"
        ? make("textarea", { ...properties, rows: 3 })
        : make("input", { ...properties, type: "text", autocomplete: "off" });
    if (way === "seeds") entry.value = "4";
    this.entered = () => entry.value;
    this.setEntered = (text) => (entry.value = text);
    return make(
      "div",
      {},
      make("label", { for: id }, say(`axis.${way}`)),
      entry,
      make("p", { class: "about", id: `${id}-hint` }, say(`axis.${way}.hint`)),
    );
  }

  _choices(schema) {
    const all = schema.enum ?? this.choices(schema["x-choices"]) ?? [];
    const boxes = all.map(() => make("input", { type: "checkbox" }));
    this.entered = () => all.filter((_, index) => boxes[index].checked);
    this.setEntered = (chosen) => all.forEach((each, at) => (boxes[at].checked = chosen.includes(each)));
    const rows = all.map((each, index) => make("label", { class: "check" }, boxes[index], String(each)));
    return make("fieldset", {}, make("legend", {}, say("axis.choices")), make("div", {}, rows));
  }
}
