"""What does the decoder make of a plane of the latent space? `manifold` draws an image per place.

With two latents the plane is the whole space. With more, it is the plane through the mean of the
codes along their first two principal components. The encoder's view of the same plane, with a dot
for each image, is in `latent_scatter.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npvae.datasets.dataset import SIDE
from npvae.datasets.minibatches import Labels
from npvae.latent_space import Floats, encode_all, normal_quantiles, principal_axes
from npvae.model import VAE
from npvae.plots.class_names import picture_name
from npvae.plots.image_grid import image_grid
from npvae.plots.request import Request, check_size


class Plane(NamedTuple):
    """The codes center + a * right + b * up; a and b count standard deviations."""

    center: Floats  # (Z,)
    right: Floats  # (Z,)
    up: Floats | None  # (Z,); None for a line
    words: str


def latent_plane(latent_dim: int) -> Plane:
    """The plane of z0 and z1, all other latents 0; with one latent a line."""
    unit = np.eye(latent_dim)
    if latent_dim == 1:
        return Plane(np.zeros(1), unit[0], None, "z0 to the right")
    return Plane(np.zeros(latent_dim), unit[0], unit[1], "z0 to the right, z1 upwards")


def principal_plane(vae: VAE, images: NDArray[np.uint8], labels: Labels = None) -> Plane:
    """The plane through the mean of the codes mu of images (N, 28, 28), along their first two
    principal components; one step is a standard deviation of the codes."""
    mean, axes, variance = principal_axes(encode_all(vae, images, labels=labels)[0])
    right, up = axes * np.sqrt(variance[:2, np.newaxis])
    first, second = variance[:2] / max(float(variance.sum()), 1e-300)
    words = (
        f"principal component 1 of mu to the right ({first:.0%} of the variance), "
        f"2 upwards ({second:.0%})"
    )
    return Plane(mean, right, up, words)


def of_model(request: Request, wanted: str = "", reach: float | None = None) -> Image.Image:
    """The plane that suits the model; of a conditional one in the class `wanted`, or its first."""
    vae, name, c = request.vae, request.name, None
    if wanted:
        request.check_conditional("--class")
    if vae.num_classes:
        train, _ = request.data()
        c = request.known_class(wanted or train.class_names[0])
        name = f"{name}, class {picture_name(train, c)}"
    if vae.latent_dim <= 2:
        plane = latent_plane(vae.latent_dim)
    else:
        _, test = request.data()
        plane = principal_plane(vae, test.images, vae.classes(test.labels))
    request.say(f"plane    {plane.words}")
    return manifold(vae, plane, request.count, request.scale, name, reach, c)


def manifold(
    vae: VAE,
    plane: Plane,
    count: int,
    scale: int,
    name: str,
    reach: float | None = None,
    c: int | None = None,
) -> Image.Image:
    """The decoder's view of a plane: count x count images, or `count` along a line.

    By default they stand at the quantiles of a standard normal, so that each image represents an
    equal share of it. With `reach` they are spaced evenly from -reach to reach standard deviations.
    `name` is the model in the title, c the class of a conditional model. Raises OptionError if the
    picture would be too large.
    """
    check_size(count if plane.up is None else count**2, scale)
    if reach is None:
        right = normal_quantiles(count)
        spacing = f"at the quantiles {50 / count:.3g}% to {100 - 50 / count:.3g}% of a normal"
    else:
        right = np.linspace(-reach, reach, count) if count > 1 else np.zeros(1)
        spacing = f"evenly spaced from {-reach:g} to {reach:g}"
    up = np.zeros(1) if plane.up is None else right[::-1]  # rows run downwards
    z = plane.center + right[np.newaxis, :, np.newaxis] * plane.right  # (1, count, Z)
    if plane.up is not None:
        z = z + up[:, np.newaxis, np.newaxis] * plane.up  # (count, count, Z)
    x_hat = vae.decode(z.reshape(-1, vae.latent_dim), c).reshape(len(up), count, -1)
    labels = [f"{value:.2f}" for value in right] if SIDE * scale > 50 else []  # room for them?
    beside = labels[::-1] if plane.up is not None else []
    title = f"{name}: the manifold\n{plane.words}; {spacing}"
    return image_grid(list(x_hat), beside, labels, scale, title, gap=0)
