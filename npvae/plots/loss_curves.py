"""How did the training go? `loss_curve` draws it, for `image_grid.save_png` to write.

Three panels: the loss between its floor and its baseline, and its two parts, bce and kl. Training
is blue, test is orange-red. The epochs have a logarithmic axis, because a model learns most in its
first epochs: so the steep part of the curve is as wide as the long flat one. `axes.py` draws the
axes. Next: report/, the page of a run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from npvae.plots.axes import (
    BLUE,
    FAINT,
    INK,
    MARGIN,
    MEDIUM,
    SMALL,
    VERMILION,
    Axis,
    Panel,
    Values,
    curve,
    draw_axes,
    figure,
    largest,
    nice_ticks,
    write,
)

SIZE = 1320, 500
PANELS = {"loss": "Loss", "bce": "Reconstruction (bce)", "kl": "KL divergence (kl)"}
SPIKE = 20  # a range that many times as wide as that of the bulk is not shown whole
WHY_BELOW = (
    "Where test lies below train: the train loss is the mean over an epoch while the model "
    "improves, the test loss is measured after the epoch."
)


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
    epochs, last = _column(history, "epoch"), history[-1]
    title = f"test loss {_short(last['test_loss'])} nats per image after epoch {last['epoch']:.0f}"
    picture = figure(*SIZE, f"{name}: {title}" if name else title)
    log_epochs, ticks = np.log10(epochs), _epoch_ticks(epochs)
    labels = [f"{tick:.0f}" for tick in ticks]
    x = Axis(*_widened(*log_epochs[[0, -1]]), np.log10(ticks), "epoch (log scale)", labels)
    width = (SIZE[0] - 2 * MARGIN) // 3
    for k, (part, words) in enumerate(PANELS.items()):
        splits = {split: _column(history, f"{split}_{part}") for split in ("train", "test")}
        lines = {"floor": floor, "baseline": baseline} if part == "loss" else {}
        dashed = {label: y for label, y in lines.items() if y is not None}
        low, high = _shown_range(np.concatenate([*splits.values()]), list(dashed.values()))
        y = Axis(low, high, nice_ticks(low, high, 6))
        panel = Panel.within(MARGIN + k * width, 136, width - (32 if k < 2 else 0), 268, x, y)
        draw_axes(picture, panel)
        write(picture, (panel.left, 70), words, MEDIUM)
        for label, height in dashed.items():
            _dashed(picture, panel, label, height)
        for column, (split, color) in enumerate({"train": BLUE, "test": VERMILION}.items()):
            values, at = splits[split], (panel.left + 140 * column, 98)
            write(picture, at, f"{split} {_short(values[-1])}", SMALL, color=color)
            curve(picture, panel, log_epochs, values, color, 3.5 if len(epochs) <= 12 else 0)
        note = _not_shown(epochs, np.stack([*splits.values()]), y)
        write(picture, (panel.right - 4, panel.top + 24), note, SMALL, "ra", halo=2)
    if any(row["test_loss"] < row["train_loss"] for row in history):
        write(picture, (MARGIN, SIZE[1] - MARGIN), WHY_BELOW, SMALL, "ld", FAINT)
    return picture


def _column(history: Sequence[Mapping[str, float]], name: str) -> Values:
    return np.array([row[name] for row in history], dtype=np.float64)


def _short(loss: float) -> str:
    return f"{loss:.2f}" if abs(loss) < 1e6 else f"{loss:.4g}"  # NaN: the second


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range with a small margin on both sides, and some width if it has none."""
    air = 0.04 * (high - low)
    if air <= 1e-9 * max(abs(low), abs(high)):
        air = max(0.05 * abs(low), 0.5)
    return float(low - air), float(high + air)


def _epoch_ticks(epochs: Values) -> Values:
    """The first and the last epoch, and 1, 2 and 5 times 10^k where they leave room between."""
    first, last = epochs[0], epochs[-1]
    round_numbers = [m * 10.0**k for k in range(6) for m in (1, 2, 5)]
    room = (last / first) ** 0.09  # of an axis that is as long as the panel is wide
    between = [n for n in round_numbers if first * room < n < last / room]
    return np.array(sorted({first, *between, last}))


def _shown_range(values: Values, lines: Sequence[float]) -> tuple[float, float]:
    """The range of values and lines; only the bulk of the values if it is very much narrower."""
    values = values[np.abs(values) < 1e12]  # False for NaN; more is a run that blew up
    if not values.size:
        return _widened(min(lines, default=0.0), max(lines, default=1.0))
    least, low, high, most = np.quantile(values, [0.0, 0.1, 0.9, 1.0])
    reach = max(high - low, 1e-9)
    bulk = max(least, low - reach), min(most, high + reach)
    if SPIKE * (bulk[1] - bulk[0]) < most - least:
        least, most = bulk
    return _widened(min([least, *lines]), max([most, *lines]))


def _not_shown(epochs: Values, values: Values, y: Axis) -> str:
    """The epochs whose values (2, epochs) the axis does not show, in words; "" if it shows all."""
    outside = ~((values >= y.low) & (values <= y.high))  # True for NaN
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
    height = panel.top + round(float(panel.place(panel.x.low, y)[1]))
    for x in range(panel.left + 1, panel.right, 10):
        ImageDraw.Draw(picture).line((x, height, x + 5, height), fill=INK)
    text = f"{label} {y:.2f}"
    near_top = height - panel.top < largest([text], SMALL)[1] + 8
    at = (panel.right - 4, height + (5 if near_top else -5))
    write(picture, at, text, SMALL, "ra" if near_top else "rd", FAINT, halo=2)
