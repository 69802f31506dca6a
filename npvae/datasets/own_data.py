"""How do a user's own pictures come in? From a folder of pictures or of IDX files, or from a file.

The kind of file decides which module reads it: `image_folder.py`, `idx_folder.py`, `npz_file.py` or
`csv_file.py`. For all of them `pixels.py` decides what a picture is, `labels.py` what a label is,
and `halves.py` knows the usual names. Without a test set, every tenth picture is held out. Nothing
is resized, inverted or left out unless asked for, and then a line says so; what looks like a
mistake is a warning.
"""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.datasets.csv_file import is_csv, read_csv
from npvae.datasets.dataset import Dataset, count_known
from npvae.datasets.halves import choose_halves, half_of_folder, part_of_array, part_of_idx
from npvae.datasets.idx_folder import find_idx, read_idx
from npvae.datasets.image_folder import read_folder, visible
from npvae.datasets.labels import NO_CLASS, Half, join_labels
from npvae.datasets.npz_file import read_npy, read_npz
from npvae.datasets.picture_reader import SUFFIXES
from npvae.datasets.pixels import Bytes, Scaling
from npvae.storage.files import one_line

HALVES = ("training", "test")
_LIGHT_EDGE = 160  # grey levels of a light background: paper, not always well lit
_DARK = 64  # pictures without a lighter pixel were hardly meant so
_UNPACK = {".zip": "zipfile", ".tar": "tarfile", ".tgz": "tarfile", ".gz": "tarfile"}

Note = Callable[[str], None]


class Asked(NamedTuple):
    """What the user wants to be done to pictures on the way in."""

    resize: bool = False  # other sizes are scaled to 28 x 28
    invert: bool = False  # black becomes white
    skip_broken: bool = False  # pictures that cannot be read are left out


AS_THEY_ARE = Asked()


def load_own_data(
    name: str, asked: Asked = AS_THEY_ARE, report: Note = lambda line: None
) -> tuple[Dataset, Dataset]:
    """Train and test from the path `name`. Raises DataError, naming the file that is at fault."""
    path, notes, scaling = Path(os.path.expanduser(name)), list[str](), Scaling(asked.resize)
    try:
        halves = _read(path, asked, scaling, report, notes.append)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    unlabelled = [half for half, (*_, found) in zip(HALVES, halves, strict=False) if found is None]
    if 0 < len(unlabelled) < len(halves):
        notes.append(f"the {unlabelled[0]} set has no labels: its class is called {NO_CLASS}")
    labels, class_names = join_labels([(place, found, len(half)) for half, place, found in halves])
    unseen = sorted({*labels[-1].tolist()} - {*labels[0].tolist()})
    if unseen and not unlabelled:
        some = ", ".join(class_names[k] for k in unseen[:6]) + ", ..." * (len(unseen) > 6)
        notes.append(f"classes with test pictures only, of which nothing can be learned: {some}")
    images = [half for half, _, _ in halves]
    if asked.invert:
        images = [255 - half for half in images]
    notes += _oddities(images, asked.invert)
    if len(images) == 1:
        images, labels = _hold_out(path, images[0], labels[0])
        held_out = f"every tenth picture is held out for it ({len(images[1]):,} in all)"
        report(f"{path} has no test set of its own: {held_out}.")
    leaked = count_known(images[1], images[0])
    if leaked and (len(images[0]) == 1 or (images[0] != images[0][0]).any()):
        notes.append(f"{leaked:,} of {len(images[1]):,} test pictures are in the training set, too")
    for line in notes:
        warnings.warn(f"{path}: {line}", stacklevel=3)
    done = ", ".join(filter(None, [f"read from {path}", str(scaling), "inverted" * asked.invert]))
    train, test = (
        Dataset(name, half, label, class_names, done)
        for half, label in zip(images, labels, strict=True)
    )
    return train, test


