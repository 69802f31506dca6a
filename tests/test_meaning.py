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
from npvae.datasets.drawn_digits import drawn_digits
from npvae.layers import reparameterize
from npvae.losses import Loss, bce_with_logits, bce_with_logits_backward, kl_divergence
from npvae.model import VAE
from npvae.optimizers import Adam

DTYPES = [np.float32, np.float64]
CODES = {"mu": np.array([[0.0, 1.5, -2.0]]), "sigma": np.array([[0.3, 1.0, 2.5]])}
BLANK = 784 * math.log(2)  # 543.43 nats: every pixel is a coin flip


def small_vae(latent_dim: int = 3, dtype: Any = float, seed: int = 0) -> VAE:
    """12 pixels, 7 hidden units, and biases, so that no value is special."""
    rng = np.random.default_rng(seed)
    vae = VAE(12, (7,), latent_dim, dtype=dtype, rng=rng)
    vae.parameters.flat[:] = rng.normal(0, 0.5, vae.parameters.flat.shape)
    return vae


@pytest.fixture(scope="module")
def digits() -> Array:
    """16 drawn digits as pixels (16, 784)."""
    train, _ = drawn_digits(train=16, test=1)
    pixels: Array = train.images.reshape(16, 784) / 255
    return pixels


# ------------------------------------------------------------------ the sampler


def test_mean_of_z_is_mu_and_spread_is_sigma() -> None:
    n = 100_000
    mu, sigma = (np.repeat(CODES[name], n, axis=0) for name in ("mu", "sigma"))
    z = reparameterize(mu, 2 * np.log(sigma), np.random.default_rng(0).standard_normal(mu.shape))
    standard_error = CODES["sigma"][0] / math.sqrt(n)
    assert (np.abs(z.mean(axis=0) - CODES["mu"][0]) < 5 * standard_error).all()
    assert (np.abs(z.std(axis=0) - CODES["sigma"][0]) < 5 * standard_error / math.sqrt(2)).all()


def test_the_z_of_the_model_is_drawn_from_what_encode_says() -> None:
    n, rng, vae = 100_000, np.random.default_rng(1), small_vae()
    vae.parameters["encoder.log_var.b"] = [-2.0, 0.5, 1.5]
    x = rng.random((1, 12))
    mu, log_var = vae.encode(x)
    sigma = np.exp(0.5 * log_var[0])
    z = vae.forward(np.repeat(x, n, axis=0), rng.standard_normal((n, 3))).z
    assert (np.abs(z.mean(axis=0) - mu[0]) < 5 * sigma / math.sqrt(n)).all()
    assert (np.abs(z.std(axis=0) - sigma) < 5 * sigma / math.sqrt(2 * n)).all()


def test_without_noise_z_is_mu() -> None:
    vae, x = small_vae(), np.random.default_rng(2).random((4, 12))
    np.testing.assert_array_equal(vae.forward(x, np.zeros((4, 3))).z, vae.encode(x)[0])


# ------------------------------------------------------------------ the KL divergence


def log_normal(z: Array, mu: Array | float, sigma: Array | float) -> Array:
    """log N(z; mu, sigma^2), written out."""
    log_density: Array = -0.5 * ((z - mu) / sigma) ** 2 - np.log(sigma * math.sqrt(2 * math.pi))
    return log_density


