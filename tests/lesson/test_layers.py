"""Layers: small numbers worked out by hand."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from npvae.core.parameters import Array, NamedArrays
from npvae.layers import (
    ACTIVATIONS,
    MLP,
    Dense,
    reparameterize,
    reparameterize_backward,
)


def dense(dtype: Any = float) -> tuple[Dense, NamedArrays]:
    """W = [[1, -2], [3, 4], [5, -6]], b = [10, -20], and where its gradients go."""
    parameters = NamedArrays({"it.W": (3, 2), "it.b": (2,)}, dtype)
    parameters.flat[:] = [1, -2, 3, 4, 5, -6, 10, -20]
    gradients = parameters.copy()
    gradients.flat[:] = np.nan  # so that what is not overwritten shows
    return Dense(parameters, gradients, "it"), gradients


X = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
D_Y = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_dense_by_hand() -> None:
    layer, gradients = dense()
    np.testing.assert_array_equal(layer.forward(X), [[21, -34], [8, -10]])
    for _ in range(2):  # gradients are overwritten, not added up
        np.testing.assert_array_equal(layer.backward(X, D_Y), [[-3, 11, -7], [-5, 25, -9]])
    np.testing.assert_array_equal(gradients["it.W"], [[1, 2], [3, 4], [-1, 0]])  # X.T @ d_y
    np.testing.assert_array_equal(gradients["it.b"], [4, 6])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense_answers_in_its_dtype_and_changes_only_its_gradients(dtype: Any) -> None:
    layer, gradients = dense(dtype)
    x, d_y = X.astype(dtype), D_Y.astype(dtype)
    before = [array.copy() for array in (x, d_y, layer.W, layer.b)]
    assert layer.forward(x).dtype == layer.backward(x, d_y).dtype == dtype
    assert gradients.flat.dtype == dtype
    for now, then in zip((x, d_y, layer.W, layer.b), before, strict=True):
        np.testing.assert_array_equal(now, then)


# ------------------------------------------------------------------ what each activation is


class Definition(NamedTuple):
    """What an activation should be, written down a second time."""

    below: Callable[[float], float]  # h for y < 0
    above: Callable[[float], float]  # h for y > 0
    slope_below: Callable[[float], float]
    slope_above: Callable[[float], float]
    slope_at_0: float  # which the docstring states; h is 0 there


DEFINITIONS = {
    "relu": Definition(lambda y: 0, lambda y: y, lambda y: 0, lambda y: 1, 0),
    "leaky_relu": Definition(lambda y: y / 100, lambda y: y, lambda y: 0.01, lambda y: 1, 0.01),
    "elu": Definition(math.expm1, lambda y: y, math.exp, lambda y: 1, 1),
    "tanh": Definition(
        math.tanh, math.tanh, lambda y: math.cosh(y) ** -2, lambda y: math.cosh(y) ** -2, 1
    ),
}
activations = pytest.mark.parametrize("name", ACTIVATIONS)  # yours, too
defined = pytest.mark.parametrize("name", DEFINITIONS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def bent(name: str, values: Any, dtype: Any = float) -> tuple[Array, Array]:
    """h and its slope at each y; neither argument of the two functions changes."""
    y, d_h = np.array([values], dtype), np.ones((1, len(values)), dtype)
    h = ACTIVATIONS[name].forward(y)
    slope = ACTIVATIONS[name].backward(y, d_h)
    np.testing.assert_array_equal(y, np.array([values], dtype))
    np.testing.assert_array_equal(d_h, 1)
    return h[0], slope[0]


# exp(-2), tanh(2) and so on, from tables
BY_HAND = {  # h at -2 and 2, slope at -2 and 2
    "relu": (0, 2, 0, 1),
    "leaky_relu": (-0.02, 2, 0.01, 1),
    "elu": (-0.8646647167633873, 2, 0.1353352832366127, 1),
    "tanh": (-0.9640275800758169, 0.9640275800758169, 0.07065082485316443, 0.07065082485316443),
}


@defined
def test_activations_by_hand(name: str) -> None:
    h, slope = bent(name, [-2, 2])
    np.testing.assert_allclose([*h, *slope], BY_HAND[name], rtol=1e-14)


@dtypes
@defined
def test_activations_are_what_they_are_called(name: str, dtype: Any) -> None:
    it, y = DEFINITIONS[name], np.array([-2, -1e-3, 0, 1e-3, 2], dtype)
    expected = [*map(it.below, y[:2].astype(float)), 0, *map(it.above, y[3:].astype(float))]
    slopes = [*map(it.slope_below, y[:2]), it.slope_at_0, *map(it.slope_above, y[3:])]
    h, slope = bent(name, y, dtype)
    assert h.dtype == slope.dtype == dtype
    near = 4 * float(np.finfo(dtype).eps)  # exp, tanh and a few roundings
    np.testing.assert_allclose(h, expected, rtol=near, atol=0)
    np.testing.assert_allclose(slope, slopes, rtol=near, atol=0)


@defined
def test_the_slope_at_the_kink_is_the_one_stated(name: str) -> None:
    y, d_h = np.array([[0.0, -0.0, 0.0]]), np.array([[-1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(ACTIVATIONS[name].forward(y), 0)
    d_y = ACTIVATIONS[name].backward(y, d_h)
    np.testing.assert_array_equal(d_y, DEFINITIONS[name].slope_at_0 * d_h)


@activations
def test_slopes_just_left_and_right_of_the_kink(name: str) -> None:
    """One-sided differences, between 1e-6 and 2e-6 of either side."""
    y = np.array([-2e-6, -1e-6, 1e-6, 2e-6])
    h, slope = bent(name, y)
    left, right = (h[1] - h[0]) / 1e-6, (h[3] - h[2]) / 1e-6
    # The slope changes by up to 2e-6 on the way; rounding, 1e-22 / 1e-6, is nothing.
    np.testing.assert_allclose(slope, [left, left, right, right], rtol=0, atol=3e-6)
    at_0 = bent(name, [0])[1][0]
    assert min(abs(at_0 - left), abs(at_0 - right)) < 3e-6  # one of the two


@dtypes
@activations
def test_far_out_everything_is_finite(name: str, dtype: Any) -> None:
    """And silent: warnings are errors here."""
    h, slope = bent(name, [-1e4, 1e4], dtype)
    assert h.dtype == slope.dtype == dtype
    assert np.isfinite([h, slope]).all()


@dtypes
@defined
def test_far_out_activations_are_right(name: str, dtype: Any) -> None:
    it, far = DEFINITIONS[name], 1e4
    h, slope = bent(name, [-far, far], dtype)
    rtol = 2 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(h, [it.below(-far), it.above(far)], rtol=rtol)
    slopes = (0, 0) if name == "tanh" else (it.slope_below(-far), 1)
    np.testing.assert_allclose(slope, slopes, rtol=rtol)


@activations
def test_what_is_no_number_stays_none(name: str) -> None:
    with np.errstate(invalid="ignore"):  # such as np.logaddexp warns of
        h, _ = bent(name, [-1, math.nan, 1])
    np.testing.assert_array_equal(np.isnan(h), [False, True, False])
    d_y = ACTIVATIONS[name].backward(np.array([[1.0, 1.0, 2.0]]), np.array([[1.0, math.nan, 1.0]]))
    np.testing.assert_array_equal(np.isnan(d_y), [[False, True, False]])


# ------------------------------------------------------------------ several layers, and the draw


def three_layers() -> tuple[MLP, NamedArrays, NamedArrays]:
    shapes: dict[str, tuple[int, ...]] = {}
    for k, (n_in, n_out) in enumerate([(4, 3), (3, 5), (5, 2)]):
        shapes |= {f"layer{k}.W": (n_in, n_out), f"layer{k}.b": (n_out,)}
    parameters = NamedArrays(shapes, float)
    parameters.flat[:] = np.random.default_rng(1).normal(0, 1, parameters.flat.shape)
    gradients = parameters.copy()
    layers = [Dense(parameters, gradients, f"layer{k}") for k in range(3)]
    return MLP(layers, ACTIVATIONS["relu"]), parameters, gradients


def test_an_mlp_is_its_layers_one_after_the_other() -> None:
    mlp, parameters, gradients = three_layers()
    x = np.random.default_rng(2).normal(0, 1, (7, 4))
    d_h: Array = np.ones((7, 2))
    y: list[Array] = []
    h = [x]
    for k in range(3):
        y.append(h[-1] @ parameters[f"layer{k}.W"] + parameters[f"layer{k}.b"])
        h.append(np.maximum(y[-1], 0))
    for ours, by_hand in zip(mlp.forward(x), (y, h[1:]), strict=True):
        for a, b in zip(ours, by_hand, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)

    d_x = mlp.backward(x, y, h[1:], d_h)
    for k in (2, 1, 0):
        d_y = d_h * (y[k] > 0)
        np.testing.assert_allclose(gradients[f"layer{k}.W"], h[k].T @ d_y, rtol=1e-13)
        np.testing.assert_allclose(gradients[f"layer{k}.b"], d_y.sum(0), rtol=1e-13)
        d_h = d_y @ parameters[f"layer{k}.W"].T
    np.testing.assert_allclose(d_x, d_h, rtol=1e-13)


def test_reparameterize_by_hand() -> None:
    mu, epsilon = np.array([[1.0, 2.0]]), np.array([[0.5, -3.0]])
    log_var = np.log([[4.0, 9.0]])  # sigma 2 and 3
    np.testing.assert_allclose(reparameterize(mu, log_var, epsilon), [[2, -7]], rtol=1e-14)
    d_mu, d_log_var = reparameterize_backward(np.array([[10.0, 100.0]]), log_var, epsilon)
    np.testing.assert_array_equal(d_mu, [[10, 100]])
    np.testing.assert_allclose(d_log_var, [[5, -450]], rtol=1e-14)  # d_z epsilon sigma / 2
