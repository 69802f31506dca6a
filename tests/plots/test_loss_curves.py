"""Curves stand where their values belong, the whole history is visible, and nothing is cut off."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.plots.axes import BLUE, VERMILION
from npvae.plots.loss_curves import SIZE, loss_curve
from tests.plots.toys import assert_nothing_is_cut_off, pixels_of, where

TOP = 130  # the panels begin below, the text stands above
NOTE = slice(TOP + 25, TOP + 50), slice(740, 850)  # of the panel of bce
PANEL = {"loss": (60, 430), "bce": (490, 860), "kl": (910, 1300)}  # columns


def run(epochs: int, first_bce: float = 320.0) -> list[dict[str, float]]:
    """A made-up training run, as smooth as real ones are."""
    rows = []
    for epoch in range(1, epochs + 1):
        bce = first_bce if epoch == 1 else 228.0 + 30.0 / epoch
        kl = 14.5 - 8.0 / epoch
        row = {"epoch": float(epoch), "train_bce": bce, "train_kl": kl, "train_loss": bce + kl}
        row |= {"test_bce": bce + 5, "test_kl": kl - 1, "test_loss": bce + kl + 4}
        rows.append(row)
    return rows


def drawn(picture: Image.Image, color: tuple[int, int, int], part: str) -> NDArray[np.int64]:
    """The (row, column) of the pixels of a curve in one panel."""
    found = where(picture, color)
    left, right = PANEL[part]
    return found[(found[:, 0] > TOP) & (left < found[:, 1]) & (found[:, 1] < right)]


@pytest.mark.parametrize("part", PANEL)
def test_one_epoch_is_a_dot_in_the_middle_of_each_panel(part: str) -> None:
    picture = loss_curve(run(1))
    for color in (BLUE, VERMILION):
        dot = drawn(picture, color, part)
        assert 20 <= len(dot) <= 50  # a disc of radius 3.5 without its soft edge
        assert np.ptp(dot, axis=0).max() <= 8
        assert abs(dot[:, 1].mean() - np.mean(PANEL[part])) < 30


@pytest.mark.parametrize("part", PANEL)
def test_values_stand_where_they_belong(part: str) -> None:
    """Three epochs, test constant in between: heights are proportional to values."""
    history = run(3)
    for row, value in zip(history, (100.0, 200.0, 300.0), strict=True):
        row[f"train_{part}"], row[f"test_{part}"] = value, 150.0
    picture = loss_curve(history)
    blue, orange = drawn(picture, BLUE, part), drawn(picture, VERMILION, part)
    low, high = blue[:, 0].max() - 3.5, blue[:, 0].min() + 3.5  # centres of the extreme dots
    expected = low + (high - low) * (150 - 100) / (300 - 100)
    assert np.median(orange[:, 0]) == pytest.approx(expected, abs=1.5)  # pixels
    assert np.ptp(orange[:, 0]) <= 8
    first = blue[blue[:, 1] < blue[:, 1].min() + 6]  # 100 comes first: lowest on the left
    assert first[:, 0].mean() == pytest.approx(low, abs=3.0)


def test_epochs_stand_at_their_logarithms() -> None:
    history = run(4)
    for k, row in enumerate(history):
        row["train_bce"], row["test_bce"] = 100.0 + k, 0.0
    rows_of_dots = drawn(loss_curve(history), BLUE, "bce")
    left, right = rows_of_dots[:, 1].min() + 3.5, rows_of_dots[:, 1].max() - 3.5
    for epoch in (2, 3):
        x = left + (right - left) * np.log(epoch) / np.log(4)
        column = rows_of_dots[np.abs(rows_of_dots[:, 1] - x) < 1, 0]
        assert np.ptp(column) >= 5  # a dot; the line between is thinner


def test_the_whole_history_is_shown_unless_a_far_first_epoch_would_squash_the_rest() -> None:
    """One that is 100 nats above the rest is inside the panel. A far one is named instead."""
    whole, far = loss_curve(run(20)), loss_curve(run(20, first_bce=1e6))
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
    history = run(3)
    for row, value in zip(history, (380.0, 260.0, 240.0), strict=True):
        row["train_loss"] = row["test_loss"] = value
    low, high = dashes(loss_curve(history, "", 200.0, 380.0))[::-1]
    test = drawn(loss_curve(history, "", 200.0, 380.0), VERMILION, "loss")
    last = test[test[:, 1] > test[:, 1].max() - 6]
    expected = low + (high - low) * (240 - 200) / (380 - 200)
    assert last[:, 0].mean() == pytest.approx(expected, abs=1.5)
    assert dashes(loss_curve(history)) == []


def test_losses_stand_above_their_panels_in_the_colours_of_the_curves() -> None:
    picture = loss_curve(run(20))
    for color in (BLUE, VERMILION):
        row, column = where(picture, color).T
        words = column[row < TOP]
        assert all(((left < words) & (words < right)).any() for left, right in PANEL.values())


def test_it_explains_why_test_lies_below_train_where_it_does() -> None:
    below, above = run(5), run(5)
    below[0]["train_loss"] = 400.0
    note = slice(SIZE[1] - 45, SIZE[1] - 10)
    assert (pixels_of(loss_curve(below))[note] < 150).any()
    assert (pixels_of(loss_curve(above))[note] == 255).all()


@pytest.mark.parametrize(
    ("bad", "count"), [(np.nan, 1), (np.inf, 2), (-np.inf, 7), (1e30, 40), (-1e300, 2), (np.nan, 7)]
)
def test_no_value_is_too_bad_to_draw(bad: float, count: int) -> None:
    """One bad epoch, or all of them bad."""
    one, every = run(count), run(count)
    for row in every:
        row |= {key: bad for key in row if key != "epoch"}
    one[count // 2] |= {"train_bce": bad, "test_kl": bad, "test_loss": bad}
    for history in (one, every):
        picture = loss_curve(history, "a name", 190.0, 385.0)
        assert picture.size == SIZE
        assert_nothing_is_cut_off(picture)


def test_a_value_that_is_not_finite_leaves_a_hole() -> None:
    history = run(9)
    for row in history:
        row["train_bce"], row["test_bce"] = 100.0, 200.0
    whole = np.unique(drawn(loss_curve(history), BLUE, "bce")[:, 1])
    history[1]["train_bce"] = np.nan
    holed = np.unique(drawn(loss_curve(history), BLUE, "bce")[:, 1])
    assert np.diff(whole).max() == 1
    assert np.diff(holed).max() > 100  # from epoch 1 to 3, half of the panel


@pytest.mark.parametrize("count", [2, 100, 1000])
def test_nothing_is_cut_off_for_any_length(count: int) -> None:
    assert_nothing_is_cut_off(loss_curve(run(count), "fashion-mnist, z = 10", 190.0, 385.0))


def test_a_redraw_is_quick_and_the_same() -> None:
    """It is redrawn after each epoch."""
    times, pictures = [], set()
    for _ in range(5):
        start = time.process_time()
        pictures.add(loss_curve(run(100), "name", 190.0, 385.0).tobytes())
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # seconds of computing
    assert len(pictures) == 1
