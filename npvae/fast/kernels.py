"""The loops between the matrix products. Each names the function of the lesson it stands for.

NumPy computes max(y + b, 0) in two passes over memory; a compiled loop needs one. What makes these
loops fast is that LLVM turns them into vector instructions. It does so only under conditions that
are easy to break (all measured):
- a loop calls nothing but plain arithmetic. So exp and log1p of float32 are short polynomials;
  through math.exp and math.log1p the loss takes ten times as long;
- division must not check for zero, which needs Numba's error_model="numpy";
- a sum of floats is not reordered, so it is made for many columns at once (see `cost`);
- an array that is written is not read at other places, and a sum over a variable number of arrays
  is not made inside the loop.

`out` and what is named as an output are changed; nothing else is. B images, D pixels, Z latents.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npvae.core.parameters import Array
from npvae.fast.jit import jit, specialised

# ------------------------------------------------------------------ exp, expm1, log1p of float32


@jit
def exp_parts(a: Any) -> Any:
    """p and s with exp(a) = p * s + s: s = 2^n and p = exp(r) - 1, where a = n log 2 + r.

    |r| <= log(2) / 2 = 0.35. Right to 3e-7 with fused multiply-adds and to 4e-6 without.
    Infinite from 88.4 on, and never below exp(-87).
    """
    a = np.float32(-87) if a < np.float32(-87) else a
    a = np.float32(89) if a > np.float32(89) else a
    n = np.int32(a * np.float32(1.442695041) + np.float32(0.5 if a > 0 else -0.5))
    r = a - np.float32(n) * np.float32(0.6931471806)
    p = np.float32(1.9875691500e-4)  # coefficients: S. Moshier, Cephes, expf
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return p * r * r + r, np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@jit
def exp(a: Any) -> Any:
    """exp(a) of float32."""
    p, scale = exp_parts(a)
    return (p + np.float32(1)) * scale


@jit
def expm1(a: Any) -> Any:
    """exp(a) - 1 of float32, also near 0, where the difference would lose its digits."""
    p, scale = exp_parts(a)
    return p * scale + (scale - np.float32(1))


@jit
def log1p(a: Any) -> Any:
    """log(1 + a) for a in [0, 1] = 2 artanh(u) = 2 (u + u^3/3 + u^5/5 + ...), u = a / (2 + a)."""
    u = a / (np.float32(2) + a)
    square = u * u
    p = np.float32(2 / 13)
    p = p * square + np.float32(2 / 11)
    p = p * square + np.float32(2 / 9)
    p = p * square + np.float32(2 / 7)
    p = p * square + np.float32(2 / 5)
    p = p * square + np.float32(2 / 3)
    p = p * square + np.float32(2)
    return u * p


@jit
def tanh(a: Any) -> Any:
    """tanh(a) of float32 = -m / (2 + m) for a > 0, with m = exp(-2a) - 1, and odd."""
    m = expm1(np.float32(-2) * abs(a))
    h = -m / (np.float32(2) + m)
    return -h if a < 0 else h


fast_exp = specialised(exp, np.exp)
fast_expm1 = specialised(expm1, np.expm1)
fast_log1p = specialised(log1p, np.log1p)
fast_tanh = specialised(tanh, np.tanh)


# ------------------------------------------------------------------ images (npvae/datasets/)


@jit
def gather_pixels(images: Any, indices: Any, first: int, count: int, out: Array) -> None:
    """minibatches.to_pixels: out = images[indices] / 255, of `count` pixels from `first` on."""
    number = out.dtype.type
    for i in range(indices.shape[0]):
        image = indices[i]
        for j in range(count):
            out[i, j] = number(images[image, first + j]) / number(255)


@jit
def warp_pixels(
    images: Any, indices: Any, warps: Any, first: int, count: int, framed: Array, out: Array
) -> None:
    """augmentation.warp, of `count` pixels from `first` on: each from between four of the image.

    `framed` ((side + 2)^2,) is filled with the image in a black frame; the frame is there before.
    """
    side = int(math.sqrt(images.shape[1]))
    centre = (side - 1) / 2
    for n in range(indices.shape[0]):
        for i in range(side):
            for j in range(side):
                framed[(i + 1) * (side + 2) + j + 1] = images[indices[n], i * side + j]
        a, b, c = warps[n, 0]
        d, e, f = warps[n, 1]
        for i in range(first // side, side):
            for j in range(max(0, first - i * side), min(side, first + count - i * side)):
                y, x = i - centre, j - centre
                row = min(max(a * y + b * x + c + centre, -1.0), float(side)) + 1
                column = min(max(d * y + e * x + f + centre, -1.0), float(side)) + 1
                # Never out of the frame: the index of a NaN, which nothing is less than, is side.
                top = int(row) if row < side else side
                left = int(column) if column < side else side
                u, v = row - top, column - left
                at = top * (side + 2) + left
                upper = (1 - v) * framed[at] + v * framed[at + 1]
                lower = (1 - v) * framed[at + side + 2] + v * framed[at + side + 3]
                out[n, i * side + j - first] = ((1 - u) * upper + u * lower) / 255


@jit
def one_hot(labels: Any, indices: Any, first: int, out: Array) -> None:
    """The class of each image as a 1 in its column of out[:, first:], if there are any."""
    number = out.dtype.type
    for i in range(out.shape[0]):
        for j in range(first, out.shape[1]):
            out[i, j] = number(1) if labels[indices[i]] == j - first else number(0)


# ------------------------------------------------------------------ layers.py

RELU, LEAKY_RELU, ELU, TANH, NONE = range(5)  # the last: y itself
ACTIVATIONS = {"relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "tanh": TANH}


@jit
def bias_activation(kind: int, b: Array, out: Array) -> None:
    """h = activation(x @ W + b), where out holds x @ W before and h afterwards."""
    number = out.dtype.type
    zero, slope = number(0), number(0.01)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            h = y = out[i, j] + b[j]
            if kind == RELU:
                h = zero if y < zero else y  # so that NaN stays NaN
            elif kind == LEAKY_RELU:
                h = slope * y if y < zero else y
            elif kind == ELU:
                below = fast_expm1(y)
                h = y if y > zero else below
            elif kind == TANH:
                h = fast_tanh(y)
            out[i, j] = h


@jit
def activation_backward(kind: int, h: Array, out: Array) -> None:
    """d_y = d_h * activation'(y), in terms of h; out holds d_h before and d_y afterwards."""
    number = out.dtype.type
    zero, one, slope = number(0), number(1), number(0.01)
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            d_y = d_h = out[i, j]
            if kind == RELU:
                d_y = zero if h[i, j] <= zero else d_h
            elif kind == LEAKY_RELU:
                d_y = slope * d_h if h[i, j] <= zero else d_h
            elif kind == ELU:
                d_y = d_h * (h[i, j] + one) if h[i, j] <= zero else d_h
            elif kind == TANH:
                d_y = d_h * (one - h[i, j] * h[i, j])
            out[i, j] = d_y