def _read(path: Path, asked: Asked, scaling: Scaling, report: Note, note: Note) -> list[Half]:
    """[all] or [train, test]."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if files := find_idx(path):
            return read_idx(path, files, scaling, note)
        return _read_files(path, scaling, note) or read_folder(
            path, scaling, asked.skip_broken, report, note
        )
    if path.is_file() and suffix == ".npz":
        return read_npz(path, scaling, note)
    if path.is_file() and suffix == ".npy":
        return read_npy(path, scaling)
    if path.is_file() and is_csv(path):
        return read_csv(path, scaling, note)
    to_do = "Save its pictures as .npz:  np.savez('own.npz', images=..., labels=...)"
    if part_of_idx(path.name) or suffix in SUFFIXES:
        to_do = f"Name its folder:  --dataset {path.parent}"
    elif suffix in _UNPACK:
        to_do = (
            f"Unpack it first:  python -m {_UNPACK[suffix]} -e {path} {path.parent / 'unpacked'}"
        )
    raise DataError(
        f"{path}: expected a folder, or an .npz, .npy or .csv file, found something else.\n{to_do}"
    )


def _hold_out(path: Path, images: Bytes, labels: Bytes) -> tuple[list[Bytes], list[Bytes]]:
    if len(images) < 2:
        raise DataError(f"{path}: expected at least two pictures, to train and to test, found one.")
    is_test = np.arange(len(images)) % 10 == min(9, len(images) - 1)
    return [images[~is_test], images[is_test]], [labels[~is_test], labels[is_test]]


def _oddities(halves: list[Bytes], inverted: bool) -> list[str]:
    """What looks like a mistake in all pictures together."""
    train, count = halves[0], sum(map(len, halves))
    if len(train) > 1 and (train == train[0]).all():
        what = "" if all((half == train[0]).all() for half in halves) else "training "
        number = len(train) if what else count
        return [f"all {number:,} {what}pictures are equal: there is nothing to learn"]
    notes = []
    lightest, darkest = (
        np.concatenate([find(half.reshape(len(half), -1), axis=1) for half in halves])
        for find in (np.max, np.min)
    )
    top = 255 - int(darkest.min()) if inverted else int(lightest.max())
    if 1 < top < _DARK:
        notes.append(f"the lightest pixel is {top} of 255: times {255 // top} it would be white")
    if blank := int(np.sum(lightest - darkest <= 1)):
        notes.append(f"{blank:,} of {count:,} pictures are of one colour, without anything on them")
    edges = np.concatenate([_edges(half) for half in halves])
    light, dark = int(np.sum(edges > _LIGHT_EDGE)), int(np.sum(edges < 255 - _LIGHT_EDGE))
    if 2 * light > count:
        way_on = "leave --invert away" if inverted else "--invert makes it dark, as MNIST's is"
        notes.append(f"the background is light: {way_on}")
    elif 10 * light > count and light + dark > 0.9 * count:
        notes.append(f"{light:,} of {count:,} pictures have a light background, the others not")
    return notes


def _edges(images: Bytes) -> NDArray[np.float64]:
    """The median of each picture's outermost pixels, (N,)."""
    edges = (images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1])
    return np.asarray(np.median(np.concatenate(edges, axis=1), axis=1))


# --- folders of arrays ---


def _read_files(folder: Path, scaling: Scaling, note: Note) -> list[Half]:
    """[all] or [train, test] of a folder of tables; [] if it is for others to read.

    Raises DataError for arrays in files of their own, with the line that makes one file of them.
    """
    files = [path for path in visible(folder) if path.is_file()]
    if len(files) < len(visible(folder)) or any(path.suffix.lower() in SUFFIXES for path in files):
        return []
    tables: dict[str, Path] = {}
    for path in filter(is_csv, files):
        match = half_of_folder(path.name.partition(".")[0])
        half = match[0] if match else ""
        if half in tables or ("" in (half, *tables) and tables):
            both = f"{one_line(next(iter(tables.values())))} and {one_line(path)}"
            raise DataError(f"{folder}: expected one table for each half, found {both}.\nName one.")
        tables[half] = path
    if tables:
        chosen = choose_halves(folder, tables, note)
        if unused := len(files) - len(chosen):
            note(f"left out: {unused} other file{'s' * (unused > 1)} beside the tables")
        return [half for path in chosen for half in read_csv(path, scaling, note)]
    parts = [(_last_words(path, part_of_array), path) for path in files]
    arrays = {
        f"{'x' if role == 'images' else 'y'}_{half}" if half else role: path.name
        for (half, role), path in ((part, path) for part, path in parts if part)
        if path.suffix.lower() in (".npy", ".npz")
    }
    if arrays:
        values = (f"{part}=np.load(d + {name!r})" for part, name in arrays.items())
        joined = ", ".join(f"{value}['arr_0']" if ".npz" in value else value for value in values)
        raise DataError(
            f"{folder}: expected pictures, found {len(arrays)} files of arrays.\n"
            "This makes one .npz of them:\n"
            f"import numpy as np; d = {f'{folder}/'!r}; np.savez({f'{folder}.npz'!r}, {joined})"
        )
    if others := [path for path in files if path.suffix.lower() in (".npy", ".npz")]:
        raise DataError(
            f"{folder}: expected pictures, found arrays.\n"
            f"Name their file:  --dataset {one_line(others[0])}"
        )
    return []


def _last_words(path: Path, known: Callable[[str], Any]) -> Any:
    """What the last words of a file's name mean: those of kmnist-train-imgs.npz, train imgs."""
    words = re.split("[-_. ]+", re.sub(r"(\.\w+)?\.\w+$", "", path.name))
    return next(filter(None, (known("".join(words[k:])) for k in range(len(words)))), None)
