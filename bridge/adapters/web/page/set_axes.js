/**
 * The axes of a set: what its jobs differ in. An axis is `{ name, spec }`, with `spec` as in a `grid`
 * of the contract: a list of values, `{ from, to, step }`, or `{ seeds }`. The last varies fastest. Pure.
 */

import { problemOf } from "./form_check.js";
import { say } from "./texts.js";

const NUMBER = String.raw`[+-]?\d*\.?\d+(?:e[+-]?\d+)?`;
const RANGE = new RegExp(`^(${NUMBER})\\s*\\.\\.\\s*(${NUMBER})(?:\\s*(?:step|:)\\s*(${NUMBER}))?$`, "i");
// `meta` has at most 4,096 bytes, and holds more than the axes.
const LARGEST_NOTE = 2000;

/** The kinds of input that may be an axis, and how each is entered. */
export function wayOf(schema) {
  if (schema.enum || schema["x-choices"]) return "choices";
  const ways = { integer: "numbers", float: "numbers", seed: "seeds", boolean: "both", text: "lines" };
  return ways[schema["x-kind"]];
}

/**
 * Reads what was entered for an input: a text, or the list of chosen values. Returns `{ spec }` or
 * `{ problem }`.
 */
export function readAxis(schema, entered) {
  const way = wayOf(schema);
  if (way === "both") return { spec: [false, true] };
  if (way === "seeds") return readSeeds(String(entered).trim());
  if (way === "numbers") return readNumbers(schema, String(entered).trim());
  const values = way === "choices" ? entered : entered.split("\n").filter((line) => line.trim());
  return checked(schema, values);
}

function readSeeds(text) {
  if (!/^\d+$/.test(text) || Number(text) < 1) return { problem: say("axis.problem.seeds") };
  return { spec: { seeds: Number(text) } };
}

function readNumbers(schema, text) {
  const range = RANGE.exec(text);
  if (!range) {
    const values = text.split(/[\s,;]+/).filter(Boolean).map(Number);
    return values.some(Number.isNaN) ? { problem: say("axis.problem.numbers") } : checked(schema, values);
  }
  const [from, to] = [Number(range[1]), Number(range[2])];
  const spec = { from, to, step: range[3] === undefined ? Math.sign(to - from) || 1 : Number(range[3]) };
  if (!spec.step || (to - from) / spec.step < 0) return { problem: say("axis.problem.range", spec) };
  const last = from + (count(spec) - 1) * spec.step;
  return checked(schema, [from, from + spec.step, exact(last)].slice(0, count(spec)), spec);
}

/** The first problem with one of the values, else the spec. */
function checked(schema, values, spec = values) {
  if (!values.length) return { problem: say("axis.problem.empty") };
  const problem = values.map((value) => problemOf(schema, value)).find(Boolean);
  return problem ? { problem } : { spec };
}

/** Returns how many values an axis has. */
export function count(spec) {
  if (Array.isArray(spec)) return spec.length;
  if (spec.seeds !== undefined) return spec.seeds;
  return Math.floor((spec.to - spec.from) / spec.step + 1e-9) + 1;
}

/** Returns how many jobs there are: one for every combination. */
export function product(axes) {
  return axes.reduce((jobs, { spec }) => jobs * count(spec), 1);
}

/** Returns the value of an axis at a place; undefined for a seed, which the bridge draws. */
export function valueAt(spec, place) {
  if (Array.isArray(spec)) return spec[place];
  return spec.seeds === undefined ? exact(spec.from + place * spec.step) : undefined;
}

/** Decimals add up to what was meant. */
function exact(number) {
  return Number(number.toPrecision(12));
}

/** Returns the places on each axis of a job, by its index in the set. */
export function placesOf(axes, index) {
  const places = [];
  for (const { spec } of [...axes].reverse()) {
    places.unshift(index % count(spec));
    index = Math.floor(index / count(spec));
  }
  return places;
}

/** Returns the inputs that a job's axes give it, as far as they are known. */
export function inputsAt(axes, index) {
  const places = placesOf(axes, index);
  const known = axes.map(({ name, spec }, at) => [name, valueAt(spec, places[at])]);
  return Object.fromEntries(known.filter(([, value]) => value !== undefined));
}

/** Returns a value as the label of a row or column. */
export function labelAt(spec, place) {
  const value = valueAt(spec, place);
  if (value === undefined) return say("axis.seed", { number: place + 1 });
  if (typeof value === "boolean") return say(value ? "axis.on" : "axis.off");
  return typeof value === "object" ? String(place + 1) : String(value);
}

/** Returns the axes as a note for `meta`, undefined if they are too long for it. */
export function noteOf(axes) {
  return JSON.stringify(axes).length <= LARGEST_NOTE ? axes : undefined;
}

/**
 * Returns the axes of a set that has ended, from its result's `jobs`: the values of each input in
 * which they differ. Null if the jobs are not every combination of them, in order.
 */
export function axesOf(jobs) {
  const names = Object.keys(jobs[0]?.inputs ?? {});
  const axes = names.map((name) => {
    const seen = new Map(jobs.map(({ inputs }) => [JSON.stringify(inputs[name]), inputs[name]]));
    return { name, spec: [...seen.values()] };
  });
  if (!names.length || product(axes) !== jobs.length) return null;
  const fits = jobs.every(({ inputs }, index) =>
    names.every((name) => same(inputs[name], inputsAt(axes, index)[name])),
  );
  return fits ? axes : null;
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
