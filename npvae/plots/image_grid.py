"""How do images become a picture?

Pixels are floats in [0, 1] or uint8 in 0..255. The output of `VAE.decode` is a probability per
pixel, `x_hat = sigmoid(logits)`. It is drawn as it is: never stretched, never clipped silently.
`image_grid` draws images in rows with a title and labels. `reconstruction_grid` draws originals
above their reconstructions. `save_png` writes a picture. The text is drawn by `axes.py`.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from npvae.datasets.dataset import SIDE
from npvae.plots.axes import FAINT, INK, MARGIN, MEDIUM, SMALL, largest, write
from npvae.storage.files import write as write_file

TOLERANCE = 1e-6  # how far rounding may carry a probability out of [0, 1]
GAP = 4  # pixels between neighbouring images
COLUMNS = 10  # images in a row
LINE = SMALL + 4  # pixels from one line of a label to the next
ZLIB_RLE = 3  # zlib's strategy for runs: for enlarged pixels as small as the default, and faster


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


def image_grid(
    rows: Sequence[Sequence[ArrayLike] | NDArray[Any]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: int = 3,
    title: str = "",
    gap: int = GAP,
    marks: Sequence[float] | NDArray[Any] = (),
) -> Image.Image:
    """A grey picture of images in rows, with labels beside the rows and above the columns.

    A row is a list or an array of images, each (28, 28) or (784,), uint8 or floats in [0, 1]. Each
    pixel becomes a block of scale x scale. Neighbours are `gap` pixels apart, or more where a label
    needs the room. A short row ends in white. A column label may have several lines. The title
    stands above, and what follows its first line in smaller letters.
    The grid ends MARGIN above the lower edge. `marks` are positions among the columns, one per row:
    a small triangle stands below each.
    Raises ValueError for no image, pixels outside [0, 1], or labels that do not fit the grid.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0 or scale < 1 or gap < 0:
        raise ValueError("no images to draw, or a scale below 1, or a gap below 0")
    if len(row_labels) not in (0, len(rows)) or len(column_labels) not in (0, columns):
        raise ValueError(
            f"{len(row_labels)} row labels and {len(column_labels)} column labels"
            f" for {len(rows)} rows and {columns} columns"
        )
    side = SIDE * scale
    title, _, caption = title.partition("\n")
    headings = [label.split("\n") for label in column_labels]
    lines = [line for heading in headings for line in heading]
    pitch = max(side, largest(lines, SMALL)[0] + 8 if lines else 0) + gap
    left = MARGIN + (largest(row_labels, SMALL)[0] + 12 if row_labels else 0)
    caption_top = MARGIN + (MEDIUM + 9 if title else 0)
    top = caption_top + (SMALL + 15 if caption else 4 if title else 0)
    top += max(map(len, headings), default=0) * LINE + (4 if lines else 0)
    lefts = [left + (pitch - gap - side) // 2 + k * pitch for k in range(columns)]
    tops = [top + k * (side + gap) for k in range(len(rows))]
    words = max(largest([title], MEDIUM)[0], largest([caption], SMALL)[0])
    width = max(left + columns * pitch - gap, MARGIN + words) + MARGIN
    pixels = np.full((tops[-1] + side + MARGIN, width), 255, np.uint8)
    for y, row in zip(tops, rows, strict=True):
        blocks = _squares(row).repeat(scale, axis=1).repeat(scale, axis=2) if len(row) else ()
        for x, block in zip(lefts, blocks, strict=False):
            pixels[y : y + side, x : x + side] = block

    picture = Image.fromarray(pixels)
    write(picture, (MARGIN, MARGIN), title, MEDIUM)
    write(picture, (MARGIN, caption_top), caption, SMALL, color=FAINT)
    for x, heading in zip(lefts, headings, strict=False):
        for k, line in enumerate(reversed(heading)):
            write(picture, (x + side // 2, top - 7 - k * LINE), line, SMALL, "md")
    for y, label in zip(tops, row_labels, strict=False):
        write(picture, (left - 12, y + side // 2), label, SMALL, "rm")
    for y, mark in zip(tops, marks, strict=False):
        center = lefts[0] + side / 2 + mark * pitch
        low = y + side + 9
        triangle = [(center, low - 8), (center - 6, low), (center + 6, low)]
        ImageDraw.Draw(picture).polygon(triangle, fill=INK[0])
    return picture


def in_rows(images: NDArray[Any], columns: int) -> list[NDArray[Any]]:
    """Images (N, ...) as rows of `columns` images, the last row with the rest."""
    return [images[start : start + columns] for start in range(0, len(images), columns)]


def reconstruction_grid(
    originals: NDArray[Any],
    x_hat: NDArray[Any],
    scale: int,
    title: str,
    columns: int = COLUMNS,
    names: Sequence[str] = (),
    made: str = "reconstruction",
) -> Image.Image:
    """Originals (N, ...) close above their reconstructions, in bands of `columns` pairs.

    `names` stand above the pairs, `made` beside what was made of the originals.
    Raises ValueError where `image_grid` does, and if the two differ in N.
    """
    if len(originals) != len(x_hat):
        raise ValueError(f"{len(originals)} originals but {len(x_hat)} reconstructions")
    bands = []
    for start in range(0, max(1, len(originals)), columns):
        some = slice(start, start + columns)
        rows, heading = [originals[some], x_hat[some]], "" if start else title
        bands.append(image_grid(rows, ["original", made], names[some], scale, heading, GAP // 2))
    return stacked(bands)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Grey pictures with white margins, one below the other, a single margin between them."""
    height = sum(picture.height - MARGIN for picture in pictures) + MARGIN
    whole = Image.new("L", (max(picture.width for picture in pictures), height), 255)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height - MARGIN
    return whole


def save_png(path: str | os.PathLike[str], picture: NDArray[np.uint8] | Image.Image) -> None:
    """Write a picture as PNG: see `png`. An existing file is replaced in one step.

    Raises ValueError for other pixels, OutputError if the file cannot be written.
    """
    save_bytes(path, png(picture))


def png(picture: NDArray[np.uint8] | Image.Image) -> bytes:
    """A picture, grey (H, W) or colour (H, W, 3) uint8, as PNG. Equal pixels give equal bytes.

    Raises ValueError for other pixels.
    """
    pixels = np.asarray(picture)
    shape_is_right = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not shape_is_right or pixels.size == 0:
        raise ValueError(
            f"a picture is (H, W) or (H, W, 3) of uint8, not {pixels.shape} of {pixels.dtype}"
        )
    how = {"compress_type": ZLIB_RLE} if pixels.ndim == 2 else {"compress_level": 3}
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG", **how)
    return data.getvalue()


def save_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write the bytes of a picture or page, whole or not at all. Raises OutputError."""
    words = "check that the folder exists, can be written, and that the disk has room"
    write_file(path, data, f"cannot write {{path}}\n{{why}}\n{words}", durable=False)


def _squares(images: Sequence[ArrayLike] | NDArray[Any]) -> NDArray[np.uint8]:
    """Images of either shape and type as uint8 (N, 28, 28)."""
    if isinstance(images, np.ndarray):
        pixels = to_uint8(images)
        if pixels.shape[1:] not in {(SIDE, SIDE), (SIDE * SIDE,)}:
            raise ValueError(f"images must be (N, 28, 28) or (N, 784), not {pixels.shape}")
        return pixels.reshape(-1, SIDE, SIDE)
    return np.concatenate([_squares(np.asarray(image)[np.newaxis]) for image in images])
