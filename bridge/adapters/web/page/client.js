/**
 * The client of comfy2mqtt for browsers: one module without dependencies.
 *
 *     import { Client } from "./client.js";
 *
 *     const bridge = new Client({ url: "ws://localhost:8090/ws", key: "c2m_..." });
 *     await bridge.connect();
 *     const job = await bridge.submit("demo", { prompt: "a lighthouse" }, { preview: true });
 *     for await (const event of job) console.log(event.type, event.percent ?? "");
 *     const [picture] = await job.outputs();
 *     document.querySelector("img").src = URL.createObjectURL(picture.blob);
 *
 * A lost connection is made again, and missed messages are fetched. A request without an answer is
 * sent again until it has one; that is safe, since no job id runs twice. The messages are described
 * in docs/websocket.md and docs/contract.md.
 *
 * @module
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
// A phone that changed networks does not notice that its connection is gone: ping after silence.
const SILENCE_MS = 20_000;
const ANSWER_MS = 10_000;
// Requests in flight; the server accepts `limits.pending`.
const MAX_PENDING = 16;
// With more jobs than this, finished ones are forgotten, the oldest first.
const MAX_JOBS = 500;

// Close codes of the server.
const REFUSED = 4401;
const IDLE = 4410;

const OUTCOMES = new Set(["succeeded", "failed", "cancelled", "expired"]);

/** An error answer of the bridge or its WebSocket server; `code` and `details` as in the contract. */
export class BridgeError extends Error {
  constructor({ code, message, details = {} }) {
    super(message);
    this.name = "BridgeError";
    /** @type {string} A stable word, such as `invalid_input`. */
    this.code = code;
    /** @type {object} The input or field concerned, what was wrong, what is allowed. */
    this.details = details;
  }
}

/**
 * A session with a bridge under one key.
 *
 * Events, each a CustomEvent:
 *
 * - `connection`: {@link Client#connection} changed
 * - `bridge`, `info`, `comfyui`, `workflow`, `choices`: the property of that name changed
 * - `job`: a message about a job that was unknown before; detail is the {@link Job}
 * - `set`: a message about a set that was unknown before; detail is the {@link JobSet}
 * - `notable`: detail is the body of the bridge's `event`
 */
export class Client extends EventTarget {
  #url;
  #key;
  #socket = null;
  #opening = null; // the deferred that connect() returns
  #pause = FIRST_PAUSE_MS;
  #timer = null;
  #watch = null;
  #n;
  #next = 1;
  #sent = new Map(); // transaction -> request in flight
  #queue = []; // requests that wait until fewer are in flight
  #parts = new Map(); // transaction -> bytes that arrived before the answer
  #jobs = new Map();
  #sets = new Map();
  #fresh = null; // retained items received since registering, until `ready`

  /**
   * @param {object} options
   * @param {string} [options.url] The socket; the page's own host by default.
   * @param {string} options.key
   * @param {number} [options.after] The highest `n` seen before; later messages are sent again.
   */
  constructor({ url = ownSocket(), key, after }) {
    super();
    this.#url = url;
    this.#key = key;
    this.#n = after;
    /**
     * `state` is `closed`, `connecting`, `online`, `lost` (the next attempt is at `retryAt`, as
     * Date.now counts), `idle` (until the next request) or `refused` (the key; see `reason`).
     */
    this.connection = { state: "closed" };
    /** @type {object|null} The answer to `register`: client, limits, base, ... */
    this.registered = null;
    /** @type {?string} `online`, `offline`, or `unreachable` while the server has no broker. */
    this.bridge = null;
    /** @type {?object} The body of `bridge/info`. */
    this.info = null;
    /** @type {Map<string, object>} The state message of each ComfyUI, by instance. */
    this.comfyui = new Map();
    /** @type {Map<string, object>} Definitions by the workflow's name. */
    this.workflows = new Map();
    /** @type {Map<string, Array>} Lists of choices that definitions name with `x-choices`. */
    this.choices = new Map();
  }

