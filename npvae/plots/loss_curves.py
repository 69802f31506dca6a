"""How did the training go? `loss_curve` draws it, for `images.save_png` to write.

Two panels side by side, because bce is ten times kl and each has its own story. Training
is blue, test orange-red. The axes are drawn by `axes.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from npvae.plots.axes import (
    LARGE,
    MARGIN,
    MEDIUM,
    SMALL,
    WHITE,
    Color,
    Panel,
    Range,
    around,
    draw_axes,
    nice_ticks,
    panel_in,
    widened,
    write,
)

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)  # of Okabe and Ito: different to every eye
FINE = 3  # curves and their dots are drawn this many times larger


def loss_curve(history: Sequence[Mapping[str, float]]) -> Image.Image:
    """bce and kl of training and test over the epochs, side by side: a picture of 1000 x 430.

    Each entry of `history` has the keys epoch and {train,test}_{bce,kl,loss}, in nats per image.
    The frame holds the bulk of the values: a first epoch far off, or a spike, runs out of it, and
    a line above says so. A value that is not finite leaves a hole in its curve.
    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("a history without epochs has no curve")
    picture = Image.new("RGB", (1000, 430), WHITE)
    epoch, loss = history[-1]["epoch"], history[-1]["test_loss"]
    number = f"{loss:.2f}" if abs(loss) < 1e6 else f"{loss:.4g}"  # NaN: the second
    title = f"Test loss {number} nats per image after epoch {epoch:.0f}"
    write(picture, (MARGIN, MARGIN), title, LARGE)
    for name, color, left in ("train", BLUE, 822), ("test", VERMILION, 910):
        ImageDraw.Draw(picture).rectangle((left, 34, left + 23, 36), fill=color)
        write(picture, (left + 30, 35), name, MEDIUM, "lm")
    epochs = np.array([entry["epoch"] for entry in history], dtype=np.float64)
    for part, name, left, right in (
        ("bce", "Reconstruction (bce)", MARGIN, 484),
        ("kl", "KL divergence (kl)", 516, 1000 - MARGIN),
    ):
        train, test = (
            np.array([entry[f"{split}_{part}"] for entry in history], dtype=np.float64)
            for split in ("train", "test")
        )
        x_range, y_range = widened(epochs[0], epochs[-1]), _bulk(np.stack([train, test]))
        x_ticks = nice_ticks(epochs[0], epochs[-1], at_most=8, least_step=1.0)
        panel = panel_in(left, 128, right, 366, x_range, x_ticks, y_range, nice_ticks(*y_range, 6))
        draw_axes(picture, panel, "epoch", "nats per image")
        write(picture, (panel.left, 71), name, MEDIUM)
        write(picture, (right, panel.top - 8), _missing(epochs, train, test, y_range), SMALL, "rd")
        _curve(picture, panel, epochs, train, BLUE)
        _curve(picture, panel, epochs, test, VERMILION)
    return picture


def _bulk(values: NDArray[np.float64]) -> Range:
    """The range of the values; of their bulk only, where that is less than half of it."""
    values = values[np.abs(values) < 1e12]  # False for NaN; more is a run that blew up
    if not values.size:
        return 0.0, 1.0
    least, low, high, most = np.quantile(values, [0.0, 0.1, 0.9, 1.0])
    reach = high - low
    bulk = max(least, low - reach), min(most, high + reach)
    return widened(*bulk) if 2 * (bulk[1] - bulk[0]) < most - least else widened(least, most)


def _missing(
    epochs: NDArray[np.float64],
    train: NDArray[np.float64],
    test: NDArray[np.float64],
    y_range: Range,
) -> str:
    """What the frame cannot show, in words; nothing if it shows everything."""
    values = np.stack([train, test])  # (2, epochs)
    outside = ~((values >= y_range[0]) & (values <= y_range[1]))  # True for NaN
    hit = np.flatnonzero(outside.any(axis=0))
    if not hit.size:
        return ""
    first, last = epochs[hit[0]], epochs[hit[-1]]
    together = hit[-1] - hit[0] == hit.size - 1
    which = f"epochs {first:.0f} to {last:.0f}" if together else f"{hit.size} epochs"
    which = f"epoch {first:.0f}" if hit.size == 1 else which
    part = "" if outside[:, hit].all() else "part of "
    return f"{part}{which} not in the frame"


def _curve(
    picture: Image.Image,
    panel: Panel,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    color: Color,
) -> None:
    """A line through the finite values, cut at the frame; with a dot on each while they are few."""
    mask = Image.new("L", (FINE * panel.width, FINE * panel.height))
    draw = ImageDraw.Draw(mask)
    finite = np.isfinite(y)
    places = FINE * panel.place(x, np.where(finite, np.clip(y, -1e12, 1e12), 0.0))  # (N, 2)
    for run in np.split(np.arange(len(x)), np.flatnonzero(~finite)):
        points = [(float(px), float(py)) for px, py in places[run[finite[run]]]]
        if len(points) > 1:
            draw.line(points, fill=255, width=2 * FINE, joint="curve")
        for point in points if len(x) <= 30 or len(points) == 1 else []:
            draw.ellipse(around(point, 3.5 * FINE), fill=255)
    picture.paste(color, (panel.left, panel.top), mask.reduce(FINE))
