"""Which BLAS does NumPy use, and how do compiled loops and threads get along with it?

A BLAS library multiplies matrices. NumPy always has one: OpenBLAS in its wheels, OpenBLAS, MKL,
Accelerate or the reference BLAS elsewhere. Its C interface, CBLAS, has a function for each dtype,
`cblas_sgemm` and `cblas_dgemm`. Here we find their addresses, so that compiled code can call them.
Nothing is trusted: each function must get a small product right before it is used.

Threads: every worker of the engine multiplies its own matrices, so BLAS must not start threads of
its own. `one_thread` sees to that while the engine runs, and restores the number afterwards.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from npvae.core.parameters import Array

# How the name of a CBLAS function can be spelled, and the integers that it takes. A suffix 64
# stands for integers of 64 bits; "scipy_" is what NumPy's wheels put in front.
SPELLINGS: dict[str, type[np.signedinteger[Any]]] = {
    "scipy_cblas_{}64_": np.int64,
    "cblas_{}64_": np.int64,
    "cblas_{}$NEWLAPACK$ILP64": np.int64,  # Accelerate, since macOS 13.3
    "scipy_cblas_{}": np.int32,
    "cblas_{}": np.int32,
    "cblas_{}$NEWLAPACK": np.int32,
}
GEMM = {"float32": "sgemm", "float64": "dgemm"}  # general matrix product
ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112  # CBLAS's own numbers

# How OpenBLAS, MKL and BLIS read and set the number of their threads.
THREADS = [
    *(
        (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
        for prefix in ("scipy_", "")
        for suffix in ("64_", "")
    ),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
]


class Blas(NamedTuple):
    """A BLAS whose products are right."""

    loaded: ctypes.CDLL  # where its functions are
    gemm: dict[str, int]  # dtype -> address of the function
    integer: type[np.signedinteger[Any]]  # of sizes: int32 or int64


@functools.cache
def find_blas() -> Blas | None:
    """The BLAS that NumPy uses, or None if it cannot be called."""
    for library in libraries():
        for spelling, integer in SPELLINGS.items():
            functions = [getattr(library, spelling.format(name), None) for name in GEMM.values()]
            with suppress(ctypes.ArgumentError, OSError):
                if all(
                    function is not None and multiplies(function, dtype, integer)
                    for function, dtype in zip(functions, GEMM, strict=True)
                ):
                    addresses = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions]  # type: ignore[arg-type]
                    return Blas(library, dict(zip(GEMM, addresses, strict=True)), integer)
    return None


def libraries() -> Iterator[ctypes.CDLL]:
    """Where to look: NumPy's own extension and all it is linked with, then what its wheel brings.

    (Looking into one library finds the functions of those that it needs, except on Windows.)
    """
    package = Path(np.__file__).parent
    modules = (sys.modules.get(f"numpy.{core}._multiarray_umath") for core in ("_core", "core"))
    files = [Path(str(module.__file__)) for module in modules if module is not None]
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        files += sorted(folder.glob("*blas*"))
    for file in files:
        with suppress(OSError):
            yield ctypes.CDLL(str(file))


def multiplies(function: Any, dtype: str, integer: type[np.signedinteger[Any]]) -> bool:
    """Whether a function called as CBLAS's gemm adds x.T @ y to out, for these small matrices."""
    x = np.arange(6, dtype=dtype).reshape(3, 2)
    y = np.arange(12, dtype=dtype).reshape(3, 4)
    out = np.ones((2, 4), dtype)
    size = ctypes.c_int64 if integer is np.int64 else ctypes.c_int32
    number = ctypes.c_float if dtype == "float32" else ctypes.c_double

    def pointer(array: Array) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    function.restype = None
    function(
        *map(ctypes.c_int, (ROW_MAJOR, TRANSPOSED, AS_IT_IS)), *map(size, (2, 4, 3)), number(1),
        pointer(x), size(2), pointer(y), size(4), number(1), pointer(out), size(4),
    )  # fmt: skip
    return bool((out == x.T @ y + 1).all())


def thread_functions() -> tuple[Any, Any] | None:
    """The functions of NumPy's BLAS that read and set how many threads it uses."""
    blas = find_blas()
    if blas is None:
        return None
    for names in THREADS:
        read, write = (getattr(blas.loaded, name, None) for name in names)
        if read is not None and write is not None:
            read.restype, write.restype = ctypes.c_int, None
            return read, write
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """In this context BLAS uses the calling thread alone, if its number of threads can be set."""
    functions = thread_functions()
    before = functions[0]() if functions else 1
    try:
        if functions and before != 1:
            functions[1](ctypes.c_int(1))
        yield
    finally:
        if functions and before != 1:
            functions[1](ctypes.c_int(before))
