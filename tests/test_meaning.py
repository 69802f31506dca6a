"""What finite differences cannot see: that the formulas mean what they say.

A gradient check blesses a wrong formula whose derivative is right. Here the sampler, the losses and
the model are held against what they stand for: distributions, probabilities, Bayes' rule. Where a
quantity is estimated from n draws, five standard errors are allowed: one honest run in two million
would fail, and the seeds are fixed.
"""

import math
from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.losses import Loss, bce_with_logits, bce_with_logits_backward, kl_divergence
from npvae.model import VAE
from npvae.optimizers import Adam
from tests.helpers import digits

DTYPES = [np.float32, np.float64]
BLANK = 784 * math.log(2)  # 543.43 nats: every pixel is a coin flip
DIGITS = digits(16, 1)[0].reshape(16, 784) / 255
X, EPSILON = np.random.default_rng(1).random((5, 12)), np.random.default_rng(2).normal(size=(5, 3))


def small_vae(latent_dim: int = 3, dtype: Any = float, seed: int = 0) -> VAE:
    """12 pixels, 7 hidden units, and biases, so that no value is special."""
    rng = np.random.default_rng(seed)
    vae = VAE(12, (7,), latent_dim, dtype=dtype, rng=rng)
    vae.parameters.flat[:] = rng.normal(0, 0.5, vae.parameters.flat.shape)
    return vae


def log_normal(z: Array, mu: Array | float, sigma: Array | float) -> Array:
    """log N(z; mu, sigma^2), written out."""
    log_density: Array = -0.5 * ((z - mu) / sigma) ** 2 - np.log(sigma * math.sqrt(2 * math.pi))
    return log_density


def assert_normal(z: Array, mu: Array | float, sigma: Array | float) -> None:
    """The means and spreads of columns of draws (n, Z)."""
    standard_error = sigma / math.sqrt(len(z))
    assert (np.abs(z.mean(axis=0) - mu) < 5 * standard_error).all()
    assert (np.abs(z.std(axis=0) - sigma) < 5 * standard_error / math.sqrt(2)).all()


# ------------------------------------------------------------------ the sampler


def test_z_is_drawn_from_what_encode_says() -> None:
    n, vae, x = 30_000, small_vae(), X[:1]
    vae.parameters["encoder.log_var.b"] = [-2.0, 0.5, 1.5]
    mu, log_var = vae.encode(x)
    epsilon = np.random.default_rng(3).standard_normal((n, 3))
    assert_normal(vae.forward(np.repeat(x, n, axis=0), epsilon).z, mu[0], np.exp(0.5 * log_var[0]))
    np.testing.assert_array_equal(vae.forward(x, np.zeros((1, 3))).z, mu)


def test_samples_are_decoded_from_a_standard_normal() -> None:
    n, vae = 50_000, VAE(4, (3,), 2)
    z = vae.noise(n, 12)
    np.testing.assert_array_equal(vae.sample(n, 12), vae.decode(z))
    assert_normal(z, 0.0, 1.0)
    assert abs((z[:, 0] * z[:, 1]).mean()) < 5 / math.sqrt(n)  # independent of one another
    assert abs((z[:-1, 0] * z[1:, 0]).mean()) < 5 / math.sqrt(n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / (2 * n))  # a bell; of a uniform it is 1.8


def test_all_randomness_comes_from_the_generator_passed_in() -> None:
    def two_samples() -> tuple[Array, Array]:
        rng = np.random.default_rng(13)
        vae = VAE(12, (7,), 3, rng=rng)
        return vae.sample(4, rng), vae.sample(4, rng)

    state = str(np.random.get_state())
    first, second = two_samples()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(two_samples(), (first, second))
    assert str(np.random.get_state()) == state


# ------------------------------------------------------------------ the KL divergence


