"""Each image of the manifold is its place in the plane, decoded."""

from __future__ import annotations

import numpy as np
import pytest

from npvae.latent_space import normal_quantiles, principal_axes
from npvae.plots.axes import MARGIN
from npvae.plots.image_grid import image_grid, to_uint8
from npvae.plots.manifold import latent_plane, manifold, of_model, principal_plane
from tests.plots.toys import NAME, TEST, asked, assert_same, model, pixels_of, x_of

CASES = [(1, None, 2, 0), (2, None, 1, 0), (2, 2.5, 2, 10), (4, None, 1, 0), (4, 2.5, 1, 0)]


@pytest.mark.parametrize(("latent_dim", "reach", "scale", "num_classes"), CASES)
def test_each_image_is_its_place_decoded_and_the_title_says_which_plane(
    latent_dim: int, reach: float | None, scale: int, num_classes: int
) -> None:
    """Rows run downwards, the second direction upwards. Values are named where there is room."""
    vae, c = model(latent_dim, 1, num_classes), 7 if num_classes else None
    plane, unit = latent_plane(latent_dim), np.eye(latent_dim)
    center, right, up = 0 * unit[0], unit[0], unit[-1]
    words = "z0 to the right" if latent_dim == 1 else "z0 to the right, z1 upwards"
    if latent_dim > 2:
        plane = principal_plane(vae, TEST.images)
        center, axes, variance = principal_axes(vae.encode(x_of(TEST.images))[0])
        right, up = axes * np.sqrt(variance[:2, None])
        first, second = variance[:2] / variance.sum()
        words = f"principal component 1 of mu to the right ({first:.0%} of the variance), "
        words += f"2 upwards ({second:.0%})"
    spacing = "at the quantiles 8.33% to 91.7% of a normal"
    values = normal_quantiles(6)
    if reach:
        values, spacing = np.linspace(-reach, reach, 6), "evenly spaced from -2.5 to 2.5"
    across = center + values[:, None] * right
    downwards = values[::-1] if latent_dim > 1 else [0.0]
    x_hat = [vae.decode(across + value * up, c) for value in downwards]
    labels = [f"{value:.2f}" for value in values] if scale == 2 else []
    beside = labels[::-1] if latent_dim > 1 else []
    title = f"{NAME}: the manifold\n{words}; {spacing}"
    expected = image_grid(x_hat, beside, labels, scale, title, gap=0)
    assert_same(manifold(vae, plane, 6, scale, NAME, reach, c), expected)


def test_a_manifold_of_one_image_is_the_middle() -> None:
    vae = model(2)
    for reach in (None, 3.0):
        pixels = pixels_of(manifold(vae, latent_plane(2), 1, 1, NAME, reach))
        middle = to_uint8(vae.decode(np.zeros((1, 2)))).reshape(28, 28)
        np.testing.assert_array_equal(pixels[-MARGIN - 28 : -MARGIN, MARGIN : MARGIN + 28], middle)


@pytest.mark.parametrize(("wanted", "c"), [("", 0), ("7", 7)])
def test_a_conditional_model_shows_one_class(wanted: str, c: int) -> None:
    vae, said = model(2, 1, num_classes=10), list[str]()
    found = of_model(asked(vae, 4, say=said.append), wanted, 2.0)
    assert_same(found, manifold(vae, latent_plane(2), 4, 1, f"{NAME}, class {c}", 2.0, c))
    assert said == ["plane    z0 to the right, z1 upwards"]
