"""What does a trained model make up, and what does it keep of an image?

    prior         z ~ N(0, I), decoded: images that the model makes up
    of_class      z from the region where the images of one class lie
    styles        the same z in every class of a conditional model
    reconstruct   images, encoded and decoded again, in a conditional model also as another class

The arithmetic of latent codes is in `latent_space.py`, the drawing in `image_grid.py`. In all
titles, `name` is the model: "mnist, z = 10, epoch 20". The generator `rng` is the only source of
randomness. Each function raises OptionError where `validation.py` does. Next: latent_walks.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from npvae.core.parameters import Array
from npvae.datasets import Dataset
from npvae.latent_space import Floats, draw_codes, encode_all, gaussian_of_class
from npvae.model import VAE
from npvae.plots.image_grid import GAP, image_grid, in_rows, stacked
from npvae.plots.validation import (
    check_class,
    check_conditional,
    check_indices,
    check_size,
    class_label,
    class_name,
    picture_name,
    shortened,
)

COLUMNS = 10
WELL_SEPARATED = 0.75  # share of the samples of a class that fit this class best


def model_name(dataset: str, latent_dim: int, epoch: int | None = None) -> str:
    """The model in titles: "mnist, z = 10, epoch 20"."""
    after = "" if epoch is None else f", epoch {epoch}"
    return f"{shortened(dataset)}, z = {latent_dim}{after}"


def prior(vae: VAE, rng: np.random.Generator, count: int, scale: int, name: str) -> Image.Image:
    """`count` samples from the prior, decoded; in a conditional model of each class in turn."""
    check_size(count, scale)
    c = np.arange(count) % vae.num_classes if vae.num_classes else None
    of_classes = f"; the {vae.num_classes} classes in turn" if vae.num_classes else ""
    return grid(vae.sample(count, rng, c), scale, f"{name}: samples from the prior{of_classes}")


def of_class(
    vae: VAE,
    train: Dataset,
    wanted: str,
    rng: np.random.Generator,
    count: int,
    scale: int,
    name: str,
) -> tuple[Image.Image, str]:
    """Samples that look like a class, and a warning, empty if the class is well separated.

    A conditional model draws from p(x | z, c), with z from the prior. Another one knows nothing of
    classes: the codes come from a Gaussian fitted to the codes of the training images of the class.
    Raises DataError for a class without images.
    """
    check_size(count, scale)
    label = class_label(train, wanted)
    check_class(train, label)
    if vae.num_classes:
        title = f"{name}: samples of the class {picture_name(train, label)}"
        return grid(vae.sample(count, rng, label), scale, title), ""
    gaussians = [
        gaussian_of_class(*encode_all(vae, train.images[train.labels == k]))
        if (train.labels == k).any()
        else None
        for k in range(len(train.class_names))
    ]
    mean, covariance = gaussians[label] or (np.zeros(0), np.zeros((0, 0)))
    z = draw_codes(mean, covariance, count, rng)
    shares = best_fits(draw_codes(mean, covariance, 1000, np.random.default_rng(0)), gaussians)
    warning = ""
    if shares[label] < WELL_SEPARATED:
        others = np.where(np.arange(len(shares)) == label, 0, shares)
        rival = shortened(train.class_names[int(others.argmax())])
        warning = (
            f"poorly separated: {1 - shares[label]:.0%} of such samples fit another class better, "
            f"{others.max():.0%} the class {rival}"
        )
    title = f"{name}: samples like the class {picture_name(train, label)}"
    return grid(vae.decode(z), scale, title, warning), warning


def best_fits(z: Floats, gaussians: Sequence[tuple[Floats, Floats] | None]) -> Floats:
    """For each class, the share of codes z (N, Z) to which its Gaussian gives the greatest density.

    The log density of N(mean, C = L L') is -0.5 |y|^2 - sum(log diag L), where L y = z - mean, up
    to a constant that is the same for all classes. A class that is None has no share.
    """
    log_density = np.full((len(gaussians), len(z)), -np.inf)
    for k, gaussian in enumerate(gaussians):
        if gaussian is not None:
            mean, covariance = gaussian
            cholesky = np.linalg.cholesky(covariance)
            y = np.linalg.solve(cholesky, (z - mean).T)  # (Z, N)
            log_density[k] = -0.5 * np.sum(y**2, axis=0) - np.log(np.diag(cholesky)).sum()
    shares: Floats = np.bincount(log_density.argmax(axis=0), minlength=len(gaussians)) / len(z)
    return shares


def styles(
    vae: VAE, dataset: Dataset, rng: np.random.Generator, count: int, scale: int, name: str
) -> Image.Image:
    """A row for each of `count` codes z from the prior, decoded in every class: one in a column.

    Raises OptionError unless the model is conditional.
    """
    check_conditional(vae, "styles")
    labels = np.arange(vae.num_classes)
    check_size(count * len(labels), scale)
    z = vae.noise(count, rng)
    rows = [vae.decode(np.repeat(one[np.newaxis], len(labels), axis=0), labels) for one in z]
    named = range(len(dataset.class_names))  # of another dataset, perhaps fewer
    columns = [picture_name(dataset, k) if k in named else f"#{k}" for k in range(vae.num_classes)]
    title = f"{name}: each row is one z, decoded in every class"
    return image_grid(rows, [], columns, scale, title)


def reconstruct(
    vae: VAE,
    dataset: Dataset,
    split: str,
    indices: Sequence[int],
    scale: int,
    name: str,
    wanted: str = "",
) -> Image.Image:
    """Images above what the decoder makes of their codes mu; a single image beside it.

    A conditional model decodes them as the class `wanted`, if one is named, instead of their own.
    """
    check_indices(dataset, split, indices)
    check_size(2 * len(indices), scale)
    originals = dataset.images[list(indices)]  # (N, 28, 28)
    c = vae.classes(dataset.labels[list(indices)])
    mu, _ = encode_all(vae, originals, labels=c)
    pair = ["original", "reconstruction"]
    if wanted:
        check_conditional(vae, "--as")
        label = class_label(dataset, wanted)
        x_hat, pair[1] = vae.decode(mu, label), f"as {picture_name(dataset, label)}"
    else:
        x_hat = vae.decode(mu, c)
    if len(indices) == 1:
        title = f"{name}: {described(dataset, split, indices[0], name)}"
        return image_grid([[originals[0], x_hat[0]]], [], pair, scale, title)
    labels = [f"image {index}\n{class_name(dataset, index)}" for index in indices]
    bands = []
    for start in range(0, len(indices), COLUMNS):
        some = slice(start, start + COLUMNS)
        title = "" if start else f"{name}: {source(dataset, split, name)}s and reconstructions"
        rows = [originals[some], x_hat[some]]
        bands.append(image_grid(rows, pair, labels[some], scale, title, gap=GAP // 2))
    return stacked(bands)


def source(dataset: Dataset, split: str, name: str) -> str:
    """ "test image", or "mnist test image" if the model's name does not say so already."""
    title = shortened(dataset.title)
    return f"{split} image" if name.startswith(title) else f"{title} {split} image"


def described(dataset: Dataset, split: str, index: int, name: str) -> str:
    """An image in words: "test image 4 (class 9)"."""
    return f"{source(dataset, split, name)} {index} ({class_name(dataset, index)})"


def grid(x_hat: Array, scale: int, title: str, caption: str = "") -> Image.Image:
    """Images in rows of ten, or in a square if there are more than a hundred."""
    columns = min(len(x_hat), max(COLUMNS, math.ceil(math.sqrt(len(x_hat)))))
    return image_grid(in_rows(x_hat, columns), scale=scale, title=title, caption=caption)
