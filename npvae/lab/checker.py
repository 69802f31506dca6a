"""Is each answer right, and if not, what would a good teacher say?

A forward function is held to the values of the lesson, whose meaning has its own tests, and to one
value that everybody can work out. A backward function is held to finite differences of the right
forward. If that fails it is compared with the learner's own forward, too: a right derivative of a
wrong formula is another mistake than a wrong derivative.

The cause is known if the numbers are those of a mistake of the gallery, or of a slip of slips.md,
planted into the lesson. Otherwise causes.py guesses. Next: grade.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from difflib import get_close_matches
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npvae.core.network import parameter_shapes
from npvae.core.parameters import Array
from npvae.gradcheck import Check, central_differences
from npvae.lab.cases import Case, Sizes, cases, objective
from npvae.lab.lesson import RIGHT, outcome
from npvae.lab.process import Fault, Learner
from npvae.lab.runner import Other
from npvae.lab.sheet import GRADIENTS
from npvae.lab.tasks import Task, tasks
from npvae.mistakes.causes import cause, first_look, number
from npvae.mistakes.mistake import Mistake, planted

FULL_NAMES = dict(zip(GRADIENTS, parameter_shapes(1, (1,), 1), strict=True))
FORWARD = {
    "bce_with_logits_backward": "bce_with_logits",
    "kl_divergence_backward": "kl_divergence",
    "reparameterize_backward": "reparameterize",
}
BROKEN = "The sheet does not load."
ZERO, ONE = np.zeros((1, 1)), np.ones((1, 1))
# Arguments, result, and words: cases that need no computer.
BY_HAND: dict[str, tuple[list[Array], float, str]] = {
    "bce_with_logits": ([ZERO, ONE], math.log(2), "At logits = 0 each pixel costs log 2 = 0.6931"),
    "kl_divergence": ([ZERO, ZERO], 0.0, "At mu = 0, log_var = 0 the KL must be 0"),
    "reparameterize": (
        [ZERO, ONE * math.log(4), ONE],
        2.0,
        "At mu = 0, log_var = log 4, epsilon = 1, sigma is 2 and z must be 2",
    ),
}


class Verdict(NamedTuple):
    """What is to be said of one task."""

    task: Task
    state: str  # right, wrong or open
    lines: tuple[str, ...] = ()  # why it is not right
    printed: str = ""  # what the learner's function has printed


class Wrong(Exception):
    """An answer that is not right; the arguments are lines that explain it."""


def check_sheet(
    path: Path,
    asked: Iterable[int],
    seed: int | None = None,
    source: bytes = b"",
    before: Sequence[str] = (),
) -> Iterator[Verdict]:
    """The verdict of each task that is asked; with a seed, for hidden sizes.

    `source` and `before` are for `Learner`. Raises OptionError if the file is no sheet.
    """
    with Learner(path, source, before) as learner:
        for task in (tasks()[k] for k in asked):
            rng = np.random.default_rng([seed or 0, task.number])
            sizes = Sizes() if seed is None else Sizes.hidden(rng)
            state, lines = "right", ()
            try:
                learner.begin()
                check_signature(task, learner.functions)
                for case in cases(task.name, sizes, rng):
                    check_case(task, case, sizes, learner)
            except Wrong as wrong:
                state, lines = "wrong", wrong.args
            except Fault as fault:
                state = "open" if fault.kind == "NotImplementedError" else "wrong"
                lines = (BROKEN,) * bool(learner.broken) + fault.args
            if state == "wrong":  # whatever it has changed, such as NumPy, costs no other task
                learner.stop()
            yield Verdict(task, state, lines, learner.printed)


def check_signature(task: Task, functions: dict[str, list[str]]) -> None:
    """Raises Wrong for a function that is missing or takes other arguments."""
    if task.name not in functions:
        others = functions.keys() - {each.name for each in tasks().values()}
        close = get_close_matches(task.name, sorted(others), n=1, cutoff=0.6)
        renamed = f" Is it the one that is called {close[0]}?" if close else ""
        raise Wrong(f"The sheet has no function {task.name}.{renamed}")
    found = functions[task.name]
    names = [name.removesuffix("=") for name in found]
    wanted = task.parameters
    if names[: len(wanted)] != wanted or not all(n.endswith("=") for n in found[len(wanted) :]):
        raise Wrong(f"Its arguments are ({', '.join(names)}), not ({task.arguments}).")


def check_case(task: Task, case: Case, sizes: Sizes, learner: Learner) -> None:
    """Raises Wrong, with what is to be said, unless the learner's answer is right."""
    expected = outcome(task.name, case.arguments, case.keywords)
    result, after = learner.call(task.name, *case.arguments, **case.keywords)
    if task.name == "adam_step":
        found = changed(task, case.arguments, after)
    else:
        found = returned(task, result, expected)
        unchanged(task, case.arguments, after)
    checks = comparisons(task, case, found, expected, RIGHT.get(FORWARD.get(task.name, "")))
    if all(check.passed for check in checks):
        return
    # First what others depend on: what is nearest to the loss, and m and v before theta.
    order = checks[::-1] if task.name == "backward" else checks
    order = [*checks[1:], checks[0]] if task.name == "adam_step" else order
    wrong = [check for check in order if not check.passed]
    first, words = wrong[0], ("by hand", "numeric") if is_gradient(task) else ("yours", "right")
    yours, right = (number(array[first.where]).strip() for array in (first.analytic, first.numeric))
    again, _ = learner.call(task.name, *case.arguments, **case.keywords)
    raise Wrong(
        f"{first.what} is wrong{case.note and ' ' + case.note}. "
        f"Worst entry {first.where}: {words[0]} {yours}, {words[1]} {right}.",
        *["A second call gives other numbers: draw nothing here."] * (str(again) != str(result)),
        *causes(task, case, checks, wrong, sizes),
        *value_by_hand(task, learner),
        *own_forward(task, case, checks, learner),
    )