def test_closed_kl_is_the_mean_of_log_q_minus_log_p() -> None:
    n, mu, sigma = 50_000, np.array([[0.0, 1.5, -2.0]]), np.array([[0.3, 1.0, 2.5]])
    z = mu + sigma * np.random.default_rng(3).standard_normal((n, 3))
    draws = (log_normal(z, mu, sigma) - log_normal(z, 0.0, 1.0)).sum(axis=1)
    closed = kl_divergence(mu, 2 * np.log(sigma))[0]
    assert abs(draws.mean() - closed) < 5 * draws.std() / math.sqrt(n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_is_0_at_the_prior_exactly(dtype: Any) -> None:
    vae = small_vae(dtype=dtype)
    vae.parameters.flat[:] = 0
    loss, gradients = vae.loss_and_gradients(np.full((5, 12), 0.5), EPSILON)
    assert loss.kl == 0
    assert not any(gradients[f"encoder.{head}.b"].any() for head in ("mu", "log_var"))


# ------------------------------------------------------------------ the binary cross-entropy


@pytest.mark.parametrize("dtype", DTYPES)
def test_bce_is_finite_and_right_at_large_logits(dtype: Any) -> None:
    grid = np.meshgrid([1000.0, 100.0, 30.0, -30.0, -100.0, -1000.0], [0.0, 0.25, 1.0])
    wide, x = (values.reshape(-1, 1) for values in grid)
    logits, pixels = wide.astype(dtype), x.astype(dtype)
    exact = np.maximum(wide, 0) - x * wide + np.log1p(np.exp(-np.abs(wide)))
    x_hat = (1 + np.tanh(wide / 2)) / 2
    # softplus and x * logit are as large as the logit, x_hat and x as 1; the rest is rounding.
    eps = 4 * float(np.finfo(dtype).eps)
    assert (np.abs(bce_with_logits(logits, pixels) - exact[:, 0]) <= eps * np.abs(wide[:, 0])).all()
    d_logits = bce_with_logits_backward(1.0, logits, pixels)
    np.testing.assert_allclose(d_logits, x_hat - x, rtol=0, atol=eps)


def test_bce_is_the_naive_formula_and_smallest_where_x_hat_is_x() -> None:
    rng = np.random.default_rng(5)
    logits, x = rng.normal(0, 3, (8, 50)), rng.random((8, 50))

    def naive(x_hat: Array) -> Array:
        bce: Array = (-x * np.log(x_hat) - (1 - x) * np.log(1 - x_hat)).sum(axis=1)
        return bce

    # 1 - x_hat loses digits where x_hat is near 1: at logits of 12 five of sixteen.
    best = np.log(x / (1 - x))
    for given, x_hat in ((logits, 1 / (1 + np.exp(-logits))), (best, x)):
        np.testing.assert_allclose(bce_with_logits(given, x), naive(x_hat), rtol=1e-11)
    for shift in (-0.1, 0.1):
        assert (bce_with_logits(best + shift, x) > naive(x)).all()


# ------------------------------------------------------------------ the loss of the model


def test_a_model_that_knows_nothing_pays_a_coin_flip_for_each_pixel() -> None:
    vae = VAE()
    vae.parameters.flat[:] = 0
    assert vae.loss(DIGITS, np.zeros((16, 10)))[:2] == pytest.approx((BLANK, 0), rel=1e-6)
    for seed in range(3):  # an untrained model is near that
        loss = VAE(rng=seed).loss(DIGITS, vae.noise(16, seed))
        # Glorot's weights make logits of about 0.2, random to the pixels: 784 * 0.2^2 / 8 = 4 nats.
        assert BLANK - 5 < loss.bce < BLANK + 15
        assert 0 < loss.kl < 5


def test_the_bound_and_its_gap_obey_bayes() -> None:
    """elbo = log p(x) - KL(q(z | x) || p(z | x)), with one latent, by summing over a fine grid."""
    vae, x = small_vae(latent_dim=1, seed=3), np.random.default_rng(6).random((1, 12))
    (((mu,),), ((log_var,),)) = vae.encode(x)
    sigma = math.exp(0.5 * log_var)

    z = np.linspace(-12, 12, 20_001)[:, np.newaxis]
    dz = z[1, 0] - z[0, 0]
    x_hat = vae.decode(z)
    log_likelihood = (x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat)).sum(axis=1)
    log_joint = log_likelihood + log_normal(z, 0.0, 1.0)[:, 0]
    log_p = math.log(np.exp(log_joint).sum() * dz)
    log_q = log_normal(z, mu, sigma)[:, 0]
    gap = float((np.exp(log_q) * (log_q - (log_joint - log_p))).sum() * dz)
    assert gap > 1e-3  # a bound, and not a trivial one

    epsilon = np.linspace(-9, 9, 10_001)[:, np.newaxis]  # the same noise, weighted by its density
    weight = np.exp(log_normal(epsilon, 0.0, 1.0))[:, 0] * (epsilon[1, 0] - epsilon[0, 0])
    a = vae.forward(np.repeat(x, len(epsilon), axis=0), epsilon)
    bce = float(weight @ bce_with_logits(a.logits, a.x))
    kl = float(weight @ kl_divergence(a.mu, a.log_var))
    # The decoder has kinks, where the sum over a grid is off by about dz^2 = 1e-6.
    assert Loss(bce, kl).elbo == pytest.approx(log_p - gap, abs=1e-5)


