/**
 * The status bar and the banner: whether the bridge and its ComfyUIs are available. Without a
 * connection their state is shown as unknown.
 */

import { announce, byId, make } from "./dom.js";
import { capital } from "./format.js";
import { say, sayOr } from "./texts.js";

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

export class StatusBar {
  constructor(client) {
    this.client = client;
    this.said = "";
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
    // It has its place in the header at all times, so that nothing moves when it says something.
    const banner = byId("banner");
    const obstacle = this._obstacle() ?? "";
    if (banner.textContent !== obstacle) banner.textContent = obstacle;
    // Its seconds count down: a screen reader says it once.
    const said = obstacle.replace(/\d+/g, "");
    if (said !== this.said) announce(obstacle);
    this.said = said;
    document.body.dataset.live = String(this.client.isLive);
    clearTimeout(this.countdown);
    if (state === "lost") this.countdown = setTimeout(() => this.draw(), 1000);
  }

  _bridge(isKnown) {
    const name = say("status.bridge");
    const { bridge } = this.client;
    if (!isKnown || bridge === null) return { name, colour: "unknown", word: say("status.unknown") };
    return { name, colour: bridge === "online" ? "good" : "bad", word: sayOr(`status.${bridge}`, bridge) };
  }

  _comfyui(isKnown) {
    const name = say("status.comfyui");
    const all = [...this.client.comfyui.entries()];
    // While the bridge is away, what it published last may no longer be true.
    if (!isKnown || this.client.bridge !== "online" || !all.length) {
      return { name, colour: "unknown", word: say("status.unknown") };
    }
    const named = (state) => sayOr(`comfyui.${state}`, state);
    const words = all.map(([instance, { state }]) => `${instance}: ${named(state)}`);
    const good = all.filter(([, { state }]) => COLOURS[state] === "good");
    if (all.length === 1) {
      const [[, { state, last_error: problem }]] = all;
      return { name, colour: COLOURS[state] ?? "busy", word: named(state), more: problem && capital(problem) };
    }
    const colour = good.length ? "good" : (COLOURS[all[0][1].state] ?? "busy");
    const word = say("status.some", { ready: good.length, all: all.length });
    return { name, colour, word, more: words.join("\n") };
  }

  /** Why jobs cannot run now, in a sentence; null if they can. */
  _obstacle() {
    const { client } = this;
    const { state, retryAt } = client.connection;
    if (state === "lost") {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      return seconds ? say("status.lostIn", { seconds }) : say("status.lost");
    }
    if (state === "connecting" && client.registered) return say("status.connecting");
    if (state !== "online") return null;
    if (client.bridge === "unreachable") return say("status.noBroker");
    if (client.bridge === "offline") return say("status.noBridge");
    const states = [...client.comfyui.values()].map((each) => each.state);
    if (!states.length || states.some((each) => COLOURS[each] === "good")) return null;
    return sayOr(`obstacle.${states[0]}`, null);
  }
}
