"""Images stand where they belong, with labels beside them, and a file holds their pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.plots.axes import MARGIN
from npvae.plots.image_grid import (
    image_grid,
    in_rows,
    reconstruction_grid,
    save_png,
    stacked,
    to_uint8,
)
from tests.plots.toys import assert_nothing_is_cut_off, find, noise, pixels_of


def test_floats_become_the_nearest_of_256_levels() -> None:
    """Where rounding has carried them out of [0, 1], too."""
    levels = np.arange(256)
    np.testing.assert_array_equal(to_uint8(levels / 255.0), levels)
    np.testing.assert_array_equal(to_uint8((levels / 255.0).astype(np.float32)), levels)
    odd = np.array([0.49 / 255, 0.51 / 255, -1e-7, 1.0 + 1e-7])
    np.testing.assert_array_equal(to_uint8(odd), [0, 1, 0, 255])
    assert to_uint8(np.float64(1.0)).dtype == np.uint8
    given = levels.astype(np.uint8)
    assert not np.shares_memory(to_uint8(given), given)


def test_a_bare_grid_is_its_images_a_gap_apart_in_a_white_margin() -> None:
    images = noise(5)
    picture = image_grid([images[:3], images[3:]], scale=2, gap=5)
    assert picture.size == (2 * MARGIN + 3 * 56 + 2 * 5, 2 * MARGIN + 2 * 56 + 5)
    for k, image in enumerate(images):
        corner = MARGIN + (k // 3) * (56 + 5), MARGIN + (k % 3) * (56 + 5)
        assert find(picture, image, 2) == [corner]
    end = pixels_of(picture)[corner[0] :, corner[1] + 56 :]
    assert (end == 255).all()  # a short row ends in white


def test_floats_and_rows_of_784_are_drawn_the_same() -> None:
    images = noise(2)
    expected = image_grid([images]).tobytes()
    assert image_grid([images / 255.0]).tobytes() == expected
    assert image_grid([(images / 255.0).astype(np.float32).reshape(2, 784)]).tobytes() == expected


def test_labels_stand_outside_the_images_and_inside_the_picture() -> None:
    """Without its images a labelled grid is words and white; no word touches another."""
    images = np.full((6, 28, 28), 200, dtype=np.uint8)
    names = [f"{name}, wider than any image" for name in ("one", "two", "six")]
    labels = ["original", "reconstruction"]
    picture = image_grid([images[:3], images[3:]], labels, names, 1, "A title")
    assert_nothing_is_cut_off(picture)
    pixels = pixels_of(picture)
    whole = [
        (top, left)
        for top, left in find(picture, images[0], 1)
        if pixels[top - 1, left] == 255 == pixels[top, left - 1]
    ]
    assert len(whole) == 6
    tops, lefts = sorted({top for top, _ in whole}), sorted({left for _, left in whole})
    header = (pixels[tops[0] - 26 : tops[0] - 2, lefts[0] - 40 :] < 250).any(axis=0)
    breaks = np.diff(np.flatnonzero(header)) > 8  # letters and words are closer than labels
    assert breaks.sum() == 2
    for top in tops:
        assert (pixels[top : top + 28, : lefts[0] - 4] < 100).any()


def test_a_row_label_ends_just_before_its_row_and_a_column_label_just_above() -> None:
    image = noise(1)[0]
    picture = image_grid([[image]], ["z3  1.92 nats"], ["+3"], scale=2)
    ((top, left),) = find(picture, image, 2)
    dark = pixels_of(picture) < 200
    dark[top : top + 56, left : left + 56] = False
    rows, columns = np.nonzero(dark)
    beside, above = columns < left, rows < top
    assert (beside | above).all()
    assert left - 16 <= columns[beside].max() < left - 8
    assert rows[beside].mean() == pytest.approx(top + 28, abs=4)
    assert top - 18 <= rows[above].max() < top - 4
    assert columns[above].mean() == pytest.approx(left + 28, abs=4)


@pytest.mark.parametrize("title", ["short", "a title that is much wider than one small image"])
def test_a_title_makes_room_for_itself(title: str) -> None:
    images = noise(1)
    bare, titled = image_grid([images], scale=1), image_grid([images], scale=1, title=title)
    assert_nothing_is_cut_off(titled)
    ((top, left),), ((bare_top, bare_left),) = (find(p, images[0], 1) for p in (titled, bare))
    assert (left, top > bare_top) == (bare_left, True)
    assert titled.height - top == bare.height - bare_top


def test_a_caption_and_label_lines_make_room_for_themselves() -> None:
    image = noise(1)[0]
    plain = image_grid([[image]], [], ["one"], title="T")
    captioned = image_grid([[image]], [], ["one\ntwo"], title="T\nsaid in small letters")
    assert_nothing_is_cut_off(captioned)
    ((top, _),), ((lower, _),) = find(plain, image, 3), find(captioned, image, 3)
    assert lower - top >= 2 * 17  # two lines of that font size
    words = pixels_of(captioned)[MARGIN:lower] < 200
    lines = np.flatnonzero(np.diff(words.any(axis=1).astype(int)) == 1)
    assert len(lines) == 4  # the title, the caption and both lines of the label


@pytest.mark.parametrize("mark", [0.0, 2.0, 0.5])
def test_a_mark_is_a_triangle_below_its_place_in_the_row(mark: float) -> None:
    images = noise(3)
    picture = image_grid([images, images], gap=12, marks=[mark, 1.0])
    top = find(picture, images[0], 3)[0][0]
    below = np.argwhere(pixels_of(picture)[top + 84 : top + 96, MARGIN:-MARGIN] < 100)
    assert below[:, 1].mean() == pytest.approx(42 + mark * (84 + 12), abs=1)
    assert 30 < len(below) < 90


def test_reconstructions_stand_close_below_their_originals_and_bands_apart() -> None:
    originals, x_hat = noise(5), noise(5, seed=1)
    picture = reconstruction_grid(originals, x_hat, 1, "T", columns=3)
    assert_nothing_is_cut_off(picture)
    for k in range(5):
        ((top, left),), ((below, same),) = (find(picture, i[k], 1) for i in (originals, x_hat))
        assert (below - top, same) == (28 + 2, left)
    first, second = (find(picture, x_hat[0], 1)[0][0], find(picture, originals[3], 1)[0][0])
    assert second - first > 28 + 2 + 10


def test_rows_hold_all_images_in_order() -> None:
    assert [row.tolist() for row in in_rows(np.arange(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_stacked_pictures_keep_one_margin_between_them() -> None:
    a, b = noise(2)
    picture = stacked([image_grid([[a]], scale=1), image_grid([[b]], scale=1)])
    assert find(picture, a, 1) == [(MARGIN, MARGIN)]
    assert find(picture, b, 1) == [(2 * MARGIN + 28, MARGIN)]
    assert picture.size == (2 * MARGIN + 28, 3 * MARGIN + 56)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_holds_exactly_the_pixels_and_may_be_read_as_other_files(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """A private temporary file must not make every picture private. Equal pixels, equal bytes."""
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    path, same, plain = (tmp_path / name for name in ("picture.png", "same.png", "plain"))
    path.write_bytes(b"old, and longer than the picture" * 100)
    plain.write_bytes(b"")
    save_png(path, pixels)
    save_png(same, Image.fromarray(pixels))
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    assert path.read_bytes() == same.read_bytes()
    assert path.stat().st_mode == plain.stat().st_mode
    assert len(list(tmp_path.iterdir())) == 3
