// Does this page compute what NumPy computes? For every model in it: are the weights the bytes
// that were stored, and do they decode and encode stored examples to what NumPy made of them?

import { $ } from "../page/dom.js";
import { bytesOf, crc32, numbersOf, PIXELS, sigmoid } from "./model.js";
import { models } from "./state.js";

const ALLOWED = 1e-3;

function largestDifference(found, expected) {
  return found.reduce((worst, value, k) => {
    const difference = Math.abs(value - expected[k]);
    return Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
  }, 0);
}

function testModel(model) {
  const stored = (name) => numbersOf(bytesOf(model.test[name]), "float32");
  const z = stored("z"), xHat = stored("x_hat"), mu = stored("mu"), logVar = stored("log_var");
  const row = (values, n, size) => values.subarray(n * size, (n + 1) * size), Z = model.latent_dim;
  let decoded = 0, encoded = 0;
  for (let n = 0; n * Z < z.length; n++) {
    const x = row(xHat, n, PIXELS), c = model.test.c[n];
    const q = model.encode(x, c), logits = model.decode(row(z, n, Z), c);
    decoded = Math.max(decoded, largestDifference(logits.map(sigmoid), x));
    encoded = Math.max(encoded, largestDifference(q.mu, row(mu, n, Z)));
    encoded = Math.max(encoded, largestDifference(q.logVar, row(logVar, n, Z)));
  }
  const intact = crc32(model.bytes) === model.crc32;
  return { decoded, encoded, intact, passed: intact && Math.max(decoded, encoded) <= ALLOWED };
}

export function selfTest() {
  const results = models.map(testModel), passed = results.every((result) => result.passed);
  $("verdict").textContent = passed ? "self-test passed" : "self-test FAILED";
  $("verdict").className = passed ? "passed" : "failed";
  $("report").textContent = models.map((model, n) => {
    const { decoded, encoded, intact } = results[n], { name, precision, rounding } = model;
    return `${name}: NumPy and this page differ by at most ${small(decoded)} in x̂ and `
      + `${small(encoded)} in μ and log σ²; ${ALLOWED} is allowed. Both use the weights in `
      + `${precision}, ${intact ? "and they are intact" : "but they are DAMAGED"}. Rounding them to `
      + `${precision} moved x̂ by at most ${small(rounding.x_hat)} and μ by at most ${small(rounding.mu)}.`;
  }).join("\n");
  $("report").classList.toggle("failed", !passed);
  return results;
}

const small = (value) => value.toExponential(1);
