"""What lies on a path through the latent space?

    interpolate   from the code of one image to that of another
    traverse      one latent moves and the others stay: what is each of them for?

Each path is a still picture, or an animation with one frame per step. The paths are computed by
`latent_space.py` and drawn by `image_grid.py`; `animation.py` joins the frames. Each function
raises OptionError where `Request` does. Next: manifold.py, which looks at a whole plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npvae.core.parameters import Array
from npvae.evaluation import kl_per_latent
from npvae.latent_space import Floats, lerp, slerp
from npvae.plots.class_names import class_name, explanation
from npvae.plots.image_grid import image_grid, in_rows, stacked
from npvae.plots.request import Request, check_size

REACH = 3.0  # a traversal goes from -REACH to REACH, in standard deviations of the prior
TILES = 5  # in a row of an animated traversal
PATHS = {"spherical": slerp, "straight": lerp}


def interpolate(request: Request, index: Sequence[int]) -> Image.Image:
    """Two paths from one image to another in `count` steps: around the origin, and straight."""
    check_size(2 * (request.count + 2), request.scale)
    a, b, t, paths = _paths(request, index)
    rows = [[a, *x_hat, b] for x_hat in paths]
    labels = ["original", *(f"{share:.0%}" for share in t), "original"]
    title = f"{_from_to(request, index)}\n{explanation(request.images)}"
    return image_grid(rows, list(PATHS), labels, request.scale, title)


def animate_interpolation(request: Request, index: Sequence[int]) -> list[Image.Image]:
    """The same two paths, side by side between the two originals: a frame for each step."""
    check_size(4, request.scale)
    a, b, t, paths = _paths(request, index)
    title, labels = _from_to(request, index), ["from", *PATHS, "to"]
    return [
        image_grid([[a, *x_hat, b]], [], labels, request.scale, f"{title}\n{share:.0%} of the way")
        for *x_hat, share in zip(*paths, t, strict=True)
    ]


def _paths(request: Request, ends: Sequence[int]) -> tuple[Array, Array, Floats, list[Array]]:
    """The two images, the shares t (count,) of the way, and both paths decoded (count, 784).

    A conditional model decodes all of a path in the class of its first image.
    """
    (a, b), mu, c = request.encoded(ends)
    t = np.linspace(0, 1, request.count)
    first = None if c is None else int(c[0])
    return a, b, t, [request.vae.decode(path(mu[0], mu[1], t), first) for path in PATHS.values()]


def _from_to(request: Request, ends: Sequence[int]) -> str:
    """The title of a path."""
    a, b = map(request.described, ends)
    first = class_name(request.images, ends[0])
    decoded = f", all decoded as {first}" if request.vae.num_classes else ""
    return f"{request.name}: from {a} to {b}{decoded}"


def traverse(request: Request, index: int) -> Image.Image:
    """A row for each latent: it moves from -3 to 3, and the others stay at the image's mu.

    The first row is the latent with the greatest KL on the test images. A triangle below each row
    marks the image's own mu. The image and its reconstruction stand above.
    """
    check_size(request.vae.latent_dim * request.count, request.scale)
    walk = _walked(request, index)
    head = walk.head(
        "Each row moves one latent, the greatest KL first. The triangle marks the image's own mu."
    )
    rows = [walk.moved[latent] for latent in walk.order]
    labels = [f"z{latent}  {walk.kl[latent]:.2f} nats" for latent in walk.order]
    columns = [f"{value:.1f}" for value in walk.values]
    share = np.clip((walk.mu + REACH) / (2 * REACH), 0, 1)
    marks = (request.count - 1) * share[walk.order]
    return stacked([head, image_grid(rows, labels, columns, request.scale, gap=11, marks=marks)])


def animate_traversal(request: Request, index: int) -> list[Image.Image]:
    """The same, with a tile for each latent: all of them move at once."""
    check_size(request.vae.latent_dim + 2, request.scale)
    walk = _walked(request, index)
    frames = []
    for k, value in enumerate(walk.values):
        words = f"Each tile moves one latent from {-REACH:.0f} to {REACH:.0f}: now {value:+.2f}"
        pictures = [walk.head(words)]
        for some in in_rows(walk.order, TILES):
            labels = [f"z{latent}\n{walk.kl[latent]:.2f} nats" for latent in some]
            tiles = [walk.moved[latent][k] for latent in some]
            pictures.append(image_grid([tiles], [], labels, request.scale))
        frames.append(stacked(pictures))
    return frames


class _Walk(NamedTuple):
    """What a traversal shows."""

    request: Request
    title: str
    pair: tuple[Array, Array]  # the image and its x_hat
    mu: Array  # (Z,) of the image
    kl: Floats  # (Z,) of each latent, on the test images
    order: NDArray[np.intp]  # (Z,) of the latents, the greatest KL first
    values: Floats  # (count,) that a latent takes
    moved: list[Array]  # for each latent the images (count, 784) decoded along them

    def head(self, words: str) -> Image.Image:
        """The image beside its reconstruction, with the title and these words."""
        pair, scale = ["original", "reconstruction"], self.request.scale
        return image_grid([self.pair], [], pair, scale, f"{self.title}\n{words}")


def _walked(request: Request, index: int) -> _Walk:
    vae, (_, test) = request.vae, request.data()
    images, mu, labels = request.encoded([index])
    c = None if labels is None else int(labels[0])
    values = np.linspace(-REACH, REACH, request.count)
    moved = []
    for latent in range(vae.latent_dim):
        z = np.repeat(mu, request.count, axis=0)
        z[:, latent] = values
        moved.append(vae.decode(z, c))
    kl = kl_per_latent(vae, test.images, labels=vae.classes(test.labels))
    order = np.argsort(-kl, kind="stable")
    title = f"{request.name}: {request.described(index)}"
    pair = images[0], vae.decode(mu, c)[0]
    return _Walk(request, title, pair, mu[0], kl, order, values, moved)
