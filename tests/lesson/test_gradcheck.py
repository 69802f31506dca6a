"""The gradient check passes, covers everything, and fails when it should.

The negative controls plant one mistake each and expect the check to find it, and to name it. More
of them are in the gallery of mistakes.
"""

import doctest
import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from npvae.commands.gradcheck_report import table
from npvae.core.network import parameter_shapes
from npvae.core.parameters import Array, NamedArrays
from npvae.gradcheck import STEP, TOLERANCE, Check, central_differences, check
from npvae.gradcheck_vae import check_everything, check_parts, draw_away_from_kinks
from npvae.layers import ACTIVATIONS, Activation
from npvae.mistakes.causes import cause, first_look
from npvae.mistakes.mistake import Edit, Mistake, edits, planted
from tests.helpers import ROOT, Said, refused


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def failed(checks: Iterable[Check]) -> list[str]:
    return [check.what for check in checks if not check.passed]


# ------------------------------------------------------------------ what is right


@pytest.fixture(scope="module")
def everything() -> list[Check]:
    return list(check_everything())


def test_every_gradient_is_right(everything: list[Check]) -> None:
    assert TOLERANCE <= 1e-7
    assert failed(everything) == [], table(everything)
    assert max(map(len, table(everything).splitlines())) <= 60


@pytest.mark.slow
def test_every_gradient_is_right_with_other_numbers() -> None:
    assert failed(check_everything(1)) == []


def test_nothing_is_left_out(everything: list[Check]) -> None:
    expected = ["dense: W", "dense: b", "dense: x", "bce: logits", "kl: mu", "kl: log_var"]
    expected += ["reparameterize: mu", "reparameterize: log_var"]
    models = {"vae conditional 7-6": parameter_shapes(12, (7, 6), 3, num_classes=4)}
    for name in ACTIVATIONS:
        expected += [f"{name}: y", f"mlp {name}: x"]
        expected += [f"mlp {name}: layer{k}.{array}" for k in range(3) for array in "Wb"]
        models[f"vae {name} 7"] = parameter_shapes(12, (7,), 3)
        models[f"vae {name} 7-6"] = parameter_shapes(12, (7, 6), 3)
    for model, shapes in models.items():
        expected += [f"{model}: {name}" for name in (*shapes, "x", "epsilon")]
    assert sorted(check.what for check in everything) == sorted(expected)


