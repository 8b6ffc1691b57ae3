/** The chosen job, large: its progress or its outputs, and the buttons for what can be done with it. */

import { button, byId, icon, make, show } from "./dom.js";
import { estimate, place, state, title } from "./format.js";
import { actionRow } from "./job_actions.js";
import { caption, facts, parameters } from "./job_facts.js";
import { drawOutput, hint } from "./outputs.js";
import { say } from "./texts.js";

export class JobDetail {
  /** `actions` as in job_actions.js, and `cancel` and `enlarge`. */
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
    else this._drawEmpty();
  }

  _drawEmpty() {
    delete this.root.dataset.state;
    this.root.replaceChildren(
      make("div", { class: "empty" }, icon("boat"), make("p", {}, say("job.empty"))),
    );
  }

  /** Draws what changed. While a job runs only texts, bar and preview do, many times a second. */
  draw() {
    if (!this.view) return;
    const { job } = this.view;
    const layout = job.result ? `ended ${this.index}` : "running";
    if (this.drawn !== layout) {
      this.drawn = layout;
      if (job.result) this._drawEnded();
      else this._drawRunning();
    }
    if (!job.result) this._update();
  }

  /** Brings it into the window, if it is not there. */
  reveal() {
    const { top, bottom } = this.root.getBoundingClientRect();
    const isSeen = top >= 0 && Math.min(bottom, top + innerHeight / 2) <= innerHeight;
    if (!isSeen) this.root.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  // A job that has not ended.

  _drawRunning() {
    const { job } = this.view;
    this.picture = make("img", { alt: say("job.preview"), hidden: true });
    this.picture.addEventListener("load", ({ target }) => {
      target.style.setProperty("--ratio", target.naturalWidth / target.naturalHeight);
    });
    this.words = make("span", { class: "words" });
    this.left = make("span", { class: "left" });
    this.fill = make("span");
    this.bar = make(
      "div",
      { class: "bar", role: "progressbar", "aria-label": say("job.progress"), "aria-valuemin": 0 },
      this.fill,
    );
    this.bar.setAttribute("aria-valuemax", 100);
    this.stop = button("close", say("job.cancel"), () => this._cancel(), { kind: "small cancel" });
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
    // Without a connection nobody knows how far it is.
    const remaining = this.client.isLive ? this.view.remaining : null;
    this.left.textContent = remaining === null ? "" : say("job.left", { time: estimate(remaining) });
    const url = this.view.previewUrl();
    if (url && this.picture.src !== url) this.picture.src = url;
    show(this.picture, Boolean(url));
  }

  _stateText() {
    const { state: now, position, progress, reason } = this.view.job;
    const live = this.client.isLive;
    if (now === "running") {
      const { step, steps } = progress ?? {};
      if (steps > 1) return say(live ? "job.step" : "job.lastSeenStep", { step, steps });
      return say(live ? "job.running" : "job.lastSeen");
    }
    if (now === "queued") return title(reason ?? place(position));
    if (now === "waiting") return title(reason ?? state(now));
    return say(live ? "job.sending" : "job.sentLater");
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
    const under = make(
      "div",
      { class: "under" },
      make("p", { class: "caption" }, caption(this.view)),
      make("p", { class: "facts" }, facts(this.view, info)),
      actionRow(this.view, info, this.client, this.actions),
      make(
        "details",
        { class: "details" },
        make("summary", {}, say("job.details")),
        parameters(this.view, info),
      ),
    );
    if (job.state !== "succeeded") this.root.replaceChildren(this._failure(result), under);
    else this.root.replaceChildren(info ? this._output(info) : hint(say("job.noOutputs")), under);
  }

  _output(info) {
    const frame = make("div", { class: "frame" });
    const isPicture = info.content_type.startsWith("image/");
    const enlarge = () => this.actions.enlarge(this.view, this.index);
    const what = say("job.enlarge");
    const name = `${what}: ${caption(this.view)}`;
    const inside = isPicture
      ? make("button", { type: "button", class: "enlarge", title: what, "aria-label": name, onclick: enlarge })
      : frame;
    if (isPicture) frame.append(inside);
    drawOutput(inside, info, { view: this.view, client: this.client });
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
      button("left", say("job.previous"), go(-1), { quiet: true, kind: "small" }),
      make("span", {}, say("job.pages", { at: this.index + 1, all: outputs.length })),
      button("right", say("job.next"), go(1), { quiet: true, kind: "small" }),
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
}
