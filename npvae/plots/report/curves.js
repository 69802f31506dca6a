// Curves over the epochs as SVG: the epochs have a logarithmic axis, as in loss.png.

import { $, make } from "../page/dom.js";

const WIDTH = 380, HEIGHT = 250, LEFT = 42, RIGHT = 374, TOP = 8, BOTTOM = 212;
const SPIKE = 20; // a range that many times as wide as that of the bulk is not shown whole

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function quantile(sorted, q) {
  const at = q * (sorted.length - 1), low = Math.floor(at), high = Math.ceil(at);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

// The range of all values and lines, or of the bulk of the values if it is very much narrower.
function shownRange(values, lines) {
  const sorted = values.filter((v) => v !== null && Math.abs(v) < 1e12).sort((a, b) => a - b);
  let [least, most] = [0, 1];
  if (sorted.length) {
    const [low, high] = [quantile(sorted, 0.1), quantile(sorted, 0.9)], reach = Math.max(high - low, 1e-9);
    [least, most] = [sorted[0], sorted[sorted.length - 1]];
    const bulk = [Math.max(least, low - reach), Math.min(most, high + reach)];
    if (SPIKE * (bulk[1] - bulk[0]) < most - least) [least, most] = bulk;
  }
  least = Math.min(least, ...lines);
  most = Math.max(most, ...lines);
  const air = 0.04 * (most - least) || Math.max(0.05 * Math.abs(least), 0.5);
  return [least - air, most + air];
}

// The multiples of 1, 2 or 5 times a power of ten within a range, at most six.
function niceTicks([low, high]) {
  const finest = (high - low) / 6, power = 10 ** Math.floor(Math.log10(finest));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= finest * (1 - 1e-9));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) ticks.push([k * step, (k * step).toFixed(decimals)]);
  return ticks;
}

function epochTicks(first, last) {
  const room = (last / first) ** 0.09, between = [];
  for (let power = 1; power <= last; power *= 10)
    for (const m of [1, 2, 5])
      if (first * room < m * power && m * power < last / room) between.push(m * power);
  return [...new Set([first, ...between, last])];
}

export function keyOf(color) { // a dash of this colour, before the name of what has it
  const key = make("i", { className: "dash" });
  key.style.background = color;
  return key;
}

// One panel in a figure. series: {name, color, kind, epochs, values}; lines: {label: y}.
// Returns a function that marks an epoch and shows the values there.
function panel(figure, title, series, lines = {}) {
  const epochs = [...new Set(series.flatMap((s) => s.epochs))].sort((a, b) => a - b);
  const first = epochs[0], last = epochs[epochs.length - 1];
  const yRange = shownRange(series.flatMap((s) => s.values), Object.values(lines));
  const x = (epoch) => first === last ? (LEFT + RIGHT) / 2
    : LEFT + 8 + (RIGHT - LEFT - 12) * Math.log(epoch / first) / Math.log(last / first);
  const y = (value) => BOTTOM - (BOTTOM - TOP) * (value - yRange[0]) / (yRange[1] - yRange[0]);
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const put = (name, attributes, text) => svg.appendChild(element(name, attributes, text));

  for (const epoch of epochTicks(first, last)) {
    put("line", { class: "grid", x1: x(epoch), x2: x(epoch), y1: TOP, y2: BOTTOM });
    put("text", { x: x(epoch), y: BOTTOM + 16, "text-anchor": "middle" }, epoch);
  }
  for (const [value, label] of niceTicks(yRange)) {
    put("line", { class: "grid", x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value) });
    put("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, label);
  }
  put("text", { x: RIGHT, y: BOTTOM + 32, "text-anchor": "end" }, "epoch (log scale)");
  for (const [label, value] of Object.entries(lines)) {
    put("line", { class: "dashed", x1: LEFT, x2: RIGHT, y1: y(value), y2: y(value) });
    const below = y(value) < TOP + 20;
    put("text", { x: RIGHT - 2, y: y(value) + (below ? 14 : -5), "text-anchor": "end" }, `${label} ${value.toFixed(2)}`);
  }
  const clip = `clip-${figure.id}`;
  put("clipPath", { id: clip }).append(element("rect", { x: LEFT, y: TOP, width: WIDTH - LEFT, height: BOTTOM - TOP }));
  const inside = put("g", { "clip-path": `url(#${clip})` });
  const markAt = (left, edge, length, { name, color }, value) => // an arrow at the edge: off the chart
    put("path", { class: "off", d: `M${left} ${edge}l-4 ${length}h8z`, fill: color })
      .append(element("title", {}, `${name}: ${value.toPrecision(4)}, off the chart`));
  for (const s of series) {
    let path = "", pen = "M";
    s.values.forEach((value, k) => {
      if (value === null) { pen = "M"; return; } // not finite: a hole
      path += `${pen}${x(s.epochs[k]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      if (value > yRange[1]) markAt(x(s.epochs[k]), TOP, 7, s, value);
      if (value < yRange[0]) markAt(x(s.epochs[k]), BOTTOM, -7, s, value);
      if (s.values.length < 3) inside.append(element("circle", { cx: x(s.epochs[k]), cy: y(value), r: 3.5, class: s.kind, fill: s.color, stroke: s.color }));
    });
    inside.append(element("path", { class: `curve ${s.kind || ""}`, d: path, style: `stroke: ${s.color}` }));
  }
  const chosen = put("line", { class: "chosen", y1: TOP, y2: BOTTOM, x1: -9, x2: -9 });
  const caption = make("figcaption");
  figure.replaceChildren(caption, svg);

  const show = (epoch) => {
    chosen.setAttribute("x1", x(epoch));
    chosen.setAttribute("x2", x(epoch));
    const words = [make("b", {}, title)];
    for (const s of series) {
      const value = s.values[s.epochs.findLastIndex((e) => e <= epoch)]; // of a shorter run, its last
      if (value === undefined || s.kind === "train") continue;
      words.push(make("span", {}, keyOf(s.color), `${s.name} ${value === null ? "not finite" : value.toFixed(2)}`));
    }
    if (svg.querySelector(".off")) words.push("arrows at the edge: off the chart");
    caption.replaceChildren(...words);
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) * WIDTH / box.width;
    return epochs.reduce((best, epoch) => Math.abs(x(epoch) - at) < Math.abs(x(best) - at) ? epoch : best);
  };
  show(last);
  return { show, nearest, svg, last };
}

// The panels of loss, bce and kl: the pointer over any of them shows the same epoch in all.
// curvesOf(part) gives the series of a panel, `more` are further ones of the loss, `lines` its lines.
export function panels(curvesOf, more = [], lines = {}, onChoose = () => {}) {
  const made = [
    panel($("loss"), "loss", [...curvesOf("loss"), ...more], lines),
    panel($("bce"), "reconstruction (bce)", curvesOf("bce")),
    panel($("kl"), "KL divergence (kl)", curvesOf("kl")),
  ];
  const showAll = (epoch) => made.forEach((p) => p.show(epoch));
  let resting = made[0].last;
  for (const { svg, nearest } of made) {
    svg.addEventListener("pointermove", (event) => showAll(nearest(event)));
    svg.addEventListener("pointerleave", () => showAll(resting));
    svg.addEventListener("click", (event) => onChoose(nearest(event)));
  }
  return (epoch) => { resting = epoch; showAll(epoch); };
}
