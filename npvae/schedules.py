"""How do the learning rate and beta change while a model trains?

Large steps find the right region, small ones the lowest point in it. So the learning rate may
fall, as one of three schedules says. It may rise at first, while the optimizer does not know the
gradients yet. Beta may begin at 0, so that z learns to carry information before it has to pay for
it: one remedy for posterior collapse (Bowman et al. 2016, section 3.1).

The rate of a step is learning_rate * schedule * ramp. So the schedule falls from the beginning,
even while the ramp still rises. Time is measured in epochs: 2.5 is the middle of the third one.
Next: training.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable


def constant(progress: float) -> float:
    """1, whatever fraction of the training is done."""
    return 1.0


def cosine(progress: float) -> float:
    """From 1 to 0 along half a wave (Loshchilov and Hutter 2017, eq. 5, without restarts)."""
    return (1 + math.cos(math.pi * progress)) / 2


def step(progress: float) -> float:
    """1, then 0.1 from half of the training on, then 0.01 from three quarters on."""
    if progress < 0.5:
        return 1.0
    return 0.1 if progress < 0.75 else 0.01


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


def ramp(time: float, length: float) -> float:
    """From 0 to 1 in a straight line, in `length` epochs; 1 at once if that is 0."""
    return min(1.0, time / length) if length else 1.0


def learning_rate(
    base: float, schedule: str, warmup: float, begin: float, end: float, epochs: float
) -> float:
    """The learning rate of the step from time `begin` to time `end` of a training of `epochs`.

    The schedule is read at the beginning of the step and the warm-up at its end, because a first
    step of length 0 would be wasted. After `epochs` the last rate stays. It is never quite 0.
    """
    factor = SCHEDULES[schedule](min(1.0, begin / epochs)) * ramp(end, warmup)
    return max(base * factor, sys.float_info.min)
