"""Pixels keep their places and values on the way to a PNG, and a file is written whole or not."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.core.errors import OutputError
from npvae.plots.image_grid import comparison, save_png, tile, to_uint8
from npvae.storage.files import write_bytes_safely


def flat_images(levels: range) -> np.ndarray:
    """Image k is all of the grey level k."""
    return np.repeat(np.array(levels, dtype=np.uint8), 784).reshape(-1, 28, 28)


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


def test_image_k_stands_in_row_k_over_columns() -> None:
    images = np.random.default_rng(0).random((11, 28, 28))
    grid = tile(images, columns=4)
    assert grid.shape == (3 * 28, 4 * 28)
    for k in range(11):
        top, left = 28 * (k // 4), 28 * (k % 4)
        np.testing.assert_array_equal(
            grid[top : top + 28, left : left + 28], np.rint(255 * images[k])
        )
    assert not grid[56:, 84:].any()  # the last place is padding


def test_the_gap_lies_between_images_only() -> None:
    grid = tile(np.zeros((3, 28, 28)), columns=2, gap=3, background=1.0)
    assert grid.shape == (28 + 3 + 28, 28 + 3 + 28)
    white = np.zeros_like(grid)
    white[28:31, :] = 255
    white[:, 28:31] = 255
    white[31:, 31:] = 255  # the missing fourth image
    np.testing.assert_array_equal(grid, white)


def test_rows_of_784_are_the_same_images() -> None:
    images = np.random.default_rng(1).random((5, 28, 28))
    np.testing.assert_array_equal(tile(images.reshape(5, 784), 3), tile(images, 3))


def test_a_read_only_strided_input_is_tiled_and_left_alone() -> None:
    images = np.random.default_rng(2).random((28, 28, 6)).transpose(2, 1, 0)[::2]
    before = images.copy()
    images.setflags(write=False)
    np.testing.assert_array_equal(tile(images, 3), tile(before, 3))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("shape", [(0, 28, 28), (28, 28), (3, 783), (784,), (2, 3, 28, 28), ()])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, 28, 28\) or \(N, 784\)"):
        tile(np.zeros(shape), columns=2)


def test_senseless_grids_are_refused() -> None:
    images = np.zeros((2, 28, 28))
    with pytest.raises(ValueError, match="columns"):
        tile(images, columns=0)
    with pytest.raises(ValueError, match="gap"):
        tile(images, columns=1, gap=-1)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        tile(images, columns=1, background=255.0)
    with pytest.raises(ValueError, match="columns"):
        comparison(images, images, columns=0)


def test_fifty_pairs_make_the_square_of_280_with_originals_on_top() -> None:
    sheet = comparison(flat_images(range(50)), flat_images(range(100, 150)), columns=10)
    assert sheet.shape == (280, 280)
    for k in range(50):
        top, left = 56 * (k // 10), 28 * (k % 10)
        assert (sheet[top : top + 28, left : left + 28] == k).all()
        assert (sheet[top + 28 : top + 56, left : left + 28] == 100 + k).all()


def test_a_short_last_row_of_pairs_is_padded() -> None:
    sheet = comparison(flat_images(range(1, 4)), flat_images(range(101, 104)), columns=2)
    np.testing.assert_array_equal(sheet[::28, ::28], [[1, 2], [101, 102], [3, 0], [103, 0]])


def test_originals_without_reconstructions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 originals but 2"):
        comparison(np.zeros((3, 784)), np.zeros((2, 784)))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_holds_exactly_the_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    save_png(tmp_path / "picture.png", pixels)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_scale_three_makes_blocks_of_three_by_three(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    save_png(tmp_path / "picture.png", pixels, scale=3)
    with Image.open(tmp_path / "picture.png") as picture:
        read = np.asarray(picture)
    assert read.shape == (12, 18, 3)
    for i in range(3):
        for j in range(3):
            np.testing.assert_array_equal(read[i::3, j::3], pixels)


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
def test_what_is_no_picture_is_not_written(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) or \(H, W, 3\)"):
        save_png(tmp_path / "picture.png", pixels)
    with pytest.raises(ValueError, match="scale"):
        save_png(tmp_path / "picture.png", np.zeros((2, 2), dtype=np.uint8), scale=0)
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
    write_bytes_safely(path, b"old and longer")
    write_bytes_safely(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_the_user_asked_for(tmp_path: Path) -> None:
    """A private temporary file must not make every picture private."""
    (tmp_path / "plain").write_bytes(b"")
    write_bytes_safely(tmp_path / "safe", b"")
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
        write_bytes_safely(path, b"new")
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
    write_bytes_safely(tmp_path / "file", b"new")
    assert steps[:2] == ["fsync", "replace"]


def test_a_folder_that_cannot_be_synced_does_not_spoil_a_finished_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("folders cannot be opened here")

    monkeypatch.setattr(os, "open", refuse)
    write_bytes_safely(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
