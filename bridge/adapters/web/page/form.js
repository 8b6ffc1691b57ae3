/**
 * The form: drawn from a workflow's definition, kept while one looks elsewhere, and where what the
 * bridge refuses is told at the field that caused it.
 */

import { announce, byId, show } from "./dom.js";
import { makeField } from "./fields.js";
import { Held } from "./held.js";

/** The name of a definition's main text input, undefined where it has none. */
export function mainText(definition) {
  const inputs = Object.entries(definition?.inputs?.properties ?? {});
  return inputs.find(([, schema]) => schema["x-kind"] === "text" && !isPlace(schema))?.[0];
}

function isPlace(schema) {
  return schema["x-place"] !== undefined;
}

export class Form {
  /** `changed()` is called whenever the request that the form makes is another. */
  constructor(client, changed) {
    this.client = client;
    this.definition = null;
    this.fields = new Map();
    this.changed = () => {
      this._keep();
      changed();
    };
    byId("form").addEventListener("input", () => this.changed());
    byId("more").addEventListener("toggle", () => this._drawPlaces());
    byId("more-filter").addEventListener("input", (event) => {
      event.stopPropagation();
      this._filter(event.target.value);
    });
    document.addEventListener("paste", (event) => this._paste(event));
  }

  /** Draws a definition's fields; what was entered for this workflow before stands in them. */
  draw(definition) {
    const was = this.definition;
    this.definition = definition;
    // Told again, of a ComfyUI that came or went: what is being written is not to be disturbed.
    if (was && same(was.inputs, definition.inputs) && was.name === definition.name) return;
    for (const field of this.fields.values()) field.held?.release();
    this.fields.clear();
    byId("more-fields").replaceChildren();
    byId("more").open = false;
    byId("more-filter").value = "";
    const entries = Object.entries(definition.inputs.properties ?? {});
    const plain = entries.filter(([, schema]) => !isPlace(schema));
    this.places = entries.filter(([, schema]) => isPlace(schema));
    show(byId("more"), this.places.length > 0);
    byId("fields").replaceChildren(...plain.map(([name, schema]) => this._field(name, schema)));
    for (const field of this.fields.values()) field.offerPaint?.();
    this._set(this._kept());
    this.problem(null);
    this.changed();
  }

  _field(name, schema) {
    const field = makeField(name, schema, {
      client: this.client,
      main: name === mainText(this.definition),
      choices: (list) => this.client.choices.get(list),
      changed: () => this.changed(),
      picture: () => this._first((each) => each.acceptsPictures && each.held)?.held,
      hasMask: () => Boolean(this._first((each) => each.schema["x-kind"] === "mask")),
    });
    this.fields.set(name, field);
    return field.element;
  }

  _first(where) {
    return [...this.fields.values()].find(where);
  }

  /** A graph may have 200 of them: they are drawn when somebody looks. */
  _drawPlaces() {
    if (!byId("more").open || byId("more-fields").childElementCount) return;
    byId("more-fields").append(...this.places.map(([name, schema]) => this._field(name, schema)));
  }

  _filter(text) {
    const wanted = text.trim().toLowerCase();
    for (const element of byId("more-fields").children) {
      show(element, element.firstChild.textContent.toLowerCase().includes(wanted));
    }
  }

  // What it holds.

  /**
   * What differs from the definition's defaults, and the main text in any case: `values` by name,
   * and `media`, what fields hold (Held).
   */
  entered() {
    const values = {};
    const media = {};
    for (const [name, field] of this.fields) {
      if (field.media) {
        if (field.held) media[name] = field.held;
        continue;
      }
      const value = field.get();
      if (value === undefined) continue;
      const isDefault = same(value, field.schema.default) || (value === "" && !field.schema.default);
      if (!isDefault || (name === mainText(this.definition) && value !== "")) values[name] = value;
    }
    return { values, media };
  }

