"""What is around the loop of training.py: backends, progress, divergence, test losses, validation.

A `Job` is what is trained, on what and how. `train` yields one `Epoch` after another, for programs
that keep each one; `fit` trains a model in one call, for notebooks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from npvae import fast
from npvae.core.errors import DivergedError
from npvae.core.optimizer_base import Optimizer
from npvae.core.random_streams import Stream, generator
from npvae.core.validation import check_images, class_labels
from npvae.datasets.dataset import Dataset
from npvae.datasets.minibatches import Images, Indices, Labels
from npvae.evaluation import average_loss
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.runs.mpi import DataParallel, Ranks
from npvae.settings import Settings
from npvae.training import plan_epoch, train_epoch

if TYPE_CHECKING:
    from npvae.fast.engine import Engine

Report = Callable[[int, int, float], None]  # batches done, batches in all, mean loss so far


class Examples(NamedTuple):
    """Images (N, ...), bytes, with their labels (N,) if the model is conditional, or else None."""

    images: Images
    labels: Labels = None


@dataclass(frozen=True)
class Job:
    """What is trained, on what and how.

    `backend` is "auto", the engine where it can run, or "numpy", the lesson; by default what the
    environment variable NPVAE_BACKEND says. Both give the same numbers up to rounding. `ranks`
    are the processes that train this model together, if there are several; all have the same job.
    """

    vae: VAE
    optimizer: Optimizer
    settings: Settings
    train: Examples | Dataset
    test: Examples | Dataset | None = None
    backend: str | None = None
    ranks: Ranks | None = None

    @property
    def processes(self) -> int:
        """How many train this model together."""
        return self.ranks.size if self.ranks else 1


class Epoch(NamedTuple):
    """The result of one epoch; losses in nats per image, seconds of training alone.

    The losses are at the settings' beta, even while it is still rising, so that epochs compare.
    """

    epoch: int
    train: Loss
    test: Loss | None
    seconds: float
    validation: Loss | None = None


def train_validation_split(count: int, validation: int, seed: int) -> tuple[Indices, Indices]:
    """Indices to train on and, chosen at random, to validate on; both in rising order.

    Raises ValueError if nothing would be left to train on.
    """
    if not 0 <= validation < count:
        raise ValueError(f"validation must be 0 to {count - 1} of {count} images, not {validation}")
    shuffled = generator(seed, Stream.VALIDATION_SPLIT).permutation(count)
    return np.sort(shuffled[validation:]), np.sort(shuffled[:validation])


def train(job: Job, epochs: range, report: Report | None = None) -> Iterator[Epoch]:
    """Train epoch by epoch; the caller may stop after any of them.

    The optimizer's learning rate is set as settings say. Raises ValueError for images that are not
    bytes and labels that do not fit, and DivergedError if a loss is not finite; what was yielded
    before is still good.
    """
    vae, optimizer, settings = job.vae, job.optimizer, job.settings
    images, labels = checked(job.train, vae, "labels")
    test = None if job.test is None else checked(job.test, vae, "test_labels")
    indices, held_out = train_validation_split(len(images), settings.validation, settings.seed)
    engine = start_engine(job, labels)
    model = DataParallel(vae, job.ranks) if job.ranks else vae

    def mean_loss(images: Images, labels: Labels, stream: Stream, epoch: int = 0) -> Loss:
        rng = generator(settings.seed, stream, epoch)
        if engine is None:
            return average_loss(vae, images, rng, settings.beta, 500, labels)
        return engine.average_loss(images, vae.noise(len(images), rng), settings.beta, labels)

    for epoch in epochs:
        start = perf_counter()
        plan = plan_epoch(indices, settings, epoch)
        try:
            with np.errstate(all="ignore"):  # an overflow shows in the loss, which is checked
                if engine is None:
                    losses = train_epoch(model, optimizer, images, labels, plan, settings)
                else:
                    losses = engine.train_epoch(plan, settings)
                sizes = batch_sizes(len(indices), settings.batch_size)
                trained = watched(losses, sizes, settings.beta, report)
                seconds = perf_counter() - start
                tested = validated = None
                if test is not None:
                    tested = mean_loss(*test, Stream.TESTING, epoch)
                if len(held_out):  # the same noise in every epoch: only the model changes
                    some = None if labels is None else labels[held_out]
                    validated = mean_loss(images[held_out], some, Stream.VALIDATION)
            for name, loss in (("test", tested), ("validation", validated)):
                if loss and not math.isfinite(loss.total):
                    raise DivergedError(f"the {name} loss is {loss.total} after the last batch")
        except DivergedError as error:
            raise DivergedError(
                f"training has diverged in epoch {epoch}, {error}.\n"
                "Try a smaller --learning-rate. What was saved before, if anything, is untouched."
            ) from None
        yield Epoch(epoch, trained, tested, seconds, validated)


def start_engine(job: Job, labels: Labels) -> Engine | None:
    """The engine, or None if the lesson has to train this model, on this rank or on another."""
    engine: Engine | None = None
    ranks, given = job.ranks, (job.vae, job.optimizer, job.train.images, labels)
    backend = job.backend or fast.wanted_backend()
    if not (fast.why_not(backend) or fast.why_not_for(job.vae, job.optimizer)):
        from npvae.fast.engine import Engine
        from npvae.fast.jit import CannotCompile

        try:
            if ranks:
                from npvae.fast.ranks import RankEngine

                engine = RankEngine(*given, ranks)
            else:
                engine = Engine(*given)
        except CannotCompile as error:
            warnings.warn(f"NumPy trains, without the engine: {error}", stacklevel=3)
    if ranks and not ranks.meet(engine is not None).all():
        return None
    return engine


def checked(given: Examples | Dataset, vae: VAE, name: str) -> Examples:
    """The images and, of a conditional model, the labels. Raises ValueError if they do not fit.

    A dataset may have labels that the model does not read.
    """
    images = given.images
    check_images(images)
    labels = vae.classes(given.labels) if isinstance(given, Dataset) else given.labels
    if labels is not None and vae.num_classes and np.shape(labels) != (len(images),):
        raise ValueError(f"{name} must have shape ({len(images)},), not {np.shape(labels)}")
    found = class_labels(labels, vae.num_classes, len(images), name)
    return Examples(images, vae.classes(found))


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """How many of `count` images each mini-batch holds."""
    return [min(batch_size, count - start) for start in range(0, count, batch_size)]


def watched(
    losses: Iterator[Loss], sizes: list[int], beta: float, report: Report | None = None
) -> Loss:
    """The mean loss of an epoch, while it is reported batch by batch.

    Raises DivergedError at the first loss that is not finite, before its gradients are used.
    """
    seen, bce, kl, last = 0, 0.0, 0.0, math.nan
    for k, (loss, size) in enumerate(zip(losses, sizes, strict=True), start=1):
        if not math.isfinite(loss.total):
            before = f"it was {last:.4g} before" if k > 1 else "in the very first batch"
            raise DivergedError(f"batch {k} of {len(sizes)}: the loss is {loss.total}, {before}")
        last, seen = loss.total, seen + size
        bce, kl = bce + loss.bce * size, kl + loss.kl * size
        if report:
            report(k, len(sizes), (bce + beta * kl) / seen)
    return Loss(bce / seen, kl / seen, beta)


def fit(
    vae: VAE,
    images: Images,
    epochs: int = 20,
    *,
    test_images: Images | None = None,
    labels: Labels = None,
    test_labels: Labels = None,
    callback: Callable[[Epoch], None] | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int = 512,
    learning_rate: float = 1e-3,
    beta: float = 1.0,
    seed: int = 0,
) -> list[Epoch]:
    """Train vae on images (N, ...), bytes, and return the losses of every epoch.

    `callback` is called after each epoch, with an `Epoch`. The optimizer is Adam unless given; a
    given one keeps its learning rate. A conditional model needs the labels (N,) of the images. If
    the lesson was changed, it trains, and a warning says so.
    Raises ValueError for images that are not bytes and labels that do not fit, and DivergedError if
    a loss is not finite.
    """
    if optimizer is None:
        optimizer = OPTIMIZERS["adam"](learning_rate)
    if not fast.why_not(fast.wanted_backend()) and (why := fast.why_not_for(vae, optimizer)):
        warnings.warn(f"{why}, so NumPy trains", stacklevel=2)
    rate = optimizer.learning_rate
    settings = Settings(
        epochs=epochs, batch_size=batch_size, learning_rate=rate, beta=beta, seed=seed
    )
    test = None if test_images is None else Examples(test_images, test_labels)
    job = Job(vae, optimizer, settings, Examples(images, labels), test)
    history = []
    for epoch in train(job, range(1, epochs + 1)):
        history.append(epoch)
        if callback:
            callback(epoch)
    return history
