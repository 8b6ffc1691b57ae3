// The dashboard card of comfy2mqtt: a prompt, a button, the progress, the preview and the picture.
// Plain JavaScript, loaded as it is. What comes from outside is only ever set as text.

const TEXTS = {
  en: {
    run: "Run",
    cancel: "Cancel",
    away: "The bridge is not available.",
    gone: "There is no such workflow.",
    lacking: "The workflow cannot run. Not there, or not allowed",
    none: "No picture yet",
    states: {
      waiting: "Waiting",
      queued: "Queued",
      running: "Running",
      succeeded: "",
      failed: "Failed",
      cancelled: "Cancelled",
      expired: "Expired",
      refused: "Refused",
    },
  },
  de: {
    run: "Ausführen",
    cancel: "Abbrechen",
    away: "Die Bridge ist nicht erreichbar.",
    gone: "Diesen Workflow gibt es nicht.",
    lacking: "Der Workflow kann nicht laufen. Nicht da oder nicht erlaubt",
    none: "Noch kein Bild",
    states: {
      waiting: "Wartet",
      queued: "In der Warteschlange",
      running: "Läuft",
      succeeded: "",
      failed: "Fehlgeschlagen",
      cancelled: "Abgebrochen",
      expired: "Verfallen",
      refused: "Abgelehnt",
    },
  },
};
const ENDS = ["succeeded", "failed", "cancelled", "expired", "refused"];
// An integration that is loaded again is not there for a moment.
const AGAIN_MS = 3000;

