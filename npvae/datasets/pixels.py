"""When is an array a set of pictures? One rule for folders, IDX, .npz, .npy and CSV files.

    whole numbers   0 black to 255 white
    floats          0 black to 1 white
    True, False     white and black
    colour          becomes grey, weighed as Pillow does (ITU-R 601)

Nothing is scaled by guess: what does not fit is refused, with the expression that converts it.
Pictures of other sizes are scaled only where that was asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isqrt, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import DataError
from npvae.core.validation import ROUNDING
from npvae.datasets.dataset import MAX_ITEMS, SIDE, mismatch, some

Bytes = NDArray[np.uint8]

MAX_SIDE = 4096  # of a picture that is scaled
_STRETCHED = "(x - x.min()) / (x.max() - x.min())"
_BLOCK = 512 * SIDE * SIDE  # pixels that are converted at once


def fault(where: str, expected: str, found: str, change: str = "") -> DataError:
    """The error to be raised; `change` is the NumPy expression that converts the array x."""
    way_on = f"Convert them first. With x for the array:  {change}" if change else ""
    return mismatch(where, expected, found, way_on)


@dataclass
class Intake:
    """What the user wants to be done to pictures on the way in, and what is to be said of it."""

    resize: bool = False  # other sizes are scaled to 28 x 28
    invert: bool = False  # black becomes white
    skip_broken: bool = False  # pictures that cannot be read are left out
    report: Callable[[str], None] = lambda line: None
    notes: list[str] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)  # of pictures that were scaled

    def what_was_done(self) -> list[str]:
        """In a few words each, for people."""
        sizes = some((size for size, _ in self.sizes.most_common()), 3)
        scaled = f"{self.sizes.total():,} scaled to {SIDE} x {SIDE} (from {sizes})"
        return [scaled] * bool(self.sizes) + ["inverted"] * self.invert


def block_size(shape: tuple[int, ...]) -> int:
    """How many items of an array are read at once."""
    return max(1, _BLOCK // max(1, prod(shape[1:])))


def to_images(
    where: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    blocks: Iterable[NDArray[Any]],
    intake: Intake,
) -> Bytes:
    """Pictures (N, 28, 28) from an array of this shape and dtype, given block by block.

    Shape and dtype are judged before the first block is asked for. Raises DataError.
    """
    if dtype.kind not in "buif":
        raise fault(where, "pixels as numbers", f"{dtype}")
    height, width, channels = _layout(where, shape, intake.resize)
    images, start, lightest = np.empty((shape[0], SIDE, SIDE), np.uint8), 0, 0.0
    for block in blocks:
        lightest = max(lightest, float(block.max()))
        pixels = to_bytes(where, block).reshape(len(block), *_moved(shape)[1:])
        if channels == 3:
            pixels = _grey(pixels if pixels.shape[-1] == 3 else np.moveaxis(pixels, 1, -1))
        grey = pixels.reshape(-1, height, width)
        end = start + len(block)
        if (height, width) == (SIDE, SIDE):
            images[start:end] = grey
        else:
            images[start:end] = [fit(Image.fromarray(picture)) for picture in grey]
            intake.sizes[f"{width} x {height}"] += len(block)
        start = end
    if dtype.kind == "f" and 0 < lightest < 1.5 / 255:
        found = f"0 to {lightest:.3g} (divided by 255 twice?)"
        raise fault(where, "floats from 0 to 1", found, "255 * x")
    check_levels(where, images)
    return images


def check_levels(where: str, images: Bytes) -> None:
    """Raises DataError for bytes 0 and 1: as bytes from 0 to 255 they would all be black."""
    if images.max() == 1:
        raise fault(where, "pixels from 0 to 255", "only 0 and 1", "255 * x")


def _moved(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of length 1: (N, 1, 28, 28) and (N, 28, 28, 1) are (N, 28, 28)."""
    return shape[0], *(size for size in shape[1:] if size != 1)


