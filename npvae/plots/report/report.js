// The page of one run. It reloads itself while the run lasts, and keeps what was chosen.

import { $, data, make, remembered } from "../page/dom.js";
import { panels } from "./curves.js";

const rows = data.history, newest = rows.at(-1), done = newest?.epoch >= data.epochs;
const nats = (value) => value === null ? "not finite" : value.toFixed(2);

// ---- status

// A run that was interrupted leaves its last page behind; the file's age tells.
const age = (Date.now() - Date.parse(document.lastModified)) / 1000;
const running = !done && !data.diverged && age < Math.max(120, 20 * data.seconds);
const words = newest
  ? [`Epoch ${newest.epoch} of ${data.epochs}, test loss ${nats(newest.test_loss)} nats per image.`]
  : ["No epoch was finished."];
if (data.diverged) words.unshift(data.diverged);
else words.push(done ? "The run is done."
  : running ? "This page refreshes itself." : "The run has stopped before its last epoch.");
$("status").textContent = words.join(" ");
$("status").classList.toggle("failed", data.diverged !== "");
$("progress").value = newest ? newest.epoch / data.epochs : 0;
$("progress").hidden = !running;

// ---- losses

const pictures = data.pictures;
const column = (name) => rows.map((row) => row[name]);
const splits = ["train", "test", "validation"].filter((split) => newest && `${split}_loss` in newest);
const curvesOf = (part) => splits.map((split) => (
  { name: split, kind: split === "validation" ? split : "", color: `var(--${split})`, epochs: column("epoch"), values: column(`${split}_${part}`) }));
let showEpoch = () => {};

function losses() {
  const lower = (best, row) => (row.validation_loss <= best.validation_loss ? row : best); // the last of equals
  const best = splits.includes("validation") ? rows.reduce(lower) : null;
  const mark = best ? [{ name: `best epoch ${best.epoch}:`, kind: "best", color: "var(--validation)", epochs: [best.epoch], values: [best.validation_loss] }] : [];
  $("best").hidden = !best;
  if (best) $("best").textContent = `The lowest validation loss is ${nats(best.validation_loss)}, after epoch ${best.epoch}: `
    + `best.npz is the model of that epoch, with a test loss of ${nats(best.test_loss)}.`;
  const nearest = (epoch) => pictures.reduce((best, k) => Math.abs(k - epoch) < Math.abs(best - epoch) ? k : best, pictures[0]);
  showEpoch = panels(curvesOf, mark, { floor: data.floor, baseline: data.baseline }, (epoch) => choose(nearest(epoch)));
  $("below").hidden = !rows.some((row) => row.test_loss < row.train_loss);
}

function gauge() {
  const { floor, baseline } = data, reached = newest.test_bce + newest.test_kl;
  if (!(baseline > floor) || newest.test_loss === null) return;
  const share = Math.min(1, Math.max(0, (baseline - reached) / (baseline - floor))), at = 100 * (1 - share);
  const name = data.beta === 1 ? "test loss" : "test bce + kl";
  const way = reached < baseline ? `${Math.round(100 * share)}% of the way to the floor` : "above the baseline: train for longer";
  const here = make("span", { className: "here", textContent: `${name} ${reached.toFixed(2)}: ${way}` });
  here.style.left = `clamp(10.5em, ${at}%, calc(100% - 10.5em))`;
  const bar = make("div", { className: "done" });
  bar.style.width = `${100 * share}%`;
  const low = make("span", { textContent: `floor ${floor.toFixed(2)}`, title: "entropy of the test pixels: no model can go below" });
  const high = make("span", { textContent: `baseline ${baseline.toFixed(2)}`, title: "always the mean training image" });
  for (const [span, side] of [[low, "left"], [high, "right"]]) Object.assign(span.style, { top: "42px", [side]: 0 });
  $("gauge").append(make("div", { className: "whole" }), bar, here, low, high);
}

$("losses").hidden = !newest;
if (newest) {
  losses();
  gauge();
}

// ---- pictures of the chosen epoch

