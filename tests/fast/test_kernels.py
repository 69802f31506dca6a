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

DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def normal(dtype: str, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def assert_near(found: Array, expected: Array) -> None:
    """A few roundings of numbers near 1; in float32, polynomials that are right to 4e-6."""
    assert found.dtype == expected.dtype
    near = 16 * float(np.finfo(found.dtype).eps)
    near = max(near, 1e-5) if found.dtype == np.float32 else near
    np.testing.assert_allclose(found, expected, rtol=near, atol=near)


# ------------------------------------------------------------------ images


@DTYPES
def test_gather_pixels(dtype: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 5), np.uint8)
    indices, out = np.array([3, 0, 8, 3]), np.full((4, 6), 7, dtype)
    kernels.gather_pixels(images, indices, 0, 5, out)
    np.testing.assert_array_equal(out[:, :5], to_pixels(images[indices], dtype))
    assert (out[:, 5] == 7).all()  # the column of a class
    kernels.gather_pixels(images, indices, 2, 3, out)  # some of the pixels
    np.testing.assert_array_equal(out[:, :3], to_pixels(images[indices], dtype)[:, 2:])


@DTYPES
def test_warp_pixels(dtype: str) -> None:
    """Pixels of every colour, moved anywhere, and often beyond the edge."""
    rng = np.random.default_rng(0)
    images, indices = rng.integers(0, 256, (9, 25), np.uint8), np.array([3, 0, 8, 3])
    warps, out = rng.normal(size=(4, 2, 3)), np.empty((4, 25), dtype)
    framed = np.zeros(49, np.float32)
    kernels.warp_pixels(images, indices, warps, 0, 25, framed, out)
    expected = warp(images[indices], warps, dtype)
    assert_near(out, expected)
    for first, last in ((0, 3), (3, 12), (5, 10), (11, 25), (24, 25)):  # some of the pixels
        some = np.empty((4, last - first), dtype)
        kernels.warp_pixels(images, indices, warps, first, last - first, framed, some)
        np.testing.assert_array_equal(some, out[:, first:last])


@DTYPES
def test_one_hot(dtype: str) -> None:
    labels, indices, out = (
        np.array([2, 0, 1], np.uint8),
        np.array([2, 0]),
        np.full((2, 5), 7, dtype),
    )
    kernels.one_hot(labels, indices, 2, out)
    np.testing.assert_array_equal(out, [[7, 7, 0, 1, 0], [7, 7, 0, 0, 1]])
    kernels.one_hot(np.zeros(0, np.uint8), indices, 5, out)  # no classes, no columns


# ------------------------------------------------------------------ layers


@DTYPES
@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activations(name: str, dtype: str) -> None:
    product, b, d_h = normal(dtype, 6, 7) * 3, normal(dtype, 7), normal(dtype, 6, 7, seed=1)
    y = product + b
    kernels.bias_activation(kernels.ACTIVATIONS[name], b, product)
    assert_near(product, ACTIVATIONS[name].forward(y))
    expected = ACTIVATIONS[name].backward(y, d_h)
    kernels.activation_backward(kernels.ACTIVATIONS[name], product, d_h)
    assert_near(d_h, expected)


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_at_the_kink_the_slope_is_that_of_the_lesson(name: str) -> None:
    h, d_h = np.zeros((1, 1)), np.ones((1, 1))
    kernels.activation_backward(kernels.ACTIVATIONS[name], h, d_h)
    assert d_h == ACTIVATIONS[name].backward(np.zeros((1, 1)), np.ones((1, 1)))


@DTYPES
def test_sums_over_the_batch(dtype: str) -> None:
    d_y, out = normal(dtype, 6, 7), normal(dtype, 7)
    kernels.sum_rows(d_y, False, out)
    assert_near(out, d_y.sum(axis=0))
    kernels.sum_rows(d_y, True, out)
    assert_near(out, 2 * d_y.sum(axis=0))
    y, b = normal(dtype, 6, 7), normal(dtype, 7)
    expected = y + b
    kernels.bias_activation(kernels.NONE, b, y)
    assert_near(y, expected)


# ------------------------------------------------------------------ latents and losses