  /**
   * Connects and registers; resolves once all retained messages have arrived.
   * @returns {Promise<object>} {@link Client#registered}
   * @throws {BridgeError} `refused`: the key is wrong. After any other failure it tries again, without end.
   */
  connect() {
    this.#opening ??= deferred();
    if (!this.#socket) this.#open();
    return this.#opening.promise;
  }

  /** Whether what is known of jobs is of now: the connection is there, and the bridge. */
  get isLive() {
    return this.connection.state === "online" && this.bridge === "online";
  }

  /** Closes the connection; pending requests fail with `closed`, jobs continue. */
  close() {
    this.#stop(new BridgeError({ code: "closed", message: "the connection was closed" }));
    this.#setConnection({ state: "closed" });
  }

  /** Connects now rather than after the pause. */
  retry() {
    if (["lost", "idle"].includes(this.connection.state)) this.#open();
  }

  /**
   * Submits a job and resolves once it is accepted.
   * @param {string} workflow
   * @param {object} [inputs] Values by name; a Blob is media and is uploaded first.
   * @param {object} [options] The other fields of `submit`: job_id, preview, meta, output, ...
   * @returns {Promise<Job>}
   * @throws {BridgeError} Why it was refused: `invalid_input` with `details.input`, `busy`, ...
   */
  async submit(workflow, inputs = {}, options = {}) {
    const given = await this.#uploaded(inputs);
    const { job_id = newId(), signal, ...rest } = options;
    const job = this.job(job_id);
    const accepted = await this.ask("submit", { workflow, inputs: given, job_id, ...rest }, signal);
    job._accepted(accepted);
    return job;
  }

  /**
   * Submits a set: many jobs in one request. Resolves once it is accepted, whole.
   * @param {string} workflow
   * @param {object} inputs What all of its jobs have in common; a Blob is uploaded first.
   * @param {object} options `grid`, `each` or `repeat`, and the other fields of `submit`: set_id, ...
   * @returns {Promise<JobSet>}
   * @throws {BridgeError} Why it was refused.
   */
  async submitSet(workflow, inputs, options) {
    const given = await this.#uploaded(inputs);
    const { set_id = newId(), signal, ...rest } = options;
    const set = this.set(set_id);
    set._take(await this.ask("submit", { workflow, inputs: given, set_id, ...rest }, signal));
    return set;
  }

  async #uploaded(inputs) {
    const given = {};
    for (const [name, value] of Object.entries(inputs)) {
      given[name] = value instanceof Blob ? await this.upload(value) : value;
    }
    return given;
  }

  /**
   * Runs a workflow to its end.
   * @returns {Promise<Array<{info: object, blob: Blob}>>} Its outputs.
   * @throws {BridgeError} Why it was refused, or how it failed.
   */
  async run(workflow, inputs = {}, options = {}) {
    const job = await this.submit(workflow, inputs, options);
    return job.outputs();
  }

