"""What may be the cause of a wrong gradient? Guesses, from the two arrays alone.

The gradient check prints them for the lesson, the lab for what a learner writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npvae.core.parameters import Array
from npvae.gradcheck import TOLERANCE, Check


def factors(batch: int, beta: float) -> dict[float, str]:
    """What it may be, if all entries are wrong by one of these factors."""
    images, b = f"The batch has {batch} images", f"{beta:.3g}"
    return {
        -1.0: "the sign is wrong",
        2.0: "twice what it should be: is a 0.5 forgotten, or a term counted twice?",
        0.5: "half as large as it should be: a 0.5 too many?",
        batch: f"{batch} times too large: is 1/B forgotten? {images}",
        1 / batch: f"1/{batch} of what it should be: is 1/B counted twice? {images}",
        beta: f"{b} times the right one: is beta, which is {b} here, counted twice?",
        1 / beta: f"{1 / beta:.3g} times too large: is beta, which is {b} here, forgotten?",
        batch / beta: f"{batch / beta:.3g} times too large: is beta/B forgotten?",
    }


def cause(check: Check, batch: int = 5, beta: float = 0.7) -> str:
    """Why the check could not tell; otherwise the usual cause of such a difference, guessed.

    A batch of 5 and beta 0.7 are those of gradcheck_vae.py.
    """
    if check.hint:
        return check.hint
    by_hand, right = check.analytic, check.numeric
    if not (np.isfinite(by_hand).all() and np.isfinite(right).all()):
        return (
            "infinite or not a number: a logarithm of 0, a root or logarithm of a number below 0, "
            "an overflow, or an array that was never filled"
        )
    if not by_hand.any():
        return "0 everywhere: nothing arrives here. Is a path missing?"
    if not right.any():
        return "the loss does not depend on it, so its gradient must be 0"
    factor = float(np.vdot(by_hand, right) / np.vdot(right, right))
    if same(by_hand, factor * right):
        for known, words in factors(batch, beta).items():
            if abs(factor - known) < 1e-4 * abs(known):
                return words
            if abs(factor + known) < 1e-4 * abs(known):
                return f"the sign is wrong, and it is {words}"
        return f"{factor:.4g} times the right one, in every entry"
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


def number(value: float) -> str:
    """Five digits, or as many as leave a gap between two columns of 11."""
    text = f"{value:+.5g}"
    return text if len(text) < 11 else f"{value:+.3g}"
