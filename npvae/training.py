"""How does it learn? Take a mini-batch, compute the gradient of its loss, take a step, repeat.

`plan_epoch` decides what is random or scheduled; `train_epoch` is the loop. Test losses, progress
and the choice of the backend are around it, in runs/fit.py. Next: evaluation.py.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np

from npvae.core.optimizer_base import Optimizer
from npvae.core.random_streams import Stream, generator
from npvae.datasets.augmentation import augmented
from npvae.datasets.minibatches import Images, Indices, Labels, minibatches
from npvae.losses import Loss
from npvae.model import VAE
from npvae.schedules import learning_rate, ramp
from npvae.settings import Settings


class Plan(NamedTuple):
    """What is decided before an epoch of K mini-batches begins."""

    shuffled: Indices  # (N,) which images, in the order in which they are used
    betas: list[float]  # (K,)
    learning_rates: list[float]  # (K,)
    noise: np.random.Generator  # draws epsilon, one batch after another
    warps: np.random.Generator  # likewise, the random shifts and so on of the augmentation


def plan_epoch(indices: Indices, settings: Settings, epoch: int) -> Plan:
    """The plan for epoch 1, 2, ... over the images with these indices."""
    s, batches = settings, ceil(len(indices) / settings.batch_size)
    times = [epoch - 1 + k / batches for k in range(batches + 1)]  # in epochs
    rates = [
        learning_rate(s.learning_rate, s.schedule, s.warmup, begin, end, s.epochs)
        for begin, end in pairwise(times)
    ]
    betas = [s.beta * ramp(time, s.kl_warmup) for time in times[:-1]]
    rng, warps = (generator(s.seed, stream, epoch) for stream in (Stream.TRAINING, Stream.WARPS))
    return Plan(rng.permutation(indices), betas, rates, rng, warps)


def train_epoch(
    vae: VAE, optimizer: Optimizer, images: Images, labels: Labels, plan: Plan, settings: Settings
) -> Iterator[Loss]:
    """One step per mini-batch of images (N, ...), bytes. A conditional model needs their labels.

    Yields the loss of each before its gradients are used, so that the caller can stop in time.
    """
    for k, batch in enumerate(minibatches(plan.shuffled, settings.batch_size)):
        x = augmented(images[batch], settings.augment, plan.warps, vae.dtype)
        epsilon = vae.noise(len(x), plan.noise)
        c = None if labels is None else labels[batch]
        loss, gradients = vae.loss_and_gradients(x, epsilon, plan.betas[k], c)
        yield loss
        optimizer.learning_rate = plan.learning_rates[k]
        optimizer.update(vae.parameters, gradients)
