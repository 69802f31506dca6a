// A plane through the current z along two latents, decoded, with the codes of test images as dots.

import { $, data, make } from "../page/dom.js";
import { SIDE } from "./model.js";
import {
  afterwards, backlog, builders, changed, decode, exampleImage, frame, labels, models,
  moveLatents, panels, pickExample, setClass, setCode, setImage, state,
} from "./state.js";
import { paint, paintDecoded, savePng } from "./pixels.js";
import { arrowStep, onDrag } from "./drag.js";
import { nameOf, percent, shareOf } from "./latents.js";

const CELLS = 15; // pictures a side
const FINGER = 24; // pixels around z in which a finger takes hold of it
const tiles = make("canvas", { width: CELLS * SIDE, height: CELLS * SIDE }); // without the dots
let onlyClass = -1; // the class whose dots stand out, or -1 for all
let hovered = -1; // the dot under the mouse
let drawn = []; // for each tile, what it was drawn around
let seen = false; // whether the plane is near the window: nothing is decoded for it before

builders.push(function buildPlane() {
  const { order, kl } = state.model;
  const options = order.map((k) => new Option(`${nameOf(k)}, ${kl[k].toFixed(2)} nats`, k));
  $("across").replaceChildren(...options.map((option) => option.cloneNode(true)));
  $("up").replaceChildren(...options);
  $("space").classList.toggle("plane-first", order.length < 3);
  $("plane").hidden = order.length < 2;
  drawn = [];
  for (let n = 0; n < CELLS * CELLS; n++) {
    const column = n % CELLS, row = Math.floor(n / CELLS);
    const value = (place) => ((place + 0.5) / CELLS * 2 - 1) * state.model.range;
    backlog.jobs.push(() => {
      if (!seen || drawn[n] === around()) return;
      drawn[n] = around();
      const z = Float64Array.from(state.z), [across, up] = state.axes;
      z[up] = value(CELLS - 1 - row); // upwards is more
      z[across] = value(column);
      paintDecoded(tiles, decode(z), column * SIDE, row * SIDE);
    });
  }
});

afterwards.push(() => seen && drawPlane());

panels.push(function drawAxes() {
  const [across, up] = state.axes;
  $("across").value = across;
  $("up").value = up;
  $("map").setAttribute("aria-label", `The plane of ${nameOf(across)}, ${state.z[across].toFixed(2)}, and `
    + `${nameOf(up)}, ${state.z[up].toFixed(2)}: the arrow keys move z`);
  $("outside").textContent = cloudWords();
  if (seen) drawPlane();
});

function drawPlane() {
  const canvas = $("map"), side = Math.round(canvas.clientWidth * devicePixelRatio) || CELLS * SIDE;
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const context = canvas.getContext("2d"), unit = side / 100, sigmas = side / (2 * state.model.range);
  context.imageSmoothingEnabled = side < tiles.width;
  context.drawImage(tiles, 0, 0, side, side);
  if ($("dots").checked) context.drawImage(dotsLayer(side), 0, 0);
  const center = placeOf(state.z.map(() => 0), side), z = placeOf(state.z, side);
  for (const radius of [1, 2]) drawEllipse(context, unit, center, radius * sigmas, radius * sigmas, "#fff");
  const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent-on-black");
  if (state.q) {
    const mu = placeOf(state.q.mu, side), sigma = state.axes.map((k) => Math.exp(0.5 * state.q.logVar[k]) * sigmas);
    for (const radius of [1, 2]) drawEllipse(context, unit, mu, radius * sigma[0], radius * sigma[1], accent);
  }
  drawDot(context, unit, z, 1.3, accent);
}

function drawEllipse(context, unit, { x, y }, width, height, color) { // on black, to be seen anywhere
  context.beginPath();
  context.ellipse(x, y, width, height, 0, 0, 2 * Math.PI);
  for (const [style, thickness] of [["#000", 0.7], [color, 0.3]]) {
    context.strokeStyle = style;
    context.lineWidth = Math.max(thickness * unit, 1);
    context.stroke();
  }
}

