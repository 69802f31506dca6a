"""How do several processes train one model? `mpiexec -n 4 python scripts/train.py ...`

A gradient is a sum over images, so it can be added up anywhere. MPI numbers its processes: each is
a *rank*. Every rank makes the same plan of an epoch, with the same permutation and noise. Of each
batch it takes its shard and computes the gradient. The ranks add up their gradients, and every rank
makes the same step, so they all keep the same parameters. Rank 0 alone prints, writes and draws.

In the lesson a `DataParallel` model does this inside training.train_epoch. In the engine the
workers are ranks instead of threads: see fast/ranks.py. A rank computes on one core.

Which bits are equal? Gradients are added up in the order of the ranks, so all ranks have the same
weights, byte for byte, and so do threads that exchange their sums in this way (in the tests). One
rank is a plain process. Several ranks and a plain process agree to rounding only, 1e-12 in float64
after eight steps: it sums over whole batches, and its engine shares out pixels instead of images.

Nothing of MPI is imported unless mpiexec has started this process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npvae.core.errors import DivergedError, NpvaeError, OptionError, RankError
from npvae.core.parameters import Array, NamedArrays
from npvae.core.validation import Classes
from npvae.fast.blas import one_thread
from npvae.losses import Loss
from npvae.model import VAE
from npvae.runs.launcher import (
    SIGNALS,
    as_rank_0,
    environment_of_a_child,
    on_failure,
    size_and_rank,
    unrelated_tasks,
)
from npvae.runs.terminal import show_note

PATIENCE = 5.0  # seconds that other ranks wait for rank 0 to explain an error, then they end all


def join() -> Ranks | None:
    """All ranks, if mpiexec has started several. Raises OptionError if they cannot be reached."""
    size, _ = size_and_rank()
    if size == 1:
        if note := unrelated_tasks():
            show_note(note, sys.stderr)
        return None
    on_failure.append(end_all)
    why = ""
    try:
        from mpi4py import MPI

        comm: Any = MPI.COMM_WORLD
        if comm.size != size:
            why = "mpi4py belongs to another MPI than this mpiexec and sees only one process"
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py finds no library of MPI
        why = f"mpi4py cannot be used: {error}".splitlines()[0]
    with as_rank_0():
        if why:
            raise OptionError(
                f"mpiexec has started {size} processes, but {why}.\n"
                f"Install both for this Python with  {sys.executable} -m pip install mpi4py mpich\n"
                f"and start with the mpiexec in {os.path.dirname(sys.executable)}."
            )
    return Ranks(comm)


@contextmanager
def naming_a_lost_rank() -> Iterator[None]:
    """What MPI says of a rank that it cannot reach any more is a stack of 25 lines."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("mpi4py"):
            raise RankError("a rank was lost, so all ranks end.") from error
        raise


