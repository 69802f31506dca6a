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
from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.fast import jit
from npvae.fast.jit import CannotCompile, Program
from tests.helpers import full_disk

needs_compiler = pytest.mark.skipif(bool(jit.WHY_NOT), reason=f"no compiler: {jit.WHY_NOT}")


def double(array: Array) -> None:
    for i in range(array.shape[0]):
        array[i] *= 2


def fails(array: Array) -> None:
    array.no_such_thing()  # type: ignore[attr-defined]


def fresh(function: Callable[..., Any] = double, dtype: str = "float64") -> Program:
    """A program as a new process would make it."""
    return Program(function, dtype)


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


def hits(program: Program) -> tuple[int, int]:
    """The numbers of cache hits and misses."""
    stats = program.run.stats  # type: ignore[attr-defined]
    return sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of our own, instead of the one beside the source."""
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_compiler
def test_the_cache_is_used(cache: Path) -> None:
    first = fresh()
    assert first.must_compile()
    assert not list(cache.rglob("*.nb?"))  # nothing is compiled before it is asked for
    assert works_with_warnings(first) == []
    assert len(list(cache.rglob("*.nbi"))) == len(list(cache.rglob("*.nbc"))) == 1
    assert not first.must_compile()
    second = fresh()
    assert not second.must_compile()
    assert works_with_warnings(second) == []
    assert hits(second) == (1, 0)


@needs_compiler
def test_other_types_are_not_compiled_in_passing(cache: Path) -> None:
    """That would take seconds for each worker, unannounced."""
    program = fresh()
    works_with_warnings(program)
    with pytest.raises(TypeError):
        program.run(np.zeros(2, np.float32))


@needs_compiler
@pytest.mark.parametrize("what", ["dtype", "sources", "Numba"])
def test_other_code_is_compiled_anew(
    what: str, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also if only a loop has changed that the program calls: Numba would not notice."""
    works_with_warnings(fresh())
    if what == "Numba":
        monkeypatch.setattr("numba.__version__", "99.0")
    elif what == "sources":
        monkeypatch.setattr(jit, "SOURCES", [*jit.SOURCES, tmp_path / "kernels.py"])
        (tmp_path / "kernels.py").write_text("x = 1")
    other = fresh(dtype="float32" if what == "dtype" else "float64")
    assert other.must_compile()
    works_with_warnings(other)
    assert len(list(cache.rglob("*.nbi"))) == 2
    assert not fresh(dtype="float32" if what == "dtype" else "float64").must_compile()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: b"\x93garbage" * 50,
    "half": lambda data: data[: len(data) // 2],
}


@needs_compiler
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_file_costs_a_warning(
    cache: Path, damage: Callable[[bytes], bytes], kind: str
) -> None:
    works_with_warnings(fresh())
    (file,) = cache.rglob(f"*.{kind}")
    file.write_bytes(damage(file.read_bytes()))
    said = works_with_warnings(fresh())
    assert len(said) <= 1
    assert all(text.startswith("the cache of compiled code does not work: ") for text in said)
    assert all("\n" not in text for text in said)
    works_with_warnings(fresh())  # what was damaged is gone: this one writes it anew
    healed = fresh()
    assert works_with_warnings(healed) == []
    assert hits(healed) == (1, 0)


@needs_compiler
def test_a_cache_file_that_leads_nowhere_is_none(cache: Path) -> None:
    """Nor is one that another process removes between the listing and the check."""
    works_with_warnings(fresh())
    (file,) = cache.rglob("*.nbi")
    file.unlink()
    file.symlink_to("nothing")
    assert fresh().must_compile()


@needs_compiler
def test_a_full_disk_costs_a_warning(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full_disk)
    (said,) = works_with_warnings(fresh())
    assert "No space left on device" in said


