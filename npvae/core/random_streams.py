"""One seed, several independent streams of random numbers.

Each stream of each epoch has a generator of its own, seeded with (seed, stream, epoch). So equal
seeds give equal runs, and a run can be resumed after any epoch without a saved generator.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for."""

    WEIGHTS = 0
    TRAINING = 1
    TESTING = 2
    SAMPLES = 3
    VALIDATION_SPLIT = 4
    WARPS = 5
    VALIDATION = 6


def generator(seed: int, stream: Stream, epoch: int = 0) -> np.random.Generator:
    """The generator of one stream, in one epoch where that matters."""
    return np.random.default_rng([seed, stream, epoch])
