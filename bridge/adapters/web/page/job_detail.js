/** The chosen job, large: its progress or its outputs, and the buttons for what can be done with it. */

import { button, byId, copy, icon, make, save, show } from "./dom.js";
import { bytes, estimate, place, seconds, state, title, when } from "./format.js";

// How much larger than its pixels a picture may be shown.
const LARGEST_SCALE = 2;
const EMPTY = "The job you run appears here.";
const NO_OUTPUTS = "The job has no outputs.";

export class JobDetail {
  constructor(client, actions) {
    this.client = client;
    this.actions = actions;
    this.view = null;
    this.root = byId("job-detail");
    this.drawn = null;
  }

  /** Shows a job, null for none. */
  show(view) {
    this.view = view;
    this.drawn = null;
    this.index = 0;
    if (view) this.draw();
    else this.root.replaceChildren(make("div", { class: "empty" }, icon("boat"), make("p", {}, EMPTY)));
  }

  /** Draws what changed. While a job runs only texts, bar and preview do, many times a second. */
  draw() {
    const { job } = this.view;
    const layout = job.result ? `ended ${this.index}` : "running";
    if (this.drawn !== layout) {
      this.drawn = layout;
      if (job.result) this._drawEnded();
      else this._drawRunning();
    }
    if (!job.result) this._update();
  }

  // A job that has not ended.

  _drawRunning() {
    const { job } = this.view;
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
        make("p", { class: "caption" }, this.view.text || title(job.workflow ?? "")),
        this.bar,
        make("div", { class: "row" }, this.words, this.left, make("span", { class: "spring" }), this.stop),
      ),
    );
  }

  _update() {
    const { job } = this.view;
    const percent = job.progress?.percent ?? 0;
    this.root.dataset.state = job.state ?? "sending";
    this.fill.style.setProperty("width", `${percent}%`);
    this.bar.setAttribute("aria-valuenow", Math.round(percent));
    this.words.textContent = this._stateText();
    const { remaining } = this.view;
    this.left.textContent = remaining === null ? "" : `${estimate(remaining)} left`;
    const url = this.view.previewUrl();
    if (url && this.picture.src !== url) this.picture.src = url;
    show(this.picture, Boolean(url));
  }

  _stateText() {
    const { state: now, position, progress, reason } = this.view.job;
    if (now === "running") {
      const { step, steps } = progress ?? {};
      return steps > 1 ? `Step ${step} of ${steps}` : "Running";
    }
    if (now === "queued") return title(reason ?? place(position));
    if (now === "waiting") return title(reason ?? state(now));
    return this.client.bridge === "online" ? "Sending to the bridge" : "Sent as soon as the bridge is back";
  }

  async _cancel() {
    this.stop.disabled = true;
    try {
      await this.actions.cancel(this.view);
    } catch (error) {
      this.words.textContent = error.message;
      this.stop.disabled = false;
    }
  }

  // A job that has ended.

  _drawEnded() {
    const { job } = this.view;
    const { result } = job;
    this.root.dataset.state = job.state;
    const info = result.outputs[this.index];
    const parts = [this._caption(info)];
    if (job.state === "succeeded") parts.unshift(info ? this._output(info) : hint(NO_OUTPUTS));
    else parts.unshift(this._failure(result));
    parts.at(-1).append(this._buttons(info), this._details(info));
    this.root.replaceChildren(...parts);
  }

  _caption(info) {
    const { job } = this.view;
    const { timings } = job.result;
    const took = job.result.reused ? "reused" : seconds(timings.load_s + timings.run_s);
    const size = info?.width ? `${info.width} × ${info.height}` : null;
    const facts = [
      title(job.workflow),
      size,
      info && bytes(info.size),
      job.state === "succeeded" ? took : null,
      when(this.view.at, Date.now() / 1000),
    ];
    return make(
      "div",
      { class: "under" },
      make("p", { class: "caption" }, this.view.text || title(job.workflow)),
      make("p", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    );
  }

  _output(info) {
    const frame = make("div", { class: "frame" });
    const [kind] = info.content_type.split("/");
    const drawn = { image: picture, audio: player, video: player, text }[kind] ?? file;
    drawn(frame, info, this).catch((error) => frame.replaceChildren(hint(whyMissing(error))));
    const { outputs } = this.view.job.result;
    if (outputs.length > 1) frame.append(this._pager(outputs));
    return frame;
  }

  _pager(outputs) {
    const go = (step) => () => {
      this.index = (this.index + step + outputs.length) % outputs.length;
      this.draw();
    };
    return make(
      "div",
      { class: "pager" },
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
    const { view } = this;
    const row = make("div", { class: "row actions" });
    if (info) {
      const link = button("link", "Copy link", () => this._copyLink(link, info), { kind: "small" });
      row.append(
        button("download", "Download", () => this._download(info), { kind: "small" }),
        button("input", "Use as input", () => this.actions.useAsInput(view, info), { kind: "small" }),
        link,
      );
    }
    row.append(
      button("again", "Run again with changes", () => this.actions.again(view), { kind: "small" }),
    );
    return row;
  }

  async _download(info) {
    const { job } = this.view;
    const blob = await job.output(info);
    const url = URL.createObjectURL(blob);
    const extension = info.content_type.split("/")[1].replace("jpeg", "jpg").replace(/[+;].*/, "");
    save(url, info.filename ?? `${job.workflow}-${job.id.slice(0, 12)}-${info.index}.${extension}`);
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** Copies a signed link: whoever has it can see the output until the link expires. */
  async _copyLink(control, info) {
    await copy(await this.client.link(this.view.id, info.index));
    control.lastChild.textContent = "Copied";
  }

  _details(info) {
    const { job } = this.view;
    const { result } = job;
    const rows = [
      ...Object.entries(result.inputs).map(([name, value]) => [
        title(name),
        this.view.media[name]?.filename ?? shown(value),
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

function whyMissing({ code, message }) {
  return code === "unknown_job" ? "This output has been deleted; run the job again to get it." : message;
}

function hint(text) {
  return make("p", { class: "hint" }, text);
}

function shown(value) {
  // Media.
  if (value?.sha256) return `${value.content_type}, ${bytes(value.size)}`;
  return typeof value === "string" ? value : JSON.stringify(value);
}

async function picture(frame, info, { view, client }) {
  const image = make("img", { alt: view.text || info.name });
  if (info.width) {
    Object.assign(image, { width: info.width, height: info.height });
    image.style.setProperty("--ratio", info.width / info.height);
    image.style.setProperty("--most", `${LARGEST_SCALE * info.width}px`);
  }
  frame.prepend(image);
  image.src = await view.pictureUrl(client, info);
  await image.decode().catch(async () => {
    // The link has expired, or the output was deleted: fetching it tells which.
    image.src = URL.createObjectURL(await view.job.output(info));
  });
}

async function player(frame, info, { view }) {
  const [kind] = info.content_type.split("/");
  const media = make(kind, { controls: true, loop: kind === "video" });
  frame.prepend(media);
  media.src = URL.createObjectURL(await view.job.output(info));
}

async function text(frame, info, { view }) {
  const content = await (await view.job.output(info)).text();
  frame.prepend(make("pre", { tabindex: 0 }, content));
}

async function file(frame, info) {
  frame.prepend(icon("file"), hint(`${info.filename ?? info.name}, ${bytes(info.size)}`));
}