def test_closed_kl_is_the_mean_of_log_q_minus_log_p() -> None:
    n, (mu, sigma) = 200_000, CODES.values()
    z = mu + sigma * np.random.default_rng(3).standard_normal((n, 3))
    draws = (log_normal(z, mu, sigma) - log_normal(z, 0.0, 1.0)).sum(axis=1)
    closed = kl_divergence(mu, 2 * np.log(sigma))[0]
    assert abs(draws.mean() - closed) < 5 * draws.std() / math.sqrt(n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_is_0_at_the_prior_exactly(dtype: Any) -> None:
    zero = np.zeros((2, 3), dtype)
    np.testing.assert_array_equal(kl_divergence(zero, zero), 0)
    vae = small_vae(dtype=dtype)
    vae.parameters.flat[:] = 0
    x, epsilon = np.full((2, 12), 0.5), np.ones((2, 3))
    loss, gradients = vae.loss_and_gradients(x, epsilon)
    assert loss.kl == vae.loss(x, epsilon).kl == 0
    assert not any(gradients[f"encoder.{head}.b"].any() for head in ("mu", "log_var"))


def test_kl_is_never_negative() -> None:
    rng = np.random.default_rng(4)
    for scale in (1e-6, 1e-3, 0.1, 1.0, 5.0):
        mu, log_var = rng.normal(0, scale, (2, 1000, 1))
        assert (kl_divergence(mu, log_var) >= -1e-15).all()  # rounding of sums near 1
    assert (kl_divergence(np.full((1, 1), 0.1), np.zeros((1, 1))) > 0).all()
    for log_var in (-0.1, 0.1):  # too narrow, too wide: both cost
        assert (kl_divergence(np.zeros((1, 1)), np.full((1, 1), log_var)) > 0).all()


# ------------------------------------------------------------------ the binary cross-entropy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("logit", [1000.0, 100.0, 30.0, -30.0, -100.0, -1000.0])
def test_bce_is_finite_and_right_at_large_logits(logit: float, x: float, dtype: Any) -> None:
    logits, pixels = np.full((1, 1), logit, dtype), np.full((1, 1), x, dtype)
    exact = max(logit, 0) - x * logit + math.log1p(math.exp(-abs(logit)))
    x_hat = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    # softplus and x * logit are as large as the logit, x_hat and x as 1; the rest is rounding.
    eps = 4 * float(np.finfo(dtype).eps)
    near = pytest.approx(exact, rel=eps, abs=eps * abs(logit))
    assert bce_with_logits(logits, pixels)[0] == near
    d_logits = bce_with_logits_backward(1.0, logits, pixels)
    assert d_logits[0, 0] == pytest.approx(x_hat - x, rel=eps, abs=eps)


def test_bce_is_the_naive_formula_at_moderate_logits() -> None:
    rng = np.random.default_rng(5)
    logits, x = rng.normal(0, 3, (8, 50)), rng.random((8, 50))
    x_hat = 1 / (1 + np.exp(-logits))
    naive = (-x * np.log(x_hat) - (1 - x) * np.log(1 - x_hat)).sum(axis=1)
    # 1 - x_hat loses digits where x_hat is near 1: at logits of 12 five of sixteen.
    np.testing.assert_allclose(bce_with_logits(logits, x), naive, rtol=1e-11)


def test_bce_is_smallest_where_x_hat_is_x() -> None:
    x = np.array([[0.2], [0.5], [0.9]])
    logits = np.log(x / (1 - x))
    floor = bce_with_logits(logits, x)
    np.testing.assert_allclose(floor, (-x * np.log(x) - (1 - x) * np.log(1 - x))[:, 0], rtol=1e-14)
    for shift in (-0.1, 0.1):
        assert (bce_with_logits(logits + shift, x) > floor).all()


# ------------------------------------------------------------------ the loss of the model


def test_a_model_that_knows_nothing_pays_a_coin_flip_for_each_pixel(digits: Array) -> None:
    vae = VAE()
    vae.parameters.flat[:] = 0
    loss = vae.loss(digits, np.zeros((16, 10)))
    assert loss.bce == pytest.approx(BLANK, rel=1e-6)
    assert loss.kl == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_model_is_near_that(digits: Array, seed: int) -> None:
    rng = np.random.default_rng(seed)
    loss = VAE(rng=rng).loss(digits, rng.standard_normal((16, 10)))
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


def test_the_loss_is_per_image() -> None:
    """A batch of the same images twice: the same mean, so the same loss and gradients."""
    vae, rng = small_vae(), np.random.default_rng(7)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))
    once, gradients_once = vae.loss_and_gradients(x, epsilon)
    x, epsilon = np.tile(x, (2, 1)), np.tile(epsilon, (2, 1))
    twice, gradients_twice = vae.loss_and_gradients(x, epsilon)
    assert twice == pytest.approx(once, rel=1e-13)
    np.testing.assert_allclose(gradients_twice.flat, gradients_once.flat, rtol=1e-11, atol=1e-14)


