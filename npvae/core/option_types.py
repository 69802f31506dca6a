"""What can the value of an option be? Each function reads it from the text that a user types.

They are types for argparse, which reports their ArgumentTypeError. Nothing heavy is imported here,
so that bad options answer at once.
"""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence

MOST = 2**53  # of a whole number: up to here floats are exact


def whole_number(low: int) -> Callable[[str], int]:
    """Type of an option: a whole number, at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value < MOST:
            bound = f"{low} or more" if value < low else "below 2^53"
            raise ArgumentTypeError(f"{text!r} is not a whole number, {bound}")
        return value

    return parse


def number(low: float, *, above: bool = False) -> Callable[[str], float]:
    """Type of an option: a finite number, at least `low`, or greater than `low` if `above`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < low or (above and value == low):
            bound = f"above {low:g}" if above else f"{low:g} or more"
            raise ArgumentTypeError(f"{text!r} is not a number {bound}")
        return value

    return parse


def sizes(text: str) -> tuple[int, ...]:
    """Type of an option: sizes such as 128 or 512,256."""
    parts = text.split(",")
    if not all(part.isdecimal() and 0 < int(part) < 2**31 for part in parts):
        raise ArgumentTypeError(f"{text!r} is not a list of sizes such as 256,128")
    return tuple(int(part) for part in parts)


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Type of an option: some of the known words, such as shift,flip, returned in known order."""

    def parse(text: str) -> tuple[str, ...]:
        words = text.split(",")
        if len(set(words)) < len(words) or not set(words) <= set(known):
            raise ArgumentTypeError(f"{text!r} is not a selection of {','.join(known)}")
        return tuple(word for word in known if word in words)

    return parse


def some_text(text: str) -> str:
    """Type of an option: any text that is not empty. ~ is the home folder, as in --out=~/run."""
    if not text:
        raise ArgumentTypeError("'' is empty")
    return os.path.expanduser(text)
