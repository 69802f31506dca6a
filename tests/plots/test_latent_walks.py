"""Each image along a path is the code at its place, decoded; so is each frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.latent_space import lerp, slerp
from npvae.model import VAE
from npvae.plots.image_grid import image_grid, stacked
from npvae.plots.latent_walks import (
    animate_interpolation,
    animate_traversal,
    interpolate,
    traverse,
)
from tests.plots.toys import NAME, TEST, TRAIN, asked, assert_same, model, x_of

TITLE = f"{NAME}: drawn-digits test image"


@pytest.mark.parametrize("num_classes", [0, 10])
def test_interpolation_goes_from_image_to_image_both_ways(num_classes: int) -> None:
    """In a conditional model as the class of the first."""
    vae, (a, b), (first, second) = (
        model(3, 1, num_classes),
        TEST.images[[3, 8]],
        TEST.labels[[3, 8]],
    )
    c = int(first) if num_classes else None
    mu, _ = vae.encode(x_of(TEST.images[[3, 8]]), vae.classes(TEST.labels[[3, 8]]))
    paths = [vae.decode(way(mu[0], mu[1], np.linspace(0, 1, 5)), c) for way in (slerp, lerp)]
    ends = f"image 3 (class {first}) to drawn-digits test image 8 (class {second})"
    title = f"{NAME}: from drawn-digits test {ends}"
    title += f", all decoded as class {first}" if num_classes else ""
    shares = ["0%", "25%", "50%", "75%", "100%"]
    labels = ["original", *shares, "original"]
    rows = [[a, *path, b] for path in paths]
    whole = image_grid(rows, ["spherical", "straight"], labels, 1, f"{title}\n")
    assert_same(interpolate(asked(vae, 5), (3, 8)), whole)
    frames = animate_interpolation(asked(vae, 5), (3, 8))
    for frame, around, straight, share in zip(frames, *paths, shares, strict=True):
        row, labels = [a, around, straight, b], ["from", "spherical", "straight", "to"]
        assert_same(frame, image_grid([row], [], labels, 1, f"{title}\n{share} of the way"))


def codes_and_kl(vae: VAE, images: Any, labels: Any) -> tuple[Array, Any]:
    """mu of images, and the KL of each latent on the test images."""
    mu, log_var = vae.encode(x_of(TEST.images), vae.classes(TEST.labels))
    kl = np.mean(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=0)
    return vae.encode(x_of(images), vae.classes(labels))[0], kl


def moved(vae: VAE, mu: Array, latent: int, values: Any, c: int | None = None) -> Array:
    """The images where this latent takes these values, and the others stay."""
    z = np.tile(mu, (len(values), 1))
    z[:, latent] = values
    return vae.decode(z, c)


@pytest.mark.parametrize("num_classes", [0, 10])
def test_traversal_moves_one_latent_in_each_row_the_greatest_kl_first(num_classes: int) -> None:
    """And marks the image's own value. Column k of 7 shows k - 3; what is beyond is at the end."""
    vae, image = model(5, 1, num_classes), TRAIN.images[3]
    mu, kl = codes_and_kl(vae, TRAIN.images[3:4], TRAIN.labels[3:4])
    c = int(TRAIN.labels[3]) if num_classes else None
    order = sorted(range(5), key=lambda latent: -kl[latent])
    assert order != list(range(5))
    labels = [f"z{latent}  {kl[latent]:.2f} nats" for latent in order]
    columns = ["-3.0", "-2.0", "-1.0", "0.0", "1.0", "2.0", "3.0"]
    marks = np.clip(mu[0, order] + 3, 0, 6)
    assert np.ptp(marks) > 0.1
    rows = [moved(vae, mu, latent, np.arange(-3, 4), c) for latent in order]
    about = f"(class {TRAIN.labels[3]})\nEach row moves one latent, the greatest KL first."
    title = f"{NAME}: drawn-digits train image 3 {about} The triangle marks the image's own mu."
    pair = [[image, vae.decode(mu, c)[0]]]
    head = image_grid(pair, [], ["original", "reconstruction"], 1, title)
    grid = image_grid(rows, labels, columns, 1, gap=11, marks=marks)
    assert_same(traverse(asked(vae, 7, split="train"), 3), stacked([head, grid]))


def test_an_animated_traversal_moves_all_latents_at_once() -> None:
    """In rows of five tiles."""
    vae, image = model(7), TEST.images[2]
    mu, kl = codes_and_kl(vae, TEST.images[2:3], TEST.labels[2:3])
    order = sorted(range(7), key=lambda latent: -kl[latent])
    pair = [[image, vae.decode(mu)[0]]]
    frames = animate_traversal(asked(vae, 4), 2)
    for frame, value in zip(frames, [-3, -1, 1, 3], strict=True):
        words = f"Each tile moves one latent from -3 to 3: now {value:+.2f}"
        title = f"{TITLE} 2 (class {TEST.labels[2]})\n{words}"
        parts = [image_grid(pair, [], ["original", "reconstruction"], 1, title)]
        for some in (order[:5], order[5:]):
            labels = [f"z{latent}\n{kl[latent]:.2f} nats" for latent in some]
            tiles = [moved(vae, mu, latent, [value])[0] for latent in some]
            parts.append(image_grid([tiles], [], labels, 1))
        assert_same(frame, stacked(parts))
