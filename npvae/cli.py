"""What all commands have in common: how options are read and how errors are told.

Exit codes: 0 done, 1 a bug of ours, 2 bad option, 3 data, 4 checkpoint, 5 diverged, 6 output folder
or disk, 130 and 143 for signals. An error is at most four lines; --debug shows the traceback.
Nothing heavy is imported here, so that --help and bad options answer at once.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any, NoReturn

from npvae.errors import NpvaeError


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with an option."""

    def __init__(self, description: str | None, epilog: str | None = None, **more: Any) -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )
        self._negative_number_matcher = re.compile(r"-[\d.]")  # -1e-3 is a value, too

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (--help tells more)", file=sys.stderr)
        sys.exit(2)

    def add_common(self, seed: int | str = 0) -> None:
        """--seed, --quiet and --debug, which every command has."""
        self.add_argument(
            "--seed",
            type=whole_number(0),
            default=seed,
            metavar="N",
            help="of all randomness (default: 0)",
        )
        self.add_argument("--quiet", action="store_true", help="print results and errors only")
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add_data(self) -> None:
        """--dataset and --data-dir."""
        self.add_argument(
            "--dataset",
            type=some_text,
            metavar="NAME",
            help="fashion-mnist, mnist, drawn-digits, an .npz file, a folder of pictures, or auto: "
            "Fashion-MNIST, or drawn-digits where that cannot be had (default: auto)",
        )
        self.add_argument(
            "--data-dir",
            type=some_text,
            metavar="FOLDER",
            help="where the dataset's files are or go (default: $NPVAE_DATA_DIR, else data/)",
        )


def whole_number(low: int) -> Callable[[str], int]:
    """An option's type: a whole number, `low` or more."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low or value >= 2**53:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {low} or more")
        return value

    return parse


def number(low: float, above: bool = False) -> Callable[[str], float]:
    """An option's type: a finite number, `low` or more; or more than `low`, if `above`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < low or (above and value == low):
            bound = f"above {low:g}" if above else f"{low:g} or more"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bound}")
        return value

    return parse


def sizes(text: str) -> tuple[int, ...]:
    """An option's type: layer sizes such as 128 or 512,256."""
    parts = text.split(",")
    if not all(part.isdecimal() and 0 < int(part) < 2**31 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layer sizes such as 256,128")
    return tuple(int(part) for part in parts)


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """An option's type: one or more of the known words, such as shift,flip; in the known order."""

    def parse(text: str) -> tuple[str, ...]:
        words = text.split(",")
        if len(set(words)) < len(words) or not set(words) <= set(known):
            raise argparse.ArgumentTypeError(f"{text!r} is not some of {','.join(known)}")
        return tuple(word for word in known if word in words)

    return parse


def command(script: str, *arguments: object) -> str:
    """The line that runs another of our scripts, from the folder in which this one was called."""
    folder = Path(sys.argv[0]).parent
    if not (folder / script).is_file():
        folder = Path("scripts")
    return " ".join(["python", *(quote(str(word)) for word in (folder / script, *arguments))])


def some_text(text: str) -> str:
    """An option's type: anything but nothing."""
    if not text:
        raise argparse.ArgumentTypeError("'' is empty")
    return text


class Terminated(BaseException):
    """SIGTERM, as an exception: files that are being written are still cleaned up."""


def run(main: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Call main with the command line, and end the process as the house rules say."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # rather a "?" than an error over a letter
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv
    try:
        code = main(sys.argv[1:]) or 0
    except NpvaeError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Terminated:
        code = 143
    except BrokenPipeError:  # whoever read our output has enough
        code = 0
    except OSError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        code = 6
    except Exception as error:
        if debug:
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("This is a bug in npvae. --debug shows where it happened.", file=sys.stderr)
        code = 1
    try:
        print(end="", flush=True)
    except OSError as error:  # nobody reads, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError) and code == 0:
            print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
            code = 6
    sys.exit(code)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _show_warning(message: Warning | str, *rest: Any, **named: Any) -> None:
    print(f"note: {str(message).splitlines()[0]}", file=sys.stderr)
