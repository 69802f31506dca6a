"""What decides the last digits of a run, besides its settings? Every run records it."""

from __future__ import annotations

import ctypes
import platform
from importlib.metadata import PackageNotFoundError, version

from npvae import __version__, fast
from npvae.fast.blas import find_blas, thread_functions
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
    found, functions = find_blas(), thread_functions()
    for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_"):
        if found and functions and (corename := getattr(found.loaded, name, None)):
            corename.restype = ctypes.c_char_p
            threads = functions[0]()
            return f"OpenBLAS {corename().decode()}, {threads} thread{'s' * (threads != 1)}"
    return "unknown"
