// The model, one image at a time: the forward pass of npvae/model.py and npvae/losses.py.
//
// `Model` unpacks the weights that the page holds, `encode` and `decode` are the two halves.
// Below it stand the losses, the two ways from one code to another, and how typical a code is.
// Names are those of the Python source: mu, log_var (logVar here), z, logits, x_hat (xHat).

export const SIDE = 28, PIXELS = SIDE * SIDE;

const ACTIVATIONS = {
  relu: (y) => (y > 0 ? y : 0),
  leaky_relu: (y) => (y > 0 ? y : 0.01 * y),
  elu: (y) => (y > 0 ? y : Math.expm1(y)),
  tanh: Math.tanh,
};

export class Model {
  constructor(stored) {
    Object.assign(this, stored);
    this.bytes = bytesOf(stored.weights);
    const numbers = numbersOf(this.bytes, stored.precision);
    this.weights = {};
    let start = 0;
    for (const [name, shape] of stored.parameters) {
      const size = shape.reduce((a, b) => a * b);
      this.weights[name] = numbers.subarray(start, (start += size));
    }
    this.depth = stored.hidden_dims.length;
    this.points = numbersOf(bytesOf(stored.points), "float16"); // mu of test images, (N, Z)
  }

  dense(name, x) { // y (out) = x (in) @ W + b; W is stored row by row, and zeros in x cost nothing
    const W = this.weights[`${name}.W`], y = Float64Array.from(this.weights[`${name}.b`]);
    for (let i = 0, row = 0; i < x.length; i++, row += y.length) {
      const xi = x[i];
      if (xi !== 0) for (let j = 0; j < y.length; j++) y[j] += xi * W[row + j];
    }
    return y;
  }

  hidden(half, x) {
    const activation = ACTIVATIONS[this.activation];
    for (let k = 0; k < this.depth; k++) x = this.dense(`${half}.hidden${k}`, x).map(activation);
    return x;
  }

  withClass(values, c) { // x or z, and beside it the class c, one-hot, if the model is conditional
    const oneHot = new Float64Array(this.classes);
    oneHot[c] = 1; // without classes there is no such place, and nothing happens
    return Float64Array.of(...values, ...oneHot);
  }

  encode(x, c) { // q(z | x) of pixels x (784) in [0, 1]; a conditional model needs their class c
    const h = this.hidden("encoder", this.withClass(x, c));
    return { mu: this.dense("encoder.mu", h), logVar: this.dense("encoder.log_var", h) };
  }

  decode(z, c) { // logits (784)
    return this.dense("decoder.logits", this.hidden("decoder", this.withClass(z, c)));
  }

  point(n) { // the code of test image n
    return Float64Array.from(this.points.subarray(n * this.latent_dim, (n + 1) * this.latent_dim));
  }
}

export function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

export function numbersOf(bytes, precision) {
  if (precision === "float32") return new Float32Array(bytes.buffer);
  // float16: one bit of sign, five of exponent, ten of fraction; without Infinity and NaN.
  const bits = new Uint16Array(bytes.buffer), numbers = new Float32Array(bits.length);
  const unit = Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
  for (let k = 0; k < bits.length; k++) {
    const exponent = (bits[k] >> 10) & 31, fraction = bits[k] & 1023;
    const size = (exponent ? 1024 + fraction : fraction) * unit[exponent];
    numbers[k] = bits[k] & 0x8000 ? -size : size;
  }
  return numbers;
}

export function crc32(bytes) { // as zlib.crc32: what changes when any byte of the weights does
  const table = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  let crc = -1;
  for (let k = 0; k < bytes.length; k++) crc = table[(crc ^ bytes[k]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// --- losses, in nats ---

export const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

export function bcePerPixel(logits, x) { // softplus(logit) - x * logit, in the form that cannot overflow
  return logits.map((l, k) => Math.max(l, 0) + Math.log1p(Math.exp(-Math.abs(l))) - x[k] * l);
}

export function klPerLatent({ mu, logVar }) {
  return mu.map((m, k) => 0.5 * (m * m + Math.exp(logVar[k]) - 1 - logVar[k]));
}

export const sum = (values) => values.reduce((a, b) => a + b, 0);

// --- codes ---

export function normal() { // a standard normal number (Box and Muller 1958)
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

export function reparameterize({ mu, logVar }, epsilon) { // z = mu + sigma * epsilon
  return mu.map((m, k) => m + Math.exp(0.5 * logVar[k]) * epsilon[k]);
}

export const norm = (z) => Math.hypot(...z);

export const WAYS = { spherical, straight }; // from one code to another

function straight(a, b, t) {
  return a.map((ak, k) => (1 - t) * ak + t * b[k]);
}

function spherical(a, b, t) { // slerp of latent_space.py: the direction turns, the norm goes evenly
  const normA = norm(a), normB = norm(b);
  if (a.length === 1 || Math.min(normA, normB) === 0) return straight(a, b, t);
  const u = a.map((ak) => ak / normA), v = b.map((bk) => bk / normB);
  const orthogonal = (w) => {
    const along = sum(w.map((wk, k) => wk * u[k]));
    return w.map((wk, k) => wk - along * u[k]);
  };
  let p = orthogonal(v);
  const angle = Math.atan2(norm(p), sum(u.map((uk, k) => uk * v[k])));
  if (norm(p) < 1e-9) { // the same direction, for which any p will do, or the opposite one
    const sizes = Array.from(u, Math.abs), least = sizes.indexOf(Math.min(...sizes));
    p = orthogonal(u.map((_, k) => (k === least ? 1 : 0)));
  }
  const length = norm(p), radius = (1 - t) * normA + t * normB;
  return u.map((uk, k) => radius * (Math.cos(t * angle) * uk + Math.sin(t * angle) * p[k] / length));
}

// --- how typical is a code? ---

export function shellOf(latents) {
  // |z| of draws from the prior: |z|^2 is chi-squared with Z degrees of freedom, so the density of
  // r = |z| is r^(Z-1) exp(-r^2 / 2) over a constant. Sums on a grid stand for the integral.
  const end = Math.sqrt(latents) + 4, steps = 800;
  const radius = Float64Array.from({ length: steps }, (_, k) => ((k + 0.5) / steps) * end);
  const log = radius.map((r) => (latents - 1) * Math.log(r) - 0.5 * r * r);
  const highest = Math.max(...log), density = log.map((value) => Math.exp(value - highest));
  const total = sum(density);
  let below = 0;
  const share = density.map((d) => (below += d) / total); // of all draws, up to the end of a step
  return { end, radius, density, shareWithin: (r) => interpolated(share, (r / end) * steps) };
}

function interpolated(share, steps) {
  const k = Math.floor(steps);
  if (k >= share.length) return 1;
  const before = k ? share[k - 1] : 0;
  return before + (steps - k) * (share[k] - before);
}
