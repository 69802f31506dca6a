// What the page shows, in one object. Everything visible is drawn from it, at most once a frame.
//
// The functions below change the state and then call `changed`. Each panel of the page has a
// function in `panels` that draws it. What takes longer, hundreds of small pictures, has a job for
// each in `backlog`: a frame does those that fit into a few milliseconds, the next one continues.
// The state is kept in the address, after the #, so that a link or a reload brings it back.

import { data } from "../page/dom.js";
import { bytesOf, Model, normal, PIXELS, reparameterize, WAYS } from "./model.js";

export const models = data.models.map((stored) => new Model(stored));
export const labels = bytesOf(data.labels); // classes of the test images whose codes are the dots
const examplePixels = bytesOf(data.examples.pixels);

export const state = {
  model: models[0],
  z: new Float64Array(models[0].latent_dim),
  logits: null, // of z; null until the next frame computes them
  c: 0, // the class that the decoder is given, if the model is conditional
  x: null, // pixels in [0, 1], or null where there is no image
  classOfX: 0, // the class that the encoder is given with x
  picked: -1, // which of the examples x is
  told: "", // what there is to say of x
  q: null, // { mu, logVar } of x
  origin: "", // of z: "mean" or "draw" of q(z | x), or "" for any other
  view: "picture",
  axes: [0, 0], // the latents of the plane
  a: null,
  b: null,
  way: "spherical",
  t: 0, // how far from A to B
  playing: false,
};

export const panels = []; // functions that draw from the state
export const afterwards = []; // functions that draw once the backlog is done
export const backlog = { jobs: [], next: 0, left: 0 };
const BUDGET = 7; // milliseconds of a frame for the backlog; a frame has 16
let awaited = true; // whether a frame has been asked for; start.js draws the first one itself

export function changed() {
  state.logits = null;
  backlog.left = backlog.jobs.length;
  askForFrame();
}

function askForFrame() {
  if (!awaited) requestAnimationFrame(frame);
  awaited = true;
}

export function frame(now, budget = BUDGET) {
  awaited = false;
  if (!state.logits) {
    state.logits = decode(state.z);
    for (const draw of panels) draw();
    rememberSoon();
  }
  const end = performance.now() + budget;
  while (backlog.left && performance.now() < end) {
    backlog.jobs[backlog.next]();
    backlog.next = (backlog.next + 1) % backlog.jobs.length;
    backlog.left--;
  }
  if (backlog.left) askForFrame();
  else for (const draw of afterwards) draw();
}

export const decode = (z) => state.model.decode(z, state.c); // in the class that is chosen
const encode = (x) => state.model.encode(x, state.classOfX);

const settled = () => !awaited && !backlog.left;

// --- what changes the state ---

export function setCode(z, origin = "", playing = false) {
  Object.assign(state, { z: Float64Array.from(z), origin, playing });
  changed();
}

export const moveLatents = (values) => setCode(Object.assign([...state.z], values)); // { latent: value }
export const zeroCode = () => setCode(state.z.map(() => 0));
export const randomCode = () => setCode(state.z.map(normal));
export const meanCode = () => state.q && setCode(state.q.mu, "mean");

export function drawEpsilon() {
  if (state.q) setCode(reparameterize(state.q, state.z.map(normal)), "draw");
  else randomCode(); // without an image, q is the prior
}

export function setClass(c) { // of what is decoded: z and q(z | x, c) stay, "this handwriting, as a 7"
  state.c = c;
  if (!state.x) state.classOfX = c; // the next image is encoded with it, too
  changed();
}

export function setImage(x, classOfX = state.c, picked = -1, told = "") { // null: no image; z stays
  if (!x && state.view === "bce") state.view = "picture";
  Object.assign(state, { x, classOfX, picked, told });
  state.q = x && encode(x);
  setCode(x ? state.q.mu : state.z, x ? "mean" : "");
}

export const clearImage = () => setImage(null);

export function pickExample(n) {
  state.c = data.examples.labels[n];
  setImage(exampleImage(n), state.c, n);
}

export function exampleImage(n) {
  return Float32Array.from(examplePixels.subarray(n * PIXELS, (n + 1) * PIXELS), (v) => v / 255);
}

