// The page of one run. It reloads itself while the run lasts, and keeps what was chosen.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const make = (name, properties) => Object.assign(document.createElement(name), properties);
const rows = data.history, newest = rows[rows.length - 1], done = newest.epoch >= data.epochs;
const nats = (value) => value === null ? "not finite" : value.toFixed(2);

// ---- status

// A run that was interrupted leaves its last page behind; the file's age tells.
const age = (Date.now() - Date.parse(document.lastModified)) / 1000;
const running = !done && age < Math.max(120, 20 * data.seconds);
$("status").textContent = `Epoch ${newest.epoch} of ${data.epochs}, test loss ${nats(newest.test_loss)} nats per image. ` +
  (done ? "The run is done." : running ? "This page refreshes itself." : "The run has stopped before its last epoch.");
$("progress").value = newest.epoch / data.epochs;
$("progress").hidden = done;

// ---- losses

const column = (name) => rows.map((row) => row[name]);
const splits = ["train", "test", "validation"].filter((split) => `${split}_loss` in newest);
const curvesOf = (part) => splits.map((split) => (
  { name: split, kind: split === "validation" ? split : "", color: `var(--${split})`, epochs: column("epoch"), values: column(`${split}_${part}`) }));
const lower = (best, row) => (row.validation_loss <= best.validation_loss ? row : best); // the last of equals
const best = splits.includes("validation") ? rows.reduce(lower) : null;
const mark = best ? [{ name: `best epoch ${best.epoch}:`, kind: "best", color: "var(--validation)", epochs: [best.epoch], values: [best.validation_loss] }] : [];
$("best").hidden = !best;
if (best) $("best").textContent = `The lowest validation loss is ${nats(best.validation_loss)}, after epoch ${best.epoch}: `
  + `best.npz is the model of that epoch, with a test loss of ${nats(best.test_loss)}.`;
const bounds = { floor: data.floor, baseline: data.baseline };
const showEpoch = panels([
  ["loss", "loss", [...curvesOf("loss"), ...mark], bounds],
  ["bce", "reconstruction (bce)", curvesOf("bce")],
  ["kl", "KL divergence (kl)", curvesOf("kl")],
], (epoch) => choose(data.pictures.reduce((best, k) => Math.abs(k - epoch) < Math.abs(best - epoch) ? k : best, data.pictures[0])));
$("below").hidden = !rows.some((row) => row.test_loss < row.train_loss);

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
  $("gauge").append(make("div", { className: "track" }), bar, here, low, high);
}
gauge();

// ---- pictures of the chosen epoch

const slider = $("epoch"), pictures = data.pictures;
slider.max = Math.max(0, pictures.length - 1);
$("pictures").hidden = pictures.length === 0;
document.querySelector(".slider").hidden = pictures.length < 2;
for (const epoch of pictures) for (const kind of ["sampled", "rec"]) new Image().src = `images/${kind}_epoch${epoch}.png`;

function choose(epoch) {
  if (!pictures.includes(epoch)) return;
  slider.value = pictures.indexOf(epoch);
  slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
  for (const [id, kind] of [["samples", "sampled"], ["rec", "rec"]]) {
    $(id).src = $(`${id}-link`).href = `images/${kind}_epoch${epoch}.png`;
  }
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

// ---- latents, facts, commands

$("kl-words").textContent = `nats, on ${data.kl_images.toLocaleString("en")} test images` +
  (data.active.some(Boolean) ? "" : ". Posterior collapse: no latent is active, z says nothing about the image");
const order = data.kl.map((_, k) => k).sort((a, b) => data.kl[b] - data.kl[a]);
for (const k of order) {
  const bar = make("i"), row = make("li", { className: data.active[k] ? "" : "unused" });
  bar.style.width = `${100 * data.kl[k] / Math.max(...data.kl, 1e-9)}%`;
  const cell = make("div");
  cell.append(bar);
  row.append(make("span", { textContent: `z${k}` }), cell, make("span", { textContent: data.kl[k].toFixed(2) + (data.active[k] ? "" : " unused") }));
  $("kl-bars").append(row);
}
for (const [name, text] of data.facts) {
  const code = name === "network" ? { className: "code", tabIndex: 0 } : {}; // it scrolls: by keys, too
  $("facts").append(make("dt", { textContent: name }), make("dd", { textContent: text, ...code }));
}
const stopped = done || running ? [] : [["continue the run:", data.resume]];
for (const [why, command] of [...stopped, ...data.next]) {
  const item = make("li", { textContent: why });
  item.append(make("code", { textContent: command }));
  $("commands").append(item);
}
$("gif").hidden = !data.gif;
$("loss-png").hidden = !pictures.length;

// ---- what was chosen stays chosen after a reload, unless it was the newest

let kept = {};
try { kept = JSON.parse(sessionStorage.getItem("npvae") || "{}"); } catch { /* no storage: nothing is kept */ }
choose(pictures.includes(kept.epoch) ? kept.epoch : pictures[pictures.length - 1]);
if (running) setTimeout(function reload() {
  if (playing || document.querySelector("input:active")) { setTimeout(reload, 500); return; }
  const epoch = +slider.value === +slider.max ? null : pictures[slider.value];
  try { sessionStorage.setItem("npvae", JSON.stringify({ epoch })); } catch { /* as above */ }
  location.reload();
}, 1000 * Math.min(10, Math.max(2, data.seconds)));
