"""The gradient check passes, covers everything, and fails when it should.

The negative controls plant one mistake each and expect the check to find it, and to name it.
"""

import doctest
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import npvae.gradcheck_vae
import npvae.model
from npvae.commands.gradcheck_report import table
from npvae.core.network import parameter_shapes
from npvae.core.parameters import Array, NamedArrays
from npvae.gradcheck import STEP, TOLERANCE, Check, central_differences, check
from npvae.gradcheck_vae import (
    check_activation,
    check_bce,
    check_dense,
    check_everything,
    check_kl,
    check_mlp,
    check_model,
    check_parts,
    check_reparameterize,
    draw_away_from_kinks,
    parts,
)
from npvae.layers import ACTIVATIONS, Activation, Dense
from npvae.losses import bce_with_logits_backward
from npvae.mistakes.causes import cause, first_look
from npvae.model import VAE, Activations, Gradients
from tests.helpers import ROOT

RIGHT = 1.0
WRONG = 1.001  # by 0.1 %


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def failed(checks: list[Check]) -> list[str]:
    return [check.what for check in checks if not check.passed]


def all_passed(checks: Iterable[Check]) -> bool:
    return all(check.passed for check in checks)


# ------------------------------------------------------------------ what is right


@pytest.fixture(scope="module")
def everything() -> list[Check]:
    return list(check_everything())


def test_every_gradient_is_right(everything: list[Check]) -> None:
    assert TOLERANCE <= 1e-7
    assert failed(everything) == [], table(everything)
    assert max(map(len, table(everything).splitlines())) <= 60


def test_every_gradient_is_right_with_other_numbers() -> None:
    checks = list(check_everything(1))
    assert failed(checks) == [], table(checks)


def test_nothing_is_left_out(everything: list[Check]) -> None:
    entries = {check.what: check.analytic.size for check in everything}
    assert len(entries) == len(everything), "two checks have the same name"
    for name in ACTIVATIONS:
        assert f"{name}: y" in entries
        assert {f"mlp {name}: layer2.W", f"mlp {name}: x"} <= set(entries)
        for hidden_dims in ((7,), (7, 6)):
            title = f"vae {name} {'-'.join(map(str, hidden_dims))}"
            for parameter, shape in parameter_shapes(12, hidden_dims, 3).items():
                assert entries[f"{title}: {parameter}"] == np.prod(shape)
            assert entries[f"{title}: x"] == 5 * 12
            assert entries[f"{title}: epsilon"] == 5 * 3
    others = ["dense: W", "dense: b", "dense: x", "bce: logits", "kl: mu", "kl: log_var"]
    others += ["reparameterize: mu", "reparameterize: log_var"]
    assert set(others) <= set(entries)


