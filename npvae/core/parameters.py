"""The one data structure of this package: arrays with names that share one flat buffer.

A network needs its parameters as matrices with names, an optimizer as one long row of numbers.
`parameters["encoder.mu.W"]` is a matrix, `parameters.flat` is the row; both are the same memory.
Layers hold these matrices, too. So whatever holds them keeps them: what is assigned is copied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]  # of floats, unless said otherwise
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Held = TypeVar("Held")  # an array, or named arrays
Self = TypeVar("Self", bound="FixedNames[Any]")


class FixedAttributes:
    """Attributes that others share: once set they stay, and assigning copies numbers into them.

    Raises AttributeError if it holds no numbers, and TypeError or ValueError if these do not fit,
    before anything has changed.
    """

    fixed: ClassVar[Collection[str] | None] = None  # the names of these attributes; None: all

    def __setattr__(self, name: str, value: Any) -> None:
        held = vars(self).get(name, value)
        if held is value or not self._is_fixed(name):
            super().__setattr__(name, value)
        elif isinstance(held, np.ndarray | FixedNames):
            write(held, fitting(held, name, value, whole=True))
        else:
            self._refuse_to_replace(name)

    def __delattr__(self, name: str) -> None:
        if self._is_fixed(name):
            self._refuse_to_replace(name)
        super().__delattr__(name)

    def _refuse_to_replace(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{name} is fixed, because other parts were built with it: make a new model.\n"
            "Weights can be assigned: vae.to_mu.W = W or vae.parameters = other.parameters"
        )

    def _is_fixed(self, name: str) -> bool:
        return self.fixed is None or name in self.fixed


class FixedNames(dict[str, Held]):
    """A dict whose names and objects stay: assigning to a name copies numbers into its object."""

    def __setitem__(self, name: str, value: Any) -> None:
        write(self[name], fitting(self[name], name, value))

    def update(self, *others: Any, **named: Any) -> None:
        """Assign to several names at once; to none of them if one does not fit."""
        write(self, fitting(self, "update", dict(*others, **named)))

    def __ior__(self: Self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            "these names are fixed, because layers and optimizers use the same arrays.\n"
            "For other names make a dict: {name: array for name, array in parameters.items()}"
        )

    __delitem__ = pop = popitem = clear = setdefault = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)  # for copy.deepcopy and pickle


def fitting(held: Any, name: str, value: Any, whole: bool = False) -> Any:
    """Copies of the numbers that are to be written: an array or one number, or a dict of such.

    Raises KeyError, TypeError or ValueError if they do not fit; with `whole`, if a name is missing.
    """
    if isinstance(held, np.ndarray):
        array = np.array(value)  # a copy, because the value may be a part of what is written to
        if array.shape not in ((), held.shape):  # NumPy would repeat (H, 1) to fill (H, Z)
            raise ValueError(f"{name} has shape {held.shape}, not {array.shape}")
        if not np.can_cast(array.dtype, held.dtype, "same_kind"):
            raise TypeError(f"{name} holds {held.dtype}, not {array.dtype}")
        return array
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name} holds arrays by name: assign a mapping, not {type(value).__name__}. "
            "For one row of numbers there is `flat`."
        )
    if whole and value.keys() != held.keys():
        raise ValueError(f"{name} needs all its names at once. To assign to some, use update.")
    return {n: fitting(held[n], n, part, whole) for n, part in value.items()}


def write(held: Any, fitted: Any) -> None:
    """Write what `fitting` returned."""
    if isinstance(held, np.ndarray):
        held[...] = fitted
    else:
        for name, part in fitted.items():
            write(held[name], part)


class NamedArrays(FixedAttributes, FixedNames[Array]):
    """Arrays by name, each a view of `flat`, in the order of `shapes`; zeros to begin with.

    Assigning to a name writes into the buffer: `parameters["encoder.mu.b"] = 0` keeps the view, and
    so does `b = parameters["encoder.mu.b"]; b -= 1`, which changes `flat` too.
    """

    def __init__(self, shapes: Shapes, dtype: DTypeLike) -> None:
        super().__init__()
        self.flat: Array = np.zeros(sum(prod(shape) for shape in shapes.values()), dtype)
        start = 0
        for name, shape in shapes.items():
            stop = start + prod(shape)
            dict.__setitem__(self, name, self.flat[start:stop].reshape(shape))
            start = stop

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every array, in their order."""
        return {name: array.shape for name, array in self.items()}

    def __repr__(self) -> str:
        lines = [f"  {name:20} {shape}" for name, shape in self.shapes.items()]
        count = f"{self.flat.size:,} numbers of {self.flat.dtype}"
        return "\n".join([f"NamedArrays of {count}:", *lines])

    def copy(self) -> NamedArrays:
        """The same names and numbers in a buffer of their own."""
        return _restored(self.shapes, self.flat)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.shapes, self.flat)


def _restored(shapes: Shapes, flat: Array) -> NamedArrays:
    arrays = NamedArrays(shapes, flat.dtype)
    arrays.flat[:] = flat
    return arrays
