/**
 * comfy2mqtt from a browser: one module, nothing to install, nothing else to load.
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
 * The connection is made again whenever it is lost, and what was missed is asked for; a request
 * without an answer is sent again until it has one, which is safe: no job id runs twice.
 * docs/websocket.md and docs/contract.md have what is on the wire.
 *
 * @module
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
// A phone that changed networks hears nothing of its lost connection: ask when all is silent.
const SILENCE_MS = 20_000;
const ANSWER_MS = 10_000;
// Requests at once; the door takes `limits.pending`.
const AT_ONCE = 16;
const FINISHED_KEPT = 500;

const REFUSED = 4401;
const IDLE = 4410;

const OUTCOMES = new Set(["succeeded", "failed", "cancelled", "expired"]);

/** What the bridge, or the door before it, said no to; `code` and `details` as in the contract. */
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
 * A conversation with a bridge under one key.
 *
 * Events, each a CustomEvent:
 *
 * - `connection`: {@link Client#connection} changed
 * - `bridge`, `info`, `comfyui`, `workflow`, `choices`: what is known of it changed
 * - `job`: the first word about a job; detail is the {@link Job}
 * - `notable`: detail is the body of the bridge's `event`
 */
export class Client extends EventTarget {
  #url;
  #key;
  #socket = null;
  #opening = null; // what connect() waits for
  #pause = FIRST_PAUSE_MS;
  #timer = null;
  #watch = null;
  #n;
  #next = 1;
  #asked = new Map(); // transaction -> request
  #queue = []; // those that wait until fewer are under way
  #parts = new Map(); // transaction -> bytes that came before the answer
  #jobs = new Map();
  #fresh = null; // what was told since registering, until `ready`

  /**
   * @param {object} options
   * @param {string} [options.url] The socket; the page's own host by default.
   * @param {string} options.key
   * @param {number} [options.after] The highest `n` seen before: what came after it is told.
   */
  constructor({ url = ownSocket(), key, after }) {
    super();
    this.#url = url;
    this.#key = key;
    this.#n = after;
    /**
     * `state` is `closed`, `connecting`, `online`, `lost` (tried again at `retryAt`, in the time
     * of Date.now), `idle` (until something is asked) or `refused` (the key; `reason` says why).
     */
    this.connection = { state: "closed" };
    /** @type {object|null} The answer to `register`: client, limits, base, ... */
    this.registered = null;
    /** @type {?string} `online`, `offline`, or `unreachable` while the door has no broker. */
    this.bridge = null;
    /** @type {?object} The body of `bridge/info`. */
    this.info = null;
    /** @type {Map<string, object>} What each ComfyUI says of itself, by instance. */
    this.comfyui = new Map();
    /** @type {Map<string, object>} Definitions by the workflow's name. */
    this.workflows = new Map();
    /** @type {Map<string, Array>} Lists of choices that definitions name with `x-choices`. */
    this.choices = new Map();
  }

  /**
   * Connects and registers; resolves once what is retained is here.
   * @returns {Promise<object>} {@link Client#registered}
   * @throws {BridgeError} `refused`: the key is wrong. Anything else is tried again, for ever.
   */
  connect() {
    this.#opening ??= deferred();
    if (!this.#socket) this.#open();
    return this.#opening.promise;
  }

  /** Ends the conversation; jobs go on without it. */
  close() {
    this.#stop(new BridgeError({ code: "closed", message: "the connection was closed" }));
    this.#become({ state: "closed" });
  }

  /** Tries at once, rather than when the pause is over. */
  retry() {
    if (["lost", "idle"].includes(this.connection.state)) this.#open();
  }

  /**
   * Submits a job and returns it once it is accepted.
   * @param {string} workflow
   * @param {object} [inputs] Values by name; a Blob stands for media and is uploaded first.
   * @param {object} [options] The other fields of `submit`: job_id, preview, meta, output, ...
   * @returns {Promise<Job>}
   * @throws {BridgeError} Why it was refused: `invalid_input` with `details.input`, `busy`, ...
   */
  async submit(workflow, inputs = {}, options = {}) {
    const given = {};
    for (const [name, value] of Object.entries(inputs)) {
      given[name] = value instanceof Blob ? await this.upload(value) : value;
    }
    const { job_id = newId(), signal, ...rest } = options;
    const job = this.job(job_id);
    const accepted = await this.ask("submit", { workflow, inputs: given, job_id, ...rest }, signal);
    job._accepted(accepted);
    return job;
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

  /** A job of this client, to follow it; nothing is asked yet. @returns {Job} */
  job(jobId) {
    const known = this.#jobs.get(jobId);
    if (known) return known;
    const job = new Job(this, jobId);
    this.#jobs.set(jobId, job);
    if (this.#jobs.size > FINISHED_KEPT) this.#forgetOldest();
    return job;
  }

  /** Asks to end a job; its result tells how it ended. */
  cancel(jobId) {
    return this.ask("cancel", { job_id: jobId });
  }

  /** Asks where a job stands. @returns {Promise<object>} A view, with its result if it has one. */
  status(jobId) {
    return this.ask("status", { job_id: jobId });
  }

  /**
   * A page of jobs by rising `n`. Asking for what comes after n acks it, unless to `peek`.
   * @param {{after?: number, peek?: boolean, states?: string[], workflow?: string,
   *   limit?: number}} [which]
   * @returns {Promise<{jobs: object[], more: boolean}>}
   */
  list(which = {}) {
    return this.ask("list", which);
  }

  /** Every job that is still known, as views, oldest first; acks nothing. */
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

  /** Says that every result up to `n` has arrived. */
  ack(upTo) {
    return this.ask("ack", { up_to: upTo });
  }

  /** A signed address of an output, to give out or to show; takes `?width=`. */
  async link(jobId, output = 0) {
    const { url } = await this.ask("link", { job_id: jobId, output });
    return new URL(url, this.#url.replace(/^ws/, "http")).href;
  }

  /**
   * Fetches an output in parts.
   * @returns {Promise<Blob>}
   * @throws {BridgeError} `unknown_job` when it is kept no longer.
   */
  async fetch(jobId, output = 0, { signal, onprogress } = {}) {
    const parts = [];
    for (let offset = 0, type = ""; ; ) {
      const part = await this.ask("fetch", { job_id: jobId, output, offset }, signal);
      parts.push(part.bytes);
      type ||= part.content_type;
      offset = part.next;
      onprogress?.((part.offset + part.count) / part.size);
      if (offset === undefined) return new Blob(parts, { type });
    }
  }

  /**
   * Uploads bytes in parts, going on where an attempt before was cut off. The same bytes have the
   * same id, and are sent once.
   * @param {Blob} blob
   * @param {{onprogress?: (share: number) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<{upload: string}>} What stands for them in a request.
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
   * Asks anything: a verb of the contract with its fields. Waits for the answer through lost
   * connections and bridges that are away, for as long as `signal` lets it.
   * @param {string} verb
   * @param {object} [body]
   * @param {AbortSignal} [signal]
   * @param {ArrayBuffer} [bytes] What a binary frame carries.
   * @returns {Promise<object>} The answer's data.
   * @throws {BridgeError}
   */
  ask(verb, body = {}, signal = undefined, bytes = undefined) {
    const transaction = this.#next++;
    const request = { ...deferred(), message: { type: verb, ...body, transaction }, bytes };
    const give = (how) => (value) => {
      this.#asked.delete(transaction);
      this.#queue = this.#queue.filter((each) => each !== request);
      how(value);
      this.#more();
    };
    request.resolve = give(request.resolve);
    request.reject = give(request.reject);
    signal?.addEventListener("abort", () => request.reject(signal.reason), { once: true });
    this.#queue.push(request);
    if (this.connection.state === "idle") this.#open();
    this.#more();
    return request.promise;
  }

  // The connection.

  #open() {
    clearTimeout(this.#timer);
    this.#become({ state: "connecting" });
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "register", key: this.#key, after: this.#n }));
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#heard(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#lost(code, reason);
    };
    this.#listen(ANSWER_MS);
  }

  #lost(code, reason) {
    this.#socket = null;
    clearTimeout(this.#watch);
    if (code === REFUSED) {
      const message = reason || "the key is not valid";
      this.#stop(new BridgeError({ code: "refused", message }));
      this.#become({ state: "refused", reason: message });
      return;
    }
    if (code === IDLE && !this.#asked.size) {
      this.#become({ state: "idle" });
      return;
    }
    // With jitter, so that a door that was restarted is not stormed.
    const pause = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(LONGEST_PAUSE_MS, this.#pause * 2);
    this.#timer = setTimeout(() => this.#open(), pause);
    this.#become({ state: "lost", retryAt: Date.now() + pause, code, reason });
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
    for (const request of [...this.#asked.values(), ...this.#queue]) request.reject(error);
  }

  /** Hangs up on a connection that stays silent; before that, asks it for a word. */
  #listen(patience = SILENCE_MS, asked = false) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      const socket = this.#socket;
      if (asked || this.connection.state !== "online") {
        this.#lost(1006, "no answer");
        socket?.close();
      } else {
        this.#send({ message: { type: "ping" } });
        this.#listen(ANSWER_MS, true);
      }
    }, patience);
  }

  #become(connection) {
    this.connection = connection;
    this.#tell("connection", connection);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // What is said.

  #more() {
    while (this.connection.state === "online" && this.#asked.size < AT_ONCE) {
      const request = this.#queue.shift();
      if (!request) return;
      this.#asked.set(request.message.transaction, request);
      this.#send(request);
    }
  }

  #send({ message, bytes }) {
    if (this.connection.state !== "online") return;
    this.#socket.send(bytes ? packed(message, bytes) : JSON.stringify(message));
  }

  #again(request) {
    request.pause = Math.min(LONGEST_PAUSE_MS, (request.pause ?? FIRST_PAUSE_MS) * 2);
    setTimeout(() => {
      if (this.#asked.has(request.message.transaction)) this.#send(request);
    }, request.pause);
  }

  // What is heard.

  #heard(data) {
    this.#listen();
    const [message, bytes] = typeof data === "string" ? [parse(data)] : unpacked(data);
    switch (message.type) {
      case "registered":
        return this.#welcome(message);
      case "ready":
        return this.#ready();
      case "response":
        return this.#answered(message);
      case "part":
        return void this.#parts.set(message.transaction, bytes);
      case "bridge":
        this.bridge = message.state;
        return this.#tell("bridge", message.state);
      case "info":
        this.info = message;
        return this.#tell("info", message);
      case "comfyui":
        return this.#keep("comfyui", message.instance, message.state ? message : null);
      case "workflow":
        return this.#keep("workflow", message.name, message.definition);
      case "choices":
        return this.#keep("choices", message.name, message.choices);
      case "event":
        return this.#tell("notable", message.event);
      case "status":
      case "progress":
      case "result":
      case "preview":
      case "output":
        return this.#about(message, bytes);
    }
  }

  #welcome(registered) {
    this.registered = registered;
    this.bridge = registered.bridge;
    this.#pause = FIRST_PAUSE_MS;
    this.#fresh = new Set();
    const resumes = this.#n !== undefined;
    this.#become({ state: "online" });
    for (const request of this.#asked.values()) this.#send(request);
    this.#more();
    if (!resumes) this.#catchUp();
  }

  /** Without an `n` to go on from, unfinished jobs are asked for one by one. */
  #catchUp() {
    for (const job of this.#jobs.values()) {
      if (job.accepted && !job.result) job.refresh().catch(() => {});
    }
  }

  #ready() {
    for (const [kind, map] of [
      ["comfyui", this.comfyui],
      ["workflow", this.workflows],
      ["choices", this.choices],
    ]) {
      for (const name of map.keys()) {
        if (!this.#fresh.has(`${kind}/${name}`)) this.#keep(kind, name, null);
      }
    }
    this.#fresh = null;
    this.#opening?.resolve(this.registered);
  }

  #keep(kind, name, value) {
    const map = { comfyui: this.comfyui, workflow: this.workflows, choices: this.choices }[kind];
    this.#fresh?.add(`${kind}/${name}`);
    if (value) map.set(name, value);
    else map.delete(name);
    this.#tell(kind, name);
  }

  #answered({ transaction, status, data, error }) {
    const request = this.#asked.get(transaction);
    const bytes = this.#parts.get(transaction);
    this.#parts.delete(transaction);
    if (!request) return;
    if (status === "ok") request.resolve(bytes ? { ...data, bytes } : data);
    else if (error.code === "busy" && error.details?.retry) this.#again(request);
    else request.reject(new BridgeError(error));
  }

  #about(message, bytes) {
    if (message.n !== undefined) this.#seen(message.n);
    const isNew = !this.#jobs.has(message.job_id);
    const job = this.job(message.job_id);
    job._heard(message, bytes);
    if (isNew) this.#tell("job", job);
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
 * A job as its client sees it. Events: `status`, `progress`, `preview`, `output`, `result`, each
 * with what came as its detail; and `change` after every one of them.
 *
 * `for await (const event of job)` gives what happens from now on, the result last.
 */
