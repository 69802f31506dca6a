"""Layers: small numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array, NamedArrays
from npvae.layers import ACTIVATIONS, MLP, Dense, reparameterize, reparameterize_backward

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def dense(dtype: Any = float) -> tuple[Dense, NamedArrays]:
    """W = [[1, -2], [3, 4], [5, -6]], b = [10, -20], and where its gradients go."""
    parameters = NamedArrays({"it.W": (3, 2), "it.b": (2,)}, dtype)
    parameters.flat[:] = [1, -2, 3, 4, 5, -6, 10, -20]
    gradients = parameters.copy()
    gradients.flat[:] = np.nan  # so that what is not overwritten shows
    return Dense(parameters, gradients, "it"), gradients


X = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
D_Y = np.array([[1.0, 2.0], [3.0, 4.0]])


@dtypes
def test_dense_by_hand(dtype: Any) -> None:
    """It changes its gradients, which are overwritten and not added up, and nothing else."""
    layer, gradients = dense(dtype)
    x, d_y = X.astype(dtype), D_Y.astype(dtype)
    for _ in range(2):
        y, d_x = layer.forward(x), layer.backward(x, d_y)
        np.testing.assert_array_equal(y, [[21, -34], [8, -10]])
        np.testing.assert_array_equal(d_x, [[-3, 11, -7], [-5, 25, -9]])
    np.testing.assert_array_equal(gradients["it.W"], [[1, 2], [3, 4], [-1, 0]])  # X.T @ d_y
    np.testing.assert_array_equal(gradients["it.b"], [4, 6])
    assert y.dtype == d_x.dtype == gradients.flat.dtype == dtype
    for now, then in ((x, X), (d_y, D_Y), (layer.W, dense()[0].W), (layer.b, dense()[0].b)):
        np.testing.assert_array_equal(now, then)


# ------------------------------------------------------------------ what each activation is

# exp(-2), tanh(2) and so on, from tables; at the kink the slope that the docstring states.
Y = [-1e4, -2, -1e-3, 0, 2, 1e4]
BY_HAND: dict[str, tuple[list[float], list[float]]] = {  # h and slope at each y
    "relu": ([0, 0, 0, 0, 2, 1e4], [0, 0, 0, 0, 1, 1]),
    "leaky_relu": ([-100, -0.02, -1e-5, 0, 2, 1e4], [0.01, 0.01, 0.01, 0.01, 1, 1]),
    "elu": (
        [-1, -0.8646647167633873, -0.0009995001666250083, 0, 2, 1e4],
        [0, 0.1353352832366127, 0.999000499833375, 1, 1, 1],
    ),
    "tanh": (
        [-1, -0.9640275800758169, -0.00099999966666680, 0, 0.9640275800758169, 1],
        [0, 0.07065082485316447, 0.9999990000006667, 1, 0.07065082485316447, 0],
    ),
}
activations = pytest.mark.parametrize("name", ACTIVATIONS)  # yours, too


def bent(name: str, values: Any, dtype: Any = float) -> tuple[Array, Array]:
    """h and its slope at each y; neither argument of the two functions changes."""
    y, d_h = np.array([values], dtype), np.array([np.arange(-2, len(values) - 2) + 0.5], dtype)
    given = y.copy(), d_h.copy()
    h, d_y = ACTIVATIONS[name].forward(y), ACTIVATIONS[name].backward(y, d_h)
    np.testing.assert_array_equal((y, d_h), given)
    assert h.dtype == d_y.dtype == dtype
    return h[0], (d_y / d_h)[0]


@dtypes
@pytest.mark.parametrize("name", BY_HAND)
def test_activations_by_hand(name: str, dtype: Any) -> None:
    near = 4 * float(np.finfo(dtype).eps)  # exp, tanh and a few roundings
    for found, expected in zip(bent(name, Y, dtype), BY_HAND[name], strict=True):
        np.testing.assert_allclose(found, expected, rtol=near, atol=0)


@activations
def test_slopes_just_left_and_right_of_the_kink(name: str) -> None:
    """One-sided differences, between 1e-6 and 2e-6 of either side."""
    h, slope = bent(name, [-2e-6, -1e-6, 1e-6, 2e-6])
    left, right = (h[1] - h[0]) / 1e-6, (h[3] - h[2]) / 1e-6
    # The slope changes by up to 2e-6 on the way; rounding, 1e-22 / 1e-6, is nothing.
    np.testing.assert_allclose(slope, [left, left, right, right], rtol=0, atol=3e-6)
    at_0 = bent(name, [0, -0.0])[1]
    assert at_0[0] == at_0[1]
    assert min(abs(at_0[0] - left), abs(at_0[0] - right)) < 3e-6  # one of the two


@dtypes
@activations
def test_far_out_everything_is_finite(name: str, dtype: Any) -> None:
    """And silent: warnings are errors here."""
    assert np.isfinite(bent(name, [-1e4, 1e4], dtype)).all()


@activations
def test_a_nan_stays_one(name: str) -> None:
    with np.errstate(invalid="ignore"):  # such as np.logaddexp warns of
        h = ACTIVATIONS[name].forward(np.array([[-1, math.nan, 1]]))
    np.testing.assert_array_equal(np.isnan(h), [[False, True, False]])
    d_y = ACTIVATIONS[name].backward(np.array([[1.0, 1.0, 2.0]]), np.array([[1.0, math.nan, 1.0]]))
    np.testing.assert_array_equal(np.isnan(d_y), [[False, True, False]])


# ------------------------------------------------------------------ several layers, and the draw


def test_an_mlp_is_its_layers_one_after_the_other() -> None:
    """Its backward is compared with differences by the gradient check."""
    parameters = NamedArrays({"a.W": (4, 3), "a.b": (3,), "b.W": (3, 2), "b.b": (2,)}, float)
    parameters.flat[:] = np.random.default_rng(1).normal(0, 1, parameters.flat.shape)
    layers = [Dense(parameters, parameters.copy(), name) for name in "ab"]
    x = np.random.default_rng(2).normal(0, 1, (7, 4))
    y, h = MLP(layers, ACTIVATIONS["relu"]).forward(x)
    np.testing.assert_allclose(y[0], x @ parameters["a.W"] + parameters["a.b"], rtol=1e-14)
    np.testing.assert_array_equal(h[0], np.maximum(y[0], 0))
    np.testing.assert_allclose(y[1], h[0] @ parameters["b.W"] + parameters["b.b"], rtol=1e-14)
    np.testing.assert_array_equal(h[1], np.maximum(y[1], 0))


def test_reparameterize_by_hand() -> None:
    mu, epsilon = np.array([[1.0, 2.0]]), np.array([[0.5, -3.0]])
    log_var = np.log([[4.0, 9.0]])  # sigma 2 and 3
    np.testing.assert_allclose(reparameterize(mu, log_var, epsilon), [[2, -7]], rtol=1e-14)
    d_mu, d_log_var = reparameterize_backward(np.array([[10.0, 100.0]]), log_var, epsilon)
    np.testing.assert_array_equal(d_mu, [[10, 100]])
    np.testing.assert_allclose(d_log_var, [[5, -450]], rtol=1e-14)  # d_z epsilon sigma / 2
