"""The floor, the baseline and the average loss are what they say they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npvae.evaluation import average_loss, losses_per_image, no_latent_loss, pixel_entropy
from npvae.losses import bce_with_logits
from npvae.model import VAE
from tests.helpers import digits

TRAIN, TEST = digits(300, 100)


def vae(dtype: str = "float64", latent_dim: int = 3) -> VAE:
    """Untrained, but with biases that make mu, sigma and x_hat differ from their defaults."""
    model = VAE(784, (16,), latent_dim, dtype=dtype, rng=np.random.default_rng(1))
    model.parameters["encoder.mu.b"] = 0.5
    model.parameters["encoder.log_var.b"] = -0.7
    model.parameters["decoder.logits.b"] = -1.0
    return model


def test_entropy_is_the_sum_over_pixels() -> None:
    by_hand = 0.0
    for image in TEST:
        for x in image.reshape(-1) / 255:
            if 0 < x < 1:
                by_hand += -x * math.log(x) - (1 - x) * math.log(1 - x)
    assert pixel_entropy(TEST) == pytest.approx(by_hand / len(TEST), rel=1e-12)


def test_entropy_of_black_and_white_is_zero_and_of_grey_is_log_2_for_each_pixel() -> None:
    black, grey = np.zeros((3, 28, 28), np.uint8), np.full((3, 28, 28), 127, np.uint8)
    assert pixel_entropy(black) == 0
    assert pixel_entropy(black + 255) == 0
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


def test_baseline_is_the_bce_of_one_constant_image() -> None:
    counts = TRAIN.reshape(len(TRAIN), -1).astype(np.float64).sum(axis=0) / 255
    p = (counts + 0.5) / (len(TRAIN) + 1)  # the mean, half a white and half a black image added
    x = TEST.reshape(len(TEST), -1) / 255
    logits = np.broadcast_to(np.log(p / (1 - p)), x.shape)
    direct = bce_with_logits(logits, x).mean()
    assert no_latent_loss(TRAIN, TEST) == pytest.approx(direct, rel=1e-12)


def test_baseline_is_the_best_of_all_constant_images() -> None:
    baseline = no_latent_loss(TRAIN, TRAIN)
    assert pixel_entropy(TRAIN) < baseline < 784 * math.log(2)
    x = TRAIN.reshape(len(TRAIN), -1) / 255
    mean = np.clip(x.mean(axis=0), 1e-3, 1 - 1e-3)
    for shift in (-0.1, 0.1):
        logits = np.broadcast_to(np.log(mean / (1 - mean)) + shift, x.shape)
        assert bce_with_logits(logits, x).mean() > baseline


def test_baseline_is_finite_where_only_the_test_images_are_white() -> None:
    black = np.zeros((99, 28, 28), np.uint8)
    white = np.full((2, 28, 28), 255, np.uint8)
    # (0 + 0.5) / (99 + 1) is the mean picture: 1 in 200.
    assert no_latent_loss(black, white) == pytest.approx(784 * math.log(200), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 99, 100, 5000])
def test_average_loss_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    """The generator hands out the same numbers in pieces: image k gets the k-th epsilon.

    Left is the rounding of the products, which depends on their shapes: 1e-12 relative in float64.
    """
    whole = average_loss(vae(), TEST, np.random.default_rng(5))
    parts = average_loss(vae(), TEST, np.random.default_rng(5), batch_size=batch_size)
    assert parts.bce == pytest.approx(whole.bce, rel=1e-12)
    assert parts.kl == pytest.approx(whole.kl, rel=1e-12)


def test_the_same_noise_in_pieces_in_float32_too() -> None:
    """float32 noise comes from half-words of the generator: none may be lost between batches."""
    whole = average_loss(vae("float32"), TEST, np.random.default_rng(5), batch_size=100)
    parts = average_loss(vae("float32"), TEST, np.random.default_rng(5), batch_size=7)
    other = average_loss(vae("float32"), TEST, np.random.default_rng(6), batch_size=100)
    assert parts.bce == pytest.approx(whole.bce, rel=1e-6)
    assert abs(other.bce - whole.bce) > 1e-5 * whole.bce  # other noise does show


def test_noise_of_another_shape_is_refused() -> None:
    """One column would be broadcast: the same noise for every latent."""
    for shape in ((100, 1), (100, 2), (1, 3), (99, 3)):
        with pytest.raises(ValueError, match=r"^epsilon must have shape \(100, 3\)$"):
            losses_per_image(vae(), TEST, np.zeros(shape))


def test_average_loss_is_the_mean_over_images() -> None:
    """A short last batch counts by its images: 100 = 33 + 33 + 33 + 1, the last one all white."""
    images = TEST.copy()
    images[-1] = 255
    model, rng = vae(), np.random.default_rng(2)
    x = images.reshape(len(images), -1) / 255
    one_by_one = [model.loss(row[None], model.noise(1, rng)) for row in x]
    found = average_loss(model, images, np.random.default_rng(2), beta=0.3, batch_size=33)
    assert found.bce == pytest.approx(np.mean([loss.bce for loss in one_by_one]), rel=1e-12)
    assert found.kl == pytest.approx(np.mean([loss.kl for loss in one_by_one]), rel=1e-12)
    assert found.beta == 0.3
    assert found.loss == pytest.approx(found.bce + 0.3 * found.kl, rel=1e-15)


def test_looking_changes_neither_model_nor_images() -> None:
    model, images = vae(), TEST.copy()
    before = model.parameters.flat.copy()
    gradients = model.gradients.flat.copy()
    average_loss(model, images, np.random.default_rng(0))
    np.testing.assert_array_equal(model.parameters.flat, before)
    np.testing.assert_array_equal(model.gradients.flat, gradients)
    np.testing.assert_array_equal(images, TEST)