  /** Returns a job by its id, to follow it; sends nothing. @returns {Job} */
  job(jobId) {
    const known = this.#jobs.get(jobId);
    if (known) return known;
    const job = new Job(this, jobId);
    this.#jobs.set(jobId, job);
    if (this.#jobs.size > MAX_JOBS) this.#forgetOldest();
    return job;
  }

  /** Returns a set by its id, to follow it; sends nothing. @returns {JobSet} */
  set(setId) {
    const known = this.#sets.get(setId);
    if (known) return known;
    const set = new JobSet(this, setId);
    this.#sets.set(setId, set);
    return set;
  }

  /** Requests that a job be cancelled; its result says how it ended. */
  cancel(jobId) {
    return this.ask("cancel", { job_id: jobId });
  }

  /** Requests the state of a job. @returns {Promise<object>} A view, with the result if it has one. */
  status(jobId) {
    return this.ask("status", { job_id: jobId });
  }

  /**
   * Lists jobs by rising `n`, one page. `after` acknowledges results up to it, unless with `peek`.
   * @param {{after?: number, peek?: boolean, states?: string[], workflow?: string,
   *   limit?: number}} [which]
   * @returns {Promise<{jobs: object[], more: boolean}>}
   */
  list(which = {}) {
    return this.ask("list", which);
  }

  /** Yields every job that the bridge still has, as views, oldest first; acknowledges nothing. */
  async *history() {
    for (let after = 0, more = true; more; ) {
      const page = await this.list({ after, limit: 100, peek: true });
      for (const view of page.jobs) {
        after = Math.max(after, view.n);
        this.job(view.job_id)._view(view);
        yield view;
      }
      more = page.more && page.jobs.length > 0;
      if (!more) this.#seen(after);
    }
  }

  /** Keeps a job's outputs for so many seconds from now. @returns {Promise<{keep_until: number}>} */
  keep(jobId, seconds) {
    return this.ask("keep", { job_id: jobId, keep_s: seconds });
  }

  /** Deletes a job's result and outputs at the bridge. */
  forget(jobId) {
    return this.ask("forget", { job_id: jobId });
  }

  /** Acknowledges every result up to `n`. */
  ack(upTo) {
    return this.ask("ack", { up_to: upTo });
  }

  /** Resolves with a signed URL of an output, which takes `?width=`. */
  async link(jobId, output = 0) {
    const { url } = await this.ask("link", { job_id: jobId, output });
    return new URL(url, this.#url.replace(/^ws/, "http")).href;
  }

  /**
   * Fetches an output in parts.
   * @returns {Promise<Blob>}
   * @throws {BridgeError} `unknown_job` if it has been deleted.
   */
  fetch(jobId, output = 0, options = {}) {
    return this._fetch({ job_id: jobId }, output, options);
  }

  // Called by JobSet, too; `owner` names a job or a set.
  async _fetch(owner, output, { signal, onprogress } = {}) {
    const parts = [];
    for (let offset = 0, type = ""; ; ) {
      const part = await this.ask("fetch", { ...owner, output, offset }, signal);
      parts.push(part.bytes);
      type ||= part.content_type;
      offset = part.next;
      onprogress?.((part.offset + part.count) / part.size);
      if (offset === undefined) return new Blob(parts, { type });
    }
  }

  /**
   * Uploads bytes in parts, from where an earlier attempt ended. The same bytes have the same id and
   * are sent once.
   * @param {Blob} blob
   * @param {{onprogress?: (share: number) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<{upload: string}>} The media source for a request.
   */
  async upload(blob, { onprogress, signal } = {}) {
    const data = await blob.arrayBuffer();
    const sha256 = await digest(data);
    const upload = sha256.slice(0, 32);
    const begin = { upload, size: data.byteLength, sha256 };
    if (blob.type) begin.content_type = blob.type;
    let { held, complete } = await this.ask("upload", begin, signal);
    while (!complete && held < data.byteLength) {
      onprogress?.(held / data.byteLength);
      const bytes = data.slice(held, held + this.registered.limits.part);
      ({ held, complete } = await this.ask("upload", { upload, offset: held }, signal, bytes));
    }
    if (!complete) await this.ask("upload", { upload, fin: true }, signal);
    onprogress?.(1);
    return { upload };
  }

  /**
   * Sends any request of the contract. Waits for the answer, while connection or bridge are away too,
   * until `signal` aborts.
   * @param {string} verb
   * @param {object} [body]
   * @param {AbortSignal} [signal]
   * @param {ArrayBuffer} [bytes] The payload of a binary frame.
   * @returns {Promise<object>} The answer's data.
   * @throws {BridgeError}
   */
  ask(verb, body = {}, signal = undefined, bytes = undefined) {
    const transaction = this.#next++;
    const request = { ...deferred(), message: { type: verb, ...body, transaction }, bytes };
    const settle = (how) => (value) => {
      this.#sent.delete(transaction);
      this.#queue = this.#queue.filter((each) => each !== request);
      how(value);
      this.#sendQueued();
    };
    request.resolve = settle(request.resolve);
    request.reject = settle(request.reject);
    signal?.addEventListener("abort", () => request.reject(signal.reason), { once: true });
    this.#queue.push(request);
    if (this.connection.state === "idle") this.#open();
    this.#sendQueued();
    return request.promise;
  }

  // The connection.

  #open() {
    clearTimeout(this.#timer);
    this.#setConnection({ state: "connecting" });
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "register", key: this.#key, after: this.#n }));
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#onClose(code, reason);
    };
    this.#watchSilence(ANSWER_MS);
  }

  #onClose(code, reason) {
    this.#socket = null;
    clearTimeout(this.#watch);
    if (code === REFUSED) {
      const message = reason || "the key is not valid";
      this.#stop(new BridgeError({ code: "refused", message }));
      this.#setConnection({ state: "refused", reason: message });
      return;
    }
    if (code === IDLE && !this.#sent.size) {
      this.#setConnection({ state: "idle" });
      return;
    }
    // With jitter, so that not all clients reconnect at once after the server restarts.
    const pause = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(LONGEST_PAUSE_MS, this.#pause * 2);
    this.#timer = setTimeout(() => this.#open(), pause);
    this.#setConnection({ state: "lost", retryAt: Date.now() + pause, code, reason });
  }

  #stop(error) {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    socket?.close();
    this.#opening?.promise.catch(() => {});
    this.#opening?.reject(error);
    this.#opening = null;
    for (const request of [...this.#sent.values(), ...this.#queue]) request.reject(error);
  }

  /** Pings a connection that is silent, and gives it up if it stays so. */
  #watchSilence(patience = SILENCE_MS, hasPinged = false) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      const socket = this.#socket;
      if (hasPinged || this.connection.state !== "online") {
        this.#onClose(1006, "no answer");
        socket?.close();
      } else {
        this.#send({ message: { type: "ping" } });
        this.#watchSilence(ANSWER_MS, true);
      }
    }, patience);
  }

