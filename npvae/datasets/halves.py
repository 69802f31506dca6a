"""What do people call the parts of a dataset? Folders, files and arrays by their usual names.

A part is one half, train, test or val, or all of it (""); and images or labels.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from npvae.datasets.dataset import mismatch

T = TypeVar("T")
Part = tuple[str, str]  # the half: "train", "test", "val" or ""; and what is in it

_HALVES = {
    "train": "train|training|trn|background",
    "test": "test|testing|tst|t10k|evaluation|eval",
    "val": "validation|valid|val|dev",
}
_ROLES = {
    "images": "images|image|imgs|img|pictures|pixels|data|inputs|x",
    "labels": "labels|label|targets|target|classes|class|y",
}
_HALF = "|".join(f"(?P<{half}>{words})" for half, words in _HALVES.items())
_ROLE = "|".join(f"(?P<{role}>{words})" for role, words in _ROLES.items())
_FOLDER = re.compile(f"({_HALF})(set|data|images|imgs|pictures)?")
_ARRAY = (re.compile(f"({_HALF})?(set)?({_ROLE})"), re.compile(f"({_ROLE})({_HALF})"))
_IDX = re.compile(rf"(?P<prefix>.*?)({_HALF})[-_. ]?({_ROLE})[-_. ]idx\d?([-_. ]?\w+)?(\.gz)?")


def half_of_folder(name: str) -> Part | None:
    """The half that a folder (or a table) is called after, and the rest of its name.

    "train" and "Training set" have no rest, "seg_train" has; None for "trainer".
    """
    words = re.findall("[a-z0-9]+", name.lower())
    candidates = [("".join(words), "")]
    if words:
        candidates += [(words[0], "".join(words[1:])), (words[-1], "".join(words[:-1]))]
    for word, rest in candidates:
        if match := _FOLDER.fullmatch(word):
            return _meant(match, _HALVES), rest
    return None


def part_of_array(name: str) -> Part | None:
    """What the array of this name holds: X_train, trainImages, labels, ...; None: who knows?"""
    for pattern in _ARRAY:
        if match := pattern.fullmatch(_plain(name)):
            return _meant(match, _HALVES), _meant(match, _ROLES)
    return None


def part_of_idx(name: str) -> tuple[str, Part] | None:
    """The prefix of an IDX file's name (such as "emnist-letters-") and its part, if it is one."""
    match = _IDX.fullmatch(name.lower())
    return (match["prefix"], (_meant(match, _HALVES), _meant(match, _ROLES))) if match else None


def choose_halves(where: Path, found: Mapping[str, T], notes: list[str]) -> list[T]:
    """[train, test] of what there is, or [all] where a test set has to be held out.

    `found` maps halves to whatever stands for them. Raises DataError without a training set.
    """
    if "" in found:
        return [found[""]]
    if "train" not in found:
        raise mismatch(where, "train and test", f"only {' and '.join(found)}")
    if "test" in found:
        if "val" in found:
            notes.append("its validation set is not used; --validation N holds images out")
        return [found["train"], found["test"]]
    if "val" in found:
        notes.append("its validation set is taken as the test set, for there is no other")
        return [found["train"], found["val"]]
    return [found["train"]]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _meant(match: re.Match[str], kinds: Mapping[str, str]) -> str:
    return next((kind for kind in kinds if match[kind]), "")