@pytest.mark.parametrize("factor", [RIGHT, WRONG])
def test_a_new_activation_is_covered_by_being_there(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    halved = Activation(lambda y: 0.5 * y, lambda y, d_h: 0.5 * factor * d_h)
    monkeypatch.setitem(ACTIVATIONS, "halved", halved)
    new = list(check_everything(only="halved"))
    assert len(new) == 1 + 7 + (10 + 2) + (14 + 2)
    if factor == RIGHT:
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


def test_units_that_are_never_away_from_a_kink_do_not_hang_it() -> None:
    parameters = NamedArrays({"layer.b": (1,)}, float)
    draw_away_from_kinks(lambda: np.array([np.nan]), parameters, rng())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_no_number_is_wrong(bad: float) -> None:
    theta = np.ones(3)
    result = check("it", lambda: float(theta.sum()), theta, np.array([1.0, bad, 1.0]))
    assert (result.error, result.where, result.hint) == (np.inf, (1,), "")


@pytest.mark.parametrize(("off", "passes"), [(0.5e-7, True), (2e-7, False), (1e-3, False)])
def test_how_much_may_be_off(off: float, passes: bool) -> None:
    theta = rng().standard_normal((3, 4))
    found = check("it", lambda: float(np.sum(theta**2)), theta, 2 * theta * (1 + off))
    assert found.passed == passes


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


NOT_COMPARABLE: dict[str, tuple[Case, str]] = {
    "float32": ((np.float32(T), np.sum, T), "theta must be float64, not float32"),
    "integers": ((np.arange(3), np.sum, np.ones(3)), "theta must be float64, not int64"),
    "a list": (([1.0, 2.0], np.sum, [1, 1]), "the array of float64 that f reads, not a list"),
    "read-only": ((READ_ONLY, np.sum, T), "read-only"),
    "empty": ((np.ones((0, 3)), np.sum, np.ones((0, 3))), "empty"),
    "too large": ((1e9 * T, np.sum, T), "lost in rounding"),
    "gradient of float32": ((T, np.sum, np.float32(T)), "the gradient must be float64"),
    "no gradient": ((T, np.sum, None), "the gradient must be float64, not object"),
    "another shape": ((T, np.sum, T.T), r"it: gradient \(3, 2\) for an array \(2, 3\)"),
    "f an array": ((T, np.tanh, T), r"f returns an array \(2, 3\)"),
    "f None": ((T, lambda t: None, T), "number of float64, not NoneType"),
    "f of float32": ((T, lambda t: np.float32(t.sum()), T), "number of float64, not float32"),
}


@pytest.mark.parametrize(("case", "words"), NOT_COMPARABLE.values(), ids=NOT_COMPARABLE)
def test_what_cannot_be_compared_is_refused(case: Case, words: str) -> None:
    theta, f, gradient = case
    with pytest.raises(ValueError, match=words) as refusal:
        check("it", lambda: f(theta), theta, gradient)
    assert str(refusal.value).count("\n") < 4


NOISE = rng()
NOT_ITS_FAULT: dict[str, tuple[Callable[[Any], Any], str]] = {
    "random": (lambda t: np.sum(t) + NOISE.random(), "f is random"),
    "seldom": (lambda t: np.sum(t) * NOISE.choice([1, 2]), "f is random"),
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
@pytest.mark.parametrize("end", [ZeroDivisionError, KeyboardInterrupt])
def test_theta_is_put_back_whatever_happens(call: int, end: type[BaseException]) -> None:
    theta, calls = T.copy(), iter(range(1, 99))

    def f() -> float:
        if next(calls) == call:
            raise end
        return float(np.sum(theta**2))

    with pytest.raises(end):
        check("it", f, theta, T)
    assert theta.tobytes() == T.tobytes()


RIGHT_CHECK = Check("a thing", np.full((2, 3), 0.5), np.full((2, 3), 0.5))


def test_the_table_says_what_is_wrong_and_where() -> None:
    numeric = np.array([0.1, 0.2, 0.25, 0.0])
    wrong = Check("kl: mu", numeric + 0.001 * np.eye(4)[2] * numeric, numeric)
    assert "WRONG" not in table([RIGHT_CHECK])
    assert table([RIGHT_CHECK]).splitlines()[-1].startswith("all 1 right: 6 entries")
    first, _, second = table([RIGHT_CHECK, wrong]).partition("What is wrong, and what it may be:")
    row = first.splitlines()[-2]
    assert row.split() == ["mu", "4", "1.0e-03", "(2,)", "+0.25025", "+0.25", "WRONG"]
    where, again, cause, *_, last = second.strip().splitlines()
    assert (where, again) == ("kl: mu", row)  # once more, for a reader who has scrolled down
    assert cause == "  1 of 3 entries are wrong, the others are right"
    assert last == "1 of 2 WRONG: 10 entries, worst 1.0e-03, allowed 1e-07"


@pytest.mark.parametrize(
    ("by_hand", "words"),
    [
        (lambda n: -n, "the sign"),
        (lambda n: 2 * n, "0.5 forgotten"),
        (lambda n: n / 2, "half as large"),
        (lambda n: 5 * n, "is 1/B forgotten"),
        (lambda n: n / 5, "1/B counted twice"),
        (lambda n: n / 0.7, "beta, which is 0.7 here, forgotten"),
        (lambda n: 0.7 * n, "beta, which is 0.7 here, counted twice"),
        (lambda n: 3 * n, "3 times the right one"),
        (lambda n: n.T, "transposed"),
        (lambda n: 0 * n, "a path missing"),
        (lambda n: n * [1, 1, 2], "right in column 0, 1, wrong"),
        (lambda n: n + np.eye(3), "3 of 9 entries are wrong"),
        (lambda n: n + 1, "no simple factor"),
        (lambda n: np.nan * n, "not a number"),
    ],
)
def test_the_usual_causes_are_guessed(by_hand: Callable[[Array], Array], words: str) -> None:
    numeric = rng().standard_normal((3, 3))
    found = Check("it", by_hand(numeric), numeric)
    assert not found.passed
    assert words in cause(found)


def test_units_that_are_off_say_nothing_of_the_cause() -> None:
    """Their column is 0 in both, and right by accident."""
    numeric = rng().standard_normal((3, 3)) * [1, 0, 1]
    assert "no simple factor" in cause(Check("it", numeric + np.array([1, 0, 1]), numeric))
    assert "right in column 0, wrong" in cause(Check("it", numeric + np.array([0, 0, 1]), numeric))


def test_a_matrix_that_is_not_square_can_be_transposed_too() -> None:
    numeric = rng().standard_normal((2, 3))
    wrong_places = np.ascontiguousarray(numeric.T).reshape(2, 3)
    assert "transposed and reshaped" in cause(Check("it", wrong_places, numeric))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["dense: W", "vae relu 7: x"], "Begin with dense"),
        (["vae relu 7: x", "vae relu 7: epsilon"], "test_meaning.py"),
        (["vae relu 7: encoder.hidden0.W", "vae relu 7: decoder.logits.W"], "Begin at the loss"),
        (["vae relu 7: encoder.hidden0.W", "vae relu 7: encoder.mu.b"], "two paths meet"),
        (["vae relu 7: encoder.hidden0.W", "vae relu 7: x"], "is one missing?"),
    ],
)
def test_where_to_look_first(rows: list[str], words: str) -> None:
    wrong = [Check(row, np.ones(1), np.zeros(1)) for row in rows]
    assert words in first_look(wrong)


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