  #setConnection(connection) {
    this.connection = connection;
    this.#dispatch("connection", connection);
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // Sending.

  #sendQueued() {
    while (this.connection.state === "online" && this.#sent.size < MAX_PENDING) {
      const request = this.#queue.shift();
      if (!request) return;
      this.#sent.set(request.message.transaction, request);
      this.#send(request);
    }
  }

  #send({ message, bytes }) {
    if (this.connection.state !== "online") return;
    this.#socket.send(bytes ? packed(message, bytes) : JSON.stringify(message));
  }

  /** The bridge was busy: the same request again after a pause. */
  #sendLater(request) {
    request.pause = Math.min(LONGEST_PAUSE_MS, (request.pause ?? FIRST_PAUSE_MS) * 2);
    setTimeout(() => {
      if (this.#sent.has(request.message.transaction)) this.#send(request);
    }, request.pause);
  }

  // Receiving.

  #receive(data) {
    this.#watchSilence();
    const [message, bytes] = typeof data === "string" ? [parse(data)] : unpacked(data);
    switch (message.type) {
      case "registered":
        return this.#onRegistered(message);
      case "ready":
        return this.#onReady();
      case "resumed":
        return this.#refreshJobs();
      case "response":
        return this.#onResponse(message);
      case "part":
        return void this.#parts.set(message.transaction, bytes);
      case "bridge":
        this.bridge = message.state;
        return this.#dispatch("bridge", message.state);
      case "info":
        this.info = message;
        return this.#dispatch("info", message);
      case "comfyui":
        return this.#setRetained("comfyui", message.instance, message.state ? message : null);
      case "workflow":
        return this.#setRetained("workflow", message.name, message.definition);
      case "choices":
        return this.#setRetained("choices", message.name, message.choices);
      case "event":
        return this.#dispatch("notable", message.event);
      case "status":
      case "progress":
      case "result":
      case "preview":
      case "output":
        return this.#onJobMessage(message, bytes);
      case "set_status":
      case "set_result":
        return this.#onSetMessage(message);
    }
  }

  #onRegistered(registered) {
    this.registered = registered;
    this.bridge = registered.bridge;
    this.#pause = FIRST_PAUSE_MS;
    this.#fresh = new Set();
    const resumes = this.#n !== undefined;
    this.#setConnection({ state: "online" });
    for (const request of this.#sent.values()) this.#send(request);
    this.#sendQueued();
    if (!resumes) this.#refreshJobs();
  }

  /**
   * Asks for each unfinished job and set: there was no `n` to resume from, or a broker that does not keep the
   * order has sent a message with a higher `n` before the result.
   */
  #refreshJobs() {
    for (const job of this.#jobs.values()) {
      if (job.accepted && !job.result) job.refresh().catch(() => {});
    }
    for (const set of this.#sets.values()) {
      if (set.accepted && !set.result) set.refresh().catch(() => {});
    }
  }

  /** All retained messages are here: forget what was not among them. */
  #onReady() {
    for (const [kind, map] of [
      ["comfyui", this.comfyui],
      ["workflow", this.workflows],
      ["choices", this.choices],
    ]) {
      for (const name of map.keys()) {
        if (!this.#fresh.has(`${kind}/${name}`)) this.#setRetained(kind, name, null);
      }
    }
    this.#fresh = null;
    this.#opening?.resolve(this.registered);
  }

  #setRetained(kind, name, value) {
    const map = { comfyui: this.comfyui, workflow: this.workflows, choices: this.choices }[kind];
    this.#fresh?.add(`${kind}/${name}`);
    if (value) map.set(name, value);
    else map.delete(name);
    this.#dispatch(kind, name);
  }

  #onResponse({ transaction, status, data, error }) {
    const request = this.#sent.get(transaction);
    const bytes = this.#parts.get(transaction);
    this.#parts.delete(transaction);
    if (!request) return;
    if (status === "ok") request.resolve(bytes ? { ...data, bytes } : data);
    else if (error.code === "busy" && error.details?.retry) this.#sendLater(request);
    else request.reject(new BridgeError(error));
  }

  #onJobMessage(message, bytes) {
    if (message.n !== undefined) this.#seen(message.n);
    const isNew = !this.#jobs.has(message.job_id);
    const job = this.job(message.job_id);
    job._receive(message, bytes);
    if (isNew) this.#dispatch("job", job);
  }

  #onSetMessage(message) {
    const isNew = !this.#sets.has(message.set_id);
    const set = this.set(message.set_id);
    set._receive(message);
    if (isNew) this.#dispatch("set", set);
  }

  #seen(n) {
    this.#n = Math.max(this.#n ?? 0, n);
  }

  #forgetOldest() {
    for (const [id, job] of this.#jobs) {
      if (job.result) {
        this.#jobs.delete(id);
        return;
      }
    }
  }
}

