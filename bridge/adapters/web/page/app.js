/** The page: logging in, choosing a workflow, submitting jobs. */

import { Client, newId } from "./client.js";
import { CodeSamples } from "./code_samples.js";
import { brokerOf } from "./code_writers.js";
import { announce, byId, make, show, translate } from "./dom.js";
import { Form, mainText } from "./form.js";
import { capital } from "./format.js";
import { Gallery } from "./gallery.js";
import { InputPictures } from "./input_pictures.js";
import { Marks } from "./marks.js";
import { PresetBar } from "./preset_bar.js";
import { Presets } from "./presets.js";
import { noteOf, product } from "./set_axes.js";
import { StatusBar } from "./status_bar.js";
import { say } from "./texts.js";

// Names of items in the browser's storage.
const KEY = "comfy2mqtt key";
const UNANSWERED = "unanswered ";

class Page {
  constructor(key) {
    this.client = new Client({ key });
    this.statusBar = new StatusBar(this.client);
    this.codeSamples = new CodeSamples();
    this.form = new Form(this.client, () => this._requestChanged());
    this.pending = new Map(); // JobView or SetView -> AbortController, while its request has no answer
    document.addEventListener("visibilitychange", () => !document.hidden && this.client.retry());
    addEventListener("online", () => this.client.retry());
  }

  /** Shows the form and the gallery. Call once the client is connected. */
  async open() {
    const { client } = this.client.registered;
    byId("client").textContent = client;
    this.presets = new PresetBar(new Presets(client), this.form);
    this.inputs = new InputPictures(this.client);
    this.gallery = new Gallery(this.client, {
      actions: {
        again: (view) => this._again(view),
        useAsInput: (view, info) => this._useAsInput(view, info),
        cancel: (view) => this._cancel(view),
        cancelSet: (view) => this._cancelSet(view),
      },
      inputs: this.inputs,
      marks: new Marks(client),
    });
    this._listen();
    show(byId("login"), false);
    for (const id of ["workspace", "status", "account"]) show(byId(id), true);
    this._drawWorkflows();
    this._resubmit();
    await this._loadHistory();
  }

