"""Code is compiled once and kept in a safe place; a broken cache never stops a run."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from npvae import fast
from npvae.core.parameters import Array
from npvae.fast import jit
from npvae.fast.jit import CannotCompile, Program
from tests.helpers import HANGS_AFTER, environment, full_disk, run


def double(array: Array) -> None:
    for i in range(array.shape[0]):
        array[i] *= 2


def fresh(dtype: str = "float64") -> Program:
    """A program as a new process would make it."""
    return Program(double, dtype)


def works_with_warnings(program: Program) -> list[str]:
    """Prepares and runs it twice, checks the result, and returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            array = np.array([1.0, -5.0])
            program.prepare([array])
            program.run(array)
            np.testing.assert_array_equal(array, [2.0, -10.0])
    return [str(warning.message) for warning in caught]


def assert_is_kept(dtype: str = "float64") -> None:
    """Another process would load the code, and say nothing."""
    program = fresh(dtype)
    assert not program.must_compile()
    assert works_with_warnings(program) == []
    stats = program.run.stats  # type: ignore[attr-defined]
    assert (sum(stats.cache_hits.values()), sum(stats.cache_misses.values())) == (1, 0)


def kept(folder: Path) -> list[Path]:
    """The files with compiled code in or below a folder."""
    return list(folder.rglob("*.nbc"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder beside the source; the user's own cache folder is `user`, beside it."""
    if jit.WHY_NOT:
        pytest.skip(f"no compiler: {jit.WHY_NOT}")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)  # Numba may read it anew
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))  # the source is elsewhere
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "__pycache__"


CODE: list[bytes] = []  # compiled once for all tests


@pytest.fixture
def file(cache: Path) -> Path:
    """What an earlier process has compiled."""
    if not CODE:
        works_with_warnings(fresh())
        CODE.append(kept(cache)[0].read_bytes())
    cache.mkdir(exist_ok=True)
    path = cache / fresh().kept.name
    path.write_bytes(CODE[0])
    return path


def test_the_cache_is_used(cache: Path) -> None:
    first = fresh()
    assert first.must_compile()
    assert not kept(cache)  # nothing is compiled before it is asked for
    assert works_with_warnings(first) == []
    assert len(kept(cache)) == 1
    assert not first.must_compile()
    assert_is_kept()
    # Other types are not compiled in passing: that takes seconds for each worker, unannounced.
    with pytest.raises(TypeError):
        first.run(np.zeros(2, np.float32))


