"""Optimizers: steps worked out by hand, and the properties their papers promise."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array, NamedArrays
from npvae.optimizers import OPTIMIZERS, SGD, Adam, Adamax, RMSProp

DTYPES = [np.float32, np.float64]
every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS.values(), ids=OPTIMIZERS)  # yours, too
ours = pytest.mark.parametrize("kind", [Adam, Adamax, RMSProp, SGD])
with_state = pytest.mark.parametrize("kind", [k for k in OPTIMIZERS.values() if k.state_names])


def steps(optimizer: Optimizer, *gradients: float) -> list[float]:
    """Where one parameter is after each step, from 1."""
    theta, seen = {"it": np.array([1.0])}, []
    for gradient in gradients:
        optimizer.update(theta, {"it": np.array([gradient])})
        seen.append(float(theta["it"][0]))
    return seen


# ------------------------------------------------------------------ steps by hand


def test_adam_by_hand() -> None:
    """Gradients 3, then -1, with beta1 = 1/2, beta2 = 3/4, eps = 1 and learning rate 1/2.

    t = 1: m = 3/2, v = 9/4, m_hat = 3, v_hat = 9,           theta = 1 - 1/2 * 3 / (3 + 1) = 5/8
    t = 2: m = 1/4, v = 31/16, m_hat = 1/3, v_hat = 31/7,
           theta = 5/8 - 1/2 * 1/3 / (2.1044171232366 + 1)
    """
    adam = Adam(learning_rate=0.5, beta1=0.5, beta2=0.75, eps=1.0)
    assert steps(adam, 3, -1) == pytest.approx([0.625, 0.5713130565093317], rel=1e-14, abs=0)


def test_adam_by_hand_with_its_defaults() -> None:
    """Gradients 1/2, then -1/4.

    t = 1: m = 0.05, v = 0.00025, m_hat = 0.5, v_hat = 0.25
    t = 2: m = 0.02, v = 0.00031225, m_hat = 2/19, v_hat = 0.156203101550775
    """
    found = steps(Adam(learning_rate=0.1), 0.5, -0.25)
    assert found == pytest.approx([0.90000000199999996, 0.87336629870784616], rel=1e-14, abs=0)


def test_adamax_by_hand() -> None:
    """Gradients 3, then -1, with beta1 = 1/2, beta2 = 3/4, eps = 1 and learning rate 1/2.

    t = 1: m = 3/2, u = max(0, 3 + 1) = 4,  theta = 1 - (1/2) / (1 - 1/2) * (3/2) / 4 = 5/8
    t = 2: m = 1/4, u = max(3, 1 + 1) = 3,  theta = 5/8 - (1/2) / (1 - 1/4) * (1/4) / 3 = 41/72
    """
    adamax = Adamax(learning_rate=0.5, beta1=0.5, beta2=0.75, eps=1.0)
    assert steps(adamax, 3, -1) == pytest.approx([5 / 8, 41 / 72], rel=1e-14, abs=0)


def test_adamax_by_hand_with_its_defaults() -> None:
    """Gradients 1/2, then -1/4.

    t = 1: m = 0.05, u = 0.50000001,     theta = 1 - 0.1 / 0.1 * m / u
    t = 2: m = 0.02, u = 0.49950000999,  theta = 0.900000002 - 0.1 / 0.19 * m / u
    """
    found = steps(Adamax(learning_rate=0.1), 0.5, -0.25)
    assert found == pytest.approx([0.90000000199999996, 0.87892629713724246], rel=1e-14, abs=0)


def test_rmsprop_by_hand() -> None:
    """Gradients 4, then -1, with decay = 3/4, eps = 1 and learning rate 1/2.

    t = 1: v = 16/4 = 4,        theta = 1 - 1/2 * 4 / (2 + 1) = 1/3
    t = 2: v = 3 + 1/4 = 13/4,  theta = 1/3 + 1/2 / (sqrt(13) / 2 + 1) = (1 + sqrt(13)) / 9
    """
    rmsprop = RMSProp(learning_rate=0.5, decay=0.75, eps=1.0)
    assert steps(rmsprop, 4, -1) == pytest.approx([1 / 3, 0.5117279194959988], rel=1e-14, abs=0)


def test_rmsprop_by_hand_with_its_defaults() -> None:
    """Gradients 1/2, then -1/4.

    t = 1: v = 0.0025,  theta = 1 - 0.1 * 0.5 / (0.05 + 1e-8), ten learning rates away
    t = 2: v = 0.0031,  theta = 2e-7 + 0.1 * 0.25 / (sqrt(0.0031) + 1e-8)
    """
    found = steps(RMSProp(learning_rate=0.1), 0.5, -0.25)
    # What is left of 1 has lost 7 of its 16 digits, and 1 - decay is off by one in the last.
    assert found == pytest.approx([1.9999996000000800e-7, 0.44901337442175045], rel=1e-8, abs=0)


def test_sgd_by_hand() -> None:
    """Gradients 3, then -1, with momentum = 1/2 and learning rate 1/4.

    t = 1: velocity = 3,                theta = 1 - 3/4 = 1/4
    t = 2: velocity = 3/2 - 1 = 1/2,    theta = 1/4 - 1/8 = 1/8
    """
    assert steps(SGD(learning_rate=0.25, momentum=0.5), 3, -1) == [1 / 4, 1 / 8]


def test_sgd_by_hand_with_its_defaults() -> None:
    """Gradients 1/2, then -1/4: velocity 0.5, then 0.45 - 0.25 = 0.2."""
    found = steps(SGD(learning_rate=0.1), 0.5, -0.25)
    assert found == pytest.approx([0.95, 0.93], rel=1e-14, abs=0)


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


def test_names() -> None:
    assert {name: kind().name for name, kind in OPTIMIZERS.items()} == {
        name: name for name in OPTIMIZERS
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("kind", [Adam, Adamax])
def test_the_first_step_has_the_size_of_the_learning_rate(
    kind: type[Optimizer], scale: float, dtype: Any
) -> None:
    theta = {"it": np.zeros(2, dtype)}
    kind(learning_rate=0.01).update(theta, {"it": np.array([scale, -scale], dtype)})
    # eps = 1e-8 beside a gradient of 1e-3 makes 1e-5; float32 knows 7 digits.
    np.testing.assert_allclose(theta["it"], [-0.01, 0.01], rtol=2e-5)


@pytest.mark.parametrize("kind", [Adam, Adamax])
def test_under_a_constant_gradient_every_step_is_the_learning_rate(kind: type[Optimizer]) -> None:
    """What the correction of the bias is for: Adam's third step would be 1.5 times that without."""
    adam, theta = kind(learning_rate=0.01), {"it": np.zeros(1)}
    for t in range(1, 21):
        adam.update(theta, {"it": np.array([7.0])})
        assert theta["it"][0] == pytest.approx(-0.01 * t, rel=1e-8)  # eps / 7 = 1.4e-9


