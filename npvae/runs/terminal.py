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


def columns(stream: TextIO) -> int:
    """The width of the terminal, or of a page where there is none."""
    try:
        if stream.isatty():
            asked = int(os.environ.get("COLUMNS", 0))
            return asked or os.get_terminal_size(stream.fileno()).columns or PAGE
    except (ValueError, OSError):  # it will not say
        pass
    return PAGE


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
    if len(line) <= width or re.search(r"python[\d.]*'? \S*(/|')", line):
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


def command(script: str, *arguments: object) -> str:
    """The line that runs another of our scripts, from the folder in which this one was called."""
    folder = Path(sys.argv[0]).parent
    if not (folder / script).is_file():
        folder = Path("scripts")
    words = (folder / script, *arguments)
    return " ".join([interpreter(), *(quote(f"./{w}" if is_dashed(w) else str(w)) for w in words)])


def interpreter() -> str:
    """How the shell finds the Python that runs this; any other may lack our packages."""
    here = os.path.dirname(sys.executable)
    for name in ("python", "python3"):
        if os.path.dirname(shutil.which(name) or "") == here:
            return name
    return quote(sys.executable)


def is_dashed(word: object) -> bool:
    """Whether a path would be taken for an option."""
    return isinstance(word, Path) and str(word).startswith("-")
