"""The BLAS of NumPy is found and checked, and its number of threads is restored."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.fast import blas

FOUND = blas.find_blas()
needs_blas = pytest.mark.skipif(FOUND is None, reason="NumPy's BLAS cannot be called")
THREADS = blas.thread_functions()
needs_threads = pytest.mark.skipif(THREADS is None, reason="BLAS does not tell its threads")


@needs_blas
def test_its_addresses_are_those_of_functions_that_multiply() -> None:
    assert FOUND is not None
    kind = ctypes.CFUNCTYPE(None)
    for dtype, address in FOUND.gemm.items():
        assert blas.multiplies(kind(address), dtype, FOUND.integer)


@needs_blas
def test_of_numpy_wheels_it_is_the_library_that_came_with_them() -> None:
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    if not list(folder.glob("*openblas*")):
        pytest.skip("this NumPy is not from a wheel for Linux")
    assert FOUND is not None
    (library,) = (ctypes.CDLL(str(file)) for file in folder.glob("*openblas*"))
    spelling = next(s for s in blas.SPELLINGS if hasattr(library, s.format("sgemm")))
    function = getattr(library, spelling.format("sgemm"))
    assert FOUND.gemm["float32"] == ctypes.cast(function, ctypes.c_void_p).value
    assert FOUND.integer is blas.SPELLINGS[spelling]


def fake(sign: float) -> Any:
    """A function with the arguments of gemm in float64, that multiplies, for the right sign."""
    i, size, p = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    number = ctypes.c_double

    def gemm(*given: Any) -> None:
        m, n, k = given[3:6]
        a, b, c = (
            np.ctypeslib.as_array(ctypes.cast(given[at], ctypes.POINTER(number)), shape)
            for at, shape in ((7, (k, m)), (9, (k, n)), (12, (m, n)))
        )
        c += sign * a.T @ b

    kinds = i, i, i, size, size, size, number, p, size, p, size, number, p, size
    return ctypes.CFUNCTYPE(None, *kinds)(gemm)


def test_a_function_that_multiplies_wrongly_is_not_taken() -> None:
    assert blas.multiplies(fake(1), "float64", np.int64)
    assert not blas.multiplies(fake(-1), "float64", np.int64)


def test_where_there_is_no_library_there_is_no_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", fails)
    monkeypatch.setattr(blas, "find_blas", blas.find_blas.__wrapped__)  # it remembers
    assert blas.find_blas() is None
    assert blas.thread_functions() is None
    with blas.one_thread():
        pass


@needs_blas
def test_a_library_without_such_functions_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = blas.libraries()
    # Elsewhere NumPy's own extension shows the functions of all that it is linked with.
    monkeypatch.setattr(blas, "libraries", lambda: iter([object(), first, *others]))
    found = blas.find_blas.__wrapped__()
    assert found is not None
    assert FOUND is not None
    assert (found.gemm, found.integer) == (FOUND.gemm, FOUND.integer)


@needs_threads
@pytest.mark.parametrize("number", [1, 3])
def test_threads_are_restored(number: int) -> None:
    assert THREADS is not None
    read, write = THREADS
    before = read()
    try:
        write(ctypes.c_int(number))
        with blas.one_thread():
            assert read() == 1
        assert read() == number
        with pytest.raises(KeyboardInterrupt), blas.one_thread():
            raise KeyboardInterrupt
        assert read() == number
    finally:
        write(ctypes.c_int(before))
