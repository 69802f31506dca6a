"""Each image of the manifold is its place in the plane, decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.core.errors import OptionError
from npvae.core.parameters import Array
from npvae.latent_space import normal_quantiles, principal_axes
from npvae.plots import manifold as module
from npvae.plots.axes import MARGIN
from npvae.plots.image_grid import image_grid, to_uint8
from npvae.plots.manifold import Plane, latent_plane, manifold, principal_plane
from tests.plots.toys import NAME, TEST, model, pixels_of, x_of

UNIT = np.eye(2)


@pytest.mark.parametrize("reach", [None, 2.5])
@pytest.mark.parametrize("latent_dim", [2, 4])
def test_each_tile_is_its_place_decoded(latent_dim: int, reach: float | None) -> None:
    """In the picture itself: rows run downwards, the second direction upwards."""
    vae = model(latent_dim)
    center: Array = np.zeros(2)
    if latent_dim == 2:
        plane, right, up = latent_plane(2), UNIT[0], UNIT[1]
    else:
        plane = principal_plane(vae, TEST.images)
        center, axes, variance = principal_axes(vae.encode(x_of(TEST.images))[0])
        right, up = axes * np.sqrt(variance[:2, None])
    pixels = pixels_of(manifold(vae, plane, 6, 1, NAME, reach))
    values = normal_quantiles(6) if reach is None else np.linspace(-reach, reach, 6)
    top = pixels.shape[0] - MARGIN - 6 * 28
    for row in range(6):
        for column in range(6):
            z = center + values[column] * right + values[5 - row] * up
            y, x = top + 28 * row, MARGIN + 28 * column
            expected = to_uint8(vae.decode(z[None])).reshape(28, 28)
            # One level: a batch of 36 may be rounded in another way than a batch of one.
            assert np.abs(pixels[y : y + 28, x : x + 28] - expected).max() <= 1
    assert len(np.unique(pixels[top:-MARGIN, MARGIN : MARGIN + 6 * 28])) > 20


def said(
    monkeypatch: pytest.MonkeyPatch, plane: Plane, scale: int, reach: float | None
) -> list[Any]:
    """The labels, scale and title of a manifold of 3 x 3."""
    given: list[Any] = []

    def watched(rows: Any, *more: Any, **named: Any) -> Image.Image:
        given.extend(more)
        return image_grid(rows, *more, **named)

    monkeypatch.setattr(module, "image_grid", watched)
    manifold(model(len(plane.center)), plane, 3, scale, NAME, reach)
    return given


def test_it_says_which_plane_it_is_and_how_the_images_are_spaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beside, above, _, title = said(monkeypatch, latent_plane(2), 2, None)
    assert above == ["-0.97", "0.00", "0.97"]
    assert beside == ["0.97", "0.00", "-0.97"]
    quantiles = "at the quantiles 16.7% to 83.3% of a normal"
    assert title == f"{NAME}: the manifold\nz0 to the right, z1 upwards; {quantiles}"
    *_, title = said(monkeypatch, principal_plane(model(3), TEST.images), 1, 2.5)
    assert "principal component 1 of mu to the right (" in title
    assert title.endswith("evenly spaced from -2.5 to 2.5")


def test_small_images_have_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    beside, above, *_ = said(monkeypatch, latent_plane(2), 1, None)
    assert beside == above == []


def test_the_manifold_of_one_latent_is_a_strip() -> None:
    vae = model(1)
    pixels = pixels_of(manifold(vae, latent_plane(1), 5, 1, NAME))
    strip = pixels[-MARGIN - 28 : -MARGIN, MARGIN : MARGIN + 5 * 28]
    x_hat = to_uint8(vae.decode(normal_quantiles(5)[:, None])).reshape(5, 28, 28)
    assert np.abs(strip - np.concatenate(x_hat, axis=1)).max() <= 1
    assert (pixels[-MARGIN - 30 : -MARGIN - 28] == 255).all()  # nothing above it but words


def test_a_manifold_of_one_image_is_the_middle() -> None:
    vae = model(2)
    for reach in (None, 3.0):
        pixels = pixels_of(manifold(vae, latent_plane(2), 1, 1, NAME, reach))
        middle = to_uint8(vae.decode(np.zeros((1, 2)))).reshape(28, 28)
        np.testing.assert_array_equal(pixels[-MARGIN - 28 : -MARGIN, MARGIN : MARGIN + 28], middle)


def test_too_large_a_manifold_is_refused() -> None:
    with pytest.raises(OptionError, match="million pixels"):
        manifold(model(2), latent_plane(2), 2000, 3, NAME)
