"""Which class does each picture belong to? One rule for whatever labels come as.

    whole numbers, 0 to 255     label k is the class "k"; floats without a fraction, too
    one-hot rows (N, K)         the place of the 1
    words                       the names of the classes, numbers in their order
    none                        one class for all: "picture"

The classes are those of the labels that occur: 3 and 7 are two classes. The halves of a dataset are
judged together, so that a class has the same number in both.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.dataset import mismatch
from npvae.datasets.pixels import Bytes, fault

CLASSES = 256  # a label is one byte
MAX_WORD = 256  # letters of a label
NO_CLASS = "picture"  # the class of pictures without labels

Labels = NDArray[Any] | None
Half = tuple[Bytes, str, Labels]  # images (N, 28, 28); where the labels stand; labels as found


def join_labels(
    halves: Sequence[tuple[str, Labels, int]],
) -> tuple[list[Bytes], tuple[str, ...]]:
    """Labels (N,) for each half of a dataset, and the names of all classes.

    A half is the place of its labels, the labels as they were found, and the number of pictures.
    Raises DataError.
    """
    found = [_flat(where, labels, count) for where, labels, count in halves]
    numbers = [labels for labels in found if labels is not None]
    if len(numbers) == len(found) and all(labels.dtype.kind in "ui" for labels in numbers):
        for (where, _, _), labels in zip(halves, numbers, strict=True):
            if labels.min() < 0 or labels.max() >= CLASSES:
                raise fault(
                    where,
                    f"labels from 0 to {CLASSES - 1}",
                    f"{labels.min()} to {labels.max()}",
                    "np.unique(x, return_inverse=True)[1]",
                )
    words = [
        np.full(count, NO_CLASS) if labels is None else labels.astype(str)
        for (_, _, count), labels in zip(halves, found, strict=True)
    ]
    names = in_order({shown(name) for half in words for name in np.unique(half)})
    if len(names) > CLASSES:
        raise mismatch(halves[0][0], f"at most {CLASSES} classes", f"{len(names):,}")
    place_of = {name: label for label, name in enumerate(names)}
    indices = []
    for half in words:
        known, inverse = np.unique(half, return_inverse=True)
        indices.append(np.array([place_of[shown(name)] for name in known], np.uint8)[inverse])
    return indices, names


def shown(name: str) -> str:
    """The name of a class: accents as one letter, and nothing that a terminal would obey."""
    name = unicodedata.normalize("NFC", str(name))
    return name if name.isprintable() else ascii(name)[1:-1]


def in_order(names: set[str]) -> tuple[str, ...]:
    """Names of classes in their order: 2 before 10."""

    def key(name: str) -> tuple[int, int, str]:
        is_number = name.isdecimal() and len(name) < 19
        return (0, int(name), name) if is_number else (1, 0, name)

    return tuple(sorted(names, key=key))


def _flat(where: str, labels: Labels, count: int) -> Labels:
    """The labels (N,), as whole numbers or words. Raises DataError."""
    if labels is None:
        return None
    if labels.ndim != 1:
        labels = _of_rows(where, labels)
    if len(labels) != count:
        raise fault(where, f"one label for each of {count:,} pictures", f"{len(labels):,}")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "latin-1")
    if labels.dtype.kind == "f":
        if not (np.abs(labels) < 2**53).all() or (labels != np.rint(labels)).any():
            raise fault(where, "whole numbers as labels", "fractions, NaN or infinity")
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "b":
        labels = labels.astype(np.uint8)
    return labels


def _of_rows(where: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (N,) of a column (N, 1), a row (1, N), or one-hot rows (N, K)."""
    found = f"{labels.dtype}, {labels.shape}"
    if labels.ndim != 2:
        raise fault(where, "one label for each picture, (N,)", found)
    if 1 in labels.shape:
        return labels.ravel()
    one_hot = labels.dtype.kind in "buif" and (
        ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
    )
    if not one_hot:
        raise fault(where, "one label for each picture, (N,)", found, "x[:, 0]")
    return np.asarray(np.argmax(labels, axis=1))