export class Job extends EventTarget {
  #client;
  #end = deferred();
  #received = new Map();

  constructor(client, id) {
    super();
    this.#client = client;
    this.#end.promise.catch(() => {});
    /** @type {string} */
    this.id = id;
    /** @type {?string} */
    this.workflow = null;
    /** @type {?string} The contract's state; null before anything is known. */
    this.state = null;
    /** @type {boolean} The bridge has it: it gets exactly one outcome. */
    this.accepted = false;
    /** @type {number|undefined} How many jobs start before it. */
    this.position = undefined;
    /** @type {?object} The newest `progress`. */
    this.progress = null;
    /** @type {?Blob} The newest preview. */
    this.preview = null;
    /** @type {?object} */
    this.result = null;
    /** @type {*} The sender's own. */
    this.meta = undefined;
    /** @type {?number} Seconds since the epoch, as far as known. */
    this.acceptedAt = null;
    /** @type {string|undefined} Why it waits. */
    this.reason = undefined;
  }

  /** Resolves with the result, however the job ends. */
  get ended() {
    return this.#end.promise;
  }

  /**
   * Waits for the end and returns the outputs, fetching those that did not come by themselves.
   * @returns {Promise<Array<{info: object, blob: Blob}>>}
   * @throws {BridgeError} How it failed; `cancelled` or `expired` likewise.
   */
  async outputs() {
    const { state, error, outputs } = await this.ended;
    if (state !== "succeeded") {
      throw new BridgeError(error ?? { code: state, message: `the job was ${state}` });
    }
    return Promise.all(outputs.map(async (info) => ({ info, blob: await this.output(info) })));
  }

