"""How do lines for people fit the terminal, however narrow it is?

What `show` prints is never wider than the terminal, but for paths and commands: those stay whole,
the terminal itself breaks them, and they can be copied as one line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TextIO

PAGE = 100  # columns
CLONE = Path(__file__).resolve().parents[2]  # if the package was not installed elsewhere
# Any of python scripts/train.py, python -m npvae train, npvae train
COMMAND = r"python[\d.]*'? (-m npvae|\S*(/|'))|(^ *|  )\S*npvae'? \w+( |$)"


def columns(stream: TextIO) -> int:
    """The width of the terminal, or of a page where there is none."""
    try:
        if stream.isatty():
            asked = int(os.environ.get("COLUMNS", 0))
            return asked or os.get_terminal_size(stream.fileno()).columns or PAGE
    except (ValueError, OSError):  # it will not say
        pass
    return PAGE


def is_live(stream: TextIO) -> bool:
    """Whether a line of it can be wiped and written again: a terminal, unless TERM says dumb."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show(text: str, stream: TextIO | None = None) -> None:
    """Print lines for people, on stdout if not told otherwise, so that they fit the terminal."""
    stream = stream or sys.stdout
    if stream.isatty():
        text = "\n".join(fitted(line, columns(stream)) for line in text.split("\n"))
    print(text, file=stream, flush=True)


def mention(text: str, stream: TextIO | None = None) -> None:
    """Show what nobody has to read: if it cannot be printed, that is no fault of what goes on."""
    with suppress(OSError):
        show(text, stream)


def fitted(line: str, width: int) -> str:
    """The line, broken between words; one with a command stays whole, to be copied and run."""
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
    """What runs another of our commands, in the form in which this one was called.

    That is the installed `npvae`, `python -m npvae`, or the script beside the one that runs. Where
    none of ours runs, as in a notebook, it is the script of the clone, if the package lies in one.
    """
    called = Path(sys.argv[0])
    beside, cloned = called.with_name(f"{name}.py"), Path("scripts", f"{name}.py")
    if called.stem == "npvae":
        return [str(called), name]
    if not is_module(called) and beside.is_file():
        return [sys.executable, f"./{beside}" if is_dashed(beside) else str(beside)]
    if not is_module(called) and (CLONE / cloned).is_file():
        return [sys.executable, str(cloned)]
    return [sys.executable, "-m", "npvae", name]


def command(name: str, *arguments: object) -> str:
    """The same as a line to be copied into a shell, with these arguments."""
    program, *rest = words(name)
    short = in_shell(program, "npvae") if program != sys.executable else interpreter()
    given = (f"./{w}" if is_dashed(w) else str(w) for w in arguments)
    return " ".join([short, *map(quote, [*rest, *given])])


def program() -> str:
    """The command that runs, as usage and errors name it: `train.py` or `npvae train`."""
    called = Path(sys.argv[0])
    if called.stem == "npvae":
        return " ".join(["npvae", *sys.argv[1:2]])
    if is_module(called):
        return " ".join(["python -m npvae", *sys.argv[1:2]])
    return called.name


def interpreter() -> str:
    """How the shell finds the Python that runs this; any other may lack our packages."""
    return in_shell(sys.executable, "python", "python3")


def in_shell(path: str, *names: str) -> str:
    """The first of the names by which the shell finds a program in the same folder, or its path."""
    folder = os.path.realpath(os.path.dirname(path))
    for name in names:
        found = shutil.which(name)
        if found and os.path.realpath(os.path.dirname(found)) == folder:
            return name
    return quote(path)


def is_module(called: Path) -> bool:
    """Whether this is what `python -m npvae` runs."""
    return (called.parent.name, called.name) == ("npvae", "__main__.py")


def is_dashed(word: object) -> bool:
    """Whether a path would be taken for an option."""
    return isinstance(word, Path) and str(word).startswith("-")