function drawDot(context, unit, { x, y }, radius, color) {
  context.fillStyle = color;
  context.strokeStyle = "#000";
  context.lineWidth = 0.25 * unit;
  context.beginPath();
  context.arc(x, y, radius * unit, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

const dots = make("canvas"); // all dots, drawn again only if something about them changes
let dotsNow = "";
function dotsLayer(side) {
  const key = [models.indexOf(state.model), state.axes, onlyClass, hovered, side].join();
  if (key === dotsNow) return dots;
  dotsNow = key;
  dots.width = dots.height = side; // this empties it, too
  const context = dots.getContext("2d"), unit = side / 100;
  for (let n = 0; n < labels.length; n++) {
    context.globalAlpha = onlyClass >= 0 && labels[n] !== onlyClass ? 0.12 : 1;
    drawDot(context, unit, placeOfDot(n, side), n === hovered ? 1.4 : 0.65, colorOf(labels[n]));
  }
  return dots;
}

// Ten colours for a dark ground, found by a search for those that lie furthest apart for normal and
// for all kinds of colour-blind eyes; the legend below can also show one class alone.
const COLORS = [
  "#a5c3f0", "#ffd20f", "#d23c87", "#2dffa5", "#6969e1",
  "#967800", "#ff87a5", "#3cb45a", "#ffffff", "#c387ff",
];
const colorOf = (label) => COLORS[label % COLORS.length];

// All that the tiles depend on: with two latents they stay while z moves.
function around() {
  const rest = Array.from(state.z, (value, k) => (state.axes.includes(k) ? 0 : value));
  return [state.c, state.axes, rest].join();
}

export function cloudWords() {
  const { points, latent_dim } = state.model, [across, up] = state.axes;
  const outside = labels.filter((_, n) => Math.hypot(points[n * latent_dim + across], points[n * latent_dim + up]) > 2);
  return `Outside the second circle lie ${Math.round(100 * outside.length / labels.length)} % of the dots, and 14 % of the prior.`;
}

function placeOf(z, side) {
  const [across, up] = state.axes;
  return { x: shareOf(z[across]) * side, y: (1 - shareOf(z[up])) * side };
}

function placeOfDot(n, side) {
  const { points, latent_dim } = state.model;
  return placeOf(points.subarray(n * latent_dim, (n + 1) * latent_dim), side);
}

// --- mouse, finger, keys ---

function codeAt(event) {
  const box = $("map").getBoundingClientRect(), { range } = state.model;
  const share = (value) => (Math.min(Math.max(value, 0), 1) * 2 - 1) * range;
  return [share((event.clientX - box.left) / box.width), -share((event.clientY - box.top) / box.height)];
}

function dotAt(event) { // the nearest one within 8 pixels, or -1
  if (!$("dots").checked) return -1;
  const box = $("map").getBoundingClientRect();
  let best = -1, nearest = 8;
  for (let n = 0; n < labels.length; n++) {
    if (onlyClass >= 0 && labels[n] !== onlyClass) continue;
    const { x, y } = placeOfDot(n, box.width);
    const distance = Math.hypot(x - (event.clientX - box.left), y - (event.clientY - box.top));
    if (distance < nearest) [best, nearest] = [n, distance];
  }
  return best;
}

function moveInPlane([across, up]) {
  moveLatents({ [state.axes[1]]: up, [state.axes[0]]: across });
}

function glimpse(n) { // the test image of a dot where the page holds it, and what its code decodes to
  const box = $("glimpse"), [original, decoded] = box.querySelectorAll("canvas");
  const example = data.examples.points.indexOf(n);
  hovered = n;
  box.hidden = n < 0;
  $("map").style.cursor = n < 0 ? "" : "pointer";
  if (n < 0) return;
  const { x, y } = placeOfDot(n, 1);
  box.style.left = percent(x);
  box.style.top = percent(y);
  box.classList.toggle("leftwards", x > 0.6);
  box.classList.toggle("upwards", y > 0.6);
  original.hidden = example < 0;
  if (example >= 0) paint(original, exampleImage(example));
  paintDecoded(decoded, state.model.decode(state.model.point(n), labels[n]));
  const name = data.class_names[labels[n]];
  box.querySelector("span").textContent = example < 0 ? `${name}: x̂` : `${name}: x and x̂`;
}

onDrag($("map"), {
  move: (event) => moveInPlane(codeAt(event)),
  tap(event) {
    const n = dotAt(event), example = data.examples.points.indexOf(n);
    if (example >= 0) pickExample(example);
    else if (n >= 0) {
      setImage(null); // the page does not hold the image of this dot
      setClass(labels[n]);
      setCode(state.model.point(n));
    } else moveInPlane(codeAt(event));
  },
  grabs({ clientX, clientY }) { // at z itself a finger drags in all directions
    const box = $("map").getBoundingClientRect(), { x, y } = placeOf(state.z, box.width);
    return Math.hypot(clientX - box.left - x, clientY - box.top - y) < FINGER;
  },
});
$("map").addEventListener("pointermove", (event) => {
  if (event.buttons || event.pointerType === "touch") return;
  const n = dotAt(event);
  if (n === hovered) return;
  glimpse(n);
  drawPlane();
});
$("map").addEventListener("pointerleave", () => {
  glimpse(-1);
  drawPlane();
});
$("map").addEventListener("keydown", (event) => {
  const step = arrowStep(event);
  if (step[0] || step[1]) moveInPlane(step.map((size, n) => state.z[state.axes[n]] + size));
});

for (const [k, id] of ["across", "up"].entries()) {
  $(id).addEventListener("change", () => {
    const chosen = +$(id).value, other = 1 - k;
    if (state.axes[other] === chosen) state.axes[other] = state.axes[k]; // never the same one twice
    state.axes[k] = chosen;
    changed();
  });
}
$("dots").addEventListener("change", changed);
$("save-plane").addEventListener("click", () => savePng(tiles, "explorer-plane.png", 2));

// --- the legend: pointing at a class leaves the dots of the others faint ---

$("classes").append(...data.class_names.map((name, label) => {
  const button = make("button", { type: "button" }, name);
  button.style.setProperty("--dot", colorOf(label));
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    onlyClass = onlyClass === label ? -1 : label;
    $("classes").querySelectorAll("button").forEach((other, n) =>
      other.setAttribute("aria-pressed", n === onlyClass));
    drawPlane();
  });
  return make("li", {}, button);
}));

new IntersectionObserver(([entry]) => {
  if (!seen && entry.isIntersecting) changed();
  seen = entry.isIntersecting;
}, { rootMargin: "200px" }).observe($("map"));
addEventListener("resize", changed);
addEventListener("beforeprint", () => {
  seen = true;
  changed();
  frame(0, Infinity);
});
