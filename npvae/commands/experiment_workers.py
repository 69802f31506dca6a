"""Who trains the experiments? Child processes here, or on the other ranks of MPI.

`mpiexec -n 8 python -m mpi4py.futures scripts/experiments.py` runs the script on rank 0 alone. The
other seven ranks, on this machine or others, wait for work; each trains one run at a time on one
core. They need the same files: the program, the data and the folder of the runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any, Protocol

from npvae.core.errors import OptionError
from npvae.fast.threads import cores
from npvae.runs.launcher import SIGNALS, as_rank_0, environment_of_a_child, size_and_rank
from npvae.runs.terminal import CLONE

STOP = 1  # the tag of a message to other ranks
Ended = tuple[int, str]  # exit code and stderr of a command


class Workers(Protocol):
    """They run `count` commands at a time."""

    count: int

    def submit(self, words: Sequence[str]) -> Future[Ended]: ...

    def stop(self) -> None:
        """Terminate the commands that still run, and wait for them."""


def start_workers(jobs: int) -> Workers:
    """The other ranks, if there are any; otherwise as many `jobs` here. Raises OptionError."""
    size, _ = size_and_rank()
    if size == 1:
        return Here(jobs)
    if "mpi4py.futures" in sys.modules:
        return OtherRanks()
    with as_rank_0():
        raise OptionError(
            f"mpiexec has started this command {size} times.\nTo spread its runs over the ranks,"
            " write  python -m mpi4py.futures  instead of  python  in front of the script."
        )


class Here:
    """Child processes of this one, which share its cores."""

    def __init__(self, count: int) -> None:
        self.count, self.pool, self.stopped = count, ThreadPoolExecutor(count), Event()

    def submit(self, words: Sequence[str]) -> Future[Ended]:
        threads = str(max(1, cores() // self.count))
        return self.pool.submit(run, words, {"OMP_NUM_THREADS": threads}, self.stopped.is_set)

    def stop(self) -> None:
        self.stopped.set()
        self.pool.shutdown()


class OtherRanks:
    """Child processes of all ranks but this one."""

    def __init__(self) -> None:
        from mpi4py import MPI
        from mpi4py.futures import MPIPoolExecutor

        self.comm: Any = MPI.COMM_WORLD
        self.pool: Any = MPIPoolExecutor(main=False, path=[str(CLONE)], initializer=ignore_signals)
        self.count = int(self.pool.num_workers)
        self.submitted: list[Future[Ended]] = []

    def submit(self, words: Sequence[str]) -> Future[Ended]:
        self.submitted.append(self.pool.submit(run_on_this_rank, words))
        return self.submitted[-1]

    def stop(self) -> None:
        if not all(future.done() for future in self.submitted):
            for rank in range(1, self.comm.size):
                self.comm.isend(None, rank, STOP)
        self.pool.shutdown()


def ignore_signals() -> None:
    """On another rank: leave them to rank 0. (With SIG_IGN, the child would ignore them, too.)"""
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)


def run_on_this_rank(words: Sequence[str]) -> Ended:
    """`run` until rank 0 says stop, on one core unless $OMP_NUM_THREADS names more."""
    from mpi4py import MPI

    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return run(words, threads, lambda: MPI.COMM_WORLD.iprobe(0, STOP))


def run(words: Sequence[str], more: dict[str, str], stopped: Callable[[], bool]) -> Ended:
    """Run a command, with `more` environment variables, to its end or until it is stopped."""
    process = subprocess.Popen(
        words,
        env={**environment_of_a_child(), **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while not stopped():
        with suppress(subprocess.TimeoutExpired):
            _, said = process.communicate(timeout=0.1)
            return process.returncode, said
    process.terminate()
    _, said = process.communicate()
    return process.returncode, said
