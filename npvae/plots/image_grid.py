"""How do pixels become a PNG?

Pixels are floats in [0, 1] or uint8 in 0..255. What comes out of `VAE.decode` are probabilities,
`x_hat = sigmoid(logits)`: exactly what is drawn, never stretched, never silently clipped.
`tile` lays images out as a grid, `comparison` puts originals above their reconstructions,
`save_png` writes. Pictures with axes and words are in `labelled_grid.py`.
"""

import io
import os

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from npvae.core.errors import OutputError
from npvae.datasets.dataset import SIDE
from npvae.storage.files import write_bytes_safely

TOLERANCE = 1e-6  # how far rounding may carry a probability out of [0, 1]


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """The pixels as a new uint8 array of the same shape: floats in [0, 1] become round(255 x).

    Raises ValueError for NaN, pixels outside [0, 1], and types other than uint8 and float.
    """
    given = np.asarray(images)
    if given.dtype.kind != "f" and given.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 or floats in [0, 1], not {given.dtype}")
    if given.dtype == np.uint8:
        return given.astype(np.uint8)
    inside = (given >= -TOLERANCE) & (given <= 1.0 + TOLERANCE)  # False for NaN
    if not inside.all():
        example = given[~inside].flat[0]
        raise ValueError(f"pixels must be in [0, 1]: {np.sum(~inside)} are not, like {example:g}")
    levels: NDArray[np.floating] = np.rint(255.0 * np.clip(given, 0.0, 1.0))
    return levels.astype(np.uint8)


def tile(
    images: ArrayLike, columns: int, gap: int = 0, background: float = 0.0
) -> NDArray[np.uint8]:
    """A grid of images: image k stands in row k // columns, column k % columns.

    `images` is (N, 28, 28) or (N, 784), N at least 1. The last row is padded with `background`,
    0 black to 1 white, as are the `gap` pixels between neighbours.
    Returns (rows * 28 + (rows - 1) * gap, columns * 28 + (columns - 1) * gap).
    Raises ValueError for other shapes and for pixels that `to_uint8` refuses.
    """
    if columns < 1 or gap < 0:
        raise ValueError(f"columns must be at least 1 and gap at least 0, not {columns} and {gap}")
    pixels = _squares(images)  # (N, 28, 28)
    rows = -(-len(pixels) // columns)
    cell = SIDE + gap
    grid = np.full((rows, cell, columns, cell), to_uint8(np.float64(background)))
    for k, image in enumerate(pixels):
        grid[k // columns, :SIDE, k % columns, :SIDE] = image
    whole = grid.reshape(rows * cell, columns * cell)
    return whole[: rows * cell - gap, : columns * cell - gap]


def comparison(
    originals: ArrayLike, reconstructions: ArrayLike, columns: int = 10
) -> NDArray[np.uint8]:
    """Originals above their reconstructions: a row of originals, the row of theirs, and so on.

    Both are (N, 28, 28) or (N, 784); 50 pairs in 10 columns make a square of 280 x 280.
    Raises ValueError where `tile` does, and for two different N.
    """
    above, below = _squares(originals), _squares(reconstructions)  # (N, 28, 28) each
    if len(above) != len(below):
        raise ValueError(f"{len(above)} originals but {len(below)} reconstructions")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    bands = [
        tile(images[start : start + columns], columns)
        for start in range(0, len(above), columns)
        for images in (above, below)
    ]
    return np.concatenate(bands)


def save_png(
    path: str | os.PathLike[str], pixels: NDArray[np.uint8] | Image.Image, scale: int = 1
) -> None:
    """Write `pixels`, grey (H, W) or colour (H, W, 3) uint8, each as a block of scale x scale.

    An existing file is replaced, in one step. Equal pixels give equal bytes.
    Raises ValueError for other pixels, OutputError if the file cannot be written.
    """
    pixels = np.asarray(pixels)
    shape_is_right = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not shape_is_right or pixels.size == 0:
        raise ValueError(
            f"a picture is (H, W) or (H, W, 3) of uint8, not {pixels.shape} of {pixels.dtype}"
        )
    if scale < 1:
        raise ValueError(f"scale must be at least 1, not {scale}")
    enlarged = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    png = io.BytesIO()
    Image.fromarray(enlarged).save(png, format="PNG")
    try:
        write_bytes_safely(path, png.getvalue(), durable=False)
    except OSError as error:
        raise OutputError(
            f"cannot write the picture {os.fspath(path)}\n"
            f"{error.strerror or error}\n"
            "check that the folder exists, can be written, and that the disk has room"
        ) from error


def _squares(images: ArrayLike) -> NDArray[np.uint8]:
    """Images of either shape as uint8 (N, 28, 28)."""
    pixels = to_uint8(images)
    if pixels.ndim < 2 or pixels.shape[1:] not in {(SIDE, SIDE), (SIDE * SIDE,)} or not len(pixels):
        raise ValueError(f"images must be (N, 28, 28) or (N, 784), N > 0, not {pixels.shape}")
    return pixels.reshape(-1, SIDE, SIDE)
