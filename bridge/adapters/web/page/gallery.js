/**
 * The gallery: a tile for each job, the newest first, from the moment it is asked for; what it
 * gives stands in the same place afterwards. The chosen one is on the stage, large.
 */

import { announce, byId, icon, make, show } from "./dom.js";
import { Entry } from "./entry.js";
import { Stage } from "./stage.js";
import { estimate, place, state } from "./words.js";

export class Gallery {
  /** `actions` are what the stage's buttons do: `again(entry)`, `useAsInput(entry, info)`. */
  constructor(client, actions) {
    this.client = client;
    this.entries = new Map();
    this.tiles = new Map();
    this.chosen = null;
    this.stage = new Stage(client, actions);
    const near = { rootMargin: "300px" };
    this.seen = new IntersectionObserver((found) => {
      for (const each of found) {
        if (each.isIntersecting) this.tiles.get(each.target.dataset.job)?.load();
      }
    }, near);
    byId("tiles").replaceChildren();
    byId("tiles").onkeydown = (event) => this._walk(event);
    this.stage.show(null);
  }

  /** Follows a job; `inputs` where they are known before its result tells. */
  add(job, { inputs = {}, choose = false } = {}) {
    let entry = this.entries.get(job.id);
    if (!entry) {
      entry = new Entry(job, inputs);
      this.entries.set(job.id, entry);
      const tile = new Tile(this.client, entry, () => this.choose(entry));
      this.tiles.set(job.id, tile);
      this._place(entry, tile);
      this.seen.observe(tile.element);
      job.addEventListener("change", () => this._changed(entry));
      show(byId("gallery-empty"), false);
    }
    if (choose) this.choose(entry);
    return entry;
  }

  /** With nothing chosen yet, the newest is. */
  chooseNewest() {
    if (!this.chosen) this.choose(this._newest());
  }

  /** Whether the chosen job has not ended: it keeps the stage. */
  get isWatching() {
    return this.chosen !== null && !this.chosen.job.result;
  }

  /** A job that was never accepted leaves nothing. */
  drop(entry) {
    this.tiles.get(entry.id)?.element.remove();
    this.tiles.delete(entry.id);
    this.entries.delete(entry.id);
    if (this.chosen === entry) this.choose(this._newest());
    show(byId("gallery-empty"), this.entries.size === 0);
  }

  choose(entry) {
    this.tiles.get(this.chosen?.id)?.press(false);
    this.chosen = entry ?? null;
    this.tiles.get(entry?.id)?.press(true);
    this.stage.show(this.chosen);
  }

  _newest() {
    const first = byId("tiles").firstElementChild;
    return this.entries.get(first?.dataset.job);
  }

  _place(entry, tile) {
    const later = [...byId("tiles").children].find(
      (each) => this.entries.get(each.dataset.job).at <= entry.at,
    );
    byId("tiles").insertBefore(tile.element, later ?? null);
  }

  _changed(entry) {
    const before = entry.told;
    entry.note();
    this.tiles.get(entry.id)?.draw();
    if (this.chosen === entry) this.stage.draw();
    if (entry.told !== before) announce(`${entry.text || entry.job.workflow}: ${entry.told}`);
  }

  _walk(event) {
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
  constructor(client, entry, onclick) {
    this.client = client;
    this.entry = entry;
    this.picture = make("img", { alt: "", loading: "lazy", hidden: true });
    this.picture.addEventListener("error", () => this._gone());
    this.face = make("span", { class: "face" });
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
    this.element = make("li", { "data-job": entry.id }, this.button);
    this.loaded = false;
    this.visible = false;
    this.draw();
  }

  press(on) {
    this.button.setAttribute("aria-pressed", String(on));
  }

  /** Called when it comes into sight: pictures of long ago are loaded then. */
  load() {
    this.visible = true;
    this.draw();
  }

  draw() {
    const { job } = this.entry;
    const name = this.entry.text || job.workflow || "job";
    const ended = Boolean(job.result);
    this.button.dataset.state = job.state ?? "asked";
    this.button.setAttribute("aria-label", `${name}: ${this.entry.told}`);
    this.button.title = name;
    show(this.bar, !ended && job.state === "running");
    this.bar.firstChild.style.setProperty("width", `${job.progress?.percent ?? 0}%`);
    this.words.textContent = ended ? "" : short(this.entry);
    if (!ended && job.preview) this._show(this.entry.previewUrl());
    else if (job.state === "succeeded") this._drawOutput();
    else if (ended) this._face(job.state === "failed" ? "alert" : "close", state(job.state));
    else this._face(null, "");
  }

  async _drawOutput() {
    const outputs = this.entry.job.result.outputs;
    const [info] = this.entry.pictures();
    const more = outputs.length > 1 ? `${outputs.length} outputs` : "";
    this.words.textContent = more;
    if (!info) {
      this._face("file", outputs[0]?.kind ?? "nothing to show");
      return;
    }
    if (this.loaded || !(this.visible || this.entry.job.has(info))) return;
    this.loaded = true;
    try {
      this._show(await this.entry.pictureUrl(this.client, info, 480));
    } catch {
      this._gone();
    }
  }

  _gone() {
    if (this.entry.job.result) this._face("picture", "kept no longer");
  }

  _show(url) {
    if (this.picture.src !== url) this.picture.src = url;
    show(this.picture, true);
    this.face.replaceChildren();
  }

  _face(drawing, words) {
    show(this.picture, false);
    this.face.replaceChildren(...(drawing ? [icon(drawing)] : []), words);
  }
}

function short({ job, remaining }) {
  if (job.state === "running") {
    const percent = `${Math.round(job.progress?.percent ?? 0)}%`;
    return remaining === null ? percent : `${percent} · ${estimate(remaining)}`;
  }
  if (job.state === "queued") return place(job.position);
  return state(job.state ?? "asked");
}
