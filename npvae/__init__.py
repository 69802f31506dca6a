"""npvae: the variational autoencoder one can read, run and trust.

    from npvae import VAE, Adam, load_dataset

The guided tour is `npvae/README.md`; the source starts with `parameters.py` and `losses.py`.

The names below are imported when first used: `import npvae` itself takes a millisecond, so that
`--help` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npvae.datasets import Dataset, load_dataset
    from npvae.losses import Loss
    from npvae.model import VAE
    from npvae.optimizers import SGD, Adam, Adamax, RMSProp

__version__ = "0.1.0"
__all__ = ["SGD", "VAE", "Adam", "Adamax", "Dataset", "Loss", "RMSProp", "load_dataset"]

_HOME = {
    "VAE": "npvae.model",
    "Adam": "npvae.optimizers",
    "Adamax": "npvae.optimizers",
    "RMSProp": "npvae.optimizers",
    "SGD": "npvae.optimizers",
    "Dataset": "npvae.datasets",
    "Loss": "npvae.losses",
    "load_dataset": "npvae.datasets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'npvae' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
