// Pixels: from numbers in [0, 1] to a canvas, and from a pen or a file to numbers in [0, 1].

import { make } from "../page/dom.js";
import { PIXELS, SIDE, sigmoid, sum } from "./model.js";

const grey = (v) => [255 * v, 255 * v, 255 * v];

// Dark violet, red, yellow, white: brightness rises all the way, so it reads without colours, too.
const HEAT = [[0, 0, 0], [52, 16, 90], [160, 40, 90], [235, 110, 45], [250, 200, 80], [255, 255, 235]];
export function heat(v) {
  const last = HEAT.length - 1, place = Math.min(Math.max(v, 0), 1) * last;
  const k = Math.min(Math.floor(place), last - 1);
  return HEAT[k].map((low, c) => low + (place - k) * (HEAT[k + 1][c] - low));
}

export function paint(canvas, values, color = grey, left = 0, top = 0) {
  const context = canvas.getContext("2d"), picture = context.createImageData(SIDE, SIDE);
  for (let k = 0; k < PIXELS; k++) {
    const [red, green, blue] = color(values[k]);
    picture.data.set([red, green, blue, 255], 4 * k);
  }
  context.putImageData(picture, left, top);
}

export function paintDecoded(canvas, logits, left = 0, top = 0) {
  // The same in grey, fast: this runs for hundreds of small pictures while a slider moves.
  const context = canvas.getContext("2d"), picture = context.createImageData(SIDE, SIDE);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let k = 0; k < PIXELS; k++) {
    pixels[k] = 0xff000000 | (Math.round(255 * sigmoid(logits[k])) * 0x010101);
  }
  context.putImageData(picture, left, top);
}

export function ink(x, from, to, width, value) {
  // A stroke of the pen from one point to another, in pixels: full ink within half the width,
  // none a pixel further out. The eraser, value 0, takes away what the pen would add.
  const dx = to.x - from.x, dy = to.y - from.y, length2 = dx * dx + dy * dy || 1;
  for (let k = 0; k < PIXELS; k++) {
    const px = (k % SIDE) + 0.5 - from.x, py = Math.floor(k / SIDE) + 0.5 - from.y;
    const t = Math.min(Math.max((px * dx + py * dy) / length2, 0), 1);
    const cover = Math.min(Math.max(width / 2 + 1 - Math.hypot(px - t * dx, py - t * dy), 0), 1);
    x[k] = value ? Math.max(x[k], cover) : Math.min(x[k], 1 - cover);
  }
}

export async function pixelsOfFile(file) {
  // 28 x 28 grey pixels of any picture the browser can read; what is transparent counts as black.
  // A larger one is shrunk to fit, by means over blocks; one on a light ground is inverted, because
  // the models know white on black. A 28 x 28 picture stays as it is, to the last bit.
  const picture = await createImageBitmap(file);
  const blocks = picture.width === SIDE && picture.height === SIDE ? 1 : 16, side = SIDE * blocks;
  const canvas = make("canvas", { width: side, height: side });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  const scale = side / Math.max(picture.width, picture.height);
  const width = picture.width * scale, height = picture.height * scale;
  const left = Math.round((side - width) / 2), top = Math.round((side - height) / 2);
  context.drawImage(picture, left, top, width, height);
  const rgba = context.getImageData(0, 0, side, side).data;
  const grey = (column, row) => {
    const k = 4 * (row * side + column);
    return ((0.299 * rgba[k] + 0.587 * rgba[k + 1] + 0.114 * rgba[k + 2]) / 255) * (rgba[k + 3] / 255);
  };
  const x = new Float32Array(PIXELS);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const k = Math.floor(row / blocks) * SIDE + Math.floor(column / blocks);
      x[k] += grey(column, row) / (blocks * blocks);
    }
  }
  const rightmost = Math.ceil(side - left) - 1, lowest = Math.ceil(side - top) - 1;
  const corners = [grey(left, top), grey(rightmost, top), grey(left, lowest), grey(rightmost, lowest)];
  const inverted = blocks > 1 && sum(corners) > 2;
  if (inverted) {
    const first = { row: Math.round(top / blocks), column: Math.round(left / blocks) };
    const within = (place, start) => place >= start && place < SIDE - start;
    for (let k = 0; k < PIXELS; k++) {
      const inside = within(Math.floor(k / SIDE), first.row) && within(k % SIDE, first.column);
      x[k] = inside ? 1 - x[k] : 0;
    }
  }
  return { x: x.map((v) => Math.min(Math.max(v, 0), 1)), inverted };
}

export function savePng(canvas, name, scale) { // each pixel as a block, so that it stays sharp
  const large = make("canvas", { width: canvas.width * scale, height: canvas.height * scale });
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