@pytest.mark.parametrize("factor", [1, 1.001])
def test_a_new_activation_is_covered_by_being_there(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    halved = Activation(lambda y: 0.5 * y, lambda y, d_h: 0.5 * factor * d_h)
    monkeypatch.setitem(ACTIVATIONS, "halved", halved)
    new = list(check_everything(only="halved"))
    assert len(new) == 1 + 7 + (10 + 2) + (14 + 2)
    if factor == 1:
        assert failed(new) == [], table(new)
    else:
        assert {"halved: y", "mlp halved: layer0.W", "vae halved 7: x"} <= set(failed(new))


# ------------------------------------------------------------------ the instrument itself


def test_central_differences_by_hand_and_put_back() -> None:
    theta = np.array([[1.0, -2.0], [0.1, 0.3]])
    before = theta.copy()
    gradient = central_differences(lambda: float(np.sum(theta**3)), theta)
    # The error of a cube is step^2 = 1e-10, and that of rounding 8 * 1e-16 / 1e-5 = 1e-10.
    np.testing.assert_allclose(gradient, 3 * before**2, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(theta, before)


@pytest.mark.parametrize("near", [99 * STEP, -99 * STEP])
def test_parameters_are_drawn_until_no_unit_is_near_its_kink(near: float) -> None:
    parameters, draws = NamedArrays({"layer.b": (1,)}, float), [near, near, 101 * STEP, 7.0]

    class Dice(np.random.Generator):
        def normal(self, *_: Any, **__: Any) -> Any:
            return draws.pop(0)

    dice = Dice(np.random.PCG64(0))
    draw_away_from_kinks(lambda: parameters["layer.b"], parameters, dice)
    assert parameters["layer.b"] == 101 * STEP
    assert draws == [7.0]
    draw_away_from_kinks(lambda: np.array([np.nan]), parameters, rng())  # which ends, too


@pytest.mark.parametrize("off", [0.5e-7, 2e-7, 1e-3, np.nan, np.inf, -np.inf])
def test_more_than_a_ten_millionth_is_wrong_and_what_is_no_number(off: float) -> None:
    theta = 1 + rng().random((3, 4))
    gradient = 2 * theta
    gradient[1, 2] *= 1 + off
    found = check("it", lambda: float(np.sum(theta**2)), theta, gradient)
    assert (found.passed, found.hint) == (off == 0.5e-7, "")
    assert found.where == (1, 2)
    assert (found.error == np.inf) == (not np.isfinite(off))


# ------------------------------------------------------------------ what is not a wrong gradient

T = np.array([[0.3, -0.7, 1.1], [0.2, 0.5, -0.9]])
X, W, D_H = (rng().standard_normal(shape) for shape in ((50, 6), (6, 4), (50, 4)))
READ_ONLY = T.copy()
READ_ONLY.flags.writeable = False

Case = tuple[Any, Callable[[Any], Any], Any]  # theta, f of theta, its gradient by hand


def normalised(b: Array, d_h: Array) -> float:
    y = X @ W + b
    return float(np.sum(d_h * (y - y.mean(axis=0)) / y.std(axis=0)))


def cross_entropy(shift: Array) -> float:
    y = X @ W + shift
    return float(np.sum(np.log(np.exp(y).sum(axis=1)) - y[:, 0]))


RIGHT_ANSWERS: dict[str, Case] = {
    "bias before a normalisation": (T[0, :1].copy(), lambda b: normalised(b, D_H), [0]),
    "a large one": (np.array([1e4]), lambda b: normalised(b, D_H), [0]),
    "in a sum that is 0": (np.zeros(4), lambda b: normalised(b, 1 + 0 * D_H), np.zeros(4)),
    "shift of a softmax": (np.zeros((50, 1)), cross_entropy, np.zeros((50, 1))),
    "0 by symmetry": (np.zeros(3), lambda t: np.sum(t**3), np.zeros(3)),
    "not read, and 0": (np.ones(3), lambda t: 1.0, np.zeros(3)),
    "steep": (1e-4 * (2 + T), lambda t: np.sum(np.log(t)), 1e4 / (2 + T)),
    "large": (1e5 * T, lambda t: np.sum(t**2) / 1e5, 2 * T),
    "beside a constant": (T.copy(), lambda t: 1e6 + np.sum(t**2), 2 * T),
    "not contiguous": (np.asfortranarray(T)[:, ::-2], lambda t: np.sum(t**2), 2 * T[:, ::-2]),
    "no axes": (np.array(3.0), lambda t: np.array(t**2), 6),
    "booleans": (T.copy(), lambda t: np.sum(np.maximum(t, 0)), T > 0),
}


@pytest.mark.parametrize("case", RIGHT_ANSWERS.values(), ids=RIGHT_ANSWERS)
def test_a_right_answer_passes_and_a_wrong_one_beside_it_does_not(case: Case) -> None:
    theta, f, gradient = case
    before = theta.tobytes()
    found = check("it", lambda: f(theta), theta, gradient)
    assert (found.passed, found.hint) == (True, ""), found
    wrong = np.array(gradient, float) * 1.001 if np.any(gradient) else found.analytic + 0.01
    assert not check("it", lambda: f(theta), theta, wrong).passed
    assert theta.tobytes() == before


NOT_COMPARABLE: dict[str, Case] = {
    "float32": (np.float32(T), np.sum, T),
    "integers": (np.arange(3, dtype=np.int64), np.sum, np.ones(3)),
    "a list": ([1.0, 2.0], np.sum, [1, 1]),
    "read-only": (READ_ONLY, np.sum, T),
    "empty": (np.ones((0, 3)), np.sum, np.ones((0, 3))),
    "too large": (1e9 * T, np.sum, T),
    "gradient of float32": (T, np.sum, np.float32(T)),
    "no gradient": (T, np.sum, None),
    "another shape": (T, np.sum, T.T),
    "f an array": (T, np.tanh, T),
    "f None": (T, lambda t: None, T),
    "f of float32": (T, lambda t: np.float32(t.sum()), T),
}


def test_what_cannot_be_compared_is_refused(said: Said) -> None:
    texts = {}
    for name, (theta, f, gradient) in NOT_COMPARABLE.items():
        with refused(ValueError) as refusal:
            check("it", partial(f, theta), theta, gradient)
        texts[name] = str(refusal.value)
    said("gradients that cannot be compared", texts)


NOISE, TURNS = rng(), cycle([0, 1])
NOT_ITS_FAULT: dict[str, tuple[Callable[[Any], Any], str]] = {
    "random": (lambda t: np.sum(t) + NOISE.random(), "f is random"),
    "seldom": (lambda t: np.sum(t) * NOISE.choice([1, 2]), "f is random"),
    "a little": (lambda t: np.sum(t) * (1 + 1.5e-12 * next(TURNS)), "f is random"),
    "a copy": (lambda t: np.sum(T), "does it read this very array"),
    "changed": (lambda t: t.__imul__(2).sum(), "f changes theta itself"),
    "nan": (lambda t: np.nan, "f is not finite near theta"),
    "an edge": (lambda t: np.log(t[0, 0] - 0.3 + 5e-6) if t[0, 0] > 0.299995 else np.inf, "finite"),
    "a jump": (lambda t: np.sum(t) + (t[0, 0] > 0.3), r"jumps by 1e\+00 near entry \(0, 0\)"),
    "float32 inside": (lambda t: float(np.sum(np.tanh(np.float32(t)))), "compute in float32"),
    "a constant": (lambda t: 1e12 + np.sum(t), "the rounding of f"),
    "many kinks": (
        lambda t: np.sum(t) - t[0, 0] + np.abs(t[0, 0] - 0.3 - 3e-6 * X[:, 0]).sum(),
        "has a kink|changes too fast",
    ),
}


@pytest.mark.parametrize(("f", "words"), NOT_ITS_FAULT.values(), ids=NOT_ITS_FAULT)
def test_what_is_not_a_wrong_gradient_is_told_apart(f: Callable[[Any], Any], words: str) -> None:
    theta = T.copy()
    found = check("it", lambda: f(theta), theta, np.ones((2, 3)))
    assert not found.passed
    assert re.search(words, found.hint), found
    assert found.hint in table([found]).replace("\n  ", "\n")
    assert theta.tobytes() == T.tobytes()


@pytest.mark.parametrize("y", [0, 1e-9, 3e-6, -3e-6, 9.9e-6, 1.1e-5])
def test_a_kink_within_a_step_is_named_with_its_distance(y: float) -> None:
    theta = T.copy()
    theta[1, 2] = y
    right = check("relu", lambda: float(np.sum(T * np.maximum(theta, 0))), theta, T * (theta > 0))
    assert right.passed == (y > STEP)
    if not right.passed:
        (distance,) = re.findall(r"a kink (\S+) from entry \(1, 2\)", right.hint)
        assert float(distance) == pytest.approx(abs(y), abs=1e-12)
    wrong = check("relu", lambda: float(np.sum(T * np.maximum(theta, 0))), theta, -T * (theta > 0))
    assert (wrong.passed, wrong.hint) == (False, "")


@pytest.mark.parametrize("call", [1, 20, 33, 35, 50])  # first look, differences, closer look
def test_theta_is_put_back_whatever_happens(call: int) -> None:
    theta, calls = T.copy(), iter(range(1, 99))

    def f() -> float:
        if next(calls) == call:
            raise KeyboardInterrupt
        return float(np.sum(theta**2))

    with pytest.raises(KeyboardInterrupt):
        check("it", f, theta, T)
    assert theta.tobytes() == T.tobytes()


def test_the_table_says_what_is_wrong_and_where(said: Said) -> None:
    right = Check("a thing", np.full((2, 3), 0.5), np.full((2, 3), 0.5))
    numeric = np.array([0.1, 0.2, 0.25, 0.0])
    wrong = Check("kl: mu", numeric + 0.001 * np.eye(4)[2] * numeric, numeric)
    tables = {"right": table([right]), "one of two wrong": table([right, wrong])}
    said("table of the gradient check", tables)


N = rng().standard_normal((3, 3))
DEAD = N * [1, 0, 1]  # a unit that is off: its column is 0 in both, and right by accident
WIDE = N[:2]
CAUSES = [
    (N, -N, "the sign"),
    (N, 2 * N, "0.5 forgotten"),
    (N, N / 2, "half as large"),
    (N, 5 * N, "is 1/B forgotten"),
    (N, -5 * N, "the sign is wrong, and it is 5 times"),
    (N, N / 5, "1/B counted twice"),
    (N, N / 0.7, "beta, which is 0.7 here, forgotten"),
    (N, 0.7 * N, "beta, which is 0.7 here, counted twice"),
    (N, 5 / 0.7 * N, "beta/B forgotten"),
    (N, 3 * N, "3 times the right one"),
    (N, N.T, "transposed"),
    (WIDE, WIDE.T.copy().reshape(2, 3), "transposed and reshaped"),
    (N, 0 * N, "a path missing"),
    (0 * N, N, "does not depend on it"),
    (N, N * [1, 1, 2], "right in column 0, 1, wrong"),
    (DEAD, DEAD + np.eye(3)[2], "right in column 0, wrong"),
    (DEAD, DEAD + np.array([1, 0, 1]), "no simple factor"),
    (N, N + np.eye(3), "3 of 9 entries are wrong"),
    (N, N + 1, "no simple factor"),
    (N, np.nan * N, "not a number"),
]


@pytest.mark.parametrize(("numeric", "by_hand", "words"), CAUSES)
def test_the_usual_causes_are_guessed(numeric: Array, by_hand: Array, words: str) -> None:
    found = Check("it", by_hand, numeric)
    assert not found.passed
    assert words in cause(found)


WRONG_ROWS = {
    "a part": ["dense: W", "vae relu 7: x"],
    "only the inputs": ["vae relu 7: x", "vae relu 7: epsilon"],
    "the decoder": ["vae relu 7: encoder.hidden0.W", "vae relu 7: decoder.logits.W"],
    "a head": ["vae relu 7: encoder.hidden0.W", "vae relu 7: encoder.mu.b"],
    "before the heads": ["vae relu 7: encoder.hidden0.W", "vae relu 7: x"],
}


def test_where_to_look_first(said: Said) -> None:
    found = {}
    for name, rows in WRONG_ROWS.items():
        found[name] = first_look([Check(row, np.ones(1), np.zeros(1)) for row in rows])
    said("where to look first", found)


def test_the_example_for_your_own_layers_runs() -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(check, "check")
    assert len(example.examples) == 6
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_example_of_the_tour_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A layer of your own, and a check that finds a mistake in it."""
    page = (ROOT / "npvae" / "README.md").read_text()
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.S) if "gradcheck" in c)
    exec(code, {})
    assert capsys.readouterr().out.startswith("True ")
    exec(code.replace("d_h * h", "d_h"), {})
    assert capsys.readouterr().out.startswith("False ")


@pytest.mark.parametrize("text", ["kl: log_var", "mlp elu: layer1"])
def test_rows_can_be_checked_alone_with_the_same_numbers(
    text: str, everything: list[Check]
) -> None:
    rows = [row for row in everything if text in row.what]
    found = list(check_everything(only=text))
    assert [row.what for row in found] == [row.what for row in rows] != []
    for one, other in zip(found, rows, strict=True):
        np.testing.assert_array_equal(one.numeric, other.numeric)


# ------------------------------------------------------------------ mistakes are found

PARTS = ("dense", "mlp relu", "bce", "kl", "reparameterize", "vae relu 7-6")

WRONG_LINES = (ROOT / "tests" / "lesson" / "wrong_lines.txt").read_text()
WRONG = list(zip(edits(WRONG_LINES), re.findall("^= (.*)", WRONG_LINES, re.M), strict=True))


def with_mistake(edit: Edit) -> list[Check]:
    with planted(Mistake("it", "", "", "", "", (edit,))):
        return list(check_parts(PARTS))


@pytest.mark.parametrize(("edit", "rows"), WRONG, ids=[edit.wrong for edit, _ in WRONG])
def test_a_mistake_is_found_in_its_rows_and_in_no_others(edit: Edit, rows: str) -> None:
    checks = with_mistake(edit)
    assert failed(checks) == [check.what for check in checks if re.search(rows, check.what)] != []


def test_a_single_entry_that_is_off_is_named() -> None:
    (edit,) = (edit for edit, _ in WRONG if "flat[-1]" in edit.wrong)
    for row in with_mistake(edit):
        if not row.passed:
            assert row.where == tuple(n - 1 for n in row.analytic.shape)
            assert row.error == pytest.approx(1e-3, rel=1e-4)


Slope = Callable[[Array, Array], Array]
SLOPES: list[tuple[str, Slope]] = [
    *((name, lambda y, d_h, a=a: 1.001 * a.backward(y, d_h)) for name, a in ACTIVATIONS.items()),
    ("relu", lambda y, d_h: d_h * (y < 0)),
    ("leaky_relu", lambda y, d_h: np.where(y > 0, d_h, 0.011 * d_h)),
    ("elu", lambda y, d_h: np.where(y > 0, d_h, d_h * np.expm1(y))),
    ("tanh", lambda y, d_h: d_h * (1 - np.tanh(y))),
]


@pytest.mark.parametrize(("name", "backward"), SLOPES)
def test_a_wrong_slope_of_an_activation_is_found(
    name: str, backward: Slope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTIVATIONS, name, Activation(ACTIVATIONS[name].forward, backward))
    checks = list(check_parts([name, f"mlp {name}"]))
    assert len(checks) == len(failed(checks)) == 1 + 7
