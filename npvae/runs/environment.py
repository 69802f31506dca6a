"""What decides the last digits of a run, besides its settings? Every run records it."""

from __future__ import annotations

import ctypes
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from npvae import __version__, fast
from npvae.fast.threads import cores


def versions(backend: str = "auto", ranks: int = 1) -> dict[str, str]:
    """Versions and machine, by name. Where all are equal, runs of equal settings are bit-identical.

    Where one differs, the last digits may differ. `ranks` processes train together, see mpi.py.
    """
    found = {"npvae": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    trains = "numpy" if fast.why_not(backend) else "engine"
    return {**found, "backend": trains, "blas": blas(), "cores": str(cores()), "ranks": str(ranks)}


def blas() -> str:
    """What computes NumPy's products, for which processor, and with how many threads."""
    openblas = Path(np.__file__).parent.parent / "numpy.libs"  # its place in NumPy's wheels
    for library in openblas.glob("*openblas*"):
        name = call_openblas(library, "get_corename64_", ctypes.c_char_p)
        threads = call_openblas(library, "get_num_threads64_", ctypes.c_int)
        if name:
            return f"OpenBLAS {name.decode()}, {threads} thread{'s' * (threads != 1)}"
    return "unknown"


def call_openblas(library: Path, name: str, result: Any) -> Any:
    """What a function of OpenBLAS returns, under one of its two names, or None."""
    for prefix in ("scipy_openblas_", "openblas_"):
        try:
            function = getattr(ctypes.CDLL(str(library)), prefix + name)
        except (AttributeError, OSError):
            continue
        function.restype = result
        return function()
    return None
