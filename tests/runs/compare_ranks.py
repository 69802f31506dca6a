"""Run by mpiexec: one model trained by processes, by threads in one process, and by a plain one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from threading import Barrier

import numpy as np

from npvae import VAE
from npvae.core.parameters import Array
from npvae.datasets.drawn_digits import drawn_digits
from npvae.fast import why_not
from npvae.fast.blas import one_thread
from npvae.optimizers import OPTIMIZERS
from npvae.runs import fit, mpi
from npvae.settings import Settings
from tests.helpers import HANGS_AFTER

# 50 images leave a last batch of 2, in which one of three ranks has no image.
TRAIN, TEST = drawn_digits(train=50, test=30)


class ThreadRanks(mpi.Ranks):
    """Ranks that are threads of one process. They exchange arrays through a list, `table`."""

    def __init__(self, rank: int, table: list[Array], barrier: Barrier) -> None:
        self.rank, self.size, self.table, self.barrier = rank, len(table), table, barrier

    def all(self, own: Array) -> list[Array]:
        self.table[self.rank] = own
        self.barrier.wait(HANGS_AFTER)
        everyone = list(self.table)
        self.barrier.wait(HANGS_AFTER)  # so that no one is a step ahead
        return everyone

    def meet(self, *numbers: float, failed: int = 0) -> Array:
        return np.array(self.all(np.array(numbers)))

    def add_up(self, own: Array) -> Array:
        return reduce(np.add, self.all(own))


def trained(
    dtype: str, backend: str, name: str, ranks: mpi.Ranks | None
) -> tuple[Array, list[list[float]]]:
    """The weights and the losses; every other optimizer trains a conditional model."""
    classes = 10 * (list(OPTIMIZERS).index(name) % 2)
    vae = VAE(784, (16,), 3, dtype=dtype, rng=0, num_classes=classes)
    settings = Settings(epochs=2, batch_size=16, optimizer=name, augment=("shift",))
    job = fit.Job(vae, OPTIMIZERS[name](1e-3), settings, TRAIN, TEST, backend, ranks)
    epochs = fit.train(job, range(1, 3))
    losses = [[e.train.total, e.test.total] for e in epochs if e.test]
    return vae.parameters.flat.copy(), losses


def trained_by_threads(dtype: str, backend: str, name: str, size: int) -> list[Array]:
    """The weights of each thread."""
    table: list[Array] = [np.zeros(0)] * size
    barrier = Barrier(size)

    def train(rank: int) -> Array:
        return trained(dtype, backend, name, ThreadRanks(rank, table, barrier))[0]

    with one_thread(), ThreadPoolExecutor(size) as pool:
        return list(pool.map(train, range(size)))


def bits(arrays: Sequence[Array]) -> set[bytes]:
    return {array.tobytes() for array in arrays}


def compared(dtype: str, backend: str, name: str, ranks: mpi.Ranks) -> dict[str, float] | None:
    """How far the results of all ranks are from those of others; on rank 0 alone."""
    together, losses = trained(dtype, backend, name, ranks)
    everywhere: list[Array] = ranks.comm.allgather(together)
    if ranks.rank:
        return None
    threads = trained_by_threads(dtype, backend, name, ranks.size)
    alone, expected = trained(dtype, backend, name, None)  # OMP_NUM_THREADS workers
    return {
        "models": len(bits(everywhere)),
        "models with threads": len(bits([*everywhere, *threads])),
        "weights": float(abs(together - alone).max() / abs(alone).max()),
        "losses": float((abs(np.subtract(losses, expected)) / expected).max()),
    }


def main() -> None:
    """Of three ranks, all train, and two of them. Rank 0 prints what came of each case.

    Each of both numbers, backends and dtypes meets a conditional model and one that is not, each
    optimizer meets both numbers and both dtypes.
    """
    everyone, found = mpi.join(), {}
    assert everyone
    for size in (3, 2):
        some = everyone.comm.Split(everyone.rank < size, everyone.rank)
        if everyone.rank >= size:
            continue
        for backend in ["numpy"] + ["auto"] * (not why_not("auto")):
            for number, name in enumerate(OPTIMIZERS):
                dtype = ("float64", "float32")[(number // 2 + size) % 2]
                case = f"{size} ranks, {backend}, {dtype}, {name}"
                found[case] = compared(dtype, backend, name, mpi.Ranks(some))
    if everyone.rank == 0:
        print(json.dumps(found))
