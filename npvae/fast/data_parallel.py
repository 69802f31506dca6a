"""How do several cores share the work of one batch?

The loss is a mean over the images of a batch, so its gradient is a sum over them, and a sum may be
split: each worker takes a share of the images, computes their part of the gradient with a model of
its own that looks at the same parameters, and the parts are added up. One core for each share, from
the first product to the last, beats all cores for each product: they need not wait for each other
a dozen times a batch.

That needs matrix products that keep to one thread, which threads.py sees to, and shares that are
not too small: of fewer images, a single worker takes all.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from npvae.core.architecture import Activations
from npvae.core.parameters import Array
from npvae.datasets.augmentation import Warps, warp_pixels
from npvae.datasets.minibatches import gather_pixels
from npvae.evaluation import Floats, losses_per_image
from npvae.losses import Loss
from npvae.model import VAE

SMALLEST_SHARE = 32  # images; with fewer, a worker would wait longer than it works


class Worker:
    """A model, and room for the activations and their gradients: allocated once, used again."""

    def __init__(self, vae: VAE) -> None:
        self.vae = vae
        self.buffers: dict[int, tuple[Activations, Activations]] = {}  # by the number of images

    def backpropagate(
        self,
        images: NDArray[np.uint8],
        rows: NDArray[np.intp],
        epsilon: Array,
        beta: float,
        batch_size: int,
        warps: Warps | None,
    ) -> Loss:
        """Loss and gradients of these rows of images (N, D): a share of a batch of batch_size."""
        if len(rows) not in self.buffers:
            self.buffers[len(rows)] = self.vae.buffers(len(rows)), self.vae.buffers(len(rows))
        activations, gradients = self.buffers[len(rows)]
        x = activations.x
        if warps is None:
            gather_pixels(images, rows, x)
        else:
            warp_pixels(images, rows, warps, x)
        with np.errstate(all="ignore"):  # what overflows shows in the loss, which is looked at
            self.vae.forward(x, epsilon, out=activations)
            return self.vae.backward(activations, beta, out=gradients, batch_size=batch_size)


class Team:
    """Workers for one model; the first is the model itself, and gets the sum of all gradients."""

    def __init__(self, vae: VAE, size: int = 1) -> None:
        self.vae = vae
        self.workers = [Worker(vae), *(Worker(vae.twin()) for _ in range(size - 1))]
        self.pool = ThreadPoolExecutor(max_workers=size)

    def backpropagate(
        self,
        images: NDArray[np.uint8],
        rows: NDArray[np.intp],
        epsilon: Array,
        beta: float = 1.0,
        warps: Warps | None = None,
    ) -> Loss:
        """Loss of one batch, these rows of images (N, D), and its gradients in vae.gradients.

        Each image is warped by its own of warps, if they are given.
        """
        tasks = [
            (
                images,
                rows[share],
                epsilon[share],
                beta,
                len(rows),
                None if warps is None else warps[share],
            )
            for share in shares(len(rows), len(self.workers))
        ]
        others = [
            self.pool.submit(worker.backpropagate, *task)
            for worker, task in zip(self.workers[1:], tasks[1:], strict=False)
        ]
        try:
            losses = [self.workers[0].backpropagate(*tasks[0])]
            losses += [other.result() for other in others]
        except BaseException:
            wait(others)  # nobody is left at work when the error is dealt with
            raise
        for worker in self.workers[1 : len(tasks)]:
            self.vae.gradients.flat += worker.vae.gradients.flat
        weights = [len(task[1]) / len(rows) for task in tasks]
        bce = sum(w * loss.bce for w, loss in zip(weights, losses, strict=True))
        kl = sum(w * loss.kl for w, loss in zip(weights, losses, strict=True))
        return Loss(bce, kl, beta)

    def average_loss(
        self, images: NDArray[np.uint8], rng: np.random.Generator, beta: float = 1.0
    ) -> Loss:
        """What evaluation.average_loss gives, from images (N, ...) shared out in the same way."""
        epsilon = self.vae.noise(len(images), rng)

        def losses(share: slice) -> tuple[Floats, Floats]:
            return losses_per_image(self.vae, images[share], epsilon[share])

        bce, kl = zip(*self.pool.map(losses, shares(len(images), len(self.workers))), strict=True)
        return Loss.of_batch(np.concatenate(bce), np.concatenate(kl), beta)


def shares(count: int, most: int) -> list[slice]:
    """Slices of nearly equal length for `count` images: `most` of them, or fewer if too short."""
    size = min(most, max(1, count // SMALLEST_SHARE))
    return [slice(*bounds) for bounds in pairwise(count * k // size for k in range(size + 1))]
