"""How do the loops become machine code, and what if that fails?

Numba compiles a loop for the types of its arguments. That takes seconds, so the result is kept in
Numba's cache: the `__pycache__` beside the source, or the user's own cache folder. Three things can
go wrong, and none of them stops a run. The cache cannot be read or written: the code is compiled
for this run alone, with one warning. Numba cannot compile: the lesson runs. Numba is missing or
broken: the same. Nothing is compiled on import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

# Of "fast math", Numba may fuse multiply-adds, use reciprocals, and ignore the sign of a zero. It
# may not assume that there is no NaN or infinity: those must stay visible.
FLAGS = {"contract", "arcp", "nsz"}
# Without NRT no references to arrays are counted: threads that count those to the same array all
# write to the same counter. So compiled code makes no arrays, and returns none.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "_nrt": False}
INNER: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **OPTIONS}  # for compiled code

WHY_NOT = ""  # why nothing can be compiled here, if so
try:
    import llvmlite.binding
    import numba
    from numba.extending import overload, register_jitable
except (Exception, SystemExit) as error:  # a broken Numba raises more than ImportError
    WHY_NOT = f"Numba cannot be used: {type(error).__name__}: {error}".splitlines()[0]
else:
    if getattr(numba.config, "DISABLE_JIT"):  # noqa: B009
        WHY_NOT = "NUMBA_DISABLE_JIT is set"


def jit(loop: Function) -> Function:
    """A function that compiled code calls as compiled code, and Python as it stands."""
    return loop if WHY_NOT else register_jitable(fastmath=FLAGS, **INNER)(loop)


def inlined(loop: Function) -> Function:
    """The same, as a part of the code that calls it; only for compiled code."""
    if WHY_NOT:
        return loop
    return cast(Function, numba.njit(fastmath=FLAGS, inline="always", **OPTIONS)(loop))


def specialised(fast: Function, numpy: Callable[..., Any], exact: Callable[..., Any]) -> Function:
    """A function for loops: `fast` for float32, `exact` for float64, `numpy` if not compiled."""

    def choose(a: Any) -> Any:
        return numpy(a)

    if not WHY_NOT:

        def precise(a: Any) -> Any:
            return exact(a)

        options: Any = {"fastmath": FLAGS, **OPTIONS}

        @overload(choose, jit_options=options)
        def choice(a: Any) -> Any:  # a is a type here: this runs while a loop is compiled
            return getattr(fast, "py_func", fast) if a == numba.float32 else precise

    return cast(Function, choose)


# ------------------------------------------------------------------ compiled once, kept in a cache


SOURCES = sorted(Path(__file__).parent.glob("*.py"))


class CannotCompile(Exception):
    """Numba fails, for a reason of its own."""


class Program:
    """A function for one dtype that Python calls, compiled as a whole or read from the cache.

    Numba's own cache notices when the file of the function changes, but not when the loops change
    that it calls. So the name that the cache knows it by holds a digest of all the sources, and of
    what else decides the code: dtype, Numba and processor.
    """

    def __init__(self, function: Callable[..., Any], dtype: str) -> None:
        self.function, self.run = function, function
        decisive = f"{numba.__version__} {llvmlite.binding.get_host_cpu_name()}"
        digest = hashlib.sha256(decisive.encode())
        for file in SOURCES:
            digest.update(file.read_bytes())
        self.name = f"{function.__name__}_{dtype}_{digest.hexdigest()[:12]}"
        self.ready = False

    def prepare(self, arguments: Sequence[Any]) -> None:
        """Have code for arguments of these types. Raises CannotCompile."""
        if self.ready:
            return
        typeof: Any = numba.typeof
        signature = tuple(typeof(argument) for argument in arguments)
        cached = self.cached()
        for version in [*([cached] if cached else []), self.version(cache=False)]:
            try:
                version.compile(signature)
            except Exception as error:
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                if version is not cached:
                    raise CannotCompile(f"Numba cannot compile it: {why}") from error
                for file in cache_files(self.name, version):  # damaged, perhaps
                    with contextlib.suppress(OSError):
                        file.unlink()
                warnings.warn(f"the cache of compiled code does not work: {why}", stacklevel=2)
            else:
                version.disable_compile()  # other types are refused, not compiled in passing
                self.run, self.ready = version, True
                return

    def must_compile(self) -> bool:
        """Whether `prepare` will take seconds."""
        return not self.ready and not any(
            file.suffix == ".nbi" and file.exists()
            for file in cache_files(self.name, self.cached())
        )

    def version(self, cache: bool) -> Any:
        function = types.FunctionType(self.function.__code__, self.function.__globals__, self.name)
        function.__qualname__, function.__module__ = self.name, self.function.__module__
        return numba.njit(cache=cache, fastmath=FLAGS, no_cfunc_wrapper=True, **OPTIONS)(function)

    def cached(self) -> Any:
        """The function with its cache, if that has a safe place, or None."""
        if not has_home():
            return None
        try:
            version = self.version(cache=True)
            return None if others_may_write(version.stats.cache_path) else version
        except Exception:  # no folder to cache in
            return None


def cache_files(name: str, version: Any) -> list[Path]:
    """The files that Numba's cache holds for it."""
    if version is None:
        return []
    with contextlib.suppress(OSError):  # another process may be tidying up
        return list(Path(version.stats.cache_path).glob(f"*.{name}-*"))
    return []


def has_home() -> bool:
    """Whether Numba finds a folder of the user: otherwise it would make one that is called ~."""
    beside = Path(__file__).parent
    return (
        not os.path.expanduser("~").startswith("~")
        or bool(getattr(numba.config, "CACHE_DIR"))  # noqa: B009
        or os.access(
            beside / "__pycache__" if (beside / "__pycache__").exists() else beside, os.W_OK
        )
    )


def others_may_write(folder: str) -> bool:
    """Whether other users may put files into the folder: cached code from there would be run."""
    if os.name != "posix":  # elsewhere the mode says nothing
        return False
    place = Path(folder)
    while not place.exists():
        place = place.parent
    status = place.stat()
    return bool(status.st_mode & stat.S_IWOTH) or status.st_uid not in (0, os.getuid())
