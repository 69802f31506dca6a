"""What can you do with latent codes?

    encode_all          where are all the images in latent space?
    gaussian_of_class   where are the images of one class? `draw_codes` draws new codes there
    slerp               a path from one code to another, around the origin; `lerp` is straight
    normal_quantiles    points that divide the prior into equal shares
    principal_axes      the directions in which the codes vary most; `principal_plane` projects

Everything here is about arrays of latent codes; `plots/` turns them into pictures.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.core.parameters import Array
from npvae.core.validation import check_images
from npvae.datasets.minibatches import Labels, pixel_batches
from npvae.model import VAE

Floats = NDArray[np.floating[Any]]


def encode_all(
    vae: VAE, images: NDArray[np.uint8], batch_size: int = 500, labels: Labels = None
) -> tuple[Array, Array]:
    """mu and log_var (N, Z) of q(z | x) for uint8 images (N, ...), a batch at a time.

    A conditional model needs the labels (N,).
    """
    check_images(images)
    batches = pixel_batches(images, batch_size, vae.dtype, labels)
    codes = [vae.encode(x, c) for _, x, c in batches]
    return np.concatenate([mu for mu, _ in codes]), np.concatenate(
        [log_var for _, log_var in codes]
    )


def gaussian_of_class(mu: Array, log_var: Array) -> tuple[Floats, Floats]:
    """Mean (Z,) and covariance (Z, Z) of z drawn from q(z | x) of a random image; mu (N, Z).

    Each image gives a distribution, q(z | x) = N(mu, sigma^2). The covariance of all is that of the
    means plus the mean of the variances: cov(mu) + diag(mean of sigma^2). Adding 1e-6 keeps it
    positive definite whatever the rounding. N is at least 1.
    """
    centers, spread = mu.astype(np.float64), np.exp(log_var.astype(np.float64)).mean(axis=0)
    mean = centers.mean(axis=0)
    offsets = centers - mean  # (N, Z)
    return mean, offsets.T @ offsets / len(mu) + np.diag(spread + 1e-6)


def draw_codes(mean: Floats, covariance: Floats, count: int, rng: np.random.Generator) -> Floats:
    """`count` draws (count, Z) from N(mean, covariance = L L'): mean + L epsilon."""
    epsilon = rng.standard_normal((count, len(mean)))
    draws: Floats = mean + epsilon @ np.linalg.cholesky(covariance).T
    return draws


def lerp(a: Array, b: Array, t: Floats) -> Floats:
    """Linear interpolation (T, Z), from code a (Z,) at t = 0 to code b at t = 1."""
    line: Floats = np.outer(1 - t, a) + np.outer(t, b)
    return line


def slerp(a: Array, b: Array, t: Floats) -> Floats:
    """Spherical interpolation (T, Z): the direction turns and the norm changes at constant speed.

    In many dimensions nearly all of the prior lies in a shell around the origin. A straight line
    leaves the shell and passes near the origin, where no training image is; this path stays in it.

    Let u and v be the directions of a and b, and p the normalised part of v orthogonal to u. The
    direction at t is cos(t angle) u + sin(t angle) p. If u and v are opposite, any p orthogonal to
    u will do. From a zero code, or in one dimension, the path is the straight line.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
    if len(a) == 1 or min(norm_a, norm_b) == 0:
        return lerp(a, b, t)
    u, v = a / norm_a, b / norm_b
    p = v - (u @ v) * u
    angle = np.arctan2(np.linalg.norm(p), u @ v)  # exact for small angles, unlike arccos
    if np.linalg.norm(p) < 1e-9:  # the same direction, for which any p will do, or the opposite
        p = np.eye(len(a))[np.argmin(np.abs(u))]
        p = p - (u @ p) * u
    p /= np.linalg.norm(p)
    direction = np.outer(np.cos(t * angle), u) + np.outer(np.sin(t * angle), p)
    way: Floats = ((1 - t) * norm_a + t * norm_b)[:, None] * direction
    return way


def normal_quantiles(count: int) -> Floats:
    """`count` rising numbers, each the median of an equal share of the standard normal."""
    return np.array([NormalDist().inv_cdf((k + 0.5) / count) for k in range(count)])


def principal_axes(codes: Array) -> tuple[Floats, Floats, Floats]:
    """The two directions in which the codes (N, Z >= 2) are spread most.

    Returns the mean of the codes (Z,), the directions as unit vectors (2, Z), and the variance of
    the codes along all Z principal directions, the greatest first. The directions are singular
    vectors of the covariance. Each has the sign that makes its largest component positive, so that
    a picture does not flip from one machine to another.
    """
    mean = codes.mean(axis=0, dtype=np.float64)
    offsets = codes.astype(np.float64) - mean
    _, variance, axes = np.linalg.svd(offsets.T @ offsets / len(codes))
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return mean, axes[:2], variance


def principal_plane(codes: Array) -> tuple[Floats, Floats]:
    """The codes (N, Z >= 2) projected onto the plane of their greatest variance.

    Returns (N, 2) coordinates around the mean, and the share of the variance along each axis (2,).
    """
    mean, axes, variance = principal_axes(codes)
    return (codes - mean) @ axes.T, variance[:2] / max(float(variance.sum()), 1e-300)
