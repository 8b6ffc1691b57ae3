/** What is known of a job that has ended: its caption, facts in a line, and its parameters. */

import { make } from "./dom.js";
import { bytes, seconds, title, when } from "./format.js";
import { say } from "./texts.js";

/** The caption of a job: its longest text, else its workflow. */
export function caption(view) {
  return view.text || title(view.job.workflow ?? "");
}

/** Workflow, size, how long it took and when, in a line; `info` is an output, or undefined. */
export function facts(view, info) {
  const { job } = view;
  const { timings, reused } = job.result;
  const took = reused ? say("job.reused") : timings && seconds(timings.load_s + timings.run_s);
  const all = [
    title(job.workflow),
    info?.width ? `${info.width} × ${info.height}` : null,
    info && bytes(info.size),
    job.state === "succeeded" ? took : null,
    when(view.at, Date.now() / 1000),
  ];
  return all.filter(Boolean).join(" · ");
}

/** All that the job ran with, as a list of terms. */
export function parameters(view, info) {
  const { job } = view;
  const { result } = job;
  // A result does not have the media that went in; the page noted their names.
  const files = Object.entries(view.media).map(([name, { filename }]) => [name, filename]);
  const inputs = Object.entries(result.inputs ?? {}).map(([name, value]) => [name, shown(value)]);
  const rows = [
    ...Object.entries({ ...Object.fromEntries(inputs), ...Object.fromEntries(files) }).map(
      ([name, value]) => [title(name), value],
    ),
    result.timings && [say("job.queued"), seconds(result.timings.queued_s)],
    [say("job.id"), job.id],
    info && [say("job.sha256"), info.sha256],
  ];
  return make(
    "dl",
    { class: "parameters" },
    rows.filter(Boolean).map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

function shown(value) {
  // Media.
  if (value?.sha256) return say("job.media", { type: value.content_type, size: bytes(value.size) });
  return typeof value === "string" ? value : JSON.stringify(value);
}
