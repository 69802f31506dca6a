"""What the tests of datasets share: small noise, as published or as a user's own, and refusals."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import warnings
from collections.abc import Iterable
from hashlib import sha256
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import DataError
from npvae.datasets import load_dataset
from npvae.datasets.standard import FILES, STANDARD
from tests.helpers import refused

Bytes = NDArray[np.uint8]

RNG = np.random.default_rng(8)
NOISE = RNG.integers(0, 256, (34, 28, 28), np.uint8)
NOISE[:, 0, 0] = 0  # as of most pictures: by it, a table's column of pixels is told from labels
IMAGES, MORE = NOISE[:25], NOISE[25:]
LABELS = (np.arange(25) % 3).astype(np.uint8)


class Loaded:
    """Both halves of a dataset, and what was said about it."""

    def __init__(self, path: str | Path, **own_data: bool) -> None:
        self.lines: list[str] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            halves = load_dataset(str(path), None, self.lines.append, **own_data)
        self.train, self.test = halves
        self.notes = [str(note.message).removeprefix(f"{path}: ") for note in caught]

    @property
    def images(self) -> Bytes:
        """In the order of the files; every tenth may have been held out of them."""
        held_out = any("every tenth" in line for line in self.lines)
        images = [*self.train.images]
        for k, image in enumerate(self.test.images):
            images.insert(10 * k + 9 if held_out else len(images), image)
        return np.stack(images)

    def __str__(self) -> str:
        """The class of each picture, how it looks, what was done to it, and the notes."""
        lines = [
            f"{name}: {in_runs(half.class_names[label] for label in half.labels)}"
            for name, half in (("training", self.train), ("test", self.test))
        ]
        done = self.train.source.removeprefix(f"read from {self.train.name}")
        looks = in_runs(map(look, self.images, cycle(NOISE)))
        return "\n".join([*lines, f"{looks}{done}", *self.notes])


def in_runs(words: Iterable[str]) -> str:
    """For instance "3 x cat, dog"."""
    runs = ((word, len([*run])) for word, run in groupby(words))
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in runs)


def look(image: Bytes, noise: Bytes) -> str:
    """What has become of a picture of noise, within two grey levels."""
    white = np.where(noise > 127, 255, 0)
    looks = {"as it was": noise, "black or white": white, "light where it was dark": 255 - noise}
    for became, grey in looks.items():
        if (off := np.abs(image.astype(int) - grey).max()) <= 2:
            return became + f", within {off}" * bool(off)
    return "another picture"


def outcome(path: str | Path, new: str | Path = "", **own_data: bool) -> str:
    """What is loaded; or why it is refused, and what the lines of Python below that make of it.

    They may store it in a new place.
    """
    try:
        return str(Loaded(path, **own_data))
    except DataError:
        text = refusal(path, **own_data)
    if (script := re.search(r"^(import|from) .*", text, re.MULTILINE | re.DOTALL)) is None:
        return text
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", ResourceWarning)
        exec(script[0], {})  # as a user would who pastes it
    try:
        now = str(Loaded(new or path))
    except DataError as again:  # of several faults it mended one
        now = str(again).splitlines()[0]
    return f"{text}\n--- pasted:\n{now}"


def grouped(texts: dict[str, str]) -> dict[str, str]:
    """Cases with the same text together."""
    cases: dict[str, list[str]] = {}
    for case, text in texts.items():
        cases.setdefault(text, []).append(case)
    return {"; ".join(alike): text for text, alike in cases.items()}


def save(path: str | Path, **arrays: NDArray[Any]) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return Path(path)


def refusal(path: str | Path, **own_data: bool) -> str:
    """The message with which `path` is refused."""
    with refused(DataError, str(path)) as error:
        load_dataset(str(path), None, None, **own_data)
    return str(error.value)


def idx_bytes(array: NDArray[Any], kind: int = 8) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, kind, array.ndim)) + sizes + array.tobytes()


def published(train: int, test: int) -> dict[str, bytes]:
    """Four small IDX files under the published names."""
    arrays: list[NDArray[Any]] = []
    for count in (train, test):
        arrays += [RNG.integers(0, 256, (count, 28, 28), np.uint8)]
        arrays += [RNG.integers(0, 10, count, np.uint8)]
    return dict(zip(FILES, map(idx_bytes, arrays), strict=True))


def stand_in(
    monkeypatch: pytest.MonkeyPatch, sets: dict[str, dict[str, bytes]], *mirrors: str
) -> None:
    """Small files instead of the published ones, from these mirrors."""
    for name, files in sets.items():
        sums = tuple(sha256(content).hexdigest() for content in files.values())
        row = STANDARD[name]._replace(sha256=sums, mirrors=mirrors)
        monkeypatch.setitem(STANDARD, name, row)


def save_pictures(
    folder: str | Path, pictures: Iterable[Any], suffix: str = ".png", **more: Any
) -> Path:
    """Arrays or pictures of Pillow, in the order of their names."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        image.save(folder / f"{number:03}{suffix}", **more)
    return folder


def touch(path: str | Path, content: bytes = b"") -> Path:
    """A file of any kind, and the folders above it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