def test_parts_can_be_checked_alone_with_the_same_numbers(everything: list[Check]) -> None:
    (alone,) = check_parts(["bce"])
    (same,) = (check for check in everything if check.what == "bce: logits")
    np.testing.assert_array_equal(alone.numeric, same.numeric)
    assert {check.what.partition(":")[0] for check in everything} == set(parts())


@pytest.mark.parametrize("text", ["kl: log_var", "vae elu 7: decoder"])
def test_only_the_rows_with_a_text(text: str, everything: list[Check]) -> None:
    expected = [check.what for check in everything if text in check.what]
    assert [check.what for check in check_everything(only=text)] == expected != []


# ------------------------------------------------------------------ mistakes in the model

PARAMETERS = list(parameter_shapes(12, (7, 6), 3))


def check_deep() -> list[Check]:
    return list(check_model("relu", (7, 6), rng()))


def test_the_deep_model_as_it_is_passes() -> None:
    assert failed(check_deep()) == []


def spoil(monkeypatch: pytest.MonkeyPatch, mistake: Callable[[VAE, Gradients], Gradients]) -> None:
    """Let VAE.backward make a mistake with what it has computed."""
    right = VAE.backward

    def backward(self: VAE, a: Activations, beta: float = 1.0) -> Gradients:
        return mistake(self, right(self, a, beta))

    monkeypatch.setattr(VAE, "backward", backward)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_single_entry_that_is_off_is_found_and_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(vae: VAE, d: Gradients) -> Gradients:
        gradient = vae.gradients[name]
        gradient.flat[-1] += 1e-3 * np.abs(gradient).max()
        return d

    spoil(monkeypatch, mistake)
    (found,) = [check for check in check_deep() if not check.passed]
    assert found.what == f"vae relu 7-6: {name}"
    last = tuple(n - 1 for n in parameter_shapes(12, (7, 6), 3)[name])
    assert found.where == last
    assert found.error == pytest.approx(1e-3, rel=1e-4)


