"""A GIF shows its frames, in order, in small files, and holds the last one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from npvae.plots.animation import (
    HOLD,
    LEVELS,
    MOST_FRAMES,
    STEP,
    chosen_epochs,
    gif,
    of_samples,
    samples_in,
    there_and_back,
)
from npvae.plots.image_grid import image_grid, in_rows, save_png
from npvae.plots.samples import grid
from tests.plots.toys import assert_same, noise

ONE_LEVEL = 255 / (LEVELS - 1)


def assert_shows(
    data: bytes, pictures: list[Image.Image], times: list[int], within: float = ONE_LEVEL + 1
) -> None:
    """A GIF that runs forever has these frames, nearly in their greys, for these milliseconds."""
    with Image.open(io.BytesIO(data)) as animation:
        assert (animation.format, animation.info["loop"]) == ("GIF", 0)
        frames = ImageSequence.Iterator(animation)
        for frame, picture, time in zip(frames, pictures, times, strict=True):
            pixels = np.asarray(frame.convert("L")).astype(int)
            assert np.abs(pixels - np.asarray(picture)).max() <= within
            assert frame.info["duration"] == time


def ramps() -> list[Image.Image]:
    """All greys, which move to the right from frame to frame."""
    ramp = np.tile(np.arange(256), (8, 1))
    return [Image.fromarray(np.roll(ramp, 60 * k, axis=1).astype(np.uint8)) for k in range(4)]


def test_frames_come_in_order_and_the_last_one_is_held() -> None:
    assert_shows(gif(ramps()), ramps(), [STEP, STEP, STEP, HOLD])


def test_there_and_back_stays_at_both_ends() -> None:
    both = [*ramps(), *ramps()[-2:0:-1]]
    assert_shows(there_and_back(ramps(), step=80), both, [HOLD, 80, 80, HOLD, 80, 80])


def test_black_and_white_stay_black_and_white() -> None:
    picture = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 4, axis=0))
    assert_shows(gif([picture]), [picture], [HOLD], within=0)


def test_small_changes_cost_nothing() -> None:
    rng = np.random.default_rng(0)
    still = rng.integers(20, 230, (100, 100))
    flicker = [still + rng.integers(-2, 3, still.shape) for _ in range(9)]
    pictures = [Image.fromarray(pixels.astype(np.uint8)) for pixels in flicker]
    assert len(gif(pictures)) < 1.5 * len(gif(pictures[:1]))


# ------------------------------------------------------------------ the samples of a run


TITLE = "mnist, z = 10, epoch 1: samples from the prior"


@pytest.mark.parametrize("title", [TITLE, 20 * "a title wider than the grid "])
def test_samples_are_read_back_from_a_picture(title: str) -> None:
    picture = np.asarray(grid(noise(100), 3, title))
    np.testing.assert_array_equal(samples_in(picture), noise(100))


def test_each_epoch_is_a_frame_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    for epoch in (1, 2, 5):
        save_png(tmp_path / f"sampled_epoch{epoch}.png", grid(noise(100, epoch), 3, TITLE))
    (tmp_path / "sampled_epoch3.png").write_bytes(b"damaged")
    Image.new("L", (280, 280)).save(tmp_path / "sampled_epoch4.png")  # as earlier versions drew it
    frames = of_samples(tmp_path, range(1, 7), "mnist, z = 10", count=20, scale=1)
    for frame, epoch in zip(frames, (1, 2, 5), strict=True):
        rows = in_rows(noise(100, epoch)[:20], 10)
        assert_same(frame, image_grid(rows, scale=1, title=f"mnist, z = 10, epoch {epoch}", gap=2))


def test_few_epochs_are_all_shown_and_of_many_the_early_ones() -> None:
    assert chosen_epochs(range(1, 21)) == list(range(1, 21))
    chosen = chosen_epochs(range(1, 101))
    assert len(chosen) <= MOST_FRAMES
    assert chosen[:4] == [1, 2, 3, 4]
    assert chosen[-1] == 100
    assert chosen == sorted(set(chosen))