  /** The bytes of one output of the result. @returns {Promise<Blob>} */
  async output(info) {
    const received = this.#received.get(info.index);
    if (received?.sha256 === info.sha256) return received.blob;
    const blob = await this.#client.fetch(this.id, info.index);
    this.#received.set(info.index, { sha256: info.sha256, blob });
    return blob;
  }

  /** Whether an output's bytes are here already. */
  has(info) {
    return this.#received.get(info.index)?.sha256 === info.sha256;
  }

  /** Asks to end it. */
  cancel() {
    return this.#client.cancel(this.id);
  }

  /** Asks where it stands. */
  async refresh() {
    this._view(await this.#client.status(this.id));
  }

  async *[Symbol.asyncIterator]() {
    const events = [];
    let woken = deferred();
    const heard = (event) => {
      events.push({ type: event.type, ...plain(event.detail) });
      woken.resolve();
    };
    const types = ["status", "progress", "preview", "output", "result"];
    for (const type of types) this.addEventListener(type, heard);
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
      for (const type of types) this.removeEventListener(type, heard);
    }
  }

  // For the client alone.

  _accepted({ workflow, state, position, result, meta }) {
    this.accepted = true;
    this.workflow = workflow;
    this.meta ??= meta;
    // Its status may have overtaken the answer.
    this.state ??= state;
    this.position ??= position;
    if (result) this._ended(result);
    this.#tell("change");
  }

