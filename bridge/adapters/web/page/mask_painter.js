/**
 * Painting a mask over a picture with a finger, a pen, a mouse, or the keyboard. Two fingers or the
 * wheel zoom; a pen paints the wider the harder it presses, and its other end erases.
 */

import { resized, strokeWidth } from "./brush.js";
import { button, make, slider } from "./dom.js";
import { Gestures } from "./gestures.js";
import { encode } from "./png.js";
import { say } from "./texts.js";
import { UndoHistory } from "./undo_history.js";
import { STEP, WHOLE, moved, zoomed } from "./zoom.js";

// Bytes of all masks that Undo can go back to.
const MAX_UNDO = 256 * 1024 * 1024;
// The least opacity that counts as painted: the edges of strokes are soft.
const PAINTED = 128;
const MIN_BRUSH = 2;
// Seen on light pictures and on dark ones; the mask itself is white on black.
const PAINT = "#ff2d7e";
const ERASER = 32; // in `buttons`: the other end of a pen
const QUIET = { quiet: true, kind: "small" };

const KEYS = [
  ["← ↑ → ↓", "move"],
  ["Shift", "stroke"],
  ["Space", "dot"],
  ["[ ]", "size"],
  ["E", "erase"],
  ["Ctrl Z", "undo"],
  ["Ctrl Y", "redo"],
  ["- + 0", "zoom"],
];

/**
 * Opens the painter over the picture at `url`. Resolves with a PNG: the mask in white on black, or
 * with `transparent` the picture itself, transparent where it was painted; null if the user cancels.
 * Throws an Error, with a text for the user, if the browser cannot show or encode the picture.
 */
export async function paintMask(url, { transparent = false } = {}) {
  const picture = await loaded(url);
  const painter = new MaskPainter(picture);
  if (!(await painter.open())) return null;
  return transparent ? withTransparency(picture, painter.canvas) : whiteOnBlack(painter.canvas);
}

class MaskPainter {
  constructor(picture) {
    const { naturalWidth: width, naturalHeight: height } = picture;
    this.canvas = make("canvas", { width, height, tabindex: 0, class: "strokes", role: "img" });
    this.canvas.setAttribute("aria-label", say("painter.canvas"));
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.at = { x: width / 2, y: height / 2 };
    this.stroke = null; // the pointer that paints one
    this.history = new UndoHistory(MAX_UNDO, ({ data }) => data.length);
    this.size = slider({
      min: MIN_BRUSH,
      max: Math.max(2 * MIN_BRUSH, Math.round(Math.max(width, height) / 3)),
      value: Math.round(Math.max(width, height) / 12),
      "aria-label": say("painter.size"),
      oninput: () => this.drawRing(),
    });
    this.ring = make("div", { class: "ring", "aria-hidden": "true" });
    this.sheet = make("div", { class: "sheet" }, picture, this.canvas, this.ring);
    this.sheet.style.setProperty("--ratio", width / height);
    this.board = make("div", { class: "board" }, this.sheet);
    this.dialog = this._dialog();
    this._listen();
    this.drawButtons();
    this.look(WHOLE);
  }

  _dialog() {
    this.eraser = make("input", { type: "checkbox" });
    this.undoing = button("undo", say("painter.undo"), () => this.undo(), { kind: "small" });
    this.redoing = button("redo", say("painter.redo"), () => this.redo(), { kind: "small" });
    this.out = button("minus", say("zoom.out"), () => this.zoom(1 / STEP), QUIET);
    this.whole = button("whole", say("zoom.whole"), () => this.look(WHOLE), QUIET);
    this.in = button("plus", say("zoom.in"), () => this.zoom(STEP), QUIET);
    const bar = make(
      "div",
      { class: "painter-tools" },
      make("label", { class: "brush-size" }, make("span", {}, say("painter.brush")), this.size),
      make("label", { class: "check" }, this.eraser, make("span", {}, say("painter.erase"))),
      ...[this.undoing, this.redoing],
      button("invert", say("painter.invert"), () => this.invert(), { kind: "small" }),
      button("delete", say("painter.clear"), () => this.clear(), { kind: "small" }),
      ...[this.out, this.whole, this.in],
      make("span", { class: "spring" }),
      button("close", say("dialog.cancel"), () => this.dialog.close(""), { kind: "small" }),
      button("check", say("painter.use"), () => this.dialog.close("done"), { kind: "primary small" }),
    );
    const keys = make(
      "ul",
      { class: "painter-keys", "aria-label": say("painter.shortcuts") },
      KEYS.map(([key, what]) => make("li", {}, make("kbd", {}, key), ` ${say(`painter.key.${what}`)}`)),
    );
    return make(
      "dialog",
      { class: "painter", "aria-label": say("painter.title") },
      make("h2", { class: "unseen" }, say("painter.title")),
      ...[this.board, bar, keys],
    );
  }

