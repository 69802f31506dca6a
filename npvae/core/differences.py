"""What can a central difference of f know, and when can it not judge a gradient?

`gradcheck.check` asks here. The answers come from evaluations of f alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from npvae.core.parameters import Array

Function: TypeAlias = Callable[[], float]  # it reads theta, which we change in place


@contextmanager
def put_back(theta: Array) -> Iterator[None]:
    """Afterwards theta holds the same bits as before, whatever happens."""
    before = theta.copy()
    try:
        yield
    finally:
        theta[...] = before


def number(what: str, f: Callable[[], object]) -> float:
    """f(). Raises ValueError unless it is one number, of 16 digits."""
    value = f()
    array = np.asarray(value)
    if array.shape:
        raise ValueError(
            f"{what}: f returns an array {array.shape}.\n"
            "It must return one number, such as the sum of d_h * h."
        )
    if array.dtype != float and array.dtype.kind not in "iu":
        kind = type(value).__name__ if array.dtype == object else array.dtype
        raise ValueError(f"{what}: f must return a number of float64, not {kind}")
    return float(array)


def matching(what: str, theta: object, analytic: ArrayLike, step: float) -> Array:
    """A copy of the gradient. Raises ValueError unless it and theta can be compared."""
    if not isinstance(theta, np.ndarray):
        kind = type(theta).__name__
        raise ValueError(f"{what}: theta must be the array of float64 that f reads, not a {kind}")
    gradient = np.array(analytic)
    for name, array in (("theta", theta), ("the gradient", gradient)):
        if array.dtype != float and (array is theta or array.dtype.kind not in "biu"):
            raise ValueError(
                f"{what}: {name} must be float64, not {array.dtype}: differences need its 16 "
                "digits.\nCall astype(float) on all that f and backward read."
            )
    if gradient.shape != theta.shape:
        raise ValueError(f"{what}: gradient {gradient.shape} for an array {theta.shape}")
    if theta.size == 0:
        raise ValueError(f"{what}: theta is empty, {theta.shape}: there is nothing to check")
    if not theta.flags.writeable:
        raise ValueError(
            f"{what}: theta is read-only, but every entry has to be moved a little.\n"
            "Call theta.copy(), and let f read this copy."
        )
    largest = np.abs(theta).max()
    if not largest <= 1e6:
        raise ValueError(
            f"{what}: theta holds {largest:.3g}, where a step of {step:g} is lost in rounding.\n"
            "Scale theta, or move it: 1e6 is the most."
        )
    return gradient


def first_look(f: Function, theta: Array, step: float) -> tuple[float, str]:
    """The rounding error of a central difference of f; or words: why f has no differences at all.

    Along a path so short that f is straight, its second differences are nothing but rounding. They
    show it where |f| does not: where large terms of f cancel. Each point is visited twice.
    """
    start, values = theta.copy(), np.empty((16, 2))
    direction = np.random.default_rng(0).uniform(-1, 1, theta.shape)
    for k, visit in np.ndindex(values.shape):
        point = start + (step + 1e-12 * k * (1 + np.abs(start))) * direction
        theta[...] = point
        values[k, visit] = f()
        if not np.array_equal(theta, point):
            return 0, "f changes theta itself. Let it work on theta.copy()."
    theta[...] = start
    if not np.isfinite(values).all():
        return 0, "f is not finite near theta: a logarithm of 0, an overflow, a division by 0?"
    once, again = values.T
    if (np.abs(once - again) > 1e-12 * np.abs(once)).any():
        k = int(np.abs(once - again).argmax())
        return 0, (
            f"f is random: at one theta it returns {once[k]:.8g} and then {again[k]:.8g}.\n"
            "Draw its noise once, outside of f."
        )
    noise = float(np.median(np.abs(np.diff(once, 2))))  # 1.7 standard deviations
    return 8 * max(noise, np.finfo(float).eps * np.abs(once).max()) / (2 * step), ""


def excused(rounding: float, analytic: Array, numeric: Array) -> float:
    """How much of it may pass: all if the gradient is 0, else at most 0.01 % of its largest."""
    if np.abs(analytic).max() <= rounding / 100:
        return rounding
    return min(rounding, 1e-4 * float(np.abs(numeric).max()))


def closer_look(
    f: Function,
    theta: Array,
    analytic: Array,
    numeric: Array,
    allowed: float,
    rounding: float,
    step: float,
) -> tuple[Array, str]:
    """Better differences, where they are off by more than allowed; or words: why there are none.

    The worst entry comes first. Without words, what is still off is a wrong gradient.
    """
    better, errors = numeric.copy(), np.abs(analytic - numeric)
    errors = np.where(np.isnan(errors), np.inf, errors)
    if not numeric.any() and errors.max() > rounding:
        return better, "f does not change with theta: does it read this very array, or round it?"
    for k in np.argsort(-errors, axis=None):
        at = index(int(k), theta)
        if errors[at] <= allowed:
            break
        if errors[at] <= rounding:
            return better, (
                f"the rounding of f, {rounding:.0e} in a difference, hides what it shows at {at}.\n"
                "Omit from f what does not depend on theta, or scale theta."
            )
        derivative, why = of_entry(f, theta, at, float(analytic[at]), rounding, step)
        if why or not abs(analytic[at] - derivative) <= allowed:
            return better, why
        better[at] = derivative
    return better, ""


def of_entry(
    f: Function, theta: Array, at: tuple[int, ...], by_hand: float, rounding: float, step: float
) -> tuple[float, str]:
    """The derivative for one entry, from smaller steps; or words: why there is none.

    We zoom in to where the slope of f changes most, five times closer each time. The change of a
    smooth f falls to a fifth, too. That of a kink stays, and that of a jump grows fivefold.
    """
    value = float(theta[at])

    def values(points: Array) -> Array:
        found = []
        for point in points:
            theta[at] = point
            found.append(f())
        theta[at] = value
        return np.array(found)

    changes: list[float] = []
    low, high = value - 1.25 * step, value + 1.25 * step
    for _ in range(4):
        points = np.linspace(low, high, 11)
        heights = values(points)
        if not np.isfinite(heights).all():
            return np.nan, f"f is not finite {step:g} from entry {at}: move theta away."
        slopes = np.diff(heights) / np.diff(points)
        if not changes:
            least, most = slopes.min(), slopes.max()
        bends = np.abs(np.diff(slopes))
        k = int(bends.argmax())
        changes.append(float(bends[k]))
        low, middle, high = points[k : k + 3]
    jump = changes[-1] * (high - middle)
    plausible = least - 1e-3 * changes[-1] <= by_hand <= most + 1e-3 * changes[-1]
    if jump > 2 * step * rounding and changes[-1] > 10 * changes[0]:
        return np.nan, (
            f"f jumps by {jump:.0e} near entry {at}, where it has no derivative.\n"
            "Does it round, compare, or compute in float32?"
        )
    if jump > 2 * step * rounding and changes[-1] > 0.1 * changes[0] and plausible:
        left, right = heights - slopes[0] * points, heights - slopes[-1] * points
        kink = (right[-1] - left[0]) / (slopes[0] - slopes[-1])  # where these two lines meet
        distance = abs(kink - value)
        if distance <= step:
            return np.nan, (
                f"f has a kink {round(distance, 12):.2g} from entry {at}; the step is {step:g}.\n"
                "So there is no derivative to compare with: move theta away."
            )
    h = step / np.array([8, 16])
    coarse, fine = (values(value + h) - values(value - h)) / ((value + h) - (value - h))
    if abs(fine - coarse) > max(0.01 * (most - least), 32 * rounding):
        return np.nan, f"the slope of f at {at} changes too fast for a step of {step:g}."
    return float(4 * fine - coarse) / 3, ""  # without the error of step^2


def index(k: int, theta: Array) -> tuple[int, ...]:
    """The index of the entry number k."""
    return tuple(int(i) for i in np.unravel_index(k, theta.shape))
