"""How do a user's own pictures come in? From a folder of pictures or of IDX files, or from a file.

The kind of file decides which module reads it: `image_folder.py`, `idx_folder.py`, `npz_file.py` or
`csv_file.py`. For all of them `pixels.py` decides what a picture is, `labels.py` what a label is,
and `halves.py` knows the usual names. Without a test set, every tenth picture is held out. Nothing
is resized, inverted or left out unless asked for, and then a line says so; what looks like a
mistake is a warning.
"""

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.csv_file import is_csv, read_csv
from npvae.datasets.dataset import Dataset, count_known, counted, mismatch, reading, some
from npvae.datasets.halves import choose_halves, half_of_folder, part_of_idx
from npvae.datasets.idx_folder import find_idx, read_idx
from npvae.datasets.image_folder import read_folder, visible
from npvae.datasets.labels import NO_CLASS, Half, join_labels
from npvae.datasets.npz_file import read_npy, read_npz
from npvae.datasets.picture_reader import SUFFIXES
from npvae.datasets.pixels import Bytes, Intake
from npvae.storage.files import one_line

HALVES = ("training", "test")
_LIGHT_EDGE = 160  # grey levels of a light background: paper, not always well lit
_DARK = 64  # pictures without a lighter pixel were hardly meant so
_UNPACK = {".zip": "zipfile", ".tar": "tarfile", ".tgz": "tarfile", ".gz": "tarfile"}


def load_own_data(name: str, intake: Intake) -> tuple[Dataset, Dataset]:
    """Train and test from the path `name`. Raises DataError, naming the file that is at fault."""
    path, notes = Path(os.path.expanduser(name)), intake.notes
    with reading(path):
        halves = _read(path, intake)
    unlabelled = [half for half, (*_, found) in zip(HALVES, halves, strict=False) if found is None]
    if 0 < len(unlabelled) < len(halves):
        notes.append(f"the {unlabelled[0]} set has no labels: its class is called {NO_CLASS}")
    labels, class_names = join_labels([(place, found, len(half)) for half, place, found in halves])
    unseen = [class_names[k] for k in sorted({*labels[-1].tolist()} - {*labels[0].tolist()})]
    if unseen and not unlabelled:
        nothing = "classes with test pictures only, of which nothing can be learned"
        notes.append(f"{nothing}: {some(unseen, 6)}")
    images = [255 - half if intake.invert else half for half, _, _ in halves]
    notes += _oddities(images, intake.invert)
    if len(images) == 1:
        if len(images[0]) < 2:
            raise mismatch(path, "at least two pictures, to train and to test", "one")
        is_test = np.arange(len(images[0])) % 10 == min(9, len(images[0]) - 1)
        images, labels = ([all[~is_test], all[is_test]] for (all,) in (images, labels))
        held_out = f"every tenth picture is held out for it ({len(images[1]):,} in all)"
        intake.report(f"{path} has no test set of its own: {held_out}.")
    leaked = count_known(images[1], images[0])
    if leaked and (len(images[0]) == 1 or (images[0] != images[0][0]).any()):
        notes.append(f"{leaked:,} of {len(images[1]):,} test pictures are in the training set, too")
    for line in notes:
        warnings.warn(f"{path}: {line}", stacklevel=3)
    source = ", ".join([f"read from {path}", *intake.what_was_done()])
    train, test = (
        Dataset(name, half, label, class_names, source)
        for half, label in zip(images, labels, strict=True)
    )
    return train, test


def _read(path: Path, intake: Intake) -> list[Half]:
    """[all] or [train, test]."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if files := find_idx(path):
            return read_idx(path, files, intake)
        return _read_files(path, intake) or read_folder(path, intake)
    read = {".npz": read_npz, ".npy": read_npy}.get(suffix, read_csv if is_csv(path) else None)
    if path.is_file() and read:
        return read(path, intake)
    way_on = "Save its pictures as .npz:  np.savez('own.npz', images=..., labels=...)"
    if part_of_idx(path.name) or suffix in SUFFIXES:
        way_on = f"Name its folder:  --dataset {path.parent}"
    elif suffix in _UNPACK:
        unpack = f"python -m {_UNPACK[suffix]} -e {path} {path.parent / 'unpacked'}"
        way_on = f"Unpack it first:  {unpack}"
    raise mismatch(path, "a folder, or an .npz, .npy or .csv file", "something else", way_on)


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


def _read_files(folder: Path, intake: Intake) -> list[Half]:
    """[all] or [train, test] of a folder of tables; [] if it is for others to read.

    Raises DataError for arrays in files of their own.
    """
    inside = visible(folder)
    files = [path for path in inside if path.is_file()]
    if len(files) < len(inside) or any(path.suffix.lower() in SUFFIXES for path in files):
        return []
    tables: dict[str, Path] = {}
    for path in filter(is_csv, files):
        half, _ = half_of_folder(path.name.partition(".")[0]) or ("", "")
        if half in tables or ("" in (half, *tables) and tables):
            both = f"{one_line(next(iter(tables.values())))} and {one_line(path)}"
            raise mismatch(folder, "one table for each half", both, "Name one.")
        tables[half] = path
    if tables:
        chosen = choose_halves(folder, tables, intake.notes)
        if unused := len(files) - len(chosen):
            intake.notes.append(f"left out: {counted(unused, 'other file')} beside the tables")
        return [half for path in chosen for half in read_csv(path, intake)]
    arrays = [path for path in files if path.suffix.lower() in (".npy", ".npz")]
    if arrays:
        one_file = "np.savez('own.npz', x_train=..., y_train=..., x_test=..., y_test=...)"
        way_on = f"Make one file of them:  {one_file}"
        if len(arrays) == 1:
            way_on = f"Name their file:  --dataset {one_line(arrays[0])}"
        raise mismatch(folder, "pictures", counted(len(arrays), "file") + " of arrays", way_on)
    return []
