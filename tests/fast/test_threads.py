"""How many cores this process may use."""

from __future__ import annotations

import math
import os
import sys
import threading
from pathlib import Path

import pytest

from npvae.fast import threads
from npvae.fast.blas import thread_functions
from npvae.fast.threads import cores
from tests.helpers import environment, run


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """It has five cores, of which this process may use three, and no environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: math.inf)  # whatever this machine grants
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    return monkeypatch


WANTED = [
    *(("", 3), ("1", 1), ("7", 7), ("0", 1), ("x", 3), ("-2", 3), ("2 ", 2)),
    *(("4,2", 4), (" 4 , 2", 4), ("4;2", 3), ("9" * 5000, 1024)),
]


def test_cores_are_those_that_one_may_use(machine: pytest.MonkeyPatch) -> None:
    assert cores() == 3
    for wanted, expected in WANTED:
        machine.setenv("OMP_NUM_THREADS", wanted)
        assert cores() == expected, wanted


def test_where_nobody_says_which_cores_one_may_use(machine: pytest.MonkeyPatch) -> None:
    machine.delattr(os, "sched_getaffinity")
    assert cores() == 5
    machine.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_a_quota_of_cpu_time_counts_as_so_many_cores(machine: pytest.MonkeyPatch) -> None:
    for quota, expected in ((0.01, 1), (1, 1), (1.01, 2), (3.0, 3), (64, 3)):
        machine.setattr(threads, "cpu_quota", lambda quota=quota: quota)
        assert cores() == expected
    machine.setenv("OMP_NUM_THREADS", "7")  # the user knows better
    assert cores() == 7


V1, V2 = "4:memory:/m\n3:cpu,cpuacct:", "0::"
CPU = "cpu,cpuacct"


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        (V2 + "/", {"cpu.max": "150000 100000\n"}, 1.5),
        (V2 + "/", {"cpu.max": "max 100000\n"}, math.inf),
        (V2 + "/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 20000\n"}, 2.5),
        (V2 + "/a/b", {"a/b/cpu.max": "10000 20000\n", "a/cpu.max": "50000 20000\n"}, 0.5),
        (V2 + "/../..", {"cpu.max": "200000 100000\n"}, 2.0),  # seen from another namespace
        (V2 + "/of/the/host", {"cpu.max": "200000 100000\n"}, 2.0),  # without a namespace
        (V2 + "/a", {"a/cpu.max": "no number\n", "cpu.max": ""}, math.inf),
        (V2 + "/a", {"a/cpu.max": "5 0\n"}, math.inf),
        (V1 + "/", {f"{CPU}/cpu.cfs_quota_us": "-1", f"{CPU}/cpu.cfs_period_us": "9"}, math.inf),
        (V1 + "/d", {f"{CPU}/cpu.cfs_quota_us": "90\n", f"{CPU}/cpu.cfs_period_us": "60\n"}, 1.5),
        (V1 + "/d", {f"{CPU}/d/cpu.cfs_quota_us": "90\n"}, math.inf),  # half of it unreadable
        (f"{V1}/d\n{V2}/e", {"unified/e/cpu.max": "7 10"}, 0.7),
        ("", {"cpu.max": "1 10"}, math.inf),  # no Linux
    ],
)
def test_the_smallest_quota_of_all_groups_around_counts(
    group: str, files: dict[str, str], expected: float, tmp_path: Path
) -> None:
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": group, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.cpu_quota(tmp_path) == expected


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
    env = environment(OMP_NUM_THREADS="3", OPENBLAS_NUM_THREADS=given)
    for name in threads.VARIABLES:
        if not env.get(name):
            env.pop(name, None)
    done = run([sys.executable, "-c", CHILD], env=env)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_where_numpy_is_there_already_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
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
