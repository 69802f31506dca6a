// The page of a comparison: a row of the table and two curves for each run.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const COLORS = 6; // in style.css; a seventh run has the first one again
const color = (k) => `var(--run${k % COLORS})`;
const make = (name, properties) => Object.assign(document.createElement(name), properties);
function keyOf(k) {
  const key = make("i", { className: "key" });
  key.style.background = color(k);
  return key;
}

const columns = ["run", ...data.columns];
const head = make("tr"), body = make("tbody");
for (const name of columns) head.append(make("th", { textContent: name, scope: "col" }));
data.runs.forEach((run, k) => {
  const row = make("tr"), name = make("th", { scope: "row" });
  name.append(keyOf(k), run.name);
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
document.getElementById("table").append(thead, body);
document.getElementById("same").textContent = data.same;

const curvesOf = (part) => ["train", "test"].flatMap((split) => data.runs.map((run, k) => ({
  name: run.short,
  kind: split,
  color: color(k),
  epochs: run.history.map((row) => row.epoch),
  values: run.history.map((row) => row[`${split}_${part}`]),
})));
panels([
  ["loss", "loss", curvesOf("loss")],
  ["bce", "reconstruction (bce)", curvesOf("bce")],
  ["kl", "KL divergence (kl)", curvesOf("kl")],
]);

for (const band of data.samples) {
  const list = make("ul", { className: "band" });
  band.forEach((png, k) => {
    const item = make("li"), name = make("span");
    name.append(keyOf(k), data.runs[k].short);
    item.append(name, make("img", { src: `data:image/png;base64,${png}`, alt: "" }));
    list.append(item);
  });
  document.getElementById("samples").append(list);
}