  /** Shows the painter; resolves with false if the user cancels. */
  open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.canvas.focus();
    this.drawRing();
    return new Promise((resolve) => {
      this.dialog.addEventListener("close", () => {
        this.dialog.remove();
        resolve(this.dialog.returnValue === "done");
      });
    });
  }

  _listen() {
    const { canvas } = this;
    const handlers = {
      zoom: (factor, point) => this.zoom(factor, point),
      drag: (dx, dy) => this.look(moved(this.seen, dx, dy, this._box())),
      pinch: () => this.dropStroke(),
    };
    this.gestures = new Gestures(this.board, handlers, { two: true });
    canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || this.gestures.isPinching) return;
      if (event.button !== 0 && !(event.buttons & ERASER)) return;
      canvas.setPointerCapture(event.pointerId);
      this.saveForUndo();
      this.stroke = event.pointerId;
      this.at = this.point(event);
      this.line(this.at, event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.isPrimary) return;
      // A pen reports more often than the screen is drawn.
      const all = event.getCoalescedEvents?.() ?? [];
      for (const each of all.length ? all : [event]) {
        const to = this.point(each);
        if (this.stroke === event.pointerId) this.line(to, each);
        this.at = to;
      }
      this.drawRing();
    });
    for (const type of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(type, () => (this.stroke = null));
    }
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const commands = {
      z: () => (event.shiftKey ? this.redo() : this.undo()),
      y: () => this.redo(),
    };
    const letters = {
      e: () => (this.eraser.checked = !this.eraser.checked),
      "[": () => this.resize(-1),
      "]": () => this.resize(1),
      "+": () => this.zoom(STEP),
      "=": () => this.zoom(STEP),
      "-": () => this.zoom(1 / STEP),
      0: () => this.look(WHOLE),
    };
    const onCanvas = event.target === this.canvas && !isCommand;
    const action = isCommand ? commands[key] : letters[key];
    if (action) action();
    else if (!onCanvas || !this.paintByKey(event)) return;
    event.preventDefault();
    this.drawRing();
  }

  /** Moves the brush or paints with it; false if the key is for neither. */
  paintByKey({ key, shiftKey }) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[key];
    if (!move && key !== " ") return false;
    const step = Number(this.size.value) / 4;
    const [x, y] = move ?? [0, 0];
    const to = { x: this.at.x + x * step, y: this.at.y + y * step };
    if (!move || shiftKey) {
      this.saveForUndo();
      this.line(to);
    }
    this.at = to;
    return true;
  }

  resize(step) {
    this.size.value = resized(Number(this.size.value), step);
    this.size.follow();
  }

  /** The position of a pointer, in pixels of the picture. */
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * this.canvas.width) / box.width,
      y: ((event.clientY - box.top) * this.canvas.height) / box.height,
    };
  }

  /** Paints from where the brush is to a point, which may be the same: then a dot. */
  line(to, event = {}) {
    const { pen, at } = this;
    const width = strokeWidth(Number(this.size.value), event);
    const erasing = this.eraser.checked || Boolean(event.buttons & ERASER);
    pen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
    pen.beginPath();
    if (to.x === at.x && to.y === at.y) {
      // Browsers differ on whether a line of length zero has its round ends: Chromium 156 has not.
      pen.fillStyle = PAINT;
      pen.arc(at.x, at.y, width / 2, 0, 2 * Math.PI);
      pen.fill();
    } else {
      pen.strokeStyle = PAINT;
      pen.lineCap = "round";
      pen.lineWidth = width;
      pen.moveTo(at.x, at.y);
      pen.lineTo(to.x, to.y);
      pen.stroke();
    }
  }

  /** Draws the outline of the brush where it is. */
  drawRing() {
    const share = 100 / this.canvas.width;
    const { style } = this.ring;
    style.setProperty("width", `${Number(this.size.value) * share}%`);
    style.setProperty("left", `${this.at.x * share}%`);
    style.setProperty("top", `${(this.at.y * 100) / this.canvas.height}%`);
  }

  // What is seen.

  _box() {
    const { clientWidth: frameWidth, clientHeight: frameHeight } = this.board;
    const { offsetWidth: width, offsetHeight: height } = this.sheet;
    return { width, height, frameWidth, frameHeight };
  }

  zoom(factor, point = { x: 0, y: 0 }) {
    this.look(zoomed(this.seen, factor, point, this._box()));
  }

  look(view) {
    this.seen = view;
    this.sheet.style.setProperty("transform", `translate(${view.x}px, ${view.y}px) scale(${view.scale})`);
    this.sheet.style.setProperty("--scale", view.scale);
    this.out.disabled = this.whole.disabled = view.scale === 1;
  }

  // Back and forward.

  pixels() {
    return this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  saveForUndo() {
    this.history.save(this.pixels());
    this.drawButtons();
  }

  undo() {
    if (this.history.canUndo) this.put(this.history.undo(this.pixels()));
  }

  redo() {
    if (this.history.canRedo) this.put(this.history.redo(this.pixels()));
  }

  /** Two fingers zoom: what the first one has painted before the second came is no stroke. */
  dropStroke() {
    if (this.stroke === null) return;
    this.stroke = null;
    this.put(this.history.drop());
  }

  put(pixels) {
    this.pen.putImageData(pixels, 0, 0);
    this.drawButtons();
  }

  drawButtons() {
    this.undoing.disabled = !this.history.canUndo;
    this.redoing.disabled = !this.history.canRedo;
  }

  invert() {
    this.saveForUndo();
    this.pen.globalCompositeOperation = "xor";
    this.pen.fillStyle = PAINT;
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  clear() {
    this.saveForUndo();
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

async function loaded(url) {
  const picture = make("img", { src: url, alt: "", draggable: "false" });
  await picture.decode().catch(() => {});
  // A picture without pixels (an SVG may have no size) cannot be drawn on a canvas either.
  if (!picture.naturalWidth || !picture.naturalHeight) {
    throw new Error(say("painter.cannotShow"));
  }
  return picture;
}

function whiteOnBlack(strokes) {
  const { width, height } = strokes;
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d");
  pen.drawImage(strokes, 0, 0);
  for (const [how, colour] of [["source-in", "#fff"], ["destination-over", "#000"]]) {
    pen.globalCompositeOperation = how;
    pen.fillStyle = colour;
    pen.fillRect(0, 0, width, height);
  }
  return new Promise((resolve, reject) => {
    // Null if the canvas is larger than the browser can encode.
    const done = (blob) => (blob ? resolve(blob) : reject(new Error(say("painter.tooLarge"))));
    canvas.toBlob(done, "image/png");
  });
}

function withTransparency(picture, strokes) {
  const { width, height } = strokes;
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d");
  pen.drawImage(picture, 0, 0);
  const { data } = pen.getImageData(0, 0, width, height);
  const mask = strokes.getContext("2d").getImageData(0, 0, width, height).data;
  for (let index = 3; index < data.length; index += 4) {
    if (mask[index] >= PAINTED) data[index] = 0;
  }
  return encode(width, height, data);
}