def is_gradient(task: Task) -> bool:
    return task.name.endswith("backward")


# ------------------------------------------------------------------ what comes back


def labels(task: Task) -> list[str]:
    if task.name == "backward":
        return GRADIENTS
    return ["theta", "m", "v"] if task.name == "adam_step" else list(task.returns)


def returned(task: Task, result: Any, expected: Sequence[Array]) -> list[Array]:
    """The arrays that a function returns. Raises Wrong for other things."""
    names, several = labels(task), len(expected) > 1
    if result is None:
        raise Wrong("It returns nothing: is `return` missing?")
    if several and (not isinstance(result, (list, np.ndarray)) or len(result) != len(names)):
        count = "one value" if isinstance(result, np.ndarray) else f"a {kind(result)}"
        count = f"{len(result)} values" if isinstance(result, list) else count
        listed = "in the order of the parameters" if len(names) > 3 else ", ".join(names)
        raise Wrong(f"It returns {count}, not {len(names)}: {listed}.")
    parts = list(result) if several else [result]
    for name, part, right in zip(names, parts, expected, strict=True):
        if not isinstance(part, (np.ndarray, float, int)):
            raise Wrong(f"{name} is a {kind(part)}, not an array.")
        shape, others = np.shape(part), [array.shape for array in expected]
        if shape != right.shape:
            why = " Is it transposed?" if shape == right.shape[::-1] else ""
            if right.ndim == 1:
                axis = 0 if several else 1
                why = f" It is a sum over the {'images' if several else 'columns'}: axis={axis}."
            elif shape in others:
                why = f" That is the shape of {names[others.index(shape)]}: is the order wrong?"
            raise Wrong(f"{name} has the shape {shape}, not {right.shape}.{why}")
        part = np.asarray(part)
        if part.dtype == bool:
            why = "it is only a mask. Python reads a * y > 0 as (a * y) > 0."
            raise Wrong(f"{name} holds True and False: {why}")
        if part.dtype.kind != "f":
            raise Wrong(f"{name} holds {part.dtype}, although floats came in: digits are lost.")
        if part.dtype.itemsize < 8:
            raise Wrong(f"{name} is {part.dtype}, although float64 came in: digits are lost.")
    return parts


def kind(value: Any) -> str:
    return value if isinstance(value, Other) else type(value).__name__


def unchanged(task: Task, before: Any, after: Any, name: str = "") -> None:
    """Raises Wrong if a function has changed its arguments."""
    if isinstance(before, dict):
        before, after = list(before.values()), list(after.values())
    for key, was, now in zip(task.parameters, before, after, strict=False):
        if isinstance(was, (list, dict)) and type(was) is type(now):
            unchanged(task, was, now, key)
        elif type(was) is not type(now) or not np.array_equal(was, now):
            raise Wrong(f"It changes its argument {name or key} in place. Work on a copy.")


