"""The floor, the baseline and the average loss are what they say they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.evaluation import average_loss, losses_per_image, no_latent_loss, pixel_entropy
from npvae.losses import bce_with_logits
from npvae.model import VAE
from tests.helpers import Bytes, digits, refused

TRAIN, TEST = digits(300, 100)


def vae(dtype: str = "float64") -> VAE:
    """Untrained, but with biases that make mu, sigma and x_hat differ from their defaults."""
    model = VAE(784, (16,), 3, dtype=dtype, rng=1)
    model.parameters["encoder.mu.b"] = 0.5
    model.parameters["encoder.log_var.b"] = -0.7
    model.parameters["decoder.logits.b"] = -1.0
    return model


def test_entropy_is_the_sum_over_pixels() -> None:
    x = np.array([x for x in TEST.reshape(-1) / 255 if 0 < x < 1])
    by_hand = np.sum(-x * np.log(x) - (1 - x) * np.log(1 - x)) / len(TEST)
    for times in (1, 6):  # 600 images are more than a block
        assert pixel_entropy(np.tile(TEST, (times, 1, 1))) == pytest.approx(by_hand, rel=1e-12)


def test_entropy_of_black_and_white_is_zero_and_of_grey_is_log_2_for_each_pixel() -> None:
    black, grey = np.zeros((3, 28, 28), np.uint8), np.full((3, 28, 28), 127, np.uint8)
    assert pixel_entropy(black) == pixel_entropy(black + 255) == 0
    # 127 is half a level below the middle, which costs (1/255)^2 / 2 nats a pixel.
    assert pixel_entropy(grey) == pytest.approx(784 * (math.log(2) - 0.5 / 255**2), abs=1e-6)
    assert pixel_entropy(grey + 1) == pytest.approx(pixel_entropy(grey), rel=1e-12)


def test_no_prediction_beats_the_entropy() -> None:
    """The perfect one reaches it: x_hat = x; one that is off by a little is above."""
    x = np.clip(TEST.reshape(len(TEST), -1) / 255, 1e-9, 1 - 1e-9)
    logits = np.log(x / (1 - x))
    floor = pixel_entropy(TEST)
    # Clipping costs at most 784 * 1e-9 * log(1e9) = 2e-5 nats.
    assert bce_with_logits(logits, x).mean() == pytest.approx(floor, abs=5e-5)
    assert bce_with_logits(logits + 0.1, x).mean() > floor + 0.01


def bce_of_one(p: Array, images: Bytes) -> float:
    """The mean bce of always the same picture p (784,)."""
    x = images.reshape(len(images), -1) / 255
    return float(bce_with_logits(np.broadcast_to(np.log(p / (1 - p)), x.shape), x).mean())


def test_baseline_is_the_bce_of_the_mean_image() -> None:
    """With half a white and half a black one added, so that log 0 does not occur."""
    counts = TRAIN.reshape(len(TRAIN), -1).sum(axis=0, dtype=float) / 255
    direct = bce_of_one((counts + 0.5) / (len(TRAIN) + 1), TEST)
    assert no_latent_loss(TRAIN, TEST) == pytest.approx(direct, rel=1e-12)
    black, white = np.zeros((99, 28, 28), np.uint8), np.full((2, 28, 28), 255, np.uint8)
    assert no_latent_loss(black, white) == pytest.approx(784 * math.log(200), rel=1e-12)


def test_baseline_is_the_best_of_all_constant_images() -> None:
    baseline = no_latent_loss(TRAIN, TRAIN)
    assert pixel_entropy(TRAIN) < baseline < 784 * math.log(2)
    mean = np.clip(TRAIN.reshape(len(TRAIN), -1).mean(axis=0) / 255, 1e-3, 1 - 1e-3)
    for factor in (0.9, 1.1):
        odds = factor * mean / (1 - mean)
        assert bce_of_one(odds / (1 + odds), TRAIN) > baseline


@pytest.mark.parametrize(("dtype", "near"), [("float64", 1e-12), ("float32", 1e-6)])
def test_average_loss_does_not_depend_on_the_batch_size(dtype: str, near: float) -> None:
    """The generator hands out the same numbers in pieces: image k gets the k-th epsilon.

    Left is the rounding of the products, which depends on their shapes. float32 noise comes from
    half-words of the generator: none may be lost between batches.
    """
    whole, other = (average_loss(vae(dtype), TEST, np.random.default_rng(k)) for k in (5, 6))
    for batch_size in (1, 7, 99, 5000):
        rng = np.random.default_rng(5)
        parts = average_loss(vae(dtype), TEST, rng, batch_size=batch_size)
        assert parts == pytest.approx(whole, rel=near)
    assert abs(other.bce - whole.bce) > 8 * near * whole.bce  # other noise does show


def test_noise_of_another_shape_is_refused() -> None:
    """One column would be broadcast: the same noise for every latent."""
    for shape in ((100, 1), (100, 2), (1, 3), (99, 3)):
        with refused(ValueError, "epsilon must have shape (100, 3)"):
            losses_per_image(vae(), TEST, np.zeros(shape))


def test_average_loss_is_the_mean_over_images() -> None:
    """A short last batch counts by its images: 100 = 33 + 33 + 33 + 1, the last one all white."""
    images = TEST.copy()
    images[-1] = 255
    model, rng = vae(), np.random.default_rng(2)
    before = model.parameters.flat.tobytes(), model.gradients.flat.tobytes(), images.tobytes()
    x = images.reshape(len(images), -1) / 255
    one_by_one = [model.loss(row[None], model.noise(1, rng), 0.3) for row in x]
    found = average_loss(model, images, np.random.default_rng(2), beta=0.3, batch_size=33)
    assert found == pytest.approx(tuple(np.mean(one_by_one, axis=0)), rel=1e-12)
    after = model.parameters.flat.tobytes(), model.gradients.flat.tobytes(), images.tobytes()
    assert after == before
