/** The stage: one job, large, with what it gave and what can be done with it. */

import { button, byId, copy, icon, make, save, show } from "./dom.js";
import { bytes, estimate, place, seconds, state, title, when } from "./words.js";

export class Stage {
  constructor(client, actions) {
    this.client = client;
    this.actions = actions;
    this.entry = null;
    this.root = byId("stage");
    this.drawn = null;
  }

  show(entry) {
    this.entry = entry;
    this.drawn = null;
    this.index = 0;
    if (entry) this.draw();
    else this.root.replaceChildren(make("div", { class: "empty" }, icon("boat"), make("p", {}, EMPTY)));
  }

  /** Draws what changed: while a job runs that is a bar and a picture, many times a second. */
  draw() {
    const { job } = this.entry;
    const form = job.result ? `ended ${this.index}` : "running";
    if (this.drawn !== form) {
      this.drawn = form;
      if (job.result) this._drawEnded();
      else this._drawRunning();
    }
    if (!job.result) this._update();
  }

  // While it runs.

  _drawRunning() {
    const { job } = this.entry;
    this.picture = make("img", { alt: "Preview", hidden: true });
    this.picture.addEventListener("load", ({ target }) => {
      target.style.setProperty("--ratio", target.naturalWidth / target.naturalHeight);
    });
    this.words = make("span", { class: "words" });
    this.left = make("span", { class: "left" });
    this.fill = make("span");
    this.bar = make(
      "div",
      { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0 },
      this.fill,
    );
    this.bar.setAttribute("aria-valuemax", 100);
    this.stop = button("close", "Cancel", () => this._cancel(), { kind: "small cancel" });
    this.root.replaceChildren(
      make("div", { class: "frame working" }, icon("boat"), this.picture),
      make(
        "div",
        { class: "under" },
        make("p", { class: "caption" }, this.entry.text || title(job.workflow ?? "")),
        this.bar,
        make("div", { class: "row" }, this.words, this.left, make("span", { class: "spring" }), this.stop),
      ),
    );
  }

  _update() {
    const { job } = this.entry;
    const percent = job.progress?.percent ?? 0;
    this.root.dataset.state = job.state ?? "asked";
    this.fill.style.setProperty("width", `${percent}%`);
    this.bar.setAttribute("aria-valuenow", Math.round(percent));
    this.words.textContent = this._said();
    const { remaining } = this.entry;
    this.left.textContent = remaining === null ? "" : `${estimate(remaining)} left`;
    const url = this.entry.previewUrl();
    if (url && this.picture.src !== url) this.picture.src = url;
    show(this.picture, Boolean(url));
  }

  _said() {
    const { state: now, position, progress, reason } = this.entry.job;
    if (now === "running") {
      const { step, steps } = progress ?? {};
      return steps > 1 ? `Step ${step} of ${steps}` : "Running";
    }
    if (now === "queued") return title(reason ?? place(position));
    if (now === "waiting") return title(reason ?? state(now));
    return this.client.bridge === "online" ? "Asking the bridge" : "Goes out when the bridge is back";
  }

  async _cancel() {
    this.stop.disabled = true;
    try {
      await this.actions.cancel(this.entry);
    } catch (error) {
      this.words.textContent = error.message;
      this.stop.disabled = false;
    }
  }

  // When it ended.

  _drawEnded() {
    const { job } = this.entry;
    const { result } = job;
    this.root.dataset.state = job.state;
    const info = result.outputs[this.index];
    const parts = [this._caption(info)];
    if (job.state === "succeeded") parts.unshift(info ? this._output(info) : nothing(NOTHING));
    else parts.unshift(this._failure(result));
    parts.at(-1).append(this._buttons(info), this._details(info));
    this.root.replaceChildren(...parts);
  }

