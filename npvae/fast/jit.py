"""How do the loops become machine code, and what if that fails?

Numba compiles a loop for the types of its arguments. That takes seconds, so the result is kept in a
file: in $NUMBA_CACHE_DIR if that is set, otherwise in the `__pycache__` beside the source or in the
user's own cache folder, whichever this user alone can write to. Three things can go wrong,
and none of them stops a run. The code cannot be kept, or what was kept is damaged: it is compiled
again, and one line says so. Numba cannot compile: the lesson runs. Numba is missing or broken: the
same. Nothing is compiled on import.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from npvae.storage.files import open_plain, write

Function = TypeVar("Function", bound=Callable[..., Any])

# Of "fast math", Numba may fuse multiply-adds, use reciprocals, and ignore the sign of a zero. It
# may not assume that there is no NaN or infinity: those must stay visible.
FLAGS = {"contract", "arcp", "nsz"}
# Without NRT no references to arrays are counted: threads that count those to the same array all
# write to the same counter. So compiled code makes no arrays, and returns none.
OPTIONS: Any = {"fastmath": FLAGS, "nogil": True, "error_model": "numpy", "_nrt": False}

WHY_NOT = ""  # why nothing can be compiled here, if so
try:
    import llvmlite
    import numba
    from numba.core import serialize
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler import Compiler, CompileResult
    from numba.core.registry import cpu_target
    from numba.extending import overload, register_jitable
except (Exception, SystemExit) as error:  # a broken Numba raises more than ImportError
    WHY_NOT = f"Numba cannot be used: {type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, ModuleNotFoundError) and error.name in ("numba", "llvmlite"):
        WHY_NOT = "Numba is missing: python -m pip install numba"
else:
    if getattr(numba.config, "DISABLE_JIT"):  # noqa: B009
        WHY_NOT = "NUMBA_DISABLE_JIT is set"


if not WHY_NOT:

    class Part(JITCodeLibrary):
        """Code of a function that only compiled code calls.

        LLVM optimises it together with what calls it. Numba would do so with each function first,
        and make machine code of it that nobody runs: that takes a third of all time to compile.
        """

        codegen = SimpleNamespace(set_env=lambda name, environment: None)

        def _optimize_final_module(self) -> None:
            pass

        def _finalize_final_module(self) -> None:
            self._finalize_dynamic_globals()
            self._finalized = True

    class PartCompiler(Compiler):
        """Numba's compiler, for parts."""

        def __init__(self, typing: Any, target: Any, library: Any, *others: Any) -> None:
            super().__init__(typing, target, Part(target.codegen(), "part"), *others)

    class Whole(JITCodeLibrary):
        """Code of a program: no other code in the process can call a function in it.

        Numba names functions after the types of their arguments, and types of records after a
        count of the types in a process. So functions for float32 and float64 that two processes
        compiled can have one name. In a third process one would be called instead of the other.
        """

        def _optimize_final_module(self) -> None:
            super()._optimize_final_module()
            for function in self._final_module.functions:
                if not (function.is_declaration or function.name.startswith(FROM_PYTHON)):
                    function.linkage = "internal"

    class WholeCompiler(Compiler):
        """Numba's compiler, for programs."""

        def __init__(self, typing: Any, target: Any, library: Any, *others: Any) -> None:
            library = Whole(target.codegen(), "whole")
            library.enable_object_caching()  # so that it can be kept
            super().__init__(typing, target, library, *others)

    FROM_PYTHON = "_ZN7cpython"  # so begins the name of what Python calls
    WRAPPERS: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    PART: Any = {"pipeline_class": PartCompiler, **WRAPPERS, **OPTIONS}
    WHOLE: Any = {"pipeline_class": WholeCompiler, "no_cfunc_wrapper": True, **OPTIONS}


def jit(loop: Function) -> Function:
    """A function that compiled code calls as compiled code, and Python as it stands."""
    return loop if WHY_NOT else register_jitable(**PART)(loop)


def inlined(loop: Function) -> Function:
    """The same, as a part of the code that calls it; only for compiled code."""
    return loop if WHY_NOT else numba.njit(inline="always", **OPTIONS)(loop)


def specialised(fast: Function, exact: Callable[..., Any]) -> Function:
    """A function for loops: `fast` where it is compiled for float32, and otherwise `exact`."""

    def choose(a: Any) -> Any:
        return exact(a)

    if not WHY_NOT:

        @overload(choose, jit_options=PART)
        def choice(a: Any) -> Any:  # a is a type here: this runs while a loop is compiled
            return fast if a == numba.float32 else choose

    return cast(Function, choose)


# ------------------------------------------------------------------ compiled once, kept in a file

SOURCES = sorted(Path(__file__).parent.glob("*.py"))


class CannotCompile(Exception):
    """Numba fails, for a reason of its own."""


