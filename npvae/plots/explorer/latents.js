// One row for each latent: a filmstrip of what it would change is the track of its slider.
//
// Above the strip lies mu and sigma of q(z | x), where there is an image, under it the prior's curve.
// The rows are sorted by KL on the test images; what the model does not use is folded away.

import { $, make } from "../page/dom.js";
import { SIDE } from "./model.js";
import { backlog, builders, changed, decode, moveLatents, panels, state } from "./state.js";
import { paintDecoded } from "./pixels.js";
import { arrowStep, focusByMouse, onDrag } from "./drag.js";

const FRAMES = 13; // pictures in a filmstrip, odd: the middle one is at 0
let rows = [];

const within = (share) => Math.min(Math.max(share, 0), 1);
export const shareOf = (value) => within((value / state.model.range + 1) / 2); // of the track, from its left end
export const percent = (share) => `${(100 * share).toFixed(2)}%`;
export const nameOf = (k) => `z${k}`;
export const two = (value) => (+value.toFixed(2) || 0).toFixed(2).replace("-", "−"); // no "−0.00"
export const sigmaText = (sigma) => (sigma < 0.095 ? sigma.toPrecision(1) : two(sigma)); // not "0.00"

builders.push(function buildLatents() {
  const { model } = state;
  rows = model.order.map(buildRow);
  $("latents").replaceChildren(...rows.filter((row) => row.used).map((row) => row.element));
  const [low, , high] = document.querySelectorAll(".scale span");
  [low.textContent, high.textContent] = [`−${model.range}`, model.range];
  const unused = rows.filter((row) => !row.used);
  $("unused").hidden = !unused.length;
  $("unused").querySelector("summary").textContent =
    `${unused.length} unused: ${unused.length > 1 ? "they hardly depend" : "it hardly depends"} on the image`;
  $("unused").querySelector("div").replaceChildren(...unused.map((row) => row.element));
});

function buildRow(k) {
  const { model } = state, nats = model.kl[k], used = model.active[k];
  const element = make("div", { className: used ? "latent" : "latent unused" });
  element.innerHTML = `
    <div class="name" title="${nats.toFixed(2)} nats: the KL of this latent, over test images">
      <i>z</i><sub>${k}</sub><span class="nats"><span></span></span><small>${nats.toFixed(nats < 10 ? 2 : nats < 100 ? 1 : 0)}</small></div>
    <div class="track">
      <span class="posterior"></span>
      <canvas class="film" width="${FRAMES * SIDE}" height="${SIDE}"></canvas>
      <svg class="prior" viewBox="-1 0 2 1" preserveAspectRatio="none" aria-hidden="true"><path></path></svg>
      <input type="range" step="0.01" aria-label="latent ${k}, ${nats.toFixed(2)} nats">
      <span class="handle"></span>
    </div>
    <p class="values">${["μ", "σ", "ε", "z"].map((name) => `<span><i>${name}</i> <b></b></span>`).join("")}</p>`;
  const part = (name) => element.querySelector(name);
  const row = { k, used, element, input: part("input") };
  for (const name of ["handle", "posterior"]) row[name] = part(`.${name}`);
  row.values = element.querySelectorAll(".values b");
  part(".nats span").style.width = percent(nats / Math.max(...model.kl, 1e-9));
  part("path").setAttribute("d", priorCurve(model.range));
  row.input.min = -model.range;
  row.input.max = model.range;
  listen(row, part(".track"));
  for (let n = 0; n < FRAMES; n++) {
    const value = ((n + 0.5) / FRAMES * 2 - 1) * model.range;
    backlog.jobs.push(() => {
      if (!used && !$("unused").open) return;
      const z = Float64Array.from(state.z);
      z[k] = value;
      paintDecoded(part(".film"), decode(z), n * SIDE, 0);
    });
  }
  return row;
}

function priorCurve(range) {
  const points = Array.from({ length: 121 }, (_, n) => {
    const share = n / 60 - 1, value = share * range;
    return `${share.toFixed(3)} ${(Math.exp(-0.5 * value * value)).toFixed(3)}`;
  });
  return `M-1 0L${points.join("L")}L1 0Z`;
}

function listen({ k, input }, track) {
  onDrag(track, {
    move(event) {
      const box = track.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
      moveLatents({ [k]: (Math.min(Math.max(share, 0), 1) * 2 - 1) * state.model.range });
    },
  });
  focusByMouse(track, input);
  track.addEventListener("dblclick", () => moveLatents({ [k]: 0 }));
  input.addEventListener("input", () => moveLatents({ [k]: +input.value })); // by a screen reader
  input.addEventListener("keydown", (event) => {
    const [across, up] = arrowStep(event);
    if (across || up) moveLatents({ [k]: Math.round(1000 * (state.z[k] + across + up)) / 1000 });
  });
}

panels.push(function drawLatents() {
  const { z, q } = state;
  for (const { k, input, handle, values, posterior } of rows) {
    const mu = q?.mu[k], sigma = q && Math.exp(0.5 * q.logVar[k]);
    input.value = z[k];
    input.setAttribute("aria-valuetext", z[k].toFixed(2));
    handle.style.left = percent(shareOf(z[k]));
    const known = q ? [two(mu), sigmaText(sigma), two((z[k] - mu) / sigma)] : ["–", "–", "–"];
    [...known, two(z[k])].forEach((text, n) => (values[n].textContent = text));
    posterior.hidden = !q;
    if (!q) continue;
    posterior.style.left = percent(shareOf(mu - sigma));
    posterior.style.right = percent(1 - shareOf(mu + sigma));
  }
});

panels.push(function drawChain() { // the numbers of the first row, or of the first two
  const { model, q, z } = state, first = model.order.slice(0, 2);
  const more = model.latent_dim > 2 ? ", …" : "";
  $("chain-q").textContent = q ? first.map((k) => `${two(q.mu[k])} ± ${sigmaText(Math.exp(0.5 * q.logVar[k]))}`).join(", ") + more : "–";
  $("chain-z").textContent = first.map((k) => two(z[k])).join(", ") + more;
});

$("unused").addEventListener("toggle", changed);
