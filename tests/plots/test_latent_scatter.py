"""Dots stand where the codes are, in colours that every eye can tell apart, and all is named."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from npvae.core.errors import OptionError
from npvae.latent_space import principal_plane
from npvae.plots.latent_scatter import CLASS_COLORS, OPACITY, codes, scatter
from tests.helpers import refused
from tests.plots.toys import (
    NAME,
    TEST,
    asked,
    assert_nothing_is_cut_off,
    model,
    pixels_of,
    where,
    x_of,
)


def rgb(name: str) -> NDArray[np.int64]:
    return np.array(ImageColor.getrgb(name), dtype=np.int64)


def panel_center(picture: Image.Image, color: NDArray[np.int64]) -> NDArray[np.float64]:
    """The (row, column) middle of the panel's pixels that have this hue, as the dots show it."""
    seen = np.rint(OPACITY * color + (1 - OPACITY) * 255)
    panel = pixels_of(picture)[96:696, 60:690]
    near = np.abs(panel - seen).max(axis=-1) <= 3
    center: NDArray[np.float64] = np.argwhere(near).mean(axis=0)
    return center


def test_dots_stand_where_the_codes_are_in_the_colour_of_their_class() -> None:
    codes = [[-1.02, -1.02], [1.02, -1.02], [-0.98, 1.01]]  # off the grid lines
    picture = scatter(codes, [0, 1, 2], ["a", "b", "c"], "Three", "z0", "z1")
    a, b, c = (panel_center(picture, rgb(CLASS_COLORS[k])) for k in range(3))
    unit = (b - a)[1] / 2.04  # pixels
    assert unit > 200
    assert (b - a)[0] == pytest.approx(0.0, abs=1.0)
    np.testing.assert_allclose(c - a, [-2.03 * unit, 0.04 * unit], atol=1.0)  # rows run downwards


def test_no_class_hides_another() -> None:
    """Two classes in one cloud: in the picture each covers as much as the other."""
    rng = np.random.default_rng(0)
    codes, labels = rng.standard_normal((6000, 2)), np.repeat([0, 5], 3000)  # class by class
    picture = scatter(codes, labels, [str(k) for k in range(6)], "", "z0", "z1")
    panel = pixels_of(picture)[300:500, 250:450].reshape(-1, 3)
    nearer = [np.abs(panel - rgb(CLASS_COLORS[k])).sum(axis=1) for k in (0, 5)]
    share = np.mean(nearer[0] < nearer[1])
    assert 0.3 < share < 0.7  # drawn in the order given, the first class keeps less than 0.1


def test_the_legend_names_each_class_outside_the_panel() -> None:
    names = ["T-shirt/top", "Trouser", "Ankle boot"]
    picture = scatter([[0.0, 0.0], [1.0, 1.0]], [0, 2], names, "Codes", "z0", "z1")
    rows = []
    for k in range(3):
        disc = where(picture, tuple(rgb(CLASS_COLORS[k]).tolist()))
        assert len(disc) > 100
        assert disc[:, 1].min() > 650
        rows.append(disc[:, 0].mean())
        row = round(rows[-1])
        assert (pixels_of(picture)[row - 6 : row + 6, disc[:, 1].max() + 6 :] < 100).any()
    assert rows == sorted(rows)
    assert_nothing_is_cut_off(picture)


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, ["only"]),
        (50, ["a class whose name is as long as a sentence and longer than most of them"]),
        (200, [f"class {k}" for k in range(47)]),
    ],
)
def test_odd_sets_of_codes_are_drawn_whole(count: int, names: list[str]) -> None:
    """One point; all points equal; more classes than the picture is high."""
    picture = scatter(np.ones((count, 2)), np.arange(count) % len(names), names, "T", "x", "y")
    assert_nothing_is_cut_off(picture)
    assert (pixels_of(picture)[380:412, 330:370] < 220).any()  # the dot, in the middle


def test_ten_thousand_codes_are_drawn_within_a_second_and_always_the_same() -> None:
    rng = np.random.default_rng(1)
    given = rng.standard_normal((10_000, 2)), rng.integers(0, 10, 10_000), [*"0123456789"]
    start = time.process_time()
    picture = scatter(*given, "Codes", "z0", "z1")
    assert time.process_time() - start < 1.0
    assert picture.tobytes() == scatter(*given, "Codes", "z0", "z1").tobytes()


def test_each_class_has_its_name_where_its_dots_are() -> None:
    """Around a name there is a white halo: white pixels amid the dots, and dark letters in it."""
    rng = np.random.default_rng(0)
    centers = np.array([[-4.0, -4], [4, -4], [0, 4]])
    points = np.repeat(centers, 500, axis=0) + 0.5 * rng.standard_normal((1500, 2))
    picture = scatter(points, np.repeat([0, 1, 2], 500), ["one", "two", "six"], "T", "x", "y")
    pixels = pixels_of(picture)
    for k in range(3):
        row, column = panel_center(picture, rgb(CLASS_COLORS[k])) + np.array([96, 60])
        near = pixels[round(row) - 40 : round(row) + 40, round(column) - 40 : round(column) + 40]
        dark = (near == 51).all(axis=-1)  # the ink of letters
        assert dark.sum() > 20


# ------------------------------------------------------------------ codes


@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_codes_stand_where_the_encoder_puts_them(latent_dim: int) -> None:
    """One latent beside the class, two as they are, more in the plane of greatest variance."""
    vae, count = model(latent_dim), 50
    points, _ = vae.encode(x_of(TEST.images[:count]))
    words = ["mu of z0", "mu of z1"]
    if latent_dim == 1:
        apart = np.random.default_rng(0).uniform(-0.35, 0.35, count)
        points = np.column_stack([points, TEST.labels[:count] + apart])
        words[1] = "class, spread to show all dots"
    elif latent_dim == 4:
        points, shares = principal_plane(points)
        assert 1 > shares[0] > shares[1] > 0
        words = [
            f"principal component {k} of mu: {share:.0%} of the variance"
            for k, share in enumerate(shares, start=1)
        ]
    title = f"{NAME}: codes of 50 drawn-digits test images"
    found = codes(asked(vae, count))
    expected = scatter(points, TEST.labels[:count], TEST.class_names, title, *words)
    assert found.size == expected.size
    differs = (pixels_of(found) != pixels_of(expected)).any(axis=-1)
    assert differs.sum() < 200  # of the 5,000 of the dots: one may be rounded to the next place


def test_a_scale_enlarges_the_codes_too_but_not_beyond_what_memory_holds() -> None:
    small, large = (codes(asked(model(2), 20, scale)) for scale in (1, 2))
    assert large.size == (2 * small.width, 2 * small.height)
    for scale in (50, 2**53 - 1):
        with refused(OptionError, "million pixels"):
            codes(asked(model(2), 20, scale))
