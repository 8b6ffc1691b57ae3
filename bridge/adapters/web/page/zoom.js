/**
 * Zooming and moving a picture inside a frame. Pure.
 *
 * A view is `{ scale, x, y }`: scale 1 shows the whole picture, x and y move its middle, in pixels
 * of the screen. Points are measured from the frame's middle. A `box` is `{ width, height, frameWidth,
 * frameHeight }`, the picture's size at scale 1 and the frame's.
 */

export const WHOLE = { scale: 1, x: 0, y: 0 };
export const STEP = 1.5;
const MAX_SCALE = 16;

/** Returns the view scaled by a factor, with the point of the picture below `point` kept there. */
export function zoomed(view, factor, point, box) {
  const scale = Math.min(MAX_SCALE, Math.max(1, view.scale * factor));
  const share = scale / view.scale;
  const moved = {
    scale,
    x: point.x - (point.x - view.x) * share,
    y: point.y - (point.y - view.y) * share,
  };
  return bounded(moved, box);
}

/** Returns the view moved by some pixels of the screen. */
export function moved(view, dx, dy, box) {
  return bounded({ ...view, x: view.x + dx, y: view.y + dy }, box);
}

/** A picture that is larger than its frame leaves no gap; one that is smaller stays in the middle. */
function bounded(view, { width, height, frameWidth, frameHeight }) {
  const mostX = Math.max(0, (width * view.scale - frameWidth) / 2);
  const mostY = Math.max(0, (height * view.scale - frameHeight) / 2);
  return {
    scale: view.scale,
    x: Math.min(mostX, Math.max(-mostX, view.x)),
    y: Math.min(mostY, Math.max(-mostY, view.y)),
  };
}

/** The distance of two points and their middle. */
export function spread([one, other]) {
  return {
    distance: Math.hypot(one.x - other.x, one.y - other.y),
    x: (one.x + other.x) / 2,
    y: (one.y + other.y) / 2,
  };
}

// A swipe is so long in pixels, and so much longer across than along.
const SWIPE = 60;
const ACROSS = 1.5;

/** Returns -1 for a swipe to the previous picture, 1 to the next, 0 for none. */
export function swipe(dx, dy) {
  if (Math.abs(dx) < SWIPE || Math.abs(dx) < ACROSS * Math.abs(dy)) return 0;
  return dx > 0 ? -1 : 1;
}
