"""The engine on several processes, the ranks of MPI, see runs/mpi.py.

Every rank has an engine of one worker. It computes the gradient of its shard of each batch; the
ranks add these up, and every rank makes the same step with the sum, in a second compiled call.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

import numpy as np

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.fast.blas import one_thread
from npvae.fast.engine import Bytes, Engine, Floats
from npvae.fast.jit import Program
from npvae.fast.job import Job
from npvae.fast.kernels import NO_STEP
from npvae.fast.step import shard, step
from npvae.model import VAE


class Together(Protocol):
    """What the engine needs of runs.mpi.Ranks."""

    rank: int
    size: int

    def meet(self, *numbers: float) -> Floats: ...
    def add_up(self, own: Array) -> Array: ...


class RankEngine(Engine):
    """An engine of one worker in each of several processes. All of them call the same methods."""

    def __init__(
        self,
        vae: VAE,
        optimizer: Optimizer,
        images: Bytes,
        labels: Bytes | None,
        ranks: Together,
    ) -> None:
        super().__init__(vae, optimizer, images, labels, workers=1)
        self.ranks = ranks
        self.step = step_program(vae.dtype.name)
        self.step.prepare((Job.of(vae.dtype.name, {}).record,))

    def _run(self, first: int, last: int, job: Job) -> None:
        """This rank's part in these batches, until all ranks stop."""
        data, batch_size, optimizer = job.values, job.values["batch_size"], job.values["optimizer"]
        gradient, learning = data["gradients"][0], len(data["learning_rate"]) > 0
        with one_thread():
            for batch in range(first, last):
                start = batch * batch_size
                B = min(batch_size, len(data["indices"]) - start)
                begin, end = shard(B, self.ranks.rank, self.ranks.size)
                own = part_of(job, batch, slice(start + begin, start + end))
                if begin < end:
                    super()._run(0, 1, own)
                share = (end - begin) / B
                means = self.ranks.meet(*(share * own.values[name][0] for name in ("bce", "kl")))
                data["bce"][batch], data["kl"][batch] = means.sum(axis=0)
                loss = data["bce"][batch] + data["beta"][batch] * data["kl"][batch]
                if learning and not math.isfinite(loss):
                    return
                if learning:
                    gradient[:] = self.ranks.add_up(gradient.dtype.type(share) * gradient)
                    self.step.run(own.replace(optimizer=optimizer).record)


def part_of(job: Job, batch: int, images: slice) -> Job:
    """The gradients of some images of one batch; of loss 0 if there are none."""
    data = job.values
    return job.replace(
        optimizer=NO_STEP,
        indices=data["indices"][images],
        epsilon=data["epsilon"][images],
        warps=data["warps"][images] if len(data["warps"]) else data["warps"],
        beta=data["beta"][batch : batch + 1],
        learning_rate=data["learning_rate"][batch : batch + 1],
        bce=np.zeros(1),
        kl=np.zeros(1),
    )


@functools.cache
def step_program(dtype: str) -> Program:
    """The compiled step for this dtype."""
    return Program(step, dtype)
