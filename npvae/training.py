"""How does it learn? Look at a batch, see which way the loss falls, take a small step, repeat.

    for every epoch, for every batch of shuffled images:
        x          (B, 784)  pixels in [0, 1], the images moved a little if so wished
        epsilon    (B, 10)   fresh noise
        forward, backward    the loss and its gradients: `team.backpropagate`, see data_parallel.py
        update               one step of the optimizer, of the length that the schedule says

All that is random in epoch e is drawn from generators seeded with (seed, what for, e). So equal
seeds give equal runs, and a run can be taken up again after any epoch without a saved generator.
Next: augmentation.py, evaluation.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DivergedError
from npvae.core.optimizer_base import Optimizer
from npvae.core.validation import check_images
from npvae.datasets.augmentation import random_warps
from npvae.datasets.minibatches import chunks
from npvae.evaluation import Images
from npvae.fast.data_parallel import Team
from npvae.losses import Loss
from npvae.model import VAE
from npvae.schedules import SCHEDULES, ramp
from npvae.settings import Settings

# One seed, several independent streams: the second number says what for.
WEIGHTS, TRAINING, TESTING, PICTURES, HOLDING_OUT, WARPING, VALIDATING = range(7)

Rows = NDArray[np.intp]  # which images
Report = Callable[[int, int, float], None]  # batches done, batches in all, mean loss so far


class Epoch(NamedTuple):
    """What one epoch came to; losses in nats per image, seconds of training alone.

    The losses are at the settings' beta, even while it is still rising: so epochs compare.
    """

    epoch: int
    train: Loss
    test: Loss
    seconds: float
    validation: Loss | None = None


def generator(seed: int, stream: int, epoch: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, stream, epoch])


@np.errstate(all="ignore")  # what overflows shows in the loss, which is looked at
def train_epoch(
    team: Team,
    optimizer: Optimizer,
    images: Images,
    rows: Rows,
    settings: Settings,
    epoch: int = 1,
    report: Report | None = None,
) -> Loss:
    """Train on each of these rows of images once, in random order; the mean loss along the way.

    How long a step is, settings say, and not what the optimizer was made with: its learning_rate is
    set before every step. Raises DivergedError at the first batch whose loss is not finite, before
    its gradients are used.
    """
    vae, images = team.vae, images.reshape(len(images), -1)
    rng = generator(settings.seed, TRAINING, epoch)
    warping_rng = generator(settings.seed, WARPING, epoch)
    seen, bce, kl, last, warps = 0, 0.0, 0.0, math.nan, None
    count = math.ceil(len(rows) / settings.batch_size)
    for k, batch in enumerate(chunks(rng.permutation(rows), settings.batch_size), start=1):
        time = epoch - 1 + (k - 1) / count  # in epochs
        epsilon = vae.noise(len(batch), rng)
        if settings.augment:
            warps = random_warps(len(batch), settings.augment, warping_rng)
        beta = settings.beta * ramp(time, settings.kl_warmup)
        loss = team.backpropagate(images, batch, epsilon, beta, warps)
        if not math.isfinite(loss.loss):
            before = f"it was {last:.4g} before" if k > 1 else "in the very first batch"
            raise DivergedError(f"batch {k} of {count}: the loss is {loss.loss}, {before}")
        optimizer.learning_rate = learning_rate(settings, time, time + 1 / count)
        optimizer.update(vae.parameters, vae.gradients)

        seen, last = seen + len(batch), loss.loss
        bce, kl = bce + loss.bce * len(batch), kl + loss.kl * len(batch)
        if report:
            report(k, count, (bce + settings.beta * kl) / seen)
    return Loss(bce / seen, kl / seen, settings.beta)


def learning_rate(settings: Settings, begin: float, end: float) -> float:
    """That of the step from `begin` to `end`, in epochs.

    The schedule is read at its begin, and the warm-up at its end: a first step of length 0 would be
    none.
    """
    factor = SCHEDULES[settings.schedule](begin / settings.epochs) * ramp(end, settings.warmup)
    return max(settings.learning_rate * factor, sys.float_info.min)  # however long the warm-up is


def train_validation_split(count: int, validation: int, seed: int) -> tuple[Rows, Rows]:
    """The rows to train on and, chosen at random, those to validate on; both in rising order."""
    shuffled = generator(seed, HOLDING_OUT).permutation(count)
    return np.sort(shuffled[validation:]), np.sort(shuffled[:validation])


def train(
    vae: VAE,
    optimizer: Optimizer,
    train_images: Images,
    test_images: Images,
    settings: Settings,
    epochs: range,
    workers: int = 1,
    report: Report | None = None,
) -> Iterator[Epoch]:
    """Train, epoch by epoch, and look at the test set after each; the caller may stop at any time.

    The optimizer's learning rate is set as settings say. Raises DivergedError; what was yielded
    before is still good. Raises ValueError for images that are no bytes.
    """
    check_images(train_images)
    check_images(test_images)
    seed, beta = settings.seed, settings.beta
    rows, held_out = train_validation_split(len(train_images), settings.validation, seed)
    validation_images = train_images[held_out]
    team = Team(vae, workers)
    for epoch in epochs:
        start = perf_counter()
        try:
            trained = train_epoch(team, optimizer, train_images, rows, settings, epoch, report)
            seconds = perf_counter() - start
            tested = team.average_loss(test_images, generator(seed, TESTING, epoch), beta)
            if not math.isfinite(tested.loss):
                raise DivergedError(f"the test loss is {tested.loss} after the last batch")
            validated = None
            if len(held_out):
                # The same noise in every epoch: they are compared, by the model alone.
                validated = team.average_loss(validation_images, generator(seed, VALIDATING), beta)
                if not math.isfinite(validated.loss):
                    raise DivergedError(f"the validation loss is {validated.loss}")
        except DivergedError as error:
            raise DivergedError(
                f"training has diverged in epoch {epoch}, {error}.\n"
                "Try a smaller --learning-rate. What was saved before, if anything, is untouched."
            ) from None
        yield Epoch(epoch, trained, tested, seconds, validated)
