/** The form's request as other programs make it: a tab each, and a button that copies. */

import { announce, button, byId, copy, make } from "./dom.js";
import { javascript, mosquitto, nodeRed, python } from "./snippets.js";

const WAYS = [
  ["mosquitto_pub", mosquitto],
  ["Python", python],
  ["Node-RED", nodeRed],
  ["JavaScript", javascript],
];

export class Elsewhere {
  constructor() {
    this.request = null;
    this.way = 0;
    this.code = make("code");
    this.tabs = WAYS.map(([name], index) =>
      make(
        "button",
        {
          ...{ type: "button", role: "tab", id: `way-${index}`, "aria-controls": "snippet" },
          onclick: () => this.choose(index),
          onkeydown: (event) => this._walk(event),
        },
        name,
      ),
    );
    const copying = button("copy", "Copy", () => this._copy(), { quiet: true, kind: "copy" });
    byId("snippets").replaceChildren(
      make("div", { class: "tabs", role: "tablist", "aria-label": "Program" }, this.tabs),
      make(
        "div",
        { class: "snippet", id: "snippet", role: "tabpanel" },
        make("pre", { tabindex: 0 }, this.code),
        copying,
      ),
    );
    this.choose(0);
  }

  choose(index) {
    this.way = index;
    this.tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === index));
      tab.tabIndex = at === index ? 0 : -1;
    });
    byId("snippet").setAttribute("aria-labelledby", `way-${index}`);
    this._write();
  }

  draw(request) {
    this.request = request;
    this._write();
  }

  _write() {
    if (this.request) this.code.textContent = WAYS[this.way][1](this.request);
  }

  _walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    this.choose((this.way + step + WAYS.length) % WAYS.length);
    this.tabs[this.way].focus();
  }

  async _copy() {
    await copy(this.code.textContent);
    announce("Copied.");
  }
}