def test_under_a_constant_gradient_rmsprop_begins_with_large_steps() -> None:
    """1 / sqrt(1 - decay) times the learning rate, here twice, and in the end once."""
    seen = steps(RMSProp(learning_rate=0.01, decay=0.75), *([7.0] * 100))
    assert seen[0] == pytest.approx(1 - 0.02, rel=1e-8)
    assert seen[98] - seen[99] == pytest.approx(0.01, rel=1e-8)  # 0.75^100 = 3e-13


def test_under_a_constant_gradient_momentum_gathers_speed() -> None:
    """The step rises to 1 / (1 - momentum) times learning rate times gradient, here four times."""
    seen = steps(SGD(learning_rate=0.01, momentum=0.75), *([7.0] * 100))
    assert seen[0] == pytest.approx(1 - 0.07, rel=1e-12)
    assert seen[98] - seen[99] == pytest.approx(0.28, rel=1e-10)


@pytest.mark.parametrize("kind", [Adam, Adamax, RMSProp])
def test_all_but_momentum_do_not_care_how_large_gradients_are(kind: type[Optimizer]) -> None:
    small, large = (steps(kind(0.01), *gradients) for gradients in ([1, -3, 2], [1e3, -3e3, 2e3]))
    assert small == pytest.approx(large, rel=1e-7)  # eps beside 0.1, the root of a mean of 1


def test_eps_is_added_outside_the_root_and_after_the_correction() -> None:
    """A gradient of 1e-9 beside eps = 1e-8: the first step is 1e-9 / (1e-9 + 1e-8) = 1/11.

    Inside the root it would be 1e-9 / sqrt(1e-18 + 1e-8) = 1e-5; before the correction,
    sqrt(0.001) * 1e-9 / (sqrt(0.001) * 1e-9 + 1e-8) = 0.00315.
    """
    theta = {"it": np.zeros(1)}
    Adam(learning_rate=1.0).update(theta, {"it": np.array([1e-9])})
    assert theta["it"][0] == pytest.approx(-1 / 11, rel=1e-13, abs=0)


