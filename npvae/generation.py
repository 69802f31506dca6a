"""What does a trained model see, and what can it make up? A picture for each way to ask.

    prior         z ~ N(0, I), decoded: what the model makes up on its own
    reconstruct   images, encoded and decoded: what it keeps of them
    of_class      z from where the images of one class lie
    interpolate   the images between two images
    traverse      one latent moves, the others stay: what is each of them for?
    manifold      the plane of codes, as the decoder sees it
    codes         the same plane, as the encoder sees it: where the images lie

The arithmetic of codes is in `latent_space.py`, the drawing in `figures.py` and `clouds.py`. Equal
arguments give equal pictures. `x_hat` is drawn as it is: probabilities as grey levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote

import numpy as np
from PIL import Image

from npvae.arrays import Array
from npvae.clouds import scatter
from npvae.datasets import Dataset
from npvae.errors import DataError, OptionError
from npvae.evaluation import Images, kl_per_latent
from npvae.figures import stacked, strip
from npvae.images import SIDE
from npvae.latent_space import (
    draw_codes,
    encode_all,
    gaussian_of_codes,
    lerp,
    normal_quantiles,
    principal_plane,
    slerp,
)
from npvae.model import VAE

MOST_PIXELS = 100_000_000  # of a picture; viewers give up beyond


def prior(vae: VAE, rng: np.random.Generator, count: int, scale: int, title: str) -> Image.Image:
    """`count` draws from the prior, decoded."""
    check_size(count, scale)
    return grid(vae.sample(count, rng), scale, f"{title}: draws from the prior")


def of_class(
    vae: VAE,
    train: Dataset,
    class_name: str,
    rng: np.random.Generator,
    count: int,
    scale: int,
    title: str,
) -> Image.Image:
    """Draws that look like one class, from a Gaussian fitted to the codes of its training images.

    The model itself knows nothing of classes. Raises OptionError for a class that does not exist,
    DataError for one without images.
    """
    check_size(count, scale)
    label = class_label(train, class_name)
    images = train.images[train.labels == label]
    name = train.class_names[label]
    if not len(images):
        raise DataError(f"none of the training images of {train.name} shows the class {name}.")
    z = draw_codes(*gaussian_of_codes(*encode_all(vae, images)), count, rng)
    return grid(vae.decode(z), scale, f"{title}: draws like {name}")


def reconstruct(
    vae: VAE, dataset: Dataset, split: str, indices: Sequence[int], scale: int
) -> Image.Image:
    """Images above what the decoder makes of their codes mu, ten in a row; one: side by side."""
    check_indices(dataset, split, indices)
    check_size(2 * len(indices), scale)
    originals = dataset.images[list(indices)]  # (N, 28, 28)
    x_hat = vae.decode(means(vae, originals))
    names = [caption(dataset, index) for index in indices]
    if len(indices) == 1:
        title = f"{split} image {names[0]}"
        return strip([[originals[0], x_hat[0]]], [], ["original", "decoded"], scale, title)
    beside = ["original", "decoded"]
    bands = []
    for k in range(0, len(indices), 10):
        some = slice(k, k + 10)
        rows = [list(originals[some]), list(x_hat[some])]
        title = f"{split} images of {dataset.name}" if k == 0 else ""
        bands.append(strip(rows, beside, names[some], scale, title))
    return stacked(bands)


def interpolate(
    vae: VAE, dataset: Dataset, split: str, ends: tuple[int, int], count: int, scale: int
) -> Image.Image:
    """Two ways from one image to another: around the origin of the space of codes, and straight."""
    check_indices(dataset, split, ends)
    check_size(2 * (count + 2), scale)
    first, last = dataset.images[list(ends)]
    mu = means(vae, dataset.images[list(ends)])  # (2, Z)
    t = np.linspace(0.0, 1.0, count)
    rows = [[first, *vae.decode(way(mu[0], mu[1], t)), last] for way in (slerp, lerp)]
    columns = ["original", *(f"{share:.0%}" for share in t), "original"]
    title = f"From {split} image {caption(dataset, ends[0])} to {caption(dataset, ends[1])}"
    return strip(rows, ["spherical", "straight"], columns, scale, title)


def traverse(
    vae: VAE, dataset: Dataset, split: str, index: int, test: Images, count: int, scale: int
) -> Image.Image:
    """A row for each latent, from -3 to 3, while the others stay at the image's mu.

    The first row is the latent that matters most: the one with the greatest KL on the test images.
    """
    check_indices(dataset, split, [index])
    check_size(vae.latent_dim * count, scale)
    mu = means(vae, dataset.images[[index]])[0]
    kl = kl_per_latent(vae, test)
    order = by_size(kl)
    values = np.linspace(-3.0, 3.0, count)
    rows = []
    for latent in order:
        z = np.tile(mu, (count, 1))
        z[:, latent] = values
        rows.append(vae.decode(z))
    labels = [f"z{latent}  {kl[latent]:.2f} nats" for latent in order]
    title = f"{split} image {caption(dataset, index)}: one latent moves, the others stay at mu"
    return strip(rows, labels, [f"{value:+.1f}" for value in values], scale, title)


def manifold(vae: VAE, plane: Sequence[int], count: int, scale: int, title: str) -> Image.Image:
    """The decoder's view of a plane of codes: count x count images; for one latent, a strip.

    They are spaced by the quantiles of the prior, so that each stands for an equal share of it.
    The first latent of `plane` grows to the right, the second upwards; all others are 0.
    """
    check_size(count ** len(plane), scale)
    right = normal_quantiles(count)
    up = right[::-1] if len(plane) == 2 else np.zeros(1)
    z = np.zeros((len(up), count, vae.latent_dim))
    z[:, :, plane[0]] = right
    title = f"{title}: z{plane[0]} to the right"
    if len(plane) == 2:
        z[:, :, plane[1]] = up[:, None]
        title += f", z{plane[1]} upwards"
    if vae.latent_dim > 2:
        title += ", all others 0"
    x_hat = vae.decode(z.reshape(-1, vae.latent_dim)).reshape(len(up), count, -1)
    labels = [f"{value:.2f}" for value in right]
    beside = labels[::-1] if len(plane) == 2 else []
    return strip(x_hat, beside, labels, scale, title, gap=0)


def codes(vae: VAE, dataset: Dataset, count: int, scale: int, title: str) -> Image.Image:
    """Where the encoder puts the first `count` images, coloured by class.

    One latent: against the class. Two: as they are. More: in the plane of greatest variance.
    """
    labels = dataset.labels[:count]
    mu, _ = encode_all(vae, dataset.images[:count])
    x_label, y_label = "mu of z0", "mu of z1"
    if vae.latent_dim == 1:
        jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(mu))
        mu, y_label = np.stack([mu[:, 0], labels + jitter], axis=1), "class, in rows"
    elif vae.latent_dim > 2:
        mu, share = principal_plane(mu)
        x_label, y_label = (
            f"{name} principal component of mu ({part:.0%} of the variance)"
            for name, part in zip(("first", "second"), share, strict=True)
        )
    title = f"{title}: codes of {len(mu):,} test images"
    picture = scatter(mu, labels, dataset.class_names, title, x_label, y_label)
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)


# ------------------------------------------------------------------ what they share


def means(vae: VAE, images: Images) -> Array:
    """mu (N, Z) of uint8 images (N, 28, 28)."""
    return encode_all(vae, images)[0]


def most_active(vae: VAE, images: Images) -> list[int]:
    """The latents, from the one with the greatest KL on these images to the least."""
    return by_size(kl_per_latent(vae, images))


def by_size(kl: Array) -> list[int]:
    return [int(latent) for latent in np.argsort(-kl, kind="stable")]


def grid(x_hat: Array, scale: int, title: str) -> Image.Image:
    """Images in rows of ten, or in a square if there are more than a hundred."""
    columns = min(len(x_hat), max(10, math.ceil(math.sqrt(len(x_hat)))))
    rows = [x_hat[k : k + columns] for k in range(0, len(x_hat), columns)]
    return strip(rows, scale=scale, title=title)


def caption(dataset: Dataset, index: int) -> str:
    """An image by its number and its class."""
    return f"#{index}: {dataset.class_names[dataset.labels[index]]}"


def class_label(dataset: Dataset, name: str) -> int:
    """The label of the class of that name, in capitals or not; OptionError if there is none."""
    names = [known.lower() for known in dataset.class_names]
    if name.lower() in names:
        return names.index(name.lower())
    digits = f"{dataset.name} is not about digits. " if name.isdecimal() else ""
    raise OptionError(
        f'{digits}There is no class "{name}" in {dataset.name}.\n'
        f"Its classes: {', '.join(dataset.class_names)}.\n"
        f"Ask for one like this:  python scripts/generate.py class {quote(dataset.class_names[0])}"
    )


def check_indices(dataset: Dataset, split: str, indices: Sequence[int]) -> None:
    for index in indices:
        if not 0 <= index < len(dataset):
            raise OptionError(
                f"there is no image {index}: the {split} images of {dataset.name} "
                f"have the numbers 0 to {len(dataset) - 1}."
            )


def check_size(tiles: int, scale: int) -> None:
    pixels = tiles * (SIDE * scale) ** 2
    if pixels > MOST_PIXELS:
        raise OptionError(
            f"that picture would have more than {pixels // 1_000_000:,} million pixels.\n"
            "Ask for less with --count or --scale."
        )
