/**
 * The form: drawn from a workflow's definition. What is entered survives a reload, and what is wrong
 * is shown at its field, as far as the definition says it before anything is sent.
 */

import { announce, byId, show } from "./dom.js";
import { makeField } from "./fields.js";
import { problemsOf } from "./form_check.js";
import { capital } from "./format.js";
import { MediaInput } from "./media_input.js";
import { SetForm } from "./set_form.js";
import { say, sayCount } from "./texts.js";

/** File names for inputs of media, by kind. */
const EXAMPLES = { image: "picture.png", mask: "mask.png", audio: "sound.wav", video: "video.mp4" };

/** Returns the name of a definition's main text input, undefined if it has none. */
export function mainText(definition) {
  const inputs = Object.entries(definition?.inputs?.properties ?? {});
  return inputs.find(([, schema]) => schema["x-kind"] === "text" && !isPlace(schema))?.[0];
}

/** Whether an input is a node's own, addressed by node and name, rather than a declared one. */
function isPlace(schema) {
  return schema["x-place"] !== undefined;
}

export class Form {
  /** `changed()` is called whenever the request that the form makes changes. */
  constructor(client, changed) {
    this.client = client;
    this.definition = null;
    this.fields = new Map();
    this.changed = () => {
      this._saveDraft();
      changed();
    };
    /** What the form makes a set of, if it does. */
    this.sets = new SetForm({
      choices: (list) => client.choices.get(list),
      limit: () => client.info?.limits?.max_set ?? Infinity,
      changed: () => {
        this._settled();
        changed();
      },
    });
    byId("form").addEventListener("input", () => {
      this._settled();
      this.changed();
    });
    byId("more").addEventListener("toggle", () => this._drawPlaces());
    byId("more-filter").addEventListener("input", (event) => {
      event.stopPropagation();
      this._filter(event.target.value);
    });
    document.addEventListener("paste", (event) => this._paste(event));
    // Beside a field a dropped file would replace the page.
    for (const type of ["dragover", "drop"]) {
      addEventListener(type, (event) => {
        if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        if (type === "drop") announce(say("media.elsewhere"));
      });
    }
  }

  /** Draws the fields of a definition, with what was entered for this workflow before. */
  draw(definition) {
    const was = this.definition;
    this.definition = definition;
    // A definition is published again when a ComfyUI comes or goes: keep what is being entered.
    if (was && same(was.inputs, definition.inputs) && was.name === definition.name) return;
    for (const field of this.fields.values()) field.media?.release();
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
    this.sets.draw(definition);
    this._enter(this._draft());
    this.problem(null);
    this.changed();
  }

  /** Each field that is changed is marked no longer; with the last of them goes the summary. */
  _settled() {
    if (!byId("form").querySelector(".refused")) this.problem(null);
  }

  _field(name, schema) {
    const field = makeField(name, schema, {
      client: this.client,
      main: name === mainText(this.definition),
      choices: (list) => this.client.choices.get(list),
      changed: () => this.changed(),
      picture: () => this._find((each) => each.acceptsPictures && each.media)?.media,
      hasMask: () => Boolean(this._find((each) => each.schema["x-kind"] === "mask")),
    });
    if (this.definition.inputs.required?.includes(name)) field.require();
    this.fields.set(name, field);
    return field.element;
  }

  _find(where) {
    return [...this.fields.values()].find(where);
  }

  /** A graph may have 200 of them, so they are drawn when the section is opened. */
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

  // Values.

  /**
   * Returns `values`, by name, that differ from the definition's defaults (the main text also where
   * it does not), `media`, a MediaInput by name, and the `axes` and `collect` of a set.
   */
  entered() {
    const values = {};
    const media = {};
    for (const [name, field] of this.fields) {
      if (field.isMedia) {
        if (field.media) media[name] = field.media;
        continue;
      }
      const value = field.get();
      if (value === undefined || Number.isNaN(value)) continue;
      const isDefault = same(value, field.schema.default) || (value === "" && !field.schema.default);
      if (!isDefault || (name === mainText(this.definition) && value !== "")) values[name] = value;
    }
    return { values, media, ...this.sets.entered() };
  }

  /** Returns what `entered` does, with an example in place of each required input that is empty. */
  example() {
    const { values, media, ...set } = this.entered();
    for (const name of this.definition.inputs.required ?? []) {
      const { isMedia, schema } = this.fields.get(name) ?? {};
      if (isMedia) media[name] ??= { filename: EXAMPLES[schema["x-kind"]] ?? "file" };
      else if (schema?.["x-kind"] === "text") values[name] ??= "...";
    }
    return { values, media, ...set };
  }

  /** Resolves with the inputs of the request once all media are uploaded; an error names its input. */
  async inputs() {
    const { values, media } = this.entered();
    for (const [name, input] of Object.entries(media)) {
      try {
        values[name] = await input.send();
      } catch (error) {
        error.details = { ...error.details, input: name };
        throw error;
      }
    }
    return values;
  }

  /** Enters the inputs of a job; `media` as `remembered` returned them. */
  fill(values, media = {}) {
    const made = Object.entries(media).map(([name, each]) => [name, this._mediaInput(each)]);
    this._fill(values, Object.fromEntries(made));
  }

