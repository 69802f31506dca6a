"""Do the learner's gradients train as ours do? Both, batch by batch, from the same seed.

In float64, with the same weights, batches and noise, the two losses agree to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npvae.core.random_streams import Stream, generator
from npvae.datasets.minibatches import Images, minibatches, to_pixels
from npvae.lab.lesson import model
from npvae.lab.process import Fault, Learner
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.settings import Settings
from npvae.training import plan_epoch


class Epoch(NamedTuple):
    """The mean losses of the batches of one epoch, nats per image."""

    epoch: int
    yours: float
    ours: float

    @property
    def difference(self) -> float:
        return abs(self.yours - self.ours) / abs(self.ours)


def side_by_side(learner: Learner, images: Images, settings: Settings) -> Iterator[Epoch]:
    """Train both, epoch by epoch. Raises Fault."""
    vae = VAE(images[0].size, dtype=float, rng=generator(settings.seed, Stream.WEIGHTS))
    adam = Adam(settings.learning_rate)
    learner.begin()
    learner.give({"train": [theta.copy() for theta in vae.parameters.values()]})  # ours will move
    for epoch in range(1, settings.epochs + 1):
        plan, yours, ours = plan_epoch(np.arange(len(images)), settings, epoch), 0.0, 0.0
        for batch in minibatches(plan.shuffled, settings.batch_size):
            x = to_pixels(images[batch], float)
            epsilon = vae.noise(len(x), plan.noise)
            learner.give([x, epsilon])  # while it computes, so do we
            loss, gradients = vae.loss_and_gradients(x, epsilon)
            adam.update(vae.parameters, gradients)
            share = len(x) / len(images)
            ours += share * loss.total
            yours += share * number(learner.take())
        yield Epoch(epoch, yours, ours)


def trained(learner: Learner) -> VAE:
    """A model with the learner's parameters, after the last epoch. Raises Fault."""
    learner.give(None)
    try:
        return model(learner.take())
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise Fault("Its `train` has changed the shapes of the parameters.") from error


def number(losses: Any) -> float:
    """The bce and kl of a batch, added up."""
    try:
        bce, kl = losses
        return float(bce) + float(kl)
    except (TypeError, ValueError, OverflowError) as error:
        raise Fault(
            "Its `train` does not yield two numbers, bce and kl, for each batch."
        ) from error
