"""What decides the last bits of a run, besides its settings? A run keeps this, to be told apart."""

from __future__ import annotations

import ctypes
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from npvae import __version__
from npvae.fast.threads import cores


def versions() -> dict[str, str]:
    """By name. Where all are equal, so are the bits; where one is not, they may differ."""
    found = {"npvae": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return {**found, "blas": blas(), "cores": str(cores())}


def blas() -> str:
    """What computes NumPy's products, for which processor, and with how many threads."""
    openblas = Path(np.__file__).parent.parent / "numpy.libs"  # where the wheels have it
    for library in openblas.glob("*openblas*"):
        name = asked(library, "get_corename64_", ctypes.c_char_p)
        threads = asked(library, "get_num_threads64_", ctypes.c_int)
        if name:
            return f"OpenBLAS {name.decode()}, {threads} thread{'s' * (threads != 1)}"
    return "unknown"


def asked(library: Path, question: str, answer: Any) -> Any:
    """What a function of OpenBLAS returns, under either of its names; None if it has neither."""
    for prefix in ("scipy_openblas_", "openblas_"):
        try:
            function = getattr(ctypes.CDLL(str(library)), prefix + question)
        except (AttributeError, OSError):
            continue
        function.restype = answer
        return function()
    return None
