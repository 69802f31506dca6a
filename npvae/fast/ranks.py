"""The engine on several processes: its workers are the ranks of MPI, see runs/mpi.py.

A batch takes two calls of compiled code. In the first, this rank does what the worker of its number
does, up to where the workers would meet: then its gradient is there. In the second it makes the
step, with the gradient that the ranks have added up in the same order as the workers do.
"""

from __future__ import annotations

import functools
import math
from typing import Protocol

import numpy as np

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.fast.atomics import GIVEN_UP
from npvae.fast.blas import one_thread
from npvae.fast.engine import Bytes, Engine, Floats
from npvae.fast.jit import Program
from npvae.fast.step import Batches, Rule, step
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
        gradients = np.zeros((ranks.size, len(vae.parameters.flat)), vae.dtype)  # only one is used
        losses = np.zeros((ranks.size, 8))
        self.network = self.network._replace(gradients=gradients, losses=losses)
        self.step = step_program(vae.dtype.name)
        # A loop that adds two gradients rounds otherwise than one that has the sum, so it gets two.
        self.nothing = np.zeros_like(gradients[0])
        self.step.prepare((gradients[0], self.nothing, 0.0, self.network, self._rule()))

    def _run(self, first: int, last: int, batch_size: int, rule: Rule, data: Batches) -> int:
        """This rank's part in these batches; returns where all ranks stopped."""
        network, rank, learning = self.network, self.ranks.rank, len(data.learning_rate) > 0
        gradient, own = network.gradients[rank], network.losses[rank]
        with one_thread():
            for batch in range(first, last):
                B = min(batch_size, len(data.indices) - batch * batch_size)
                network.counter[0] = GIVEN_UP  # the worker stops where it would wait for others
                self.program.run(rank, batch, batch + 1, batch_size, network, rule, data)
                if rank >= B:  # no image was left for this rank
                    gradient[:] = 0
                means = self.ranks.meet(own[0], own[1]) / B
                data.bce[batch], data.kl[batch] = means.cumsum(axis=0)[-1]  # in this order
                loss = data.bce[batch] + data.beta[batch] * data.kl[batch]
                if learning and not math.isfinite(loss):
                    return batch
                if learning:
                    total = self.ranks.add_up(gradient)
                    rate = data.learning_rate[batch]
                    self.step.run(total, self.nothing, rate, network, rule)
        return last


@functools.cache
def step_program(dtype: str) -> Program:
    """The compiled step for this dtype."""
    return Program(step, dtype)
