"""How is a model saved, loaded, copied and printed? `StoredModel` is the part of VAE that does it.

A model is its `settings`, plain data from which the class builds the same network, and its
`parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npvae.core.errors import CheckpointError
from npvae.core.parameters import Array, FixedAttributes, NamedArrays, parameter_shapes
from npvae.core.validation import check_network
from npvae.storage import checkpoint
from npvae.storage.header import is_header

Labels: TypeAlias = NDArray[np.uint8]
Model = TypeVar("Model", bound="StoredModel")


class StoredModel(FixedAttributes):
    """A network that can be saved, loaded, copied, pickled and printed.

    Its parts refer to each other, so they stay; other numbers can be assigned to `parameters`,
    `gradients` and the arrays of a layer: they are copied.
    """

    fixed = (
        *("input_dim", "hidden_dims", "latent_dim", "activation", "dtype", "num_classes"),
        *("parameters", "gradients", "layers"),
        *("encoder", "to_mu", "to_log_var", "decoder", "to_logits"),
    )

    input_dim: int
    hidden_dims: tuple[int, ...]
    latent_dim: int
    activation: str
    dtype: Any  # an np.dtype, float32 or float64
    num_classes: int
    parameters: NamedArrays
    gradients: NamedArrays

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        activation: str,
        dtype: DTypeLike,
        num_classes: int,
    ) -> None:
        """The settings, and parameters and gradients of their shapes: zeros to begin with."""
        check_network(input_dim, hidden_dims, latent_dim, dtype, num_classes)
        self.input_dim, self.latent_dim = int(input_dim), int(latent_dim)
        self.hidden_dims = tuple(int(size) for size in hidden_dims)
        self.activation, self.dtype = activation, np.dtype(dtype)
        self.num_classes = int(num_classes)
        sizes = self.input_dim, self.hidden_dims, self.latent_dim, self.num_classes
        shapes = parameter_shapes(*sizes)
        self.parameters = NamedArrays(shapes, self.dtype)
        self.gradients = NamedArrays(shapes, self.dtype)

    @property
    def settings(self) -> dict[str, Any]:
        """What it takes to build the same network, as plain data."""
        conditional = {"num_classes": self.num_classes} if self.num_classes else {}
        return {
            "input_dim": self.input_dim,
            "hidden_dims": list(self.hidden_dims),
            "latent_dim": self.latent_dim,
            "activation": self.activation,
            "dtype": self.dtype.name,
            **conditional,
        }

    def classes(self, labels: Labels) -> Labels | None:
        """The labels of images as `encode` takes them: None for a model without classes."""
        return labels if self.num_classes else None

    def in_float64(self: Model) -> Model:
        """A copy in double precision."""
        double = type(self)(**{**self.settings, "dtype": "float64"})
        double.parameters.flat[:] = self.parameters.flat
        return double

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({settings})"

    def __reduce__(self) -> tuple[Any, ...]:  # for copy.deepcopy and pickle
        arrays = dict(self.parameters), dict(self.gradients)
        others = {name: value for name, value in vars(self).items() if name not in self.fixed}
        return _rebuilt, (type(self), self.settings, *arrays), others

    def save(self, path: str | Path) -> None:
        """Write settings and parameters to an .npz file, whole or not at all (OutputError)."""
        checkpoint.save(path, {"model": self.settings}, self.parameters)

    @classmethod
    def load(cls: type[Model], path: str | Path) -> Model:
        """The model in a file, or in a run directory. CheckpointError if it cannot be used."""
        path = checkpoint.file_in(path)
        return cls.from_checkpoint(path, *checkpoint.load(path))

    @classmethod
    def from_checkpoint(
        cls: type[Model], path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> Model:
        """The model in a loaded checkpoint, which may hold more than a model.

        Raises CheckpointError unless all of the header has its form (see header.py), and the
        arrays fit the settings and are finite.
        """
        if not is_header(header):
            checkpoint.refuse(path, "its header is not one that npvae writes")
        try:
            settings: dict[str, Any] = dict(header["model"])
            activation = settings.pop("activation")
            check_network(**settings)
            if len(settings["hidden_dims"]) > len(arrays):  # a million layers in a million bytes
                raise ValueError
            sizes = {name: settings[name] for name in ("input_dim", "hidden_dims", "latent_dim")}
            sizes["num_classes"] = settings.get("num_classes", 0)
            stored = {name: arrays[name] for name in parameter_shapes(**sizes)}
            if any(array.dtype != settings["dtype"] for array in stored.values()):
                raise ValueError
            if any(array.shape != parameter_shapes(**sizes)[n] for n, array in stored.items()):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(
                f"the checkpoint {path} does not hold a VAE: its arrays do not fit its settings.\n"
                "Use another checkpoint, or train again."
            ) from None
        try:
            model = _rebuilt(cls, {**settings, "activation": activation}, stored)
        except ValueError as error:  # such as an activation that layers.py had, and has no more
            raise CheckpointError(
                f"the checkpoint {path} holds a model that this program does not know:\n{error}.\n"
                "Use another checkpoint, or train again."
            ) from None
        if not np.isfinite(model.parameters.flat).all():
            raise CheckpointError(
                f"the checkpoint {path} holds weights that are infinite or not a number.\n"
                "Nothing can be made with them: use another checkpoint, or train again."
            )
        return model


def _rebuilt(
    cls: type[Model],
    settings: Mapping[str, Any],
    parameters: Mapping[str, Array],
    gradients: Mapping[str, Array] | None = None,
) -> Model:
    model = cls(**settings)
    model.parameters.update(parameters)
    model.gradients.update(gradients or {})
    return model
