"""Does each formula mean what it says? What a gradient check cannot know.

A derivative can be compared with its function. A meaning has to be stated a second time, in other
words. The name of each check here is a sentence about a VAE. The check returns whether it is true
of the lesson as it runs. Where a quantity is estimated from n draws, five standard errors are
allowed. tests/test_meaning.py asks more, and more precisely. Next: meaning_of_training.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from npvae.core.parameters import Array
from npvae.datasets.minibatches import to_pixels
from npvae.layers import reparameterize
from npvae.losses import Loss, bce_with_logits, kl_divergence
from npvae.model import VAE

DRAWS = 20_000
MU, SIGMA = np.array([0.0, 1.5, -2.0]), np.array([0.3, 0.5, 2.0])


def toy(latent_dim: int = 3, pixels: int = 12) -> VAE:
    """A small VAE in float64, with biases, so that no value is special."""
    vae = VAE(pixels, (7,), latent_dim, dtype=float)
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 0.5, vae.parameters.flat.shape)
    return vae


def batch(count: int = 6) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.random((count, 12)), rng.standard_normal((count, 3))


def close(a: ArrayLike, b: ArrayLike, rtol: float = 1e-9) -> bool:
    return bool(np.allclose(a, b, rtol=rtol, atol=1e-12))


# ------------------------------------------------------------------ the latent code


def z_has_mean_mu_and_spread_sigma() -> bool:
    mu, sigma = np.tile(MU, (DRAWS, 1)), np.tile(SIGMA, (DRAWS, 1))
    z = reparameterize(mu, 2 * np.log(sigma), np.random.default_rng(3).standard_normal(mu.shape))
    allowed = 5 * SIGMA / math.sqrt(DRAWS)
    return bool(
        (np.abs(z.mean(axis=0) - MU) < allowed).all()
        and (np.abs(z.std(axis=0) - SIGMA) < allowed / math.sqrt(2)).all()
    )


def mu_and_log_var_can_have_any_sign() -> bool:
    a = toy().forward(*batch(50))
    return all(values.min() < 0 < values.max() for values in (a.mu, a.log_var))


def kl_is_the_mean_of_log_q_minus_log_p() -> bool:
    epsilon = np.random.default_rng(4).standard_normal((DRAWS, 3))
    z = MU + SIGMA * epsilon
    draws = np.sum(0.5 * z**2 - 0.5 * epsilon**2 - np.log(SIGMA), axis=1)
    closed = kl_divergence(MU[np.newaxis], 2 * np.log(SIGMA)[np.newaxis])[0]
    return bool(abs(draws.mean() - closed) < 5 * draws.std() / math.sqrt(DRAWS))


# ------------------------------------------------------------------ the pixels


def bce_is_minus_log_p() -> bool:
    rng = np.random.default_rng(5)
    logits, x = rng.normal(0, 3, (8, 50)), rng.random((8, 50))
    p = 1 / (1 + np.exp(-logits))
    return close(bce_with_logits(logits, x), -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), 1))


def bce_is_right_at_large_logits() -> bool:
    """In float32: there -log(1 - x_hat) is the logit itself, and -log(x_hat) its negative."""
    logits = np.array([[1000], [1000], [-1000], [-1000]], np.float32)
    x = np.array([[0], [1], [0], [1]], np.float32)
    return close(bce_with_logits(logits, x), [1000, 0, 0, 1000])


def pixels_are_from_0_to_1() -> bool:
    """Bytes become such pixels, and the model refuses all others."""
    x = to_pixels(np.array([[0, 51, 255]], np.uint8), np.float64)
    try:
        toy().loss_and_gradients(-batch()[0], batch()[1])
    except ValueError:
        return close(x, [[0, 0.2, 1]])
    return False


def x_hat_is_the_sigmoid_of_the_logits() -> bool:
    vae, z = toy(), batch()[1]
    return close(vae.decode(z), 1 / (1 + np.exp(-vae.decode_logits(z))))


# ------------------------------------------------------------------ the loss and its gradient


def loss_is_a_mean_over_images() -> bool:
    """The same images twice: the same loss and gradient."""
    x, epsilon = batch()
    loss, gradients = toy().loss_and_gradients(x, epsilon)
    twice, same = toy().loss_and_gradients(np.tile(x, (2, 1)), np.tile(epsilon, (2, 1)))
    return close(loss.total, twice.total) and close(gradients.flat, same.flat)


def gradients_start_afresh() -> bool:
    vae = toy()
    first, second = (vae.loss_and_gradients(*batch())[1] for _ in range(2))
    return close(first.flat, second.flat)


def beta_weighs_the_kl() -> bool:
    """loss = bce + beta * kl, and so for the gradient."""
    none, one, four = (toy().loss_and_gradients(*batch(), beta) for beta in (0.0, 1.0, 4.0))
    kl_part = one[1].flat - none[1].flat
    return (
        close([none[0].total, four[0].total], [none[0].bce, four[0].bce + 4 * four[0].kl])
        and close(four[1].flat, none[1].flat + 4 * kl_part)
        and bool(kl_part.any())
    )


def elbo_is_below_log_p() -> bool:
    """With one latent, log p(x) is an integral over z that a sum over a fine grid computes."""
    vae, x, epsilon = toy(latent_dim=1), batch(1)[0], np.random.default_rng(6)
    z = np.linspace(-12, 12, 4001)[:, np.newaxis]
    p = 1 / (1 + np.exp(-vae.decode_logits(z)))
    log_joint = np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=1) - 0.5 * z[:, 0] ** 2
    log_p = math.log(np.exp(log_joint).sum() * 0.006 / math.sqrt(2 * math.pi))
    loss = vae.loss(np.repeat(x, 2000, axis=0), epsilon.standard_normal((2000, 1)))
    return Loss(loss.bce, loss.kl).elbo < log_p


CHECKS_OF_FORMULAS: tuple[Callable[[], bool], ...] = (
    z_has_mean_mu_and_spread_sigma,
    mu_and_log_var_can_have_any_sign,
    kl_is_the_mean_of_log_q_minus_log_p,
    bce_is_minus_log_p,
    bce_is_right_at_large_logits,
    pixels_are_from_0_to_1,
    x_hat_is_the_sigmoid_of_the_logits,
    loss_is_a_mean_over_images,
    gradients_start_afresh,
    beta_weighs_the_kl,
    elbo_is_below_log_p,
)
