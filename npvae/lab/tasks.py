"""What is asked in each task? tasks.md and slips.md, as Python.

A slip is a `Mistake` like those of the gallery: wrong lines of the lesson. Next: sheet.py.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from npvae.mistakes import MISTAKES
from npvae.mistakes.mistake import Mistake, edits, sections

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
        gallery = [m for m in MISTAKES.values() if any(edit.where == where for edit in m.edits)]
        return [*gallery, *self.slips]


HERE = Path(__file__).parent


def page() -> str:
    """What surrounds the blanks, with places for them."""
    text = sections(HERE / "tasks.md")["The page"]
    return text.partition("```python\n")[2].partition("```")[0]


@cache
def tasks() -> dict[int, Task]:
    """All tasks by their number."""
    slips, found = sections(HERE / "slips.md"), {}
    for heading, text in sections(HERE / "tasks.md").items():
        call = re.search(r"^`\w+\((.*)\)` returns `(.*)`$", text, re.M)
        if not call:  # the page
            continue
        number, name = heading.split()
        docstring, _, rest = text.partition("\n\n    ")[2].partition("\n\nTour: ")
        diffs = re.findall(r"^- ([^\n]*)\n\n```diff\n(.*?)```", slips[heading], re.M | re.S)
        found[int(number)] = Task(
            int(number),
            name,
            call[1],
            tuple(call[2].split(", ")),
            dedent(f"    {docstring}"),
            rest.partition("\n")[0],
            tuple(re.findall(r"</summary>\n\n(.*)\n", rest)),
            tuple(
                Mistake(name, words, "", "", "", edits(diff, WHERE[name])) for words, diff in diffs
            ),
        )
    return found
