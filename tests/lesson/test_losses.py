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

DTYPES = [np.float32, np.float64]
LOG3 = math.log(3)  # sigmoid(log 3) = 3/4


def test_bce_by_hand() -> None:
    logits = np.array([[0.0, LOG3], [-LOG3, 0.0]])
    x = np.array([[0.3, 1.0], [1.0, 0.0]])
    by_hand = [math.log(2) + math.log(4 / 3), math.log(4) + math.log(2)]
    np.testing.assert_allclose(bce_with_logits(logits, x), by_hand, rtol=1e-14)


def test_a_small_bce_is_not_rounded_to_nothing() -> None:
    for logit in (-10.0, -40.0, -300.0):
        (found,) = bce_with_logits(np.array([[logit]]), np.zeros((1, 1)))
        assert found == pytest.approx(math.log1p(math.exp(logit)), rel=1e-14, abs=0)


def test_bce_gradient_by_hand() -> None:
    logits, x = np.array([[0.0, LOG3], [-LOG3, 0.0]]), np.array([[0.3, 1.0], [1.0, 0.0]])
    by_hand = np.array([[0.2, -0.25], [-0.75, 0.5]])  # x_hat - x
    np.testing.assert_allclose(bce_with_logits_backward(1.0, logits, x), by_hand, rtol=1e-14)
    d_bce = np.array([[2.0], [-1.0]])  # one weight for each image
    weighted = by_hand * d_bce
    np.testing.assert_allclose(bce_with_logits_backward(d_bce, logits, x), weighted, rtol=1e-14)


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_goes_in_as_one_dtype_comes_out_as_it(dtype: Any) -> None:
    a, b = np.ones((2, 3), dtype), np.ones((2, 3), dtype)
    results = [
        sigmoid(a),
        bce_with_logits(a, b),
        bce_with_logits_backward(np.ones((2, 1), dtype), a, b),
        kl_divergence(a, b),
        *kl_divergence_backward(np.ones((2, 1), dtype), a, b),
    ]
    assert [result.dtype for result in results] == len(results) * [dtype]


def test_a_plain_number_upstream_does_not_change_the_dtype() -> None:
    a, b = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    results = [bce_with_logits_backward(0.5, a, b), *kl_divergence_backward(0.5, a, b)]
    assert [result.dtype for result in results] == 3 * [np.float32]


def test_loss_of_a_batch_is_the_mean_over_images() -> None:
    loss = Loss.of_batch(np.array([1.0, 2.0, 6.0]), np.array([0.5, 0.5, 2.0]), beta=4.0)
    assert loss == (3.0, 1.0, 4.0)
    assert loss.loss == 3.0 + 4.0 * 1.0
    assert loss.elbo == -4.0  # beta weighs the loss, not the bound
    assert all(type(part) is float for part in loss)
    assert Loss(3.0, 1.0).loss == -Loss(3.0, 1.0).elbo


def test_loss_of_a_float32_batch_is_added_up_in_float64() -> None:
    many = np.full(60_000, 0.1, np.float32)
    one = float(many[0])
    assert Loss.of_batch(many, many, 1.0) == pytest.approx((one, one, 1), rel=1e-12)


def test_arguments_may_be_named() -> None:
    assert bce_with_logits(np.zeros((1, 1)), x=np.zeros((1, 1)))[0] == pytest.approx(math.log(2))
