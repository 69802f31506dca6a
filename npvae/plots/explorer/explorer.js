// Everything is defined: show the models, read the address, draw, and then test.

import { $, make, remembered } from "../page/dom.js";
import {
  clearImage, drawEpsilon, exampleCount, frame, meanCode, models, panels, pickExample, randomCode,
  setModel, state, stateFromText, zeroCode,
} from "./state.js";
import { savePicture, setView } from "./picture.js";
import { setAnchor, togglePlaying } from "./journey.js";
import { open, openPrompt } from "./prompts.js";
import { selfTest } from "./selftest.js";
import "./given.js";
import "./image.js";
import "./words.js";

for (const model of models) { // latents in use first, then by KL: the one that tells most first
  const { kl, active } = model;
  model.order = [...kl.keys()].sort((i, j) => active[j] - active[i] || kl[j] - kl[i] || i - j);
}

// Models that differ in their epoch alone are moments of a training: a slider, on the scale of the last.
const moments = models.length > 1 && models.every(({ short }) => /^epoch \d+$/.test(short));
if (moments) {
  const { range, order } = models.at(-1); // codes of early epochs that lie beyond wait at the edge
  for (const model of models) Object.assign(model, { range, order });
}
$("epochs").hidden = !moments;
$("epoch").max = models.length - 1;
$("epoch").addEventListener("input", () => setModel(models[$("epoch").value]));

$("models").hidden = models.length < 2 || moments;
$("models").append(...models.map((model, n) => {
  const radio = make("input", { type: "radio", name: "model", value: n, onchange: () => setModel(model) });
  return make("label", {}, radio, make("span", {}, model.short));
}));

panels.push(function drawHeader() {
  const { model } = state;
  $("about").textContent = model.name;
  document.title = `Latent explorer: ${model.name}`;
  $("epoch").value = models.indexOf(model);
  $("epochs").querySelector("output").textContent = model.short;
  for (const radio of document.getElementsByName("model")) {
    radio.checked = models[radio.value] === model;
  }
});

const KEYS = {
  r: randomCode,
  0: zeroCode,
  e: drawEpsilon,
  m: meanCode,
  c: clearImage,
  v: () => {
    const views = state.x ? ["picture", "coins", "bce"] : ["picture", "coins"];
    setView(views[(views.indexOf(state.view) + 1) % views.length]);
  },
  a: () => setAnchor("a"),
  b: () => setAnchor("b"),
  n: () => models.length > 1 && setModel(models[(models.indexOf(state.model) + 1) % models.length]),
  s: savePicture,
  " ": togglePlaying,
};

addEventListener("keydown", (event) => {
  const { target } = event;
  if (!$("shortcuts").checked || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !KEYS[event.key]) return;
  if (target.closest("select, summary") || (event.key === " " && target.closest("button, input, a"))) return;
  event.preventDefault();
  KEYS[event.key]();
});

$("next-model").hidden = models.length < 2;
$("shortcuts").checked = remembered("shortcuts") !== "false";
$("shortcuts").addEventListener("change", () => remembered("shortcuts", $("shortcuts").checked));

function readAddress() {
  const text = location.hash.slice(1), parts = new URLSearchParams(text);
  if (parts.has("z")) stateFromText(text);
  if (parts.has("try") && !(open >= 0)) openPrompt(parts.get("try") - 1);
}
addEventListener("hashchange", readAddress);

// The last epoch; of several betas 1, with which the sum of bce and kl is the loss.
setModel(moments ? models.at(-1) : (models.find(({ short }) => short === "beta 1") ?? models[0]));
if (exampleCount) pickExample(0);
readAddress();
frame();
setTimeout(selfTest); // after the first picture
