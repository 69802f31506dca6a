"""What does a mistake do? Train with it, and look at the same weights with the right formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from npvae.core.parameters import Array
from npvae.core.random_streams import Stream, generator
from npvae.datasets.minibatches import Images
from npvae.evaluation import average_loss
from npvae.gradcheck import Check
from npvae.gradcheck_vae import check_parts
from npvae.losses import Loss
from npvae.mistakes.meaning import CHECKS_OF_FORMULAS
from npvae.mistakes.meaning_of_training import CHECKS_OF_TRAINING
from npvae.mistakes.mistake import Mistake, planted
from npvae.mistakes.program import train
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.settings import Settings

CHECKS = CHECKS_OF_FORMULAS + CHECKS_OF_TRAINING
PARTS = ("dense", "mlp relu", "bce", "kl", "reparameterize", "vae relu 7")  # of the gradient check


class Trial(NamedTuple):
    """A model trained with a mistake, or without one."""

    printed: list[float]  # the test loss that its own program prints, after each epoch
    true: Loss  # the test loss of the same weights, by the right formulas
    samples: Array  # (N, D), drawn by its own program


class Findings(NamedTuple):
    """What notices a mistake."""

    red: str  # rows of the gradient check, in short
    worst: float  # the largest relative error of a parameter's gradient
    meaning: tuple[str, ...]  # the checks of meaning that fail


@np.errstate(all="ignore")
def trial(
    mistake: Mistake | None,
    images: Images,
    test_images: Images,
    settings: Settings,
    samples: int = 10,
) -> Trial:
    """Train with a mistake, or without; compute the loss with the wrong and the right program."""
    seed = settings.seed
    with planted(mistake) if mistake else nullcontext():
        vae = VAE(images[0].size, rng=generator(seed, Stream.WEIGHTS))
        printed = list(train(vae, Adam(settings.learning_rate), images, test_images, settings))
        x_hat = vae.sample(samples, generator(seed, Stream.SAMPLES))
    rng = generator(seed, Stream.TESTING, settings.epochs)
    return Trial(printed, average_loss(vae, test_images, rng), x_hat)


@np.errstate(all="ignore")
def findings(mistake: Mistake | None, seed: int = 0) -> Findings:
    """What the gradient check and the checks of meaning say while the lesson makes the mistake."""
    with planted(mistake) if mistake else nullcontext():
        checks = list(check_parts(PARTS, seed))
        meaning = tuple(holds.__name__ for holds in CHECKS if not passes(holds))
    errors = [check.error for check in checks if check.what.startswith("vae relu 7: ")]
    return Findings(red_rows(checks), max(errors[:10]), meaning)


def passes(check: Callable[[], bool]) -> bool:
    """Whether the sentence is true. If the check raises ValueError, it is not."""
    try:
        return check()
    except ValueError:
        return False


def red_rows(checks: Iterable[Check]) -> str:
    """The wrong rows in short: "dense" for its three rows, "encoder" for encoder.hidden0.W and .b.

    In the order of the check: first the parts, then the model's layers, then its inputs.
    """
    short: dict[str, None] = {}
    for check in checks:
        if not check.passed:
            group, _, array = check.what.partition(": ")
            if group.startswith("vae"):
                side, *layer = array.split(".")
                short[layer[0] if layer and "hidden" not in layer[0] else side] = None
            else:
                short[group.split()[0]] = None
    return ", ".join(short)
