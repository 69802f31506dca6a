"""How many cores this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import npvae
from npvae.fast import threads
from npvae.fast.blas import thread_functions
from npvae.fast.threads import cores as usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with five cores, of which this process may use three, and no environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    return monkeypatch


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        *((None, 3), ("", 3), ("1", 1), ("2", 2), ("7", 7), ("0", 1), ("x", 3), ("-2", 3)),
        *(("4,2", 4), (" 4 , 2", 4), ("4;2", 3), ("2 ", 2), ("99999", 1024), ("9" * 5000, 1024)),
    ],
)
def test_cores_are_those_that_one_may_use(
    cores: pytest.MonkeyPatch, wanted: str | None, expected: int
) -> None:
    if wanted is not None:
        cores.setenv("OMP_NUM_THREADS", wanted)
    assert usable_cores() == expected


def test_where_nobody_says_which_cores_one_may_use(cores: pytest.MonkeyPatch) -> None:
    cores.delattr(os, "sched_getaffinity")
    assert usable_cores() == 5
    cores.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


CHILD = """
import os
from npvae.fast import threads
before = dict(os.environ)
threads.limit_blas_threads()
from npvae.fast.blas import thread_functions
functions = thread_functions()
limited = functions[0]() if functions else 0
threads.free_blas_threads()
print(limited, functions[0]() if functions else 0, dict(os.environ) == before)
"""


@pytest.mark.parametrize(("given", "expected"), [("", "1 3 True"), ("2", "2 2 True")])
def test_blas_starts_no_threads_until_it_is_freed(given: str, expected: str) -> None:
    """Unless the user has said how many: then it is as the user says."""
    if thread_functions() is None:
        pytest.skip("BLAS does not tell its threads")
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment |= {"OMP_NUM_THREADS": "3", "PYTHONPATH": str(Path(npvae.__file__).parents[1])}
    if given:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_where_numpy_is_there_already_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    threads.limit_blas_threads()
    assert dict(os.environ) == before
    assert threads.limited == []


def test_whether_a_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    assert threads.can_start_a_thread()
    monkeypatch.setattr(threading.Thread, "start", refused)
    assert not threads.can_start_a_thread()