  _caption(info) {
    const { job } = this.entry;
    const { timings } = job.result;
    const took = job.result.reused ? "reused" : seconds(timings.load_s + timings.run_s);
    const size = info?.width ? `${info.width} × ${info.height}` : null;
    const facts = [
      title(job.workflow),
      size,
      info && bytes(info.size),
      job.state === "succeeded" ? took : null,
      when(this.entry.at, Date.now() / 1000),
    ];
    return make(
      "div",
      { class: "under" },
      make("p", { class: "caption" }, this.entry.text || title(job.workflow)),
      make("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    );
  }

  _output(info) {
    const frame = make("div", { class: "frame" });
    const [kind] = info.content_type.split("/");
    const drawn = { image: picture, audio: player, video: player, text: words }[kind] ?? plain;
    drawn(frame, info, this).catch((error) => frame.replaceChildren(nothing(lost(error))));
    const { outputs } = this.entry.job.result;
    if (outputs.length > 1) frame.append(this._turn(outputs));
    return frame;
  }

  _turn(outputs) {
    const go = (step) => () => {
      this.index = (this.index + step + outputs.length) % outputs.length;
      this.draw();
    };
    return make(
      "div",
      { class: "turn" },
      button("left", "Previous output", go(-1), { quiet: true, kind: "small" }),
      make("span", {}, `${this.index + 1} of ${outputs.length}`),
      button("right", "Next output", go(1), { quiet: true, kind: "small" }),
    );
  }

  _failure({ state: how, error }) {
    return make(
      "div",
      { class: "frame failure" },
      icon(how === "failed" ? "alert" : "close"),
      make("p", { class: "caption" }, title(state(how))),
      error ? make("p", { class: "message" }, error.message) : null,
    );
  }

  _buttons(info) {
    const { entry } = this;
    const row = make("div", { class: "row actions" });
    if (info) {
      const link = button("link", "Copy link", () => this._copyLink(link, info), { kind: "small" });
      row.append(
        button("download", "Download", () => this._download(info), { kind: "small" }),
        button("input", "Use as input", () => this.actions.useAsInput(entry, info), { kind: "small" }),
        link,
      );
    }
    row.append(
      button("again", "Run again with changes", () => this.actions.again(entry), { kind: "small" }),
    );
    return row;
  }

  async _download(info) {
    const { job } = this.entry;
    const blob = await job.output(info);
    const url = URL.createObjectURL(blob);
    const extension = info.content_type.split("/")[1].replace("jpeg", "jpg").replace(/[+;].*/, "");
    save(url, info.filename ?? `${job.workflow}-${job.id.slice(0, 12)}-${info.index}.${extension}`);
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** A signed address, for whoever it is given to, until it expires. */
  async _copyLink(control, info) {
    await copy(await this.client.link(this.entry.id, info.index));
    control.lastChild.textContent = "Copied";
  }

  _details(info) {
    const { job } = this.entry;
    const { result } = job;
    const rows = [
      ...Object.entries(result.inputs).map(([name, value]) => [
        title(name),
        this.entry.media[name]?.filename ?? shown(value),
      ]),
      ["Queued", seconds(result.timings.queued_s)],
      ["Job", job.id],
      info && ["SHA-256", info.sha256],
    ];
    return make(
      "details",
      { class: "details" },
      make("summary", {}, "Details"),
      make("dl", {}, rows.filter(Boolean).map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
    );
  }
}

const LARGEST_SCALE = 2;
const EMPTY = "What you run appears here.";
const NOTHING = "It gave nothing to show.";

function lost({ code, message }) {
  return code === "unknown_job" ? "Its bytes are kept no longer; run it again to have it back." : message;
}

function nothing(text) {
  return make("p", { class: "hint" }, text);
}

function shown(value) {
  // Media are told by what their bytes are.
  if (value?.sha256) return `${value.content_type}, ${bytes(value.size)}`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

async function picture(frame, info, { entry, client }) {
  const image = make("img", { alt: entry.text || info.name });
  if (info.width) {
    Object.assign(image, { width: info.width, height: info.height });
    image.style.setProperty("--ratio", info.width / info.height);
    image.style.setProperty("--most", `${LARGEST_SCALE * info.width}px`);
  }
  frame.prepend(image);
  image.src = await entry.pictureUrl(client, info);
  await image.decode().catch(async () => {
    // The link has expired, or its bytes are gone: asking says which.
    image.src = URL.createObjectURL(await entry.job.output(info));
  });
}

async function player(frame, info, { entry }) {
  const [kind] = info.content_type.split("/");
  const media = make(kind, { controls: true, loop: kind === "video" });
  frame.prepend(media);
  media.src = URL.createObjectURL(await entry.job.output(info));
}

async function words(frame, info, { entry }) {
  const text = await (await entry.job.output(info)).text();
  frame.prepend(make("pre", { tabindex: 0 }, text));
}

async function plain(frame, info) {
  frame.prepend(icon("file"), nothing(`${info.filename ?? info.name}, ${bytes(info.size)}`));
}