@pytest.mark.parametrize("what", ["dtype", "sources", "Numba", "settings"])
def test_other_code_is_compiled_anew(
    what: str, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also if only a loop has changed that the program calls: Numba would not notice."""
    if what == "Numba":
        monkeypatch.setattr("numba.__version__", "99.0")
    elif what == "settings":
        monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    elif what == "sources":
        monkeypatch.setattr(jit, "SOURCES", [*jit.SOURCES, tmp_path / "kernels.py"])
        (tmp_path / "kernels.py").write_text("x = 1")
    dtype = "float32" if what == "dtype" else "float64"
    other = fresh(dtype)
    assert other.must_compile()
    works_with_warnings(other)
    assert len(kept(file.parent)) == 2
    assert_is_kept(dtype)


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 4
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"x",
    "a bit of the digest": lambda data: flipped(data, 31),
    "a bit of the code": lambda data: flipped(data, len(data) // 2),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_code_is_never_run_and_compiled_again(
    file: Path, damage: Callable[[bytes], bytes]
) -> None:
    file.write_bytes(damage(file.read_bytes()))
    (said,) = works_with_warnings(fresh())
    assert said == f"compiled code is damaged, so it is compiled again: {file}"
    assert_is_kept()


def test_the_code_of_another_program_is_damaged_code_and_removed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was renamed: its digest is right, but for another name."""
    file.rename(file.with_name(fresh("float32").kept.name))
    monkeypatch.setattr("os.replace", full_disk)  # it cannot be written anew
    (said,) = works_with_warnings(fresh("float32"))
    assert "is damaged" in said
    assert not kept(file.parent)


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("builtins.open", OSError(24, "Too many open files")),
        ("npvae.fast.jit.serialize.loads", MemoryError()),  # of Numba, as is the next
        ("npvae.fast.jit.CompileResult._rebuild", ImportError("no module")),
    ],
)
def test_a_process_that_cannot_load_good_code_leaves_it_there(
    where: str, fault: Exception, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*anything: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(where, fails)
        patch.setattr("os.replace", full_disk)  # nor can it write the code anew
        (said,) = works_with_warnings(fresh())
    assert said.startswith(f"compiled code cannot be used now ({type(fault).__name__}: ")
    assert kept(file.parent) == [file]
    assert_is_kept()


@pytest.mark.parametrize("what", ["link to nowhere", "folder", "pipe"])
def test_only_a_plain_file_is_code(what: str, cache: Path) -> None:
    file = cache / fresh().kept.name
    cache.mkdir()
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("nothing")
    assert fresh().must_compile() == (what == "link to nowhere")
    works_with_warnings(fresh())


# ------------------------------------------------------------------ where it is kept


def refuse(folder: Path, how: str) -> None:
    """Make a folder one that must not be used, or cannot be."""
    if how == "a file":
        folder.write_bytes(b"")
        return
    folder.mkdir()
    if how == "of somebody else":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(folder, 12345, 12345)
    else:
        folder.chmod(int(how, 8))


@pytest.mark.parametrize("how", ["1777", "775", "of somebody else", "a file"])
def test_where_others_could_plant_code_the_users_own_folder_is_used(cache: Path, how: str) -> None:
    refuse(cache, how)
    if cache.is_dir():
        (cache / fresh().kept.name).write_bytes(b"planted")
    assert fresh().must_compile()
    assert works_with_warnings(fresh()) == []
    assert [file.parent for file in kept(cache.parent / "user")] == [jit.folders()[-1]]
    assert {file.read_bytes() for file in kept(cache)} <= {b"planted"}
    assert_is_kept()


def test_a_file_that_others_may_write_to_is_no_code(file: Path) -> None:
    file.chmod(0o664)
    assert fresh().must_compile()


def test_whatever_the_umask_nobody_else_may_write_to_what_is_kept(cache: Path) -> None:
    before = os.umask(0)
    try:
        works_with_warnings(fresh())
    finally:
        os.umask(before)
    assert not fresh().must_compile()


@pytest.mark.parametrize("why", ["no safe folder", "full disk", "no home"])
def test_where_nothing_can_be_kept_one_line_says_that_every_run_compiles(
    why: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "full disk":
        monkeypatch.setattr("os.replace", full_disk)
    else:
        refuse(cache, "777")
        refuse(cache.parent / "user", "a file")
    if why == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert bool(jit.writable_folders()) == (why == "full disk")
    (said,) = works_with_warnings(fresh())
    assert said.startswith("every run compiles, as the code cannot be kept: ")
    assert ("No space left on device" in said) == (why == "full disk")
    assert said.endswith("NUMBA_CACHE_DIR may name a folder for it")
    assert not Path("~").exists()


def test_a_folder_that_the_user_names_comes_first(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one in /tmp, too: nobody else can write to it."""
    chosen = cache.parent / "tmp" / "mine"
    refuse(chosen.parent, "1777")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(chosen))  # Numba reads it anew if others changed
    monkeypatch.setattr("numba.config.CACHE_DIR", str(chosen))
    assert works_with_warnings(fresh()) == []
    assert [file.parent for file in kept(cache.parent)] == [chosen]


@pytest.mark.usefixtures("cache")
def test_code_that_cannot_be_compiled_is_said_in_one_line() -> None:
    def fails(array: Any) -> None:
        array.no_such_thing()

    with pytest.raises(CannotCompile, match="Numba cannot compile it: TypingError: ") as caught:
        Program(fails, "float64").prepare([np.zeros(2)])
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ processes

CHILD = """
import json, os, sys
environment = dict(os.environ)
import npvae
from npvae import VAE, fast, fit
vae = VAE(12, (7,), 3)
early = [name for name in ("numba", "npvae.fast.jit", "PIL") if name in sys.modules]
kept = environment == dict(os.environ)
import numpy as np
from npvae.fast.jit import Program

def double(array):
    for i in range(array.shape[0]):
        array[i] *= 2

program, array = Program(double, "float64"), np.ones(2)
program.prepare([array])
program.run(array)
print(json.dumps([early, kept, fast.why_not("auto"), array.tolist()]))
"""


@pytest.mark.usefixtures("cache")
def test_the_lesson_imports_no_numba_and_two_cold_processes_compile_at_once(tmp_path: Path) -> None:
    words = [sys.executable, "-W", "error", "-c", CHILD]
    env = environment(NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(words, env=env, **pipes) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=HANGS_AFTER)
        assert err == ""
        assert json.loads(out) == [[], True, "", [2.0, 2.0]]
    assert len(kept(tmp_path / "cache")) == 1


LINE = "    x = math.cos(x)\n"  # so often that the part is not drawn into what calls it
APART = f"""
import math, os
import numpy as np
from npvae.fast.jit import Program, jit

@jit
def part(record):
    x = record.x
{200 * LINE}    return x

def replace(records):
    records[0].x = part(records[0])
    records[0].x = part(records[0])

def compiled(dtype):
    program, records = Program(replace, dtype), np.ones(1, [("x", dtype)])
    program.prepare([records])
    program.run(records)
    return round(float(records[0]["x"]), 5)

for dtype in ("float32", "float64"):  # with names as two processes would count them
    if not (process := os.fork()):
        compiled(dtype)
        os._exit(0)
    os.waitpid(process, 0)
print(compiled("float64"), compiled("float32"))
"""


@pytest.mark.usefixtures("cache")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_code_that_two_processes_compiled_works_in_a_third(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", APART], env=environment(NUMBA_CACHE_DIR=str(tmp_path)))
    assert done.stdout == "0.73909 0.73909\n", done.stderr
    assert len(kept(tmp_path)) == 2


def why_not() -> str:
    """As jit.py says when it is imported; it is run once more, beside the one in use."""
    return str(runpy.run_path(jit.__file__)["WHY_NOT"])


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_a_missing_numba_is_done_without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert why_not() == "Numba is missing: python -m pip install numba"


@pytest.mark.parametrize("failure", ["ImportError", "SystemExit('built for another CPU')"])
def test_a_numba_that_fails(failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numba.py").write_text(f"raise {failure}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "llvmlite", ModuleType("llvmlite"))  # it may be missing
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert why_not().startswith("Numba cannot be used: ")


def test_a_numba_that_is_told_not_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert why_not() == "NUMBA_DISABLE_JIT is set"
    monkeypatch.setattr(jit, "WHY_NOT", why_not())  # as if it had been imported only now
    assert fast.why_not("auto") == "NUMBA_DISABLE_JIT is set"
