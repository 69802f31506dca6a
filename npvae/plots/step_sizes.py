"""How does the error of a central difference depend on its step? A picture with two valleys.

Both axes are logarithmic, so that truncation, step^2, and rounding, 1 / step, are straight lines.
The numbers are those of reference/step_sizes.py; `axes.py` draws axes and curves.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from npvae.core.parameters import Array
from npvae.plots.axes import (
    BLUE,
    FAINT,
    MARGIN,
    SMALL,
    VERMILION,
    Axis,
    Panel,
    curve,
    draw_axes,
    figure,
    write,
)

SIZE = 900, 620
SLOPE = (170, 170, 170)
LOW, HIGH = -12, 2  # powers of ten on the error axis


def step_size_plot(
    steps: Array, errors: Mapping[str, Array], truncation: Array, rounding: Mapping[str, Array]
) -> Image.Image:
    """Errors by dtype, float64 first, over the steps, (S,) each; in grey, what explains them."""
    picture = figure(*SIZE, "Error of a central difference against its step")
    powers = np.log10(steps)
    labels = [f"1e{power:.0f}" for power in powers[::-1]]
    x = Axis(powers[-1], powers[0], powers[::-1], "step", labels)
    ticks = np.arange(LOW, HIGH + 1, 2, dtype=float)
    y = Axis(LOW, HIGH, ticks, "log10 of the largest error, relative to the gradient")
    panel = Panel.within(MARGIN, 110, SIZE[0] - 2 * MARGIN, SIZE[1] - 180, x, y)
    draw_axes(picture, panel)
    grey = [(values, SLOPE, 0) for values in (truncation, *rounding.values())]
    dotted = zip(errors.values(), (BLUE, VERMILION), (4, 4), strict=True)
    for values, color, dot in (*grey, *dotted):
        curve(picture, panel, powers, np.log10(np.maximum(values, 1e-300)), color, dot)
    name64, name32 = errors
    for at, words, color in (
        ((-4.2, -9.3), "truncation: step^2", FAINT),
        ((-7.0, -6.6), f"{name64}, rounding: eps / step", BLUE),
        ((-5.4, 0.7), f"{name32}, rounding: eps / step", VERMILION),
    ):
        x_place, y_place = panel.place(*at).tolist()
        write(picture, (panel.left + x_place, panel.top + y_place), words, SMALL, "lm", color)
    return picture
