"""What compiled code is given: a record of numbers, and of where arrays lie.

Numba could take a tuple of arrays. But then each function would have each of their lengths and
strides for an argument, some two hundred, which takes longer to compile.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.fast.blas import find_blas

FLOAT = "the network's dtype"
INTEGER, REAL, BYTE = np.int64, np.float64, np.uint8

# P parameters in L layers, S shares, N images in batches of up to B.
ARRAYS: dict[str, Any] = {
    "layers": INTEGER,  # (L + 1, 6), see engine.layer_table; z counts as the output of a last layer
    "parameters": FLOAT,  # (P,)
    "busy": INTEGER,  # (1,) whether somebody uses the engine
    # the optimizer
    "settings": REAL,  # (3,)
    "t": INTEGER,  # (1,) steps so far
    "state1": FLOAT,  # (P,)
    "state2": FLOAT,  # (P,) the rest of it, if there is more
    # the images of n indices in batches, with all that is random or scheduled about them
    "images": BYTE,  # (N, D)
    "labels": BYTE,  # (N,) classes, if the network has inputs for them
    "indices": INTEGER,  # (n,)
    "epsilon": FLOAT,  # (n, Z)
    "warps": REAL,  # (n, 2, 3), or of length 0
    "beta": REAL,  # (batches,)
    "learning_rate": REAL,  # (batches,), or of length 0: nothing is learned
    "bce": REAL,  # (batches,) results, means over the batch; NaN before
    "kl": REAL,  # (batches,)
    # what the shares exchange
    "turns": INTEGER,  # (S + 2, 8) see turns.py
    "h": FLOAT,  # (B * all outputs,) y = inputs @ W + b of each layer, then h = activation(y)
    "d": FLOAT,  # (B * all outputs,) d_h of each layer, then d_y
    "y_first": FLOAT,  # (S, B * H) parts of x @ W of the first layer
    "d_h_last": FLOAT,  # (S, B * H) parts of d_h of the last hidden layer
    "losses": REAL,  # (S, 8) sums of bce and kl; a cache line for each
    "gradients": FLOAT,  # (S, P) each one's own, its columns of the last layer without gaps
    # what a share has for itself
    "x": FLOAT,  # (S, B * inputs) its pixels; those of the last share are followed by the classes
    "framed": np.float32,  # (S, (side + 2)^2) see warp_pixels
    "logits": FLOAT,  # (S, 2 * BLOCK * pixels) of a block of images, and their gradient
    "cost": FLOAT,  # (S, pixels) see bce_and_gradient
    "own_parameters": FLOAT,  # (S, P) its columns of the last layer, as in gradients
    "own_state1": FLOAT,  # (S, P) their state of the optimizer
    "own_state2": FLOAT,  # (S, P)
}
NUMBERS = (
    *("first", "end", "batch_size"),  # batches `first` to `end` - 1, all of one length
    *("rank", "ranks"),  # this process computes one of so many parts of each batch
    *("activation", "optimizer"),  # their numbers in kernels.py
    *("gemm", "read_threads", "set_threads", "yields"),  # addresses of functions; some may be 0
)


@functools.cache
def record_of(dtype: str) -> np.dtype[np.void]:
    """The record for a network of this dtype."""
    blas = find_blas()
    assert blas is not None, "why_not was not asked"

    def place(number: Any) -> Any:
        """Of an array: rows, numbers in a row, and one such number, so that their type is known."""
        names = "address", "length", "pitch"
        return np.dtype([*((name, np.int64) for name in names), ("like", number)], align=True)

    places = [(name, place(dtype if kind is FLOAT else kind)) for name, kind in ARRAYS.items()]
    numbers = [(name, np.int64) for name in NUMBERS]
    return np.dtype([*places, *numbers, ("size", blas.integer)], align=True)


class Job:
    """A value for each name of the tables; `record` is for compiled code.

    It holds the arrays, because the record says no more than where they are.
    """

    def __init__(self, memory: NDArray[np.uint8], kinds: Any, values: dict[str, Any]) -> None:
        self.memory, self.kinds, self.values = memory, kinds, values
        self.record = memory.view(kinds)  # (1,): Numba takes arrays quickest

    @classmethod
    def of(cls, dtype: str, values: dict[str, Any]) -> Job:
        """A new one. All names must be there."""
        assert not values or values.keys() == {*ARRAYS, *NUMBERS}
        kinds = record_of(dtype)
        return cls(np.zeros(kinds.itemsize, np.uint8), kinds, {}).replace(**values)

    def replace(self, **values: Any) -> Job:
        """The same with other values for these names."""
        job = Job(self.memory.copy(), self.kinds, {**self.values, **values})
        for name, value in values.items():
            if name in ARRAYS:
                number = self.kinds[name]["like"]
                if value.dtype != number or not value.flags.c_contiguous:
                    raise ValueError(f"{name} must be contiguous and of {number}")
                value = value.ctypes.data, len(value), math.prod(value.shape[1:]), 0
            job.record[name] = value
        return job
