"""Adam: steps worked out by hand, and the properties its paper promises."""

from typing import Any

import numpy as np
import pytest

from npvae import optimizers
from npvae.arrays import NamedArrays
from npvae.optimizers import Adam

DTYPES = [np.float32, np.float64]


def test_two_steps_by_hand() -> None:
    """Gradients 3, then -1, with beta1 = 1/2, beta2 = 3/4, eps = 1 and learning rate 1/2.

    t = 1: m = 3/2, v = 9/4, m_hat = 3, v_hat = 9,           theta = 1 - 1/2 * 3 / (3 + 1) = 5/8
    t = 2: m = 1/4, v = 31/16, m_hat = 1/3, v_hat = 31/7,
           theta = 5/8 - 1/2 * 1/3 / (2.1044171232366 + 1)
    """
    adam = Adam(learning_rate=0.5, beta1=0.5, beta2=0.75, eps=1.0)
    theta = {"it": np.array([1.0])}
    adam.update(theta, {"it": np.array([3.0])})
    assert theta["it"][0] == pytest.approx(0.625, rel=1e-15)
    adam.update(theta, {"it": np.array([-1.0])})
    assert theta["it"][0] == pytest.approx(0.5713130565093317, rel=1e-14)


def test_two_steps_by_hand_with_the_default_betas() -> None:
    """Gradients 1/2, then -1/4.

    t = 1: m = 0.05, v = 0.00025, m_hat = 0.5, v_hat = 0.25
    t = 2: m = 0.02, v = 0.00031225, m_hat = 2/19, v_hat = 0.156203101550775
    """
    adam = Adam(learning_rate=0.1)
    theta = {"it": np.array([1.0])}
    adam.update(theta, {"it": np.array([0.5])})
    assert theta["it"][0] == pytest.approx(0.90000000199999996, rel=1e-15)
    adam.update(theta, {"it": np.array([-0.25])})
    assert theta["it"][0] == pytest.approx(0.87336629870784616, rel=1e-14)


