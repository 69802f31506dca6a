"""The engine on several processes, the ranks of MPI, see runs/mpi.py.

Every rank has an engine of one worker. It computes the gradient of its shard of each batch; the
ranks add these up, and every rank makes the same step with the sum, in a second compiled call.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

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
        data, batch_size, me = job.values, job.values["batch_size"], self.ranks
        gradient, learning = data["gradients"][0], len(data["learning_rate"]) > 0
        own = job.replace(rank=me.rank, ranks=me.size, optimizer=NO_STEP)
        with one_thread():
            for batch in range(first, last):
                B = min(batch_size, len(data["indices"]) - batch * batch_size)
                begin, end = shard(B, me.rank, me.size)
                if begin < end:
                    super()._run(batch, batch + 1, own)
                share, losses = (end - begin) / B, (data["bce"], data["kl"])
                means = me.meet(*(share * loss[batch] if share else 0.0 for loss in losses))
                data["bce"][batch], data["kl"][batch] = means.sum(axis=0)
                loss = data["bce"][batch] + data["beta"][batch] * data["kl"][batch]
                if learning and not math.isfinite(loss):
                    return
                if learning:
                    gradient[:] = me.add_up(gradient.dtype.type(share) * gradient)
                    self.step.run(job.replace(first=batch).record)


@functools.cache
def step_program(dtype: str) -> Program:
    """The compiled step for this dtype."""
    return Program(step, dtype)