class Ranks:
    """The processes that train together; `rank` is the number of this one, of `size` in all.

    `comm` is a communicator of mpi4py.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, int(comm.rank), int(comm.size)

    def shard(self, count: int) -> slice:
        """This rank's part of so many images; of fewer images than ranks, some ranks get none."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @naming_a_lost_rank()
    def share(self, given: Any = None) -> Any:
        """What rank 0 gives to all."""
        return self.comm.bcast(given)

    @naming_a_lost_rank()
    def meet(self, *numbers: float, failed: int = 0) -> NDArray[np.float64]:
        """The numbers of all ranks (size, n), by rank; at most three.

        `failed` is the exit code of a rank that has failed. Then all others raise RankError.
        """
        own, all_of_them = np.zeros(4), np.empty((self.size, 4))
        own[0], own[1 : 1 + len(numbers)] = failed, numbers
        self.comm.Allgather(own, all_of_them)
        codes = all_of_them[:, 0].astype(int)
        if codes.any() and not failed:
            error = RankError(f"rank {codes.argmax()} has failed, so all ranks end.")
            error.exit_code = int(codes.max())
            raise error
        return all_of_them[:, 1 : 1 + len(numbers)]

    @naming_a_lost_rank()
    def add_up(self, own: Array) -> Array:
        """The sum of all ranks' arrays (n,), in the order of the ranks.

        As inside MPI's Allreduce, each rank adds up one piece and gives it to all. So twice the
        array travels, however many ranks there are. MPI would choose the order of the sum itself.
        """
        length = -(-len(own) // self.size)  # of a piece, rounded up
        pieces = np.zeros((self.size, length), own.dtype)
        pieces.reshape(-1)[: len(own)] = own
        mine = np.empty_like(pieces)  # mine[r] is my piece of rank r's array
        self.comm.Alltoall(pieces, mine)
        total = mine[0]
        for other in mine[1:]:
            total += other
        self.comm.Allgather(total, pieces)
        return pieces.reshape(-1)[: len(own)]


class DataParallel(VAE):
    """`vae` itself, its very arrays; but loss and gradients are added up from the ranks' shards."""

    def __init__(self, vae: VAE, ranks: Ranks) -> None:
        self.__dict__.update(vars(vae))
        self.ranks = ranks

    def loss_and_gradients(
        self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0, c: Classes = None
    ) -> tuple[Loss, NamedArrays]:
        x, epsilon = np.asarray(x), np.asarray(epsilon)
        shard = self.ranks.shard(len(x))
        share, own = (shard.stop - shard.start) / len(x), Loss(0.0, 0.0, beta)
        gradients = NamedArrays(self.parameters.shapes, self.dtype)
        if share:
            some = None if c is None else np.asarray(c)[shard]
            own, gradients = super().loss_and_gradients(x[shard], epsilon[shard], beta, some)
        bce, kl = self.ranks.meet(share * own.bce, share * own.kl).sum(axis=0)
        gradients.flat[:] = self.ranks.add_up(share * gradients.flat)
        return Loss(float(bce), float(kl), beta), gradients


@contextmanager
def together(ranks: Ranks | None, debug: bool = False) -> Iterator[None]:
    """In this context an error of one rank ends all, once rank 0 has said how to continue.

    Rank 0 alone reacts to signals: the others continue until it ends them. With `debug`, they show
    the traceback of an error of theirs.
    """
    if ranks is None:
        yield
        return
    try:
        with one_thread():
            if ranks.rank:
                for number in SIGNALS:
                    signal.signal(number, signal.SIG_IGN)
            yield
        dismiss_watchers()
    except Exception as error:
        if ranks.rank == 0:
            raise
        code = error.exit_code if isinstance(error, NpvaeError) else 1
        if not isinstance(error, DivergedError | RankError):  # which rank 0 gets as well
            show_note(f"rank {ranks.rank}: {type(error).__name__}: {error}", sys.stderr)
            if debug:
                traceback.print_exc()
            late = threading.Timer(PATIENCE, os._exit, [code])
            late.daemon = True
            late.start()
            with suppress(RankError):  # one is lost
                ranks.meet(failed=code)  # the others do not get it if they are in `add_up`
        raise SystemExit(code) from error


# A process that outlives rank 0, which mpiexec kills without a word once another rank is lost.
WATCHER = """
import os, sys, time
last, again = sys.argv[1:]
if not sys.stdin.read():
    time.sleep(0.5)  # mpiexec has something to say, too
    how = "No epoch was finished: start again with the same command."
    if os.path.exists(last):
        how = f"The state after the last epoch is in {last}\\nContinue with:  {again}"
    print(f"A process was lost, so all have ended. {how}", file=sys.stderr)
"""
watchers: list[subprocess.Popen[bytes]] = []


def watch(last: Path, again: str) -> None:
    """If this process is killed from now on, its watcher says how to continue."""
    with suppress(OSError):  # no process can be started: the plan says it, too
        watchers.append(
            subprocess.Popen(
                [sys.executable, "-S", "-c", WATCHER, str(last), again],
                env=environment_of_a_child(),
                stdin=subprocess.PIPE,
                start_new_session=True,  # so that no signal reaches it
            )
        )


def dismiss_watchers() -> None:
    """This process ends with words of its own, or needs none."""
    for watcher in watchers:
        watcher.communicate(b"done")
    watchers.clear()


def end_all(code: int) -> None:
    """End all ranks with this exit code: the others would wait for one that has failed."""
    _, rank = size_and_rank()
    dismiss_watchers()
    time.sleep(PATIENCE if rank else 0.2)  # mpiexec may drop what was printed just before the end
    if mpi4py := sys.modules.get("mpi4py.MPI"):
        mpi4py.COMM_WORLD.Abort(code)
    os._exit(code)  # Ctrl-C during its import: Python's own end would wait for the other ranks
