/**
 * A set as the gallery shows it: how far it is, and its jobs' tiles; for two axes as a table whose
 * rows and columns are labelled, else one after the other, each with what it differs in.
 */

import { confirm } from "./dialogs.js";
import { announce, button, make, save, show } from "./dom.js";
import { downloadName } from "./file_names.js";
import { estimate, title } from "./format.js";
import { axesOf, count, inputsAt, labelAt, placesOf, product } from "./set_axes.js";
import { say, sayCount, sayOr } from "./texts.js";

// So many jobs are drawn at first.
const SHOWN = 120;
const SMALL = { kind: "small" };

export class SetView {
  /**
   * `asked` is `{ inputs, axes, total }` as far as they are known: `inputs` are those that all jobs
   * have in common. `tile(index)` returns the element of a job's tile; `actions` has `cancel` and
   * `forget`, each of a SetView.
   */
  constructor(client, set, { asked, tile, actions }) {
    this.client = client;
    this.set = set;
    this.asked = asked;
    this.tile = tile;
    this.actions = actions;
    this.at = set.acceptedAt ?? Date.now() / 1000;
    this.limit = SHOWN;
    this.heading = make("h3", { id: `set-${set.id}` });
    this.words = make("p", { class: "words" });
    this.fill = make("span");
    this.bar = make(
      "div",
      { class: "bar", role: "progressbar", "aria-label": say("job.progress"), "aria-valuemin": 0 },
      this.fill,
    );
    this.pause = button("pause", "", () => this._do(() => this._togglePause()), SMALL);
    this.cancel = button("close", say("set.cancel"), () => this._do(() => this._cancel()), SMALL);
    this.forget = button("delete", say("set.forget"), () => this._do(() => this._forget()), SMALL);
    this.body = make("div", { class: "set-jobs" });
    this.more = button("list", "", () => this._showAll(), SMALL);
    this.collected = make("div", { class: "row" });
    const tools = make("div", { class: "row" }, this.collected, this.pause, this.cancel, this.forget);
    const head = make("div", { class: "set-head" }, make("div", {}, this.heading, this.words), tools);
    // No landmarks: several sets may have the same heading.
    const about = { class: "set-group", role: "group", "aria-labelledby": this.heading.id };
    this.element = make(
      "li",
      { class: "set", "data-set": set.id },
      make("div", about, head, this.bar, this.body, this.more),
    );
    this.drawn = null;
  }

  get id() {
    return this.set.id;
  }

  /** How many jobs it has, 0 while that is not known. */
  get total() {
    return this.set.total ?? this.asked.total ?? 0;
  }

  /** What its jobs differ in, null where that is not known. */
  get axes() {
    const { result } = this.set;
    const axes = (result && axesOf(result.jobs)) ?? this.asked.axes ?? this.set.meta?.page?.axes;
    return axes && product(axes) === this.total ? axes : null;
  }

  /** The inputs of a job, as far as the page knows them. */
  inputsOf(index) {
    const own = this.set.result?.jobs[index]?.inputs ?? (this.axes ? inputsAt(this.axes, index) : {});
    return { ...this.asked.inputs, ...own };
  }

  /** The jobs that are drawn, as `{ id, index }`. */
  jobs() {
    return this._indexes().map((index) => ({ id: `${this.id}-${index}`, index }));
  }

  /** Draws what changed. */
  draw() {
    const { set, axes } = this;
    const layout = JSON.stringify([axes, this.total, this.limit]);
    if (layout !== this.drawn) this._drawJobs(axes);
    this.drawn = layout;
    const hasEnded = Boolean(set.result);
    const done = this.total - this._left();
    this.element.dataset.state = set.state ?? "sending";
    this.heading.textContent = this._heading(axes);
    this.words.textContent = this._words(done);
    this.fill.style.setProperty("width", `${(100 * done) / (this.total || 1)}%`);
    this.bar.setAttribute("aria-valuemax", this.total || 1);
    this.bar.setAttribute("aria-valuenow", done);
    this.pause.lastChild.textContent = say(set.state === "paused" ? "set.resume" : "set.pause");
    const outputs = set.result?.outputs ?? [];
    if (outputs.length !== this.collected.childElementCount) {
      this.collected.replaceChildren(...outputs.map((info) => this._download(info)));
    }
    show(this.bar, !hasEnded);
    show(this.pause, ["running", "paused"].includes(set.state));
    show(this.cancel, !hasEnded && set.state !== "cancelling");
    show(this.forget, hasEnded);
  }

  /** What it is and how far, in a line. */
  described() {
    return say("gallery.tile", { name: this.heading.textContent, state: this.words.textContent });
  }