const STYLE = `
  .body { padding: 16px; display: grid; gap: 12px; }
  .title { font-size: var(--ha-card-header-font-size, 24px); }
  .picture { position: relative; min-height: 120px; display: grid; place-items: center;
    background: var(--secondary-background-color); border-radius: 8px; overflow: hidden; }
  img { width: 100%; display: block; }
  .picture.none img, .picture:not(.none) .empty { display: none; }
  progress { width: 100%; height: 6px; accent-color: var(--primary-color); }
  textarea { font: inherit; color: var(--primary-text-color); padding: 8px; border-radius: 8px;
    background: var(--card-background-color); border: 1px solid var(--divider-color);
    resize: vertical; min-height: 3em; box-sizing: border-box; width: 100%; }
  label, .empty, .said { color: var(--secondary-text-color); }
  .said.wrong { color: var(--error-color); }
  .row { display: flex; gap: 8px; align-items: center; }
  .said { flex: 1; overflow-wrap: anywhere; }
  button { font: inherit; border: 0; border-radius: 8px; padding: 8px 16px; cursor: pointer;
    background: var(--primary-color); color: var(--text-primary-color, white); }
  button.quiet { background: var(--secondary-background-color); color: var(--primary-text-color); }
  button:disabled { opacity: 0.5; cursor: default; }
  [hidden] { display: none; }
`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Comfy2MQTTCard extends HTMLElement {
  static getStubConfig() {
    return { workflow: "demo" };
  }

  static getConfigForm() {
    return {
      schema: [
        { name: "workflow", required: true, selector: { text: {} } },
        { name: "title", selector: { text: {} } },
        { name: "config_entry_id", selector: { config_entry: { integration: "comfy2mqtt" } } },
      ],
    };
  }

  setConfig(config) {
    if (!config.workflow) throw new Error("workflow: the name of a workflow is needed");
    this._config = config;
    this._draw();
    if (this._stop) this._follow();
  }

  set hass(hass) {
    const isFirst = !this._hass;
    this._hass = hass;
    if (isFirst && this.isConnected) this._begin();
  }

  connectedCallback() {
    if (this._hass && this._config) this._begin();
  }

  disconnectedCallback() {
    this._connection?.removeEventListener("ready", this._follow);
    this._connection?.removeEventListener("disconnected", this._lost);
    this._leave();
  }

  _begin() {
    this._connection = this._hass.connection;
    this._connection.addEventListener("ready", this._follow);
    this._connection.addEventListener("disconnected", this._lost);
    this._follow();
  }

  // What runs at the bridge goes on; its picture comes as any other.
  _lost = () => {
    this._leave();
    this._working(false);
    this._away();
  };

  _leave() {
    this._end("_stop");
    this._end("_stopJob");
    clearTimeout(this._again);
  }

  getCardSize() {
    return 6;
  }

  getGridOptions() {
    return { columns: 12, min_columns: 6 };
  }

  get _texts() {
    return TEXTS[(this._hass?.locale?.language || "en").split("-")[0]] || TEXTS.en;
  }

  _draw() {
    if (this.shadowRoot) return;
    const parts = {
      title: element("div", { className: "title" }),
      img: element("img", { alt: "" }),
      empty: element("div", { className: "empty" }),
      progress: element("progress", { max: 100, hidden: true }),
      label: element("label", { htmlFor: "prompt" }),
      prompt: element("textarea", { id: "prompt" }),
      said: element("div", { className: "said", role: "status" }),
      cancel: element("button", { className: "quiet", hidden: true }),
      run: element("button", { disabled: true }),
    };
    parts.picture = element("div", { className: "picture none" }, parts.img, parts.empty);
    parts.run.addEventListener("click", () => this._run());
    parts.cancel.addEventListener("click", () => this._cancel());
    this._parts = parts;
    const card = element(
      "ha-card",
      {},
      element(
        "div",
        { className: "body" },
        parts.title,
        parts.picture,
        parts.progress,
        parts.label,
        parts.prompt,
        element("div", { className: "row" }, parts.said, parts.cancel, parts.run),
      ),
    );
    this.attachShadow({ mode: "open" }).append(element("style", { textContent: STYLE }), card);
  }

  // The connection's own renewal would run a job again, and would give up following a workflow
  // where Home Assistant, just started, does not have the integration yet.
  _subscribe(type, take, more = {}) {
    const { workflow, config_entry_id } = this._config;
    const message = { type: `comfy2mqtt/${type}`, workflow, ...more };
    if (config_entry_id) message.config_entry_id = config_entry_id;
    return this._hass.connection.subscribeMessage(take, message, { resubscribe: false });
  }

  _end(name) {
    const stop = this[name];
    this[name] = undefined;
    stop?.then((end) => end()).catch(() => {});
  }

  _follow = () => {
    this._end("_stop");
    clearTimeout(this._again);
    const stop = this._subscribe("workflow", (found) => {
      if (!found.ended) return this._show(found);
      this._lost();
      this._later();
    });
    this._stop = stop;
    stop.catch(() => stop === this._stop && this._later());
  };

  _later() {
    this._away();
    clearTimeout(this._again);
    if (this.isConnected) this._again = setTimeout(this._follow, AGAIN_MS);
  }

  // Whether there is the workflow is not known then: what was known of it stays.
  _away() {
    const known = { title: this._config.workflow, ...this._found };
    this._show({ ...known, available: false });
  }

  _show(found) {
    this._found = found;
    const { title, label, prompt, run, empty, picture } = this._parts;
    const texts = this._texts;
    title.textContent = this._config.title || found.title || this._config.workflow;
    label.hidden = prompt.hidden = !found.prompt;
    if (found.prompt) {
      label.textContent = found.prompt.title;
      if (!this._prompt) prompt.value = found.prompt.default;
    }
    this._prompt = found.prompt?.name ?? this._prompt;
    run.textContent = texts.run;
    this._parts.cancel.textContent = texts.cancel;
    empty.textContent = texts.none;
    this._canRun = found.available && found.runnable;
    run.disabled = !this._canRun || Boolean(this._job);
    if (!found.available) this._say(found.title ? texts.away : texts.gone, true);
    else if (!found.runnable) this._say(`${texts.lacking}: ${found.lacks.join(", ") || "?"}`, true);
    else if (this._wasAway) this._say("");
    this._wasAway = !this._canRun;
    if (found.picture && !this._job && found.picture !== this._picture) {
      this._picture = found.picture;
      this._parts.img.src = found.picture;
    }
    picture.classList.toggle("none", !this._parts.img.src);
  }

  _say(text, isWrong = false) {
    this._parts.said.textContent = text;
    this._parts.said.classList.toggle("wrong", isWrong);
  }

  async _run() {
    this._end("_stopJob");
    this._working(true);
    const inputs = this._prompt ? { [this._prompt]: this._parts.prompt.value } : {};
    const stop = this._subscribe("run", (found) => this._take(found), { inputs });
    this._stopJob = stop;
    try {
      await stop;
    } catch (error) {
      if (stop === this._stopJob) {
        await this._take({ ...error, state: "refused", message: error.message });
      }
    }
  }

  _working(isWorking) {
    this._job = isWorking ? this._job || {} : undefined;
    const { run, cancel, progress } = this._parts;
    run.disabled = isWorking || !this._canRun;
    progress.hidden = !isWorking;
    cancel.hidden = !this._job?.id;
    if (isWorking) progress.removeAttribute("value");
  }

  // What is refused by Home Assistant ends the job, and says why in the user's language.
  async _take(found) {
    if (found.translation_key) found = { ...found, message: await this._told(found) };
    this._step(found);
  }

  async _told(error) {
    const { message, translation_domain: domain, translation_key: key } = error;
    if (!key) return message;
    try {
      const localize = await this._hass.loadBackendTranslation("exceptions", domain);
      const place = `component.${domain}.exceptions.${key}.message`;
      return localize(place, error.translation_placeholders || {}) || message;
    } catch {
      return message;
    }
  }

  _step(found) {
    if (found.job_id) {
      this._job = { id: found.job_id };
      this._working(true);
    }
    if (found.percent !== undefined) this._parts.progress.value = found.percent;
    if (found.preview) {
      this._parts.img.src = found.preview;
      this._parts.picture.classList.remove("none");
    }
    if (!found.state) return;
    const isEnd = ENDS.includes(found.state);
    const said = [this._texts.states[found.state] ?? found.state, found.message || found.reason];
    this._say(said.filter(Boolean).join(": "), isEnd && found.state !== "succeeded");
    if (!isEnd) return;
    this._working(false);
    // A preview of what came to nothing is not the picture; the picture itself comes as any other.
    if (found.state !== "succeeded") {
      if (this._picture) this._parts.img.src = this._picture;
      else this._parts.img.removeAttribute("src");
    }
    this._end("_stopJob");
    this._follow();
  }

  async _cancel() {
    if (!this._job?.id) return;
    const data = { job_id: this._job.id };
    if (this._config.config_entry_id) data.config_entry_id = this._config.config_entry_id;
    try {
      await this._hass.callService("comfy2mqtt", "cancel", data);
    } catch (error) {
      this._say(await this._told(error), true);
    }
  }
}

customElements.define("comfy2mqtt-card", Comfy2MQTTCard);
window.customCards = window.customCards || [];
window.customCards.push({
  type: "comfy2mqtt-card",
  name: "ComfyUI workflow",
  description: "A prompt, and the picture that a workflow makes of it.",
});
