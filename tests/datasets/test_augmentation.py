"""Moved images: each kind does what its name says, to each image alone, and never leaves memory.

y points down here, as rows do; angles are positive anticlockwise, as `np.rot90` turns.
"""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.datasets.augmentation import AUGMENTATIONS, Warps, random_warps, warp
from tests.helpers import Bytes, digits


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(count: int, side: int) -> Bytes:
    return rng().integers(0, 256, (count, side, side), np.uint8)


def same_for_all(count: int, *rows: Any) -> Warps:
    """`count` copies of the map [A | source of the centre]."""
    return np.tile(np.array(rows, float), (count, 1, 1))


def warped(images: Bytes, warps: Warps, dtype: Any = float) -> Array:
    """Each image by its own map; pixels in [0, 1], in the shape of images."""
    return warp(images, warps, dtype).reshape(images.shape)


def colours(found: Array) -> Bytes:
    """The bytes that these pixels are exactly: a compiled division by 255 is off by a bit."""
    rounded: Array = np.rint(255 * found)
    near = 2 * float(np.finfo(found.dtype).eps)
    np.testing.assert_allclose(found, rounded / 255, rtol=near, atol=0)
    return rounded.astype(np.uint8)


def disc(row: float, column: float) -> Bytes:
    """One image: a white disc with a soft edge, on black."""
    y, x = np.indices((28, 28))
    image: Bytes = (255 * np.clip(2.5 - np.hypot(y - row, x - column), 0, 1)).astype(np.uint8)
    return image[None]


def middle(image: Array) -> Array:
    """The centre of brightness, from the centre of the image: rows, columns."""
    grid = np.indices(image.shape) - (len(image) - 1) / 2
    return np.array([float((axis * image).sum() / image.sum()) for axis in grid])


IDENTITY = [[1, 0, 0], [0, 1, 0]]
LIGHT = np.full((1, 5, 5), 255, np.uint8)


@pytest.mark.parametrize(("side", "dtype"), [(1, np.float64), (2, np.float32), (5, np.float64)])
def test_maps_of_whole_pixels_are_exact(side: int, dtype: Any) -> None:
    images = noise(3, side)
    for rows, moved in (
        (IDENTITY, images),
        ([[1, 0, 0], [0, -1, 0]], images[..., ::-1]),  # a mirror
        ([[0, 1, 0], [-1, 0, 0]], np.rot90(images, axes=(1, 2))),
    ):
        found = warped(images, same_for_all(3, *rows), dtype)
        np.testing.assert_array_equal(colours(found), moved)


def test_whole_pixels_are_shifted_exactly_and_black_comes_in() -> None:
    images, side = noise(1, 5), 5
    for down, right in product((-7, -5, -4, -2, 0, 1, 2, 5), repeat=2):
        expected = np.zeros((side, side), np.uint8)
        for i, j in product(range(side), repeat=2):
            if 0 <= i - down < side and 0 <= j - right < side:
                expected[i, j] = images[0, i - down, j - right]
        found = warped(images, same_for_all(1, [1, 0, -down], [0, 1, -right]))
        np.testing.assert_array_equal(colours(found[0]), expected)


def test_half_a_pixel_is_the_mean_of_two_and_at_the_edge_of_one_and_black() -> None:
    image = np.array([[[0, 51], [102, 255]]], np.uint8)  # 0, 0.2, 0.4, 1
    for down, right, expected in (
        (0.5, 0, [[0, 0.1], [0.2, 0.6]]),
        (0, -0.25, [[0.05, 0.15], [0.55, 0.75]]),
        (0.5, -0.25, [[0.025, 0.075], [0.3, 0.45]]),
    ):
        found = warped(image, same_for_all(1, [1, 0, -down], [0, 1, -right]))
        np.testing.assert_allclose(found[0], expected, rtol=1e-14)


