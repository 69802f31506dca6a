"""Does training do what it says, and does a report mean its name? More checks as in meaning.py.

Next: program.py, the training that makes the mistakes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from npvae.core.validation import Classes
from npvae.evaluation import average_loss, iwae_bound
from npvae.mistakes.meaning import close, toy
from npvae.mistakes.program import train
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.settings import Settings
from npvae.training import plan_epoch, train_epoch


def images(count: int) -> Any:
    return np.random.default_rng(2).integers(0, 256, (count, 12), np.uint8)


def weights_begin_all_different() -> bool:
    weights = [W for name, W in VAE(rng=7).parameters.items() if name.endswith(".W")]
    return all(len(np.unique(W)) > 0.9 * W.size for W in weights)


def adam_steps_are_learning_rates_long() -> bool:
    """Under a constant gradient, each of them, whatever the size of the gradient."""
    theta = {name: np.zeros(1) for name in "abc"}
    gradients = dict(zip(theta, np.array([[0.5], [-20.0], [0.01]]), strict=True))
    adam = Adam(learning_rate=0.1)
    for step in range(1, 200):
        adam.update(theta, gradients)
        length = np.abs([values[0] for values in theta.values()])
        if not close(length, 0.1 * step, rtol=1e-5):
            return False
    return True


class Watched(VAE):
    """Keeps the pixels that it is trained on."""

    def loss_and_gradients(
        self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0, c: Classes = None
    ) -> Any:
        self.seen = [*getattr(self, "seen", []), np.asarray(x)]
        return super().loss_and_gradients(x, epsilon, beta, c)


def images_not_batches_are_shuffled() -> bool:
    """Neighbours in one epoch are not all neighbours in the next. Image k is white at pixel k."""
    vae, settings = Watched(48, (5,), 2), Settings(batch_size=16)
    for epoch in (1, 2):
        plan = plan_epoch(np.arange(48), settings, epoch)
        list(train_epoch(vae, Adam(), np.eye(48, dtype=np.uint8) * 255, None, plan, settings))
    batches = [frozenset(x.argmax(axis=1).tolist()) for x in vae.seen]
    return len(set(batches)) == 6 and frozenset.union(*batches[:3]) == set(range(48))


def training_never_sees_test_images() -> bool:
    one, other = VAE(12, (7,), 3), VAE(12, (7,), 3)
    for vae, shade in ((one, 0), (other, 255)):
        test = np.full((20, 12), shade, np.uint8)
        list(train(vae, Adam(), images(20), test, Settings(epochs=2)))
    return bool(np.array_equal(one.parameters.flat, other.parameters.flat))


# ------------------------------------------------------------------ the reports


def average_loss_draws_z() -> bool:
    first, second = (average_loss(toy(), images(9), np.random.default_rng(k)) for k in (8, 9))
    return first.bce != second.bce


def every_test_image_counts_once() -> bool:
    """513 images, one more than fills a batch: their mean is that of all 513."""
    vae, some = toy(), images(513)
    epsilon = vae.noise(513, np.random.default_rng(10))
    losses = [vae.loss(some[[k]] / 255, epsilon[[k]]).bce for k in range(513)]
    return close(average_loss(vae, some, np.random.default_rng(10)).bce, np.mean(losses))


def bound_rises_with_draws() -> bool:
    rng = np.random.default_rng(11)
    one, many = (float(iwae_bound(toy(), images(100), k, rng).mean()) for k in (1, 100))
    return many > one + 0.5


CHECKS_OF_TRAINING: tuple[Callable[[], bool], ...] = (
    weights_begin_all_different,
    adam_steps_are_learning_rates_long,
    images_not_batches_are_shuffled,
    training_never_sees_test_images,
    average_loss_draws_z,
    every_test_image_counts_once,
    bound_rises_with_draws,
)
