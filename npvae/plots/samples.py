"""What does a trained model make up, and what does it keep of an image?

    prior         z ~ N(0, I), decoded: images that the model makes up
    of_class      z from the region where the images of one class lie
    styles        the same z in every class of a conditional model
    reconstruct   images, encoded and decoded again, in a conditional model also as another class

The arithmetic of latent codes is in `latent_space.py`, the drawing in `image_grid.py`. Each
function raises OptionError where `Request` does. Next: latent_walks.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from npvae.core.parameters import Array
from npvae.latent_space import Floats, draw_codes, encode_all, gaussian_of_class
from npvae.plots.class_names import class_name, explanation, picture_name, shortened
from npvae.plots.image_grid import COLUMNS, image_grid, in_rows, reconstruction_grid
from npvae.plots.request import Request, check_size

WELL_SEPARATED = 0.75  # share of the samples of a class that fit this class best


def prior(request: Request) -> Image.Image:
    """`count` samples from the prior, decoded; in a conditional model of each class in turn."""
    vae, count = request.vae, request.count
    check_size(count, request.scale)
    c = np.arange(count) % vae.num_classes if vae.num_classes else None
    of_classes = f"; the {vae.num_classes} classes in turn" if vae.num_classes else ""
    title = f"{request.name}: samples from the prior{of_classes}"
    return grid(vae.sample(count, request.rng, c), request.scale, title)


def of_class(request: Request, wanted: str) -> Image.Image:
    """Samples that look like a class; a note if it is not well separated from the others.

    A conditional model draws from p(x | z, c), with z from the prior. Another one knows nothing of
    classes: the codes come from a Gaussian fitted to the codes of the training images of the class.
    Raises DataError for a class without images.
    """
    vae, count = request.vae, request.count
    check_size(count, request.scale)
    label, (train, _) = request.known_class(wanted), request.data()
    name = picture_name(train, label)
    if vae.num_classes:
        x_hat = vae.sample(count, request.rng, label)
        title = f"{request.name}: samples of the class {name}\n{explanation(train)}"
        return grid(x_hat, request.scale, title)
    gaussians = [
        gaussian_of_class(*encode_all(vae, train.images[train.labels == k]))
        if (train.labels == k).any()
        else None
        for k in range(len(train.class_names))
    ]
    gaussian = gaussians[label]
    assert gaussian  # the class has training images
    z = draw_codes(*gaussian, count, request.rng)
    shares = best_fits(draw_codes(*gaussian, 1000, np.random.default_rng(0)), gaussians)
    note = explanation(train)
    if shares[label] < WELL_SEPARATED:
        others = np.where(np.arange(len(shares)) == label, 0, shares)
        rival = shortened(train.class_names[int(others.argmax())])
        note = (
            f"poorly separated: {1 - shares[label]:.0%} of such samples fit another class better, "
            f"{others.max():.0%} the class {rival}"
        )
        request.say(f"note     {wanted} is {note}")
    title = f"{request.name}: samples like the class {name}\n{note}"
    return grid(vae.decode(z), request.scale, title)


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


def styles(request: Request) -> Image.Image:
    """A row for each of `count` codes z from the prior, decoded in every class: one in a column.

    Raises OptionError unless the model is conditional.
    """
    vae = request.vae
    request.check_conditional("styles")
    labels = np.arange(vae.num_classes)
    check_size(request.count * len(labels), request.scale)
    train, _ = request.data()
    z = vae.noise(request.count, request.rng)
    rows = [vae.decode(np.repeat(one[np.newaxis], len(labels), axis=0), labels) for one in z]
    named = range(len(train.class_names))  # of another dataset, perhaps fewer
    columns = [picture_name(train, k) if k in named else f"#{k}" for k in range(vae.num_classes)]
    words = f"each row is one z, decoded in every class\n{explanation(train)}"
    return image_grid(rows, [], columns, request.scale, f"{request.name}: {words}")


def reconstruct(
    request: Request, index: Sequence[int] | None = None, wanted: str = ""
) -> Image.Image:
    """Images above what the decoder makes of their codes mu; a single image beside it.

    They are the first `count` images if no index is given. A conditional model decodes them as the
    class `wanted`, if one is named, instead of their own.
    """
    index = index or range(min(request.count, len(request.images)))
    request = replace(request, scale=request.scale or (8 if len(index) == 1 else 3))
    check_size(2 * len(index), request.scale)
    originals, mu, c = request.encoded(index)
    made = "reconstruction"
    if wanted:
        request.check_conditional("--as")
        label = request.known_class(wanted)
        x_hat, made = request.vae.decode(mu, label), f"as {picture_name(request.images, label)}"
    else:
        x_hat = request.vae.decode(mu, c)
    note = explanation(request.images)
    if len(index) == 1:
        title = f"{request.name}: {request.described(index[0])}\n{note}"
        both = [originals[0], x_hat[0]]
        return image_grid([both], [], ["original", made], request.scale, title)
    names = [f"image {k}\n{class_name(request.images, k)}" for k in index]
    title = f"{request.name}: {request.source()}s and reconstructions\n{note}"
    return reconstruction_grid(originals, x_hat, request.scale, title, names=names, made=made)


def grid(x_hat: Array, scale: int, title: str) -> Image.Image:
    """Images in rows of ten, or in a square if there are more than a hundred."""
    columns = min(len(x_hat), max(COLUMNS, math.ceil(math.sqrt(len(x_hat)))))
    return image_grid(in_rows(x_hat, columns), scale=scale, title=title)
