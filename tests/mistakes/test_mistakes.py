"""Every mistake is caught by exactly what the gallery names, and leaves nothing behind."""

from __future__ import annotations

from types import CodeType, FunctionType

import numpy as np
import pytest

from npvae.gradcheck import TOLERANCE
from npvae.layers import reparameterize
from npvae.mistakes import MISTAKES
from npvae.mistakes.mistake import Edit, Mistake, lesson_function, planted
from npvae.mistakes.trial import CHECKS, findings, trial
from npvae.settings import Settings
from tests.helpers import digits, refused

PARAMETERS = {"encoder", "mu", "log_var", "decoder", "logits"}  # as rows of the check name them
TRAIN, TEST = digits(200, 60)
SETTINGS = Settings(epochs=1, batch_size=16, learning_rate=0.01)


def codes() -> dict[FunctionType, CodeType]:
    """The code of every function that any mistake changes."""
    places = {edit.where for mistake in MISTAKES.values() for edit in mistake.edits}
    return {function: function.__code__ for function in map(lesson_function, places)}


def test_the_lesson_makes_none_of_them() -> None:
    found = findings(None)
    assert (found.red, found.meaning) == ("", ())
    assert found.worst < 1e-8


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_caught_by_exactly_what_it_names_and_is_explained(mistake: Mistake) -> None:
    assert mistake.red or mistake.meaning, "nothing catches it: a test is missing"
    found = findings(mistake)
    assert found.red == mistake.red
    assert set(found.meaning) == set(mistake.meaning)
    assert (found.worst > TOLERANCE) == (not PARAMETERS.isdisjoint(found.red.split(", ")))
    assert all(words.endswith(".") for words in mistake[1:5])  # what, where, seen, why
    assert mistake.name.replace("-", "").replace("_", "").isalnum()
    for edit in mistake.edits:
        assert not edit.where.startswith(("fast", "runs"))  # it is made in the lesson
        assert f"- {edit.right.splitlines()[0]}" in mistake.diff
        assert f"+ {edit.wrong.splitlines()[0]}" in mistake.diff


def test_every_check_of_meaning_catches_something() -> None:
    caught = {name for mistake in MISTAKES.values() for name in mistake.meaning}
    assert caught == {check.__name__ for check in CHECKS}


def test_wrong_gradients_are_caught_by_the_gradient_check_and_wrong_formulas_are_not() -> None:
    """What the gallery teaches: parameters pass where backward is the derivative of forward."""
    inputs = {"", "x", "epsilon"}
    blind = [mistake for mistake in MISTAKES.values() if not {*mistake.red.split(", ")} - inputs]
    assert len(blind) >= 24
    assert all(mistake.meaning for mistake in blind)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_mistake_is_taken_out_whatever_happens(error: type[BaseException]) -> None:
    before = codes()
    for mistake in MISTAKES.values():
        with pytest.raises(error), planted(mistake):  # noqa: PT012
            changed = {function for function in before if function.__code__ is not before[function]}
            assert changed == {lesson_function(edit.where) for edit in mistake.edits}
            raise error
    assert codes() == before


def test_a_mistake_in_a_line_that_is_not_there_changes_nothing() -> None:
    before = codes()
    right = "return mu + np.exp(0.5 * log_var) * epsilon"
    good = Edit("layers.reparameterize", right, "return mu")
    stale = Edit("layers.reparameterize_backward", "return no such line", "return d_z, d_z")
    mistake = Mistake("it", "", "", "", "", (good, stale))
    words = "layers.reparameterize_backward has no single line"
    with refused(ValueError, words), planted(mistake):
        pytest.fail("it was planted")
    assert codes() == before


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("- Where: here.\n- Seen: it.", "has no line 'Why'"),
        ("- Where: a.\n- Seen: b.\n- Why: c.\n- Caught by: `d`\n```diff\n- x\n```", "no function"),
    ],
)
def test_an_incomplete_section_is_refused(page: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Mistake.read("mine", page)


def test_the_wrong_line_is_what_runs_and_only_meanwhile() -> None:
    epsilon = np.ones((1, 1))
    with planted(MISTAKES["exp-log-var-as-sigma"]):
        assert reparameterize(0 * epsilon, np.log(4 * epsilon), epsilon) == pytest.approx(4)
    assert reparameterize(0 * epsilon, np.log(4 * epsilon), epsilon) == pytest.approx(2)


@pytest.mark.parametrize(
    "name", ["exp-log-var-as-sigma", "gradients-never-zeroed", "weights-alike"]
)
def test_a_mistake_trains_another_model(name: str) -> None:
    right, again = (trial(None, TRAIN, TEST, SETTINGS) for _ in range(2))
    wrong = trial(MISTAKES[name], TRAIN, TEST, SETTINGS)
    assert right.printed == again.printed != wrong.printed
    assert right.true.total == right.printed[-1]
    assert wrong.samples.shape == right.samples.shape == (10, 784)


@pytest.mark.parametrize(
    ("name", "too_low"), [("z-is-mu-in-the-test-loss", True), ("elbo-of-the-wrong-sign", False)]
)
def test_a_wrong_report_leaves_the_model_right(name: str, too_low: bool) -> None:
    right, wrong = trial(None, TRAIN, TEST, SETTINGS), trial(MISTAKES[name], TRAIN, TEST, SETTINGS)
    assert wrong.true == right.true
    assert (wrong.printed[-1] < right.printed[-1]) == too_low


def test_pixels_from_minus_1_to_1_have_no_floor() -> None:
    settings = Settings(epochs=4, batch_size=16, learning_rate=0.001)
    wrong = trial(MISTAKES["pixels-from-minus-1-to-1"], TRAIN, TEST, settings)
    assert wrong.printed[-1] < -1000
