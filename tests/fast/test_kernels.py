"""Each loop of the engine computes the same as the function of the lesson that it stands for.

Here they run as plain Python, also where nothing can be compiled. Compiled, they are compared in
tests/test_lesson_and_engine.py, all together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.datasets.augmentation import warp
from npvae.datasets.minibatches import to_pixels
from npvae.fast import jit, kernels
from npvae.layers import ACTIVATIONS, reparameterize, reparameterize_backward
from npvae.losses import (
    bce_with_logits,
    bce_with_logits_backward,
    kl_divergence,
    kl_divergence_backward,
    sigmoid,
)
from npvae.optimizers import OPTIMIZERS


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def normal(dtype: str, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def number(value: float, dtype: str) -> Any:
    return np.dtype(dtype).type(value)


def assert_near(found: Array, expected: Array) -> None:
    """A few roundings of numbers near 1; in float32, polynomials that are right to 4e-6."""
    assert found.dtype == expected.dtype
    near = 16 * float(np.finfo(found.dtype).eps)
    near = max(near, 1e-5) if found.dtype == np.float32 else near
    np.testing.assert_allclose(found, expected, rtol=near, atol=near)


# ------------------------------------------------------------------ images


def test_gather_pixels(dtype: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 5), np.uint8)
    indices, out = np.array([3, 0, 8, 3]), np.full((4, 6), 7, dtype)
    kernels.gather_pixels(images, indices, 0, 5, out)
    np.testing.assert_array_equal(out[:, :5], to_pixels(images[indices], dtype))
    assert (out[:, 5] == 7).all()  # the column of a class
    kernels.gather_pixels(images, indices, 2, 3, out)  # some of the pixels
    np.testing.assert_array_equal(out[:, :3], to_pixels(images[indices], dtype)[:, 2:])


def test_warp_pixels(dtype: str) -> None:
    """Pixels of every colour, moved anywhere, and often beyond the edge."""
    rng = np.random.default_rng(0)
    images, indices = rng.integers(0, 256, (9, 25), np.uint8), np.array([3, 0, 8, 3])
    warps, out = rng.normal(size=(4, 2, 3)), np.empty((4, 25), dtype)
    framed = np.zeros(49, np.float32)
    kernels.warp_pixels(images, indices, warps, 0, 25, framed, out)
    assert_near(out, warp(images[indices], warps, dtype))
    for first, last in ((0, 3), (3, 12), (5, 10), (11, 25), (24, 25)):  # some of the pixels
        some = np.empty((4, last - first), dtype)
        kernels.warp_pixels(images, indices, warps, first, last - first, framed, some)
        np.testing.assert_array_equal(some, out[:, first:last])


def test_one_hot(dtype: str) -> None:
    labels, indices = np.array([2, 0, 1], np.uint8), np.array([2, 0])
    out = np.full((2, 5), 7, dtype)
    kernels.one_hot(labels, indices, 2, out)
    np.testing.assert_array_equal(out, [[7, 7, 0, 1, 0], [7, 7, 0, 0, 1]])
    kernels.one_hot(np.zeros(0, np.uint8), indices, 5, out)  # no classes, no columns


# ------------------------------------------------------------------ layers


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activations(name: str, dtype: str) -> None:
    """Also at 0, where some have a kink."""
    product, b, d_h = normal(dtype, 6, 7) * 3, normal(dtype, 7), normal(dtype, 6, 7, seed=1)
    product[0] = -b
    y = product + b
    kernels.bias_activation(kernels.ACTIVATIONS[name], b, product)
    assert_near(product, ACTIVATIONS[name].forward(y))
    expected = ACTIVATIONS[name].backward(y, d_h)
    kernels.activation_backward(kernels.ACTIVATIONS[name], product, d_h)
    assert_near(d_h, expected)


def test_sums(dtype: str) -> None:
    d_y, out = normal(dtype, 6, 7), normal(dtype, 7)
    kernels.sum_rows(d_y, False, out)
    assert_near(out, d_y.sum(axis=0))
    kernels.sum_rows(d_y, True, out)
    assert_near(out, 2 * d_y.sum(axis=0))
    kernels.add(-out, out)
    assert not out.any()
    y, b = normal(dtype, 6, 7), normal(dtype, 7)
    expected = y + b
    kernels.bias_activation(kernels.NONE, b, y)
    assert_near(y, expected)


# ------------------------------------------------------------------ latents and losses


def test_latents_kl_and_their_gradients(dtype: str) -> None:
    mu, log_var, epsilon, d_z = (normal(dtype, 6, 3, seed=seed) for seed in range(4))
    z, d_mu, d_log_var = np.full((6, 5), 7, dtype), np.empty_like(mu), np.empty_like(mu)
    kl = kernels.reparameterize(mu, log_var, epsilon, z)
    assert_near(z[:, :3], reparameterize(mu, log_var, epsilon))
    assert (z[:, 3:] == 7).all()
    assert kl == pytest.approx(float(kl_divergence(mu, log_var).sum()), rel=1e-6)
    kernels.latent_gradients(mu, log_var, epsilon, d_z, 0.3, d_mu, d_log_var)
    through_z = reparameterize_backward(d_z, log_var, epsilon)
    through_kl = kl_divergence_backward(number(0.3, dtype), mu, log_var)
    assert_near(d_mu, through_z[0] + through_kl[0])
    assert_near(d_log_var, through_z[1] + through_kl[1])


def test_bce_and_its_gradient_at_any_logit(dtype: str) -> None:
    """Also at logits of +-1000, where exp would overflow."""
    product, b = normal(dtype, 8, 9) * 5, normal(dtype, 9)
    product[0], product[1, 0] = 1000, -1000
    x = np.random.default_rng(1).random((8, 10)).astype(dtype)
    out = np.empty_like(product)
    bce = kernels.bce_and_gradient(product, b, x, 0.25, out, np.empty_like(b))
    logits = product + b
    assert bce == pytest.approx(float(bce_with_logits(logits, x[:, :9]).sum()), rel=1e-6)
    assert_near(out, bce_with_logits_backward(number(0.25, dtype), logits, x[:, :9]))
    assert np.isfinite(out).all()
    assert sigmoid(logits)[0, 0] == 1


@pytest.mark.parametrize("name", kernels.OPTIMIZERS)
def test_optimizers(name: str, dtype: str) -> None:
    theta, g, other = (normal(dtype, 30, seed=seed) for seed in range(3))
    rule, expected = OPTIMIZERS[name](0.1), theta.copy()
    settings = [v for k, v in rule.settings.items() if k not in ("name", "learning_rate", "t")]
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, 4):
        rule.update({"theta": expected}, {"theta": g})
        kind = kernels.OPTIMIZERS[name]
        numbers = kernels.step_numbers(kind, t, 0.1, np.array(settings))
        kernels.optimizer_step(kind, theta, g, first, second, numbers)
        g, other = other, -g
    assert_near(theta, expected)
    for found, arrays in zip((first, second), rule.state.values(), strict=False):
        assert_near(found, arrays["theta"])


# ------------------------------------------------------------------ exp and its relatives

# Where each is tried, and how near it has to be.
RANGES = {
    "exp": (-87, 88, 4e-7),
    "expm1": (-87, 88, 4e-7),
    "tanh": (-20, 20, 4e-7),
    "log1p": (1e-9, 1, 3e-7),
}


def test_exp_and_its_relatives_are_right_to_a_few_roundings_in_float32() -> None:
    """And relative to the result: near 0, expm1 and tanh keep their digits.

    As plain Python, without fused multiply-adds, the reduction by n log 2 costs |a| * 6e-8.
    """

    def apply(a: Array, out: Array) -> None:
        for i in range(a.shape[1]):
            out[0, i] = kernels.exp(a[0, i])
            out[1, i] = kernels.expm1(a[1, i])
            out[2, i] = kernels.tanh(a[2, i])
            out[3, i] = kernels.log1p(a[3, i])

    run: Any = apply
    count, reduction = 1001, 6e-8
    if not jit.WHY_NOT:
        import numba

        run, count, reduction = numba.njit(**jit.OPTIONS)(apply), 100_001, 0.0
    small = np.geomspace(1e-9, 1, 1001)
    rows = [[*np.linspace(low, high, count), *small, *-small] for low, high, _ in RANGES.values()]
    a = np.array(rows, np.float32)
    a[3] = np.abs(a[3])
    out = np.empty_like(a)
    run(a, out)
    for (name, (*_, near)), given, found in zip(RANGES.items(), a.astype(float), out, strict=True):
        exact = getattr(np, name)(given)
        allowed = (near + reduction * np.abs(given)) * np.abs(exact) + 1e-38
        assert (np.abs(found - exact) <= allowed).all(), name


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_ends_of_exp(bad: float) -> None:
    with np.errstate(invalid="ignore"):
        found = kernels.exp(np.float32(bad))
    assert np.isnan(found) if np.isnan(bad) else found == np.inf if bad > 0 else found < 2e-38
