// The image x: drawn with the pen, taken from a file, or picked; each change encodes it at once.

import { $, make } from "../page/dom.js";
import { PIXELS, SIDE } from "./model.js";
import {
  changed, clearImage, drawEpsilon, exampleCount, exampleImage, exampleName, meanCode, panels,
  pickExample, setImage, state,
} from "./state.js";
import { ink, paint, pixelsOfFile } from "./pixels.js";
import { onDrag } from "./drag.js";

const NO_IMAGE = new Float32Array(PIXELS);

panels.push(function drawImage() {
  paint($("pad"), state.x ?? NO_IMAGE);
  $("pad").classList.toggle("empty", !state.x);
  $("told").textContent = state.told;
  for (const id of ["mean", "clear"]) $(id).disabled = !state.x;
  [...$("examples").children].forEach((thumb, n) =>
    thumb.setAttribute("aria-selected", n === state.picked));
});

// --- the pen ---

let last = null; // where the pen is while it draws
function penAt(event) {
  const box = $("pad").getBoundingClientRect(), pixel = box.width / SIDE;
  return { x: (event.clientX - box.left) / pixel, y: (event.clientY - box.top) / pixel };
}

function stroke(event) {
  last ??= penAt(event);
  const x = Float32Array.from(state.x ?? NO_IMAGE);
  for (const moved of [...(event.getCoalescedEvents?.() ?? []), event]) {
    const to = penAt(moved);
    ink(x, last, to, +$("pen").value, $("erase").checked ? 0 : 1);
    last = to;
  }
  setImage(x, state.classOfX);
}

// A finger draws sideways at once, and in every direction after a tap on the pad.
let armed = false;
onDrag($("pad"), {
  move(event) {
    armed = true;
    stroke(event);
  },
  tap(event) {
    if (event.pointerType === "touch" && !armed) armed = true;
    else stroke(event);
  },
  end: () => (last = null),
  grabs: () => armed,
});
addEventListener("pointerdown", (event) => (armed &&= event.target === $("pad")));

// --- files, by the button or dropped anywhere on the page ---

async function takeFile(file) {
  if (!file) return;
  try {
    const { x, inverted } = await pixelsOfFile(file);
    setImage(x, state.c, -1, inverted ? "light ground: inverted to white on black" : "");
  } catch {
    state.told = `${file.name} is no picture that this browser can read`;
    changed();
  }
}

$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  takeFile($("file").files[0]);
  $("file").value = ""; // the same file may be chosen again
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  takeFile(event.dataTransfer.files[0]);
});

// --- what q(z | x) is good for ---

$("epsilon").addEventListener("click", drawEpsilon);
$("mean").addEventListener("click", meanCode);
$("clear").addEventListener("click", clearImage);

// --- the images to pick ---

for (let n = 0; n < exampleCount; n++) {
  const thumb = make("canvas", { width: SIDE, height: SIDE, title: exampleName(n) });
  thumb.setAttribute("role", "option");
  thumb.setAttribute("aria-label", exampleName(n));
  thumb.tabIndex = n ? -1 : 0; // one stop for the tab key; arrows go on from there
  paint(thumb, exampleImage(n));
  $("examples").append(thumb);
}
$("examples").hidden = !exampleCount;

$("examples").addEventListener("click", (event) => {
  const n = [...$("examples").children].indexOf(event.target);
  if (n >= 0) pickExample(n);
});
$("examples").addEventListener("keydown", (event) => {
  const thumbs = [...$("examples").children], n = thumbs.indexOf(document.activeElement);
  const perRow = Math.max(1, thumbs.findIndex((thumb) => thumb.offsetTop > thumbs[0].offsetTop));
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow }[event.key];
  if (n < 0) return;
  if (event.key === "Enter" || event.key === " ") pickExample(n);
  else if (!step) return;
  else if (thumbs[n + step]) {
    thumbs[n].tabIndex = -1;
    thumbs[n + step].tabIndex = 0;
    thumbs[n + step].focus();
  }
  event.preventDefault();
  event.stopPropagation();
});
