"""Axes and text: round ticks, and letters that every machine has."""

import numpy as np
import pytest

from npvae.plots.axes import drawable, largest, nice_ticks, tick_labels
from npvae.plots.image_grid import image_grid
from tests.plots.toys import pixels_of


def test_letters_that_the_font_lacks_become_others_and_no_boxes() -> None:
    assert drawable("Bücher & Café, Å") == "Bucher & Cafe, A"
    assert drawable("靴 1") == "? 1"
    assert largest(["Bücher"], 17) == largest(["Bucher"], 17)
    image, label = np.zeros((1, 1, 28, 28), np.uint8), ["Bücher"]
    with_umlaut, without = (
        pixels_of(image_grid(list(image), words)) for words in (label, ["Bucher"])
    )
    np.testing.assert_array_equal(with_umlaut, without)


# ------------------------------------------------------------------ ticks


@pytest.mark.parametrize(
    ("low", "high", "at_most", "labels"),
    [
        (0.0, 1.0, 6, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (241.3, 263.9, 6, ["245", "250", "255", "260"]),
        (-3.2, 3.2, 8, ["-3", "-2", "-1", "0", "1", "2", "3"]),
        (0.0, 0.011, 6, ["0.000", "0.002", "0.004", "0.006", "0.008", "0.010"]),
        (1.0, 1000.0, 8, ["200", "400", "600", "800", "1000"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, at_most: int, labels: list[str]) -> None:
    assert tick_labels(nice_ticks(low, high, at_most)) == labels


def test_ticks_are_inside_the_range_and_neither_too_many_nor_too_few() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = rng.normal() * 10.0 ** rng.uniform(-3, 6)
        high = low + 10.0 ** rng.uniform(-4, 6)
        ticks = nice_ticks(low, high, at_most=6)
        assert 2 <= len(ticks) <= 7
        slack = 1e-8 * (high - low)
        assert ticks[0] >= low - slack
        assert ticks[-1] <= high + slack
        assert len(set(tick_labels(ticks))) == len(ticks)
