/** The page: who is logged in, which workflow is chosen, and what happens when Run is pressed. */

import { announce, byId, make, show } from "./dom.js";
import { Client, newId } from "./client.js";
import { Elsewhere } from "./elsewhere.js";
import { Form, mainText } from "./form.js";
import { Gallery } from "./gallery.js";
import { Lights } from "./lights.js";

// Names in the browser's storage.
const KEY = "comfy2mqtt key";
const UNANSWERED = "unanswered ";

class Page {
  constructor(key) {
    this.client = new Client({ key });
    this.lights = new Lights(this.client);
    this.elsewhere = new Elsewhere();
    this.form = new Form(this.client, () => this._requestChanged());
    this.gallery = new Gallery(this.client, {
      again: (entry) => this._again(entry),
      useAsInput: (entry, info) => this._useAsInput(entry, info),
      cancel: (entry) => this._cancel(entry),
    });
    this.pending = new Map(); // entries whose request has no answer yet -> AbortController
    this._listen();
  }

  /** Shows the desk, once the client is connected. */
  async open() {
    byId("client").textContent = this.client.registered.client;
    show(byId("login"), false);
    for (const id of ["desk", "lights", "account"]) show(byId(id), true);
    this._drawWorkflows();
    this._takeUp();
    await this._recall();
  }

