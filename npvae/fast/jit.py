"""How do the loops of kernels.py become machine code, and what if that fails?

`@fused` marks a NumPy function that has a twin in kernels.py. When it is first called, the twin is
compiled by Numba and kept in Numba's cache (the `__pycache__` beside the source, or the user's own
cache folder). Three things may go wrong, none of which stops a run: the cache cannot be read or
written, then the twin is compiled for this run alone; the twin cannot be compiled, then the NumPy
function itself runs; Numba is missing, the same. Nothing is compiled on import.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from npvae.core.errors import OptionError

Function = TypeVar("Function", bound=Callable[..., Any])

BACKEND = os.environ.get("NPVAE_BACKEND", "numba")
WHY_NUMPY = "NPVAE_BACKEND=numpy" if BACKEND == "numpy" else ""
if BACKEND not in ("numba", "numpy"):
    raise OptionError(f"NPVAE_BACKEND must be numba or numpy, not {BACKEND!r}")
if BACKEND == "numba":
    try:
        import numba
        from numba.extending import overload
    except Exception as error:  # a broken Numba raises more than ImportError
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        BACKEND, WHY_NUMPY = "numpy", f"Numba cannot be used: {why}"
    else:
        if getattr(numba.config, "DISABLE_JIT"):  # noqa: B009
            BACKEND, WHY_NUMPY = "numpy", "NUMBA_DISABLE_JIT is set"


class Fused:
    """A NumPy function that hands its calls to a compiled twin, if there is one."""

    all: list[Fused] = []  # noqa: RUF012  every one of them

    def __init__(self, specification: Callable[..., Any]) -> None:
        functools.update_wrapper(self, specification)
        self.specification = specification
        self.versions: list[Callable[..., Any]] = [specification]  # the first one runs
        self.ready = BACKEND == "numpy"
        self.proven = False  # whether a compiled version has run
        Fused.all.append(self)

    @property
    def loop(self) -> Callable[..., Any]:
        """The twin as plain Python."""
        from npvae.fast import kernels

        return cast(Callable[..., Any], getattr(kernels, self.specification.__name__))

    def prepare(self) -> None:
        """Find the versions, best first; compiles nothing yet."""
        if not self.ready:
            self.versions = [*compiled(self.loop), self.specification]
            self.ready = True

    def cached(self) -> list[Path]:
        """The files that Numba's cache holds for this loop."""
        self.prepare()
        stats = getattr(self.versions[0], "stats", None)
        folder = Path(stats.cache_path if stats and stats.cache_path else os.devnull)
        return list(folder.glob(f"kernels.{self.loop.__name__}-*"))

    def in_cache(self) -> bool:
        """Whether the cache holds code for this loop that is younger than its source."""
        with contextlib.suppress(OSError):  # another process may be tidying up
            source = Path(self.loop.__code__.co_filename).stat().st_mtime
            return any(
                file.suffix == ".nbi" and file.stat().st_mtime >= source for file in self.cached()
            )
        return False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.prepare()
        for version in self.versions[:-1]:
            try:
                result = version(*arguments, **named)
            except Exception as error:  # raised by the cache or the compiler, before the loop ran
                self.give_up(version, error)
            else:
                self.proven = True
                return result
        return self.specification(*arguments, **named)

    def give_up(self, version: Callable[..., Any], error: Exception) -> None:
        """Go on without a version that failed, unless it is the arguments that are to blame."""
        if self.proven or type(error).__name__ == "TypingError":
            return
        for file in self.cached():  # damaged, perhaps: the next run will write it anew
            with contextlib.suppress(OSError):
                file.unlink()
        self.versions = [other for other in self.versions if other is not version]
        if not Fused.warned:
            Fused.warned = True
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"the cache of compiled kernels does not work: {why}", stacklevel=3)

    warned = False  # once for each process is enough


def fused(specification: Function) -> Function:
    """Let the twin of the same name in kernels.py run in place of this NumPy function."""
    return cast(Function, Fused(specification))


def compiled(loop: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The loop compiled by Numba: with its cache, if that is in a safe place, and without."""
    from npvae.fast import kernels

    flags = kernels.FLAGS | ({"reassoc"} if loop.__name__ in kernels.SUMS else set())
    options: Any = {"fastmath": flags, "nogil": True, "error_model": "numpy"}
    uncached = numba.njit(**options)(loop)
    try:
        cached = numba.njit(cache=True, **options)(loop)
        safe = not others_may_write(cached.stats.cache_path)
    except Exception:  # no folder to cache in
        safe = False
    return [cached, uncached] if safe else [uncached]


def others_may_write(folder: str) -> bool:
    """Whether other users may put files into the folder: cached code from there would be run."""
    if os.name != "posix":  # elsewhere the mode says nothing
        return False
    place = Path(folder)
    while not place.exists():
        place = place.parent
    status = place.stat()
    return bool(status.st_mode & stat.S_IWOTH) or status.st_uid not in (0, os.getuid())


def must_compile(unused: object) -> bool:
    """Whether a twin is not in the cache yet, so that the first batch will have to wait."""
    return BACKEND == "numba" and not all(
        fused.in_cache() for fused in Fused.all if fused is not unused
    )


def specialised(fast: Function, numpy: Callable[..., Any], exact: Callable[..., Any]) -> Function:
    """A function for loops: `fast` for float32, `exact` for float64, `numpy` if not compiled."""

    def choose(a: Any) -> Any:
        return numpy(a)

    if BACKEND == "numba":

        def precise(a: Any) -> Any:
            return exact(a)

        @overload(choose)
        def choice(a: Any) -> Any:  # a is a type here: this runs while a loop is compiled
            return fast if a == numba.float32 else precise

    return cast(Function, choose)