export const exampleCount = examplePixels.length / PIXELS;

export function exampleName(n) {
  const { kind, labels, points } = data.examples, name = data.class_names[labels[n]];
  return kind === "test" ? `test image ${points[n]}, ${name}` : `${name}, as the model draws it`;
}

export function setModel(model) {
  const fit = (z) => z && Float64Array.from({ length: model.latent_dim }, (_, k) => z[k] ?? 0);
  Object.assign(state, { model, z: fit(state.z), a: null, b: null, playing: false });
  state.q = state.x && encode(state.x);
  if (state.q) Object.assign(state, { z: Float64Array.from(state.q.mu), origin: "mean" });
  const used = [...model.order, ...model.order];
  state.axes = [used[0], used[1]];
  setDefaultAnchors();
  build();
}

function setDefaultAnchors() { // two examples, or else two draws from the prior
  const anchor = (n) => n < exampleCount
    ? state.model.encode(exampleImage(n), data.examples.labels[n]).mu
    : Float64Array.from({ length: state.model.latent_dim }, normal);
  state.a ??= anchor(0);
  state.b ??= anchor(1);
}

export function build() { // the parts of the page that depend on the model
  backlog.jobs = [];
  backlog.next = 0;
  for (const builder of builders) builder();
  changed();
}
export const builders = [];

// --- the state in the address ---

let reminder = 0;
function rememberSoon() { // not at once: browsers allow some hundred changes of the address a minute
  clearTimeout(reminder);
  reminder = setTimeout(() => {
    try {
      history.replaceState(null, "", `#${stateAsText()}`);
    } catch {
      // A page inside another page may not change its address, and works without.
    }
  }, 400);
}

const codeAsText = (z) => Array.from(z, (value) => +value.toFixed(4)).join(",");

function stateAsText() {
  const { model, z, origin, c, x, classOfX, picked, view, axes, a, b, way, t } = state;
  const parts = { model: models.indexOf(model), z: codeAsText(z), origin, view, plane: axes.join(",") };
  Object.assign(parts, { a: codeAsText(a), b: codeAsText(b), way, t: t.toFixed(3) });
  if (model.classes) Object.assign(parts, { c, of: classOfX });
  if (picked >= 0) parts.pick = picked;
  else if (x) parts.x = btoa(String.fromCharCode(...x.map((v) => Math.round(255 * v))));
  return new URLSearchParams(parts).toString().replaceAll("%2C", ",");
}

export function stateFromText(text) { // what is absent or makes no sense is left as it is
  const parts = new URLSearchParams(text), at = (name) => parts.get(name) ?? "";
  const code = (name) => {
    const z = at(name).split(",").map(Number);
    return z.length === state.model.latent_dim && z.every(Number.isFinite) ? Float64Array.from(z) : null;
  };
  const label = (name, otherwise) => {
    const c = parseInt(at(name));
    return c in data.class_names ? c : otherwise;
  };
  setModel(models[Number(at("model"))] ?? state.model);
  const axes = at("plane").split(",").map(Number);
  if (axes.length === 2 && axes.every((k) => k in state.z) && axes[0] !== axes[1]) state.axes = axes;
  const pick = parts.has("pick") ? Number(at("pick")) : -1;
  const known = Number.isInteger(pick) && pick >= 0 && pick < exampleCount;
  if (known) setImage(exampleImage(pick), label("of", data.examples.labels[pick]), pick);
  else setImage(pixelsFromText(at("x")), label("of", 0));
  state.c = label("c", state.classOfX);
  const z = code("z");
  if (z) state.origin = state.x && ["mean", "draw"].includes(at("origin")) ? at("origin") : "";
  state.z = z ?? state.z;
  state.a = code("a") ?? state.a;
  state.b = code("b") ?? state.b;
  if (["picture", "coins", "bce"].includes(at("view"))) state.view = at("view");
  if (at("way") in WAYS) state.way = at("way");
  state.t = Math.min(Math.max(Number(at("t")) || 0, 0), 1);
  changed();
}

function pixelsFromText(text) {
  try {
    const bytes = bytesOf(text);
    return bytes.length === PIXELS ? Float32Array.from(bytes, (v) => v / 255) : null;
  } catch {
    return null; // not base64
  }
}
