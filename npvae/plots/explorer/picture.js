// The decoded picture, in three views, and the numbers beside it.

import { $ } from "../page/dom.js";
import { bcePerPixel, klPerLatent, norm, PIXELS, shellOf, sigmoid, sum } from "./model.js";
import { builders, changed, panels, randomCode, state, zeroCode } from "./state.js";
import { heat, paint, paintDecoded, savePng } from "./pixels.js";

const coins = Float32Array.from({ length: PIXELS }, Math.random); // a click flips them again
let shell = null; // of the model shown

const WORST = 3; // nats of a pixel that the map of bce shows in white: x = 1 where x_hat = 0.05

panels.push(function drawPicture() {
  const { logits, x, q, view } = state, canvas = $("decoded");
  if (view === "coins") paint(canvas, logits.map((l, k) => (coins[k] < sigmoid(l) ? 1 : 0)));
  else if (view === "bce" && x) paint(canvas, bcePerPixel(logits, x), (v) => heat(v / WORST));
  else paintDecoded(canvas, logits);
  for (const radio of document.getElementsByName("view")) {
    radio.checked = radio.value === view;
    if (radio.value === "bce") radio.disabled = !x;
  }
  const bce = x && sum(bcePerPixel(logits, x)), kl = q && sum(klPerLatent(q));
  $("bce").textContent = x ? bce.toFixed(1) : "–";
  $("kl").textContent = x ? kl.toFixed(1) : "–";
  $("loss").textContent = x ? (bce + kl).toFixed(1) : "–";
  $("unit").textContent = whatTheSumIs() + (view === "bce" ? ` In the map white is ${WORST} nats or more.` : "");
  $("loss").parentElement.classList.toggle("void", state.x !== null && !isLoss());
  drawShell();
});

const sameClass = () => !state.model.classes || state.c === state.classOfX;
const isLoss = () => state.origin !== "" && sameClass();

function whatTheSumIs() { // the loss is kl plus the mean of bce over draws of z from q(z | x)
  if (!state.x) return "Nats, once there is an image.";
  if (!sameClass()) return "x̂ has another class than x, so the sum is not the loss.";
  if (state.origin === "draw") return "Nats, for one draw of z from q(z | x).";
  if (state.origin === "mean") return "Nats, at the mean of q(z | x). The loss averages over draws of z.";
  return "This z does not come from q(z | x), but kl is still that of q: the sum is not the loss.";
}

function drawShell() {
  const r = norm(state.z), share = 100 * shell.shareWithin(r);
  $("shell").querySelector(".needle").setAttribute("d", `M${Math.min(r / shell.end, 1) * 100} 0V36`);
  const nearer = share < 1 ? "under 1\u00a0%" : share > 99 ? "over 99\u00a0%" : `${share.toFixed(0)}\u00a0%`;
  const judged = share < 1 ? "unusually near" : share > 99 ? "unusually far" : "typical";
  $("typical").textContent = `|z|² = ${(r * r).toFixed(1)}, ${judged}: ${nearer} of the prior lies nearer to 0`;
}

builders.push(function buildShell() {
  shell = shellOf(state.model.latent_dim);
  const highest = Math.max(...shell.density);
  const points = Array.from(shell.radius, (r, k) =>
    `${(100 * r / shell.end).toFixed(2)} ${(35 - 32 * shell.density[k] / highest).toFixed(2)}`);
  $("shell").querySelector(".curve").setAttribute("d", `M0 36L${points.join("L")}L100 36Z`);
});

export function setView(view) {
  state.view = view === "bce" && !state.x ? "picture" : view;
  changed();
}

export function savePicture() {
  savePng($("decoded"), "explorer-picture.png", 20);
}

$("views").addEventListener("change", (event) => setView(event.target.value));
$("decoded").addEventListener("click", () => {
  for (let k = 0; k < PIXELS; k++) coins[k] = Math.random();
  changed();
});
$("random").addEventListener("click", randomCode);
$("zero").addEventListener("click", zeroCode);
$("save").addEventListener("click", savePicture);