def test_twice_as_large_is_four_times_as_bright() -> None:
    square = np.zeros((1, 28, 28), np.uint8)
    square[:, 10:18, 10:18] = 255
    large, small = (
        warped(square, same_for_all(1, [1 / s, 0, 0], [0, 1 / s, 0]))[0] for s in (2, 0.5)
    )
    np.testing.assert_array_equal(large[6:22, 6:22].round(), 1)  # 16 x 16
    assert large.sum() == pytest.approx(4 * 64)
    np.testing.assert_array_equal(small[12:16, 12:16], 1)  # 4 x 4
    assert small.sum() == pytest.approx(16)


def test_each_image_has_its_own_map() -> None:
    images, warps = noise(3, 5), random_warps(3, AUGMENTATIONS, rng())
    for k, found in enumerate(warped(images, warps)):
        np.testing.assert_array_equal(found, warped(images[k : k + 1], warps[k : k + 1])[0])


def test_from_beyond_the_edge_all_is_black() -> None:
    """Image coordinates that no integer holds are no index, either."""
    for sign, row, far in product((-1, 1), (0, 1), (6.0, 1e19, 1e308)):
        warps = same_for_all(1, *IDENTITY)
        warps[0, row, 2] = sign * far
        np.testing.assert_array_equal(warped(LIGHT, warps), 0)


def test_one_point_may_be_drawn_all_over() -> None:
    """A map of the whole plane to one point, in the image, on its edge, and just out of reach."""
    for place, expected in ((0, 1), (2, 1), (2.25, 0.75), (-2.5, 0.5), (3, 0), (-3, 0)):
        warps = np.zeros((1, 2, 3))
        warps[:, 0, 2] = place
        np.testing.assert_array_equal(warped(LIGHT, warps), expected)
    just_inside = np.nextafter(3, 0)  # where rounding might make one more row of it
    warps = np.full((1, 2, 3), [0, 0, just_inside])
    assert 0 <= warped(LIGHT, warps).max() < 1e-15


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e300, 2.0**63])
def test_no_map_reads_outside_the_image(bad: float) -> None:
    """A compiled loop does not look whether an index is good. A map that is no number gives pixels
    that are none, which the loss will show; any other gives colours."""
    grid = np.stack([*np.indices((5, 5)).reshape(2, -1) - 2.0, np.ones(25)])
    for mask in product((False, True), repeat=6):
        warps = same_for_all(1, *IDENTITY)
        warps[0][np.array(mask).reshape(2, 3)] = bad
        with np.errstate(all="ignore"):
            found = warped(LIGHT, warps)[0].ravel()
            unknown = np.isnan(warps[0] @ grid).any(axis=0)
        np.testing.assert_array_equal(np.isnan(found), unknown)
        assert ((found[~unknown] >= 0) & (found[~unknown] <= 1)).all()


def parts(warps: Warps) -> dict[str, Array]:
    """What each kind has done, from the maps: A = rotation(angle) / scale @ mirror."""
    A = warps[:, :, :2]
    determinant = np.linalg.det(A)
    return {
        "shift": -warps[:, :, 2],
        "rotate": np.arctan2(-A[:, 1, 0], A[:, 0, 0]),
        "scale": np.abs(determinant) ** -0.5,
        "flip": np.sign(determinant),
    }


NOTHING = parts(same_for_all(1, *IDENTITY))


def test_the_maps_are_made_of_these_kinds() -> None:
    assert tuple(NOTHING) == AUGMENTATIONS
    found = random_warps(50, AUGMENTATIONS, rng())
    shift, angle, scale, mirror = parts(found).values()
    for k, one in enumerate(found):
        cos, sin = math.cos(angle[k]) / scale[k], math.sin(angle[k]) / scale[k]
        turned = np.array([[cos, sin], [-sin, cos]]) @ np.diag([1, mirror[k]])
        np.testing.assert_allclose(one, np.column_stack([turned, -shift[k]]), atol=1e-15)