/**
 * A job of this client. Events: `status`, `progress`, `preview`, `output`, `result`, each with the
 * message (a Blob for `preview`, `{ info, blob }` for `output`) as its detail, and `change` after
 * each of them.
 *
 * `for await (const event of job)` yields the events from now on; the result is the last.
 */
export class Job extends EventTarget {
  #client;
  #end = deferred();
  #received = new Map();
  #n = 0; // of the newest status

  constructor(client, id) {
    super();
    this.#client = client;
    this.#end.promise.catch(() => {});
    /** @type {string} */
    this.id = id;
    /** @type {?string} */
    this.workflow = null;
    /** @type {?string} The state as in the contract; null before the first message. */
    this.state = null;
    /** @type {boolean} The bridge has accepted it: it will have exactly one outcome. */
    this.accepted = false;
    /** @type {number|undefined} The number of queued jobs that start before it. */
    this.position = undefined;
    /** @type {string|undefined} The id of the set that it is one of. */
    this.setId = undefined;
    /** @type {?object} The newest `progress`. */
    this.progress = null;
    /** @type {?Blob} The newest preview. */
    this.preview = null;
    /** @type {?object} */
    this.result = null;
    /** @type {*} The `meta` of the request. */
    this.meta = undefined;
    /** @type {?number} Seconds since the epoch; null while unknown. */
    this.acceptedAt = null;
    /** @type {string|undefined} Why it waits. */
    this.reason = undefined;
  }