  _listen() {
    const { client } = this;
    client.addEventListener("workflow", () => client.connection.state === "online" && this._drawSoon());
    client.addEventListener("choices", () => this._drawSoon());
    const choose = () => this.historyLoaded && this.gallery.chooseNewest();
    // Also jobs that another program submitted for this client.
    client.addEventListener("job", ({ detail }) => {
      if (detail.setId) this.gallery.findSet(detail.setId, [detail]).then(choose);
      else this.gallery.add(detail);
      choose();
    });
    client.addEventListener("set", ({ detail }) => {
      this.gallery.addSet(detail);
      choose();
    });
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
      if (run && !byId("workspace").hidden && !document.querySelector("dialog[open]")) this._run();
    });
  }

  // Workflows.

  /** Definitions arrive in bursts: draw once for each burst. */
  _drawSoon() {
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
        const shown = can === false ? say("form.cannotRun", { title: capital(title) }) : capital(title);
        return make("option", { value: each, selected: each === name }, shown);
      }),
    );
    byId("run").disabled = name === undefined;
    if (name !== undefined) this._drawWorkflow(workflows.get(name));
    else byId("description").textContent = say("form.none");
  }

  _drawWorkflow(definition) {
    byId("description").textContent = definition.description ?? "";
    this._drawMissing(definition);
    this.form.draw(definition);
    this.presets.draw(definition.name);
  }

  _drawMissing({ runnable, missing = {} }) {
    const lacks = [
      ...(missing.nodes ?? []).map((node) => say("form.missing.node", { node })),
      ...(missing.choices ?? []).map(({ value, input, allowed }) =>
        say(allowed.length ? "form.missing.available" : "form.missing.value", {
          ...{ value, input, allowed: allowed.join(", ") },
        }),
      ),
      ...(missing.inputs ?? []).map((each) => say("form.missing.input", each)),
      ...(missing.api_key ?? []).map((node) => say("form.missing.key", { node })),
    ];
    show(byId("missing"), runnable === false);
    byId("missing").replaceChildren(
      make("p", {}, say("form.missing")),
      make("ul", {}, ...lacks.map((each) => make("li", {}, each))),
    );
  }

  // Jobs.

  /** Shows every job of this client that the bridge still has, except those without a result. */
  async _loadHistory() {
    const ofSets = new Map();
    for await (const { job_id: id, result, state } of this.client.history()) {
      const hasEnded = ["succeeded", "failed", "cancelled", "expired"].includes(state);
      if (hasEnded && !result) continue;
      const job = this.client.job(id);
      if (job.setId) ofSets.set(job.setId, [...(ofSets.get(job.setId) ?? []), job]);
      else this.gallery.add(job);
    }
    await Promise.all([...ofSets].map(([id, jobs]) => this.gallery.findSet(id, jobs)));
    this.gallery.addKept();
    this.historyLoaded = true;
    this.gallery.chooseNewest();
  }

  async _run() {
    const { form } = this;
    form.clearProblems();
    const axes = form.sets.check();
    if (form.check(form.sets.names) || !axes) return;
    const repeat = Number(byId("times").value);
    if (axes.length) {
      const grid = Object.fromEntries(axes.map(({ name, spec }) => [name, spec]));
      await this._submitForm({ grid });
    } else if (repeat > 1) await this._submitForm({ repeat });
    else {
      this._scrollToJob();
      await this._submitForm(null);
    }
  }

  /** On a phone the chosen job is below the form. */
  _scrollToJob() {
    const detail = byId("job-detail");
    const isBelow = detail.getBoundingClientRect().top > byId("form").getBoundingClientRect().bottom;
    if (isBelow) detail.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  /** Submits the form as a job, or with `way`, `{ grid }` or `{ repeat }`, as a set. */
  async _submitForm(way, isRetry = false) {
    const workflow = this.form.definition.name;
    const { values, media } = this.form.entered();
    const shared = (inputs) => without(inputs, way?.grid ?? {});
    const view = this._show(newId(), { workflow, inputs: shared(values), options: way ?? {} });
    try {
      const inputs = shared(await this.form.inputs());
      for (const [name, { blob }] of Object.entries(media)) {
        if (blob && inputs[name]?.upload) this.inputs.note(inputs[name].upload, blob);
      }
      const axes = way?.grid && noteOf(axesIn(way));
      const meta = { page: { media: this.form.remembered(inputs), axes } };
      const collect = way ? this.form.sets.collect : undefined;
      const options = { ...way, collect, preview: true, meta, ...this._keep() };
      await this._submit(view, { workflow, inputs, options });
    } catch (error) {
      this._drop(view);
      if (error.code === "invalid_input" && error.details?.upload && !isRetry) {
        // The bridge has deleted the upload meanwhile: send it again.
        this.form.forgetUploads();
        await this._submitForm(way, true);
        return;
      }
      this._refused(workflow, error);
    }
  }

  /** Shows what a request is for, before it is sent: a job, or a set. */
  _show(id, { workflow, inputs, options }) {
    const choose = !this.gallery.isWatching;
    if (!isSet(options)) {
      const view = this.gallery.add(this.client.job(id), { inputs, choose });
      view.job.workflow = workflow;
      return view;
    }
    const axes = options.grid ? axesIn(options) : null;
    const asked = { workflow, inputs, axes, total: options.repeat ?? product(axes) };
    const view = this.gallery.addSet(this.client.set(id), { asked, choose });
    view.element.scrollIntoView({ block: "start", behavior: "smooth" });
    return view;
  }

  _drop(view) {
    if (view.set) this.gallery.dropSet(view);
    else this.gallery.drop(view);
  }

  /**
   * Sends a request until it is answered, or cancelled. Until then it is stored, so that a reload
   * sends it again: with the same id it is the same request.
   */
  async _submit(view, request) {
    const { workflow, inputs, options } = request;
    const { client } = this;
    const abort = new AbortController();
    const { signal } = abort;
    this.pending.set(view, abort);
    sessionStorage.setItem(UNANSWERED + view.id, JSON.stringify(request));
    try {
      if (view.set) await client.submitSet(workflow, inputs, { ...options, set_id: view.id, signal });
      else await client.submit(workflow, inputs, { ...options, job_id: view.id, signal });
    } catch (error) {
      if (!signal.aborted) throw error;
      this._drop(view);
      return;
    } finally {
      this.pending.delete(view);
      sessionStorage.removeItem(UNANSWERED + view.id);
    }
    if (view.job) this._showFailure(workflow, view.job);
  }

  /** Sends the requests again that had no answer when the page was left. */
  _resubmit() {
    const names = Object.keys(sessionStorage).filter((name) => name.startsWith(UNANSWERED));
    for (const name of names) {
      const request = JSON.parse(sessionStorage.getItem(name));
      const view = this._show(name.slice(UNANSWERED.length), request);
      this._submit(view, request).catch((error) => {
        this._drop(view);
        this._refused(request.workflow, error);
      });
    }
  }

  /** The gallery needs pictures for as long as results, so they are kept as long. */
  _keep() {
    const keep = this.client.info?.limits?.keep_results_s;
    return keep ? { keep_s: keep } : {};
  }

  /** Shows at its field what an input did wrong in a job that failed later on. */
  async _showFailure(workflow, job) {
    const { state, error } = await job.ended;
    if (state === "failed" && error?.details?.input) this._refused(workflow, error);
  }

  _refused(workflow, error) {
    if (this.form.definition.name === workflow) this.form.refuse(error);
    announce(error.message);
  }

  /** Cancels a job; a request without an answer is not sent again. */
  async _cancel(view) {
    this.pending.get(view)?.abort();
    if (view.job.accepted || view.job.setId) await view.job.cancel();
  }

  async _cancelSet(view) {
    this.pending.get(view)?.abort();
    if (view.set.accepted) await view.set.cancel();
  }

  _again(view) {
    const { workflow } = view.job;
    if (!this.client.workflows.has(workflow)) {
      this.form.problem(say("form.gone", { workflow }));
      return;
    }
    history.replaceState(null, "", `#${workflow}`);
    this._drawWorkflows();
    this.form.fill(view.inputs, view.media);
    byId("form").scrollIntoView({ block: "start", behavior: "smooth" });
    byId("form").querySelector("textarea, input, select")?.focus({ preventScroll: true });
    announce(say("form.filled"));
  }

  _useAsInput(view, info) {
    if (!this.form.takeOutput(view.id, info)) {
      const kind = info.content_type.split("/")[0];
      const title = capital(this.form.definition.title);
      this.form.problem(say("form.noInputFor", { title, kind }));
      byId("workflow").focus();
    }
  }

  _requestChanged() {
    const { client, form } = this;
    if (!form.definition || !client.registered) return;
    const { values, media } = form.example();
    const way = form.sets.way;
    const varies = way?.grid ?? {};
    this.codeSamples.draw({
      ...{ values: without(values, varies), media: without(media, varies), way },
      ...brokerOf(client.registered, location.hostname),
      base: client.registered.base ?? "comfy2mqtt",
      client: client.registered.client,
      socket: new URL("ws", location.href.replace(/^http/, "ws")).href,
      workflow: form.definition.name,
      main: mainText(form.definition),
    });
  }
}