def test_a_kind_is_the_same_whatever_others_there_are() -> None:
    """So that one can tell what each of them is worth: the same numbers are drawn, too."""
    pairs = combinations(AUGMENTATIONS, 2)
    for kinds in ((), *combinations(AUGMENTATIONS, 1), *pairs, AUGMENTATIONS):
        one, other = rng(), rng()
        found = parts(random_warps(20, kinds, one))
        random_warps(20, (), other)
        assert one.random() == other.random()
        for kind in AUGMENTATIONS:
            alone = parts(random_warps(20, [kind], rng()))[kind]
            expected = alone if kind in kinds else np.broadcast_to(NOTHING[kind], alone.shape)
            np.testing.assert_allclose(found[kind], expected, rtol=0, atol=1e-14)
            assert (kind in kinds) == bool(np.abs(found[kind] - NOTHING[kind]).max() > 0.01)


def test_equal_seeds_give_equal_maps_and_others_do_not() -> None:
    first, again, other = (random_warps(5, AUGMENTATIONS, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first[:, 0, 0], other[:, 0, 0]).any()
    assert len({one.tobytes() for one in first}) == 5  # a map for each image


def test_how_far_and_how_often() -> None:
    """20,000 draws: a share p is off by sqrt(p (1 - p) / 20,000), 0.0035 for a half; five times.

    And the mean of uniform numbers from -a to a by a / sqrt(3 * 20,000).
    """
    count = 20_000
    shift, angle, scale, mirror = parts(random_warps(count, AUGMENTATIONS, rng())).values()
    steps, often = np.unique(shift, axis=0, return_counts=True)
    assert steps.tolist() == [list(pair) for pair in product((-2, -1, 0, 1, 2), repeat=2)]
    np.testing.assert_allclose(often / count, 1 / 25, rtol=0, atol=0.007)

    assert (mirror == -1).mean() == pytest.approx(0.5, abs=0.0175)
    for spread, most in ((angle, math.radians(10)), (np.log(scale), math.log(1.1))):
        assert np.abs(spread).max() <= most + 1e-12
        tenths, _ = np.histogram(spread, bins=10, range=(-most, most))
        np.testing.assert_allclose(tenths / count, 0.1, rtol=0, atol=0.0107)
        assert abs(spread.mean()) < 5 * most / math.sqrt(3 * count)
    drawn = np.column_stack([shift, angle, np.log(scale), mirror])
    # Independent, the correlation of two is off by 1 / sqrt(20,000) = 0.007.
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(5), rtol=0, atol=0.035)


@pytest.mark.parametrize("kinds", [("shift",), ("rotate",), AUGMENTATIONS], ids=",".join)
def test_a_disc_is_moved_down_and_right_turned_anticlockwise_scaled_and_mirrored(
    kinds: tuple[str, ...],
) -> None:
    """In this order. Bilinear interpolation moves brightness by a small part of a pixel."""
    warps = random_warps(60, kinds, rng())
    shift, angle, scale, mirror = parts(warps).values()
    found = warped(disc(13.5 - 4, 13.5 + 5).repeat(60, axis=0), warps)
    for k, image in enumerate(found):
        y, x = shift[k] + (-4, 5)
        turned = (x + 1j * -y) * np.exp(1j * angle[k]) * scale[k]  # as on paper, y upwards
        expected = -turned.imag, turned.real * mirror[k]
        np.testing.assert_allclose(middle(image), expected, atol=0.05)


def test_digits_stay_grey_and_about_as_bright() -> None:
    images, warps = digits(120, 40)[0], random_warps(120, AUGMENTATIONS, rng())
    found = warped(images, warps, dtype=np.float32)
    assert 0 <= found.min() < found.max() <= 1
    before = images.mean(axis=(1, 2)) / 255 * parts(warps)["scale"] ** 2
    ratio = found.mean(axis=(1, 2)) / before
    # Thin strokes: interpolation gives and takes a little; what leaves at the edge is lost.
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert (np.abs(ratio - 1) < 0.1).mean() > 0.95


def test_images_and_maps_are_left_alone() -> None:
    images, warps = noise(3, 5), random_warps(3, AUGMENTATIONS, rng())
    kept = images.copy(), warps.copy()
    warp(images, warps, float)
    for before, now in zip(kept, (images, warps), strict=True):
        np.testing.assert_array_equal(before, now)
