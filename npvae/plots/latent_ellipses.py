"""How large a place in the plane does q(z | x) of an image take? `ellipses` draws many of them.

Each ellipse is the contour of one posterior at two standard deviations: 2 sigma around mu. The
circle is the same contour of the prior; 86 % of its draws are inside. Samples begin inside the
circle, so a decoder can only be good at sampling where ellipses cover it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from npvae.core.parameters import Array
from npvae.plots.axes import (
    FAINT,
    INK,
    LARGE,
    MARGIN,
    MEDIUM,
    SMALL,
    WHITE,
    Axis,
    Color,
    Panel,
    around,
    draw_axes,
    enlarged,
    write,
)
from npvae.plots.latent_scatter import class_colors

DEVIATIONS = 2.0  # of the contours
SIDE = 380  # of a panel
FINER = 4  # ellipses are drawn this much larger, then averaged down
LEAST = 1.2  # pixels: the radius of an ellipse that would be too small to see


class Posteriors(NamedTuple):
    """q(z | x) of some images under one model with two latents, and the words above its panel."""

    title: str
    note: str
    mu: Array  # (N, 2)
    sigma: Array  # (N, 2)
    labels: NDArray[np.uint8]  # (N,)


def reach(shown: Posteriors) -> float:
    """A panel from -reach to reach holds all ellipses, and the circle of the prior."""
    farthest = float(np.max(np.abs(shown.mu) + DEVIATIONS * shown.sigma))
    return 1.05 * max(farthest, 1.2 * DEVIATIONS)


def ellipses(panels: Sequence[Posteriors], class_names: Sequence[str]) -> Image.Image:
    """Square panels side by side, with the classes below in two rows.

    Panels share their scale if one reaches less than four times as far as the other.
    Raises ValueError where mu and sigma are not (N, 2), or there are not N labels with names.
    """
    pitch, top, columns = SIDE + 60, MARGIN + 84, -(-len(class_names) // 2)
    bottom, width = top + SIDE, 40 + pitch * len(panels)
    picture = Image.new("RGB", (width, bottom + 168), WHITE)
    colors = class_colors(len(class_names))
    for shown in panels:
        if not shown.mu.shape == shown.sigma.shape == (len(shown.labels), 2):
            raise ValueError(f"mu and sigma are (N, 2), not {shown.mu.shape}, {shown.sigma.shape}")
        if shown.labels.max() >= len(class_names):
            raise ValueError(f"label {shown.labels.max()} for {len(class_names)} class names")
    reaches = [reach(shown) for shown in panels]
    for k, shown in enumerate(panels):
        half = max(other for other in reaches if other < 4 * reaches[k])
        axes = Axis.around(0, half, "z0", 6), Axis.around(0, half, "", 6)
        panel = Panel.square(MARGIN + k * pitch, top, SIDE, *axes)
        write(picture, (panel.left, MARGIN), shown.title, LARGE)
        write(picture, (panel.left, MARGIN + 34), shown.note, MEDIUM, color=FAINT)
        draw_axes(picture, panel)
        write(picture, (panel.left + 8, panel.top + 6), "z1", SMALL, color=FAINT)
        _draw(picture, panel, shown, [colors[label] for label in shown.labels])
    words = "Ellipse: q(z | x) of one image. Circle: the prior. Both at two standard deviations."
    write(picture, (MARGIN + 32, picture.height - MARGIN), words, MEDIUM, "ld", FAINT)
    for k, name in enumerate(class_names):
        x = MARGIN + 40 + k % columns * (width - 100) // columns
        y = bottom + 70 + k // columns * 30
        ImageDraw.Draw(picture).rectangle(around((x, y), 8), colors[k])
        write(picture, (x + 18, y), name, SMALL, "lm")
    return picture


def _draw(picture: Image.Image, panel: Panel, shown: Posteriors, colors: Sequence[Color]) -> None:
    """The ellipses in random order, half transparent, and the circle of the prior above them."""
    scale = FINER * panel.width / (panel.x.high - panel.x.low)  # pixels of the canvas per unit of z
    centers = np.rint(FINER * panel.place(shown.mu[:, 0], shown.mu[:, 1])).astype(int)
    radii = np.rint(np.maximum(scale * DEVIATIONS * shown.sigma, FINER * LEAST)).astype(int)
    with enlarged(picture, panel, FINER) as canvas:
        for k in np.random.default_rng(0).permutation(len(centers)):
            (x, y), (x_radius, y_radius) = map(int, centers[k]), map(int, radii[k])
            mask = Image.new("L", (2 * x_radius + 1, 2 * y_radius + 1))
            whole = (0, 0, mask.width - 1, mask.height - 1)
            ImageDraw.Draw(mask).ellipse(whole, fill=90, outline=255, width=FINER)
            canvas.paste(colors[k], (x - x_radius, y - y_radius), mask)
        circle = around((canvas.width / 2, canvas.height / 2), scale * DEVIATIONS)
        ImageDraw.Draw(canvas).ellipse(circle, outline=INK, width=2 * FINER)