const slider = $("epoch");
slider.max = Math.max(0, pictures.length - 1);
$("pictures").hidden = pictures.length === 0;
document.querySelector(".slider").hidden = pictures.length < 2;
for (const epoch of pictures) for (const kind of ["sampled", "rec"]) new Image().src = `images/${kind}_epoch${epoch}.png`;

// Where the images lie in a picture, in pixels from its lower right: bands of rows. A dark page shows
// nothing else of it, as title and labels stand on white.
const TITLE = 57, MARGIN = 24;
const BANDS = { sampled: { width: 876, height: Infinity, gap: 0 }, rec: { width: 858, height: 170, gap: 24 } };
for (const [kind, { width, height, gap }] of Object.entries(BANDS)) {
  $(kind).addEventListener("load", ({ target: { naturalWidth, naturalHeight, style } }) => {
    const corners = [], right = naturalWidth - MARGIN, end = naturalHeight - MARGIN;
    const left = Math.max(MARGIN, right - width);
    for (let top = TITLE; top < end; top += height + gap) {
      const low = Math.min(top + height, end);
      corners.push([left, top], [right, top], [right, low], [left, low]);
    }
    const shares = corners.map(([x, y]) => `${100 * x / naturalWidth}% ${100 * y / naturalHeight}%`);
    style.setProperty("--images", `polygon(${shares})`);
  });
}

function choose(epoch) {
  if (!pictures.includes(epoch)) return;
  slider.value = pictures.indexOf(epoch);
  slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
  for (const kind of ["sampled", "rec"]) $(kind).src = $(`${kind}-link`).href = `images/${kind}_epoch${epoch}.png`;
  const row = rows.find((r) => r.epoch === epoch);
  $("epoch-words").textContent = `epoch ${epoch}: test loss ${nats(row.test_loss)}`;
  showEpoch(epoch);
}
slider.addEventListener("input", () => choose(pictures[slider.value]));

let playing = null;
function stop() { clearInterval(playing); playing = null; $("play").textContent = "play"; }
$("play").addEventListener("click", () => {
  if (playing) { stop(); return; }
  if (+slider.value === +slider.max) choose(pictures[0]);
  $("play").textContent = "stop";
  playing = setInterval(() => {
    choose(pictures[+slider.value + 1]);
    if (+slider.value === +slider.max) stop();
  }, 250);
});

// ---- latents, facts, commands, files

$("latents").hidden = !data.kl.length;
$("kl-words").textContent = `nats, on ${data.kl_images.toLocaleString("en")} test images` +
  (data.active.some(Boolean) ? "" : ". Posterior collapse: no latent is active, z says nothing about the image");
const order = data.kl.map((_, k) => k).sort((a, b) => data.kl[b] - data.kl[a]);
for (const k of order) {
  const bar = make("i"), unused = data.active[k] ? "" : "unused";
  bar.style.width = `${100 * data.kl[k] / Math.max(...data.kl, 1e-9)}%`;
  const cells = [make("span", {}, `z${k}`), make("div", {}, bar), make("span", {}, `${data.kl[k].toFixed(2)} ${unused}`)];
  $("kl-bars").append(make("li", { className: unused }, ...cells));
}
for (const [name, text] of data.facts) {
  const code = name === "network" ? { className: "code", tabIndex: 0 } : {}; // it scrolls: by keys, too
  $("facts").append(make("dt", {}, name), make("dd", code, text));
}
const stopped = done || running || data.diverged ? [] : [["continue the run:", data.resume]];
for (const [why, command] of [...stopped, ...data.next]) {
  $("commands").append(make("li", {}, why, make("code", {}, command)));
}
for (const name of data.files) $("files").append(make("a", { href: name }, name), " ");
$("touch").hidden = !data.files.includes("explorer.html");

// ---- what was chosen stays chosen after a reload, unless it was the newest

choose(pictures.at(-1));
choose(+remembered("npvae", undefined, "sessionStorage"));
if (running) setTimeout(function reload() {
  if (playing || document.querySelector("input:active")) { setTimeout(reload, 500); return; }
  remembered("npvae", +slider.value === +slider.max ? 0 : pictures[slider.value], "sessionStorage");
  location.reload();
}, 1000 * Math.min(10, Math.max(2, data.seconds)));