def test_the_defaults_are_those_of_the_paper() -> None:
    adam = Adam()
    assert (adam.learning_rate, adam.beta1, adam.beta2, adam.eps) == (1e-3, 0.9, 0.999, 1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_the_first_step_has_the_size_of_the_learning_rate(scale: float, dtype: Any) -> None:
    theta = {"it": np.zeros(2, dtype)}
    Adam(learning_rate=0.01).update(theta, {"it": np.array([scale, -scale], dtype)})
    # eps = 1e-8 beside a gradient of 1e-3 makes 1e-5; float32 knows 7 digits.
    np.testing.assert_allclose(theta["it"], [-0.01, 0.01], rtol=2e-5)


def test_under_a_constant_gradient_every_step_is_the_learning_rate() -> None:
    """What the correction of the bias is for: without it the third step would be 1.5 times that."""
    adam, theta = Adam(learning_rate=0.01), {"it": np.zeros(1)}
    for t in range(1, 21):
        adam.update(theta, {"it": np.array([7.0])})
        assert theta["it"][0] == pytest.approx(-0.01 * t, rel=1e-8)  # eps / 7 = 1.4e-9


def test_eps_is_added_outside_the_root_and_after_the_correction() -> None:
    """A gradient of 1e-9 beside eps = 1e-8: the first step is 1e-9 / (1e-9 + 1e-8) = 1/11.

    Inside the root it would be 1e-9 / sqrt(1e-18 + 1e-8) = 1e-5; before the correction,
    sqrt(0.001) * 1e-9 / (sqrt(0.001) * 1e-9 + 1e-8) = 0.00315.
    """
    theta = {"it": np.zeros(1)}
    Adam(learning_rate=1.0).update(theta, {"it": np.array([1e-9])})
    assert theta["it"][0] == pytest.approx(-1 / 11, rel=1e-13)


def test_no_gradient_no_step() -> None:
    theta = {"it": np.ones(3)}
    Adam().update(theta, {"it": np.zeros(3)})
    np.testing.assert_array_equal(theta["it"], 1)


SHAPES = {"W": (7, 10), "b": (10,)}


def random_arrays(seed: int, dtype: Any = float) -> NamedArrays:
    arrays = NamedArrays(SHAPES, dtype)
    arrays.flat[:] = np.random.default_rng(seed).normal(0, 1, arrays.flat.shape)
    return arrays


def test_one_row_and_a_plain_dict_give_the_same() -> None:
    row, plain = random_arrays(0), {name: a.copy() for name, a in random_arrays(0).items()}
    for_row, for_plain = Adam(), Adam()
    for t in range(5):
        gradients = random_arrays(10 + t)
        for_row.update(row, gradients)
        for_plain.update(plain, dict(gradients))
    for name in SHAPES:  # only the order of rounding may differ
        np.testing.assert_allclose(row[name], plain[name], rtol=1e-13)


@pytest.mark.parametrize("named", ["parameters", "gradients"])
def test_one_row_and_a_plain_dict_go_together(named: str) -> None:
    """As after `{name: clip(g) for name, g in gradients.items()}`."""
    expected, theta, gradients = random_arrays(0), random_arrays(0), random_arrays(1)
    Adam().update(expected, gradients)
    if named == "parameters":
        Adam().update(theta, dict(gradients))
    else:
        Adam().update(dict(theta), gradients)
    np.testing.assert_allclose(theta.flat, expected.flat, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_changes_the_parameters_in_place_and_nothing_else(dtype: Any) -> None:
    theta, gradients = random_arrays(0, dtype), random_arrays(1, dtype)
    views, before = dict(theta), random_arrays(0, dtype)
    adam = Adam()
    adam.update(theta, gradients)
    assert all(theta[name] is views[name] for name in SHAPES)
    assert (theta.flat != before.flat).all()
    np.testing.assert_array_equal(gradients.flat, random_arrays(1, dtype).flat)
    assert theta.flat.dtype == dtype
    assert all(m.dtype == dtype for m in (*adam.running["m"].values(), *adam.running["v"].values()))
    assert adam.t == 1


def test_parameters_that_cannot_be_changed_in_place_are_refused() -> None:
    theta = {"it": np.ones((2, 3)).T}
    with pytest.raises(ValueError, match="C-contiguous"):
        Adam().update(theta, {"it": np.ones((3, 2))})
    np.testing.assert_array_equal(theta["it"], 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_restored_optimizer_goes_on_to_the_bit(steps: int, dtype: Any) -> None:
    adam, theta = Adam(0.01, 0.8, 0.95, 1e-6), random_arrays(0, dtype)
    for t in range(steps):
        adam.update(theta, random_arrays(t, dtype))
    twin = theta.copy()
    restored = optimizers.restored(adam.settings, adam.state, theta)
    assert restored.settings == adam.settings
    for t in range(2):
        adam.update(theta, random_arrays(10 + t, dtype))
        restored.update(twin, random_arrays(10 + t, dtype))
    assert twin.flat.tobytes() == theta.flat.tobytes()
    assert restored.state.keys() == adam.state.keys()


def test_two_optimizers_share_nothing() -> None:
    one, other = random_arrays(0), random_arrays(0)
    busy = Adam()
    for _ in range(3):
        busy.update(random_arrays(2), random_arrays(3))
    Adam().update(one, random_arrays(1))
    Adam().update(other, random_arrays(1))
    np.testing.assert_array_equal(one.flat, other.flat)


def test_a_gradient_that_is_no_number_shows() -> None:
    theta = {"it": np.zeros(3)}
    Adam().update(theta, {"it": np.array([1.0, np.nan, 1.0])})
    np.testing.assert_array_equal(np.isnan(theta["it"]), [False, True, False])


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.0},
        {"learning_rate": -1e-3},
        {"learning_rate": float("nan")},
        {"beta1": 1.0},
        {"beta1": -0.1},
        {"beta2": 1.0},
        {"beta2": float("nan")},
        {"eps": 0.0},
        {"eps": -1e-8},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Adam needs learning_rate > 0") as refusal:
        Adam(**settings)
    assert str(next(iter(settings.values()))) in str(refusal.value)


def test_going_downhill_arrives() -> None:
    """On (theta - target)^2: 400 steps of about 0.05 reach a target 3 away, and stay."""
    target, theta, adam = np.array([3.0, -1.0]), {"it": np.zeros(2)}, Adam(learning_rate=0.05)
    for _ in range(400):
        adam.update(theta, {"it": 2 * (theta["it"] - target)})
    np.testing.assert_allclose(theta["it"], target, atol=0.05)
