/** Which jobs the gallery shows. Pure. */

const WITHOUT_OUTPUTS = new Set(["failed", "cancelled", "expired"]);

/** Whether a job is over and has nothing to show: those that "Remove failed" removes. */
export function isFailed(state) {
  return WITHOUT_OUTPUTS.has(state);
}

/**
 * Whether a job passes the filter `{ text, workflow, show }`. A job is `{ workflow, state, texts,
 * favourite, kept }`, `texts` being what a search looks through. Each word has to be there.
 */
export function passes({ workflow, state, texts, favourite, kept }, filter) {
  if (filter.workflow && workflow !== filter.workflow) return false;
  const is = { favourites: Boolean(favourite), kept: Boolean(kept), failed: isFailed(state) };
  if (is[filter.show] === false) return false;
  const all = [workflow ?? "", ...texts].join("\n").toLowerCase();
  return filter.text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}
