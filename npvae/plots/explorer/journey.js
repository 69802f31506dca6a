// From anchor A to anchor B in two ways: around the origin, and straight.

import { $, make } from "../page/dom.js";
import { SIDE, WAYS } from "./model.js";
import { backlog, builders, changed, decode, panels, setCode, state } from "./state.js";
import { paintDecoded } from "./pixels.js";

const STOPS = 11;
const strips = {};

for (const name of Object.keys(WAYS)) {
  const radio = make("input", { type: "radio", name: "way", value: name });
  strips[name] = make("canvas", { width: STOPS * SIDE, height: SIDE });
  $("ways").append(make("label", {}, radio, make("span", {}, name), strips[name]));
  strips[name].addEventListener("click", (event) => {
    const box = strips[name].getBoundingClientRect();
    const stop = Math.floor((event.clientX - box.left) / box.width * STOPS);
    state.way = name;
    goTo(Math.min(stop, STOPS - 1) / (STOPS - 1));
  });
  radio.addEventListener("change", () => {
    state.way = name;
    goTo(state.t);
  });
}

builders.push(function buildJourney() {
  for (const [name, way] of Object.entries(WAYS)) {
    for (let n = 0; n < STOPS; n++) {
      backlog.jobs.push(() => {
        const z = way(state.a, state.b, n / (STOPS - 1));
        paintDecoded(strips[name], decode(z), n * SIDE, 0);
      });
    }
  }
});

panels.push(function drawJourney() {
  const { a, b, way, t, playing } = state;
  paintDecoded($("a"), decode(a));
  paintDecoded($("b"), decode(b));
  for (const radio of document.getElementsByName("way")) radio.checked = radio.value === way;
  $("along").value = t;
  $("along").setAttribute("aria-valuetext", `${Math.round(100 * t)} % of the way`);
  $("play").textContent = playing ? "stop" : "play";
  $("play").setAttribute("aria-pressed", playing);
});

function goTo(t) {
  state.t = t;
  setCode(WAYS[state.way](state.a, state.b, t), "", state.playing);
}

export function setAnchor(name) {
  state[name] = Float64Array.from(state.z);
  state.t = name === "a" ? 0 : 1;
  changed();
}

const SECONDS = 4; // from A to B
export function togglePlaying() {
  state.playing = !state.playing;
  if (state.playing) requestAnimationFrame((start) => play(start - 1000 * SECONDS * state.t));
  changed();
}

function play(start) { // there and back again, slow at both ends
  requestAnimationFrame((now) => {
    if (!state.playing) return;
    goTo((1 - Math.cos(Math.PI * (now - start) / 1000 / SECONDS)) / 2);
    play(start);
  });
}

$("set-a").addEventListener("click", () => setAnchor("a"));
$("set-b").addEventListener("click", () => setAnchor("b"));
$("play").addEventListener("click", togglePlaying);
$("along").addEventListener("input", () => {
  state.playing = false;
  goTo(+$("along").value);
});