  /** The inputs as a request takes them, once everything is uploaded; errors go to the field. */
  async inputs() {
    const { values, media } = this.entered();
    for (const [name, held] of Object.entries(media)) {
      try {
        values[name] = await held.send();
      } catch (error) {
        error.details = { ...error.details, input: name };
        throw error;
      }
    }
    return values;
  }

  /** Puts in what a job ran with; `media` as `remembered` gave it. */
  fill(values, media = {}) {
    const names = new Set([...Object.keys(values), ...Object.keys(media)]);
    if (this.places.some(([name]) => names.has(name))) {
      byId("more").open = true;
      this._drawPlaces();
    }
    for (const [name, field] of this.fields) {
      if (!field.media) field.set(values[name] ?? field.schema.default);
      else field.set(media[name] ? this._held(media[name]) : null);
    }
    this.problem(null);
    this.changed();
  }

  _held({ source, filename }) {
    const { job, output = 0 } = source;
    const load = job === undefined ? null : () => this.client.fetch(job, output);
    return new Held({ client: this.client, source, filename, load });
  }

  /** Takes a job's output as the picture to begin with; false where no field takes one. */
  takeOutput(job, info, blob) {
    const accepts = (field) => field.media && field.schema["x-kind"] === kindOf(info);
    const field = this._first((each) => accepts(each) && !each.held) ?? this._first(accepts);
    if (!field) return false;
    const source = { job, output: info.index };
    const filename = info.filename ?? info.name;
    const load = () => this.client.fetch(job, info.index);
    field.take(new Held({ client: this.client, source, filename, blob, load }));
    field.focus();
    return true;
  }

  /** Media of a request, small enough for its `meta`, so that it can be run again. */
  remembered(inputs) {
    const { media } = this.entered();
    const entries = Object.entries(media).filter(([name]) => inputs[name]);
    return Object.fromEntries(
      entries.map(([name, held]) => [name, { source: inputs[name], filename: held.filename }]),
    );
  }

  /** Uploads are kept for a day: all of them anew. */
  forgetUploads() {
    for (const field of this.fields.values()) field.held?.forget();
  }

  // What was refused.

  /** Shows an error at the field that it names, else beside the button. */
  refuse({ message, details = {} }) {
    if (this.places.some(([name]) => name === details.input)) {
      byId("more").open = true;
      this._drawPlaces();
    }
    const field = this.fields.get(details.input);
    if (!field) {
      this.problem(message);
      return;
    }
    field.refuse(told(message, details));
    field.element.scrollIntoView({ block: "nearest" });
    field.focus();
  }

  problem(message) {
    byId("form-problem").textContent = message ?? "";
    show(byId("form-problem"), Boolean(message));
  }

  clearProblems() {
    this.problem(null);
    for (const field of this.fields.values()) field.refuse(null);
  }

  // What is kept over a reload.

  _keep() {
    if (!this.definition) return;
    const { values } = this.entered();
    sessionStorage.setItem(`draft ${this.definition.name}`, JSON.stringify(values));
  }

  _kept() {
    return JSON.parse(sessionStorage.getItem(`draft ${this.definition.name}`) ?? "{}");
  }

  _set(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.fields.get(name);
      if (field && !field.media) field.set(value);
    }
  }

  _paste(event) {
    const [file] = event.clipboardData?.files ?? [];
    if (!file?.type.startsWith("image/") || byId("desk").hidden) return;
    const pictures = [...this.fields.values()].filter((each) => each.acceptsPictures);
    const focused = pictures.find((each) => each.element.contains(document.activeElement));
    const field = focused ?? pictures.find((each) => !each.held) ?? pictures[0];
    if (!field) return;
    event.preventDefault();
    field.takeFile(file);
    announce("The picture was taken from the clipboard.");
  }
}

/** What kind of input takes an output. */
export function kindOf(info) {
  const [kind] = info.content_type.split("/");
  return ["image", "audio", "video"].includes(kind) ? kind : "file";
}

/** An error's text, without the name that the field's label says already. */
function told(message, { input }) {
  const text = message.replace(`input '${input}': `, "").replace(`input "${input}": `, "");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
