// The page of a comparison: a row of the table and two curves for each run.

import { $, data, make } from "../page/dom.js";
import { keyOf, panels } from "./curves.js";

const COLORS = 6; // in style.css; a seventh run has the first one again
const color = (k) => `var(--run${k % COLORS})`;

const head = ["run", ...data.columns].map((name) => make("th", { scope: "col" }, name));
const rows = data.runs.map((run, k) => {
  const cells = run.values.map((value) => make("td", {}, value));
  cells.forEach((cell, n) => (cell.dataset.name = data.columns[n])); // its heading, where a row is narrow
  return make("tr", {}, make("th", { scope: "row" }, keyOf(color(k)), run.name), ...cells);
});
$("table").append(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
$("same").textContent = data.same;

const curvesOf = (part) => ["train", "test"].flatMap((split) => data.runs.map((run, k) => ({
  name: run.short,
  kind: split,
  color: color(k),
  epochs: run.history.map((row) => row.epoch),
  values: run.history.map((row) => row[`${split}_${part}`]),
})));
panels(curvesOf);

for (const band of data.samples) {
  const items = band.map((png, k) => make("li", {},
    make("span", {}, keyOf(color(k)), data.runs[k].short),
    make("img", { src: `data:image/png;base64,${png}`, alt: "" })));
  $("samples").append(make("ul", { className: "band" }, ...items));
}