class Program:
    """A function for one dtype that Python calls, compiled as a whole or read from a file.

    The file's name holds a digest of all that decides the code: the loops that the function calls,
    the dtype, the versions, the processor, and Numba's settings.
    """

    def __init__(self, function: Callable[..., Any], dtype: str) -> None:
        self.function, self.run = function, function
        processor = cpu_target.target_context.codegen().magic_tuple()
        settings = {k: v for k, v in os.environ.items() if k.startswith("NUMBA_")}
        settings.pop("NUMBA_CACHE_DIR", None)
        versions = sys.version, numba.__version__, llvmlite.__version__
        digest = hashlib.sha256(repr((versions, processor, sorted(settings.items()))).encode())
        for file in SOURCES:
            digest.update(file.read_bytes())
        self.kept = Kept(f"{function.__name__}_{dtype}_{digest.hexdigest()[:16]}.nbc")
        self.ready = False

    def prepare(self, arguments: Sequence[Any]) -> None:
        """Have code for arguments of these types. Raises CannotCompile."""
        if self.ready:
            return
        version = numba.njit(**WHOLE)(self.function)
        version._cache = self.kept  # instead of Numba's own
        try:
            version.compile(tuple(numba.typeof(argument) for argument in arguments))
        except Exception as error:
            raise CannotCompile(f"Numba cannot compile it: {reason(error)}") from error
        version.disable_compile()  # other types are refused, not compiled in passing
        self.run, self.ready = version, True

    def must_compile(self) -> bool:
        """Whether `prepare` will take seconds."""
        return not self.ready and not self.kept.files()


class Kept:
    """Compiled code in a file of this name; Numba calls the two methods that load and save it.

    The file begins with a digest, because Numba would run code in which a bit is wrong. Damaged
    code is removed and compiled again. Any other failure, such as a lack of memory, says nothing
    about the file. A digest is no protection against other people: see `folders`.
    """

    cache_path = None  # Numba wants to know it

    def __init__(self, name: str) -> None:
        self.name, self.noted = name, False

    def note(self, problem: str) -> None:
        """Say so, unless something was said before: a run that works deserves one line at most."""
        if not self.noted:
            warnings.warn(problem, stacklevel=2)
        self.noted = True

    def files(self) -> list[Path]:
        """Where the code is, if anywhere."""
        files = [folder / self.name for folder in folders() if not others_may_write(folder)]
        return [file for file in files if os.path.exists(file) and not others_may_write(file)]

    def digest(self, code: bytes) -> bytes:
        return hashlib.sha256(self.name.encode() + code).digest()

    def load_overload(self, types: Any, target: Any) -> Any:
        """The code for arguments of these types, or None."""
        for file in self.files():
            try:
                with open_plain(file) as opened:
                    digest, code = opened.read(hashlib.sha256().digest_size), opened.read()
                if digest == self.digest(code):  # Numba's context need not be complete to load it
                    kept_types, parts = serialize.loads(code)
                    if kept_types == types:
                        return CompileResult._rebuild(target, *parts)
                    continue
                problem = "is damaged"
                with contextlib.suppress(OSError):
                    file.unlink()
            except Exception as error:
                problem = f"cannot be used now ({reason(error)})"
            self.note(f"compiled code {problem}, so it is compiled again: {file}")
        return None

    def save_overload(self, types: Any, result: Any) -> None:
        """Keep the code in the first folder where that works."""
        why = "no folder is there to which you alone can write"
        try:
            if result.library.has_dynamic_globals:
                raise ValueError("it holds addresses of this process")
            code = serialize.dumps((types, result._reduce()))
            for folder in writable_folders():
                try:
                    write(folder / self.name, self.digest(code) + code)
                    (folder / self.name).chmod(0o644)  # whatever the umask
                except OSError as error:
                    why = reason(error)
                else:
                    return
        except Exception as error:
            why = reason(error)
        self.note(
            f"every run compiles, as the code cannot be kept: {why}. "
            "NUMBA_CACHE_DIR may name a folder for it"
        )


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def folders() -> list[Path]:
    """Where compiled code may be kept: in $NUMBA_CACHE_DIR, or else here or in the user's cache."""
    if chosen := getattr(numba.config, "CACHE_DIR"):  # noqa: B009
        return [Path(chosen)]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [
        Path(__file__).parent / "__pycache__",
        *([Path(cache, "npvae", "compiled")] if os.path.isabs(cache) else []),  # ~: no home
    ]


def writable_folders() -> list[Path]:
    """Those of them that this user, and nobody else, can write to; made where they are missing."""
    writable = []
    for folder in folders():
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK) and not others_may_write(folder):
                writable.append(folder)
    return writable


def others_may_write(path: Path) -> bool:
    """Whether other users may write to a folder or file: code from there would be run."""
    try:
        status = path.stat()
    except OSError:  # nothing that could be read is there
        return False
    if os.name != "posix":  # elsewhere the mode says nothing
        return False
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return bool(shared) or status.st_uid not in (0, os.getuid())
