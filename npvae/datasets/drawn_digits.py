"""What can one train on without a single file? Digits that this program writes itself.

    written forms -> pen paths with random control points     a few dozen per digit
                  -> distance of each grid point to the path  one field per pen path
                  -> ink of each pixel                        one field under a random map per image

    ink = clip((thickness - distance) / softness + 0.5, 0, 1)

Only + - * / sqrt and comparisons are used, which IEEE 754 rounds in one way: equal seeds give equal
bytes on every machine. `pen_strokes.py` holds the forms.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.dataset import SIDE, Dataset
from npvae.datasets.pen_strokes import FORMS, Form

Floats = NDArray[np.float32]

_HANDS = 20  # pen paths per form
_GRID = 48  # a field is _GRID x _GRID distances over the square [-_REACH, _REACH]^2,
_REACH = 0.72  # in which a digit is 1 high and its middle is (0, 0)
_CHUNK = 128  # images drawn at once: their arrays stay in the processor's cache


def drawn_digits(seed: int = 0, train: int = 20_000, test: int = 2_000) -> tuple[Dataset, Dataset]:
    """Two datasets of `train` and `test` images, each digit as often as any other."""
    rng = np.random.default_rng(seed)
    fields, first_field, field_count = _draw_fields(rng)

    def half(count: int) -> Dataset:
        labels = (np.arange(count) % 10)[np.argsort(rng.random(count), kind="stable")]
        which = first_field[labels] + (rng.random(count) * field_count[labels]).astype(np.int64)
        images = np.empty((count, SIDE, SIDE), np.uint8)
        for start in range(0, count, _CHUNK):
            part = slice(start, start + _CHUNK)
            images[part] = _ink(fields, which[part], rng)
        names = tuple("0123456789")
        return Dataset(
            "drawn-digits", images, labels.astype(np.uint8), names, "drawn by this program"
        )

    return half(train), half(test)


def _draw_fields(
    rng: np.random.Generator,
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """All distance fields (F, _GRID, _GRID); where each digit's begin and how many it has."""
    fields = [_HANDS * len(forms) for forms in FORMS]
    count = np.array(fields, np.int64)
    drawn = [_distance(_pen_paths(form, rng)) for forms in FORMS for form in forms]
    return np.concatenate(drawn), np.cumsum(count) - count, count


def _pen_paths(form: Form, rng: np.random.Generator) -> list[Floats]:
    """The strokes of one form in _HANDS hands, each (_HANDS, points, 2), as (x, y).

    Strokes that meet in a control point go on meeting: it moves for both.
    """
    corners = sorted({point for stroke in form for point in stroke})
    shape = (_HANDS, len(corners), 2)
    moved = np.array(corners) / 100 - 0.5 + 0.07 * _bell(rng, shape)
    at = {point: index for index, point in enumerate(corners)}
    return [_smooth(moved[:, [at[point] for point in stroke]]) for stroke in form]


def _smooth(points: NDArray[np.float64], pieces: int = 4) -> Floats:
    """A Catmull-Rom curve through the points (V, n, 2), as a polyline of `pieces` per span."""
    closed = bool((points[:, 0] == points[:, -1]).all())
    before = points[:, -2 if closed else 0, None]
    after = points[:, 1 if closed else -1, None]
    p0 = np.concatenate([before, points[:, :-2]], axis=1)[:, :, None]
    p1, p2 = points[:, :-1, None], points[:, 1:, None]
    p3 = np.concatenate([points[:, 2:], after], axis=1)[:, :, None]
    t = (np.arange(pieces) / pieces)[:, None]
    curve = (p2 - p0 + (2 * p0 - 5 * p1 + 4 * p2 - p3 + (3 * (p1 - p2) + p3 - p0) * t) * t) * t
    curve = (p1 + 0.5 * curve).reshape(len(points), -1, 2)
    whole: NDArray[Any] = np.concatenate([curve, points[:, -1:]], axis=1)
    return whole.astype(np.float32)


def _distance(strokes: list[Floats]) -> Floats:
    """Distance of each grid point to the nearest stroke, (V, _GRID, _GRID)."""
    axis = (np.arange(_GRID) / (_GRID - 1) * 2 * _REACH - _REACH).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    nearest = np.full((_HANDS, _GRID, _GRID), 9, np.float32)
    for stroke in strokes:
        for start, end in zip(stroke.swapaxes(0, 1)[:-1], stroke.swapaxes(0, 1)[1:], strict=True):
            along = (end - start)[:, :, None, None]
            from_x, from_y = x - start[:, 0, None, None], y - start[:, 1, None, None]
            length2 = along[:, 0] * along[:, 0] + along[:, 1] * along[:, 1] + np.float32(1e-9)
            t = (from_x * along[:, 0] + from_y * along[:, 1]) / length2
            np.clip(t, 0, 1, out=t)
            from_x, from_y = from_x - t * along[:, 0], from_y - t * along[:, 1]
            np.minimum(nearest, from_x * from_x + from_y * from_y, out=nearest)
    return np.sqrt(nearest)


def _ink(fields: Floats, which: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One image (28, 28) from each of the fields `which` (B,), under a random map and pen."""
    count = len(which)

    def around(middle: float, spread: float) -> Floats:  # (B, 1, 1)
        return (middle + spread * _bell(rng, (count, 1, 1))).astype(np.float32)

    height, width = around(18, 2.2), around(20, 5)  # pixels for a length of 1
    slant, tilt, bend, taper = around(0.12, 0.45), around(0, 0.2), around(0, 0.5), around(0, 0.4)
    pixel = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    row = (pixel[:, None] - around(0, 1.2)) / height
    column = (pixel[None, :] - around(0, 1.2)) / width
    y = row + tilt * column
    x = column + slant * row + bend * (row * row - np.float32(0.1)) + taper * row * column
    distance = _look_up(fields, which, x, y) * height
    thickness, softness = around(1.25, 0.85), around(1.3, 0.6)
    ink = np.clip((thickness - distance) / softness + np.float32(0.5), 0, 1)
    grey: NDArray[np.uint8] = (ink * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return grey


def _look_up(fields: Floats, which: NDArray[np.int64], x: Floats, y: Floats) -> Floats:
    """The fields `which` (B,) at the points x, y (B, 28, 28), interpolated linearly."""
    to_grid = np.float32((_GRID - 1) / (2 * _REACH))
    x = np.clip((x + np.float32(_REACH)) * to_grid, 0, np.float32(_GRID - 1.001))
    y = np.clip((y + np.float32(_REACH)) * to_grid, 0, np.float32(_GRID - 1.001))
    left, top = x.astype(np.int64), y.astype(np.int64)
    x, y = x - left.astype(np.float32), y - top.astype(np.float32)
    corner = (which[:, None, None] * _GRID + top) * _GRID + left
    flat = fields.reshape(-1)
    upper, lower = flat.take(corner), flat.take(corner + _GRID)
    upper += x * (flat.take(corner + 1) - upper)
    lower += x * (flat.take(corner + _GRID + 1) - lower)
    upper += y * (lower - upper)
    return upper


def _bell(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Random numbers in (-1, 1), most near 0: three dice rather than a Gaussian.

    The Gaussian would need the machine's own exp and log, whose last bits differ.
    """
    return (rng.random(shape) + rng.random(shape) + rng.random(shape)) / 1.5 - 1