  _listen() {
    const { client } = this;
    client.addEventListener("workflow", () => client.connection.state === "online" && this._soon());
    client.addEventListener("choices", () => this._soon());
    // Also those that this client asks for elsewhere.
    client.addEventListener("job", ({ detail }) => {
      this.gallery.add(detail);
      if (this.recalled) this.gallery.chooseNewest();
    });
    client.addEventListener("connection", ({ detail }) => {
      if (detail.state === "refused") logOut(detail.reason);
    });
    document.addEventListener("visibilitychange", () => !document.hidden && client.retry());
    addEventListener("online", () => client.retry());
    addEventListener("hashchange", () => this._drawWorkflows());
    byId("workflow").addEventListener("change", (event) => {
      location.hash = event.target.value;
    });
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._run();
    });
    addEventListener("keydown", (event) => {
      const run = event.key === "Enter" && (event.ctrlKey || event.metaKey);
      if (run && !byId("desk").hidden && !document.querySelector("dialog[open]")) this._run();
    });
  }

  // Workflows.

  /** Definitions come in bursts: drawn once for each. */
  _soon() {
    clearTimeout(this.drawing);
    this.drawing = setTimeout(() => this._drawWorkflows(), 30);
  }

  _drawWorkflows() {
    const { workflows } = this.client;
    const names = [...workflows.keys()].sort();
    const wanted = decodeURIComponent(location.hash.slice(1));
    const runnable = names.filter((name) => workflows.get(name).runnable !== false);
    const name = [wanted, "demo", runnable[0], names[0]].find((each) => workflows.has(each));
    byId("workflow").replaceChildren(
      ...names.map((each) => {
        const { title, runnable: can } = workflows.get(each);
        const note = can === false ? " (something is missing)" : "";
        return make("option", { value: each, selected: each === name }, capital(title) + note);
      }),
    );
    byId("run").disabled = name === undefined;
    if (name !== undefined) this._drawWorkflow(workflows.get(name));
    else byId("description").textContent = "There is no workflow yet.";
  }

  _drawWorkflow(definition) {
    byId("description").textContent = definition.description ?? "";
    this._drawMissing(definition);
    this.form.draw(definition);
  }

  _drawMissing({ runnable, missing = {} }) {
    const nodes = (missing.nodes ?? []).map((node) => make("li", {}, `the node ${node}`));
    const values = (missing.choices ?? []).map(({ value, input, allowed }) =>
      make("li", {}, `${value} (${input})`, allowed.length ? `; there is ${allowed.join(", ")}` : ""),
    );
    show(byId("missing"), runnable === false);
    byId("missing").replaceChildren(
      make("p", {}, "It cannot run: ComfyUI does not have"),
      make("ul", {}, ...nodes, ...values),
    );
  }

  // Jobs.

  /** Everything that the bridge still knows of this client's jobs. */
  async _recall() {
    for await (const view of this.client.history()) {
      const isKept = view.result || !["succeeded", "failed", "cancelled", "expired"].includes(view.state);
      if (isKept) this.gallery.add(this.client.job(view.job_id));
    }
    this.recalled = true;
    this.gallery.chooseNewest();
  }

  async _run() {
    const times = Number(byId("times").value);
    this.form.clearProblems();
    this._lookAtStage();
    for (let count = 0; count < times; count += 1) {
      if (!(await this._runOnce())) return;
    }
  }

  /** On a phone the stage is below the form. */
  _lookAtStage() {
    const stage = byId("stage");
    const isBelow = stage.getBoundingClientRect().top > byId("form").getBoundingClientRect().bottom;
    if (isBelow) stage.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  async _runOnce(again = false) {
    const workflow = this.form.definition.name;
    const { values } = this.form.entered();
    const job = this.client.job(newId());
    const entry = this.gallery.add(job, {
      inputs: values,
      choose: !this.gallery.isWatching,
    });
    entry.job.workflow = workflow;
    try {
      const inputs = await this.form.inputs();
      const meta = { page: { media: this.form.remembered(inputs) } };
      const options = { preview: true, meta, ...this._keep() };
      return await this._submit(entry, { workflow, inputs, options });
    } catch (error) {
      this.gallery.drop(entry);
      if (error.code === "invalid_input" && error.details?.upload && !again) {
        this.form.forgetUploads();
        return this._runOnce(true);
      }
      this._refused(workflow, error);
      return false;
    }
  }

  /**
   * Sends a request until it is answered; false if it was cancelled before. Until then it is kept
   * over a reload: with its job's id it is the same request.
   */
  async _submit(entry, request) {
    const { workflow, inputs, options } = request;
    const abort = new AbortController();
    this.pending.set(entry, abort);
    sessionStorage.setItem(UNANSWERED + entry.id, JSON.stringify(request));
    try {
      const more = { job_id: entry.id, signal: abort.signal };
      await this.client.submit(workflow, inputs, { ...options, ...more });
    } catch (error) {
      if (!abort.signal.aborted) throw error;
      this.gallery.drop(entry);
      return false;
    } finally {
      this.pending.delete(entry);
      sessionStorage.removeItem(UNANSWERED + entry.id);
    }
    this._follow(workflow, entry.job);
    return true;
  }

  /** Sends again what had no answer when the page was left. */
  _takeUp() {
    const names = Object.keys(sessionStorage).filter((name) => name.startsWith(UNANSWERED));
    for (const name of names) {
      const request = JSON.parse(sessionStorage.getItem(name));
      const job = this.client.job(name.slice(UNANSWERED.length));
      job.workflow = request.workflow;
      const entry = this.gallery.add(job, { inputs: request.inputs, choose: true });
      this._submit(entry, request).catch((error) => {
        this.gallery.drop(entry);
        this._refused(request.workflow, error);
      });
    }
  }

  /** Pictures stay as long as results do: a gallery is for tomorrow. */
  _keep() {
    const keep = this.client.info?.limits?.keep_results_s;
    return keep ? { keep_s: keep } : {};
  }

  async _follow(workflow, job) {
    const { state, error } = await job.ended;
    if (state === "failed" && error?.details?.input) this._refused(workflow, error);
  }

  _refused(workflow, error) {
    if (this.form.definition.name === workflow) this.form.refuse(error);
    announce(error.message);
  }

  /** Ends a job; a request that was never answered is not sent any more. */
  async _cancel(entry) {
    this.pending.get(entry)?.abort();
    if (entry.job.accepted) await entry.job.cancel();
  }

  _again(entry) {
    const { workflow } = entry.job;
    if (!this.client.workflows.has(workflow)) {
      this.form.problem(`There is no workflow ${workflow} any more.`);
      return;
    }
    history.replaceState(null, "", `#${workflow}`);
    this._drawWorkflows();
    this.form.fill(entry.inputs, entry.media);
    byId("form").scrollIntoView({ block: "start", behavior: "smooth" });
    byId("form").querySelector("textarea, input, select")?.focus({ preventScroll: true });
    announce("The form has the job's values.");
  }

  _useAsInput(entry, info) {
    if (!this.form.takeOutput(entry.id, info)) {
      const kind = info.content_type.split("/")[0];
      this.form.problem(`${capital(this.form.definition.title)} takes no ${kind}: choose a workflow that does.`);
      byId("workflow").focus();
    }
  }

  _requestChanged() {
    const { client, form } = this;
    if (!form.definition || !client.registered) return;
    this.elsewhere.draw({
      ...form.entered(),
      base: client.registered.base ?? "comfy2mqtt",
      client: client.registered.client,
      host: location.hostname,
      door: new URL("/ws", location.href.replace(/^http/, "ws")).href,
      workflow: form.definition.name,
      main: mainText(form.definition),
    });
  }
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Logging in and out.

function logIn(reason) {
  show(byId("login"), true);
  show(byId("key-problem"), Boolean(reason));
  byId("key-problem").textContent = reason ? capital(reason) : "";
  byId("key").focus();
}

async function start(key, remember) {
  const page = new Page(key);
  byId("login-form").inert = true;
  try {
    await page.client.connect();
  } catch (error) {
    if (error.code !== "refused") throw error;
    return; // told by logOut
  }
  // Before anything is asked: with the bridge away, answers may take long.
  (remember ? localStorage : sessionStorage).setItem(KEY, key);
  await page.open();
}

function logOut(reason) {
  sessionStorage.clear();
  localStorage.removeItem(KEY);
  if (reason) sessionStorage.setItem("refused", reason);
  location.reload();
}

byId("logout").addEventListener("click", () => logOut());
byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  if (key) start(key, byId("remember").checked);
  else logIn("The key is missing");
});

const known = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
if (known) start(known, localStorage.getItem(KEY) !== null);
else {
  logIn(sessionStorage.getItem("refused"));
  sessionStorage.removeItem("refused");
}
