"""Arguments of public functions are checked here, so that mistakes are not silent.

Images scaled to [-1, 1], bytes not divided by 255, a forgotten reshape: with each of them a VAE
trains without complaint and is worthless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from npvae.core.parameters import Array

ROUNDING = 1e-6  # this far outside [0, 1], a pixel is a rounding error

Choice = TypeVar("Choice")
Classes: TypeAlias = ArrayLike | None  # labels (B,), or one for all; None: the model has no classes


def validate(
    values: ArrayLike,
    name: str,
    columns: int,
    dtype: DTypeLike,
    rows: int | None = None,
    pixels: bool = False,
) -> Array:
    """`values` as a C-contiguous (rows, columns) array of dtype; the input itself is not changed.

    Pixels may also come as square images (rows, side, side). Raises ValueError for another shape,
    an empty batch, NaN or infinity, or, for `pixels`, anything but floats in [0, 1]; what is
    outside by 1e-6 or less is a rounding error, and clipped.
    """
    array = np.asarray(values)
    if array.dtype.kind not in ("f" if pixels else "fiu"):
        hint = {"b": ": call astype(float)"}.get(array.dtype.kind, "")
        if array.dtype.kind in "iu":
            hint = ": divide bytes by 255 first; if they are 0 and 1, call astype(float)"
        raise ValueError(f"{name} must hold floats, not {array.dtype}{hint}")
    if pixels and array.ndim == 3 and array.shape[1] == array.shape[2]:
        array = array.reshape(len(array), -1)
    expected = f"({'B' if rows is None else rows}, {columns})"
    if array.ndim != 2 or array.shape[1] != columns or (rows is not None and len(array) != rows):
        raise ValueError(f"{name} must have shape {expected}, not {array.shape}")
    if len(array) == 0:
        raise ValueError(f"{name} is an empty batch: it must hold at least one row")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if pixels and not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise ValueError(f"{name} must hold pixels in [0, 1], not from {low:.7g} to {high:.7g}")
    if pixels and (low < 0 or high > 1):
        array = array.clip(0, 1)
    if max(-low, high) > float(np.finfo(np.dtype(dtype).name).max):
        raise ValueError(f"{name} holds numbers too large for {np.dtype(dtype)}")
    return np.require(array, dtype, ["C", "W"])


def class_labels(c: Classes, num_classes: int, rows: int, name: str = "c") -> NDArray[np.uint8]:
    """The label of each of so many images (rows,), from whole numbers (rows,) or a single one.

    A model without classes has the label 0 everywhere and no column for it. Raises ValueError if c
    is missing, is given to a model without classes, has another shape, or is out of range; its
    messages call c by `name`.
    """
    if c is None:
        if num_classes:
            raise ValueError(
                f"the model is conditional: it needs {name}, the class of each image, "
                f"0 to {num_classes - 1}"
            )
        return np.zeros(rows, np.uint8)
    if num_classes == 0:
        raise ValueError(f"the model is not conditional: it has no classes, so {name} must be None")
    labels = np.asarray(c)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold whole numbers, not {labels.dtype}")
    if labels.shape not in ((), (rows,)):
        raise ValueError(
            f"{name} must have shape ({rows},), or be one class for all: {labels.shape}"
        )
    if not 0 <= labels.min(initial=0) <= labels.max(initial=0) < num_classes:
        low, high = labels.min(), labels.max()
        most = num_classes - 1
        raise ValueError(f"{name} must hold classes from 0 to {most}, not {low} to {high}")
    return np.full(rows, labels, np.uint8)


def one_hot(c: Classes, num_classes: int, rows: int, dtype: DTypeLike) -> Array:
    """The classes (rows, num_classes): a 1 in the column of each class, 0 elsewhere.

    Without classes there are no columns. Raises ValueError as `class_labels` does.
    """
    labels = class_labels(c, num_classes, rows)
    columns: Array = (labels[:, np.newaxis] == np.arange(num_classes)).astype(dtype)
    return columns


def with_classes(values: Array, c: Classes, num_classes: int) -> Array:
    """(rows, N + num_classes): beside the values (rows, N), the class of each row as `one_hot`."""
    return np.hstack([values, one_hot(c, num_classes, len(values), values.dtype)])


def check_images(images: object) -> None:
    """Raises ValueError unless these are images as datasets hold them: bytes (N, ...), N > 0.

    Pixels in [0, 1] would be divided by 255 once more, and nothing would show it.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(f"images must be an array of bytes (uint8), 0 to 255, not {kind}")
    if images.ndim < 2 or len(images) == 0:
        raise ValueError(f"images must have shape (N, ...), N > 0, not {images.shape}")


def check_beta(beta: float) -> None:
    """Raises ValueError unless beta is a weight."""
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta must be a finite number, 0 or more, not {beta}")


def choose(what: str, name: object, known: Mapping[Any, Choice]) -> Choice:
    """What has this name. Raises ValueError unless it is one of the known names."""
    if name not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, not {name!r}")
    return known[name]