def test_the_loss_of_a_batch_is_the_mean_of_its_images() -> None:
    vae, rng = small_vae(), np.random.default_rng(8)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))
    one_by_one = [vae.loss_and_gradients(x[[k]], epsilon[[k]]) for k in range(5)]
    loss, gradients = vae.loss_and_gradients(x, epsilon)
    assert loss.bce == pytest.approx(np.mean([one.bce for one, _ in one_by_one]), rel=1e-13)
    assert loss.kl == pytest.approx(np.mean([one.kl for one, _ in one_by_one]), rel=1e-13)
    mean = np.mean([flat.flat for _, flat in one_by_one], axis=0)
    np.testing.assert_allclose(gradients.flat, mean, rtol=1e-11, atol=1e-14)


def test_the_loss_is_a_sum_over_pixels_and_over_latents() -> None:
    logits, x = np.array([[0.3, -2.0]]), np.array([[0.2, 0.7]])
    mu, log_var = np.array([[0.5, -1.0]]), np.array([[0.1, -0.4]])
    for copies in (2, 5):
        wide = [np.tile(a, (1, copies)) for a in (logits, x, mu, log_var)]
        np.testing.assert_allclose(bce_with_logits(*wide[:2]), copies * bce_with_logits(logits, x))
        np.testing.assert_allclose(kl_divergence(*wide[2:]), copies * kl_divergence(mu, log_var))


def test_beta_weighs_the_kl_alone() -> None:
    vae, rng = small_vae(), np.random.default_rng(9)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))
    results = {beta: vae.loss_and_gradients(x, epsilon, beta) for beta in (0.0, 1.0, 4.0)}
    for beta, (loss, _) in results.items():
        assert loss[:2] == results[1.0][0][:2]
        # The loss alone adds up the same terms in another order.
        assert loss[:2] == pytest.approx(vae.loss(x, epsilon, beta)[:2], rel=1e-14)
        assert loss.loss == loss.bce + beta * loss.kl
        assert loss.elbo == -(loss.bce + loss.kl)
    zero, one, four = (gradients for _, gradients in results.values())
    kl_part = one.flat - zero.flat  # d kl / d theta, once
    np.testing.assert_allclose(four.flat, zero.flat + 4 * kl_part, rtol=1e-10, atol=1e-13)
    for name in zero:  # the divergence knows nothing of the decoder, but moves all of the encoder
        same = np.array_equal(zero[name], four[name])
        assert same == name.startswith("decoder")


def test_loss_and_the_loss_of_training_agree() -> None:
    vae, rng = small_vae(), np.random.default_rng(10)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))
    assert vae.loss(x, epsilon, 0.5) == pytest.approx(
        vae.loss_and_gradients(x, epsilon, 0.5)[0], rel=1e-14
    )


# ------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("dtype", DTYPES)
def test_x_hat_is_the_sigmoid_of_the_logits_and_a_probability(dtype: Any) -> None:
    vae, rng = small_vae(dtype=dtype), np.random.default_rng(11)
    x = rng.random((5, 12)).astype(dtype)
    a = vae.forward(x, rng.standard_normal((5, 3)).astype(dtype))
    x_hat = vae.decode(a.z)
    rtol = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(x_hat, 1 / (1 + np.exp(-a.logits)), rtol=rtol)
    assert ((x_hat > 0) & (x_hat < 1)).all()
    far = vae.decode(1e6 * a.z)
    assert ((far >= 0) & (far <= 1)).all()


class Listening(VAE):
    """Keeps the codes it is asked to decode."""

    def decode(self, z: Any, c: Any = None) -> Array:
        self.heard = np.asarray(z)
        return super().decode(z, c)