  _view({ state, position, accepted_at: acceptedAt, result, workflow, meta }) {
    this.accepted = true;
    this.acceptedAt = acceptedAt;
    this.workflow = workflow;
    this.meta = meta;
    if (this.result) return;
    Object.assign(this, { state, position });
    if (result) this._ended(result);
    this.#tell("change");
  }

  _heard(message, bytes) {
    if (this.result) return; // told again
    this.accepted = true;
    this.workflow = message.workflow ?? this.workflow;
    this.meta = message.meta ?? this.meta;
    switch (message.type) {
      case "status":
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
        return this.#tell("preview", this.preview);
      case "output": {
        const blob = new Blob([bytes], { type: message.content_type });
        this.#received.set(message.index, { sha256: message.sha256, blob });
        return this.#tell("output", { info: message, blob });
      }
      case "result":
        return this._ended(message);
    }
    this.#tell(message.type, message);
  }

  _ended(result) {
    if (!OUTCOMES.has(result.state)) return;
    this.result = result;
    this.state = result.state;
    this.#end.resolve(result);
    this.#tell("result", result);
  }

  #tell(type, detail) {
    if (type !== "change") this.dispatchEvent(new CustomEvent(type, { detail }));
    this.dispatchEvent(new CustomEvent("change"));
  }
}

// Frames: four bytes, the length of the header; the header in JSON; the bytes.

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

/** Reads JSON; whole numbers that a double cannot hold, such as seeds, stay texts of digits. */
function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const rounded = Number.isInteger(value) && !Number.isSafeInteger(value);
    return rounded && /^-?\d+$/.test(context?.source ?? "") ? context.source : value;
  });
}

function ownSocket() {
  return new URL("/ws", location.href.replace(/^http/, "ws")).href;
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

/** A new id, such as a job's: 16 random bytes. crypto.randomUUID is for https alone. */
export function newId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The SHA-256 of some bytes; outside of https and localhost browsers do not give theirs. */
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
