/** How wide a brush paints, and how its size changes. Pure. */

// A pen that hardly touches paints so much of the brush.
const LIGHTEST = 0.2;
const BIGGER = 1.25;

/** The width of a stroke; `pressure` is 0 to 1, and counts for a pen alone. */
export function strokeWidth(size, { pointerType, pressure } = {}) {
  return pointerType === "pen" ? size * Math.max(LIGHTEST, pressure) : size;
}

/** The size of the brush after a step, larger for 1 and smaller for -1. */
export function resized(size, step) {
  return step > 0 ? size * BIGGER : size / BIGGER;
}