def test_an_error_of_two_in_ten_million_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(vae: VAE, d: Gradients) -> Gradients:
        vae.gradients.flat *= 1 + 2e-7
        return d

    spoil(monkeypatch, mistake)
    assert failed(check_deep()) == [f"vae relu 7-6: {name}" for name in PARAMETERS]


def test_a_beta_forgotten_in_backward_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = VAE.backward
    monkeypatch.setattr(VAE, "backward", lambda self, a, beta=1.0: right(self, a))
    assert failed(check_deep()) == [f"vae relu 7-6: {name}" for name in (*ENCODER, "x")]


@pytest.mark.parametrize(("field", "what"), [("d_x", "x"), ("d_z", "epsilon")])
def test_an_input_gradient_wrong_by_a_thousandth_is_found(
    field: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda vae, d: d._replace(**{field: WRONG * getattr(d, field)}))
    assert failed(check_deep()) == [f"vae relu 7-6: {what}"]


ENCODER = [name for name in PARAMETERS if name.startswith("encoder")]
DECODER = [name for name in PARAMETERS if name.startswith("decoder")]
BEFORE_HEADS = [name for name in ENCODER if "hidden" in name]


def plant(monkeypatch: pytest.MonkeyPatch, name: str, factor: float) -> None:
    """Let what a function of the loss gives to VAE.backward be wrong by a factor."""
    right = getattr(npvae.model, name)

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        if isinstance(found, tuple):
            return tuple(factor * array for array in found)
        return factor * found

    monkeypatch.setattr(npvae.model, name, wrong)


