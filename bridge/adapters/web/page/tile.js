/** A tile of the gallery: a job's picture, or its state. */

import { icon, make, show } from "./dom.js";
import { estimate, place, state } from "./format.js";
import { say } from "./texts.js";

const PICTURE_WIDTH = 480;

export class Tile {
  /** `tag` is that of the element around the button: an item of a list, or what a table's cell has. */
  constructor(client, view, onclick, tag = "li") {
    this.client = client;
    this.view = view;
    this.picture = make("img", { alt: "", loading: "lazy", hidden: true });
    this.picture.addEventListener("error", () => this._drawMissing());
    this.face = make("span", { class: "face" }); // shown where there is no picture
    this.bar = make("span", { class: "bar" }, make("span"));
    this.words = make("span", { class: "words" });
    this.badges = make("span", { class: "badges" });
    this.button = make(
      "button",
      { type: "button", class: "tile", onclick, "aria-pressed": "false" },
      ...[this.face, this.picture, this.bar, this.words, this.badges],
    );
    this.element = make(tag, { "data-job": view.id }, this.button);
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
    const { job, mark } = this.view;
    const name = this.view.text || job.workflow || say("gallery.job");
    const ended = Boolean(job.result);
    this.button.dataset.state = job.state ?? "sending";
    this.button.setAttribute("aria-label", say("gallery.tile", { name, state: this.view.stateText }));
    this.button.title = name;
    this.badges.replaceChildren(
      ...(mark.favourite ? [icon("star")] : []),
      ...(mark.keptUntil ? [icon("keep")] : []),
    );
    show(this.bar, !ended && job.state === "running");
    this.bar.firstChild.style.setProperty("width", `${job.progress?.percent ?? 0}%`);
    this.words.textContent = ended ? "" : brief(this.view, this.client.isLive);
    if (!ended && job.preview) this._showPicture(this.view.previewUrl());
    else if (job.state === "succeeded") this._drawOutput();
    else if (ended) this._showFace(job.state === "failed" ? "alert" : "close", state(job.state));
    else this._showFace(null, "");
  }

  async _drawOutput() {
    const { outputs } = this.view.job.result;
    const [info] = this.view.pictures();
    this.words.textContent = outputs.length > 1 ? say("gallery.outputs", { count: outputs.length }) : "";
    if (!info) {
      this._showFace("file", outputs[0]?.kind ?? say("gallery.noOutputs"));
      return;
    }
    if (this.loaded || !(this.visible || this.view.job.has(info))) return;
    this.loaded = true;
    try {
      this._showPicture(await this.view.pictureUrl(this.client, info, PICTURE_WIDTH));
    } catch {
      this._drawMissing();
    }
  }

  _drawMissing() {
    if (this.view.job.result) this._showFace("picture", say("gallery.deleted"));
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

/** A waiting or running job in a few words; not `live`: they are what was known last. */
function brief({ job, remaining }, live) {
  if (job.state === "running") {
    const percent = `${Math.round(job.progress?.percent ?? 0)}%`;
    if (!live) return `${percent} · ${say("gallery.noConnection")}`;
    // Of a set it is said above them all when they will be done.
    return remaining === null || job.setId ? percent : `${percent} · ${estimate(remaining)}`;
  }
  if (job.state === "queued") return place(job.position);
  return state(job.state ?? "sending");
}
