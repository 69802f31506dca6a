// The page of a comparison: a row of the table and two curves for each run.

import { $, data, make } from "../page/dom.js";
import { keyOf, panels } from "./curves.js";

const COLORS = 6; // in style.css; a seventh run has the first one again
const color = (k) => `var(--run${k % COLORS})`;

const columns = ["run", ...data.columns];
const head = make("tr"), body = make("tbody");
for (const name of columns) head.append(make("th", { textContent: name, scope: "col" }));
data.runs.forEach((run, k) => {
  const row = make("tr"), name = make("th", { scope: "row" });
  name.append(keyOf(color(k)), run.name);
  row.append(name);
  run.values.forEach((value, n) => {
    const cell = make("td", { textContent: value });
    cell.dataset.name = data.columns[n]; // its heading, where a row is narrow
    row.append(cell);
  });
  body.append(row);
});
const thead = make("thead");
thead.append(head);
$("table").append(thead, body);
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
  const list = make("ul", { className: "band" });
  band.forEach((png, k) => {
    const item = make("li"), name = make("span");
    name.append(keyOf(color(k)), data.runs[k].short);
    item.append(name, make("img", { src: `data:image/png;base64,${png}`, alt: "" }));
    list.append(item);
  });
  $("samples").append(list);
}