@pytest.mark.parametrize(
    ("function", "factor", "names"),
    [
        pytest.param("kl_divergence_backward", 0.0, ENCODER, id="no KL"),
        pytest.param("kl_divergence_backward", 5.0, ENCODER, id="KL without 1/B"),
        pytest.param("bce_with_logits_backward", 5.0, PARAMETERS, id="bce without 1/B"),
        pytest.param("reparameterize_backward", 0.0, ENCODER, id="pixels forgotten at the heads"),
    ],
)
def test_a_mistake_at_a_meeting_point_is_found(
    function: str, factor: float, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows in all of these arrays, and in no parameter besides."""
    plant(monkeypatch, function, factor)
    found = [what for what in failed(check_deep()) if what.split()[-1] in PARAMETERS]
    assert found == [f"vae relu 7-6: {name}" for name in names]


def sigma_squared_backward(d_z: Array, log_var: Array, epsilon: Array) -> tuple[Array, Array]:
    """The well-known mistake: exp(log_var) as the standard deviation."""
    return d_z, d_z * epsilon * np.exp(log_var)


def test_a_wrong_sigma_is_found_unless_it_is_wrong_in_both_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Why a gradient check is not enough: test_meaning.py finds the second one."""

    def forward(mu: Array, log_var: Array, epsilon: Array) -> Array:
        return np.asarray(mu + np.exp(log_var) * epsilon)

    for module in (npvae.model, npvae.gradcheck_vae):
        monkeypatch.setattr(module, "reparameterize_backward", sigma_squared_backward)
    assert failed(list(check_reparameterize(rng()))) == ["reparameterize: log_var"]
    found = failed(check_deep())
    assert {f"vae relu 7-6: {name}" for name in ENCODER if "encoder.mu" not in name} <= set(found)

    for module in (npvae.model, npvae.gradcheck_vae):
        monkeypatch.setattr(module, "reparameterize", forward)
    assert failed(list(check_reparameterize(rng()))) == []
    assert failed(check_deep()) == ["vae relu 7-6: epsilon"]


@pytest.mark.parametrize("head", ["mu", "log_var"])
def test_heads_whose_gradients_are_not_added_are_found(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Dense.backward

    def backward(self: Dense, x: Array, d_y: Array) -> Array:
        d_x = right(self, x, d_y)
        return 0 * d_x if self.d_W.shape == (6, 3) and is_head(self) else d_x

    def is_head(layer: Dense) -> bool:
        return any(layer is getattr(vae, f"to_{head}") for vae in made)

    def make(*given: Any) -> VAE:
        made.append(VAE(*given))
        return made[-1]

    made: list[VAE] = []
    monkeypatch.setattr(Dense, "backward", backward)
    monkeypatch.setattr(npvae.gradcheck_vae, "VAE", make)
    found = failed(check_deep())
    assert found == [f"vae relu 7-6: {name}" for name in (*BEFORE_HEADS, "x")]


# ------------------------------------------------------------------ mistakes in the parts


@pytest.mark.parametrize("part", ["W", "b", "x"])
def test_a_wrong_dense_gradient_is_found(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Dense.backward

    def backward(self: Dense, x: Array, d_y: Array) -> Array:
        d_x = right(self, x, d_y)
        if part == "x":
            return WRONG * d_x
        getattr(self, f"d_{part}")[...] *= WRONG
        return d_x

    monkeypatch.setattr(Dense, "backward", backward)
    assert failed(list(check_dense(rng()))) == [f"dense: {part}"]
    found = failed(list(check_mlp("relu", ACTIVATIONS["relu"], rng())))
    below = [f"mlp relu: layer{k}.{parameter}" for k in range(2) for parameter in "Wb"]
    assert found == (
        [*below, "mlp relu: x"] if part == "x" else [f"mlp relu: layer{k}.{part}" for k in range(3)]
    )


def test_a_wrong_gradient_of_bce_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bce_with_logits_backward
    monkeypatch.setattr(
        npvae.gradcheck_vae,
        "bce_with_logits_backward",
        lambda *arguments: WRONG * right(*arguments),
    )
    assert failed([*check_bce(rng()), *check_kl(rng())]) == ["bce: logits"]


@pytest.mark.parametrize("which", ["mu", "log_var"])
@pytest.mark.parametrize("part", ["kl_divergence", "reparameterize"])
def test_a_wrong_gradient_of_mu_or_log_var_is_found(
    part: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(npvae.gradcheck_vae, f"{part}_backward")

    def backward(*arguments: Array) -> tuple[Array, Array]:
        d_mu, d_log_var = right(*arguments)
        return (WRONG * d_mu, d_log_var) if which == "mu" else (d_mu, WRONG * d_log_var)

    monkeypatch.setattr(npvae.gradcheck_vae, f"{part}_backward", backward)
    checks = [*check_kl(rng()), *check_reparameterize(rng())]
    assert failed(checks) == [f"{part.removesuffix('_divergence')}: {which}"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_wrong_slope_of_an_activation_is_found(name: str) -> None:
    right = ACTIVATIONS[name]

    mistaken = Activation(right.forward, lambda y, d_h: WRONG * right.backward(y, d_h))
    assert all_passed(check_activation(name, right, rng()))
    assert not all_passed(check_activation(name, mistaken, rng()))


@pytest.mark.parametrize(
    ("name", "backward"),
    [
        ("relu", lambda y, d_h: d_h * (y < 0)),
        ("leaky_relu", lambda y, d_h: np.where(y > 0, d_h, 0.011 * d_h)),
        ("elu", lambda y, d_h: np.where(y > 0, d_h, d_h * np.expm1(y))),
        ("tanh", lambda y, d_h: d_h * (1 - np.tanh(y))),
    ],
)
def test_a_likely_mistake_in_an_activation_is_found(
    name: str, backward: Callable[[Array, Array], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistaken = Activation(ACTIVATIONS[name].forward, backward)
    assert not all_passed(check_activation(name, mistaken, rng()))
    assert len(failed(list(check_mlp(name, mistaken, rng())))) == 7
    monkeypatch.setitem(ACTIVATIONS, name, mistaken)
    assert f"vae {name} 7: x" in failed(list(check_model(name, (7,), rng())))
