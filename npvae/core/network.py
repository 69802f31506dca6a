"""What is a network besides its formulas? Sizes that are checked, names, copies.

This is bookkeeping, kept out of `model.py` so that only the VAE is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npvae.core.parameters import Array, FixedAttributes, NamedArrays

SETTINGS = ("input_dim", "hidden_dims", "latent_dim", "activation", "dtype", "num_classes")
MAX_CLASSES = 256  # a label is one byte

Labels = NDArray[np.uint8]
Self = TypeVar("Self", bound="Network")


class Network(FixedAttributes):
    """The sizes of a VAE; with `parameters` and `gradients` it can be copied, pickled and printed.

    Its parts refer to each other, so they stay; other numbers can be assigned to `parameters`,
    `gradients` and the arrays of a layer: they are copied. Raises ValueError unless a VAE can have
    these sizes and this dtype.
    """

    fixed: ClassVar[Collection[str]] = (*SETTINGS, "parameters", "gradients")

    parameters: NamedArrays
    gradients: NamedArrays
    dtype: Any  # an np.dtype, float32 or float64

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        activation: str,
        dtype: DTypeLike,
        num_classes: int = 0,
    ) -> None:
        if not is_whole(num_classes) or not 0 <= num_classes <= MAX_CLASSES:
            raise ValueError(f"num_classes must be 0 to {MAX_CLASSES}, not {num_classes!r}")
        if not isinstance(hidden_dims, Sequence) or not hidden_dims:
            raise ValueError(f"hidden_dims must be a sequence such as (128,), not {hidden_dims!r}")
        for size in (input_dim, *hidden_dims, latent_dim):
            if not is_whole(size) or size < 1:
                raise ValueError(f"sizes must be whole numbers above 0, not {size!r}")
        with suppress(TypeError):  # no dtype at all
            self.dtype = np.dtype(dtype)
        if getattr(self, "dtype", None) not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, not {dtype}")
        self.input_dim, self.latent_dim = int(input_dim), int(latent_dim)
        self.hidden_dims = tuple(int(size) for size in hidden_dims)
        self.activation, self.num_classes = activation, int(num_classes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every parameter, in the order in which data flow."""
        return parameter_shapes(self.input_dim, self.hidden_dims, self.latent_dim, self.num_classes)

    @property
    def settings(self) -> dict[str, Any]:
        """What it takes to build the same network, as plain data."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        settings |= {"hidden_dims": list(self.hidden_dims), "dtype": self.dtype.name}
        return {name: value for name, value in settings.items() if value != 0}  # no classes

    def classes(self, labels: Labels) -> Labels | None:
        """The labels of images as `encode` takes them: None for a model without classes."""
        return labels if self.num_classes else None

    def in_float64(self: Self) -> Self:
        """A copy in double precision."""
        return rebuilt(type(self), {**self.settings, "dtype": "float64"}, self.parameters)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({settings})"

    def __reduce__(self) -> tuple[Any, ...]:  # for copy.deepcopy and pickle
        arrays = dict(self.parameters), dict(self.gradients)
        others = {name: value for name, value in vars(self).items() if name not in self.fixed}
        return rebuilt, (type(self), self.settings, *arrays), others


def rebuilt(
    cls: type[Self],
    settings: Mapping[str, Any],
    parameters: Mapping[str, Array],
    gradients: Mapping[str, Array] | None = None,
) -> Self:
    """The network with these settings and numbers. Raises ValueError if they cannot be one."""
    network = cls(**settings)
    network.parameters.update(parameters)
    network.gradients.update(gradients or {})
    return network


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


def is_whole(number: object) -> bool:
    """Whether it is an integer of Python or NumPy; True and False are none."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)
