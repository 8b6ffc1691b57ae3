/**
 * The gallery: one tile for each job, the newest first, from the moment it is submitted. The chosen
 * job is shown large, by JobDetail; one that has ended is looked at in the Viewer.
 */

import { confirm } from "./dialogs.js";
import { announce, button, byId, make, show } from "./dom.js";
import { date } from "./format.js";
import { isFailed, passes } from "./gallery_filter.js";
import { JobDetail } from "./job_detail.js";
import { JobView } from "./job_view.js";
import { SetView } from "./set_view.js";
import { say, sayCount } from "./texts.js";
import { Tile } from "./tile.js";
import { Viewer } from "./viewer.js";

// The longest that the bridge keeps outputs: a year.
const KEEP_S = 31_536_000;
const A_DAY_S = 86_400;
const SHOWN = ["all", "favourites", "kept", "failed"];

export class Gallery {
  /**
   * `actions` has what the buttons of a job do to the form and to its request: `again`, `useAsInput`
   * and `cancel`, and `cancelSet`; `inputs` are the InputPictures, `marks` the user's Marks.
   */
  constructor(client, { actions, inputs, marks }) {
    this.client = client;
    this.marks = marks;
    this.views = new Map();
    this.tiles = new Map();
    this.sets = new Map(); // SetView by the set's id
    this.looking = new Map(); // by a set's id: the promise of its SetView, while it is asked for
    this.chosen = null;
    this.drawing = null;
    this.filter = { text: "", workflow: "", show: "all" };
    const all = {
      ...actions,
      remove: (view) => this._remove(view),
      keep: (view) => this._keep(view),
      favourite: (view) => this._favourite(view),
      enlarge: (view, index) => this.viewer.open(view, index),
    };
    this.actions = all;
    this.detail = new JobDetail(client, all);
    this.viewer = new Viewer({ client, gallery: this, inputs, actions: all });
    const near = { rootMargin: "300px" };
    this.visible = new IntersectionObserver((found) => {
      for (const each of found) {
        if (each.isIntersecting) this.tiles.get(each.target.dataset.job)?.load();
      }
    }, near);
    byId("tiles").replaceChildren();
    byId("tiles").onkeydown = (event) => this._key(event);
    this._buildTools();
    // How far a job is, is known only while there is a connection.
    for (const type of ["connection", "bridge"]) client.addEventListener(type, () => this._redraw());
    this.detail.show(null);
  }

  /** Shows a job, once; `inputs` are the values of the form, if it was submitted here. */
  add(job, { inputs = {}, choose = false } = {}) {
    let view = this.views.get(job.id);
    if (!view) {
      view = this._view(job, inputs, "li");
      this._place(view.at, this.tiles.get(job.id).element);
    }
    if (choose) this.choose(view);
    return view;
  }

  /** Makes the view and the tile of a job. */
  _view(job, inputs, tag) {
    const view = new JobView(job, inputs);
    view.mark = this.marks.of(job.id);
    this.views.set(job.id, view);
    const tile = new Tile(this.client, view, () => this._open(view), tag);
    this.tiles.set(job.id, tile);
    this.visible.observe(tile.element);
    job.addEventListener("change", () => this._changed(view));
    this._drawToolsSoon();
    return view;
  }

  /**
   * Shows a set, once. `asked` is what the form asked for, if that was here: `{ workflow, inputs,
   * axes, total }`.
   */
  addSet(set, { asked = {}, choose = false } = {}) {
    let view = this.sets.get(set.id);
    if (!view) {
      const actions = { cancel: this.actions.cancelSet, forget: (each) => this._forgetSet(each) };
      const tile = (index) => this._cell(view, index);
      view = new SetView(this.client, set, { asked, tile, actions });
      this.sets.set(set.id, view);
      view.draw();
      this._place(view.at, view.element);
      set.addEventListener("change", () => {
        this._setChanged(view);
        if (set.result) announce(view.described());
      });
      this._setChanged(view);
    }
    const first = view.element.querySelector("[data-job]");
    if (choose && first) this.choose(this.views.get(first.dataset.job));
    return view;
  }

