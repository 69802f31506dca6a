"""How does it learn? Look at a batch, see which way the loss falls, take a small step, repeat.

    for every epoch, for every batch of shuffled images:
        x          (B, 784)  pixels in [0, 1]
        epsilon    (B, 10)   fresh noise
        forward, backward    the loss and its gradients; parallel.py shares them out
        update               one step of Adam

All that is random in epoch e is drawn from generators seeded with (seed, what for, e). So equal
seeds give equal runs, and a run can be taken up again after any epoch without a saved generator.
Next: evaluation.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.batches import chunks
from npvae.errors import DivergedError
from npvae.evaluation import Images
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.parallel import Team
from npvae.settings import Settings

# One seed, several independent streams: the second number says what for.
WEIGHTS, TRAINING, TESTING, PICTURES, HOLDING_OUT = range(5)

Rows = NDArray[np.intp]  # which images
Report = Callable[[int, int, float], None]  # batches done, batches in all, mean loss so far


class Epoch(NamedTuple):
    """What one epoch came to; losses in nats per image, seconds of training alone."""

    epoch: int
    train: Loss
    test: Loss
    seconds: float
    validation: Loss | None = None


def generator(seed: int, stream: int, epoch: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, stream, epoch])


def train_epoch(
    team: Team,
    optimizer: Adam,
    images: Images,
    rows: Rows,
    batch_size: int,
    rng: np.random.Generator,
    beta: float = 1.0,
    report: Report | None = None,
) -> Loss:
    """Train on each of these rows of images once, in random order; the mean loss along the way.

    Raises DivergedError at the first batch whose loss is not finite, before it can do any harm.
    """
    vae, images = team.vae, images.reshape(len(images), -1)
    seen, bce, kl, last = 0, 0.0, 0.0, math.nan
    count = math.ceil(len(rows) / batch_size)
    for k, batch in enumerate(chunks(rng.permutation(rows), batch_size), start=1):
        epsilon = vae.noise(len(batch), rng)
        loss = team.backpropagate(images, batch, epsilon, beta)
        if not math.isfinite(loss.loss):
            before = f"it was {last:.4g} before" if k > 1 else "in the very first batch"
            raise DivergedError(f"batch {k} of {count}: the loss is {loss.loss}, {before}")
        optimizer.update(vae.parameters, vae.gradients)

        seen, last = seen + len(batch), loss.loss
        bce, kl = bce + loss.bce * len(batch), kl + loss.kl * len(batch)
        if report:
            report(k, count, (bce + beta * kl) / seen)
    return Loss(bce / seen, kl / seen, beta)


def hold_out(count: int, validation: int, seed: int) -> tuple[Rows, Rows]:
    """The rows to train on and, chosen at random, those to validate on; both in rising order."""
    shuffled = generator(seed, HOLDING_OUT).permutation(count)
    return np.sort(shuffled[validation:]), np.sort(shuffled[:validation])


def train(
    vae: VAE,
    optimizer: Adam,
    train_images: Images,
    test_images: Images,
    settings: Settings,
    epochs: range,
    workers: int = 1,
    report: Report | None = None,
) -> Iterator[Epoch]:
    """Train, epoch by epoch, and look at the test set after each; the caller may stop at any time.

    Raises DivergedError; what was yielded before is still good.
    """
    seed, beta = settings.seed, settings.beta
    rows, held_out = hold_out(len(train_images), settings.validation, seed)
    validation_images = train_images[held_out]
    team = Team(vae, workers)
    for epoch in epochs:
        start = time.perf_counter()
        rng = generator(seed, TRAINING, epoch)
        try:
            trained = train_epoch(
                team, optimizer, train_images, rows, settings.batch_size, rng, beta, report
            )
            seconds = time.perf_counter() - start
            tested = team.average_loss(test_images, generator(seed, TESTING, epoch), beta)
            if not math.isfinite(tested.loss):
                raise DivergedError(f"the test loss is {tested.loss} after the last batch")
        except DivergedError as error:
            raise DivergedError(
                f"training has diverged in epoch {epoch}, {error}.\n"
                "Try a smaller --learning-rate. What was saved before, if anything, is untouched."
            ) from None
        validated = None
        if len(held_out):
            # The same noise in every epoch, so that epochs differ by the model alone.
            validated = team.average_loss(validation_images, generator(seed, HOLDING_OUT), beta)
        yield Epoch(epoch, trained, tested, seconds, validated)
