/**
 * Painting a mask over a picture: with a finger, a pen, a mouse, or the keys (arrows move the
 * brush, space paints, [ and ] change its size, Ctrl+Z takes the last stroke back).
 */

import { button, make, slider } from "./dom.js";
import { encode } from "./png.js";

const MAX_UNDO = 20;
// What counts as painted: edges of strokes are soft.
const PAINTED = 128;

/**
 * Opens the painter over the picture at `url`. Returns a PNG: white on black, or with
 * `transparent` the picture itself, transparent where it was painted; null if it was given up.
 */
export async function paintMask(url, { transparent = false } = {}) {
  const picture = await loaded(url);
  const painter = new Painter(picture);
  const kept = await painter.open();
  if (!kept) return null;
  return transparent ? withHoles(picture, painter.canvas) : whiteOnBlack(painter.canvas);
}

class Painter {
  constructor(picture) {
    const { naturalWidth: width, naturalHeight: height } = picture;
    this.canvas = make("canvas", { width, height, tabindex: 0, class: "strokes" });
    this.canvas.setAttribute("aria-label", "Mask: arrow keys move the brush, space paints");
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.at = { x: width / 2, y: height / 2 };
    this.undone = [];
    this.erasing = false;
    this.size = slider({
      min: 2,
      max: Math.round(Math.max(width, height) / 3),
      value: Math.round(Math.max(width, height) / 12),
      "aria-label": "Size of the brush",
      oninput: () => this.moved(),
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
      button("check", "Use this mask", () => this.dialog.close("kept"), { kind: "primary small" }),
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

  open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.canvas.focus();
    this.moved();
    return new Promise((resolve) => {
      this.dialog.addEventListener("close", () => {
        this.dialog.remove();
        resolve(this.dialog.returnValue === "kept");
      });
    });
  }

  _listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.remember();
      this.at = this.point(event);
      this.line(this.at);
    });
    canvas.addEventListener("pointermove", (event) => {
      const to = this.point(event);
      if (event.buttons && canvas.hasPointerCapture(event.pointerId)) this.line(to);
      this.at = to;
      this.moved();
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const brush = Number(this.size.value);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (move) {
      const to = { x: this.at.x + (move[0] * brush) / 4, y: this.at.y + (move[1] * brush) / 4 };
      if (event.shiftKey) this.line(to);
      this.at = to;
    } else if (event.key === " ") {
      this.remember();
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
    this.moved();
  }

  /** Where a pointer is, in the picture's pixels. */
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

  moved() {
    const share = 100 / this.canvas.width;
    const { style } = this.ring;
    style.setProperty("width", `${Number(this.size.value) * share}%`);
    style.setProperty("left", `${this.at.x * share}%`);
    style.setProperty("top", `${(this.at.y * 100) / this.canvas.height}%`);
  }

  pixels() {
    return this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  remember() {
    this.undone.push(this.pixels());
    if (this.undone.length > MAX_UNDO) this.undone.shift();
  }

  undo() {
    const before = this.undone.pop();
    if (before) this.pen.putImageData(before, 0, 0);
  }

  invert() {
    this.remember();
    this.pen.globalCompositeOperation = "xor";
    this.pen.fillStyle = "#fff";
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

async function loaded(url) {
  const picture = make("img", { src: url, alt: "", draggable: "false" });
  await picture.decode();
  return picture;
}

function whiteOnBlack(strokes) {
  const { width, height } = strokes;
  const canvas = make("canvas", { width, height });
  const pen = canvas.getContext("2d");
  pen.fillRect(0, 0, width, height);
  pen.drawImage(strokes, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function withHoles(picture, strokes) {
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
