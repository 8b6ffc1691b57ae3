/**
 * The gallery: one tile for each job, the newest first, from the moment it is submitted. The chosen
 * job is shown large, by JobDetail.
 */

import { announce, byId, icon, make, show } from "./dom.js";
import { JobView } from "./job_view.js";
import { JobDetail } from "./job_detail.js";
import { estimate, place, state } from "./format.js";

export class Gallery {
  /** `actions` has what the buttons of a job do: `again`, `useAsInput` and `cancel`. */
  constructor(client, actions) {
    this.client = client;
    this.views = new Map();
    this.tiles = new Map();
    this.chosen = null;
    this.detail = new JobDetail(client, actions);
    const near = { rootMargin: "300px" };
    this.visible = new IntersectionObserver((found) => {
      for (const each of found) {
        if (each.isIntersecting) this.tiles.get(each.target.dataset.job)?.load();
      }
    }, near);
    byId("tiles").replaceChildren();
    byId("tiles").onkeydown = (event) => this._moveFocus(event);
    this.detail.show(null);
  }

  /** Shows a job, once; `inputs` are the values of the form, if it was submitted here. */
  add(job, { inputs = {}, choose = false } = {}) {
    let view = this.views.get(job.id);
    if (!view) {
      view = new JobView(job, inputs);
      this.views.set(job.id, view);
      const tile = new Tile(this.client, view, () => this.choose(view));
      this.tiles.set(job.id, tile);
      this._place(view, tile);
      this.visible.observe(tile.element);
      job.addEventListener("change", () => this._changed(view));
      show(byId("gallery-empty"), false);
    }
    if (choose) this.choose(view);
    return view;
  }

  /** Chooses the newest job if none is chosen. */
  chooseNewest() {
    if (!this.chosen) this.choose(this._newest());
  }

  /** Whether the chosen job has not ended; then a new job is not chosen in its place. */
  get isWatching() {
    return this.chosen !== null && !this.chosen.job.result;
  }

  /** Removes a job that was never accepted. */
  drop(view) {
    this.tiles.get(view.id)?.element.remove();
    this.tiles.delete(view.id);
    this.views.delete(view.id);
    if (this.chosen === view) this.choose(this._newest());
    show(byId("gallery-empty"), this.views.size === 0);
  }

  choose(view) {
    this.tiles.get(this.chosen?.id)?.press(false);
    this.chosen = view ?? null;
    this.tiles.get(view?.id)?.press(true);
    this.detail.show(this.chosen);
  }

  _newest() {
    const first = byId("tiles").firstElementChild;
    return this.views.get(first?.dataset.job);
  }

  _place(view, tile) {
    const later = [...byId("tiles").children].find(
      (each) => this.views.get(each.dataset.job).at <= view.at,
    );
    byId("tiles").insertBefore(tile.element, later ?? null);
  }

  _changed(view) {
    const before = view.stateText;
    view.update();
    this.tiles.get(view.id)?.draw();
    if (this.chosen === view) this.detail.draw();
    if (view.stateText !== before) {
      announce(`${view.text || view.job.workflow}: ${view.stateText}`);
    }
  }

  _moveFocus(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const tiles = [...byId("tiles").querySelectorAll("button")];
    const next = tiles[tiles.indexOf(document.activeElement) + step];
    if (next) {
      next.focus();
      event.preventDefault();
    }
  }
}

class Tile {
  constructor(client, view, onclick) {
    this.client = client;
    this.view = view;
    this.picture = make("img", { alt: "", loading: "lazy", hidden: true });
    this.picture.addEventListener("error", () => this._drawMissing());
    this.face = make("span", { class: "face" }); // shown where there is no picture
    this.bar = make("span", { class: "bar" }, make("span"));
    this.words = make("span", { class: "words" });
    this.button = make(
      "button",
      { type: "button", class: "tile", onclick, "aria-pressed": "false" },
      this.face,
      this.picture,
      this.bar,
      this.words,
    );
    this.element = make("li", { "data-job": view.id }, this.button);
    this.loaded = false;
    this.visible = false;
    this.draw();
  }

  press(on) {
    this.button.setAttribute("aria-pressed", String(on));
  }

  /** Loads the picture. Called when the tile is about to be visible. */
  load() {
    this.visible = true;
    this.draw();
  }

  draw() {
    const { job } = this.view;
    const name = this.view.text || job.workflow || "job";
    const ended = Boolean(job.result);
    this.button.dataset.state = job.state ?? "sending";
    this.button.setAttribute("aria-label", `${name}: ${this.view.stateText}`);
    this.button.title = name;
    show(this.bar, !ended && job.state === "running");
    this.bar.firstChild.style.setProperty("width", `${job.progress?.percent ?? 0}%`);
    this.words.textContent = ended ? "" : brief(this.view);
    if (!ended && job.preview) this._showPicture(this.view.previewUrl());
    else if (job.state === "succeeded") this._drawOutput();
    else if (ended) this._showFace(job.state === "failed" ? "alert" : "close", state(job.state));
    else this._showFace(null, "");
  }

  async _drawOutput() {
    const outputs = this.view.job.result.outputs;
    const [info] = this.view.pictures();
    this.words.textContent = outputs.length > 1 ? `${outputs.length} outputs` : "";
    if (!info) {
      this._showFace("file", outputs[0]?.kind ?? "no outputs");
      return;
    }
    if (this.loaded || !(this.visible || this.view.job.has(info))) return;
    this.loaded = true;
    try {
      this._showPicture(await this.view.pictureUrl(this.client, info, 480));
    } catch {
      this._drawMissing();
    }
  }

  _drawMissing() {
    if (this.view.job.result) this._showFace("picture", "deleted");
  }

  _showPicture(url) {
    if (this.picture.src !== url) this.picture.src = url;
    show(this.picture, true);
    this.face.replaceChildren();
  }

  _showFace(drawing, words) {
    show(this.picture, false);
    this.face.replaceChildren(...(drawing ? [icon(drawing)] : []), words);
  }
}

/** A waiting or running job in a few words. */
function brief({ job, remaining }) {
  if (job.state === "running") {
    const percent = `${Math.round(job.progress?.percent ?? 0)}%`;
    return remaining === null ? percent : `${percent} · ${estimate(remaining)}`;
  }
  if (job.state === "queued") return place(job.position);
  return state(job.state ?? "sending");
}