def test_samples_are_decoded_from_a_standard_normal() -> None:
    n, vae = 50_000, Listening(4, (3,), 2)
    x_hat = vae.sample(n, np.random.default_rng(12))
    z = vae.heard
    assert (x_hat.shape, z.shape) == ((n, 4), (n, 2))
    assert (np.abs(z.mean(axis=0)) < 5 / math.sqrt(n)).all()
    assert (np.abs(z.std(axis=0) - 1) < 5 / math.sqrt(2 * n)).all()
    assert abs((z[:, 0] * z[:, 1]).mean()) < 5 / math.sqrt(n)  # independent of one another
    assert abs((z[:-1, 0] * z[1:, 0]).mean()) < 5 / math.sqrt(n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / (2 * n))  # a bell; of a uniform it is 1.8


def test_all_randomness_comes_from_the_generator_passed_in() -> None:
    state = str(np.random.get_state())
    rng = np.random.default_rng(13)
    vae = VAE(12, (7,), 3, rng=rng)
    first, second = vae.sample(4, rng), vae.sample(4, rng)
    vae.loss_and_gradients(first, np.zeros((4, 3)))
    assert not np.array_equal(first, second)
    rng = np.random.default_rng(13)
    np.testing.assert_array_equal(VAE(12, (7,), 3, rng=rng).sample(4, rng), first)
    assert str(np.random.get_state()) == state


# ------------------------------------------------------------------ the beginning and the training


def test_weights_begin_glorot_uniform_and_biases_at_0() -> None:
    vae = VAE(rng=np.random.default_rng(14))
    for name, array in vae.parameters.items():
        if name.endswith(".b"):
            assert not array.any()
            continue
        limit = math.sqrt(6 / (array.shape[0] + array.shape[1]))
        assert limit * (1 - 20 / array.size) < np.abs(array).max() <= limit * (1 + 1e-6)
        # The fourth moment of a uniform gives the standard error of its variance limit^2 / 3.
        error = limit**2 * math.sqrt((1 / 5 - 1 / 9) / array.size)
        assert abs((array.astype(float) ** 2).mean() - limit**2 / 3) < 5 * error
        assert abs(array.astype(float).mean()) < 5 * limit / math.sqrt(3 * array.size)


def trained(x: Array, seed: int, steps: int) -> tuple[VAE, Loss]:
    rng = np.random.default_rng(seed)
    vae, adam = VAE(rng=rng), Adam()
    for _ in range(steps):
        loss, gradients = vae.loss_and_gradients(x, rng.standard_normal((len(x), 10)))
        adam.update(vae.parameters, gradients)
    return vae, loss


def test_one_repeated_batch_is_learnt_by_heart(digits: Array) -> None:
    vae, loss = trained(digits, seed=15, steps=300)
    # Runs with several seeds end at 96 to 98; knowing nothing but the mean of each pixel costs 180.
    assert loss.loss < 120
    assert 5 < loss.kl < 40  # the code is used
    assert loss.bce > bce_floor(digits)
    x_hat = vae.decode(vae.encode(digits)[0])
    closest = ((x_hat[:, np.newaxis] - digits) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(closest, range(16))  # each is more like itself than any other


def bce_floor(x: Array) -> float:
    """The entropy of the pixels: no reconstruction costs less."""
    p = np.clip(x, 1e-12, 1 - 1e-12)
    return float((-p * np.log(p) - (1 - p) * np.log(1 - p)).sum(axis=1).mean())


def test_equal_seeds_repeat_to_the_bit_and_others_differ(digits: Array) -> None:
    vae, loss = trained(digits, seed=16, steps=5)
    again, loss_again = trained(digits, seed=16, steps=5)
    other, loss_other = trained(digits, seed=17, steps=5)
    assert vae.parameters.flat.tobytes() == again.parameters.flat.tobytes()
    assert loss == loss_again
    assert loss != loss_other
    assert (vae.parameters["encoder.mu.W"] != other.parameters["encoder.mu.W"]).mean() > 0.99