@jit
def sum_rows(d_y: Array, more: bool, out: Array) -> None:
    """d_b = sum of d_y over the images, added to what is there if these are more of them."""
    if not more:
        for j in range(out.shape[0]):
            out[j] = 0
    for i in range(d_y.shape[0]):
        for j in range(d_y.shape[1]):
            out[j] += d_y[i, j]


@jit
def reparameterize(mu: Array, log_var: Array, epsilon: Array, out: Array) -> Any:
    """z = mu + sigma * epsilon into out, which may have more columns.

    Returns the sum over the images of losses.kl_divergence: 0.5 * (mu^2 + sigma^2 - 1 - log_var).
    """
    number = mu.dtype.type
    half, one = number(0.5), number(1)
    total = 0.0
    for i in range(mu.shape[0]):
        kl = number(0)
        for j in range(mu.shape[1]):
            sigma = fast_exp(half * log_var[i, j])
            kl += half * (mu[i, j] * mu[i, j] + sigma * sigma - one - log_var[i, j])
            out[i, j] = mu[i, j] + sigma * epsilon[i, j]
        total += kl
    return total


# ------------------------------------------------------------------ what workers exchange


@jit
def copy(source: Array, out: Array) -> None:
    """out = source."""
    for i in range(out.shape[0]):
        out[i] = source[i]


@jit
def add(more: Array, out: Array) -> None:
    """out += more."""
    for i in range(out.shape[0]):
        out[i] += more[i]


# ------------------------------------------------------------------ losses.py and model.py


