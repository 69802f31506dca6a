"""What lies on a path through the latent space?

    interpolate   from the code of one image to that of another
    traverse      one latent moves and the others stay: what is each of them for?

Each path is a still picture, or an animation with one frame per step. The paths are computed by
`latent_space.py` and drawn by `image_grid.py`; `animation.py` joins the frames. In all titles,
`name` is the model: "mnist, z = 10, epoch 20". Each function raises OptionError where
`validation.py` does. Next: manifold.py, which looks at a whole plane.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from npvae.core.parameters import Array
from npvae.datasets import Dataset
from npvae.evaluation import kl_per_latent
from npvae.latent_space import Floats, encode_all, lerp, slerp
from npvae.model import VAE
from npvae.plots.image_grid import image_grid, in_rows, stacked
from npvae.plots.samples import described
from npvae.plots.validation import check_indices, check_size, class_name

REACH = 3.0  # a traversal goes from -REACH to REACH, in standard deviations of the prior
TILES = 5  # in a row of an animated traversal
PATHS = {"spherical": slerp, "straight": lerp}


def interpolate(
    vae: VAE, dataset: Dataset, split: str, ends: Sequence[int], count: int, scale: int, name: str
) -> Image.Image:
    """Two paths from one image to another in `count` steps: around the origin, and straight."""
    check_size(2 * (count + 2), scale)
    a, b, t, paths = _paths(vae, dataset, split, ends, count)
    rows = [[a, *x_hat, b] for x_hat in paths]
    labels = ["original", *(f"{share:.0%}" for share in t), "original"]
    title = f"{name}: {_from_to(vae, dataset, split, ends, name)}"
    return image_grid(rows, list(PATHS), labels, scale, title)


def animate_interpolation(
    vae: VAE, dataset: Dataset, split: str, ends: Sequence[int], count: int, scale: int, name: str
) -> list[Image.Image]:
    """The same two paths, side by side between the two originals: a frame for each step."""
    check_size(4, scale)
    a, b, t, paths = _paths(vae, dataset, split, ends, count)
    title, labels = f"{name}: {_from_to(vae, dataset, split, ends, name)}", ["from", *PATHS, "to"]
    return [
        image_grid([[a, around, straight, b]], [], labels, scale, title, f"{share:.0%} of the way")
        for around, straight, share in zip(*paths, t, strict=True)
    ]


def _paths(
    vae: VAE, dataset: Dataset, split: str, ends: Sequence[int], count: int
) -> tuple[Array, Array, Floats, list[Array]]:
    """The two images, the shares t (count,) of the way, and both paths decoded (count, 784)."""
    check_indices(dataset, split, ends)
    a, b = dataset.images[list(ends)]
    labels = dataset.labels[list(ends)]
    mu, _ = encode_all(vae, np.stack([a, b]), labels=vae.classes(labels))  # (2, Z)
    t = np.linspace(0, 1, count)
    c = int(labels[0]) if vae.num_classes else None
    return a, b, t, [vae.decode(path(mu[0], mu[1], t), c) for path in PATHS.values()]


def _from_to(vae: VAE, dataset: Dataset, split: str, ends: Sequence[int], name: str) -> str:
    """In words; a conditional model decodes all of the path in the class of its first image."""
    a, b = (described(dataset, split, index, name) for index in ends)
    decoded = f", all decoded as {class_name(dataset, ends[0])}" if vae.num_classes else ""
    return f"from {a} to {b}{decoded}"


def traverse(
    vae: VAE,
    dataset: Dataset,
    split: str,
    index: int,
    test: Dataset,
    count: int,
    scale: int,
    name: str,
) -> Image.Image:
    """A row for each latent: it moves from -3 to 3, and the others stay at the image's mu.

    The first row is the latent with the greatest KL on the test images. A triangle below each row
    marks the image's own mu. The image and its reconstruction stand above.
    """
    check_size(vae.latent_dim * count, scale)
    mu, x_hat, kl, values, moved = _moved(vae, dataset, split, index, test, count)
    order = np.argsort(-kl, kind="stable")
    head = image_grid(
        [[dataset.images[index], x_hat]],
        [],
        ["original", "reconstruction"],
        scale,
        f"{name}: {described(dataset, split, index, name)}",
        "Each row moves one latent, the greatest KL first. The triangle marks the image's own mu.",
    )
    labels = [f"z{latent}  {kl[latent]:.2f} nats" for latent in order]
    places = [_position(mu[latent], count) for latent in order]
    columns = [f"{value:.1f}" for value in values]
    rows = [moved[latent] for latent in order]
    return stacked([head, image_grid(rows, labels, columns, scale, gap=11, marks=places)])


def animate_traversal(
    vae: VAE,
    dataset: Dataset,
    split: str,
    index: int,
    test: Dataset,
    count: int,
    scale: int,
    name: str,
) -> list[Image.Image]:
    """The same, with a tile for each latent: all of them move at once."""
    check_size(vae.latent_dim + 2, scale)
    _, x_hat, kl, values, moved = _moved(vae, dataset, split, index, test, count)
    order = np.argsort(-kl, kind="stable")
    title = f"{name}: {described(dataset, split, index, name)}"
    pair = ["original", "reconstruction"]
    frames = []
    for k, value in enumerate(values):
        caption = f"Each tile moves one latent from {-REACH:.0f} to {REACH:.0f}: now {value:+.2f}"
        head = image_grid([[dataset.images[index], x_hat]], [], pair, scale, title, caption)
        rows = [
            image_grid(
                [[moved[latent][k] for latent in some]],
                [],
                [f"z{latent}\n{kl[latent]:.2f} nats" for latent in some],
                scale,
            )
            for some in in_rows(order, TILES)
        ]
        frames.append(stacked([head, *rows]))
    return frames


def _moved(
    vae: VAE, dataset: Dataset, split: str, index: int, test: Dataset, count: int
) -> tuple[Floats, Array, Floats, Floats, list[Array]]:
    """The image's mu (Z,), its x_hat, the KL of each latent on the test images, the `count` values
    that a latent takes, and for each latent the images (count, 784) decoded along them."""
    check_indices(dataset, split, [index])
    labels = vae.classes(dataset.labels[[index]])
    mu, _ = encode_all(vae, dataset.images[[index]], labels=labels)  # (1, Z)
    c = None if labels is None else int(labels[0])
    values = np.linspace(-REACH, REACH, count)
    moved = []
    for latent in range(vae.latent_dim):
        z = np.repeat(mu, count, axis=0)
        z[:, latent] = values
        moved.append(vae.decode(z, c))
    kl = kl_per_latent(vae, test.images, labels=vae.classes(test.labels))
    return mu[0], vae.decode(mu, c)[0], kl, values, moved


def _position(mu: float, count: int) -> float:
    """Where a value lies among the columns, 0 for the first and count - 1 for the last."""
    return float(np.clip((mu + REACH) / (2 * REACH), 0, 1) * (count - 1))
