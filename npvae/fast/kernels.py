"""How is the arithmetic between the matrix products made fast?

NumPy computes max(y + b, 0) in two passes over memory; a compiled loop needs one. Each loop below
is the twin of a NumPy function that has the same name and the mark `@kernels.fused`, in the file
where the idea is explained. That function is its specification: same arguments, same results, same
changes to `out`. It is also what runs where Numba is missing or with NPVAE_BACKEND=numpy.

The products stay with NumPy's BLAS. The loops are serial on purpose: each core has a worker of its
own already (data_parallel.py), and a second pool of threads would fight for the same cores.
How the loops are compiled and cached is told in jit.py. Next: data_parallel.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npvae.core.parameters import Array
from npvae.fast.jit import fused, specialised

__all__ = ["fused"]


# ------------------------------------------------------------------ exp and log1p in float32

# LLVM turns a loop into vector instructions only if all it calls is plain arithmetic, and math.exp
# is not. These two are: short polynomials, right to 3e-7 with fused multiply-adds and to 4e-6
# without, which make the loss ten times faster.
# Only a float32 argument takes them, see `specialised`; float64, used to check, takes the real one.


def exp(a: Any) -> Any:
    """exp(a) = 2^n exp(r), n = round(a / log 2), |r| <= log(2) / 2 = 0.35.

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
    p = p * r * r + r + np.float32(1)
    return p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)  # times 2^n


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


fast_exp = specialised(exp, np.exp, math.exp)
fast_log1p = specialised(log1p, np.log1p, math.log1p)


# ------------------------------------------------------------------ the loops


# Of "fast math", Numba may fuse multiply-adds, take reciprocals, and forget the sign of a zero. It
# may not assume that there is no NaN or infinity: those must stay visible. (The flags stand here,
# and not where they are used, because what Numba has cached is good until this file changes.)
FLAGS = {"contract", "arcp", "nsz"}

# Loops that add up many numbers. Vector instructions can do so only in another order, which these
# two are allowed.
SUMS = ("bce_with_logits", "bce_and_gradient")


# datasets/batches.py: out = images[rows] / 255
def gather_pixels(images: Any, rows: Any, out: Array) -> None:
    number = out.dtype.type
    for i in range(out.shape[0]):
        row = rows[i]
        for j in range(out.shape[1]):
            out[i, j] = number(images[row, j]) / number(255)


# augmentation.py: each pixel of out from between four pixels of images[row], by a map of the plane
def warp_pixels(images: Any, rows: Any, warps: Any, out: Array) -> None:
    side = int(math.sqrt(out.shape[1]))
    centre = (side - 1) / 2
    framed = np.zeros((side + 2) * (side + 2), np.float32)  # the image in a black frame
    for n in range(out.shape[0]):
        for i in range(side):
            for j in range(side):
                framed[(i + 1) * (side + 2) + j + 1] = images[rows[n], i * side + j]
        a, b, c = warps[n, 0]
        d, e, f = warps[n, 1]
        for i in range(side):
            for j in range(side):
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
                out[n, i * side + j] = ((1 - u) * upper + u * lower) / 255


# layers.py: out = maximum(out + b, 0)
def bias_relu(out: Array, b: Array) -> None:
    zero = out.dtype.type(0)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y = out[i, j] + b[j]
            out[i, j] = zero if y < zero else y  # so that NaN stays NaN


# layers.py: out[h <= 0] = 0
def relu_backward(h: Array, out: Array) -> None:
    zero = out.dtype.type(0)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = zero if h[i, j] <= zero else out[i, j]


# layers.py: out = mu + exp(0.5 * log_var) * epsilon
def reparameterize(mu: Array, log_var: Array, epsilon: Array, out: Array) -> None:
    half = mu.dtype.type(0.5)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = mu[i, j] + fast_exp(half * log_var[i, j]) * epsilon[i, j]


# model.py: out_mu = d_z + d_kl * mu
#           out_log_var = d_z * epsilon * 0.5 * sigma + d_kl * 0.5 * (sigma^2 - 1)
#           returns kl = sum of 0.5 * (mu^2 + sigma^2 - 1 - log_var)
def latent_gradients(
    mu: Array,
    log_var: Array,
    epsilon: Array,
    d_z: Array,
    d_kl: float,
    out_mu: Array,
    out_log_var: Array,
) -> Array:
    number = mu.dtype.type
    half, one, weight = number(0.5), number(1), number(d_kl)
    kl = np.zeros(mu.shape[0], mu.dtype)
    for i in range(mu.shape[0]):
        for j in range(mu.shape[1]):
            sigma = fast_exp(half * log_var[i, j])
            excess = sigma * sigma - one
            kl[i] += half * (mu[i, j] * mu[i, j] + excess - log_var[i, j])
            out_mu[i, j] = d_z[i, j] + weight * mu[i, j]
            out_log_var[i, j] = half * (d_z[i, j] * epsilon[i, j] * sigma + weight * excess)
    return kl


# losses.py: returns the sum of softplus(logits) - x * logits
def bce_with_logits(logits: Array, x: Array) -> Array:
    zero = logits.dtype.type(0)
    bce = np.empty(logits.shape[0], logits.dtype)
    for i in range(logits.shape[0]):
        total = zero
        for j in range(logits.shape[1]):
            logit = logits[i, j]
            total += max(logit, zero) - logit * x[i, j] + fast_log1p(fast_exp(-abs(logit)))
        bce[i] = total
    return bce


# losses.py: the same, and out = d_bce * (sigmoid(logits) - x)
def bce_and_gradient(logits: Array, x: Array, d_bce: float, out: Array) -> Array:
    number = logits.dtype.type
    zero, one, weight = number(0), number(1), number(d_bce)
    bce = np.empty(logits.shape[0], logits.dtype)
    for i in range(logits.shape[0]):
        total = zero
        for j in range(logits.shape[1]):
            logit = logits[i, j]
            e = fast_exp(-abs(logit))
            total += max(logit, zero) - logit * x[i, j] + fast_log1p(e)
            x_hat = (e if logit < zero else one) / (one + e)
            out[i, j] = weight * (x_hat - x[i, j])
        bce[i] = total
    return bce


# optimizers.py: m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g^2
#                theta -= learning_rate * m_hat / (sqrt(v_hat) + eps)
def adam_step(
    theta: Array,
    gradient: Array,
    m: Array,
    v: Array,
    t: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    # The corrections of the bias are divided out of the loop: one root and one division are left.
    number = theta.dtype.type
    b1, b2, c1, c2 = number(beta1), number(beta2), number(1 - beta1), number(1 - beta2)
    rate = number(learning_rate / (1 - beta1**t))
    root = number(1 / math.sqrt(1 - beta2**t))
    small = number(eps)
    for i in range(theta.shape[0]):
        g = gradient[i]
        new_m = b1 * m[i] + c1 * g
        new_v = b2 * v[i] + c2 * g * g
        m[i] = new_m  # kept in a variable: read back from memory, it is 2.7 times slower
        v[i] = new_v
        theta[i] -= rate * new_m / (np.sqrt(new_v) * root + small)
