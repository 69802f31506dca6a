"""How are verdicts printed? A line for each task, then one explanation, then where to look."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from npvae.lab.checker import BROKEN, Verdict
from npvae.lab.process import readable
from npvae.lab.sheet import lesson_lines
from npvae.lab.tasks import Task

WIDTH = 80


def line(verdict: Verdict) -> str:
    """One task in a line, whose last word is right, wrong or open."""
    return f"{verdict.task.number:<2} {verdict.task.name:<26} {verdict.state}"


def report(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A line for each task, and what is to be said of them."""
    yield from map(line, verdicts)
    yield from explained(verdicts)


def explained(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What was printed, and what a teacher would say of the first that is wrong."""
    for verdict in verdicts:
        if verdict.printed.strip():
            yield ""
            yield from wrapped(f"Task {verdict.task.number} prints: {readable(verdict.printed)}")
    wrong = [verdict for verdict in verdicts if verdict.state == "wrong"]
    still = [verdict for verdict in verdicts if verdict.state == "open"]
    if wrong and BROKEN in wrong[0].lines:
        yield f"\n{BROKEN}"
        yield from wrapped(" ".join(wrong[0].lines[1:]))
        return
    if wrong:
        yield f"\nTask {wrong[0].task.number}, {wrong[0].task.name}:"
        for line in wrong[0].lines:
            yield from wrapped(line)
    elif still:
        yield f"\nNext is task {still[0].task.number}, {still[0].task.name}."
    if wrong or still:
        yield from wrapped(f"Tour (npvae/README.md): {(wrong or still)[0].task.tour}.")


def hint(task: Task, count: int) -> Iterator[str]:
    """Hint number 1, 2 or 3; the third are the lines of the lesson."""
    yield f"Task {task.number}, {task.name}, hint {count} of 3:"
    if count <= len(task.hints):
        yield from wrapped(task.hints[count - 1])
    else:
        yield textwrap.indent(lesson_lines(task.name), "    ")


def wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
