"""What is asked in each task? tasks.md, as Python.

A slip of tasks.md is a `Mistake` like those of the gallery: wrong lines of the lesson. Next:
sheet.py.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from npvae.mistakes import EVERY
from npvae.mistakes.mistake import Edit, Mistake

WHERE = {  # the lines of the lesson that fill a blank
    "dense_backward": "layers.Dense.backward",
    "relu_backward": "layers.relu_backward",
    "bce_with_logits": "losses.bce_with_logits",
    "bce_with_logits_backward": "losses.bce_with_logits_backward",
    "kl_divergence": "losses.kl_divergence",
    "kl_divergence_backward": "losses.kl_divergence_backward",
    "reparameterize": "layers.reparameterize",
    "reparameterize_backward": "layers.reparameterize_backward",
    "backward": "model.VAE.backward",
    "adam_step": "optimizers.Adam.step",
}


class Task(NamedTuple):
    """One blank of the sheet."""

    number: int
    name: str  # of the function
    arguments: str  # as they stand in its first line
    returns: tuple[str, ...]
    docstring: str
    tour: str  # where it is explained
    hints: tuple[str, ...]  # in rising order; the answer comes after them
    slips: tuple[Mistake, ...]

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"(\w+)(?:=[^,]+)?", self.arguments)

    @property
    def known(self) -> list[Mistake]:
        """The mistakes of the gallery that are made in this function, then the slips."""
        where = WHERE[self.name]
        gallery = [m for m in EVERY if any(edit.where == where for edit in m.edits)]
        return [*gallery, *self.slips]


@cache
def text() -> str:
    return Path(__file__).with_name("tasks.md").read_text(encoding="utf-8")


def page() -> str:
    """What surrounds the blanks, with places for them."""
    return text().partition("```python\n")[2].partition("```")[0]


@cache
def tasks() -> dict[int, Task]:
    """All tasks by their number."""
    found = {}
    for section in re.split(r"^## (?=\d)", text().partition("## The page")[0], flags=re.M)[1:]:
        number, name = section.split("\n", 1)[0].split()
        call = re.search(r"^`\w+\((.*)\)` returns `(.*)`$", section, re.M)
        tour = re.search(r"^Tour: (.*)$", section, re.M)
        assert call, name
        assert tour, name
        diffs = re.findall(r"^- ([^\n]*)\n\n```diff\n(.*?)```", section, re.M | re.S)
        found[int(number)] = Task(
            int(number),
            name,
            call[1],
            tuple(call[2].split(", ")),
            dedent("    " + section.partition("\n\n    ")[2].partition("\n\nTour:")[0]),
            tour[1],
            tuple(re.findall(r"^\d\. (.*)$", section, re.M)),
            tuple(slip(name, words, diff) for words, diff in diffs),
        )
    return found


def slip(name: str, words: str, diff: str) -> Mistake:
    right, wrong = ("\n".join(re.findall(rf"^\{s}(.*)$", diff, re.M)) for s in "-+")
    return Mistake(name, words, "", "", "", (Edit(WHERE[name], right, wrong),))
