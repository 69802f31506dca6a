"""How are messages fitted to the terminal, and how is a command suggested in them?

`show` breaks lines between words at the width of the terminal. Paths and commands stay whole: the
terminal wraps them, and they can be copied as one line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TextIO

from npvae.runs.launcher import size_and_rank

PAGE = 100  # columns
CLONE = Path(__file__).resolve().parents[2]  # unless the package is installed elsewhere
# One of: python scripts/train.py, python -m npvae train, npvae train; or a line of Python
COMMAND = (
    r"python[\d.]*'? (-m |\S*(/|'))|(^ *|  )\S*npvae'? \w+( |$)"
    r"|^(import \w+|from \w+ import|for \w+ in) .*[;:]"
)


def columns(stream: TextIO) -> int:
    """The width of the terminal, or PAGE if the stream is not a terminal."""
    try:
        if stream.isatty():
            asked = int(os.environ.get("COLUMNS", 0))
            return asked or os.get_terminal_size(stream.fileno()).columns or PAGE
    except (ValueError, OSError):  # the terminal does not know it
        pass
    return PAGE


def is_live(stream: TextIO) -> bool:
    """Whether a line can be erased and printed again: on a terminal, unless TERM is dumb."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class MovingLine:
    """A line below the output that is drawn again and again: on a terminal, unless `quiet`."""

    def __init__(self, quiet: bool) -> None:
        self.live = is_live(sys.stdout) and not quiet

    def draw(self, *versions: str) -> None:
        """The first of these versions that fits, or the beginning of the last."""
        if self.live:
            room = columns(sys.stdout) - 1
            line = next((text for text in versions if len(text) <= room), versions[-1])
            print(f"\r\033[K{line[:room]}", end="", flush=True)

    def clear(self) -> None:
        """Erase it, so that something else can be printed."""
        with suppress(OSError):  # the terminal may be closed
            if self.live:
                print("\r\033[K", end="", flush=True)


def show(text: str, stream: TextIO | None = None) -> None:
    """Print lines for the user, fitted to the terminal; on stdout by default. Raises OSError.

    All that a command prints passes here: names that come from files and archives are harmless.
    """
    stream, text = stream or sys.stdout, harmless(text)
    if stream.isatty():
        text = "\n".join(fitted(line, columns(stream)) for line in text.split("\n"))
    print(text, file=stream, flush=True)


def show_note(text: str, stream: TextIO | None = None) -> None:
    """The same for what may be missed: no error if it cannot be printed."""
    with suppress(OSError):
        show(text, stream)


def harmless(text: str) -> str:
    """The text with escapes for what a terminal would obey: controls, and letters without a shape.

    The latter change the direction of writing, or are not seen. Ends of lines stay.
    """
    obeyed = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format, surrogate, line, paragraph
    escaped = {c: ascii(c)[1:-1] for c in {*text} - {"\n"} if unicodedata.category(c) in obeyed}
    return "".join(escaped.get(letter, letter) for letter in text)


def fitted(line: str, width: int) -> str:
    """The line, broken between words at this width. A line to be copied stays whole."""
    if len(line) <= width or re.search(COMMAND, line):
        return line
    indent = re.match(r" *(\S+  +)?", line)
    pieces = textwrap.wrap(
        line,
        max(20, width),
        subsequent_indent=" " * min(10, indent.end() if indent else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(pieces)


def words(name: str) -> list[str]:
    """The words that run another of our commands, in the form in which this one was called.

    That is the installed `npvae`, `python -m npvae`, or the script beside this one. Where none of
    them runs, as in a notebook, it is the script of the clone, if the package lies in one.
    """
    called = Path(sys.argv[0])
    beside, cloned = called.with_name(f"{name}.py"), Path("scripts", f"{name}.py")
    if called.stem == "npvae":
        return [str(called), name]
    for script, place in ((beside, beside), (cloned, CLONE / cloned)):
        if place.is_file() and not is_module(called):
            return [sys.executable, undashed(script)]
    return [sys.executable, "-m", "npvae", name]


def command(name: str, *arguments: object) -> str:
    """The same with these arguments, as a line to copy into a shell; training on as many ranks."""
    program, *rest = words(name)
    short = in_shell(program, "npvae") if program != sys.executable else interpreter()
    size, _ = size_and_rank()
    ranks = ["mpiexec", "-n", str(size)] if name == "train" and size > 1 else []
    return " ".join([*ranks, short, *map(quote, [*rest, *map(undashed, arguments)])])


def program() -> str:
    """The command that runs, as usage and errors name it: `train.py` or `npvae train`."""
    called = Path(sys.argv[0])
    if called.stem == "npvae":
        return " ".join(["npvae", *sys.argv[1:2]])
    if is_module(called):
        return " ".join(["python -m npvae", *sys.argv[1:2]])
    return called.name


def interpreter() -> str:
    """How the shell finds the Python that runs this. Another one may lack our packages."""
    return in_shell(sys.executable, "python", "python3")


def in_shell(path: str, *names: str) -> str:
    """The first of these names that the shell finds in the same folder; otherwise the path."""
    folder = os.path.realpath(os.path.dirname(path))
    for name in names:
        found = shutil.which(name)
        if found and os.path.realpath(os.path.dirname(found)) == folder:
            return name
    return quote(path)


def is_module(called: Path) -> bool:
    """Whether this is the module that `python -m npvae` runs."""
    return (called.parent.name, called.name) == ("npvae", "__main__.py")


def undashed(word: object) -> str:
    """The word, and a path that would be read as an option with ./ in front."""
    return f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)
