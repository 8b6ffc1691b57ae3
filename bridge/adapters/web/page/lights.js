/**
 * The status line: whether the bridge and its ComfyUIs are there. It says only what is known: with
 * the connection gone, nothing is.
 */

import { byId, make, show } from "./dom.js";
import { title } from "./words.js";

// good: works; busy: works, or soon will; bad: somebody has to look, or it comes back by itself.
const COMFYUI = {
  ready: "good",
  busy: "good",
  starting: "busy",
  restarting: "busy",
  yielded: "busy",
  stopped: "bad",
  unreachable: "bad",
  crash_loop: "bad",
};

export class Lights {
  constructor(client) {
    this.client = client;
    for (const type of ["connection", "bridge", "comfyui"]) {
      client.addEventListener(type, () => this.draw());
    }
    this.draw();
  }

  draw() {
    const { state } = this.client.connection;
    const isKnown = state === "online" && this.client.bridge !== "unreachable";
    byId("lights").replaceChildren(
      ...[this._bridge(isKnown), this._comfyui(isKnown)].map(({ name, colour, word, more }) =>
        make(
          "li",
          { class: `light ${colour}`, title: more },
          make("span", { class: "dot", "aria-hidden": "true" }),
          make("span", { class: "name" }, `${name} `),
          make("span", { class: "word" }, word),
        ),
      ),
    );
    const told = this._told();
    byId("banner").textContent = told ?? "";
    show(byId("banner"), Boolean(told));
    clearTimeout(this.ticking);
    if (state === "lost") this.ticking = setTimeout(() => this.draw(), 1000);
  }

  _bridge(isKnown) {
    const name = "Bridge";
    if (!isKnown || this.client.bridge === null) return { name, colour: "unknown", word: "unknown" };
    return { name, colour: this.client.bridge === "online" ? "good" : "bad", word: this.client.bridge };
  }

  _comfyui(isKnown) {
    const name = "ComfyUI";
    const all = [...this.client.comfyui.entries()];
    // While the bridge is away nobody knows how ComfyUI fares: what it said last says nothing.
    if (!isKnown || this.client.bridge !== "online" || !all.length) {
      return { name, colour: "unknown", word: "unknown" };
    }
    const words = all.map(([instance, { state }]) => `${instance}: ${title(state)}`);
    const good = all.filter(([, { state }]) => COMFYUI[state] === "good");
    if (all.length === 1) {
      const [[, { state, last_error: problem }]] = all;
      return { name, colour: COMFYUI[state] ?? "busy", word: title(state).toLowerCase(), more: problem };
    }
    const colour = good.length ? "good" : (COMFYUI[all[0][1].state] ?? "busy");
    return { name, colour, word: `${good.length} of ${all.length} ready`, more: words.join("\n") };
  }

  /** What keeps things from running, in a sentence; null where nothing does. */
  _told() {
    const { client } = this;
    const { state, retryAt } = client.connection;
    if (state === "lost") {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      return `The connection is lost${seconds ? `; trying again in ${seconds} s` : ""}. Jobs go on without it.`;
    }
    if (state === "connecting" && client.registered) return "Connecting again …";
    if (state !== "online") return null;
    if (client.bridge === "unreachable") {
      return "The broker cannot be reached. What you run is sent as soon as it is back.";
    }
    if (client.bridge === "offline") {
      return "The bridge is offline. What it has accepted goes on when it is back.";
    }
    const states = [...client.comfyui.values()].map((each) => each.state);
    if (!states.length || states.some((each) => COMFYUI[each] === "good")) return null;
    return COMFYUI_TOLD[states[0]] ?? null;
  }
}

const COMFYUI_TOLD = {
  starting: "ComfyUI is starting. What you run waits for it.",
  restarting: "ComfyUI is starting again. What you run waits for it.",
  unreachable: "ComfyUI cannot be reached. What you run waits until it is back.",
  stopped: "ComfyUI is stopped. What you run waits for it.",
  crash_loop: "ComfyUI ends again and again: whoever runs it has to look. What you run waits.",
  yielded: "ComfyUI has been left to somebody else for a while. What you run waits.",
};
