"""How did the training go? `loss_curve` draws it, for `image_grid.save_png` to write.

Three panels: the loss between its floor and its baseline, and its two parts, bce and kl. Training
is blue, test is orange-red. The epochs have a logarithmic axis, because a model learns most in its
first epochs: so the steep part of the curve is as wide as the long flat one. `axes.py` draws the
axes. Next: report.py, the page of a run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from npvae.plots.axes import (
    FAINT,
    INK,
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
    largest,
    nice_ticks,
    panel_in,
    widened,
    write,
)

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)  # from Okabe and Ito: different to every eye
FINE = 3  # curves and their dots are drawn this many times larger
SIZE = 1320, 500
PANELS = {"loss": "Loss", "bce": "Reconstruction (bce)", "kl": "KL divergence (kl)"}
SPIKE = 20  # a range that many times as wide as that of the bulk is not shown whole

Values = NDArray[np.float64]


def loss_curve(
    history: Sequence[Mapping[str, float]],
    name: str = "",
    floor: float | None = None,
    baseline: float | None = None,
) -> Image.Image:
    """Loss, bce and kl of training and test over the epochs, in nats per image.

    Each entry of `history` has the keys epoch and {train,test}_{bce,kl,loss}. `floor` and
    `baseline` are dashed lines beside the loss (see `evaluation.py`). `name` stands in the title.
    The whole history is shown, except values far outside the bulk: a note in the panel names
    their epochs. A value that is not finite leaves a hole in its curve.
    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("a history without epochs has no curve")
    picture = Image.new("RGB", SIZE, WHITE)
    epochs = np.array([entry["epoch"] for entry in history], dtype=np.float64)
    title = f"test loss {_short(history[-1]['test_loss'])} nats per image after epoch"
    title = f"{f'{name}: ' if name else ''}{title} {epochs[-1]:.0f}"
    write(picture, (MARGIN, MARGIN), title, LARGE)
    x_range = widened(*np.log10(epochs[[0, -1]]))
    ticks = _epoch_ticks(epochs)
    width = (SIZE[0] - 2 * MARGIN) // 3
    for k, (part, words) in enumerate(PANELS.items()):
        train, test = (
            np.array([entry[f"{split}_{part}"] for entry in history], dtype=np.float64)
            for split in ("train", "test")
        )
        lines = {"floor": floor, "baseline": baseline} if part == "loss" else {}
        dashed = {label: y for label, y in lines.items() if y is not None}
        y_range = _shown_range(np.concatenate([train, test]), list(dashed.values()))
        left, right = MARGIN + k * width, MARGIN + (k + 1) * width - (32 if k < 2 else 0)
        y_ticks = nice_ticks(*y_range, 6)
        panel = panel_in(left, 136, right, 404, x_range, np.log10(ticks), y_range, y_ticks)
        panel = panel._replace(x_labels=[f"{tick:.0f}" for tick in ticks])
        draw_axes(picture, panel, "epoch (log scale)", "")
        write(picture, (panel.left, 70), words, MEDIUM)
        for color, split, values, x in (
            (BLUE, "train", train, panel.left),
            (VERMILION, "test", test, panel.left + 140),
        ):
            write(picture, (x, 98), f"{split} {_short(values[-1])}", SMALL, color=color)
        for label, y in dashed.items():
            _dashed(picture, panel, label, y)
        log_epochs = np.log10(epochs)
        _curve(picture, panel, log_epochs, train, BLUE)
        _curve(picture, panel, log_epochs, test, VERMILION)
        note = _not_shown(epochs, train, test, y_range)
        write(picture, (right - 4, panel.top + 24), note, SMALL, "ra", halo=2)
    if any(entry["test_loss"] < entry["train_loss"] for entry in history):
        why = (
            "Where test lies below train: the train loss is the mean over an epoch while the model "
            "improves, the test loss is measured after the epoch."
        )
        write(picture, (MARGIN, SIZE[1] - MARGIN), why, SMALL, "ld", FAINT)
    return picture


def _short(loss: float) -> str:
    return f"{loss:.2f}" if abs(loss) < 1e6 else f"{loss:.4g}"  # NaN: the second


def _epoch_ticks(epochs: Values) -> Values:
    """The first and the last epoch, and 1, 2 and 5 times 10^k where they leave room between."""
    first, last = epochs[0], epochs[-1]
    round_numbers = [m * 10.0**k for k in range(6) for m in (1, 2, 5)]
    room = (last / first) ** 0.09  # of an axis that is as long as the panel is wide
    between = [n for n in round_numbers if first * room < n < last / room]
    return np.array(sorted({first, *between, last}))


def _shown_range(values: Values, lines: Sequence[float]) -> Range:
    """The range of values and lines; only the bulk of the values if it is very much narrower."""
    values = values[np.abs(values) < 1e12]  # False for NaN; more is a run that blew up
    if not values.size:
        return widened(min(lines, default=0.0), max(lines, default=1.0))
    least, low, high, most = np.quantile(values, [0.0, 0.1, 0.9, 1.0])
    reach = max(high - low, 1e-9)
    bulk = max(least, low - reach), min(most, high + reach)
    if SPIKE * (bulk[1] - bulk[0]) < most - least:
        least, most = bulk
    return widened(min(least, *lines), max(most, *lines)) if lines else widened(least, most)


def _not_shown(epochs: Values, train: Values, test: Values, y_range: Range) -> str:
    """The epochs that the panel cannot show, in words; empty if it shows everything."""
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
    return f"{part}{which} not shown"


def _dashed(picture: Image.Image, panel: Panel, label: str, y: float) -> None:
    """A dashed line across the panel, with its name and value at the right end."""
    height = panel.top + round(float(panel.place(panel.x_range[0], y)[1]))
    for x in range(panel.left + 1, panel.left + panel.width, 10):
        ImageDraw.Draw(picture).line((x, height, x + 5, height), fill=INK)
    text = f"{label} {y:.2f}"
    near_top = height - panel.top < largest([text], SMALL)[1] + 8
    at = (panel.left + panel.width - 4, height + (5 if near_top else -5))
    write(picture, at, text, SMALL, "ra" if near_top else "rd", FAINT, halo=2)


def _curve(picture: Image.Image, panel: Panel, x: Values, y: Values, color: Color) -> None:
    """A line through the finite values, cut at the frame; with a dot on each while they are few."""
    mask = Image.new("L", (FINE * panel.width, FINE * panel.height))
    draw = ImageDraw.Draw(mask)
    finite = np.isfinite(y)
    places = FINE * panel.place(x, np.where(finite, np.clip(y, -1e12, 1e12), 0.0))  # (N, 2)
    for run in np.split(np.arange(len(x)), np.flatnonzero(~finite)):
        points = [(float(px), float(py)) for px, py in places[run[finite[run]]]]
        if len(points) > 1:
            draw.line(points, fill=255, width=2 * FINE, joint="curve")
        for point in points if len(x) <= 12 or len(points) == 1 else []:
            draw.ellipse(around(point, 3.5 * FINE), fill=255)
    picture.paste(color, (panel.left, panel.top), mask.reduce(FINE))
