"""How do images on the shelf become a batch on the table?

All images stay bytes in memory; only those of one batch are ever floats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npvae.core.parameters import Array
from npvae.fast import kernels


@kernels.fused
def gather_pixels(images: NDArray[np.uint8], rows: NDArray[np.intp], out: Array) -> None:
    """The given rows of images (N, D) as pixels in [0, 1], into out (len(rows), D)."""
    np.divide(images[rows], 255, out=out)


def chunks(rows: NDArray[np.intp], batch_size: int) -> Iterator[NDArray[np.intp]]:
    """The rows, batch_size at a time, the last ones maybe fewer."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def batches(
    images: NDArray[np.uint8], rows: NDArray[np.intp], batch_size: int, dtype: DTypeLike
) -> Iterator[Array]:
    """Batches x (B, D) of these rows of images (N, ...), each written over the one before."""
    flat = images.reshape(len(images), -1)
    room: NDArray[Any] = np.empty((min(batch_size, len(rows)), flat.shape[1]), dtype)
    for chosen in chunks(rows, batch_size):
        x = room[: len(chosen)]
        gather_pixels(flat, chosen, x)
        yield x
