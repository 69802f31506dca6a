"""How do results become pictures with words on them?

`loss_curve` draws a training run, `strip` a labelled grid of images, `scatter` the codes of a data
set in the plane; each returns an RGB picture for `images.save_png`. Below them stand the few tools
they share. All is drawn with Pillow: text and frames at their own size, curves and dots larger
and then averaged down, which makes their edges smooth. Equal input gives equal pixels.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from npvae.images import SIDE, tile

Color = tuple[int, int, int]
Range = tuple[float, float]

INK, FAINT, GRID, WHITE = (51, 51, 51), (105, 105, 105), (226, 226, 226), (255, 255, 255)
BLUE, VERMILION = (0, 114, 178), (213, 94, 0)  # of Okabe and Ito: different to every eye
CLASS_COLORS = (  # Paul Tol's "muted", made for colour-blind eyes too, and a dark grey
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#555555"),
)
SMALL, MEDIUM, LARGE = 17, 20, 24  # font sizes, in pixels like all lengths here
MARGIN = 24  # white on all sides
FINE = 3  # curves and dots are drawn this many times larger


# --- a training run ------------------------------------------------------------------------------


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
    _text(picture, (MARGIN, MARGIN), title, LARGE)
    for name, color, left in ("train", BLUE, 822), ("test", VERMILION, 910):
        ImageDraw.Draw(picture).rectangle((left, 34, left + 23, 36), fill=color)
        _text(picture, (left + 30, 35), name, MEDIUM, "lm")
    epochs = np.array([entry["epoch"] for entry in history], dtype=np.float64)
    for part, name, left, right in (
        ("bce", "Reconstruction (bce)", MARGIN, 484),
        ("kl", "KL divergence (kl)", 516, 1000 - MARGIN),
    ):
        train, test = (
            np.array([entry[f"{split}_{part}"] for entry in history], dtype=np.float64)
            for split in ("train", "test")
        )
        x_range, y_range = _widened(epochs[0], epochs[-1]), _bulk(np.stack([train, test]))
        x_ticks = nice_ticks(epochs[0], epochs[-1], at_most=8, least_step=1.0)
        panel = _panel(left, 128, right, 366, x_range, x_ticks, y_range, nice_ticks(*y_range, 6))
        _axes(picture, panel, "epoch", "nats per image")
        _text(picture, (panel.left, 71), name, MEDIUM)
        _text(picture, (right, panel.top - 8), _missing(epochs, train, test, y_range), SMALL, "rd")
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
    return _widened(*bulk) if 2 * (bulk[1] - bulk[0]) < most - least else _widened(least, most)


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
    if hit.size == 1:
        return f"epoch {first:.0f} not in the frame"
    together = hit[-1] - hit[0] == hit.size - 1
    which = f"epochs {first:.0f} to {last:.0f}" if together else f"{hit.size} epochs"
    return f"{which} not in the frame"


def _curve(
    picture: Image.Image,
    panel: "_Panel",
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
            draw.ellipse(_around(point, 3.5 * FINE), fill=255)
    picture.paste(color, (panel.left, panel.top), mask.reduce(FINE))


# --- a grid of images ----------------------------------------------------------------------------


def strip(
    rows: Sequence[Sequence[ArrayLike] | NDArray[Any]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: int = 3,
    title: str = "",
    gap: int = 4,
) -> Image.Image:
    """A grid of images with words beside its rows and above its columns.

    A row is a list or an array of images, (28, 28) or (784,) each, uint8 or floats in [0, 1]; each
    pixel becomes a block of scale x scale. `gap` pixels of the picture lie between neighbours, more
    where a label needs the room; a short row ends in white. Without labels they take no room.
    Raises ValueError for no image, pixels outside [0, 1], or labels that do not fit the grid.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0 or scale < 1 or gap < 0:
        raise ValueError("a strip needs an image, a scale of at least 1 and a gap of at least 0")
    if len(row_labels) not in (0, len(rows)) or len(column_labels) not in (0, columns):
        raise ValueError(
            f"{len(row_labels)} row labels and {len(column_labels)} column labels"
            f" for {len(rows)} rows and {columns} columns"
        )
    side = SIDE * scale
    beside, above = _largest(row_labels, SMALL), _largest(column_labels, SMALL)
    heading = _largest([title], MEDIUM)
    cell = max(side, above[0] + 8 if column_labels else 0), max(side, beside[1])
    left = MARGIN + (beside[0] + 12 if row_labels else 0)
    top = MARGIN + (heading[1] + 14 if title else 0) + (above[1] + 8 if column_labels else 0)
    right = left + columns * (cell[0] + gap) - gap
    bottom = top + len(rows) * (cell[1] + gap) - gap
    size = max(right, MARGIN + heading[0]) + MARGIN, bottom + MARGIN
    picture = Image.new("RGB", size, WHITE)
    _text(picture, (MARGIN, MARGIN), title, MEDIUM)
    centers = [left + cell[0] // 2 + k * (cell[0] + gap) for k in range(columns)]
    middles = [top + cell[1] // 2 + k * (cell[1] + gap) for k in range(len(rows))]
    for center, label in zip(centers, column_labels, strict=False):
        _text(picture, (center, top - 8), label, SMALL, "md")
    for middle, label in zip(middles, row_labels, strict=False):
        _text(picture, (left - 12, middle), label, SMALL, "rm")
    for middle, row in zip(middles, rows, strict=True):
        for center, image in zip(centers, row, strict=False):
            pixels = tile(np.asarray(image)[np.newaxis], columns=1)  # (28, 28), checked
            pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
            picture.paste(Image.fromarray(pixels), (center - side // 2, middle - side // 2))
    return picture


# --- codes in the plane --------------------------------------------------------------------------


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
    panel = _panel(MARGIN, 96, 0, 696, x_range, x_ticks, y_range, y_ticks)
    panel = panel._replace(width=panel.height)  # a square, wherever its labels let it begin
    legend = panel.left + panel.width + 30

    text_width, text_height = _largest(class_names, SMALL)
    pitch = text_height + 10
    width = max(legend + 24 + text_width, MARGIN + _largest([title], LARGE)[0]) + MARGIN
    height = max(760, panel.top + pitch * len(class_names) + MARGIN)
    picture = Image.new("RGB", (width, height), WHITE)
    _text(picture, (MARGIN, MARGIN), title, LARGE)
    _axes(picture, panel, x_label, y_label)
    colors = _class_colors(len(class_names))
    _dots(picture, panel, codes, [colors[k] for k in classes])
    for k, name in enumerate(class_names):
        middle = panel.top + k * pitch + pitch // 2
        disc = _disc(radius=7.0, opacity=1.0)
        picture.paste(colors[k], (legend, middle - disc.height // 2), disc)
        _text(picture, (legend + 24, middle), name, SMALL, "lm")
    return picture


def _dots(
    picture: Image.Image, panel: "_Panel", codes: NDArray[np.float64], colors: Sequence[Color]
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
    ImageDraw.Draw(mask).ellipse(_around(center, 8 * radius), fill=round(255 * opacity))
    return mask.reduce(8)


def _class_colors(count: int) -> list[Color]:
    """Colours to tell classes apart: by hand for up to ten, around the colour circle for more."""
    names = (
        CLASS_COLORS
        if count <= len(CLASS_COLORS)
        else [f"hsl({360 * k // count}, 65%, {40 + 25 * (k % 2)}%)" for k in range(count)]
    )
    return [ImageColor.getrgb(name)[:3] for name in names[:count]]


# --- axes and words ------------------------------------------------------------------------------


class _Panel(NamedTuple):
    """A rectangle of the picture, in pixels, and the part of the plane that it shows."""

    left: int
    top: int
    width: int
    height: int
    x_range: Range
    x_ticks: NDArray[np.float64]
    y_range: Range
    y_ticks: NDArray[np.float64]

    def place(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Where the points (x, y) stand, from the panel's upper left corner: (N, 2) pixels."""
        across = (np.asarray(x) - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        down = (self.y_range[1] - np.asarray(y)) / (self.y_range[1] - self.y_range[0])
        places: NDArray[np.float64] = np.stack(
            np.broadcast_arrays(self.width * across, self.height * down), axis=-1
        )
        return places.clip(-1e5, 1e5)  # Pillow goes no further


def _panel(
    left: int,
    top: int,
    right: int,
    bottom: int,
    x_range: Range,
    x_ticks: NDArray[np.float64],
    y_range: Range,
    y_ticks: NDArray[np.float64],
) -> _Panel:
    """The panel of a box that holds the tick labels of its y axis as well."""
    left += _largest(tick_labels(y_ticks), SMALL)[0] + 10
    return _Panel(left, top, right - left, bottom - top, x_range, x_ticks, y_range, y_ticks)


def _axes(picture: Image.Image, panel: _Panel, x_label: str, y_label: str) -> None:
    """Grid lines, tick labels, and what the axes mean: x below at the right, y above the panel."""
    draw = ImageDraw.Draw(picture)
    right, bottom = panel.left + panel.width, panel.top + panel.height
    x_places = panel.left + panel.place(panel.x_ticks, panel.y_range[0])[:, 0]
    y_places = panel.top + panel.place(panel.x_range[0], panel.y_ticks)[:, 1]
    for x, label in zip(np.rint(x_places), tick_labels(panel.x_ticks), strict=True):
        draw.line((x, panel.top, x, bottom), fill=GRID)
        _text(picture, (x, bottom + 7), label, SMALL, "ma")
    for y, label in zip(np.rint(y_places), tick_labels(panel.y_ticks), strict=True):
        draw.line((panel.left, y, right, y), fill=GRID)
        _text(picture, (panel.left - 9, y), label, SMALL, "rm")
    draw.line((panel.left, panel.top, panel.left, bottom, right, bottom), fill=FAINT)
    _text(picture, (panel.left, panel.top - 8), y_label, SMALL, "ld", FAINT)
    _text(picture, (right, bottom + 29), x_label, SMALL, "ra", FAINT)


def nice_ticks(
    low: float, high: float, at_most: int, least_step: float = 0.0
) -> NDArray[np.float64]:
    """The multiples within [low, high] of the finest step 1, 2 or 5 times 10^k that yields few."""
    finest = max((high - low) / at_most, least_step, 1e-300)
    power = 10.0 ** math.floor(math.log10(finest))
    step = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= finest * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return step * np.arange(first, last + 1, dtype=np.float64)


def tick_labels(ticks: NDArray[np.float64]) -> list[str]:
    """The ticks in words, all with the decimals that their step needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{decimals}f}" if 1e-6 < step < 1e6 else f"{tick:.4g}" for tick in ticks]


def _widened(low: float, high: float) -> Range:
    """The range with a little air on both sides, and some width if it has none."""
    air = 0.04 * (high - low)
    if air <= 1e-9 * max(abs(low), abs(high)):
        air = max(0.05 * abs(low), 0.5)
    return float(low - air), float(high + air)


def _around(center: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    """The box of a circle."""
    x, y = center
    return x - radius, y - radius, x + radius, y + radius


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow, so that every machine draws the same letters."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _text(
    picture: Image.Image,
    at: tuple[float, float],
    words: str,
    size: int,
    anchor: str = "la",
    color: Color = INK,
) -> None:
    """Words at a point; the anchor says which of their corners stands there, as Pillow names it."""
    ImageDraw.Draw(picture).text(at, words, fill=color, font=_font(size), anchor=anchor)


def _largest(texts: Sequence[str], size: int) -> tuple[int, int]:
    """The width of the widest text and the height of the highest; 0 where there is none."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [draw.textbbox((0, 0), words, font=_font(size)) for words in texts if words]
    return (
        max((math.ceil(box[2]) for box in boxes), default=0),
        max((math.ceil(box[3]) for box in boxes), default=0),
    )
