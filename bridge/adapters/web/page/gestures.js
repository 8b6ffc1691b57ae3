/** Gestures of mouse, pen and fingers on an element, as zooms, drags and swipes. */

import { spread } from "./zoom.js";

// A wheel's turn of so much zooms by a factor of e.
const WHEEL = 400;
const DOUBLE_MS = 300;
const STILL = 8;

export class Gestures {
  /**
   * `handlers` are called with points measured from the element's middle:
   * `zoom(factor, point)`; `drag(dx, dy)` while one pointer moves, or two; `end(dx, dy)` when it is
   * lifted, with all its way; `double(point)` for two taps or clicks at one place; `pinch()` when a
   * second finger comes. With `two` a single pointer is somebody else's business.
   */
  constructor(element, handlers, { two = false } = {}) {
    this.element = element;
    this.handlers = handlers;
    this.two = two;
    this.pointers = new Map();
    this.lastTap = { at: -Infinity, x: 0, y: 0 };
    element.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this._down(event));
    element.addEventListener("pointermove", (event) => this._move(event));
    for (const type of ["pointerup", "pointercancel"]) {
      element.addEventListener(type, (event) => this._up(event));
    }
  }

  _point({ clientX, clientY }) {
    const box = this.element.getBoundingClientRect();
    return { x: clientX - box.left - box.width / 2, y: clientY - box.top - box.height / 2 };
  }

  _wheel(event) {
    event.preventDefault();
    this.handlers.zoom(Math.exp(-event.deltaY / WHEEL), this._point(event));
  }

  _down(event) {
    if (event.button !== 0 || event.target.closest("button, input, video, audio, pre")) return;
    if (!this.two) this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this._point(event));
    if (this.pointers.size === 1) this.start = this._point(event);
    else this.start = null; // two fingers swipe nothing
    if (this.pointers.size === 2) this.handlers.pinch?.();
  }

  /** Whether two fingers are on the element. */
  get isPinching() {
    return this.pointers.size > 1;
  }

  _move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const point = this._point(event);
    if (this.pointers.size === 2) {
      const was = spread([...this.pointers.values()]);
      this.pointers.set(event.pointerId, point);
      const is = spread([...this.pointers.values()]);
      if (was.distance) this.handlers.zoom(is.distance / was.distance, is);
      this.handlers.drag(is.x - was.x, is.y - was.y);
      return;
    }
    this.pointers.set(event.pointerId, point);
    if (!this.two) this.handlers.drag(point.x - before.x, point.y - before.y);
  }

  _up(event) {
    const isOurs = this.pointers.delete(event.pointerId) && this.start && !this.two;
    if (!isOurs || event.type === "pointercancel") return;
    const point = this._point(event);
    const [dx, dy] = [point.x - this.start.x, point.y - this.start.y];
    if (Math.hypot(dx, dy) > STILL) {
      this.handlers.end(dx, dy);
      return;
    }
    const { at, x, y } = this.lastTap;
    const isDouble = event.timeStamp - at < DOUBLE_MS && Math.hypot(point.x - x, point.y - y) < 4 * STILL;
    this.lastTap = { at: isDouble ? -Infinity : event.timeStamp, ...point };
    if (isDouble) this.handlers.double(point);
  }
}