  /** Shows a set that was made elsewhere or before; `jobs` are those of it that are known. */
  async findSet(setId, jobs = []) {
    if (this.sets.has(setId)) return;
    const set = this.client.set(setId);
    if (!this.looking.has(setId)) this.looking.set(setId, set.refresh());
    try {
      await this.looking.get(setId);
      this.addSet(set);
    } catch {
      for (const job of jobs) this.add(job); // the bridge knows the set no longer
    } finally {
      this.looking.delete(setId);
    }
  }

  /** Returns the element of the tile of a set's job. */
  _cell(setView, index) {
    const { set } = setView;
    const id = `${set.id}-${index}`;
    if (!this.views.has(id)) {
      const job = this.client.job(id);
      job.setId = set.id;
      job.workflow ??= set.workflow ?? setView.asked.workflow;
      this._view(job, setView.inputsOf(index), "div");
    }
    return this.tiles.get(id).element;
  }

  _setChanged(view) {
    const { set } = view;
    view.draw();
    for (const job of view.jobs()) {
      const { state, inputs } = set.result?.jobs[job.index] ?? {};
      const { job: known } = this.views.get(job.id) ?? {};
      if (!known || known.result) continue;
      // A job that never got into the queue has no messages of its own.
      if (state === "cancelled") {
        known.restore({ workflow: set.workflow, result: { state, outputs: [], inputs } });
      } else if (state) known.refresh().catch(() => {});
      else if (set.accepted && known.state === null) {
        known.state = "queued";
        this._changed(this.views.get(job.id));
      }
    }
    this._drawToolsSoon();
  }

  async _forgetSet(view) {
    try {
      await view.set.forget();
    } catch (error) {
      if (error.code !== "unknown_job") throw error;
    }
    this.dropSet(view);
    announce(say("gallery.wasRemoved"));
  }

  /** Removes a set and its jobs from the page. */
  dropSet(view) {
    this.sets.delete(view.id);
    view.element.remove();
    for (const { id } of view.jobs()) {
      const known = this.views.get(id);
      if (!known) continue;
      this.marks.remove(id);
      this.drop(known);
    }
    this._drawTools();
  }

  /** Shows the kept jobs whose results the bridge has forgotten, from what was noted of them. */
  addKept() {
    for (const [id, { keptUntil, job }] of Object.entries(this.marks.all())) {
      if (!job || this.views.has(id) || keptUntil < Date.now() / 1000) continue;
      const kept = this.client.job(id);
      kept.restore(job);
      this.add(kept);
    }
  }

  /** Chooses the newest job if none is chosen. */
  chooseNewest() {
    if (!this.chosen) this.choose(this._newest());
  }

  /** Whether the chosen job has not ended; then a new job is not chosen in its place. */
  get isWatching() {
    return this.chosen !== null && !this.chosen.job.result;
  }

  /** Removes a job from the page. */
  drop(view) {
    this.tiles.get(view.id)?.element.remove();
    this.tiles.delete(view.id);
    this.views.delete(view.id);
    for (const set of this.sets.values()) {
      if (set.element.querySelector("[data-job]")) continue;
      this.sets.delete(set.id);
      set.element.remove();
    }
    if (this.chosen === view) this.choose(this._newest());
    this._drawTools();
  }

  choose(view) {
    const known = view && this.views.get(view.id);
    if (view && (!known || known === this.chosen)) return;
    this.tiles.get(this.chosen?.id)?.press(false);
    this.chosen = known ?? null;
    this.tiles.get(known?.id)?.press(true);
    this.detail.show(this.chosen);
  }

  /** The views that pass the filter, in the order of their tiles. */
  shown() {
    return [...byId("tiles").querySelectorAll("[data-job]")]
      .filter((each) => !each.hidden)
      .map((each) => this.views.get(each.dataset.job));
  }

  /** Puts the focus on a view's tile, as far as it is there. */
  focus(view) {
    this.tiles.get(view.id)?.button.focus();
  }

