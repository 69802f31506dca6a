"""What does a trained model see, and what can it make up? A picture for each way to ask.

    prior         z ~ N(0, I), decoded: what the model makes up on its own
    of_class      z from where the images of one class lie
    reconstruct   images, encoded and decoded: what it keeps of them
    interpolate   what lies between two images
    traverse      one latent moves, the others stay: what is each of them for?

The arithmetic of latent codes is in `latent_space.py`, the drawing in `labelled_grid.py`, and
pictures of the whole space in `manifold.py`. Everything decoded is drawn as it is: x_hat as grey
levels. `rng` is the only source of chance. Each function raises OptionError where
`argument_checks.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from npvae.core.errors import DataError
from npvae.core.parameters import Array
from npvae.datasets import Dataset
from npvae.evaluation import Images, kl_per_latent
from npvae.latent_space import draw_codes, encode_all, gaussian_of_class, lerp, slerp
from npvae.model import VAE
from npvae.plots.argument_checks import check_indices, check_size, class_label, class_name
from npvae.plots.labelled_grid import stacked, strip

COLUMNS = 10


def prior(vae: VAE, rng: np.random.Generator, count: int, scale: int, title: str) -> Image.Image:
    """`count` draws from the prior, decoded."""
    check_size(count, scale)
    return grid(vae.sample(count, rng), scale, f"{title}: draws from the prior")


def of_class(
    vae: VAE,
    train: Dataset,
    wanted: str,
    rng: np.random.Generator,
    count: int,
    scale: int,
    title: str,
) -> Image.Image:
    """Draws that look like a class, from a Gaussian fitted to the codes of its training images.

    The model itself knows nothing of classes. Raises DataError for a class without images.
    """
    check_size(count, scale)
    label = class_label(train, wanted)
    name, images = train.class_names[label], train.images[train.labels == label]
    if not len(images):
        raise DataError(f"none of the training images of {train.name} shows the class {name}.")
    z = draw_codes(*gaussian_of_class(*encode_all(vae, images)), count, rng)
    return grid(vae.decode(z), scale, f'{title}: draws like the class "{name}"')


def reconstruct(
    vae: VAE, dataset: Dataset, split: str, indices: Sequence[int], scale: int
) -> Image.Image:
    """Images above what the decoder makes of their codes mu; a single one beside it."""
    check_indices(dataset, split, indices)
    check_size(2 * len(indices), scale)
    originals = dataset.images[list(indices)]  # (N, 28, 28)
    x_hat = vae.decode(encode_all(vae, originals)[0])
    pair = ["original", "decoded"]
    if len(indices) == 1:
        title = f'{dataset.title}: {split} image {indices[0]} ("{class_name(dataset, indices[0])}")'
        return strip([[originals[0], x_hat[0]]], [], pair, scale, title)
    above = [f"{index}: {class_name(dataset, index)}" for index in indices]
    bands = []
    for start in range(0, len(indices), COLUMNS):
        some = slice(start, start + COLUMNS)
        title = "" if start else f"{dataset.title}: {split} images and their reconstructions"
        bands.append(strip([originals[some], x_hat[some]], pair, above[some], scale, title))
    return stacked(bands)


def interpolate(
    vae: VAE, dataset: Dataset, split: str, ends: Sequence[int], count: int, scale: int
) -> Image.Image:
    """Two ways from one image to another in `count` steps: around the origin, and straight."""
    check_indices(dataset, split, ends)
    check_size(2 * (count + 2), scale)
    originals = dataset.images[list(ends)]
    mu, _ = encode_all(vae, originals)  # (2, Z)
    t = np.linspace(0, 1, count)
    ways = slerp(mu[0], mu[1], t), lerp(mu[0], mu[1], t)  # (count, Z) each
    rows = [[originals[0], *vae.decode(z), originals[1]] for z in ways]
    above = ["original", *(f"{share:.0%}" for share in t), "original"]
    a, b = (f'{index} ("{class_name(dataset, index)}")' for index in ends)
    title = f"{dataset.title}: from {split} image {a} to {b}"
    return strip(rows, ["spherical", "straight"], above, scale, title)


def traverse(
    vae: VAE, dataset: Dataset, split: str, index: int, test: Images, count: int, scale: int
) -> Image.Image:
    """A row for each latent: it goes from -3 to 3, while the others stay at the image's mu.

    The first row is the latent that tells most: the one with the greatest KL on the test images.
    """
    check_indices(dataset, split, [index])
    check_size(vae.latent_dim * count, scale)
    mu, _ = encode_all(vae, dataset.images[[index]])  # (1, Z)
    kl = kl_per_latent(vae, test)
    values = np.linspace(-3, 3, count)
    rows, beside = [], []
    for latent in np.argsort(-kl, kind="stable"):
        z = np.repeat(mu, count, axis=0)
        z[:, latent] = values
        rows.append(vae.decode(z))
        beside.append(f"z{latent}  {kl[latent]:.2f} nats")
    title = f'{dataset.title}: {split} image {index} ("{class_name(dataset, index)}"), '
    title += "one latent moved at a time, the greatest KL first"
    return strip(rows, beside, [f"{value:.1f}" for value in values], scale, title)


def grid(x_hat: Array, scale: int, title: str) -> Image.Image:
    """Images in rows of ten, or in a square if there are more than a hundred."""
    columns = min(len(x_hat), max(COLUMNS, math.ceil(math.sqrt(len(x_hat)))))
    rows = [x_hat[start : start + columns] for start in range(0, len(x_hat), columns)]
    return strip(rows, scale=scale, title=title)
