/** The row above the form: presets of the workflow, and the way back to its defaults. */

import { confirm, askName } from "./dialogs.js";
import { announce, button, byId, make, show } from "./dom.js";
import { say } from "./texts.js";

const QUIET = { quiet: true, kind: "small" };

export class PresetBar {
  /** `presets` as in presets.js, `form` the Form. */
  constructor(presets, form) {
    this.presets = presets;
    this.form = form;
    this.workflow = null;
    this.choice = make("select", { "aria-label": say("preset.label"), onchange: () => this._apply() });
    this.save = button("save", say("preset.save"), () => this._save(), { kind: "small" });
    this.remove = button("delete", say("preset.remove"), () => this._remove(), QUIET);
    this.reset = button("reset", say("preset.reset"), () => this._reset(), { kind: "small" });
    byId("presets").replaceChildren(this.choice, this.save, this.remove, this.reset);
  }

  /** Shows the presets of a workflow, with `chosen` chosen. */
  draw(workflow, chosen = workflow === this.workflow ? this.choice.value : "") {
    this.workflow = workflow;
    const names = this.presets.names(workflow);
    this.choice.replaceChildren(
      make("option", { value: "" }, say("preset.none")),
      ...names.map((name) => make("option", { value: name }, name)),
    );
    this.choice.value = names.includes(chosen) ? chosen : "";
    show(this.choice, names.length > 0);
    show(this.remove, this.choice.value !== "");
  }

  _apply() {
    const preset = this.presets.get(this.workflow, this.choice.value);
    show(this.remove, Boolean(preset));
    if (preset) this.form.enter(preset);
  }

  async _save() {
    const name = await askName(say("preset.name"));
    if (!name) return;
    const isSaved = this.presets.save(this.workflow, name, this.form.entered());
    announce(isSaved ? say("preset.saved", { name }) : say("preset.full"));
    this.draw(this.workflow, isSaved ? name : "");
  }

  async _remove() {
    const name = this.choice.value;
    if (!(await confirm(`${say("preset.remove")}: ${name}?`, { yes: say("preset.remove") }))) return;
    this.presets.remove(this.workflow, name);
    announce(say("preset.removed", { name }));
    this.draw(this.workflow, "");
    this.save.focus();
  }

  _reset() {
    this.form.reset();
    this.draw(this.workflow, "");
    announce(say("preset.wasReset"));
  }
}
