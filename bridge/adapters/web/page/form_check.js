/**
 * What is wrong with a form's values, as far as the definition says it: all of it at once, before
 * anything is sent. The bridge looks again, and decides. Pure.
 */

import { say } from "./texts.js";

/**
 * Returns a text for each input that cannot be right, by name in the form's order. `values` and
 * `media` are what was entered, by name, `media` only with what is there.
 */
export function problemsOf(definition, values, media) {
  const { properties = {}, required = [] } = definition.inputs;
  const found = new Map();
  for (const [name, schema] of Object.entries(properties)) {
    const isThere = name in media || (values[name] !== undefined && values[name] !== "");
    const why = isThere ? problemOf(schema, values[name]) : null;
    if (why) found.set(name, why);
    else if (!isThere && required.includes(name)) found.set(name, say("problem.required"));
  }
  return found;
}

/** Returns what is wrong with one value of an input, null if nothing is. */
export function problemOf(schema, value) {
  if (schema["x-kind"] === "text" && typeof value === "string") {
    const { maxLength: count } = schema;
    return count !== undefined && [...value].length > count ? say("problem.long", { count }) : null;
  }
  if (schema.enum || schema["x-choices"]) return null;
  const isSeed = schema["x-kind"] === "seed";
  if (!isSeed && schema["x-kind"] !== "integer" && schema["x-kind"] !== "float") return null;
  // Seeds may be larger than a double holds, and come as digits then.
  if (isSeed && !/^-?\d+$/.test(String(value))) return say("problem.digits");
  if (!isSeed && !Number.isFinite(value)) return say("problem.number");
  if (schema["x-kind"] === "integer" && !Number.isInteger(value)) return say("problem.whole");
  return isSeed ? null : outOfRange(schema, value);
}

function outOfRange({ minimum, maximum }, value) {
  const low = minimum !== undefined && value < minimum;
  const high = maximum !== undefined && value > maximum;
  if (!low && !high) return null;
  if (minimum !== undefined && maximum !== undefined) return say("problem.between", { minimum, maximum });
  return low ? say("problem.least", { minimum }) : say("problem.most", { maximum });
}