// Requests for sets.

function isSet({ grid, repeat }) {
  return grid !== undefined || repeat !== undefined;
}

function axesIn({ grid }) {
  return Object.entries(grid).map(([name, spec]) => ({ name, spec }));
}

function without(values, names) {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !(name in names)));
}

// Logging in and out.

/** Shows the form for the key; `reason` says why the last one was refused. */
function logIn(reason) {
  show(byId("login"), true);
  refuseKey(reason);
  byId("key").focus();
}

/** Marks the field of the key with what is wrong with it; nothing: it is no longer marked. */
function refuseKey(reason) {
  show(byId("key-problem"), Boolean(reason));
  byId("key-problem").textContent = reason ? capital(reason) : "";
  byId("key-field").classList.toggle("refused", Boolean(reason));
  if (reason) byId("key").setAttribute("aria-invalid", "true");
  else byId("key").removeAttribute("aria-invalid");
}

/** Connects with a key and opens the page; the key is stored once the bridge has accepted it. */
async function start(key, remember) {
  const page = new Page(key);
  byId("login-form").inert = true;
  page.client.addEventListener("connection", ({ detail }) => {
    if (detail.state === "refused") logOut(detail.reason);
  });
  try {
    await page.client.connect();
  } catch (error) {
    if (error.code !== "refused") throw error;
    return; // logOut shows why
  }
  // Before the first request: while the bridge is away, an answer may take long.
  (remember ? localStorage : sessionStorage).setItem(KEY, key);
  await page.open();
}

function logOut(reason) {
  sessionStorage.clear();
  localStorage.removeItem(KEY);
  if (reason) sessionStorage.setItem("refused", reason);
  location.reload();
}

translate();
byId("key").addEventListener("input", () => refuseKey(null));
byId("logout").addEventListener("click", () => logOut());
byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  if (key) start(key, byId("remember").checked);
  else logIn(say("login.empty"));
});

/** Gets a key for the token of the link that `serve` prints; "" if it is no good any more. */
async function firstKey(token) {
  history.replaceState(null, "", location.pathname);
  const headers = { Authorization: `Bearer ${token}` };
  const response = await fetch("first-login", { method: "POST", headers });
  const text = (await response.text()).trim();
  if (response.ok) return text;
  sessionStorage.setItem("refused", text);
  return "";
}

const FIRST = "#login=";
const first = location.hash.startsWith(FIRST) ? await firstKey(location.hash.slice(FIRST.length)) : "";
const known = first || (sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY));
if (known) start(known, Boolean(first) || localStorage.getItem(KEY) !== null);
else {
  logIn(sessionStorage.getItem("refused"));
  sessionStorage.removeItem("refused");
}
