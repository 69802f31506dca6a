"""The two parts of the loss: against numbers worked out by hand, value and gradient together."""

import math
from typing import Any

import numpy as np
import pytest

from npvae.losses import (
    Loss,
    bce_with_logits,
    bce_with_logits_backward,
    kl_divergence,
    kl_divergence_backward,
    sigmoid,
)

LOG3 = math.log(3)  # sigmoid(log 3) = 3/4


def test_bce_by_hand() -> None:
    logits, x = np.array([[0.0, LOG3], [-LOG3, 0.0]]), np.array([[0.3, 1.0], [1.0, 0.0]])
    by_hand = [math.log(2) + math.log(4 / 3), math.log(4) + math.log(2)]
    np.testing.assert_allclose(bce_with_logits(logits, x), by_hand, rtol=1e-14)
    d_bce = np.array([[2.0], [-1.0]])  # one weight for each image
    d_logits = d_bce * [[0.2, -0.25], [-0.75, 0.5]]  # x_hat - x
    np.testing.assert_allclose(bce_with_logits_backward(d_bce, logits, x), d_logits, rtol=1e-14)


def test_a_small_bce_is_not_rounded_to_nothing() -> None:
    logits = np.array([[-10.0], [-40.0], [-300.0]])
    found = bce_with_logits(logits, np.zeros((3, 1)))
    np.testing.assert_allclose(found, np.log1p(np.exp(logits[:, 0])), rtol=1e-14)


def test_kl_by_hand() -> None:
    mu, log_var = np.array([[1.0, 2.0], [0.0, -3.0]]), np.log([[1.0, 4.0], [0.25, 1.0]])
    # 0.5 * (mu^2 + sigma^2 - 1 - log sigma^2), latent by latent
    by_hand = [
        0.5 * (1 + 1 - 1 - 0) + 0.5 * (4 + 4 - 1 - math.log(4)),
        0.5 * (0 + 0.25 - 1 + math.log(4)) + 0.5 * (9 + 1 - 1 - 0),
    ]
    np.testing.assert_allclose(kl_divergence(mu, log_var), by_hand, rtol=1e-14)
    d_mu, d_log_var = kl_divergence_backward(np.array([[1.0], [10.0]]), mu, log_var)
    np.testing.assert_allclose(d_mu, [[1, 2], [0, -30]], rtol=1e-14)
    np.testing.assert_allclose(d_log_var, [[0, 1.5], [-3.75, 0]], rtol=1e-14)


def test_sigmoid() -> None:
    logits = np.array([0.0, LOG3, -LOG3, 1000.0, -1000.0, np.inf, -np.inf])
    np.testing.assert_allclose(sigmoid(logits), [0.5, 0.75, 0.25, 1, 0, 1, 0], rtol=1e-15)
    assert np.isnan(sigmoid(np.array([np.nan]))).all()
    small = sigmoid(np.array([-700.0]))[0]  # not rounded to 0, which 1 - sigmoid(700) would be
    assert small == pytest.approx(math.exp(-700), rel=1e-14, abs=0)


@pytest.mark.parametrize("upstream", [0.5, np.ones((2, 1), np.float32), np.ones((2, 1))])
def test_each_function_answers_in_the_dtype_of_its_arrays(upstream: Any) -> None:
    """A plain number upstream does not change it."""
    dtype = getattr(upstream, "dtype", np.float32)
    a, b = np.ones((2, 3), dtype), np.ones((2, 3), dtype)
    results = [sigmoid(a), bce_with_logits(a, b), kl_divergence(a, b)]
    results += [bce_with_logits_backward(upstream, a, b), *kl_divergence_backward(upstream, a, b)]
    assert [result.dtype for result in results] == 6 * [dtype]


def test_loss_of_a_batch_is_the_mean_over_images() -> None:
    loss = Loss.of_batch(np.array([1.0, 2.0, 6.0]), np.array([0.5, 0.5, 2.0]), beta=4.0)
    assert loss == (3.0, 1.0, 4.0)
    assert loss.loss == loss.total == 3.0 + 4.0 * 1.0
    assert loss.elbo == -4.0  # beta weighs the loss, not the bound
    assert all(type(part) is float for part in loss)
    assert repr(loss) == "Loss(bce=3, kl=1, beta=4, total=7)"
    assert Loss(3.0, 1.0).beta == 1


def test_loss_of_a_float32_batch_is_added_up_in_float64() -> None:
    many = np.full(60_000, 0.1, np.float32)
    one = float(many[0])
    assert Loss.of_batch(many, many, 1.0) == pytest.approx((one, one, 1), rel=1e-12)