  _heading(axes) {
    const workflow = title(this.set.workflow ?? this.asked.workflow ?? "");
    const by = axes?.map(({ name }) => title(name)).join(" × ");
    return by ? say("set.heading", { workflow, by }) : workflow;
  }

  /** Jobs that have not ended. */
  _left() {
    const { waiting = 0, queued = 0, running = 0 } = this.set.counts;
    const { accepted, counts } = this.set;
    return accepted && Object.keys(counts).length ? waiting + queued + running : this.total;
  }

  _words(done) {
    const { state, counts, eta, accepted } = this.set;
    if (!accepted) return say(this.client.isLive ? "job.sending" : "job.sentLater");
    const few = ["failed", "expired", "cancelled"].filter((each) => counts[each]);
    return [
      say("set.done", { done: counts.succeeded ?? 0, total: this.total }),
      counts.running ? say("set.running", { count: counts.running }) : null,
      ...few.map((each) => say(`set.${each}`, { count: counts[each] })),
      ["paused", "cancelling"].includes(state) ? say(`set.state.${state}`) : null,
      state === "running" && done < this.total && eta !== undefined && this.client.isLive
        ? say("job.left", { time: estimate(eta) })
        : null,
    ]
      .filter(Boolean)
      .join(" · ");
  }

  // The jobs.

  _drawJobs(axes) {
    // A tile that is moved loses the focus.
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    const isTable = axes?.length === 2 && axes.every(({ spec }) => count(spec) > 1);
    this.body.replaceChildren(isTable ? this._table(axes) : this._list(axes));
    focused?.focus({ preventScroll: true });
    this.more.lastChild.textContent = say("set.all", { count: this.total });
    show(this.more, this.total > this.limit);
  }

  _indexes() {
    return Array.from({ length: Math.min(this.total, this.limit) }, (_, index) => index);
  }

  _list(axes) {
    const label = (index) =>
      axes
        ?.map(({ name, spec }, at) => `${title(name)} ${labelAt(spec, placesOf(axes, index)[at])}`)
        .join(", ");
    return make(
      "ul",
      { class: "set-list" },
      this._indexes().map((index) =>
        make("li", {}, this.tile(index), make("span", { class: "set-label" }, label(index) ?? "")),
      ),
    );
  }

  _table([down, across]) {
    const columns = Array.from({ length: count(across.spec) }, (_, at) => at);
    const rows = Array.from({ length: Math.ceil(this._indexes().length / columns.length) }, (_, at) => at);
    const table = make(
      "table",
      {},
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          make("td", {}),
          make("th", { scope: "colgroup", colspan: columns.length, class: "set-axis" }, title(across.name)),
        ),
        make(
          "tr",
          {},
          make("th", { scope: "col", class: "set-axis" }, title(down.name)),
          columns.map((at) => make("th", { scope: "col" }, make("span", {}, labelAt(across.spec, at)))),
        ),
      ),
      make(
        "tbody",
        {},
        rows.map((row) =>
          make(
            "tr",
            {},
            make("th", { scope: "row" }, make("span", {}, labelAt(down.spec, row))),
            columns.map((at) => make("td", {}, this.tile(row * columns.length + at))),
          ),
        ),
      ),
    );
    const about = { role: "group", tabindex: 0, "aria-labelledby": this.heading.id };
    return make("div", { class: "set-table", ...about }, table);
  }

  _showAll() {
    this.limit = Infinity;
    this.draw();
    this.element.querySelectorAll(".tile")[SHOWN]?.focus();
  }

  // What is done with it.

  async _do(action) {
    try {
      await action();
    } catch (error) {
      announce(error.message);
    }
  }

  /** The button for something that the set has collected. */
  _download(info) {
    return button("download", sayOr(`collect.${info.name}`, info.name), () => this._do(async () => {
      const url = URL.createObjectURL(await this.set.output(info));
      const { workflow, id } = this.set;
      save(url, downloadName({ info, workflow, caption: "", id }));
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    }), SMALL);
  }

  _togglePause() {
    return this.set.state === "paused" ? this.set.resume() : this.set.pause();
  }

  async _cancel() {
    const options = { yes: say("set.cancel"), no: say("dialog.back") };
    if (await confirm(sayCount("gallery.confirmCancel", this._left()), options)) {
      await this.actions.cancel(this);
    }
  }

  async _forget() {
    const options = { more: say("gallery.forGood"), yes: say("set.forget") };
    if (await confirm(say("set.confirmForget"), options)) await this.actions.forget(this);
  }
}