  /** Resolves with the result, whatever the outcome. */
  get ended() {
    return this.#end.promise;
  }

  /**
   * Waits for the result and resolves with the outputs; fetches those that were not sent.
   * @returns {Promise<Array<{info: object, blob: Blob}>>}
   * @throws {BridgeError} The error of the job; `cancelled` or `expired` if it was that.
   */
  async outputs() {
    const { state, error, outputs } = await this.ended;
    if (state !== "succeeded") {
      throw new BridgeError(error ?? { code: state, message: `the job was ${state}` });
    }
    return Promise.all(outputs.map(async (info) => ({ info, blob: await this.output(info) })));
  }

  /** Resolves with the bytes of one output of the result. @returns {Promise<Blob>} */
  async output(info) {
    const received = this.#received.get(info.index);
    if (received?.sha256 === info.sha256) return received.blob;
    const blob = await this.#client.fetch(this.id, info.index);
    this.#received.set(info.index, { sha256: info.sha256, blob });
    return blob;
  }

  /** Whether the bytes of an output have been received. */
  has(info) {
    return this.#received.get(info.index)?.sha256 === info.sha256;
  }

  /** Requests that it be cancelled. */
  cancel() {
    return this.#client.cancel(this.id);
  }

  /** Requests its state. */
  async refresh() {
    this._view(await this.#client.status(this.id));
  }

  /** Takes what was noted of a job that has ended: `workflow`, `meta`, `result`, `accepted_at`. */
  restore(noted) {
    this._view({ ...noted, state: noted.result.state });
  }

  async *[Symbol.asyncIterator]() {
    const events = [];
    let woken = deferred();
    const received = (event) => {
      events.push({ type: event.type, ...plain(event.detail) });
      woken.resolve();
    };
    const types = ["status", "progress", "preview", "output", "result"];
    for (const type of types) this.addEventListener(type, received);
    try {
      if (this.result) events.push({ type: "result", ...this.result });
      for (;;) {
        while (events.length) {
          const event = events.shift();
          yield event;
          if (event.type === "result") return;
        }
        woken = deferred();
        await woken.promise;
      }
    } finally {
      for (const type of types) this.removeEventListener(type, received);
    }
  }

  // Called by Client only.

  _accepted({ workflow, state, position, result, meta }) {
    this.accepted = true;
    this.workflow = workflow;
    this.meta ??= meta;
    // A status message may have arrived before the answer.
    this.state ??= state;
    this.position ??= position;
    if (result) this._ended(result);
    this.#dispatch("change");
  }

  _view({ n = this.#n, state, position, accepted_at: acceptedAt, result, workflow, meta, set_id }) {
    this.accepted = true;
    this.acceptedAt = acceptedAt;
    this.setId ??= set_id;
    this.workflow = workflow;
    this.meta = meta;
    if (this.result) return;
    if (n >= this.#n) Object.assign(this, { state, position });
    if (result) this._ended(result);
    this.#dispatch("change");
  }

  _receive(message, bytes) {
    // Sent again after a reconnect; or by a broker that does not keep the order: outputs count.
    if (this.result && message.type !== "output") return;
    if (message.type === "status" && message.n <= this.#n) return;
    if (message.type === "progress" && message.percent < this.progress?.percent) return;
    this.accepted = true;
    this.workflow = message.workflow ?? this.workflow;
    this.meta = message.meta ?? this.meta;
    this.setId ??= message.set_id;
    switch (message.type) {
      case "status":
        this.#n = message.n;
        this.state = message.state;
        this.position = message.position;
        this.reason = message.reason;
        this.eta = message.eta_s;
        break;
      case "progress":
        this.progress = message;
        this.eta = message.eta_s ?? this.eta;
        break;
      case "preview":
        this.preview = new Blob([bytes], { type: message.content_type });
        return this.#dispatch("preview", this.preview);
      case "output": {
        const blob = new Blob([bytes], { type: message.content_type });
        this.#received.set(message.index, { sha256: message.sha256, blob });
        return this.#dispatch("output", { info: message, blob });
      }
      case "result":
        return this._ended(message);
    }
    this.#dispatch(message.type, message);
  }

  _ended(result) {
    if (!OUTCOMES.has(result.state)) return;
    this.result = result;
    this.state = result.state;
    this.#end.resolve(result);
    this.#dispatch("result", result);
  }

  #dispatch(type, detail) {
    if (type !== "change") this.dispatchEvent(new CustomEvent(type, { detail }));
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/**
 * A set of this client's jobs, made by one request. Its jobs are `client.job("<id>-0")` and so on.
 * Event: `change`.
 */
export class JobSet extends EventTarget {
  #client;
  #end = deferred();

  constructor(client, id) {
    super();
    this.#client = client;
    /** @type {string} */
    this.id = id;
    /** @type {?string} */
    this.workflow = null;
    /** @type {?string} `running`, `paused`, `cancelling`, or how it ended. */
    this.state = null;
    /** @type {boolean} The bridge has accepted it: it will have exactly one result. */
    this.accepted = false;
    /** @type {?number} How many jobs it has. */
    this.total = null;
    /** @type {object} How many of its jobs are in each state. */
    this.counts = {};
    /** @type {number|undefined} Seconds until it ends. */
    this.eta = undefined;
    /** @type {?object} With `jobs`, each `{ job_id, state, inputs }`, and `outputs`. */
    this.result = null;
    /** @type {*} The `meta` of the request. */
    this.meta = undefined;
    /** @type {?number} Seconds since the epoch; null while unknown. */
    this.acceptedAt = null;
  }

  /** Resolves with the result, whatever the outcome. */
  get ended() {
    return this.#end.promise;
  }

  /** Requests that it and all of its jobs end. */
  async cancel() {
    this._take(await this.#client.ask("cancel", { set_id: this.id }));
  }

  /** Requests that no more of its jobs be put into the queue. */
  async pause() {
    this._take(await this.#client.ask("pause", { set_id: this.id }));
  }

  /** Continues it after a pause. */
  async resume() {
    this._take(await this.#client.ask("resume", { set_id: this.id }));
  }

  /** Requests how far it is. */
  async refresh() {
    this._take(await this.#client.ask("status", { set_id: this.id }));
  }

  /** Resolves with the bytes of something that it has collected: one of the result's `outputs`. */
  output(info) {
    return this.#client._fetch({ set_id: this.id }, info.index);
  }

  /** Deletes its result, and all that is kept of its jobs. */
  forget() {
    return this.#client.ask("forget", { set_id: this.id });
  }

  // Called by Client only.

  /** Takes an answer: how far it is, and its result if it has one. */
  _take({ accepted_at: acceptedAt = this.acceptedAt, result, ...view }) {
    this.acceptedAt = acceptedAt;
    this._receive(view);
    if (result) this._receive({ type: "set_result", ...result });
  }

  _receive({ type, workflow, state, total, counts = this.counts, eta_s: eta, meta, ...rest }) {
    // Sent again; or by a broker that does not keep the order: jobs that have ended stay so.
    if (this.result || (type !== "set_result" && ended(counts) < ended(this.counts))) return;
    this.accepted = true;
    Object.assign(this, { workflow, state, total, counts, eta, meta: meta ?? this.meta });
    if (type === "set_result") {
      this.result = { workflow, state, total, counts, meta, ...rest };
      this.#end.resolve(this.result);
    }
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/** How many jobs of a set have ended. */
function ended(counts) {
  return [...OUTCOMES].reduce((sum, state) => sum + (counts[state] ?? 0), 0);
}

// Binary frames: the length of the header in four bytes, the header as JSON, the bytes.

function packed(header, bytes) {
  const head = new TextEncoder().encode(JSON.stringify(header));
  const frame = new Uint8Array(4 + head.length + bytes.byteLength);
  new DataView(frame.buffer).setUint32(0, head.length);
  frame.set(head, 4);
  frame.set(new Uint8Array(bytes), 4 + head.length);
  return frame;
}

function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return [header, buffer.slice(4 + length)];
}

/** Parses JSON; integers that a double cannot hold, such as seeds, become strings of digits. */
function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const rounded = Number.isInteger(value) && !Number.isSafeInteger(value);
    return rounded && /^-?\d+$/.test(context?.source ?? "") ? context.source : value;
  });
}

function ownSocket() {
  return new URL("ws", location.href.replace(/^http/, "ws")).href;
}

function plain(detail) {
  return detail instanceof Blob ? { blob: detail } : detail;
}

function deferred() {
  let resolve;
  let reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}

/** A new job id: 16 random bytes. crypto.randomUUID exists on https only. */
export function newId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The SHA-256 of some bytes; crypto.subtle exists on https and localhost only. */
async function digest(buffer) {
  if (globalThis.crypto?.subtle) {
    return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", buffer)));
  }
  return sha256(new Uint8Array(buffer));
}

/** SHA-256 in plain JavaScript (FIPS 180-4). */
export function sha256(data) {
  const state = Uint32Array.from(INITIAL);
  const whole = data.length - (data.length % 64);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < whole; at += 64) mix(state, view, at);
  const rest = new Uint8Array(data.length - whole < 56 ? 64 : 128);
  rest.set(data.subarray(whole));
  rest[data.length - whole] = 0x80;
  const end = new DataView(rest.buffer);
  end.setBigUint64(rest.length - 8, BigInt(data.length) * 8n);
  for (let at = 0; at < rest.length; at += 64) mix(state, end, at);
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
}

const words = new Uint32Array(64);

function mix(state, view, at) {
  for (let index = 0; index < 16; index += 1) words[index] = view.getUint32(at + 4 * index);
  for (let index = 16; index < 64; index += 1) {
    const [early, late] = [words[index - 15], words[index - 2]];
    const first = turn(early, 7) ^ turn(early, 18) ^ (early >>> 3);
    const second = turn(late, 17) ^ turn(late, 19) ^ (late >>> 10);
    words[index] = words[index - 16] + first + words[index - 7] + second;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let index = 0; index < 64; index += 1) {
    const choose = (e & f) ^ (~e & g);
    const sum = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const one = (h + sum + choose + ROUNDS[index] + words[index]) | 0;
    const most = (a & b) ^ (a & c) ^ (b & c);
    const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + most) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, index) => (state[index] += word));
}

function turn(word, bits) {
  return (word >>> bits) | (word << (32 - bits));
}

// The first 32 bits of the fractional parts of roots of primes, as the standard defines them.
const PRIMES = Array.from({ length: 312 }, (_, number) => number).filter(
  (number) => number > 1 && !Array.from({ length: number }, (_, by) => by).some(
    (by) => by > 1 && number % by === 0,
  ),
);
const INITIAL = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
const ROUNDS = PRIMES.map((prime) => fraction(Math.cbrt(prime)));

function fraction(number) {
  return ((number - Math.floor(number)) * 2 ** 32) >>> 0;
}
