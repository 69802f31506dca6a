// The class that a conditional model is given, in both halves: p(x | z, c) and q(z | x, c).
//
// The decoder has the class chosen among pictures of the current z in every class. Another choice
// leaves z as it is: "this handwriting, as a 7". The encoder has the class of the image: that of
// an example is known, and an image of the user's own has the chosen class, or the one selected.

import { $, data, make } from "../page/dom.js";
import { SIDE } from "./model.js";
import { backlog, builders, panels, setClass, setImage, state } from "./state.js";
import { paintDecoded } from "./pixels.js";

builders.push(function buildClasses() {
  const conditional = state.model.classes > 0;
  for (const part of document.querySelectorAll(".conditional")) part.hidden = !conditional;
  $("given").replaceChildren(...(conditional ? data.class_names : []).map((name, c) => {
    const picture = make("canvas", { width: SIDE, height: SIDE });
    const radio = make("input", { type: "radio", name: "given", value: c, onchange: () => setClass(c) });
    backlog.jobs.push(() => paintDecoded(picture, state.model.decode(state.z, c)));
    return make("label", { title: name }, radio, picture, make("span", {}, name));
  }));
});

panels.push(function drawClasses() {
  for (const radio of document.getElementsByName("given")) radio.checked = +radio.value === state.c;
  $("class-of-x").value = state.classOfX;
  for (const place of document.querySelectorAll(".decoded-as")) place.textContent = data.class_names[state.c];
});

$("class-of-x").append(...data.class_names.map((name, c) => new Option(name, c)));
$("class-of-x").addEventListener("change", () => {
  state.c = +$("class-of-x").value;
  setImage(state.x, state.c, state.picked);
});
