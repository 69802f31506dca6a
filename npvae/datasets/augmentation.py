"""How do few images become many? Each image is moved a little whenever it is used.

    shift     up to 2 whole pixels in either direction
    rotate    up to 10 degrees, anticlockwise if positive
    scale     by a factor between 1/1.1 and 1.1
    flip      a mirror image, with probability 1/2: a shoe stays a shoe, a 2 does not stay a 2

All four, one after the other in this order, are one affine map of the plane. It is used backwards:
the value of a pixel p of the new image comes from the point A (p - centre) + centre - shift of the
old one. That point lies between four pixels, which are weighted by their nearness (bilinear
interpolation). Beyond the edge everything is black.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isqrt

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npvae.core.parameters import Array
from npvae.datasets.minibatches import Images, to_pixels

AUGMENTATIONS = ("shift", "rotate", "scale", "flip")
SHIFT, ROTATION, SCALING = 2, np.deg2rad(10), 1.1

Warps = NDArray[np.float64]  # (B, 2, 3): A, and beside it -shift; rows first, then columns


def random_warps(count: int, kinds: Collection[str], rng: np.random.Generator) -> Warps:
    """`count` random maps of these kinds, for `warp`."""
    angle = rng.uniform(-ROTATION, ROTATION, count) * ("rotate" in kinds)
    # Uniform in the logarithm: a factor is as likely as its inverse.
    scale = np.exp(rng.uniform(-1, 1, count) * np.log(SCALING) * ("scale" in kinds))
    mirror = np.where(rng.random(count) < 0.5 * ("flip" in kinds), -1, 1)
    shift = rng.integers(-SHIFT, SHIFT, (count, 2), endpoint=True) * ("shift" in kinds)

    warps = np.empty((count, 2, 3))
    warps[:, 0, 0], warps[:, 0, 1] = np.cos(angle) / scale, np.sin(angle) / scale * mirror
    warps[:, 1, 0], warps[:, 1, 1] = -np.sin(angle) / scale, np.cos(angle) / scale * mirror
    warps[:, :, 2] = -shift
    return warps


def warp(images: Images, warps: Warps, dtype: DTypeLike) -> Array:
    """Square images (B, side, side) or (B, D), bytes, warped: pixels in [0, 1], (B, D)."""
    side = isqrt(images[0].size)
    centre = (side - 1) / 2
    framed = np.pad(images.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1)))  # by black
    grid = np.stack([*np.indices((side, side)).reshape(2, -1) - centre, np.ones(side * side)])
    source = warps @ grid + centre  # (B, 2, D): where each new pixel comes from
    source = np.clip(source, -1, side) + 1  # in the frame; beyond it, everything is black
    # The pixel above and to the left; at most side, also for NaN, so that the next is in the frame.
    corner = np.fmin(source, side).astype(int)
    (i, j), (u, v) = corner.swapaxes(0, 1), (source - corner).swapaxes(0, 1)
    k = np.arange(len(images))[:, None]
    upper = (1 - v) * framed[k, i, j] + v * framed[k, i, j + 1]
    lower = (1 - v) * framed[k, i + 1, j] + v * framed[k, i + 1, j + 1]
    x: Array = (((1 - u) * upper + u * lower) / 255).astype(dtype)
    return x


def augmented(
    images: Images, kinds: Collection[str], rng: np.random.Generator, dtype: DTypeLike
) -> Array:
    """The pixels (B, D) of images (B, ...), bytes, each moved at random in these ways, if any."""
    if not kinds:
        return to_pixels(images, dtype)
    return warp(images, random_warps(len(images), kinds, rng), dtype)
