/**
 * Painting a mask over a picture with a finger, a pen, a mouse, or the keyboard: the arrow keys move
 * the brush, with Shift they paint, Space paints a dot, [ and ] change the size, Ctrl+Z undoes.
 */

import { button, make, slider } from "./dom.js";
import { encode } from "./png.js";

const MAX_UNDO = 20;
// The least opacity that counts as painted: the edges of strokes are soft.
const PAINTED = 128;
const MIN_BRUSH = 2;

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
    this.canvas = make("canvas", { width, height, tabindex: 0, class: "strokes" });
    this.canvas.setAttribute("aria-label", "Mask: arrow keys move the brush, Space paints");
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.at = { x: width / 2, y: height / 2 };
    this.before = [];
    this.erasing = false;
    this.size = slider({
      min: MIN_BRUSH,
      max: Math.max(2 * MIN_BRUSH, Math.round(Math.max(width, height) / 3)),
      value: Math.round(Math.max(width, height) / 12),
      "aria-label": "Size of the brush",
      oninput: () => this.drawRing(),
    });
    this.ring = make("div", { class: "ring", "aria-hidden": "true" });
    this.sheet = make("div", { class: "sheet" }, picture, this.canvas, this.ring);
    this.sheet.style.setProperty("--ratio", width / height);
    this.dialog = this._dialog();
    this._listen();
  }

  _dialog() {
    const erase = make("input", {
      type: "checkbox",
      onchange: (event) => (this.erasing = event.target.checked),
    });
    const bar = make(
      "div",
      { class: "painter-tools" },
      make("label", { class: "brush-size" }, make("span", {}, "Brush"), this.size),
      make("label", { class: "check" }, erase, make("span", {}, "Erase")),
      button("undo", "Undo", () => this.undo(), { kind: "small" }),
      button("invert", "Invert", () => this.invert(), { kind: "small" }),
      make("span", { class: "spring" }),
      button("close", "Cancel", () => this.dialog.close(""), { kind: "small" }),
      button("check", "Use this mask", () => this.dialog.close("done"), { kind: "primary small" }),
    );
    const heading = make("h2", { class: "unseen" }, "Paint a mask");
    return make(
      "dialog",
      { class: "painter", "aria-label": "Paint a mask" },
      heading,
      make("div", { class: "board" }, this.sheet),
      bar,
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
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.saveForUndo();
      this.at = this.point(event);
      this.line(this.at);
    });
    canvas.addEventListener("pointermove", (event) => {
      const to = this.point(event);
      if (event.buttons && canvas.hasPointerCapture(event.pointerId)) this.line(to);
      this.at = to;
      this.drawRing();
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const brush = Number(this.size.value);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      const to = { x: this.at.x + (move[0] * brush) / 4, y: this.at.y + (move[1] * brush) / 4 };
      if (event.shiftKey) {
        this.saveForUndo();
        this.line(to);
      }
      this.at = to;
    } else if (event.key === " ") {
      this.saveForUndo();
      this.line(this.at);
    } else if (event.key === "[" || event.key === "]") {
      this.size.value = brush * (event.key === "[" ? 0.8 : 1.25);
      this.size.follow();
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
    } else {
      return;
    }
    event.preventDefault();
    this.drawRing();
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
  line(to) {
    const { pen, at } = this;
    const brush = Number(this.size.value);
    pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    pen.beginPath();
    if (to.x === at.x && to.y === at.y) {
      // Browsers differ on whether a line of length zero has its round ends: Chromium 156 has not.
      pen.fillStyle = "#fff";
      pen.arc(at.x, at.y, brush / 2, 0, 2 * Math.PI);
      pen.fill();
    } else {
      pen.strokeStyle = "#fff";
      pen.lineCap = "round";
      pen.lineWidth = brush;
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

  pixels() {
    return this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  saveForUndo() {
    this.before.push(this.pixels());
    if (this.before.length > MAX_UNDO) this.before.shift();
  }

  undo() {
    const pixels = this.before.pop();
    if (pixels) this.pen.putImageData(pixels, 0, 0);
  }

  invert() {
    this.saveForUndo();
    this.pen.globalCompositeOperation = "xor";
    this.pen.fillStyle = "#fff";
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

async function loaded(url) {
  const picture = make("img", { src: url, alt: "", draggable: "false" });
  await picture.decode().catch(() => {});
  // A picture without pixels (an SVG may have no size) cannot be drawn on a canvas either.
  if (!picture.naturalWidth || !picture.naturalHeight) {
    throw new Error("The browser cannot show this picture, so no mask can be painted over it.");
  }
  return picture;
}

function whiteOnBlack(strokes) {
  const { width, height } = strokes;
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d");
  pen.fillRect(0, 0, width, height);
  pen.drawImage(strokes, 0, 0);
  return new Promise((resolve, reject) => {
    // Null if the canvas is larger than the browser can encode.
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("The mask is too large.")));
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
