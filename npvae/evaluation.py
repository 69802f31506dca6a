"""What is a trained model worth?

A loss says little by itself: is 249 nats good? Two numbers make it readable. Both are computed from
the data alone. No model can go below the entropy of the grey pixels (the floor). A model that does
not use z can do little better than to predict the mean training image (the baseline).
A conditional model needs the labels (N,) of the images everywhere. Next: latent_space.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npvae.core.parameters import Array
from npvae.core.validation import check_images
from npvae.datasets.minibatches import Images, Labels, pixel_batches
from npvae.layers import reparameterize
from npvae.losses import Loss, bce_with_logits, kl_divergence
from npvae.model import VAE

Floats = NDArray[np.float64]


@np.errstate(all="ignore")  # an overflow shows in the losses
def losses_per_image(
    vae: VAE,
    images: Images,
    epsilon: Array,
    batch_size: int = 500,
    labels: Labels = None,
) -> tuple[Floats, Floats]:
    """bce and kl (N,) of images (N, ...), bytes, in nats, with the noise epsilon (N, Z)."""
    check_images(images)
    if images[0].size != vae.input_dim:
        raise ValueError(f"images must have {vae.input_dim} pixels, not {images[0].size}")
    if epsilon.shape != (len(images), vae.latent_dim):
        raise ValueError(f"epsilon must have shape {(len(images), vae.latent_dim)}")
    bce, kl = np.empty(len(images)), np.empty(len(images))
    for batch, x, c in pixel_batches(images, batch_size, vae.dtype, labels):
        a = vae.forward(x, epsilon[batch], c)
        bce[batch] = bce_with_logits(a.logits, x)
        kl[batch] = kl_divergence(a.mu, a.log_var)
    return bce, kl


def average_loss(
    vae: VAE,
    images: Images,
    rng: np.random.Generator,
    beta: float = 1.0,
    batch_size: int = 500,
    labels: Labels = None,
) -> Loss:
    """The mean loss of images (N, ...), with one draw of epsilon for each, in nats per image."""
    epsilon = vae.noise(len(images), rng)
    bce, kl = losses_per_image(vae, images, epsilon, batch_size, labels)
    return Loss.of_batch(bce, kl, beta)


def iwae_bound(
    vae: VAE,
    images: Images,
    samples: int,
    rng: np.random.Generator,
    batch_size: int = 500,
    labels: Labels = None,
) -> Floats:
    """The importance-weighted bound on log p(x) (N,) of images (N, ...), with K = samples, in nats.

        log p(x) >= the mean of log (1/K) sum over k of w_k,    w_k = p(x | z_k) p(z_k) / q(z_k | x)

    with z_k drawn from q(z | x) (Burda et al. 2016, eq. 8). K = 1 is a draw of the ELBO. The bound
    rises with K towards log p(x), because one good draw is enough. The factors 2 pi cancel:

        log w = -bce + sum over latents of 0.5 * (epsilon^2 - z^2 + log_var)
    """
    check_images(images)
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    bound = np.empty(len(images))
    for batch, x, c in pixel_batches(images, batch_size, vae.dtype, labels):
        mu, log_var = vae.encode(x, c)
        total = np.full(len(x), -np.inf)
        for _ in range(samples):
            epsilon = vae.noise(len(x), rng)
            z = reparameterize(mu, log_var, epsilon)
            bce = bce_with_logits(vae.decode_logits(z, c), x)
            log_w = 0.5 * np.sum(epsilon**2 - z**2 + log_var, axis=1, dtype=np.float64) - bce
            total = np.logaddexp(total, log_w)
        bound[batch] = total - np.log(samples)
    return bound


def reconstruction_error(
    vae: VAE, images: Images, batch_size: int = 500, labels: Labels = None
) -> float:
    """The mean of (x - x_hat)^2 over pixels and images (N, ...); x_hat is decoded from mu."""
    check_images(images)
    total = 0.0
    for _, x, c in pixel_batches(images, batch_size, vae.dtype, labels):
        mu, _ = vae.encode(x, c)
        total += float(np.sum((x - vae.decode(mu, c)) ** 2, dtype=np.float64))
    return total / images.size


def active_units(
    vae: VAE, images: Images, batch_size: int = 500, labels: Labels = None
) -> NDArray[np.bool_]:
    """Which latents are active (Z,): the variance of mu over images (N, ...) is above 0.01.

    The others hardly depend on the image; most of them are the prior (Burda et al. 2016).
    """
    check_images(images)
    batches = pixel_batches(images, batch_size, vae.dtype, labels)
    mu = np.concatenate([vae.encode(x, c)[0] for _, x, c in batches])
    active: NDArray[np.bool_] = mu.var(axis=0) > 0.01
    return active


def binarized(images: Images, rng: np.random.Generator) -> Images:
    """Black and white images: each pixel is white with the probability x, its grey value."""
    check_images(images)
    return np.where(255 * rng.random(images.shape) < images, 255, 0).astype(np.uint8)


def pixel_entropy(images: Images) -> float:
    """The floor: the mean entropy of images (N, ...), below which no bce can be, in nats.

    For one pixel x, -x log p - (1 - x) log(1 - p) is smallest at p = x. There it is the entropy of
    a coin that shows white with probability x: 0 for black and white, log 2 for the middle grey.
    """
    check_images(images)
    x = np.arange(1, 255) / 255  # 0 and 255 have no entropy
    entropy = -x * np.log(x) - (1 - x) * np.log(1 - x)
    counts = np.zeros(256)
    for start in range(0, len(images), 500):  # in blocks: bincount needs 8 bytes for each pixel
        counts += np.bincount(images[start : start + 500].reshape(-1), minlength=256)
    return float(counts[1:255] @ entropy) / len(images)


def no_latent_loss(train_images: Images, test_images: Images) -> float:
    """The baseline: the test loss of always predicting the mean training image, nats per image.

    Its kl is 0. Its bce is linear in x, so it depends on the mean test image only. Half a white and
    half a black image are added to the training images, so that log 0 does not occur.
    """
    check_images(train_images)
    check_images(test_images)
    p = (train_images.sum(axis=0) / 255 + 0.5) / (len(train_images) + 1)
    x = test_images.mean(axis=0) / 255
    return float(np.sum(-x * np.log(p) - (1 - x) * np.log(1 - p)))


def kl_per_latent(
    vae: VAE, images: Images, batch_size: int = 500, labels: Labels = None
) -> NDArray[np.float64]:
    """The KL of each latent (Z,), in nats, averaged over images (N, ...).

    `kl_divergence` is the sum over latents. A latent that the model does not use has a KL near 0.
    """
    check_images(images)
    kl = np.zeros(vae.latent_dim)
    for _, x, c in pixel_batches(images, batch_size, vae.dtype, labels):
        mu, log_var = vae.encode(x, c)
        each = kl_divergence(mu.reshape(-1, 1), log_var.reshape(-1, 1))  # (B * Z,): a latent alone
        kl += each.reshape(mu.shape).sum(axis=0)
    return kl / len(images)
