"""npvae: the variational autoencoder that you can read, run and trust.

    from npvae import VAE, Adam, load_dataset

The guided tour is `npvae/README.md`; the source begins with `losses.py`.

The names below are imported at their first use. So `import npvae` takes a millisecond, and every
command can answer `--help` at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npvae.core.errors import (
        CheckpointError,
        DataError,
        DivergedError,
        NpvaeError,
        OptionError,
        OutputError,
    )
    from npvae.datasets import Dataset, load_dataset
    from npvae.gradcheck_vae import check_everything
    from npvae.losses import Loss
    from npvae.model import VAE
    from npvae.optimizers import SGD, Adam, Adamax, RMSProp
    from npvae.plots.image_grid import image_grid, reconstruction_grid, save_png
    from npvae.runs.fit import Epoch, fit

__version__ = "0.1.0"

_HOMES = {
    "npvae.model": ["VAE"],
    "npvae.losses": ["Loss"],
    "npvae.optimizers": ["Adam", "Adamax", "RMSProp", "SGD"],
    "npvae.datasets": ["Dataset", "load_dataset"],
    "npvae.runs.fit": ["Epoch", "fit"],
    "npvae.gradcheck_vae": ["check_everything"],
    "npvae.plots.image_grid": ["image_grid", "reconstruction_grid", "save_png"],
    "npvae.core.errors": [
        *("NpvaeError", "OptionError", "DataError"),
        *("CheckpointError", "DivergedError", "OutputError"),
    ],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "SGD", "VAE", "Adam", "Adamax", "CheckpointError", "DataError", "Dataset", "DivergedError",
    "Epoch", "Loss", "NpvaeError", "OptionError", "OutputError", "RMSProp", "check_everything",
    "fit", "image_grid", "load_dataset", "reconstruction_grid", "save_png",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'npvae' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