  /** A tile was pressed: what has outputs is looked at, anything else is brought into view. */
  _open(view) {
    this.choose(view);
    const { job } = view;
    if (job.state === "succeeded" && job.result?.outputs.length) this.viewer.open(view);
    else this.detail.reveal();
  }

  _newest() {
    const first = byId("tiles").querySelector("[data-job]");
    return this.views.get(first?.dataset.job);
  }

  _place(at, element) {
    const timeOf = ({ dataset }) => (this.sets.get(dataset.set) ?? this.views.get(dataset.job)).at;
    const later = [...byId("tiles").children].find((each) => timeOf(each) <= at);
    byId("tiles").insertBefore(element, later ?? null);
  }

  _changed(view) {
    const before = view.stateText;
    view.update();
    this.tiles.get(view.id)?.draw();
    if (this.chosen === view) this.detail.draw();
    if (view.stateText !== before) {
      // Of a set it is said how it ended, not what each of its jobs does.
      if (!view.job.setId) {
        const name = view.text || view.job.workflow;
        announce(say("gallery.tile", { name, state: view.stateText }));
      }
      this._drawToolsSoon();
    }
  }

  _redraw() {
    for (const [id, view] of this.views) if (!view.job.result) this.tiles.get(id).draw();
    for (const set of this.sets.values()) set.draw();
    if (this.chosen && !this.chosen.job.result) this.detail.draw();
  }

