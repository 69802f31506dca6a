"""How does the error of a central difference depend on its step? A picture with two valleys.

Both axes are logarithmic, so that truncation, step^2, and rounding, 1 / step, are straight lines.
The numbers are those of reference/step_sizes.py; the axes are drawn by `axes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from npvae.core.parameters import Array
from npvae.plots.axes import (
    FAINT,
    LARGE,
    MARGIN,
    SMALL,
    WHITE,
    Color,
    Panel,
    around,
    draw_axes,
    panel_in,
    write,
)
from npvae.plots.loss_curves import BLUE, FINE, VERMILION

SIZE = 900, 620
SLOPE = (170, 170, 170)
LOW, HIGH = -12, 2  # powers of ten on the error axis


def step_size_plot(
    steps: Array, errors: Mapping[str, Array], truncation: Array, rounding: Mapping[str, Array]
) -> Image.Image:
    """Errors by dtype, float64 first, over the steps, (S,) each; in grey, what explains them."""
    picture = Image.new("RGB", SIZE, WHITE)
    write(picture, (MARGIN, MARGIN), "Error of a central difference against its step", LARGE)
    x, ticks = np.log10(steps), np.arange(LOW, HIGH + 1, 2, dtype=float)
    panel = panel_in(
        MARGIN, 110, SIZE[0] - MARGIN, SIZE[1] - 70, (x[-1], x[0]), x[::-1], (LOW, HIGH), ticks
    )
    panel = panel._replace(x_labels=[f"1e{power:.0f}" for power in x[::-1]])
    draw_axes(picture, panel, "step", "log10 of the largest error, relative to the gradient")
    for slope in (truncation, *rounding.values()):
        curve(picture, panel, x, slope, SLOPE, dots=False)
    for color, values in zip((BLUE, VERMILION), errors.values(), strict=True):
        curve(picture, panel, x, values, color, dots=True)
    name64, name32 = errors
    label(picture, panel, (-4.2, -9.3), "truncation: step^2", FAINT)
    label(picture, panel, (-7.0, -6.6), f"{name64}, rounding: eps / step", BLUE)
    label(picture, panel, (-5.4, 0.7), f"{name32}, rounding: eps / step", VERMILION)
    return picture


def curve(
    picture: Image.Image, panel: Panel, x: Array, values: Array, color: Color, dots: bool
) -> None:
    """A line through the values, within the panel."""
    mask = Image.new("L", (FINE * panel.width, FINE * panel.height))
    draw = ImageDraw.Draw(mask)
    y = np.log10(np.maximum(values, 1e-300))
    points = [(float(px), float(py)) for px, py in FINE * panel.place(x, y)]
    draw.line(points, fill=255, width=2 * FINE, joint="curve")
    for point in points if dots else []:
        draw.ellipse(around(point, 4 * FINE), fill=255)
    picture.paste(color, (panel.left, panel.top), mask.reduce(FINE))


def label(
    picture: Image.Image, panel: Panel, at: tuple[float, float], words: str, color: Color
) -> None:
    """Words that begin at a point, given as powers of ten."""
    px, py = panel.place(*at)
    write(picture, (panel.left + float(px), panel.top + float(py)), words, SMALL, "lm", color)
