"""The gradient check for people: a table, and for each wrong row a guess at the cause."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

import numpy as np

from npvae.core.parameters import Array
from npvae.gradcheck import TOLERANCE, Check

FACTORS = {
    -1.0: "the sign is wrong",
    2.0: "twice too large: is a 0.5 forgotten, or a term counted twice?",
    0.5: "half as large as it should be: a 0.5 too many?",
    5.0: "5 times too large: is 1/B forgotten? The batch has 5 images",
    0.2: "a fifth of what it should be: is 1/B counted twice? The batch has 5 images",
    0.7: "0.7 times the right one: is beta, which is 0.7 here, counted twice?",
    1 / 0.7: "1.43 times too large: is beta, which is 0.7 here, forgotten?",
}


def table(checks: Sequence[Check]) -> str:
    """One row for each array, with its worst entry; wrong rows again at the end. 60 columns."""
    lines, group = [f"{'gradient':17}size   error  at         by hand    numeric"], ""
    for check in checks:
        before, _, _ = check.what.rpartition(": ")
        if before != group:
            group = before
            lines += ["", group]
        lines.append(row(check))
    wrong = [check for check in checks if not check.passed]
    idle = sum(not (check.analytic.any() or check.numeric.any()) for check in checks)
    if idle:
        lines += ["", f"In {idle} arrays every gradient is 0: no unit is on there to be checked."]
    if wrong:
        lines += ["", "What is wrong, and what it may be:"]
        for check in wrong:
            lines += ["", check.what, row(check), indent(cause(check), "  ")]
        if not any(check.hint for check in wrong):
            lines += ["", first_look(wrong)]
    return "\n".join([*lines, "", summary(checks)])


def row(check: Check) -> str:
    name, at = check.what.rpartition(": ")[2], check.where
    text = f"{name:17}{check.analytic.size:4} {check.error:7.1e}  {at!s:7}"
    text += f"{number(check.analytic[at]):>11}{number(check.numeric[at]):>11}"
    return text if check.passed else f"{text} WRONG"


def number(value: float) -> str:
    """Five digits, or as many as leave a gap between two columns of 11."""
    text = f"{value:+.5g}"
    return text if len(text) < 11 else f"{value:+.3g}"


def summary(checks: Sequence[Check]) -> str:
    wrong = sum(not check.passed for check in checks)
    entries = sum(check.analytic.size for check in checks)
    worst = max(check.error for check in checks)
    result = f"{wrong} of {len(checks)} WRONG" if wrong else f"all {len(checks)} right"
    return f"{result}: {entries} entries, worst {worst:.1e}, allowed {TOLERANCE:g}"


def cause(check: Check) -> str:
    """Why the check could not tell; or else the usual cause of such a difference, guessed."""
    if check.hint:
        return check.hint
    by_hand, right = check.analytic, check.numeric
    if not (np.isfinite(by_hand).all() and np.isfinite(right).all()):
        return "not a number: a logarithm of 0, an overflow, or an array that was never filled"
    if not by_hand.any():
        return "0 everywhere: nothing arrives here. Is a path missing?"
    if not right.any():
        return "the loss does not depend on it, so its gradient must be 0"
    factor = float(np.vdot(by_hand, right) / np.vdot(right, right))
    if same(by_hand, factor * right):
        for known, words in FACTORS.items():
            if abs(factor - known) < 1e-4 * abs(known):
                return words
        return f"{factor:.4g} times the right one, in every entry: a factor is missing"
    if right.ndim == 2:
        if right.shape[0] == right.shape[1] and same(by_hand, right.T):
            return "transposed"
        if same(by_hand, right.T.reshape(right.shape)):
            return "transposed and reshaped: the right numbers in the wrong places"
    live = np.atleast_2d((right != 0) | (by_hand != 0))  # a unit that is off has no gradient
    wrong = np.atleast_2d(check.errors > TOLERANCE)
    columns = np.flatnonzero(live.any(axis=0))
    good = [int(k) for k in columns if not wrong[:, k].any()]
    if good and right.ndim == 2:
        return f"right in column {', '.join(map(str, good))}, wrong in the others"
    if wrong.sum() < live.sum():
        return f"{wrong.sum()} of {live.sum()} entries are wrong, the others are right"
    return "no simple factor: another formula, or a sum with a term missing"


def same(a: Array, b: Array) -> bool:
    return bool(np.abs(a - b).max() <= 1e-5 * np.abs(b).max())


def first_look(wrong: Sequence[Check]) -> str:
    """Where to look first: in a part, if one is wrong; in a model, where paths meet."""
    group = wrong[0].what.rpartition(": ")[0]  # none in the real network
    if group and not group.startswith("vae"):
        return f"Begin with {group}: the parts come before what is made of them."
    arrays = {check.what.partition(": ")[2] for check in wrong if check.what.startswith(group)}
    if arrays <= {"x", "epsilon"}:
        return (
            "All parameters are right, so backward is the derivative of forward.\n"
            "But forward does not mean what it should: see tests/test_meaning.py."
        )
    if any(name.startswith("decoder") for name in arrays):
        return "Begin at the loss: the decoder is the first to get its gradient."
    if any(name.startswith(("encoder.mu", "encoder.log_var")) for name in arrays):
        return (
            "The decoder is right. At mu and log_var two paths meet, from the pixels and\n"
            "from the KL divergence: is one missing, or its factor?"
        )
    return "The heads are right. At h_enc both of them meet: is one missing?"