@needs_compiler
def test_a_cache_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is where the folder should be: the compiler takes another place."""
    import numba

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert works_with_warnings(fresh()) == []
    assert (tmp_path / "file").read_bytes() == b""


@needs_compiler
def test_no_cache_folder_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", full_disk)
    program = fresh()
    assert program.must_compile()
    assert works_with_warnings(program) == []


@needs_compiler
def test_without_a_home_no_folder_is_made_that_is_called_tilde(tmp_path: Path) -> None:
    """Numba would make one in the current folder if none beside the source can be written."""
    program = (
        "import numba, os, pathlib\n"
        "from npvae.fast import jit\n"
        "numba.config.CACHE_DIR = ''\n"
        "os.path.expanduser = lambda path: path\n"
        "os.access = lambda path, mode: False\n"
        "pathlib.Path.mkdir = None\n"
        "assert jit.Program(jit.jit, 'float32').cached() is None\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(jit.SOURCES[0].parents[2])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


@needs_compiler
def test_a_folder_that_everybody_may_write_to_is_no_cache(cache: Path) -> None:
    works_with_warnings(fresh())
    (folder,) = {file.parent for file in cache.rglob("*.nbi")}
    for file in folder.iterdir():
        file.write_bytes(b"planted")
    folder.chmod(0o777)
    assert works_with_warnings(fresh()) == []
    assert {file.read_bytes() for file in folder.iterdir()} == {b"planted"}


@needs_compiler
def test_a_folder_to_be_made_where_everybody_may_write_is_no_cache(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o1777)
    assert jit.others_may_write(str(cache / "not yet" / "there"))
    cache.chmod(0o755)
    assert not jit.others_may_write(str(cache / "not yet" / "there"))


@needs_compiler
def test_the_folder_of_somebody_else_is_no_cache(cache: Path) -> None:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    works_with_warnings(fresh())
    (folder,) = {file.parent for file in cache.rglob("*.nbi")}
    os.chown(folder, 12345, 12345)
    assert fresh().cached() is None


@needs_compiler
def test_what_cannot_be_compiled_is_said_in_one_line(cache: Path) -> None:
    with (
        pytest.warns(UserWarning, match="the cache of compiled code does not work"),
        pytest.raises(CannotCompile, match="Numba cannot compile it: TypingError: ") as caught,
    ):
        fresh(fails).prepare([np.zeros(2)])
    assert "\n" not in str(caught.value)


TWICE = """
import numpy as np
from npvae.fast.jit import Program
from tests.fast.test_jit import double
program, array = Program(double, "float64"), np.ones(2)
program.prepare([array])
program.run(array)
print(array.tolist())
"""


@needs_compiler
def test_two_cold_processes_at_once(tmp_path: Path) -> None:
    root = str(Path(jit.__file__).parents[2])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": root}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", TWICE],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert said == [("[2.0, 2.0]\n", "")] * 2
    assert list((tmp_path / "cache").rglob("*.nbc"))


# ------------------------------------------------------------------ without Numba, and on import


def module_anew() -> dict[str, Any]:
    """jit.py run once more, beside the one in use."""
    return runpy.run_path(jit.__file__)


def test_a_missing_numba_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    why = module_anew()["WHY_NOT"]
    assert why.startswith("Numba cannot be used: ModuleNotFoundError: ")
    assert "\n" not in why


@pytest.mark.parametrize("failure", ["ImportError", "SystemExit('built for another CPU')"])
def test_a_numba_that_fails(failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numba.py").write_text(f"raise {failure}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert module_anew()["WHY_NOT"].startswith("Numba cannot be used: ")


CHILD = """
import json, os, sys
environment = dict(os.environ)
import npvae
from npvae import VAE, fast, fit
vae = VAE(12, (7,), 3)
early = [name for name in ("numba", "npvae.fast.jit", "PIL") if name in sys.modules]
print(json.dumps([early, environment == dict(os.environ), fast.why_not("auto")]))
"""


@pytest.mark.parametrize(
    ("disabled", "expected"), [("0", jit.WHY_NOT), ("1", "NUMBA_DISABLE_JIT is set")]
)
def test_the_lesson_imports_no_numba_and_the_engine_says_why_it_cannot_run(
    disabled: str, expected: str
) -> None:
    if jit.WHY_NOT:
        pytest.skip(jit.WHY_NOT)
    root = str(Path(jit.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD],
        env={**os.environ, "PYTHONPATH": root, "NUMBA_DISABLE_JIT": disabled},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == [[], True, expected]
