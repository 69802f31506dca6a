"""What can one train on without a single file? Digits that this program writes itself.

    written forms -> pen paths with random control points     a few dozen per digit
                  -> distance of each grid point to the path  one field per pen path
                  -> ink of each pixel                        one field under a random map per image

    ink = clip((thickness - distance) / softness + 0.5, 0, 1)

Only + - * / sqrt and comparisons are used, which IEEE 754 rounds in one way: equal seeds give equal
bytes on every machine.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.dataset import SIDE, Dataset

Floats = NDArray[np.float32]
Form = list[list[tuple[float, ...]]]  # the strokes of a digit, each a list of points

# How the ten digits are written: each in a few forms, each form a few strokes of the pen. A stroke
# is a smooth curve through its points x,y (to the right and down, in a square of 100); one that
# ends where it began is closed. Corners are where one stroke ends and the next begins.
_FORMS = """
0  52,2 32,14 23,50 32,86 50,98 68,86 77,50 70,14 52,2
0  60,8 44,4 26,26 24,64 42,96 66,88 78,52 70,16 48,8
1  50,2 50,50 50,98
1  32,22 44,14 53,2 / 53,2 53,50 53,98
1  32,20 52,2 / 52,2 52,97 / 30,97 52,97 74,97
2  24,28 30,10 50,2 70,10 74,30 58,58 24,96 / 24,96 50,95 80,95
2  24,24 36,6 60,4 74,22 64,48 40,78 26,92 18,82 30,74 46,84 62,96 84,90
3  24,14 46,2 70,12 68,34 42,46 / 42,46 70,54 76,76 56,97 34,96 20,84
3  24,5 50,5 74,5 / 74,5 46,40 / 46,40 72,50 76,76 54,97 34,96 20,86
4  28,4 26,30 22,54 / 22,54 50,54 80,54 / 68,6 66,50 62,98
4  60,2 38,36 18,66 / 18,66 50,66 84,66 / 60,2 60,50 60,98
5  76,4 54,4 32,4 / 32,4 28,44 / 28,44 52,38 74,52 75,78 52,97 22,90
5  80,6 58,6 36,8 / 36,8 32,26 38,42 60,52 72,70 64,90 42,98 20,90
6  66,4 42,24 26,58 31,87 52,98 72,84 70,62 50,53 28,68
6  58,2 36,40 24,74 40,97 64,94 74,74 58,58 36,64 25,80
7  20,6 50,6 80,5 / 80,5 58,46 44,98
7  20,6 50,6 80,5 / 80,5 58,46 44,98 / 36,52 74,48
7  22,22 22,8 / 22,8 50,8 78,4 / 78,4 66,38 52,98
8  70,16 50,2 30,14 34,34 52,48 72,66 70,88 50,98 28,88 28,68 48,50 68,34 70,16
8  50,46 30,36 30,12 50,2 70,12 70,36 50,46 / 50,46 26,58 26,88 50,98 74,88 74,58 50,46
9  74,24 54,3 30,14 26,38 46,52 68,42 74,24 / 74,24 72,60 68,98
9  72,20 52,3 28,16 30,42 54,50 72,34 74,22 75,60 66,88 44,98 26,88
"""

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
    digits, forms = zip(*(line.split("  ") for line in _FORMS.split("\n")[1:-1]), strict=True)
    count = _HANDS * np.bincount(np.array(digits, np.int64))
    drawn = [_distance(_pen_paths(_strokes(form), rng)) for form in forms]
    return np.concatenate(drawn), np.cumsum(count) - count, count


def _strokes(form: str) -> Form:
    return [
        [tuple(map(float, point.split(","))) for point in stroke.split()]
        for stroke in form.split("/")
    ]


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
