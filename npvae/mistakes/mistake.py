"""What is a mistake? A line of the lesson, and the wrong line that other programs have instead.

gallery.md describes them in words, with a diff each. `planted` puts one into the running program
and takes it out again. It compiles the function of the lesson with the wrong line, and gives the
result to that function as its code. So all callers get the wrong function, and no file is changed.
Next: meaning.py.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent
from types import CodeType, FunctionType
from typing import NamedTuple


class Edit(NamedTuple):
    """One change of one function."""

    where: str  # the function, such as "layers.reparameterize"
    right: str  # a line of it, or several, as they are in the lesson
    wrong: str  # what stands there instead


class Mistake(NamedTuple):
    """What goes wrong, how it looks, and what notices it."""

    name: str
    what: str  # the mistake, in a sentence
    where: str  # it is commonly made
    sees: str  # what a user sees
    why: str  # it happens
    edits: tuple[Edit, ...]
    red: str = ""  # rows of the gradient check, as `trial.red_rows` names them
    meaning: tuple[str, ...] = ()  # the checks of meaning.py that fail

    @classmethod
    def read(cls, name: str, text: str) -> Mistake:
        """A section of gallery.md. Raises ValueError if a part of it is missing."""
        words, _, diff = text.partition("```diff\n")
        lines = dict(re.findall(r"^- (.*?): (.*)$", words, re.M))
        try:
            where, sees, why, caught = (lines[n] for n in ("Where", "Seen", "Why", "Caught by"))
        except KeyError as missing:
            raise ValueError(f"{name} in gallery.md has no line {missing}") from None
        red = re.search(r"gradient check \((.*)\)", caught)
        meaning = tuple(re.findall(r"`(\w+)`", caught))
        what = words.strip().partition("\n")[0]
        return cls(name, what, where, sees, why, edits(diff), red[1] if red else "", meaning)

    @property
    def diff(self) -> str:
        """The right lines after "-" and the wrong ones after "+", as programmers write it."""
        blocks = [
            f"{edit.where}\n{indent(edit.right, '- ')}\n{indent(edit.wrong, '+ ')}"
            for edit in self.edits
        ]
        return "\n".join(blocks)


def sections(page: Path) -> dict[str, str]:
    """The text below each heading of a page."""
    text = page.read_text(encoding="utf-8")
    return dict(part.split("\n", 1) for part in re.split(r"^## ", text, flags=re.M)[1:])


def edits(diff: str, where: str = "") -> tuple[Edit, ...]:
    """The changes of a diff: lines with "-", then lines with "+", below the function's name.

    Raises ValueError if there are none.
    """
    found: list[Edit] = []
    for name, right, wrong in re.findall(
        r"^(?:(\w.*)\n)?((?:-.*\n)+)((?:\+.*\n)*)", diff.partition("```")[0], re.M
    ):
        where = name or where
        lines = (re.sub("^[-+] ?", "", part, flags=re.M).rstrip("\n") for part in (right, wrong))
        found.append(Edit(where, *lines))
    if not found or not found[0].where:
        raise ValueError(f"this diff names no function, or has no line with -:\n{diff}")
    return tuple(found)


def lesson_function(where: str) -> FunctionType:
    """The function "layers.reparameterize", the method "model.VAE.backward", and so on."""
    found = pkgutil.resolve_name(f"npvae.{where}")
    function = found.fget if isinstance(found, property) else found
    assert isinstance(function, FunctionType), where
    return function


def replaced(source: str, edit: Edit) -> str:
    """The source with the wrong lines. Raises ValueError unless the right ones are in it, once."""
    for depth in ("    ", 8 * " ", 12 * " "):
        right, wrong = (f"\n{indent(lines, depth)}\n" for lines in (edit.right, edit.wrong))
        if source.count(right) == 1:
            return source.replace(right, wrong)
    raise ValueError(f"{edit.where} has no single line:\n{edit.right}")


def wrong_codes(mistake: Mistake) -> dict[FunctionType, CodeType]:
    """The functions that the mistake changes, compiled with its wrong lines."""
    sources: dict[FunctionType, str] = {}
    for edit in mistake.edits:
        function = lesson_function(edit.where)
        source = sources.get(function) or dedent(inspect.getsource(function))
        sources[function] = replaced(source, edit)
    codes = {}
    for function, source in sources.items():
        names: dict[str, FunctionType] = {}
        source = "from __future__ import annotations\n" + source.removeprefix("@property\n")
        exec(compile(source, f"<mistake {mistake.name}>", "exec"), function.__globals__, names)
        codes[function] = names[function.__name__].__code__
    return codes


@contextmanager
def planted(mistake: Mistake) -> Iterator[None]:
    """While this context lasts, the lesson makes the mistake; one at a time."""
    wrong = wrong_codes(mistake)
    right = {function: function.__code__ for function in wrong}
    try:
        for function, code in wrong.items():
            function.__code__ = code
        yield
    finally:
        for function, code in right.items():
            function.__code__ = code
