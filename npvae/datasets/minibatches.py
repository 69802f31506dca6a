"""How do images on the disk become a mini-batch? All images stay bytes; one batch is floats."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npvae.core.parameters import Array

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8] | None  # (N,); None for a model without classes
Indices = NDArray[np.intp]


def to_pixels(images: Images, dtype: DTypeLike) -> Array:
    """Bytes (N, ...) as pixels in [0, 1], (N, D)."""
    pixels: Array = images.reshape(len(images), -1).astype(dtype) / 255
    return pixels


def minibatches(indices: Indices, batch_size: int) -> Iterator[Indices]:
    """The indices, batch_size at a time; the last batch may be smaller."""
    for start in range(0, len(indices), batch_size):
        yield indices[start : start + batch_size]


def pixel_batches(
    images: Images, batch_size: int, dtype: DTypeLike, labels: Labels = None
) -> Iterator[tuple[slice, Array, Labels]]:
    """All images (N, ...) in order, batch by batch: which, their pixels (B, D), labels (B,)."""
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(labels)} labels for {len(images)} images")
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        c = None if labels is None else labels[batch]
        yield batch, to_pixels(images[batch], dtype), c
