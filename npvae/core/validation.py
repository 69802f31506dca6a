"""What the public methods of the model are given is checked here, so that mistakes are not silent.

Images scaled to [-1, 1], bytes that nobody divided by 255, a forgotten reshape: with each of them a
VAE trains without complaint and is worthless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npvae.core.architecture import parameter_shapes
from npvae.core.errors import CheckpointError
from npvae.core.parameters import Array, NamedArrays
from npvae.layers import ACTIVATIONS

Shape: TypeAlias = tuple[int, ...]


def checked(
    values: ArrayLike,
    name: str,
    columns: int,
    dtype: DTypeLike,
    rows: int | None = None,
    pixels: bool = False,
) -> Array:
    """`values` as a C-contiguous (rows, columns) array of dtype, the input itself unchanged.

    Raises ValueError on another shape, an empty batch, NaN or infinity, or, where `pixels` are
    asked for, anything but floats in [0, 1].
    """
    array = np.asarray(values)
    if array.dtype.kind not in ("f" if pixels else "fiu"):
        hint = ": divide bytes by 255 first" if array.dtype.kind in "iu" else ""
        raise ValueError(f"{name} must hold floats, not {array.dtype}{hint}")
    expected = f"({'B' if rows is None else rows}, {columns})"
    if array.ndim != 2 or array.shape[1] != columns or (rows is not None and len(array) != rows):
        raise ValueError(f"{name} must have shape {expected}, not {array.shape}")
    if len(array) == 0:
        raise ValueError(f"{name} is an empty batch: it must hold at least one row")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if pixels and not (low >= 0 and high <= 1):
        raise ValueError(f"{name} must hold pixels in [0, 1], not from {low:g} to {high:g}")
    if max(-low, high) > float(np.finfo(dtype).max):
        raise ValueError(f"{name} holds numbers too large for {np.dtype(dtype)}")
    return np.require(array, dtype, ["C", "W"])


def check_images(images: object) -> None:
    """Raises ValueError unless these are images as datasets hold them: bytes (N, ...), N > 0.

    Pixels in [0, 1] would be divided by 255 once more, and nothing would show it.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise ValueError(f"images must be an array of bytes (uint8), 0 to 255, not {kind}")
    if images.ndim < 2 or len(images) == 0:
        raise ValueError(f"images must have shape (N, ...), N > 0, not {images.shape}")


def check_parameters(
    parameters: NamedArrays, shapes: Mapping[str, Shape], dtype: DTypeLike
) -> None:
    """Raises ValueError unless these are the parameters of a model of these shapes and dtype."""
    if parameters.shapes != shapes or parameters.flat.dtype != dtype:
        raise ValueError("parameters must have the names, shapes and dtype of the model's own")


def check_beta(beta: float) -> None:
    """Raises ValueError unless beta is a weight."""
    if not 0 <= beta < float("inf"):
        raise ValueError(f"beta must be a finite number, 0 or more, not {beta}")


def check_shapes(x: Array, x_shape: Shape, epsilon: Array, epsilon_shape: Shape) -> None:
    """Raises ValueError for arrays of other shapes: compiled loops would read beyond their ends."""
    for name, array, shape in (("x", x, x_shape), ("epsilon", epsilon, epsilon_shape)):
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")


def check_settings(
    input_dim: int,
    hidden_dims: Sequence[int],
    latent_dim: int,
    activation: str,
    dtype: DTypeLike,
) -> None:
    """Raises ValueError unless a VAE can be built from these."""
    if not isinstance(hidden_dims, Sequence) or not hidden_dims:
        raise ValueError(f"hidden_dims must be a sequence such as (128,), not {hidden_dims!r}")
    for size in (input_dim, *hidden_dims, latent_dim):
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"sizes must be whole numbers above 0, not {size!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    try:
        known = np.dtype(dtype) in (np.float32, np.float64)
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"dtype must be float32 or float64, not {dtype}")


def validate_checkpoint(
    path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, Array]
) -> dict[str, Any]:
    """The settings of the model in a checkpoint.

    Raises CheckpointError unless the arrays fit them, and hold numbers.
    """
    try:
        settings: dict[str, Any] = header["model"]
        check_settings(**settings)
        if len(settings["hidden_dims"]) > len(arrays):  # a million layers in a million bytes
            raise ValueError
        sizes = {name: settings[name] for name in ("input_dim", "hidden_dims", "latent_dim")}
        shapes = parameter_shapes(**sizes)
        fits = all(
            arrays[name].shape == shape and arrays[name].dtype == settings["dtype"]
            for name, shape in shapes.items()
        )
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"the checkpoint {path} does not hold a VAE: its arrays do not fit its settings.\n"
            "Use another one, or train again."
        )
    if not all(np.isfinite(arrays[name]).all() for name in shapes):
        raise CheckpointError(
            f"the checkpoint {path} holds weights that are infinite or no numbers at all.\n"
            "Nothing can be made with them: use another one, or train again."
        )
    return settings