@every_optimizer
def test_no_gradient_no_step(kind: type[Optimizer]) -> None:
    """Pixels that are never white have none, ever."""
    theta, optimizer = {"it": np.ones(3)}, kind()
    for _ in range(3):
        optimizer.update(theta, {"it": np.zeros(3)})
    np.testing.assert_array_equal(theta["it"], 1)


# ------------------------------------------------------------------ arrays by name


SHAPES = {"W": (7, 10), "b": (10,)}


def random_arrays(seed: int, dtype: Any = float) -> NamedArrays:
    arrays = NamedArrays(SHAPES, dtype)
    arrays.flat[:] = np.random.default_rng(seed).normal(0, 1, arrays.flat.shape)
    return arrays


@every_optimizer
def test_one_row_and_a_plain_dict_give_the_same(kind: type[Optimizer]) -> None:
    row, plain = random_arrays(0), {name: a.copy() for name, a in random_arrays(0).items()}
    for_row, for_plain = kind(), kind()
    for t in range(5):
        gradients = random_arrays(10 + t)
        for_row.update(row, gradients)
        for_plain.update(plain, dict(gradients))
    for name in SHAPES:  # only the order of rounding may differ
        np.testing.assert_allclose(row[name], plain[name], rtol=1e-13)


@every_optimizer
@pytest.mark.parametrize("named", ["parameters", "gradients"])
def test_one_row_and_a_plain_dict_go_together(kind: type[Optimizer], named: str) -> None:
    """As after `{name: clip(g) for name, g in gradients.items()}`."""
    expected, theta, gradients = random_arrays(0), random_arrays(0), random_arrays(1)
    kind().update(expected, gradients)
    if named == "parameters":
        kind().update(theta, dict(gradients))
    else:
        kind().update(dict(theta), gradients)
    np.testing.assert_allclose(theta.flat, expected.flat, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@every_optimizer
def test_changes_the_parameters_in_place_and_nothing_else(
    kind: type[Optimizer], dtype: Any
) -> None:
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


def nothing_changes(
    optimizer: Optimizer, theta: Any, gradients: Any, message: str, t: int = 0
) -> None:
    before = {name: array.copy() for name, array in theta.items()}
    kept = {name: array.copy() for name, array in optimizer.state_arrays.items()}
    with pytest.raises(ValueError, match=message):
        optimizer.update(theta, gradients)
    for name, array in theta.items():
        np.testing.assert_array_equal(array, before[name])
    for name, array in kept.items():
        np.testing.assert_array_equal(array, optimizer.state_arrays[name])
    assert optimizer.t == t


@every_optimizer
def test_parameters_that_cannot_be_changed_in_place_are_refused(kind: type[Optimizer]) -> None:
    fine, gradients = np.ones((3, 2)), {"a": np.ones((3, 2)), "b": np.ones((3, 2))}
    nothing_changes(kind(), {"a": fine, "b": np.ones((2, 3)).T}, gradients, "C-contiguous")
    nothing_changes(kind(), {"a": fine, "b": np.ones((3, 2), int)}, gradients, "floats")
    frozen = np.frombuffer(bytes(48)).reshape(3, 2)
    nothing_changes(kind(), {"a": fine, "b": frozen}, gradients, "writable")


@pytest.mark.parametrize("shape", [(10, 7), (70,), (7, 11), (1, 1)])
@every_optimizer
def test_gradients_of_another_shape_are_refused(
    kind: type[Optimizer], shape: tuple[int, ...]
) -> None:
    gradients = {"b": np.ones(10), "W": np.ones(shape)}
    theta = {"b": np.ones(10), "W": np.ones((7, 10))}
    nothing_changes(kind(), theta, gradients, r"a gradient \(.*\) for parameters \(7, 10\)")


@pytest.mark.parametrize("columns", [9, 11])
@every_optimizer
def test_gradients_of_another_model_are_refused(kind: type[Optimizer], columns: int) -> None:
    """A compiled loop would read on, beyond the end of the shorter one."""
    other = NamedArrays({"W": (7, columns), "b": (10,)}, float)
    message = r"a gradient \(7, \d+\) for parameters \(7, 10\)"
    nothing_changes(kind(), random_arrays(0), other, message)


@every_optimizer
def test_models_of_one_size_are_not_taken_for_each_other(kind: type[Optimizer]) -> None:
    """Their buffers are equally long, so nothing would stop a step that mixes them up."""
    optimizer, turned = kind(), NamedArrays({"b": (10,), "W": (7, 10)}, float)
    turned.update(random_arrays(1))
    theta, expected = random_arrays(0), random_arrays(0)
    optimizer.update(theta, turned)
    kind().update(expected, random_arrays(1))
    np.testing.assert_array_equal(theta.flat, expected.flat)
    other = NamedArrays({"W": (10, 7), "b": (10,)}, float)
    nothing_changes(optimizer, theta, other, r"a gradient \(10, 7\) for parameters \(7, 10\)", 1)
    nothing_changes(optimizer, other, other.copy(), "steps for another model", 1)
    nothing_changes(optimizer, theta, {"W": turned["W"]}, "every parameter needs its gradient", 1)


@every_optimizer
def test_only_the_parameters_that_are_named_move(kind: type[Optimizer]) -> None:
    """So that a part of a model may be frozen."""
    theta, gradients, before = random_arrays(0), random_arrays(1), random_arrays(0)
    optimizer = kind()
    for _ in range(2):
        optimizer.update({"W": theta["W"]}, gradients)
    assert (theta["W"] != before["W"]).all()
    np.testing.assert_array_equal(theta["b"], before["b"])


@pytest.mark.parametrize("form", [dict, NamedArrays.copy])
@pytest.mark.parametrize("columns", [10, 11])
@every_optimizer
def test_another_model_is_refused_even_one_of_the_same_sizes(
    kind: type[Optimizer], columns: int, form: Callable[[NamedArrays], Any]
) -> None:
    """The usual loop over a setting, with an optimizer that was made before it."""
    optimizer, gradients = kind(), random_arrays(1)
    optimizer.update(random_arrays(0), gradients)  # memory of a model that is gone is not reused
    other = form(NamedArrays({"W": (7, columns), "b": (10,)}, float))
    message = rf"(?s)steps for another model.*Make a new one.*{kind.__name__}\(\)"
    nothing_changes(optimizer, other, form(gradients), message, 1)


@every_optimizer
def test_one_model_is_known_by_its_memory(kind: type[Optimizer]) -> None:
    """Under any mapping; and a mapping is known whatever arrays the user puts into it."""
    theta, gradients = random_arrays(0), random_arrays(1)
    for optimizer, first in ((kind(), theta), (kind(), dict(theta))):
        optimizer.update(first, gradients)
        views = {name: array[:] for name, array in theta.items()}
        for form in (theta, dict(theta), views, {"b": theta["b"]}, theta):
            optimizer.update(form, gradients)
        nothing_changes(optimizer, {"W": theta["W"], "b": np.ones(10)}, gradients, "another", 6)
    first["W"] = first["W"] + 1
    optimizer.update(first, gradients)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
@with_state
def test_a_copy_trains_the_model_of_its_next_update(
    kind: type[Optimizer], copied: Callable[[Any], Any]
) -> None:
    optimizer, theta = kind(), random_arrays(0)
    optimizer.update(theta, random_arrays(1))
    twin, twins = copied(optimizer), copied(theta)
    with pytest.raises(ValueError, match="another model"):  # not even for a first step
        twin.bind(random_arrays(0, np.float32))
    for each, arrays in ((optimizer, theta), (twin, twins)):
        each.update(arrays, random_arrays(2))
    assert twins.flat.tobytes() == theta.flat.tobytes()  # so their state is not shared
    nothing_changes(twin, theta, random_arrays(2), "another model", 2)


@with_state
def test_state_is_written_to_but_not_replaced(kind: type[Optimizer]) -> None:
    """Compiled code uses its memory, and two optimizers with one state would mix it up."""
    optimizer, theta, other = kind(), random_arrays(0), random_arrays(5)
    optimizer.update(theta, random_arrays(1))
    name, held = next(iter(optimizer.state.items()))
    optimizer.state[name] = other
    assert optimizer.state[name] is held
    np.testing.assert_array_equal(held.flat, other.flat)
    replaced: Any = {}
    with pytest.raises(ValueError, match="state needs all its names"):
        optimizer.state = replaced
    with pytest.raises(TypeError, match="names are fixed"):
        optimizer.state.clear()
    assert optimizer.state[name] is held


# ------------------------------------------------------------------ kept and restored


def unusual(kind: type[Optimizer]) -> Optimizer:
    """Every setting other than by default."""
    return kind(**{name: 0.9 * value for name, value in asdict(kind()).items()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("before", [0, 1, 3])
@every_optimizer
def test_a_restored_optimizer_goes_on_to_the_bit(
    kind: type[Optimizer], before: int, dtype: Any
) -> None:
    optimizer, theta = unusual(kind), random_arrays(0, dtype)
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
    nothing_changes(restored, theta, theta, "another model", before + 2)
    expected = {f"{optimizer.name}.{kept}.{name}" for kept in kind.state_names for name in SHAPES}
    assert restored.state_arrays.keys() == optimizer.state_arrays.keys() == expected
    assert all(array.dtype == dtype for array in restored.state_arrays.values())


@with_state
def test_what_is_no_optimizer_is_refused(kind: type[Optimizer]) -> None:
    optimizer, theta = kind(), random_arrays(0)
    optimizer.update(theta, random_arrays(1))
    settings, state = optimizer.settings, optimizer.state_arrays
    without_t = {name: value for name, value in settings.items() if name != "t"}
    without_one: dict[str, Array] = dict(list(state.items())[1:])
    for some, arrays in (
        ({**settings, "gamma": 0.5}, state),
        ({**settings, "learning_rate": -1}, state),
        ({**settings, "learning_rate": "fast"}, state),
        ({**settings, "t": "x"}, state),
        (without_t, state),
        (settings, {}),
        (settings, without_one),
        (settings, {name: np.ones((3, 3)) for name in state}),
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            kind.from_state(some, arrays, theta)


@every_optimizer
def test_two_optimizers_share_nothing(kind: type[Optimizer]) -> None:
    one, other, third = random_arrays(0), random_arrays(0), random_arrays(2)
    busy = kind()
    for _ in range(3):
        busy.update(third, random_arrays(3))
    kind().update(one, random_arrays(1))
    kind().update(other, random_arrays(1))
    np.testing.assert_array_equal(one.flat, other.flat)


@every_optimizer
def test_a_gradient_that_is_no_number_shows(kind: type[Optimizer]) -> None:
    theta = {"it": np.zeros(3)}
    kind().update(theta, {"it": np.array([1.0, np.nan, 1.0])})
    np.testing.assert_array_equal(np.isnan(theta["it"]), [False, True, False])


def bad_settings() -> list[Any]:
    """Each setting of each optimizer, out of its bounds."""
    return [
        pytest.param(kind, name, bad, id=f"{kind.__name__} {name} {bad}")
        for kind in OPTIMIZERS.values()
        for name in asdict(kind())
        for bad in (
            (0.0, -1e-8, float("nan"))
            if name in ("learning_rate", "eps")
            else (1.0, 1.5, -0.1, float("nan"))
        )
    ]


@pytest.mark.parametrize(("kind", "name", "bad"), bad_settings())
def test_bad_settings_are_refused(kind: type[Optimizer], name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} needs learning_rate > 0") as refusal:
        kind(**{name: bad})
    assert f"{name} = {bad}" in str(refusal.value)


@ours
def test_means_without_memory_are_allowed(kind: type[Optimizer]) -> None:
    """A decay of 0 keeps the last gradient alone."""
    rest = {name: 0.0 for name in asdict(kind()) if name not in ("learning_rate", "eps")}
    assert steps(kind(0.25, **rest), 2.0)[0] == pytest.approx(0.5 if kind is SGD else 0.75)


@every_optimizer
def test_downhill_is_where_it_goes(kind: type[Optimizer]) -> None:
    """On theta^2 from 1, with steps of a hundredth: at least a tenth of the way in 100 of them."""
    theta, optimizer = {"it": np.ones(1)}, kind(learning_rate=0.01)
    for _ in range(100):
        optimizer.update(theta, {"it": 2 * theta["it"]})
    assert abs(theta["it"][0]) < 0.9


@ours
def test_going_downhill_arrives(kind: type[Optimizer]) -> None:
    """On (theta - target)^2: 400 steps of about 0.05 reach a target 3 away, and stay."""
    target, theta, optimizer = np.array([3.0, -1.0]), {"it": np.zeros(2)}, kind(learning_rate=0.05)
    for _ in range(400):
        optimizer.update(theta, {"it": 2 * (theta["it"] - target)})
    np.testing.assert_allclose(theta["it"], target, atol=0.05)
