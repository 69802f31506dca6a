"""The one data structure of this package: arrays with names that share one flat buffer.

A network needs its parameters as matrices with names, an optimizer as one long row of numbers.
`parameters["encoder.mu.W"]` is a matrix, `parameters.flat` is the row; both are the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]  # of floats, unless said otherwise
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


def parameter_shapes(
    input_dim: int, hidden_dims: Sequence[int], latent_dim: int, num_classes: int = 0
) -> dict[str, tuple[int, ...]]:
    """The name and shape of every parameter of a VAE, in the order in which data flow."""
    encoder = [input_dim + num_classes, *hidden_dims]
    decoder = [latent_dim + num_classes, *reversed(hidden_dims)]
    weights = {
        **{f"encoder.hidden{k}": size for k, size in enumerate(pairwise(encoder))},
        "encoder.mu": (encoder[-1], latent_dim),
        "encoder.log_var": (encoder[-1], latent_dim),
        **{f"decoder.hidden{k}": size for k, size in enumerate(pairwise(decoder))},
        "decoder.logits": (decoder[-1], input_dim),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n_in, n_out) in weights.items():
        shapes |= {f"{name}.W": (n_in, n_out), f"{name}.b": (n_out,)}
    return shapes


class NamedArrays(dict[str, Array]):
    """Arrays by name, each a view of `flat`, in the order of `shapes`; zeros to begin with.

    Assigning to a name writes into the buffer: `parameters["encoder.mu.b"] = 0` keeps the view, and
    so does `b = parameters["encoder.mu.b"]; b -= 1`, which changes `flat` too.
    """

    def __init__(self, shapes: Shapes, dtype: DTypeLike) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.flat: Array = np.zeros(sum(prod(shape) for shape in shapes.values()), dtype)
        start = 0
        for name, shape in shapes.items():
            stop = start + prod(shape)
            super().__setitem__(name, self.flat[start:stop].reshape(shape))
            start = stop

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        self[name][...] = self._fitting(name, value)

    def update(self, *others: Any, **named: ArrayLike) -> None:
        """Assign to several names at once; to none of them if one does not fit."""
        values = dict(*others, **named)
        for name, array in {n: self._fitting(n, value) for n, value in values.items()}.items():
            self[name][...] = array

    def _fitting(self, name: str, value: ArrayLike) -> Array:
        """A number or an array of the shape of `name`: NumPy would repeat (H, 1) to fill (H, Z)."""
        array = np.asarray(value)
        if array.shape not in ((), self[name].shape):
            raise ValueError(f"{name} has shape {self[name].shape}, not {array.shape}")
        return array

    def __ior__(self, other: Any) -> NamedArrays:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __repr__(self) -> str:
        lines = [f"  {name:20} {shape}" for name, shape in self.shapes.items()]
        count = f"{self.flat.size:,} numbers of {self.flat.dtype}"
        return "\n".join([f"NamedArrays of {count}:", *lines])

    def copy(self) -> NamedArrays:
        """The same names and numbers in a buffer of their own."""
        return _restored(self.shapes, self.flat)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.shapes, self.flat)  # for copy.deepcopy and pickle


def _restored(shapes: Shapes, flat: Array) -> NamedArrays:
    arrays = NamedArrays(shapes, flat.dtype)
    arrays.flat[:] = flat
    return arrays