@jit
def bce_and_gradient(
    product: Array, b: Array, x: Array, d_bce: float, out: Array, cost: Array
) -> float:
    """losses.bce_with_logits: the sum over images and pixels of softplus(logits) - x * logits.

    And bce_with_logits_backward in the same pass: out = d_bce * (sigmoid(logits) - x), where logits
    = product + b; x may have more columns. `cost` (D,) holds the sums over images of each pixel:
    summed pixel by pixel, an image takes a few times as long, unless the compiler may choose the
    order of the sum. Then the last digits would depend on which copy of the code is linked.
    """
    number = product.dtype.type
    zero, one, weight = number(0), number(1), number(d_bce)
    for j in range(product.shape[1]):
        cost[j] = zero
    for i in range(product.shape[0]):
        for j in range(product.shape[1]):
            logit = product[i, j] + b[j]
            e = fast_exp(-abs(logit))
            cost[j] += max(logit, zero) - logit * x[i, j] + fast_log1p(e)
            x_hat = (e if logit < zero else one) / (one + e)
            out[i, j] = weight * (x_hat - x[i, j])
    total = 0.0
    for j in range(product.shape[1]):
        total += cost[j]
    return total


@jit
def latent_gradients(
    mu: Array,
    log_var: Array,
    epsilon: Array,
    d_z: Array,
    d_kl: float,
    out_mu: Array,
    out_log_var: Array,
) -> None:
    """Where two paths meet in VAE.backward: from the pixels through z, and from the KL divergence.

    out_mu = d_z + d_kl * mu
    out_log_var = d_z * epsilon * 0.5 * sigma + d_kl * 0.5 * (sigma^2 - 1)
    """
    number = mu.dtype.type
    half, one, weight = number(0.5), number(1), number(d_kl)
    for i in range(mu.shape[0]):
        for j in range(mu.shape[1]):
            sigma = fast_exp(half * log_var[i, j])
            out_mu[i, j] = d_z[i, j] + weight * mu[i, j]
            excess = weight * (sigma * sigma - one)
            out_log_var[i, j] = half * (d_z[i, j] * epsilon[i, j] * sigma + excess)


# ------------------------------------------------------------------ optimizers.py

ADAM, ADAMAX, RMSPROP, SGD, NO_STEP = range(5)  # the last: gradients are all that is wanted
OPTIMIZERS = {"adam": ADAM, "adamax": ADAMAX, "rmsprop": RMSPROP, "sgd": SGD}


@jit
def step_numbers(kind: int, t: int, rate: float, settings: Any) -> Any:
    """What step t has in common for all parameters: three decays, the step and its correction.

    As (keep and new for the first moment, keep and new for the second, step, root, eps): the
    corrections of the bias are divided out of the loops, where one root and one division are left.
    """
    if kind in (ADAM, ADAMAX):
        beta1, beta2, eps = settings[0], settings[1], settings[2]
        step, root = rate / (1 - beta1**t), 1 / math.sqrt(1 - beta2**t)
        return beta1, 1 - beta1, beta2, 1 - beta2, step, root, eps
    if kind == RMSPROP:
        return 0.0, 1.0, settings[0], 1 - settings[0], rate, 1.0, settings[1]
    return settings[0], 1.0, 0.0, 1.0, rate, 1.0, 0.0


@jit
def optimizer_step(
    kind: int, theta: Array, gradient: Array, first: Array, second: Array, numbers: Any
) -> None:
    """One step of the optimizer of this kind; its state is `first`, and `second` if it has two."""
    number = theta.dtype.type
    b1, c1, b2, c2 = number(numbers[0]), number(numbers[1]), number(numbers[2]), number(numbers[3])
    step, root, eps = number(numbers[4]), number(numbers[5]), number(numbers[6])
    for i in range(theta.shape[0]):
        g = gradient[i]
        if kind == ADAM:
            m = b1 * first[i] + c1 * g
            v = b2 * second[i] + c2 * g * g
            first[i] = m  # kept in a variable: read back from memory, it is 2.7 times slower
            second[i] = v
            theta[i] -= step * m / (np.sqrt(v) * root + eps)
        elif kind == ADAMAX:
            m = b1 * first[i] + c1 * g
            decayed, size = b2 * second[i], abs(g) + eps
            u = size if not size <= decayed else decayed  # so that NaN stays NaN
            first[i] = m
            second[i] = u
            theta[i] -= step * m / u
        elif kind == RMSPROP:
            v = b2 * first[i] + c2 * g * g
            first[i] = v
            theta[i] -= step * g / (np.sqrt(v) + eps)
        else:
            velocity = b1 * first[i] + g
            first[i] = velocity
            theta[i] -= step * velocity
