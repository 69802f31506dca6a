"""How do the learning rate and beta change while a model trains?

Large steps find the right region, small ones the lowest point in it: the learning rate may fall, as
one of three schedules says. And it may rise at first, while an optimizer does not know the
gradients yet. Beta may begin at 0, so that z learns to carry something before it has to pay for it:
one remedy for posterior collapse (Bowman et al. 2016, section 3.1).

The rate of a step is learning_rate * schedule * ramp: a schedule falls from the beginning, also
while the ramp still rises. Time is told in epochs: 2.5 is the middle of the third.
Next: training.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def constant(share: float) -> float:
    """1, whatever share of the training is done."""
    return 1.0


def cosine(share: float) -> float:
    """From 1 to 0 along half a wave (Loshchilov and Hutter 2017, eq. 5, without restarts)."""
    return (1 + math.cos(math.pi * share)) / 2


def step(share: float) -> float:
    """1, a tenth from half of the training on, a hundredth from three quarters on."""
    if share < 0.5:
        return 1.0
    return 0.1 if share < 0.75 else 0.01


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


def ramp(time: float, length: float) -> float:
    """From 0 to 1 in a straight line, in `length` epochs; at once, if that is 0."""
    return min(1.0, time / length) if length else 1.0
