"""Optimizers: steps worked out by hand, and the properties their papers promise."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array, NamedArrays
from npvae.optimizers import OPTIMIZERS, SGD, Adam, Adamax, RMSProp
from tests.helpers import refused

Kind = type[Optimizer]
every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)  # yours, too
with_state = pytest.mark.parametrize("kind", [k for k in OPTIMIZERS.values() if k.state_names])


def steps(optimizer: Optimizer, *gradients: float) -> list[float]:
    """Where one parameter is after each step, from 1."""
    theta, seen = {"it": np.array([1.0])}, []
    for gradient in gradients:
        optimizer.update(theta, {"it": np.array([gradient])})
        seen.append(float(theta["it"][0]))
    return seen


# ------------------------------------------------------------------ steps by hand

BY_HAND: dict[str, tuple[Optimizer, list[float], list[float]]] = {
    # t = 1: m = 3/2, v = 9/4, m_hat = 3, v_hat = 9,           theta = 1 - 1/2 * 3 / (3 + 1) = 5/8
    # t = 2: m = 1/4, v = 31/16, m_hat = 1/3, v_hat = 31/7,
    #        theta = 5/8 - 1/2 * 1/3 / (2.1044171232366 + 1)
    "adam": (Adam(0.5, beta1=0.5, beta2=0.75, eps=1.0), [3, -1], [0.625, 0.5713130565093317]),
    # t = 1: m = 0.05, v = 0.00025, m_hat = 0.5, v_hat = 0.25
    # t = 2: m = 0.02, v = 0.00031225, m_hat = 2/19, v_hat = 0.156203101550775
    "adam by default": (Adam(0.1), [0.5, -0.25], [0.90000000199999996, 0.87336629870784616]),
    # 1e-9 / (1e-9 + 1e-8): eps is added outside the root, or it would be 1e-9 / sqrt(1e-18 + 1e-8),
    # and after the correction, or it would be sqrt(0.001) * 1e-9 / (sqrt(0.001) * 1e-9 + 1e-8).
    "eps of adam": (Adam(1.0), [1e-9], [1 - 1 / 11]),
    # t = 1: m = 3/2, u = max(0, 3 + 1) = 4,  theta = 1 - (1/2) / (1 - 1/2) * (3/2) / 4 = 5/8
    # t = 2: m = 1/4, u = max(3, 1 + 1) = 3,  theta = 5/8 - (1/2) / (1 - 1/4) * (1/4) / 3 = 41/72
    "adamax": (Adamax(0.5, beta1=0.5, beta2=0.75, eps=1.0), [3, -1], [5 / 8, 41 / 72]),
    # t = 1: m = 0.05, u = 0.50000001,     theta = 1 - 0.1 / 0.1 * m / u
    # t = 2: m = 0.02, u = 0.49950000999,  theta = 0.900000002 - 0.1 / 0.19 * m / u
    "adamax by default": (Adamax(0.1), [0.5, -0.25], [0.90000000199999996, 0.87892629713724246]),
    # t = 1: v = 16/4 = 4,        theta = 1 - 1/2 * 4 / (2 + 1) = 1/3
    # t = 2: v = 3 + 1/4 = 13/4,  theta = 1/3 + 1/2 / (sqrt(13) / 2 + 1) = (1 + sqrt(13)) / 9
    "rmsprop": (RMSProp(0.5, decay=0.75, eps=1.0), [4, -1], [1 / 3, 0.5117279194959988]),
    # t = 1: v = 0.0025,  theta = 1 - 0.05 * 0.5 / (0.05 + 1e-8), five learning rates away
    # t = 2: v = 0.0031,  theta = 0.5000001 + 0.05 * 0.25 / (sqrt(0.0031) + 1e-8)
    "rmsprop by default": (RMSProp(0.05), [0.5, -0.25], [0.5000000999999800, 0.7245066872108752]),
    # t = 1: velocity = 3,                theta = 1 - 3/4 = 1/4
    # t = 2: velocity = 3/2 - 1 = 1/2,    theta = 1/4 - 1/8 = 1/8
    "sgd": (SGD(0.25, momentum=0.5), [3, -1], [1 / 4, 1 / 8]),
    # velocity 0.5, then 0.45 - 0.25 = 0.2
    "sgd by default": (SGD(0.1), [0.5, -0.25], [0.95, 0.93]),
    # Means without memory: a decay of 0 keeps the last gradient alone.
    "adam of now": (Adam(0.25, beta1=0, beta2=0, eps=1e-99), [2, -3], [0.75, 1]),
    "adamax of now": (Adamax(0.25, beta1=0, beta2=0, eps=1e-99), [2, -3], [0.75, 1]),
    "rmsprop of now": (RMSProp(0.25, decay=0, eps=1e-99), [2, -3], [0.75, 1]),
    "sgd of now": (SGD(0.25, momentum=0), [2, -3], [0.5, 1.25]),
}


@pytest.mark.parametrize(("optimizer", "gradients", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_steps_by_hand(optimizer: Optimizer, gradients: list[float], expected: list[float]) -> None:
    found = steps(copy.deepcopy(optimizer), *gradients)
    assert found == pytest.approx(expected, rel=1e-13, abs=0)


# ------------------------------------------------------------------ what the papers promise


def test_the_defaults_are_those_of_the_paper() -> None:
    """Of RMSprop and momentum, which have none, those of PyTorch and of common use."""
    of_adam = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    defaults = {
        "adam": of_adam,
        "adamax": of_adam,
        "rmsprop": {"learning_rate": 1e-3, "decay": 0.99, "eps": 1e-8},
        "sgd": {"learning_rate": 1e-3, "momentum": 0.9},
    }
    assert {name: asdict(OPTIMIZERS[name]()) for name in defaults} == defaults
    assert [kind().name for kind in OPTIMIZERS.values()] == list(OPTIMIZERS)


@pytest.mark.parametrize(
    ("optimizer", "first", "last"),
    [
        pytest.param(Adam(0.01), 0.01, 0.01, id="adam"),  # by the correction of the bias
        pytest.param(Adamax(0.01), 0.01, 0.01, id="adamax"),
        pytest.param(RMSProp(0.01, decay=0.75), 0.02, 0.01, id="rmsprop"),  # 1 / sqrt(1 - decay)
        pytest.param(SGD(0.01, momentum=0.75), 0.07, 0.28, id="sgd"),  # 1 / (1 - momentum)
    ],
)
def test_the_length_of_steps_under_a_constant_gradient(
    optimizer: Optimizer, first: float, last: float
) -> None:
    """All of 100 are between the first and the last: 0.75^100 = 3e-13, and eps / 7 = 1e-9."""
    lengths = -np.diff([1.0, *steps(copy.deepcopy(optimizer), *([7.0] * 100))])
    assert lengths[[0, -1]] == pytest.approx([first, last], rel=1e-8)
    assert lengths.min() == pytest.approx(min(first, last), rel=1e-8)
    assert lengths.max() == pytest.approx(max(first, last), rel=1e-8)


@pytest.mark.parametrize("kind", [Adam, Adamax, RMSProp])
def test_all_but_momentum_do_not_care_how_large_gradients_are(kind: Kind) -> None:
    small, large = (steps(kind(0.01), *gradients) for gradients in ([1, -3, 2], [1e3, -3e3, 2e3]))
    assert small == pytest.approx(large, rel=1e-7)  # eps beside 0.1, the root of a mean of 1


@every_optimizer
def test_each_number_goes_its_own_way(kind: Kind) -> None:
    """Without a gradient, as that of pixels that are never white, it stays; NaN shows."""
    theta, optimizer = {"it": np.ones(3)}, kind()
    for _ in range(3):
        optimizer.update(theta, {"it": np.array([0, nan, 5])})
    stays, is_nan, moves = theta["it"]
    assert stays == 1
    assert np.isnan(is_nan)
    assert moves < 1


@every_optimizer
def test_bad_settings_are_refused(kind: Kind) -> None:
    for name in asdict(kind()):
        positive = name in ("learning_rate", "eps")
        for bad in (0.0, -1e-8, inf, nan) if positive else (1.0, 1.5, -0.1, nan):
            words = f"{kind.__name__} needs learning_rate > 0, eps > 0, and all others in [0, 1)"
            with refused(ValueError, words, f"not {name} = {bad}"):
                kind(**{name: bad})


# ------------------------------------------------------------------ arrays by name

SHAPES = {"W": (7, 10), "b": (10,)}


def random_arrays(seed: int, dtype: Any = float) -> NamedArrays:
    arrays = NamedArrays(SHAPES, dtype)
    arrays.flat[:] = np.random.default_rng(seed).normal(0, 1, arrays.flat.shape)
    return arrays


@every_optimizer
def test_rows_and_plain_dicts_give_the_same(kind: Kind) -> None:
    """Also one with the other, as after `{name: clip(g) for name, g in gradients.items()}`."""
    seen: list[Array] = []
    forms: list[Callable[[NamedArrays], Any]] = [lambda arrays: arrays, dict]

    def turned(arrays: NamedArrays) -> NamedArrays:
        """The buffer is equally long, so nothing would stop a step that mixes names up."""
        others = NamedArrays(dict(reversed(SHAPES.items())), float)
        others.update(arrays)
        return others

    def odd(arrays: NamedArrays) -> dict[str, Array]:
        """Of another layout, and read-only."""
        return {name: np.broadcast_to(np.asfortranarray(a), a.shape) for name, a in arrays.items()}

    for of_theta, of_gradients in product(forms, [*forms, turned, odd]):
        theta, optimizer = random_arrays(0), kind()
        for t in range(5):
            optimizer.update(of_theta(theta), of_gradients(random_arrays(10 + t)))
        seen.append(theta.flat)
    for found in seen[1:]:  # only the order of rounding may differ
        np.testing.assert_allclose(found, seen[0], rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_optimizer
def test_changes_the_parameters_in_place_and_nothing_else(kind: Kind, dtype: Any) -> None:
    theta, gradients = random_arrays(0, dtype), random_arrays(1, dtype)
    views, before = dict(theta), random_arrays(0, dtype)
    optimizer = kind()
    optimizer.update(theta, gradients)
    assert all(theta[name] is views[name] for name in SHAPES)
    assert (theta.flat != before.flat).all()
    np.testing.assert_array_equal(gradients.flat, random_arrays(1, dtype).flat)
    assert theta.flat.dtype == dtype
    assert tuple(optimizer.state) == kind.state_names
    for values in optimizer.state.values():
        assert values.flat.dtype == dtype
        assert values.flat.all()  # each has moved from 0
    assert optimizer.t == 1


def nothing_changes(optimizer: Optimizer, theta: Any, gradients: Any, *words: str) -> None:
    arrays = [*theta.values(), *optimizer.state_arrays.values()]
    before, t = [array.copy() for array in arrays], optimizer.t
    with refused(ValueError, *words):
        optimizer.update(theta, gradients)
    for array, kept in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, kept)
    assert optimizer.t == t


IN_PLACE = "parameters are changed in place: writable, C-contiguous arrays of floats"
FINE, FROZEN = random_arrays(0), np.frombuffer(bytes(560)).reshape(7, 10)
UNFIT: dict[str, tuple[Any, Any, str]] = {
    "turned": ({**FINE, "W": np.ones((10, 7)).T}, FINE, IN_PLACE),
    "whole numbers": ({**FINE, "W": np.ones((7, 10), int)}, FINE, IN_PLACE),
    "read-only": ({**FINE, "W": FROZEN}, FINE, IN_PLACE),
    "no gradient": (FINE, {"W": FINE["W"]}, "every parameter needs its gradient"),
}
for shape in ((10, 7), (70,), (1, 1), (7, 9), (7, 11)):
    words = f"a gradient {shape} for parameters (7, 10)"
    UNFIT[f"gradient {shape}"] = (dict(FINE), {"b": FINE["b"], "W": np.ones(shape)}, words)
    # A compiled loop would read on, beyond the end of the shorter one.
    UNFIT[f"row {shape}"] = (FINE, NamedArrays({"W": shape, "b": (10,)}, float), words)


@pytest.mark.parametrize(("theta", "gradients", "words"), UNFIT.values(), ids=UNFIT)
@every_optimizer
def test_arrays_that_do_not_fit_together_are_refused(
    kind: Kind, theta: Any, gradients: Any, words: str
) -> None:
    nothing_changes(kind(), theta, gradients, words)


# ------------------------------------------------------------------ one optimizer, one model


@pytest.mark.parametrize("form", [dict, NamedArrays.copy])
@every_optimizer
def test_another_model_is_refused_even_one_of_the_same_sizes(
    kind: Kind, form: Callable[[NamedArrays], Any]
) -> None:
    """The usual loop over a setting, with an optimizer that was made before it."""
    optimizer, gradients = kind(), random_arrays(1)
    optimizer.update(random_arrays(0), gradients)  # memory of a model that is gone is not reused
    words = ("steps for another model", "Make a new one", f"{kind.__name__}()")
    for shape in ((7, 10), (7, 11), (10, 7)):
        other = form(NamedArrays({"W": shape, "b": (10,)}, float))
        nothing_changes(optimizer, other, form(gradients), *words)


@every_optimizer
def test_one_model_is_known_by_its_memory(kind: Kind) -> None:
    """Under any mapping, also of a part of it; and a mapping whatever the user puts into it."""
    theta, gradients = random_arrays(0), random_arrays(1)
    for optimizer, first in ((kind(), theta), (kind(), dict(theta))):
        optimizer.update(first, gradients)
        for form in (theta, dict(theta), {name: array[:] for name, array in theta.items()}):
            optimizer.update(form, gradients)
        before = theta.copy()
        optimizer.update({"b": theta["b"]}, gradients)  # the others stay: they are frozen
        np.testing.assert_array_equal(theta["W"], before["W"])
        assert (theta["b"] != before["b"]).all()
        nothing_changes(optimizer, {"W": theta["W"], "b": np.ones(10)}, gradients, "another")
    first["W"] = first["W"] + 1
    optimizer.update(first, gradients)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
@with_state
def test_a_copy_trains_the_model_of_its_next_update(kind: Kind, copied: Callable[..., Any]) -> None:
    optimizer, theta = kind(), random_arrays(0)
    optimizer.update(theta, random_arrays(1))
    twin, twins = copied(optimizer), copied(theta)
    with refused(ValueError, "another model"):  # not even for a first step
        twin.bind(random_arrays(0, np.float32))
    for each, arrays in ((optimizer, theta), (twin, twins)):
        each.update(arrays, random_arrays(2))
    assert twins.flat.tobytes() == theta.flat.tobytes()  # so their state is not shared
    nothing_changes(twin, theta, random_arrays(2), "another model")


@with_state
def test_state_is_written_to_but_not_replaced(kind: Kind) -> None:
    """Compiled code uses its memory, and two optimizers with one state would mix it up."""
    optimizer, theta, other = kind(), random_arrays(0), random_arrays(5)
    optimizer.update(theta, random_arrays(1))
    name, held = next(iter(optimizer.state.items()))
    optimizer.state[name] = other
    assert optimizer.state[name] is held
    np.testing.assert_array_equal(held.flat, other.flat)
    replaced: Any = {}
    with refused(ValueError, "state needs all its names"):
        optimizer.state = replaced
    with refused(TypeError, "names are fixed"):
        optimizer.state.clear()
    assert optimizer.state[name] is held


# ------------------------------------------------------------------ kept and restored


@pytest.mark.parametrize(("before", "dtype"), [(0, "float32"), (1, "float64"), (3, "float32")])
@every_optimizer
def test_a_restored_optimizer_goes_on_to_the_bit(kind: Kind, before: int, dtype: str) -> None:
    """With every setting other than by default."""
    optimizer = kind(**{name: 0.9 * value for name, value in asdict(kind()).items()})
    theta = random_arrays(0, dtype)
    for t in range(before):
        optimizer.update(theta, random_arrays(t, dtype))
    twin = theta.copy()
    state = {name: array.copy() for name, array in optimizer.state_arrays.items()}
    restored = kind.from_state(optimizer.settings, {**theta, **state}, twin)
    assert type(restored) is kind
    assert restored.settings == optimizer.settings
    for t in range(2):
        optimizer.update(theta, random_arrays(10 + t, dtype))
        restored.update(twin, random_arrays(10 + t, dtype))
    assert twin.flat.tobytes() == theta.flat.tobytes()
    nothing_changes(restored, theta, theta, "another model")
    expected = {f"{optimizer.name}.{kept}.{name}" for kept in kind.state_names for name in SHAPES}
    assert restored.state_arrays.keys() == optimizer.state_arrays.keys() == expected
    assert all(array.dtype == dtype for array in restored.state_arrays.values())


@with_state
def test_no_optimizer_is_made_of_other_settings_or_state(kind: Kind) -> None:
    optimizer, theta = kind(), random_arrays(0)
    optimizer.update(theta, random_arrays(1))
    settings, state = optimizer.settings, optimizer.state_arrays
    without_t = {name: value for name, value in settings.items() if name != "t"}
    others: list[tuple[Any, Any]] = [
        ({**settings, "gamma": 0.5}, state),
        ({**settings, "learning_rate": -1}, state),
        ({**settings, "learning_rate": "fast"}, state),
        ({**settings, "t": "x"}, state),
        (without_t, state),
        (settings, dict(list(state.items())[1:])),
        (settings, {name: np.ones((3, 3)) for name in state}),
    ]
    for some, arrays in others:
        with pytest.raises((KeyError, TypeError, ValueError)):
            kind.from_state(some, arrays, theta)