def changed(task: Task, before: Sequence[Any], after: Sequence[Any]) -> list[Array]:
    """theta, m and v after a step. Raises Wrong if they are not changed, or the gradient is."""
    unchanged(task, [before[1]], [after[1]], "gradient")
    for k, line in (2, "m[:] = ..."), (3, "v[:] = ..."), (0, "theta -= ..."):
        name = task.parameters[k]
        if not isinstance(after[k], np.ndarray) or after[k].shape != before[k].shape:
            raise Wrong(f"{name} is not the array that it was.")
        if np.array_equal(before[k], after[k]):
            raise Wrong(
                f"{name} has not changed: `{name} = ...` makes a new array. Write `{line}`."
            )
    return [after[0], after[2], after[3]]


def comparisons(
    task: Task, case: Case, found: Sequence[Array], expected: Sequence[Array], forward: Any
) -> list[Check]:
    """Each array beside finite differences of a forward, or beside the values of the lesson."""
    right = expected
    if is_gradient(task):
        f, inputs = objective(task.name, deepcopy(case.arguments), forward)
        right = [central_differences(f, theta) for theta in inputs]
    return [Check(*each) for each in zip(labels(task), found, right, strict=True)]


# ------------------------------------------------------------------ what to say


def causes(
    task: Task, case: Case, checks: Sequence[Check], wrong: Sequence[Check], sizes: Sizes
) -> list[str]:
    """The known mistake that gives these numbers, or two of them at once; otherwise a guess."""
    found = [check.analytic for check in checks]
    pairs = (
        Mistake("", f"{a.what} And: {b.what}", "", "", "", a.edits + b.edits)
        for a, b in combinations(task.known, 2)
    )
    for mistake in chain(task.known, pairs):
        theirs: list[Array] = []
        with suppress(Exception), planted(mistake), np.errstate(all="ignore"):
            theirs = outcome(task.name, case.arguments, case.keywords)
        if theirs and all(map(alike, theirs, found)):
            return [f"{mistake.what} {mistake.why}".strip()]
    for other in checks:
        if alike(wrong[0].analytic, other.numeric):
            return [f"It holds what {other.what} has to be."]
    guess = f"{wrong[0].what}: {cause(wrong[0], sizes.B, sizes.beta)}."
    if task.name != "backward":
        return [guess]
    return [guess, first_look([replace(c, what=f"vae: {FULL_NAMES[c.what]}") for c in wrong])]


def alike(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    finite = np.abs(b[np.isfinite(b)])
    allowed = 1e-9 * max(finite.max(initial=0), np.finfo(float).tiny)
    return bool(np.allclose(a, b, rtol=0, atol=allowed, equal_nan=True))


def value_by_hand(task: Task, learner: Learner) -> Iterator[str]:
    """The simplest case in which a forward function is wrong."""
    if task.name in BY_HAND:
        arguments, right, words = BY_HAND[task.name]
        result, _ = learner.call(task.name, *arguments)
        if isinstance(result, np.ndarray) and abs(result.sum() - right) > 1e-9:
            yield f"{words}. Yours is {result.sum():.4g}."


def own_forward(task: Task, case: Case, checks: Sequence[Check], learner: Learner) -> Iterator[str]:
    """Whether a wrong gradient is that of the learner's own forward."""
    name = FORWARD.get(task.name, "")
    if name not in learner.functions:
        return

    def forward(*arguments: Array) -> Array:
        result, _ = learner.call(name, *arguments)
        return np.asarray(result, float)

    found = [check.analytic for check in checks]
    try:
        own = comparisons(task, case, found, found, forward)
    except (Fault, ValueError, TypeError):  # a forward that is open, or gives no array
        return
    if all(check.passed for check in own):
        yield (
            f"It is the exact derivative of your {name}: a right derivative of a wrong formula. "
            f"See task {task.number - 1} first."
        )
    elif all(Check("", a.numeric, b.numeric).passed for a, b in zip(own, checks, strict=True)):
        yield f"Your {name} is right. Its derivative is not."
    else:
        yield f"It is neither the derivative of the right {name} nor of yours, which is wrong, too."
