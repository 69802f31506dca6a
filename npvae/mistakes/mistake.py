"""What is a mistake? A line of the lesson, and the wrong line that other programs have instead.

`planted` puts a mistake into the running program and takes it out again. It compiles the function
of the lesson with the wrong line, and gives the result to that function as its code. So all callers
get the wrong function, and no file is changed. Next: gradients.py, the first ten.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
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

    @property
    def diff(self) -> str:
        """The right lines after "-" and the wrong ones after "+", as programmers write it."""
        blocks = [
            f"{edit.where}\n{indent(edit.right, '- ')}\n{indent(edit.wrong, '+ ')}"
            for edit in self.edits
        ]
        return "\n".join(blocks)


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
