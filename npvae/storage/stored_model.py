"""How does a model become a checkpoint, and a checkpoint a model?

A model is its `settings`, plain data from which its class builds the same network, and its
`parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from npvae.core.errors import CheckpointError
from npvae.core.network import Network, rebuilt
from npvae.core.parameters import Array
from npvae.storage import checkpoint
from npvae.storage.header import is_header

Model = TypeVar("Model", bound=Network)


def save(path: str | Path, model: Network) -> None:
    """Write settings and parameters, whole or not at all. Raises OutputError."""
    checkpoint.save(path, {"model": model.settings}, model.parameters)


def load(cls: type[Model], path: str | Path) -> Model:
    """The model in a file, or in a run directory. Raises CheckpointError if it cannot be used."""
    path = checkpoint.file_in(path)
    return from_checkpoint(cls, path, *checkpoint.load(path))


def from_checkpoint(
    cls: type[Model], path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Model:
    """The model in a loaded checkpoint, which may hold more than a model.

    Raises CheckpointError unless all of the header has its form (see header.py), and the arrays
    fit the settings and are finite.
    """
    if not is_header(header):
        checkpoint.refuse(path, "its header is not one that npvae writes")
    try:
        network = Network(**header["model"])
        if len(network.hidden_dims) > len(arrays):  # a million layers in a million bytes
            raise ValueError
        stored = {name: arrays[name] for name in network.shapes}
        if any(array.dtype != network.dtype for array in stored.values()):
            raise ValueError
        if network.shapes != {name: array.shape for name, array in stored.items()}:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"the checkpoint {path} does not hold a VAE: its arrays do not fit its settings.\n"
            "Use another checkpoint, or train again."
        ) from None
    try:
        model = rebuilt(cls, header["model"], stored)
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
