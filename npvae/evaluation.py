"""What is a trained model worth?

A loss says little by itself: 249 nats, is that good? Two numbers make it readable, both computed
from the data alone. No model can go below the entropy of the grey pixels; and a model that has not
learned to use z can do no better than to predict the same mean picture every time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.batches import batches
from npvae.losses import Loss, bce_with_logits, kl_divergence
from npvae.model import VAE

Images = NDArray[np.uint8]


def average_loss(
    vae: VAE, images: Images, rng: np.random.Generator, beta: float = 1.0, batch_size: int = 500
) -> Loss:
    """The loss of all images (N, ...), with one draw of epsilon for each, in nats per image."""
    bce = kl = 0.0
    room = None
    for x in batches(images, np.arange(len(images)), batch_size, vae.dtype):
        epsilon = vae.noise(len(x), rng)
        if room is None or len(room.mu) != len(x):
            room = vae.activations(len(x))
        a = vae.forward(x, epsilon, out=room)
        bce += float(bce_with_logits(a.logits, x).sum(dtype=np.float64))
        kl += float(kl_divergence(a.mu, a.log_var).sum(dtype=np.float64))
    return Loss(bce / len(images), kl / len(images), beta)


def pixel_entropy(images: Images) -> float:
    """The floor: no bce can be lower, in nats per image.

    For one pixel x, -x log p - (1 - x) log(1 - p) is smallest at p = x, where it is the entropy of
    a coin that shows white with probability x: 0 for black and white, log 2 for the grey between.
    """
    x = np.arange(1, 255) / 255  # 0 and 255 have no entropy
    entropy = -x * np.log(x) - (1 - x) * np.log(1 - x)
    counts = np.bincount(images.reshape(-1), minlength=256)[1:255]
    return float(counts @ entropy) / len(images)


def no_latent_loss(train_images: Images, test_images: Images) -> float:
    """The baseline: the test loss of always predicting the mean training picture, nats per image.

    Its kl is 0, and its bce is linear in x, so that the mean test picture is all it takes. Half a
    white pixel and half a black one are added to the training pictures: log 0 does not occur.
    """
    p = (train_images.sum(axis=0) / 255 + 0.5) / (len(train_images) + 1)
    x = test_images.mean(axis=0) / 255
    return float(np.sum(-x * np.log(p) - (1 - x) * np.log(1 - p)))


def kl_per_latent(vae: VAE, images: Images, batch_size: int = 500) -> NDArray[np.float64]:
    """What each latent tells about an image (Z,): its KL in nats, averaged over images (N, ...).

    The KL divergence is a sum over latents, and this is it before summing: near 0 for a latent that
    the model does not use.
    """
    kl = np.zeros(vae.latent_dim)
    for x in batches(images, np.arange(len(images)), batch_size, vae.dtype):
        mu, log_var = vae.encode(x)
        kl += 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).sum(axis=0, dtype=np.float64)
    return kl / len(images)
