"""What does the space of codes look like, if one looks at a plane of it?

    manifold   the decoder's view: an image for each place
    codes      the encoder's view: a dot for each image

With two latents the plane is all there is. With more, `manifold` shows the plane of the two that
tell most, `codes` the one in which the images lie furthest apart; both say so in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from npvae.datasets import Dataset
from npvae.datasets.dataset import SIDE
from npvae.evaluation import Images, kl_per_latent
from npvae.latent_space import encode_all, normal_quantiles, principal_plane
from npvae.model import VAE
from npvae.plots.argument_checks import check_size, in_brief
from npvae.plots.labelled_grid import strip
from npvae.plots.latent_scatter import scatter


def most_active(vae: VAE, images: Images) -> list[int]:
    """The latents, from the one with the greatest KL on these images to the one with the least."""
    return [int(latent) for latent in np.argsort(-kl_per_latent(vae, images), kind="stable")]


def manifold(vae: VAE, plane: Sequence[int], count: int, scale: int, title: str) -> Image.Image:
    """The decoder's view: count x count images; a strip of them if `plane` is one latent only.

    They are spaced by the quantiles of the prior, so that each stands for an equal share of it.
    The first latent of `plane` grows to the right, the second upwards; all others are 0.
    """
    check_size(count ** len(plane), scale)
    right = normal_quantiles(count)
    up = right[::-1] if len(plane) == 2 else np.zeros(1)  # rows run downwards
    z = np.zeros((len(up), count, vae.latent_dim))
    z[:, :, plane[0]] = right
    title = f"{title}: z{plane[0]} to the right"
    if len(plane) == 2:
        z[:, :, plane[1]] = up[:, np.newaxis]
        title += f", z{plane[1]} upwards"
    if vae.latent_dim > len(plane):
        title += ", all others 0"
    x_hat = vae.decode(z.reshape(-1, vae.latent_dim)).reshape(len(up), count, -1)
    labels = [f"{value:.2f}" for value in right] if SIDE * scale > 50 else []  # room for them?
    beside = labels[::-1] if len(plane) == 2 else []
    return strip(list(x_hat), beside, labels, scale, title, gap=0)


def codes(vae: VAE, dataset: Dataset, count: int, scale: int, title: str) -> Image.Image:
    """The encoder's view: mu of the first `count` images, coloured by class.

    One latent is drawn against the class, two as they are, more in the plane of greatest variance.
    """
    labels = dataset.labels[:count]
    mu, _ = encode_all(vae, dataset.images[:count])
    x_label, y_label = "mu of z0", "mu of z1"
    if vae.latent_dim == 1:
        rows = labels + np.random.default_rng(0).uniform(-0.35, 0.35, len(mu))
        mu, y_label = np.stack([mu[:, 0], rows], axis=1), "label, scattered to show all dots"
    elif vae.latent_dim > 2:
        mu, (first, second) = principal_plane(mu)
        x_label = f"first principal component of mu: {first:.0%} of the variance"
        y_label = f"second principal component of mu: {second:.0%} of the variance"
    title = f"{title}: codes of {len(mu):,} test images"
    names = [in_brief(name) for name in dataset.class_names]
    picture = scatter(mu, labels, names, title, x_label, y_label)
    check_size(picture.width * picture.height // SIDE**2, scale)
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)