@DTYPES
def test_reparameterize_and_kl(dtype: str) -> None:
    mu, log_var, epsilon = (normal(dtype, 6, 3, seed=seed) for seed in range(3))
    z = np.full((6, 5), 7, dtype)
    kl = kernels.reparameterize(mu, log_var, epsilon, z)
    assert_near(z[:, :3], reparameterize(mu, log_var, epsilon))
    assert (z[:, 3:] == 7).all()
    assert kl == pytest.approx(float(kl_divergence(mu, log_var).sum()), rel=1e-6)


@DTYPES
def test_latent_gradients(dtype: str) -> None:
    mu, log_var, epsilon, d_z = (normal(dtype, 6, 3, seed=seed) for seed in range(4))
    d_mu, d_log_var = np.empty_like(mu), np.empty_like(mu)
    kernels.latent_gradients(mu, log_var, epsilon, d_z, 0.3, d_mu, d_log_var)
    through_z = reparameterize_backward(d_z, log_var, epsilon)
    through_kl = kl_divergence_backward(dtype_of(0.3, dtype), mu, log_var)
    assert_near(d_mu, through_z[0] + through_kl[0])
    assert_near(d_log_var, through_z[1] + through_kl[1])


def dtype_of(value: float, dtype: str) -> Any:
    return np.dtype(dtype).type(value)


@DTYPES
def test_bce_and_its_gradient_at_any_logit(dtype: str) -> None:
    """Also at logits of +-1000, where exp would overflow."""
    product, b = normal(dtype, 8, 9) * 5, normal(dtype, 9)
    product[0], product[1, 0] = 1000, -1000
    x = np.random.default_rng(1).random((8, 10)).astype(dtype)
    out = np.empty_like(product)
    bce = kernels.bce_and_gradient(product, b, x, 0.25, out, np.empty_like(b))
    logits = product + b
    assert bce == pytest.approx(float(bce_with_logits(logits, x[:, :9]).sum()), rel=1e-6)
    assert_near(out, bce_with_logits_backward(dtype_of(0.25, dtype), logits, x[:, :9]))
    assert np.isfinite(out).all()
    assert sigmoid(logits)[0, 0] == 1


# ------------------------------------------------------------------ optimizers


@DTYPES
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


def test_add() -> None:
    out = np.array([1.0, 2.0])
    kernels.add(np.array([0.5, -1.0]), out)
    np.testing.assert_array_equal(out, [1.5, 1.0])


# ------------------------------------------------------------------ exp and its relatives

RANGES: dict[str, tuple[float, float, float]] = {
    "exp": (-87, 88, 4e-7),
    "expm1": (-87, 88, 4e-7),
    "log1p": (1e-9, 1, 3e-7),
    "tanh": (-20, 20, 4e-7),
}


@pytest.mark.skipif(bool(jit.WHY_NOT), reason=f"about compiled loops: {jit.WHY_NOT}")
@pytest.mark.parametrize("name", RANGES)
def test_compiled_in_float32_it_is_right_to_a_few_roundings(name: str) -> None:
    """And relative to the result: near 0, expm1 and tanh keep their digits."""
    low, high, near = RANGES[name]
    compiled: Any = pytest.importorskip("numba").njit(**jit.OPTIONS)
    function = getattr(kernels, name)

    def apply(a: Array, out: Array) -> None:
        for i in range(len(a)):
            out[i] = function(a[i])

    a = np.linspace(low, high, 100_001, dtype=np.float32)
    small = np.geomspace(1e-9, 1, 1001, dtype=np.float32)
    a = np.concatenate([a, small, -small] if low < 0 else [a, small])
    out = np.empty_like(a)
    compiled(apply)(a, out)
    exact = getattr(np, name)(a.astype(float))
    np.testing.assert_allclose(out, exact, rtol=near, atol=1e-38)


def test_as_plain_python_too() -> None:
    """Without fused multiply-adds the reduction by n log 2 costs |a| * 6e-8."""
    if not jit.WHY_NOT:
        pytest.skip("then these are compiled")
    a = np.linspace(-87, 88, 1001, dtype=np.float32)
    exp = np.array([kernels.exp(value) for value in a])
    assert (np.abs(exp / np.exp(a.astype(float)) - 1) < 1e-7 + 6e-8 * np.abs(a)).all()
    assert exp.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_ends_of_exp(bad: float) -> None:
    with np.errstate(invalid="ignore"):
        found = kernels.exp(np.float32(bad))
    assert np.isnan(found) if np.isnan(bad) else found == np.inf if bad > 0 else found < 2e-38
