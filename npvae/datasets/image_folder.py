"""How do a user's own pictures come in? From a folder of pictures, of IDX files, or an .npz file.

A folder may have `train` and `test` inside; where it has not, every tenth picture is held out as
the test set. Sub-folders name the classes. Every picture must be 28 x 28: resizing is the user's
choice, not ours. Colour becomes grey, and what is transparent becomes black. The .npz files are
read in `npz_file.py`.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from npvae.core.errors import DataError
from npvae.datasets.dataset import MAX_ITEMS, SIDE, Dataset
from npvae.datasets.idx import check_counts, read_images, read_labels
from npvae.datasets.npz_file import read_npz
from npvae.storage.files import brief

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_CLASSES = 256  # a label is one byte
_MAX_BYTES = 10_000_000  # for one picture of 28 x 28, whatever else its file holds

Bytes = NDArray[np.uint8]
Pair = tuple[Bytes, Bytes]  # images (N, 28, 28), labels (N,)


def load_image_folder(
    name: str, report: Callable[[str], None] = lambda line: None
) -> tuple[Dataset, Dataset]:
    """Train and test from the path `name`. Raises DataError, naming the file that is at fault."""
    path = Path(os.path.expanduser(name))
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() == ".npz"):
        raise DataError(f"{path}: expected an .npz file or a folder, found something else.")
    class_names: tuple[str, ...] | None = None
    try:
        if path.is_file():
            pairs = read_npz(path)
        elif _idx_file(path, "train-images-idx3-ubyte"):
            pairs = [_read_idx_pair(path, half) for half in ("train", "t10k")]
        else:
            pairs, class_names = _read_folder(path, report)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(pairs) == 1:
        pairs = _hold_out(path, *pairs[0])
        held_out = f"every tenth picture is held out for it ({len(pairs[1][0]):,} in all)"
        report(f"{path} has no test set of its own: {held_out}.")
    if class_names is None:
        class_names = tuple(
            str(label) for label in range(1 + max(int(pair[1].max()) for pair in pairs))
        )
    train, test = (Dataset(name, *pair, class_names, f"read from {path}") for pair in pairs)
    return train, test


def _hold_out(path: Path, images: Bytes, labels: Bytes) -> list[Pair]:
    if len(images) < 2:
        raise DataError(f"{path}: expected at least two pictures, to train and to test, found one.")
    is_test = np.arange(len(images)) % 10 == min(9, len(images) - 1)
    return [(images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])]


# --- IDX files, as MNIST, Fashion-MNIST and KMNIST come ---


def _idx_file(folder: Path, file: str) -> Path | None:
    spellings = (folder / f"{file}.gz", folder / file)
    return next((path for path in spellings if os.path.isfile(path)), None)


def _read_idx_pair(folder: Path, half: str) -> Pair:
    names = (f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte")
    images_path, labels_path = (_idx_file(folder, name) for name in names)
    if images_path is None or labels_path is None:
        raise DataError(f"{folder}: expected {' and '.join(names)} (.gz), found not both.")
    images, labels = read_images(images_path), read_labels(labels_path)
    check_counts(images_path, images, labels_path, labels)
    return images, labels


# --- pictures ---


def _read_folder(folder: Path, report: Callable[[str], None]) -> tuple[list[Pair], tuple[str, ...]]:
    halves = [folder / half for half in ("train", "test") if os.path.isdir(folder / half)]
    if len(halves) == 1:
        raise DataError(f"{folder}: expected both train and test, found only {halves[0].name}.")
    listings = [_list_pictures(half) for half in halves or [folder]]
    classes = sorted({name for listing in listings for _, name in listing})
    if len(classes) > _CLASSES:
        raise DataError(f"{folder}: expected at most {_CLASSES} classes, found {len(classes):,}.")
    report(f"Reading {sum(map(len, listings)):,} pictures from {folder}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow minds in a picture it can read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return [_read_pictures(listing, classes) for listing in listings], tuple(classes)


def _list_pictures(folder: Path) -> list[tuple[Path, str]]:
    """Each picture's path and class: its sub-folder's name, or "picture" if it is in none."""
    flat = [(path, "picture") for path in _visible(folder) if _is_picture(path)]
    sub_folders = [path for path in _visible(folder) if path.is_dir()]
    sorted_in = [(path, sub.name) for sub in sub_folders for path in _visible(sub)]
    sorted_in = [(path, name) for path, name in sorted_in if _is_picture(path)]
    if flat and sorted_in:
        raise DataError(
            f"{folder}: expected pictures in it or in its sub-folders, found both:\n"
            f"{flat[0][0]} and {sorted_in[0][0]}."
        )
    pictures = flat or sorted_in
    if not 1 <= len(pictures) <= MAX_ITEMS:
        raise DataError(
            f"{folder}: expected 1 to {MAX_ITEMS:,} pictures ({', '.join(SUFFIXES)}), "
            f"found {len(pictures):,}."
        )
    return pictures


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read_pictures(listing: list[tuple[Path, str]], classes: list[str]) -> Pair:
    images = np.empty((len(listing), SIDE, SIDE), np.uint8)
    for image, (path, _) in zip(images, listing, strict=True):
        image[:] = _read_picture(path)
    index = {name: label for label, name in enumerate(classes)}
    return images, np.array([index[name] for _, name in listing], np.uint8)


def _read_picture(path: Path) -> Bytes:
    """One picture as grey bytes (28, 28)."""
    if path.stat().st_size > _MAX_BYTES:  # a single chunk of a PNG may be as long as the file
        raise DataError(f"{path}: expected at most {_MAX_BYTES:,} bytes, found more.")
    try:
        with Image.open(path, formats=FORMATS) as picture:  # reads no more than the header
            if picture.size != (SIDE, SIDE):
                found = "{} x {}".format(*picture.size)
                raise DataError(
                    f"{path}: expected {SIDE} x {SIDE} pixels, found {found}.\n"
                    f"Resize the pictures first; nothing is resized here."
                )
            if picture.mode[0] in "IF":
                raise DataError(f"{path}: expected 8 bits per pixel, found mode {picture.mode}.")
            if picture.has_transparency_data:
                black = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
                return np.asarray(
                    Image.alpha_composite(black, picture.convert("RGBA")).convert("L")
                )
            return np.asarray(picture.convert("L"))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: expected one of {', '.join(FORMATS)}, found none.") from error
    except Exception as error:  # a broken picture may raise anything from inside Pillow
        why = brief(str(error), 100)
        raise DataError(f"{path}: expected a picture, found a broken one ({why}).") from error