  _fill(values, media) {
    const names = new Set([...Object.keys(values), ...Object.keys(media)]);
    if (this.places.some(([name]) => names.has(name))) {
      byId("more").open = true;
      this._drawPlaces();
    }
    for (const [name, field] of this.fields) {
      if (!field.isMedia) field.set(values[name] ?? field.schema.default);
      else field.set(media[name] ?? null);
    }
    this.clearProblems();
    this.changed();
  }

  /** Enters what `entered` returned, and leaves the media as they are. */
  enter({ values, axes, collect }) {
    const media = {};
    for (const [name, field] of this.fields) if (field.isMedia) media[name] = field.media;
    this._fill(values, media);
    this.sets.enter({ axes, collect });
  }

  /** Gives every field its default, and empties those that have none. */
  reset() {
    this.fill({});
    this.sets.draw(this.definition);
  }

  /**
   * Shows at its field whatever cannot be right, all at once; returns whether there is anything.
   * The inputs named in `others` get their values from elsewhere.
   */
  check(others = new Set()) {
    const values = {};
    const media = {};
    for (const [name, field] of this.fields) {
      if (!field.isMedia) values[name] = field.get();
      else if (field.media) media[name] = field.media;
    }
    const problems = problemsOf(this._drawn(), values, media);
    for (const name of others) problems.delete(name);
    for (const [name, why] of problems) this.fields.get(name).refuse(why);
    if (!problems.size) return false;
    this.problem(sayCount("problems", problems.size));
    this._goTo(this.fields.get(problems.keys().next().value));
    return true;
  }

  /** The definition with those inputs alone whose fields are drawn: the others have their defaults. */
  _drawn() {
    const entries = Object.entries(this.definition.inputs.properties ?? {});
    const drawn = entries.filter(([name]) => this.fields.has(name));
    return { inputs: { ...this.definition.inputs, properties: Object.fromEntries(drawn) } };
  }

  _goTo(field) {
    field.element.scrollIntoView({ block: "nearest" });
    field.focus();
  }

  _mediaInput({ source, filename }) {
    const { job, output = 0 } = source;
    const load = job === undefined ? null : () => this.client.fetch(job, output);
    return new MediaInput({ client: this.client, source, filename, load });
  }

  /** Enters a job's output as an input; false if no field takes its kind. */
  takeOutput(job, info) {
    const accepts = (field) => field.isMedia && field.schema["x-kind"] === kindOf(info);
    const field = this._find((each) => accepts(each) && !each.media) ?? this._find(accepts);
    if (!field) return false;
    const source = { job, output: info.index };
    const filename = info.filename ?? info.name;
    const load = () => this.client.fetch(job, info.index);
    field.set(new MediaInput({ client: this.client, source, filename, load }));
    field.focus();
    return true;
  }

  /** Returns sources and filenames of the media, for `meta`, so that the job can be run again. */
  remembered(inputs) {
    const { media } = this.entered();
    const entries = Object.entries(media).filter(([name]) => inputs[name]);
    return Object.fromEntries(
      entries.map(([name, { filename }]) => [name, { source: inputs[name], filename }]),
    );
  }

  /** Makes the next request upload all files again: the bridge deletes uploads after a day. */
  forgetUploads() {
    for (const field of this.fields.values()) field.media?.forget();
  }

  // Errors.

  /** Shows an error at the field that it names, or else beside the button. */
  refuse({ message, details = {} }) {
    if (this.sets.refuse({ message, details })) return;
    if (this.places.some(([name]) => name === details.input)) {
      byId("more").open = true;
      this._drawPlaces();
    }
    const field = this.fields.get(details.input);
    if (!field) {
      this.problem(message);
      return;
    }
    field.refuse(withoutName(message, details));
    this._goTo(field);
  }

  problem(message) {
    byId("form-problem").textContent = message ?? "";
    show(byId("form-problem"), Boolean(message));
  }

  clearProblems() {
    this.problem(null);
    this.sets.clearProblems();
    for (const field of this.fields.values()) field.refuse(null);
  }

  // The draft, which survives a reload.

  _saveDraft() {
    if (!this.definition) return;
    const { values } = this.entered();
    sessionStorage.setItem(`draft ${this.definition.name}`, JSON.stringify(values));
  }

  _draft() {
    return JSON.parse(sessionStorage.getItem(`draft ${this.definition.name}`) ?? "{}");
  }

  _enter(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.fields.get(name);
      if (field && !field.isMedia) field.set(value);
    }
  }

  _paste(event) {
    const [file] = event.clipboardData?.files ?? [];
    if (!file?.type.startsWith("image/") || byId("workspace").hidden) return;
    const pictures = [...this.fields.values()].filter((each) => each.acceptsPictures);
    const focused = pictures.find((each) => each.element.contains(document.activeElement));
    const field = focused ?? pictures.find((each) => !each.media) ?? pictures[0];
    if (!field) return;
    event.preventDefault();
    field.setFile(file);
    announce(say("form.pasted"));
  }
}

/** Returns the kind of input that takes an output. */
function kindOf(info) {
  const [kind] = info.content_type.split("/");
  return ["image", "audio", "video"].includes(kind) ? kind : "file";
}

/** An error's text without the input's name, which the field's label shows. */
function withoutName(message, { input }) {
  const text = message.replace(`input '${input}': `, "").replace(`input "${input}": `, "");
  return capital(text);
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