  _key(event) {
    const tiles = this.shown().map((view) => this.tiles.get(view.id).button);
    const at = tiles.indexOf(document.activeElement);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && tiles[at + step]) {
      tiles[at + step].focus();
      event.preventDefault();
    } else if (event.key === "Delete" && at >= 0) {
      const view = this.shown()[at];
      if (view.job.result) this._removeTile(view, tiles[at + 1] ?? tiles[at - 1]);
    }
  }

  async _removeTile(view, next) {
    if (await this._remove(view)) next?.focus();
  }

  // What is done with jobs that have ended.

  /** Deletes a job, here and at the bridge; resolves with false if the user changes their mind. */
  async _remove(view) {
    const yes = say("job.delete");
    if (!(await confirm(say("gallery.confirmDelete"), { more: say("gallery.forGood"), yes }))) {
      return false;
    }
    await this._forget(view);
    announce(say("gallery.wasRemoved"));
    return true;
  }

  async _forget(view) {
    try {
      await this.client.forget(view.id);
    } catch (error) {
      // It is gone already, which is what was wanted.
      if (error.code !== "unknown_job") {
        announce(error.message);
        return;
      }
    }
    this.marks.remove(view.id);
    this.drop(view);
  }

  /** Keeps a job's outputs for a year, or as long as others again; resolves with what was done. */
  async _keep(view) {
    const { job } = view;
    if (view.mark.keptUntil) {
      const usual = this.client.info?.limits?.keep_results_s ?? A_DAY_S;
      const left = view.at + usual - Date.now() / 1000;
      await this.client.keep(view.id, Math.max(A_DAY_S, left));
      this._mark(view, { keptUntil: null, job: undefined });
      return say("job.notKept");
    }
    const { keep_until: keptUntil } = await this.client.keep(view.id, KEEP_S);
    const { workflow, meta, result } = job;
    this._mark(view, { keptUntil, job: { workflow, meta, result, accepted_at: view.at } });
    return say("job.isKept", { date: date(keptUntil) });
  }

  _favourite(view) {
    const favourite = !view.mark.favourite;
    this._mark(view, { favourite });
    return say(favourite ? "job.isFavourite" : "job.notFavourite");
  }

  _mark(view, change) {
    view.mark = this.marks.set(view.id, change);
    this.tiles.get(view.id)?.draw();
    this._drawTools();
  }

  // The tools above the tiles.

  _buildTools() {
    const changed = () => this._drawTools();
    this.search = make("input", {
      ...{ type: "search", placeholder: say("gallery.search"), "aria-label": say("gallery.search") },
      oninput: changed,
    });
    this.workflow = make("select", { "aria-label": say("gallery.workflow"), onchange: changed });
    this.kind = make(
      "select",
      { "aria-label": say("gallery.show"), onchange: changed },
      SHOWN.map((each) => make("option", { value: each }, say(`gallery.show.${each}`))),
    );
    this.cancelAll = button("close", "", () => this._cancelAll(), { kind: "small" });
    this.removeFailed = button("delete", "", () => this._removeFailed(), { kind: "small" });
    byId("gallery-tools").replaceChildren(
      ...[this.search, this.workflow, this.kind, this.cancelAll, this.removeFailed],
    );
    const clear = button("reset", say("gallery.clear"), () => this._clearFilter(), { kind: "small" });
    byId("gallery-nothing").replaceChildren(make("span", {}, say("gallery.nothing")), clear);
  }

  _clearFilter() {
    this.search.value = "";
    this.workflow.value = "";
    this.kind.value = "all";
    this._drawTools();
    this.search.focus();
  }

  /** Jobs come in bursts: all of them are looked through once for each burst. */
  _drawToolsSoon() {
    this.drawing ??= setTimeout(() => {
      this.drawing = null;
      this._drawTools();
    });
  }

  /** Draws the tools, and shows the tiles that pass the filter. */
  _drawTools() {
    const all = [...this.views.values()];
    const names = [...new Set(all.map(({ job }) => job.workflow).filter(Boolean))].sort();
    const chosen = names.includes(this.workflow.value) ? this.workflow.value : "";
    if ([...this.workflow.options].slice(1).map((each) => each.value).join() !== names.join()) {
      this.workflow.replaceChildren(
        make("option", { value: "" }, say("gallery.allWorkflows")),
        ...names.map((each) => make("option", { value: each }, each)),
      );
    }
    this.workflow.value = chosen;
    this.filter = { text: this.search.value, workflow: chosen, show: this.kind.value };
    let count = 0;
    for (const view of all) {
      const isShown = passes(view.described(), this.filter);
      show(this.tiles.get(view.id).element, isShown);
      count += isShown ? 1 : 0;
    }
    for (const { element } of this.sets.values()) {
      show(element, element.querySelector("[data-job]:not([hidden])") !== null);
    }
    const counts = { running: this._unfinished().length, failed: this._failed().length };
    this.cancelAll.lastChild.textContent = say("gallery.cancelAll", { count: counts.running });
    this.removeFailed.lastChild.textContent = say("gallery.removeFailed", { count: counts.failed });
    show(this.cancelAll, counts.running > 1);
    show(this.removeFailed, counts.failed > 0);
    show(byId("gallery-tools"), all.length > 0);
    show(byId("gallery-empty"), all.length === 0);
    show(byId("gallery-nothing"), all.length > 0 && count === 0);
  }

  _unfinished() {
    return [...this.views.values()].filter(({ job }) => !job.result);
  }

  _failed() {
    return [...this.views.values()].filter(({ job }) => job.result && isFailed(job.state));
  }

  async _cancelAll() {
    const count = this._unfinished().length;
    const options = { yes: say("gallery.cancelAll", { count }), no: say("dialog.back") };
    if (!(await confirm(sayCount("gallery.confirmCancel", count), options))) return;
    for (const set of this.sets.values()) {
      if (!set.set.result) this.actions.cancelSet(set).catch((error) => announce(error.message));
    }
    // The newest first: so that none begins that is about to be cancelled.
    const isSingle = ({ id }) => !this.tiles.get(id).element.closest("[data-set]");
    const single = this._unfinished().filter(isSingle);
    for (const view of single.sort((one, other) => other.at - one.at)) {
      this.actions.cancel(view).catch((error) => announce(error.message));
    }
  }

  async _removeFailed() {
    const count = this._failed().length;
    const options = { more: say("gallery.forGood"), yes: say("gallery.remove") };
    if (!(await confirm(sayCount("gallery.confirmFailed", count), options))) return;
    await Promise.all(this._failed().map((view) => this._forget(view)));
    announce(say("gallery.wasRemoved"));
  }
}
