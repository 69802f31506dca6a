"""Each image along a path is the code at its place, decoded; so is each frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.core.errors import OptionError
from npvae.latent_space import lerp, slerp
from npvae.plots import latent_walks
from npvae.plots.image_grid import image_grid
from npvae.plots.latent_walks import (
    animate_interpolation,
    animate_traversal,
    interpolate,
    traverse,
)
from tests.plots.toys import NAME, TEST, TRAIN, asked, model, x_of

Call = dict[str, Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What was handed to `image_grid`, call by call; the pictures are made all the same."""
    made: list[Call] = []
    names = ["rows", "row_labels", "column_labels", "scale", "title", "gap", "marks"]

    def watched(*args: Any, **named: Any) -> Image.Image:
        made.append(dict(zip(names, args, strict=False)) | named)
        return image_grid(*args, **named)

    monkeypatch.setattr(latent_walks, "image_grid", watched)
    return made


def test_interpolation_goes_from_image_to_image_both_ways(calls: list[Call]) -> None:
    vae = model(3)
    interpolate(asked(vae, 5), (3, 8))
    (drawn,) = calls
    mu, _ = vae.encode(x_of(TEST.images[[3, 8]]))
    paths = {"spherical": slerp, "straight": lerp}
    assert drawn["row_labels"] == list(paths)
    for row, path in zip(drawn["rows"], paths.values(), strict=True):
        first, *between, last = row
        np.testing.assert_array_equal(first, TEST.images[3])
        np.testing.assert_array_equal(last, TEST.images[8])
        expected = vae.decode(path(mu[0], mu[1], np.array([0, 0.25, 0.5, 0.75, 1])))
        np.testing.assert_allclose(between, expected, rtol=1e-9)
    assert drawn["column_labels"] == ["original", "0%", "25%", "50%", "75%", "100%", "original"]
    ends = [f"image {k} (class {TEST.labels[k]})" for k in (3, 8)]
    assert drawn["title"].startswith(NAME)
    assert all(end in drawn["title"] for end in ends)


def test_an_animated_interpolation_has_a_frame_for_each_step(calls: list[Call]) -> None:
    vae = model(3)
    frames = animate_interpolation(asked(vae, 5), (3, 8))
    assert len(frames) == len(calls) == 5
    assert len({frame.size for frame in frames}) == 1
    mu, _ = vae.encode(x_of(TEST.images[[3, 8]]))
    for drawn, t in zip(calls, np.linspace(0, 1, 5), strict=True):
        ((first, around, straight, last),) = drawn["rows"]
        np.testing.assert_array_equal(first, TEST.images[3])
        np.testing.assert_array_equal(last, TEST.images[8])
        at = np.array([t])
        np.testing.assert_allclose(around, vae.decode(slerp(mu[0], mu[1], at))[0], rtol=1e-9)
        np.testing.assert_allclose(straight, vae.decode(lerp(mu[0], mu[1], at))[0], rtol=1e-9)
        assert drawn["title"].endswith(f"\n{t:.0%} of the way")


def kl_by_hand(latent_dim: int) -> Any:
    mu, log_var = model(latent_dim).encode(x_of(TEST.images))
    return np.mean(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=0)  # (Z,)


def test_traversal_moves_one_latent_in_each_row_the_greatest_kl_first(calls: list[Call]) -> None:
    vae, kl = model(5), kl_by_hand(5)
    traverse(asked(vae, 7, split="train"), 3)
    head, drawn = calls
    order = sorted(range(5), key=lambda latent: -kl[latent])
    assert order != list(range(5))
    assert drawn["row_labels"] == [f"z{latent}  {kl[latent]:.2f} nats" for latent in order]
    assert drawn["column_labels"] == ["-3.0", "-2.0", "-1.0", "0.0", "1.0", "2.0", "3.0"]
    at, _ = vae.encode(x_of(TRAIN.images[3:4]))
    for latent, row in zip(order, drawn["rows"], strict=True):
        for value, image in zip(range(-3, 4), row, strict=True):
            z = at.copy()
            z[0, latent] = value
            np.testing.assert_allclose(image, vae.decode(z)[0], rtol=1e-9)
    ((original, x_hat),) = head["rows"]
    np.testing.assert_array_equal(original, TRAIN.images[3])
    np.testing.assert_allclose(x_hat, vae.decode(at)[0], rtol=1e-9)


def test_a_traversal_marks_the_images_own_value(calls: list[Call]) -> None:
    """7 columns from -3 to 3: column k shows k - 3. Values beyond are marked at the end."""
    vae = model(5)
    traverse(asked(vae, 7, split="train"), 3)
    mu, _ = vae.encode(x_of(TRAIN.images[3:4]))
    order = np.argsort(-kl_by_hand(5))
    expected = np.clip(mu[0, order] + 3, 0, 6)
    np.testing.assert_allclose(calls[1]["marks"], expected, atol=1e-9)
    assert np.ptp(expected) > 0.1


def test_an_animated_traversal_moves_all_latents_at_once(calls: list[Call]) -> None:
    vae = model(7)
    frames = animate_traversal(asked(vae, 4), 2)
    assert len(frames) == 4
    assert len({frame.size for frame in frames}) == 1
    at, _ = vae.encode(x_of(TEST.images[2:3]))
    order = np.argsort(-kl_by_hand(7))
    for k, value in enumerate([-3, -1, 1, 3]):
        head, *bands = calls[3 * k : 3 * k + 3]
        assert head["title"].endswith(f"now {value:+.2f}")
        tiles = [image for band in bands for image in band["rows"][0]]
        for latent, image in zip(order, tiles, strict=True):
            z = at.copy()
            z[0, latent] = value
            np.testing.assert_allclose(image, vae.decode(z)[0], rtol=1e-9)
    assert bands[1]["column_labels"][0].startswith(f"z{order[5]}\n")


def test_images_that_do_not_exist_are_refused() -> None:
    for draw in (interpolate, animate_interpolation):
        with pytest.raises(OptionError, match="no test image 60"):
            draw(asked(model(2), 5), (0, 60))
    for walk in (traverse, animate_traversal):
        with pytest.raises(OptionError, match="no test image 60"):
            walk(asked(model(2), 5), 60)
