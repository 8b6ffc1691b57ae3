/**
 * The status bar and the banner: whether the bridge and its ComfyUIs are available. Without a
 * connection their state is shown as unknown.
 */

import { byId, make, show } from "./dom.js";
import { title } from "./format.js";

// The colour of each state of a ComfyUI.
const COLOURS = {
  ready: "good",
  busy: "good",
  starting: "busy",
  restarting: "busy",
  yielded: "busy",
  stopped: "bad",
  unreachable: "bad",
  crash_loop: "bad",
};

// The banner for a state in which no job can start.
const SENTENCES = {
  starting: "ComfyUI is starting. Jobs wait for it.",
  restarting: "ComfyUI is restarting. Jobs wait for it.",
  unreachable: "ComfyUI cannot be reached. Jobs wait until it is back.",
  stopped: "ComfyUI is stopped. Jobs wait until it is started.",
  crash_loop: "ComfyUI keeps crashing: its operator has to look at it. Jobs wait.",
  yielded: "The bridge has yielded ComfyUI to other use for a while. Jobs wait.",
};

export class StatusBar {
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
    byId("status").replaceChildren(
      ...[this._bridge(isKnown), this._comfyui(isKnown)].map(({ name, colour, word, more }) =>
        make(
          "li",
          { class: `status ${colour}`, title: more },
          make("span", { class: "dot", "aria-hidden": "true" }),
          make("span", { class: "name" }, `${name} `),
          make("span", { class: "word" }, word),
        ),
      ),
    );
    const obstacle = this._obstacle();
    byId("banner").textContent = obstacle ?? "";
    show(byId("banner"), Boolean(obstacle));
    clearTimeout(this.countdown);
    if (state === "lost") this.countdown = setTimeout(() => this.draw(), 1000);
  }

  _bridge(isKnown) {
    const name = "Bridge";
    if (!isKnown || this.client.bridge === null) return { name, colour: "unknown", word: "unknown" };
    return { name, colour: this.client.bridge === "online" ? "good" : "bad", word: this.client.bridge };
  }

  _comfyui(isKnown) {
    const name = "ComfyUI";
    const all = [...this.client.comfyui.entries()];
    // While the bridge is away, what it published last may no longer be true.
    if (!isKnown || this.client.bridge !== "online" || !all.length) {
      return { name, colour: "unknown", word: "unknown" };
    }
    const words = all.map(([instance, { state }]) => `${instance}: ${title(state)}`);
    const good = all.filter(([, { state }]) => COLOURS[state] === "good");
    if (all.length === 1) {
      const [[, { state, last_error: problem }]] = all;
      return { name, colour: COLOURS[state] ?? "busy", word: title(state).toLowerCase(), more: problem };
    }
    const colour = good.length ? "good" : (COLOURS[all[0][1].state] ?? "busy");
    return { name, colour, word: `${good.length} of ${all.length} ready`, more: words.join("\n") };
  }

  /** Why jobs cannot run now, in a sentence; null if they can. */
  _obstacle() {
    const { client } = this;
    const { state, retryAt } = client.connection;
    if (state === "lost") {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      return `Connection lost${seconds ? `; trying again in ${seconds} s` : ""}. Running jobs continue.`;
    }
    if (state === "connecting" && client.registered) return "Connecting again …";
    if (state !== "online") return null;
    if (client.bridge === "unreachable") {
      return "The broker cannot be reached. Jobs are sent as soon as it is back.";
    }
    if (client.bridge === "offline") {
      return "The bridge is offline. Accepted jobs continue when it is back.";
    }
    const states = [...client.comfyui.values()].map((each) => each.state);
    if (!states.length || states.some((each) => COLOURS[each] === "good")) return null;
    return SENTENCES[states[0]] ?? null;
  }
}