def test_the_loss_of_a_batch_is_the_mean_of_its_images() -> None:
    vae = small_vae()
    one_by_one = [vae.loss_and_gradients(X[[k]], EPSILON[[k]]) for k in range(5)]
    loss, gradients = vae.loss_and_gradients(X, EPSILON)
    assert loss == pytest.approx(np.mean([one for one, _ in one_by_one], axis=0), rel=1e-13)
    mean = np.mean([flat.flat for _, flat in one_by_one], axis=0)
    np.testing.assert_allclose(gradients.flat, mean, rtol=1e-11, atol=1e-14)


def test_beta_weighs_the_kl_alone() -> None:
    vae = small_vae()
    results = {beta: vae.loss_and_gradients(X, EPSILON, beta) for beta in (0.0, 1.0, 4.0)}
    for beta, (loss, _) in results.items():
        assert loss[:2] == results[1.0][0][:2]
        # The loss alone adds up the same terms in another order.
        assert loss[:2] == pytest.approx(vae.loss(X, EPSILON, beta)[:2], rel=1e-14)
        assert loss.loss == loss.bce + beta * loss.kl
        assert loss.elbo == -(loss.bce + loss.kl)
    zero, one, four = (gradients for _, gradients in results.values())
    kl_part = one.flat - zero.flat  # d kl / d theta, once
    np.testing.assert_allclose(four.flat, zero.flat + 4 * kl_part, rtol=1e-10, atol=1e-13)
    for name in zero:  # the divergence knows nothing of the decoder, but moves all of the encoder
        same = np.array_equal(zero[name], four[name])
        assert same == name.startswith("decoder")


# ------------------------------------------------------------------ the beginning and the training


def test_weights_begin_glorot_uniform_and_biases_at_0() -> None:
    for name, array in VAE(rng=14).parameters.items():
        if name.endswith(".b"):
            assert not array.any()
            continue
        limit = math.sqrt(6 / (array.shape[0] + array.shape[1]))
        assert limit * (1 - 20 / array.size) < np.abs(array).max() <= limit * (1 + 1e-6)
        # The fourth moment of a uniform gives the standard error of its variance limit^2 / 3.
        error = limit**2 * math.sqrt((1 / 5 - 1 / 9) / array.size)
        assert abs((array.astype(float) ** 2).mean() - limit**2 / 3) < 5 * error
        assert abs(array.astype(float).mean()) < 5 * limit / math.sqrt(3 * array.size)


def test_one_repeated_batch_is_learnt_by_heart() -> None:
    rng = np.random.default_rng(15)
    vae, adam = VAE(rng=rng), Adam(3e-3)
    for _ in range(120):
        loss, gradients = vae.loss_and_gradients(DIGITS, vae.noise(16, rng))
        adam.update(vae.parameters, gradients)
    # Several seeds end at 96 to 100; knowing nothing but the mean of each pixel costs 180.
    assert loss.loss < 120
    assert 5 < loss.kl < 40  # the code is used
    # The entropy of the pixels: no reconstruction costs less.
    p = np.clip(DIGITS, 1e-12, 1 - 1e-12)
    assert loss.bce > (-p * np.log(p) - (1 - p) * np.log(1 - p)).sum(axis=1).mean()
    x_hat = vae.decode(vae.encode(DIGITS)[0])
    closest = ((x_hat[:, np.newaxis] - DIGITS) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(closest, range(16))  # each is more like itself than any other
