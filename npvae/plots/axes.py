"""How does one draw axes, text and smooth curves with Pillow?

A `Panel` is a rectangle of the picture that shows a part of the plane, between two `Axis`.
`draw_axes` draws its grid, ticks and labels; `curve` a line in it; `write` puts text into the
picture. Text and frames are drawn at their own size. Curves and dots are drawn larger and then
averaged down, which makes their edges smooth. Equal input gives equal pixels on every machine.
The pictures: `image_grid.py`, `loss_curves.py`, `latent_scatter.py` and `latent_ellipses.py`.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Values = NDArray[np.float64]

INK, FAINT, GRID, WHITE = (51, 51, 51), (105, 105, 105), (226, 226, 226), (255, 255, 255)
BLUE, VERMILION = (0, 114, 178), (213, 94, 0)  # from Okabe and Ito: different to every eye
SMALL, MEDIUM, LARGE = 17, 20, 24  # font sizes, in pixels like all lengths here
MARGIN = 24  # white on all sides
FINE = 3  # curves and their dots are drawn this many times larger


class Axis(NamedTuple):
    """The numbers that an axis shows, from left to right or upwards, its ticks and its name."""

    low: float
    high: float
    ticks: Values
    name: str = ""
    labels: Sequence[str] = ()  # of the ticks, where they are not the numbers themselves

    @classmethod
    def around(cls, middle: float, half: float, name: str = "", at_most: int = 8) -> "Axis":
        """From middle - half to middle + half, with round ticks."""
        low, high = middle - half, middle + half
        return cls(low, high, nice_ticks(low, high, at_most), name)

    def texts(self) -> Sequence[str]:
        return self.labels or tick_labels(self.ticks)


class Panel(NamedTuple):
    """A rectangle of the picture, in pixels, and the part of the plane that it shows."""

    left: int
    top: int
    width: int
    height: int
    x: Axis
    y: Axis

    @classmethod
    def within(cls, left: int, top: int, width: int, height: int, x: Axis, y: Axis) -> "Panel":
        """The panel of a box that has room for the tick labels of the y axis as well."""
        room = largest(y.texts(), SMALL)[0] + 10
        return cls(left + room, top, width - room, height, x, y)

    @classmethod
    def square(cls, left: int, top: int, side: int, x: Axis, y: Axis) -> "Panel":
        """A square with the tick labels of the y axis on its left."""
        return cls.within(left, top, 0, side, x, y)._replace(width=side)

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def place(self, x: ArrayLike, y: ArrayLike) -> Values:
        """The points (x, y) in pixels from the panel's upper left corner: (N, 2)."""
        across = (np.asarray(x) - self.x.low) / (self.x.high - self.x.low)
        down = (self.y.high - np.asarray(y)) / (self.y.high - self.y.low)
        places: Values = np.stack(
            np.broadcast_arrays(self.width * across, self.height * down), axis=-1
        )
        return places.clip(-1e5, 1e5)  # Pillow draws no further


def figure(width: int, height: int, title: str) -> Image.Image:
    """A white picture with a title."""
    picture = Image.new("RGB", (width, height), WHITE)
    write(picture, (MARGIN, MARGIN), title, LARGE)
    return picture


def draw_axes(picture: Image.Image, panel: Panel) -> None:
    """Grid lines, tick labels and names: that of x below at the right, of y above the panel."""
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = panel.left, panel.top, panel.right, panel.bottom
    x_places = left + panel.place(panel.x.ticks, panel.y.high)[:, 0]
    y_places = top + panel.place(panel.x.low, panel.y.ticks)[:, 1]
    for x, label in zip(np.rint(x_places), panel.x.texts(), strict=True):
        draw.line((x, top, x, bottom), fill=GRID)
        write(picture, (x, bottom + 7), label, SMALL, "ma")
    for y, label in zip(np.rint(y_places), panel.y.texts(), strict=True):
        draw.line((left, y, right, y), fill=GRID)
        write(picture, (left - 9, y), label, SMALL, "rm")
    draw.line((left, top, left, bottom, right, bottom), fill=FAINT)
    write(picture, (left, top - 8), panel.y.name, SMALL, "ld", FAINT)
    write(picture, (right, bottom + 29), panel.x.name, SMALL, "ra", FAINT)


def curve(
    picture: Image.Image, panel: Panel, x: Values, y: Values, color: Color, dot: float = 0
) -> None:
    """A line through the finite values, cut at the frame, with dots of this radius.

    A value between two that are not finite has a dot in any case.
    """
    mask = Image.new("L", (FINE * panel.width, FINE * panel.height))
    draw = ImageDraw.Draw(mask)
    finite = np.isfinite(y)
    places = FINE * panel.place(x, np.where(finite, np.clip(y, -1e12, 1e12), 0.0))  # (N, 2)
    for run in np.split(np.arange(len(x)), np.flatnonzero(~finite)):
        points = [(float(px), float(py)) for px, py in places[run[finite[run]]]]
        radius = dot or (3.5 if len(points) == 1 else 0)
        if len(points) > 1:
            draw.line(points, fill=255, width=2 * FINE, joint="curve")
        for point in points if radius else []:
            draw.ellipse(around(point, radius * FINE), fill=255)
    picture.paste(color, (panel.left, panel.top), mask.reduce(FINE))


@contextmanager
def enlarged(picture: Image.Image, panel: Panel, times: int) -> Iterator[Image.Image]:
    """The panel, so many times larger, to draw on; then it is averaged down and put back."""
    box = (panel.left, panel.top, panel.right, panel.bottom)
    size = times * panel.width, times * panel.height
    canvas = picture.crop(box).resize(size, Image.Resampling.NEAREST)
    yield canvas
    picture.paste(canvas.reduce(times), box)


def nice_ticks(low: float, high: float, at_most: int) -> Values:
    """The multiples within [low, high] of the finest step 1, 2 or 5 * 10^k that gives few ticks."""
    finest = max((high - low) / at_most, 1e-300)
    power = 10.0 ** math.floor(math.log10(finest))
    step = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= finest * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return step * np.arange(first, last + 1, dtype=np.float64)


def tick_labels(ticks: Values) -> list[str]:
    """The ticks as text, all with the decimals that their step needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{decimals}f}" if 1e-6 < step < 1e6 else f"{tick:.4g}" for tick in ticks]


def around(center: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    """The bounding box of a circle."""
    x, y = center
    return x - radius, y - radius, x + radius, y + radius


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that comes with Pillow: every machine draws the same letters."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def drawable(words: str) -> str:
    """The text in ASCII, the letters that the font has: o for an umlaut, otherwise "?"."""
    letters = unicodedata.normalize("NFKD", words)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode()


def write(
    picture: Image.Image,
    at: tuple[float, float],
    words: str,
    size: int,
    anchor: str = "la",
    color: Color = INK,
    halo: int = 0,
) -> None:
    """Text at a point. The anchor names the part of the text that stands there, as in Pillow.

    `halo` pixels of white around the letters keep them readable on top of dots.
    """
    fill, white = (color, WHITE) if picture.mode == "RGB" else (color[0], WHITE[0])  # all grey
    ImageDraw.Draw(picture).text(
        at, drawable(words), fill, _font(size), anchor, stroke_width=halo, stroke_fill=white
    )


def largest(texts: Sequence[str], size: int) -> tuple[int, int]:
    """The width of the widest text and the height of the tallest; 0 if there is none."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [draw.textbbox((0, 0), drawable(words), font=_font(size)) for words in texts if words]
    return (
        max((math.ceil(box[2]) for box in boxes), default=0),
        max((math.ceil(box[3]) for box in boxes), default=0),
    )
