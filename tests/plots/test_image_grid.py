"""Images stand where they belong, with labels beside them, and a file is written whole or not."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import OutputError
from npvae.plots.axes import MARGIN
from npvae.plots.image_grid import (
    image_grid,
    in_rows,
    reconstruction_grid,
    save_png,
    stacked,
    to_uint8,
)
from npvae.storage.files import write
from tests.plots.toys import assert_nothing_is_cut_off, find, noise, pixels_of

# ------------------------------------------------------------------ pixels


def test_floats_become_the_nearest_of_256_levels() -> None:
    levels = np.arange(256)
    np.testing.assert_array_equal(to_uint8(levels / 255.0), levels)
    np.testing.assert_array_equal(to_uint8((levels / 255.0).astype(np.float32)), levels)
    np.testing.assert_array_equal(to_uint8(np.array([0.49, 0.51]) / 255.0), [0, 1])
    assert to_uint8(np.float64(1.0)).dtype == np.uint8


def test_uint8_comes_back_as_a_copy() -> None:
    given = np.arange(6, dtype=np.uint8).reshape(2, 3)
    result = to_uint8(given)
    result[0, 0] = 99
    assert given[0, 0] == 0
    np.testing.assert_array_equal(result.flat[1:], [1, 2, 3, 4, 5])


def test_rounding_just_outside_the_range_is_forgiven() -> None:
    np.testing.assert_array_equal(to_uint8(np.array([-1e-7, 1.0 + 1e-7])), [0, 255])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.001, 1.001, 255.0, -1.0])
def test_pixels_outside_the_range_are_refused_and_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"1 are not, like " + f"{bad:g}"):
        to_uint8(np.array([0.0, 0.5, bad, 1.0]))


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex128])
def test_other_types_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match=r"uint8 or floats"):
        to_uint8(np.zeros(3, dtype=dtype))


# ------------------------------------------------------------------ grids


def test_a_bare_grid_is_its_images_a_gap_apart_in_a_white_margin() -> None:
    images = noise(6)
    picture = image_grid([images[:3], images[3:]], scale=2, gap=5)
    assert picture.size == (2 * MARGIN + 3 * 56 + 2 * 5, 2 * MARGIN + 2 * 56 + 5)
    for k, image in enumerate(images):
        corner = MARGIN + (k // 3) * (56 + 5), MARGIN + (k % 3) * (56 + 5)
        assert find(picture, image, 2) == [corner]


def test_floats_and_rows_of_784_are_drawn_the_same() -> None:
    images = noise(2)
    expected = image_grid([images]).tobytes()
    assert image_grid([images / 255.0]).tobytes() == expected
    assert image_grid([(images / 255.0).astype(np.float32).reshape(2, 784)]).tobytes() == expected


def test_labels_stand_outside_the_images_and_inside_the_picture() -> None:
    """Without its images a labelled grid is words and white; no word touches another."""
    images = np.full((6, 28, 28), 200, dtype=np.uint8)
    names = [f"{name}, wider than any image" for name in ("one", "two", "six")]
    picture = image_grid(
        [images[:3], images[3:]], ["original", "reconstruction"], names, 1, "A title"
    )
    assert_nothing_is_cut_off(picture)
    whole = [
        (top, left)
        for top, left in find(picture, images[0], 1)
        if pixels_of(picture)[top - 1, left] == 255 == pixels_of(picture)[top, left - 1]
    ]
    assert len(whole) == 6
    tops, lefts = sorted({top for top, _ in whole}), sorted({left for _, left in whole})
    header = (pixels_of(picture)[tops[0] - 26 : tops[0] - 2, lefts[0] - 40 :] < 250).any(axis=0)
    inked = np.flatnonzero(header)
    breaks = np.flatnonzero(np.diff(inked) > 8)  # letters and words are closer than labels
    assert len(breaks) == 2
    margin = pixels_of(picture)[tops[0] :, : lefts[0] - 4]
    for top in tops:
        beside = margin[top - tops[0] : top - tops[0] + 28]
        assert (beside < 100).any()


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
    assert titled.height > bare.height
    (top, left), (bare_top, bare_left) = find(titled, images[0], 1)[0], find(bare, images[0], 1)[0]
    assert (left, top > bare_top) == (bare_left, True)


def test_a_short_row_ends_in_white() -> None:
    images = noise(3)
    picture = image_grid([images[:2], images[2:]], scale=1, gap=0)
    assert (pixels_of(picture)[MARGIN + 28 :, MARGIN + 28 :] == 255).all()


def test_a_grid_that_makes_no_sense_is_refused() -> None:
    images = noise(2)
    for nothing in (np.zeros((0, 0, 28, 28)), np.zeros((1, 0, 28, 28))):
        with pytest.raises(ValueError, match="no images"):
            image_grid(list(nothing))
    with pytest.raises(ValueError, match="1 row labels and 0 column labels for 2 rows"):
        image_grid([images, images], ["only one"])
    with pytest.raises(ValueError, match="3 column labels"):
        image_grid([images], [], ["a", "b", "c"])
    with pytest.raises(ValueError, match="scale"):
        image_grid([images], scale=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        image_grid([[np.full((28, 28), 1.5)]])
    with pytest.raises(ValueError, match=r"\(N, 784\)"):
        image_grid([[np.zeros((14, 56))]])


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


@pytest.mark.parametrize(("mark", "at"), [(0.0, 0), (2.0, 2), (0.5, 0.5)])
def test_a_mark_is_a_triangle_below_its_place_in_the_row(mark: float, at: float) -> None:
    images = noise(3)
    picture = image_grid([images, images], gap=12, marks=[mark, 1.0])
    top = find(picture, images[0], 3)[0][0]
    below = np.argwhere(pixels_of(picture)[top + 84 : top + 96, MARGIN:-MARGIN] < 100)
    assert below[:, 1].mean() == pytest.approx(42 + at * (84 + 12), abs=1)
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
    with pytest.raises(ValueError, match="3 originals but 2"):
        reconstruction_grid(originals[:3], x_hat[:2], 1, "T")


def test_rows_hold_all_images_in_order() -> None:
    rows = in_rows(np.arange(7), 3)
    assert [row.tolist() for row in rows] == [[0, 1, 2], [3, 4, 5], [6]]


def test_stacked_pictures_keep_one_margin_between_them() -> None:
    a, b = noise(2)
    picture = stacked([image_grid([[a]], scale=1), image_grid([[b]], scale=1)])
    assert find(picture, a, 1) == [(MARGIN, MARGIN)]
    assert find(picture, b, 1) == [(2 * MARGIN + 28, MARGIN)]
    assert picture.size == (2 * MARGIN + 28, 3 * MARGIN + 56)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_holds_exactly_the_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    save_png(tmp_path / "picture.png", pixels)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_pillow_image_is_saved_too_and_equal_pixels_give_equal_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    save_png(tmp_path / "a.png", pixels)
    save_png(tmp_path / "b.png", Image.fromarray(pixels))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros(4, dtype=np.uint8),
        np.zeros((0, 4), dtype=np.uint8),
    ],
)
def test_what_is_no_picture_is_not_written(tmp_path: Path, pixels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) or \(H, W, 3\)"):
        save_png(tmp_path / "picture.png", pixels)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_says_where_why_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "no such folder" / "picture.png"
    with pytest.raises(OutputError) as caught:
        save_png(path, np.zeros((2, 2), dtype=np.uint8))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert str(path) in lines[0]
    assert "No such file or directory" in lines[1]


def test_a_file_is_created_and_replaced_and_nothing_else_appears(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"old and longer")
    write(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_the_user_asked_for(tmp_path: Path) -> None:
    """A private temporary file must not make every picture private."""
    (tmp_path / "plain").write_bytes(b"")
    write(tmp_path / "safe", b"")
    assert (tmp_path / "safe").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[list[str]] = []

    def fail(*_: object) -> None:
        seen.append(sorted(entry.name for entry in tmp_path.iterdir()))
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write(path, b"new")
    assert len(seen[0]) == 2  # at that instant the old file and the temporary one
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_on_the_disk_before_the_name_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real = {"fsync": os.fsync, "replace": os.replace}

    def watch(step: str) -> None:
        def recorded(*arguments: object) -> None:
            steps.append(step)
            real[step](*arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, step, recorded)

    watch("fsync")
    watch("replace")
    write(tmp_path / "file", b"new")
    assert steps[:2] == ["fsync", "replace"]


def test_a_folder_that_cannot_be_synced_does_not_spoil_a_finished_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("folders cannot be opened here")

    monkeypatch.setattr(os, "open", refuse)
    write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
