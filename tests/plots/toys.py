"""What the tests of pictures share: tiny sets of drawn digits, and untrained models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npvae.datasets import Dataset
from npvae.datasets.drawn_digits import drawn_digits
from npvae.model import VAE
from npvae.plots.axes import WHITE
from npvae.plots.request import Request

TRAIN, TEST = drawn_digits(train=200, test=60)
CLOTHES = replace(
    TRAIN, name="clothes", class_names=("T-shirt/top", "Trouser", "Shirt", *"3456789")
)
NAME = "toy, z = 3, epoch 7"


def model(latent_dim: int, seed: int = 1, num_classes: int = 0) -> VAE:
    """Untrained, but large enough weights make every latent count, each to another degree."""
    rng = np.random.default_rng(seed)
    vae = VAE(784, (16,), latent_dim, dtype="float64", rng=rng, num_classes=num_classes)
    vae.parameters["encoder.mu.W"] *= 1 + np.random.default_rng(seed).permutation(latent_dim)
    vae.parameters["encoder.log_var.b"] = -1.0
    vae.parameters["decoder.hidden0.W"] *= 3
    return vae


def asked(
    vae: VAE, count: int, scale: int = 1, data: tuple[Dataset, Dataset] = (TRAIN, TEST), **more: Any
) -> Request:
    """A request for a picture of the model and the drawn digits."""
    given = {"name": NAME, "rng": np.random.default_rng(5), **more}
    return Request(vae, count=count, scale=scale, data=lambda: data, **given)


def x_of(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255


def pixels_of(picture: Image.Image) -> NDArray[np.int64]:
    """(H, W) of a grey picture, (H, W, 3) of one in colour."""
    assert picture.mode in ("L", "RGB")
    return np.asarray(picture).astype(np.int64)


def assert_same(found: Image.Image, expected: Image.Image) -> None:
    """The same picture, but for a level: a batch of 36 may be rounded as a batch of one is not."""
    assert found.size == expected.size
    assert np.abs(pixels_of(found) - pixels_of(expected)).max() <= 1


def where(picture: Image.Image, color: tuple[int, ...]) -> NDArray[np.int64]:
    """The (row, column) of each pixel of exactly this colour: (N, 2)."""
    return np.argwhere((pixels_of(picture) == color).all(axis=-1))


def assert_nothing_is_cut_off(picture: Image.Image, border: int = 8) -> None:
    pixels = pixels_of(picture)
    pixels[border:-border, border:-border] = WHITE[0]
    assert (pixels == WHITE[0]).all()


def find(picture: Image.Image, image: NDArray[np.uint8], scale: int) -> list[tuple[int, int]]:
    """All (top, left) where this image stands in a grey picture, enlarged."""
    block = image.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.int64)
    pixels = pixels_of(picture)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, block.shape)
    corners = np.argwhere(windows[:, :, 0, 0] == block[0, 0])
    return [(int(i), int(j)) for i, j in corners if (windows[i, j] == block).all()]


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 250, (count, 28, 28), dtype=np.uint8)


def history(epochs: int, first_bce: float = 320.0) -> list[dict[str, float]]:
    """The losses of a made-up run, as smooth as real ones are."""
    rows = []
    for epoch in range(1, epochs + 1):
        bce = first_bce if epoch == 1 else 228.0 + 30.0 / epoch
        kl = 14.5 - 8.0 / epoch
        row: dict[str, float] = {"epoch": epoch}
        row |= {"train_bce": bce, "train_kl": kl, "train_loss": bce + kl}
        row |= {"test_bce": bce + 5, "test_kl": kl - 1, "test_loss": bce + kl + 4}
        rows.append(row)
    return rows