def _layout(where: str, shape: tuple[int, ...], resize: bool) -> tuple[int, int, int]:
    """Height, width and channels of each picture in an array. Raises DataError."""
    if not shape or not 1 <= shape[0] <= MAX_ITEMS:
        raise fault(where, f"1 to {MAX_ITEMS:,} pictures, (N, {SIDE}, {SIDE})", f"{shape}")
    found = f"{shape}"
    count, *rest = _moved(shape)
    if len(shape) == 3 and shape[:2] == (SIDE, SIDE) and shape[2] not in (1, 3, 4, SIDE):
        raise fault(where, "the pictures along the first axis", found, "np.moveaxis(x, -1, 0)")
    if len(shape) == 2 and count == SIDE * SIDE != shape[1] and not resize:
        raise fault(where, "the pictures along the first axis", found, "x.T")
    if len(rest) == 3 and 4 in (rest[0], rest[-1]):
        change = "x[..., :3]" if rest[-1] == 4 else "x[:, :3]"
        expected = "grey pictures, or red, green and blue without opacity"
        raise fault(where, expected, found, change)
    if rest == [3 * SIDE * SIDE]:
        raise fault(where, "grey pictures", found, f"x.reshape(-1, {SIDE}, {SIDE}, 3)")
    channels = 3 if len(rest) == 3 and 3 in (rest[0], rest[-1]) else 1
    if channels == 3:
        rest = rest[:2] if rest[-1] == 3 else rest[1:]
    elif len(rest) == 1 and isqrt(rest[0]) ** 2 == rest[0]:
        rest = [isqrt(rest[0])] * 2
    if len(rest) != 2 or not all(1 <= size <= MAX_SIDE for size in rest):
        raise fault(where, f"pictures (N, {SIDE}, {SIDE}) or (N, {SIDE * SIDE})", found)
    if rest != [SIDE, SIDE] and not resize:
        found = f"{rest[1]} x {rest[0]}, {found}"
        raise mismatch(where, f"pictures of {SIDE} x {SIDE}", found, "--resize scales them.")
    return rest[0], rest[1], channels


def to_bytes(where: str, pixels: NDArray[Any]) -> Bytes:
    """Each pixel as a byte. Raises DataError for what is outside the range."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    if pixels.dtype.kind == "b":
        return np.asarray(np.where(pixels, 255, 0), np.uint8)
    with np.errstate(invalid="ignore"):
        low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind in "ui":
        if low < 0 or high > 255:
            change = "x / x.max()" if low >= 0 else _STRETCHED
            if low < 0 and high - low <= 255:  # bytes with a sign, or moved
                change = "x.view(np.uint8)" if pixels.dtype == np.int8 else "x - x.min()"
            raise fault(where, "whole numbers from 0 to 255", f"{low:g} to {high:g}", change)
        return pixels.astype(np.uint8)
    if np.isnan([low, high]).any():
        raise fault(where, "floats from 0 to 1", "NaN", "np.nan_to_num(x)")
    if low < -ROUNDING or high > 1 + ROUNDING:
        change = _rescaling(low, high) if np.isfinite([low, high]).all() else ""
        raise fault(where, "floats from 0 to 1", f"{low:g} to {high:.7g}", change)
    rounded: Bytes = np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)
    return rounded


def _rescaling(low: float, high: float) -> str:
    """How floats of this range probably become floats from 0 to 1."""
    if low > -0.1 and high < 1.1:
        return "np.clip(x, 0, 1)"
    if low >= 0:
        return "x / 255" if high <= 256 else "x / x.max()"
    if max(-low, high) <= 0.5:
        return "x + 0.5"
    if max(-low, high) <= 1.001:
        return "(x + 1) / 2"
    return _STRETCHED


def _grey(pixels: Bytes) -> Bytes:
    """(n, height, width) of colours (n, height, width, 3)."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return grey.astype(np.uint8)


def fit(picture: Image.Image, fill: int | None = None) -> Bytes:
    """A grey picture scaled to 28 x 28, if it is not, its aspect kept, in the middle.

    What is left of the 28 x 28 is `fill`, or else the median of the picture's edge.
    """
    if picture.size == (SIDE, SIDE):
        return np.asarray(picture)
    if fill is None:
        pixels = np.asarray(picture)
        edge = np.concatenate([pixels[[0, -1]].ravel(), pixels[:, [0, -1]].ravel()])
        fill = int(np.median(edge))
    longest = max(picture.size)
    width, height = (max(1, round(size * SIDE / longest)) for size in picture.size)
    # Shrunk, a pixel is the mean of what it covers; enlarged, it lies between its neighbours.
    kind = Image.Resampling.BOX if longest > SIDE else Image.Resampling.BILINEAR
    small = picture.resize((width, height), kind)
    whole = Image.new("L", (SIDE, SIDE), fill)
    whole.paste(small, ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(whole)
