"""Curves stand where their values belong, the whole history is visible, and nothing is cut off."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.plots.axes import BLUE, VERMILION
from npvae.plots.loss_curves import SIZE, loss_curve
from tests.plots.toys import assert_nothing_is_cut_off, history, pixels_of, where

TOP = 130  # the panels begin below, the text stands above
NOTE = slice(TOP + 25, TOP + 50), slice(740, 850)  # of the panel of bce
PANEL = {"loss": (60, 430), "bce": (490, 860), "kl": (910, 1300)}  # columns


def drawn(picture: Image.Image, color: tuple[int, int, int], part: str) -> NDArray[np.int64]:
    """The (row, column) of the pixels of a curve in one panel."""
    found = where(picture, color)
    left, right = PANEL[part]
    return found[(found[:, 0] > TOP) & (left < found[:, 1]) & (found[:, 1] < right)]


@pytest.mark.parametrize("part", PANEL)
def test_one_epoch_is_a_dot_in_the_middle_of_each_panel(part: str) -> None:
    picture = loss_curve(history(1))
    for color in (BLUE, VERMILION):
        dot = drawn(picture, color, part)
        assert 20 <= len(dot) <= 50  # a disc of radius 3.5 without its soft edge
        assert np.ptp(dot, axis=0).max() <= 8
        assert abs(dot[:, 1].mean() - np.mean(PANEL[part])) < 30


@pytest.mark.parametrize("part", PANEL)
def test_values_stand_where_they_belong(part: str) -> None:
    """Three epochs, test constant in between: heights are proportional to values."""
    rows = history(3)
    for row, value in zip(rows, (100.0, 200.0, 300.0), strict=True):
        row[f"train_{part}"], row[f"test_{part}"] = value, 150.0
    picture = loss_curve(rows)
    blue, orange = drawn(picture, BLUE, part), drawn(picture, VERMILION, part)
    low, high = blue[:, 0].max() - 3.5, blue[:, 0].min() + 3.5  # centres of the extreme dots
    expected = low + (high - low) * (150 - 100) / (300 - 100)
    assert np.median(orange[:, 0]) == pytest.approx(expected, abs=1.5)  # pixels
    assert np.ptp(orange[:, 0]) <= 8
    first = blue[blue[:, 1] < blue[:, 1].min() + 6]  # 100 comes first: lowest on the left
    assert first[:, 0].mean() == pytest.approx(low, abs=3.0)


def test_epochs_stand_at_their_logarithms() -> None:
    rows = history(4)
    for k, row in enumerate(rows):
        row["train_bce"], row["test_bce"] = 100.0 + k, 0.0
    blue = drawn(loss_curve(rows), BLUE, "bce")
    left, right = blue[:, 1].min() + 3.5, blue[:, 1].max() - 3.5
    for epoch in (2, 3):
        x = left + (right - left) * np.log(epoch) / np.log(4)
        assert (
            np.ptp(blue[np.abs(blue[:, 1] - x) < 1, 0]) >= 5
        )  # a dot; the line between is thinner


def test_the_whole_history_is_shown_unless_a_far_first_epoch_would_squash_the_rest() -> None:
    """One that is 100 nats above the rest is inside the panel. A far one is named instead."""
    whole, far = loss_curve(history(20)), loss_curve(history(20, first_bce=1e6))
    assert drawn(whole, BLUE, "bce")[:, 0].min() < TOP + 30
    assert (pixels_of(whole)[NOTE] >= 200).all()  # no note, but grid lines
    for part in ("loss", "bce"):
        assert np.ptp(drawn(far, BLUE, part)[:, 0]) > 80  # of the 268 pixels of the panel
    assert (pixels_of(far)[NOTE] < 100).any()  # "epoch 1 not shown"


def dashes(picture: Image.Image) -> list[int]:
    """The rows of the first panel that hold a dashed line."""
    left, right = PANEL["loss"]
    panel = pixels_of(picture)[TOP:, left:right, 0]
    dark = panel < 80
    switches = np.abs(np.diff(dark.astype(int), axis=1)).sum(axis=1)
    return [int(row) + TOP for row in np.flatnonzero(switches > 50)]


def test_floor_and_baseline_are_dashed_lines_at_their_values() -> None:
    rows = history(3)
    for row, value in zip(rows, (380.0, 260.0, 240.0), strict=True):
        row["train_loss"] = row["test_loss"] = value
    low, high = dashes(loss_curve(rows, "", 200.0, 380.0))[::-1]
    test = drawn(loss_curve(rows, "", 200.0, 380.0), VERMILION, "loss")
    last = test[test[:, 1] > test[:, 1].max() - 6]
    expected = low + (high - low) * (240 - 200) / (380 - 200)
    assert last[:, 0].mean() == pytest.approx(expected, abs=1.5)
    assert dashes(loss_curve(rows)) == []


def test_losses_stand_above_their_panels_in_the_colours_of_the_curves() -> None:
    picture = loss_curve(history(20))
    for color in (BLUE, VERMILION):
        row, column = where(picture, color).T
        words = column[row < TOP]
        assert all(((left < words) & (words < right)).any() for left, right in PANEL.values())


def test_it_explains_why_test_lies_below_train_where_it_does() -> None:
    below, above = history(5), history(5)
    below[0]["train_loss"] = 400.0
    note = slice(SIZE[1] - 45, SIZE[1] - 10)
    assert (pixels_of(loss_curve(below))[note] < 150).any()
    assert (pixels_of(loss_curve(above))[note] == 255).all()


@pytest.mark.parametrize(
    ("bad", "count"), [(np.nan, 1), (np.inf, 2), (-np.inf, 7), (1e30, 40), (-1e300, 2), (np.nan, 7)]
)
def test_no_value_is_too_bad_to_draw(bad: float, count: int) -> None:
    """One bad epoch, or all of them bad."""
    one, every = history(count), history(count)
    for row in every:
        row |= {key: bad for key in row if key != "epoch"}
    one[count // 2] |= {"train_bce": bad, "test_kl": bad, "test_loss": bad}
    for rows in (one, every):
        picture = loss_curve(rows, "a name", 190.0, 385.0)
        assert picture.size == SIZE
        assert_nothing_is_cut_off(picture)


def test_a_value_that_is_not_finite_leaves_a_hole() -> None:
    rows = history(9)
    for row in rows:
        row["train_bce"], row["test_bce"] = 100.0, 200.0
    whole = np.unique(drawn(loss_curve(rows), BLUE, "bce")[:, 1])
    rows[1]["train_bce"] = np.nan
    holed = np.unique(drawn(loss_curve(rows), BLUE, "bce")[:, 1])
    assert np.diff(whole).max() == 1
    assert np.diff(holed).max() > 100  # from epoch 1 to 3, half of the panel


@pytest.mark.parametrize("count", [2, 100, 1000])
def test_nothing_is_cut_off_for_any_length(count: int) -> None:
    assert_nothing_is_cut_off(loss_curve(history(count), "fashion-mnist, z = 10", 190.0, 385.0))


def test_a_redraw_is_quick_and_the_same() -> None:
    """It is redrawn after each epoch."""
    times, pictures = [], set()
    for _ in range(5):
        start = time.process_time()
        pictures.add(loss_curve(history(100), "name", 190.0, 385.0).tobytes())
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # seconds of computing
    assert len(pictures) == 1
