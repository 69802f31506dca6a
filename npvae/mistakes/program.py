"""The program that makes the mistakes: the loop of training.py, and a test loss after each epoch.

It is pure NumPy: it runs every line of the lesson, and none of the engine. Next: trial.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npvae.core.optimizer_base import Optimizer
from npvae.core.random_streams import Stream, generator
from npvae.datasets.minibatches import Images
from npvae.evaluation import average_loss
from npvae.model import VAE
from npvae.settings import Settings
from npvae.training import plan_epoch, train_epoch


def train(
    vae: VAE, optimizer: Optimizer, images: Images, test_images: Images, settings: Settings
) -> Iterator[float]:
    """Train on images (N, ...) with the loop of training.py; yields test losses, epoch by epoch."""
    indices = np.arange(len(images))
    for epoch in range(1, settings.epochs + 1):
        plan = plan_epoch(indices, settings, epoch)
        for _ in train_epoch(vae, optimizer, images, None, plan, settings):
            pass  # a loss that is not finite is a part of the show
        yield average_loss(vae, test_images, generator(settings.seed, Stream.TESTING, epoch)).total
