/** The form's request as code for other programs: one tab for each, and a button that copies. */

import { javascript, mosquitto, nodeRed, python } from "./code_writers.js";
import { announce, button, byId, copy, make, show } from "./dom.js";
import { say } from "./texts.js";

const WRITERS = [
  ["mosquitto_pub", mosquitto],
  ["Python", python],
  ["Node-RED", nodeRed],
  ["JavaScript", javascript],
];

export class CodeSamples {
  constructor() {
    this.request = null;
    this.chosen = 0;
    this.code = make("code");
    this.guess = make("p", { class: "hint", hidden: true }, say("code.address"));
    this.tabs = WRITERS.map(([name], index) =>
      make(
        "button",
        {
          ...{ type: "button", role: "tab", id: `sample-${index}`, "aria-controls": "sample" },
          onclick: () => this.choose(index),
          onkeydown: (event) => this._moveFocus(event),
        },
        name,
      ),
    );
    const copying = button("copy", say("code.copy"), () => this._copy(), { quiet: true, kind: "copy" });
    byId("samples").replaceChildren(
      make("div", { class: "tabs", role: "tablist", "aria-label": say("code.programs") }, this.tabs),
      make(
        "div",
        { class: "sample", id: "sample", role: "tabpanel" },
        make("pre", { tabindex: 0, role: "region", "aria-label": say("code.title") }, this.code),
        copying,
      ),
      this.guess,
    );
    this.choose(0);
  }

  choose(index) {
    this.chosen = index;
    this.tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === index));
      tab.tabIndex = at === index ? 0 : -1;
    });
    byId("sample").setAttribute("aria-labelledby", `sample-${index}`);
    this._write();
  }

  /** Shows a request, as in code_writers.js. */
  draw(request) {
    this.request = request;
    show(this.guess, Boolean(request.isGuess));
    this._write();
  }

  _write() {
    if (this.request) this.code.textContent = WRITERS[this.chosen][1](this.request);
  }

  _moveFocus(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    this.choose((this.chosen + step + WRITERS.length) % WRITERS.length);
    this.tabs[this.chosen].focus();
  }

  async _copy() {
    await copy(this.code.textContent);
    announce(say("code.copied"));
  }
}
