"""How do images become a picture with words on it?

`strip` draws a labelled grid of images, `stacked` puts pictures one below the other: RGB pictures
for `image_grid.save_png`. Related: `latent_scatter.py`, codes in the plane, and `loss_curves.py`,
the losses of a training run; they share `axes.py`. `generation.py` decides what is shown.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from npvae.datasets.dataset import SIDE
from npvae.plots.axes import MARGIN, MEDIUM, SMALL, WHITE, largest, write
from npvae.plots.image_grid import tile


def strip(
    rows: Sequence[Sequence[ArrayLike] | NDArray[Any]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: int = 3,
    title: str = "",
    gap: int = 4,
) -> Image.Image:
    """A grid of images with words beside its rows and above its columns.

    A row is a list or an array of images, (28, 28) or (784,) each, uint8 or floats in [0, 1]; each
    pixel becomes a block of scale x scale. `gap` pixels of the picture lie between neighbours, more
    where a label needs the room; a short row ends in white. Without labels they take no room.
    Raises ValueError for no image, pixels outside [0, 1], or labels that do not fit the grid.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0 or scale < 1 or gap < 0:
        raise ValueError("a strip needs an image, a scale of at least 1 and a gap of at least 0")
    if len(row_labels) not in (0, len(rows)) or len(column_labels) not in (0, columns):
        raise ValueError(
            f"{len(row_labels)} row labels and {len(column_labels)} column labels"
            f" for {len(rows)} rows and {columns} columns"
        )
    side = SIDE * scale
    beside, above = largest(row_labels, SMALL), largest(column_labels, SMALL)
    heading = largest([title], MEDIUM)
    cell = max(side, above[0] + 8 if column_labels else 0), max(side, beside[1])
    left = MARGIN + (beside[0] + 12 if row_labels else 0)
    top = MARGIN + (heading[1] + 14 if title else 0) + (above[1] + 8 if column_labels else 0)
    right = left + columns * (cell[0] + gap) - gap
    bottom = top + len(rows) * (cell[1] + gap) - gap
    size = max(right, MARGIN + heading[0]) + MARGIN, bottom + MARGIN
    picture = Image.new("RGB", size, WHITE)
    write(picture, (MARGIN, MARGIN), title, MEDIUM)
    centers = [left + cell[0] // 2 + k * (cell[0] + gap) for k in range(columns)]
    middles = [top + cell[1] // 2 + k * (cell[1] + gap) for k in range(len(rows))]
    for center, label in zip(centers, column_labels, strict=False):
        write(picture, (center, top - 8), label, SMALL, "md")
    for middle, label in zip(middles, row_labels, strict=False):
        write(picture, (left - 12, middle), label, SMALL, "rm")
    for middle, row in zip(middles, rows, strict=True):
        for center, image in zip(centers, row, strict=False):
            pixels = tile(np.asarray(image)[np.newaxis], columns=1)  # (28, 28), checked
            pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
            picture.paste(Image.fromarray(pixels), (center - side // 2, middle - side // 2))
    return picture


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures with white margins, one below the other, a single margin between them."""
    height = sum(picture.height - MARGIN for picture in pictures) + MARGIN
    whole = Image.new("RGB", (max(picture.width for picture in pictures), height), WHITE)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height - MARGIN
    return whole
