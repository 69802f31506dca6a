"""How does one draw axes, text and smooth curves with Pillow?

A `Panel` is a rectangle of the picture that shows a part of the plane. `draw_axes` draws its grid,
ticks and labels; `write` puts text into the picture. Text and frames are drawn at their own size.
Curves and dots are drawn larger and then averaged down, which makes their edges smooth. Equal input
gives equal pixels on every machine. The pictures: `image_grid.py`, `loss_curves.py` and
`latent_scatter.py`.
"""

import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Range = tuple[float, float]

INK, FAINT, GRID, WHITE = (51, 51, 51), (105, 105, 105), (226, 226, 226), (255, 255, 255)
SMALL, MEDIUM, LARGE = 17, 20, 24  # font sizes, in pixels like all lengths here
MARGIN = 24  # white on all sides


class Panel(NamedTuple):
    """A rectangle of the picture, in pixels, and the part of the plane that it shows."""

    left: int
    top: int
    width: int
    height: int
    x_range: Range
    x_ticks: NDArray[np.float64]
    y_range: Range
    y_ticks: NDArray[np.float64]
    x_labels: Sequence[str] = ()  # of the ticks, where they are not the numbers themselves

    def place(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """The points (x, y) in pixels from the panel's upper left corner: (N, 2)."""
        across = (np.asarray(x) - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        down = (self.y_range[1] - np.asarray(y)) / (self.y_range[1] - self.y_range[0])
        places: NDArray[np.float64] = np.stack(
            np.broadcast_arrays(self.width * across, self.height * down), axis=-1
        )
        return places.clip(-1e5, 1e5)  # Pillow draws no further


def panel_in(
    left: int,
    top: int,
    right: int,
    bottom: int,
    x_range: Range,
    x_ticks: NDArray[np.float64],
    y_range: Range,
    y_ticks: NDArray[np.float64],
) -> Panel:
    """The panel of a box that has room for the tick labels of the y axis as well."""
    left += largest(tick_labels(y_ticks), SMALL)[0] + 10
    return Panel(left, top, right - left, bottom - top, x_range, x_ticks, y_range, y_ticks)


def draw_axes(picture: Image.Image, panel: Panel, x_label: str, y_label: str) -> None:
    """Grid lines, tick labels and axis labels: x below at the right, y above the panel."""
    draw = ImageDraw.Draw(picture)
    right, bottom = panel.left + panel.width, panel.top + panel.height
    x_places = panel.left + panel.place(panel.x_ticks, panel.y_range[0])[:, 0]
    y_places = panel.top + panel.place(panel.x_range[0], panel.y_ticks)[:, 1]
    x_labels = panel.x_labels or tick_labels(panel.x_ticks)
    for x, label in zip(np.rint(x_places), x_labels, strict=True):
        draw.line((x, panel.top, x, bottom), fill=GRID)
        write(picture, (x, bottom + 7), label, SMALL, "ma")
    for y, label in zip(np.rint(y_places), tick_labels(panel.y_ticks), strict=True):
        draw.line((panel.left, y, right, y), fill=GRID)
        write(picture, (panel.left - 9, y), label, SMALL, "rm")
    draw.line((panel.left, panel.top, panel.left, bottom, right, bottom), fill=FAINT)
    write(picture, (panel.left, panel.top - 8), y_label, SMALL, "ld", FAINT)
    write(picture, (right, bottom + 29), x_label, SMALL, "ra", FAINT)


def nice_ticks(
    low: float, high: float, at_most: int, least_step: float = 0.0
) -> NDArray[np.float64]:
    """The multiples within [low, high] of the finest step 1, 2 or 5 * 10^k that gives few ticks."""
    finest = max((high - low) / at_most, least_step, 1e-300)
    power = 10.0 ** math.floor(math.log10(finest))
    step = next(m * power for m in (1, 2, 5, 10, 20) if m * power >= finest * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return step * np.arange(first, last + 1, dtype=np.float64)


def tick_labels(ticks: NDArray[np.float64]) -> list[str]:
    """The ticks as text, all with the decimals that their step needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{decimals}f}" if 1e-6 < step < 1e6 else f"{tick:.4g}" for tick in ticks]


def widened(low: float, high: float) -> Range:
    """The range with a small margin on both sides, and some width if it has none."""
    air = 0.04 * (high - low)
    if air <= 1e-9 * max(abs(low), abs(high)):
        air = max(0.05 * abs(low), 0.5)
    return float(low - air), float(high + air)


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
    fill = color if picture.mode == "RGB" else color[0]  # the greys: all three are equal
    white = WHITE if picture.mode == "RGB" else WHITE[0]
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
