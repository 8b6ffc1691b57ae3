/**
 * Writes a request as code for other programs. Pure.
 *
 * A request is `{ base, client, broker, socket, workflow, values, media, main }`: `base` is the base
 * topic, `broker` is `{ host, port, tls?, login? }`, `socket` the URL of the WebSocket, `media` maps
 * names to `{ filename, source? }`, and `main` is the name of the main text input. `way`, if given, is
 * `{ grid, collect? }` as `submit` takes them: the request is for a set.
 */

// The ports of MQTT, without TLS and with it: programs take them where none is named.
const PORT = 1883;
const TLS_PORT = 8883;

/**
 * Returns the broker for a request, from what the server says in `registered`, and whether its host
 * is a guess: `host` is that of the page, which counts where the server names none.
 */
export function brokerOf({ mqtt, mqtt_port: older }, host) {
  const broker = { port: older ?? PORT, ...mqtt };
  const isHere = /^(localhost|127\.|\[?::1)/.test(host);
  return { broker: { ...broker, host: broker.host ?? host }, isGuess: !broker.host && !isHere };
}

/** The words of mosquitto_pub that name the broker. */
function flags({ host, port, tls, login }, client) {
  return [
    `-h ${host.replace(/^\[|\]$/g, "")}`,
    port === PORT ? "" : ` -p ${port}`,
    tls ? " --tls-use-os-certs" : "",
    login ? ` -u ${client} -P "$MQTT_PASSWORD"` : "",
  ].join("");
}

/** The broker as a URL. */
function url({ host, port, tls, login }, client) {
  const bare = host.replace(/^\[|\]$/g, "");
  const user = login ? `${client}:PASSWORD@` : "";
  const end = port === (tls ? TLS_PORT : PORT) ? "" : `:${port}`;
  return `${tls ? "mqtts" : "mqtt"}://${user}${bare.includes(":") ? `[${bare}]` : bare}${end}`;
}

/** Quotes a word for a POSIX shell. */
function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** The verb of a request, below its topics, and the payload with its inputs. */
function verbOf({ workflow, way }, inputs) {
  return way ? ["submit", { workflow, inputs, ...way }] : [`run/${workflow}`, inputs];
}

/** Commands of mosquitto_pub; files are uploaded first. */
export function mosquitto(request) {
  const { base, client, values, media, main, way } = request;
  const topic = (...names) => `${base}/client/${client}/request/${names.join("/")}`;
  const broker = flags(request.broker, client);
  const publish = (to, payload) => `mosquitto_pub ${broker} -q 1 -t ${to} \\\n    ${payload}`;
  const names = Object.keys(values);
  const files = Object.entries(media).filter(([, each]) => !each.source);
  const run = topic(verbOf(request)[0]);
  if (!way && files.length === 1 && Object.keys(media).length === 1 && names.length === 0) {
    return publish(run, `-f ${quoted(files[0][1].filename)}`);
  }
  const onlyText = !way && names.length === 1 && names[0] === main && !Object.keys(media).length;
  if (onlyText && typeof values[main] === "string" && !/^\s*[{"]/.test(values[main])) {
    return publish(run, `-m ${quoted(values[main])}`);
  }
  const uploads = files.map(([name, each]) =>
    publish(topic("upload", id(name)), `-f ${quoted(each.filename)}`),
  );
  const inputs = { ...values };
  for (const [name, each] of Object.entries(media)) {
    inputs[name] = each.source ?? { upload: id(name) };
  }
  const payload = verbOf(request, inputs)[1];
  const words = Object.keys(payload).length ? `-m ${quoted(JSON.stringify(payload))}` : "-n";
  return [...uploads, publish(run, words)].join("\n");
}

/** An upload id from an input's name: only what a topic level may contain. */
function id(name) {
  return name.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 64);
}

/** A Python script that uses bridge.client. */
export function python(request) {
  const { client, workflow, values, media, way } = request;
  const inputs = [
    ...Object.entries(values).map(([name, value]) => [name, literal(value)]),
    ...Object.entries(media).map(([name, each]) => [
      name,
      each.source ? literal(each.source) : `Path(${literal(each.filename)})`,
    ]),
  ];
  const isWord = ([name]) => /^[A-Za-z_]\w*$/.test(name) && !RESERVED.has(name);
  const keywords = inputs.filter(isWord).map(([name, value]) => `${name}=${value}`);
  const others = inputs.filter((each) => !isWord(each));
  const given = [
    literal(workflow),
    ...(others.length ? [`{${others.map(([name, value]) => `${literal(name)}: ${value}`)}}`] : []),
    ...keywords,
    ...Object.entries(way ?? {})
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}=${literal(value)}`),
  ];
  const lines = given.map((each) => `            ${each},`).join("\n");
  return `import asyncio
from pathlib import Path

from bridge.client import Client


async def main():
    async with Client(${literal(url(request.broker, client))}, client=${literal(client)}) as bridge:
${way ? setInPython(lines, way) : jobInPython(lines)}


asyncio.run(main())`;
}

function jobInPython(lines) {
  return `        job = await bridge.submit(
${lines}
        )
        for output in await job.outputs():
            name = output.info.filename or f"{job.id}-{output.info.index}"
            Path(name).write_bytes(output.data)`;
}

function setInPython(lines, { collect }) {
  const collected = `
        for output in await jobs.outputs():
            Path(output.info.filename).write_bytes(output.data)`;
  return `        jobs = await bridge.submit_set(
${lines}
        )
        async for job in jobs:  # each as it ends
            for output in await job.outputs():
                Path(f"{job.id}-{output.info.index}").write_bytes(output.data)${collect ? collected : ""}`;
}

// Not usable as keyword arguments: the options of `submit` and `submit_set`, and words of the language.
const RESERVED = new Set(
  (
    "job_id set_id each grid repeat collect ordered show put webhook workflow_version output priority start_within_s timeout_s keep_s meta preview self " +
    "and as assert async await break class continue def del elif else except False finally for " +
    "from global if import in is lambda None nonlocal not or pass raise return True try while " +
    "with yield"
  ).split(" "),
);

/** A JSON value as Python writes it. */
function literal(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    const items = Object.entries(value).map(([key, item]) => `${literal(key)}: ${literal(item)}`);
    return `{${items.join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** A flow for Node-RED: a button that sends the request, and nodes that show all replies. */
export function nodeRed(request) {
  const { base, client, workflow, values, media, way } = request;
  const { host, port, tls } = request.broker;
  const inputs = { ...values };
  for (const [name, each] of Object.entries(media)) {
    inputs[name] = each.source ?? { upload: id(name) };
  }
  const tree = `${base}/client/${client}`;
  const [verb, payload] = verbOf(request, inputs);
  const tab = "comfy2mqtt-flow";
  const broker = "comfy2mqtt-broker";
  const at = (x, y) => ({ z: tab, x, y });
  const listen = (name, topic, datatype, y) => [
    {
      ...{ id: `c2m-${name}`, type: "mqtt in", name, topic, qos: "1", datatype, broker },
      ...at(150, y),
      wires: [[`c2m-${name}-shown`]],
    },
    {
      ...{ id: `c2m-${name}-shown`, type: "debug", name, active: true, complete: "payload" },
      ...at(400, y),
      wires: [],
    },
  ];
  const flow = [
    { id: tab, type: "tab", label: `comfy2mqtt: ${workflow}` },
    {
      ...{ id: broker, type: "mqtt-broker", name: "", broker: host, port: `${port}` },
      ...{ autoConnect: true, usetls: Boolean(tls) },
    },
    {
      ...{ id: "c2m-press", type: "inject", name: workflow },
      props: [{ p: "payload" }],
      ...{ payload: JSON.stringify(payload), payloadType: "json" },
      ...at(150, 80),
      wires: [["c2m-request"]],
    },
    {
      ...{ id: "c2m-request", type: "mqtt out", name: "request", qos: "1", retain: "false" },
      ...{ topic: `${tree}/request/${verb}`, broker },
      ...at(400, 80),
      wires: [],
    },
    ...listen("response", `${tree}/response/${way ? "submit" : "run"}`, "json", 140),
    ...listen("progress", `${tree}/job/+/progress`, "json", 200),
    ...listen("output", `${tree}/job/+/output/+`, "buffer", 260),
    ...listen("result", `${tree}/job/+/result`, "json", 320),
    ...(way ? listen("set", `${tree}/set/+/result`, "json", 380) : []),
  ];
  return JSON.stringify(flow, null, 2);
}

/** JavaScript that uses client.js. */
export function javascript(request) {
  const { socket, workflow, values, media, way } = request;
  const inputs = [
    ...Object.entries(values).map(([name, value]) => [name, JSON.stringify(value)]),
    ...Object.entries(media).map(([name, each]) => [
      name,
      each.source ? JSON.stringify(each.source) : "file /* a Blob */",
    ]),
  ];
  const key = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name));
  const given = `${JSON.stringify(workflow)}, {
${inputs.map(([name, value]) => `  ${key(name)}: ${value},`).join("\n")}
}`;
  const run = `const outputs = await bridge.run(${given});
const address = URL.createObjectURL(outputs[0].blob);`;
  const runSet = `const set = await bridge.submitSet(${given}, ${JSON.stringify(way)});
const { jobs } = await set.ended;
const outputs = await bridge.job(jobs[0].job_id).outputs();`;
  return `import { Client } from "./client.js";

const bridge = new Client({ url: ${JSON.stringify(socket)}, key: "..." });
await bridge.connect();
${way ? runSet : run}`;
}
