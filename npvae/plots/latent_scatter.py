"""Where in the plane do the images of each class lie? `scatter` draws their codes.

With ten thousand half transparent dots and ten classes, the order of drawing and the choice of
colours decide what one sees; both are explained where they are made. Axes and words are drawn by
`axes.py`; `manifold.py` says which plane it is.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageColor, ImageDraw

from npvae.plots.axes import (
    LARGE,
    MARGIN,
    SMALL,
    WHITE,
    Color,
    Panel,
    around,
    draw_axes,
    largest,
    nice_ticks,
    panel_in,
    write,
)

CLASS_COLORS = (  # Paul Tol's "muted", made for colour-blind eyes too, and a dark grey
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#555555"),
)


def scatter(
    points: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
) -> Image.Image:
    """Points in the plane, coloured by class, with a legend beside them: about 850 x 760.

    `points` is (N, 2), `labels` (N,) with 0 <= label < len(class_names). Both axes have the same
    scale, so that distances are what they seem. The dots are half transparent and come in an order
    that has nothing to do with their classes, so that no class hides the others.
    Raises ValueError for other shapes, no points, infinite ones, and labels without a name.
    """
    codes, classes = np.asarray(points, dtype=np.float64), np.asarray(labels)
    if codes.ndim != 2 or codes.shape[1] != 2 or classes.shape != codes.shape[:1]:
        raise ValueError(f"points are (N, 2) and labels (N,), not {codes.shape}, {classes.shape}")
    if not len(codes) or not np.isfinite(codes).all():
        raise ValueError("a scatter needs at least one point, and finite ones")
    if classes.min() < 0 or classes.max() >= len(class_names):
        raise ValueError(f"labels up to {classes.max()} for {len(class_names)} class names")

    low, high = codes.min(axis=0), codes.max(axis=0)
    half = 0.54 * float((high - low).max()) or 1.0
    (x_range, y_range) = ((float(c) - half, float(c) + half) for c in (low + high) / 2)
    x_ticks, y_ticks = nice_ticks(*x_range, 8), nice_ticks(*y_range, 8)
    panel = panel_in(MARGIN, 96, 0, 696, x_range, x_ticks, y_range, y_ticks)
    panel = panel._replace(width=panel.height)  # a square, wherever its labels let it begin
    legend = panel.left + panel.width + 30

    text_width, text_height = largest(class_names, SMALL)
    pitch = text_height + 10
    width = max(legend + 24 + text_width, MARGIN + largest([title], LARGE)[0]) + MARGIN
    height = max(760, panel.top + pitch * len(class_names) + MARGIN)
    picture = Image.new("RGB", (width, height), WHITE)
    write(picture, (MARGIN, MARGIN), title, LARGE)
    draw_axes(picture, panel, x_label, y_label)
    colors = _class_colors(len(class_names))
    _dots(picture, panel, codes, [colors[k] for k in classes])
    for k, name in enumerate(class_names):
        middle = panel.top + k * pitch + pitch // 2
        disc = _disc(radius=7.0, opacity=1.0)
        picture.paste(colors[k], (legend, middle - disc.height // 2), disc)
        write(picture, (legend + 24, middle), name, SMALL, "lm")
    return picture


def _dots(
    picture: Image.Image, panel: Panel, codes: NDArray[np.float64], colors: Sequence[Color]
) -> None:
    """Half transparent dots, the smaller the more there are, placed to half a pixel."""
    box = (panel.left, panel.top, panel.left + panel.width, panel.top + panel.height)
    canvas = picture.crop(box).resize((2 * panel.width, 2 * panel.height), Image.Resampling.NEAREST)
    radius = float(np.clip(40.0 * len(codes) ** -0.3, 2.5, 5.0))  # 2.5 for 10,000 dots
    dot = _disc(2 * radius, opacity=0.65)
    corners = np.rint(2 * panel.place(codes[:, 0], codes[:, 1]) - dot.width / 2).astype(int)
    for k in np.random.default_rng(0).permutation(len(codes)):
        canvas.paste(colors[k], (int(corners[k, 0]), int(corners[k, 1])), dot)
    picture.paste(canvas.reduce(2), box)


def _disc(radius: float, opacity: float) -> Image.Image:
    """A smooth disc as a mask, in the middle of the smallest square that holds it."""
    side = 2 * math.ceil(radius)
    mask = Image.new("L", (8 * side, 8 * side))
    center = (4.0 * side - 0.5, 4.0 * side - 0.5)
    ImageDraw.Draw(mask).ellipse(around(center, 8 * radius), fill=round(255 * opacity))
    return mask.reduce(8)


def _class_colors(count: int) -> list[Color]:
    """Colours to tell classes apart: by hand for up to ten, around the colour circle for more."""
    names = (
        CLASS_COLORS
        if count <= len(CLASS_COLORS)
        else [f"hsl({360 * k // count}, 65%, {40 + 25 * (k % 2)}%)" for k in range(count)]
    )
    return [ImageColor.getrgb(name)[:3] for name in names[:count]]
