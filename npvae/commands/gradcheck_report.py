"""The gradient check for people: a table, and for each wrong row a guess at the cause."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from npvae.gradcheck import TOLERANCE, Check
from npvae.mistakes.causes import cause, first_look, number


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


def summary(checks: Sequence[Check]) -> str:
    wrong = sum(not check.passed for check in checks)
    entries = sum(check.analytic.size for check in checks)
    worst = max(check.error for check in checks)
    result = f"{wrong} of {len(checks)} WRONG" if wrong else f"all {len(checks)} right"
    return f"{result}: {entries} entries, worst {worst:.1e}, allowed {TOLERANCE:g}"
