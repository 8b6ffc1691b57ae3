/**
 * The viewer: outputs of the gallery's jobs, as large as the window, one after the other. A picture
 * is zoomed with wheel, pinch or keys, and compared with the one that the job was given.
 */

import { announce, button, make, show } from "./dom.js";
import { actionRow } from "./job_actions.js";
import { caption, facts, parameters } from "./job_facts.js";
import { drawOutput } from "./outputs.js";
import { say } from "./texts.js";
import { Gestures } from "./gestures.js";
import { STEP, WHOLE, moved, swipe, zoomed } from "./zoom.js";

const QUIET = { quiet: true, kind: "small" };

export class Viewer {
  /**
   * `gallery` gives the `shown()` views, in their order, and its `choose(view)` is called with the one
   * that is looked at; `inputs` are the InputPictures, `actions` as in job_actions.js.
   */
  constructor({ client, gallery, inputs, actions }) {
    this.client = client;
    this.gallery = gallery;
    this.inputs = inputs;
    // An action that continues in the form closes the dialog, which would cover the form.
    const thenForm = (action) => (...given) => {
      this.dialog.close();
      action(...given);
    };
    this.actions = {
      ...actions,
      again: thenForm(actions.again),
      useAsInput: thenForm(actions.useAsInput),
      remove: (view) => this._remove(view, actions.remove),
    };
    this._build();
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Opens the viewer on an output of a view. */
  open(view, index = 0) {
    this.view = view;
    this.index = index;
    if (!this.dialog.isConnected) document.body.append(this.dialog);
    if (!this.dialog.open) this.dialog.showModal();
    this._draw();
    this.frame.focus();
  }

  _build() {
    this.heading = make("h2", { class: "viewer-caption" });
    this.place = make("span", { class: "viewer-place" });
    this.out = button("minus", say("zoom.out"), () => this._zoom(1 / STEP), QUIET);
    this.in = button("plus", say("zoom.in"), () => this._zoom(STEP), QUIET);
    this.whole = button("whole", say("zoom.whole"), () => this._set(WHOLE), QUIET);
    this.compare = button("compare", say("viewer.compare"), () => this._toggleCompare(), QUIET);
    this.more = button("list", say("viewer.parameters"), () => this._toggleParameters(), QUIET);
    this.compare.setAttribute("aria-pressed", "false");
    this.more.setAttribute("aria-expanded", "false");
    const close = button("close", say("viewer.close"), () => this.dialog.close(), QUIET);
    this.canvas = make("div", { class: "viewer-canvas" });
    this.frame = make("div", { class: "viewer-frame", tabindex: -1 }, this.canvas);
    this.previous = button("left", say("viewer.previous"), () => this._go(-1), QUIET);
    this.next = button("right", say("viewer.next"), () => this._go(1), QUIET);
    this.split = make("input", {
      ...{ type: "range", min: 0, max: 100, value: 50, class: "viewer-split" },
      "aria-label": say("viewer.split"),
      oninput: () => this.canvas.style.setProperty("--split", `${this.split.value}%`),
    });
    this.comparing = make(
      "div",
      { class: "viewer-comparing", hidden: true },
      make("span", {}, say("viewer.input")),
      this.split,
      make("span", {}, say("viewer.output")),
    );
    this.facts = make("p", { class: "facts" });
    this.parameters = make("div", { class: "viewer-parameters", hidden: true, tabindex: 0 });
    this.parameters.setAttribute("role", "region");
    this.parameters.setAttribute("aria-label", say("viewer.parameters"));
    this.row = make("div");
    this.dialog = make(
      "dialog",
      { class: "viewer", "aria-label": say("viewer.title") },
      make(
        "div",
        { class: "viewer-bar" },
        ...[this.heading, this.place, this.out, this.whole, this.in, this.compare, this.more, close],
      ),
      make("div", { class: "viewer-middle" }, this.previous, this.frame, this.next, this.parameters),
      make("div", { class: "viewer-foot" }, this.comparing, this.facts, this.row),
    );
    this.dialog.addEventListener("keydown", (event) => this._key(event));
    this.dialog.addEventListener("close", () => this._closed());
    this._listen();
  }

  _listen() {
    new Gestures(this.frame, {
      zoom: (factor, point) => this._zoom(factor, point),
      drag: (dx, dy) => this.zoomable && this._set(moved(this.at, dx, dy, this._box())),
      end: (dx, dy) => this.at.scale === 1 && this._go(swipe(dx, dy)),
      double: (point) => (this.at.scale > 1 ? this._set(WHOLE) : this._zoom(STEP ** 2, point)),
    });
  }

  // What is shown.

  _draw() {
    const { view } = this;
    const info = view.job.result.outputs[this.index];
    const all = this._all();
    const at = all.findIndex((each) => each.view === view && each.index === this.index);
    this.heading.textContent = caption(view);
    this.place.textContent = at < 0 ? "" : say("job.pages", { at: at + 1, all: all.length });
    this.previous.disabled = at <= 0;
    this.next.disabled = at < 0 || at >= all.length - 1;
    this.facts.textContent = facts(view, info);
    this.row.replaceChildren(actionRow(view, info, this.client, this.actions));
    this.parameters.replaceChildren(parameters(view, info));
    this.zoomable = info.content_type.startsWith("image/");
    this.source = this.zoomable ? this.inputs.sourceOf(view) : undefined;
    this._endCompare();
    show(this.compare, Boolean(this.source));
    for (const each of [this.out, this.whole, this.in]) show(each, this.zoomable);
    this.canvas.replaceChildren();
    this._set(WHOLE);
    drawOutput(this.canvas, info, { view, client: this.client });
  }

  /** Every output that can be gone to, in the gallery's order. */
  _all() {
    return this.gallery
      .shown()
      .filter(({ job }) => job.state === "succeeded" && job.result)
      .flatMap((view) => view.job.result.outputs.map((_, index) => ({ view, index })));
  }

  _go(step) {
    if (!step) return;
    const all = this._all();
    const at = all.findIndex(({ view, index }) => view === this.view && index === this.index);
    const next = all[at + step];
    if (!next) return;
    Object.assign(this, next);
    this._draw();
  }

  async _remove(view, remove) {
    const all = this._all();
    const at = all.findIndex((each) => each.view === view);
    const others = all.filter((each) => each.view !== view);
    if (!(await remove(view))) return;
    const next = others[Math.min(Math.max(at, 0), others.length - 1)];
    if (next) this.open(next.view, next.index);
    else this.dialog.close();
  }

  _closed() {
    this.canvas.replaceChildren(); // a film would go on
    this._endCompare();
    this.gallery.choose(this.view);
    this.gallery.focus(this.view);
  }

  _toggleParameters() {
    show(this.parameters, this.parameters.hidden);
    this.more.setAttribute("aria-expanded", String(!this.parameters.hidden));
    this._set(WHOLE);
  }

  // Comparing.

  async _toggleCompare() {
    if (!this.comparing.hidden) {
      this._endCompare();
      return;
    }
    const { view } = this;
    try {
      const blob = await this.inputs.get(this.source);
      if (this.view !== view) return;
      this.compared = URL.createObjectURL(blob);
    } catch {
      announce(say("viewer.noInput"));
      show(this.compare, false);
      return;
    }
    this.canvas.append(make("img", { class: "viewer-input", src: this.compared, alt: say("viewer.input") }));
    this.canvas.style.setProperty("--split", `${this.split.value}%`);
    show(this.comparing, true);
    this.compare.setAttribute("aria-pressed", "true");
    this.split.focus();
  }

  _endCompare() {
    if (this.compared) URL.revokeObjectURL(this.compared);
    this.compared = null;
    this.canvas.querySelector(".viewer-input")?.remove();
    show(this.comparing, false);
    this.compare.setAttribute("aria-pressed", "false");
  }

  // Zooming.

  _box() {
    const { clientWidth: frameWidth, clientHeight: frameHeight } = this.frame;
    const { offsetWidth: width, offsetHeight: height } = this.canvas;
    return { width, height, frameWidth, frameHeight };
  }

  _zoom(factor, point = { x: 0, y: 0 }) {
    if (this.zoomable) this._set(zoomed(this.at, factor, point, this._box()));
  }

  _set(view) {
    this.at = view;
    this.canvas.style.setProperty("transform", `translate(${view.x}px, ${view.y}px) scale(${view.scale})`);
    this.frame.classList.toggle("zoomed", view.scale > 1);
    this.out.disabled = this.whole.disabled = view.scale === 1;
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isField = event.target.matches("input, textarea, select, video, audio");
    const keys = {
      ArrowLeft: () => this._go(-1),
      ArrowRight: () => this._go(1),
      "+": () => this._zoom(STEP),
      "=": () => this._zoom(STEP),
      "-": () => this._zoom(1 / STEP),
      0: () => this._set(WHOLE),
    };
    const action = isField ? undefined : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
