"""What does a VAE minimise?

    loss = bce + beta * kl                 in nats per image (a nat is 1.44 bits)

    bce   binary cross-entropy: the cost of describing the pixels x, given the decoder's logits
    kl    Kullback-Leibler divergence: the cost of describing the latent code z, given the prior

Both are sums, over pixels and over latents, for one image; the loss is their mean over the batch.
At beta = 1, -loss is the evidence lower bound (ELBO): on average over the noise, loss >= -log p(x).
Pixels are grey values in [0, 1], not coin flips: the Bernoulli likelihood is a pseudo-likelihood.

Each value stands directly above its gradient. B images, D pixels, Z latents. Next: layers.py.
"""

from typing import NamedTuple

import numpy as np

from npvae.core.parameters import Array


class Loss(NamedTuple):
    """A mean loss in its two parts, in nats per image."""

    bce: float
    kl: float
    beta: float = 1.0

    @classmethod
    def of_batch(cls, bce: Array, kl: Array, beta: float) -> "Loss":
        """The means of bce (B,) and kl (B,)."""
        return cls(float(bce.mean(dtype=np.float64)), float(kl.mean(dtype=np.float64)), beta)

    def __repr__(self) -> str:
        parts = f"bce={self.bce:.6g}, kl={self.kl:.6g}, beta={self.beta:g}"
        return f"Loss({parts}, total={self.total:.6g})"

    @property
    def total(self) -> float:
        """bce + beta * kl: the number that training makes small."""
        return self.bce + self.beta * self.kl

    @property
    def loss(self) -> float:  # the same number, under the name of the formula above
        return self.total

    @property
    def elbo(self) -> float:
        """-(bce + kl): with one draw of z, an unbiased estimate of a lower bound on log p(x)."""
        return -(self.bce + self.kl)


def sigmoid(logits: Array) -> Array:
    """x_hat = 1 / (1 + exp(-logits)), the probability of a white pixel; never overflows."""
    e = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, e) / (1 + e)


def bce_with_logits(logits: Array, x: Array) -> Array:
    """Binary cross-entropy (B,) of pixels x in [0, 1], given logits, both (B, D).

    With x_hat = sigmoid(logits):

        bce = sum over pixels of -x log(x_hat) - (1 - x) log(1 - x_hat)
            = sum over pixels of softplus(logits) - x * logits
        softplus(l) = log(1 + exp(l)) = max(l, 0) + log(1 + exp(-|l|))

    The last form never takes exp of a positive number, so it is right at logits of +-1000 too.
    """
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
    return np.sum(softplus - x * logits, axis=1)


def bce_with_logits_backward(d_bce: Array | float, logits: Array, x: Array) -> Array:
    """d_logits (B, D) = d_bce * (x_hat - x).

    The derivative of softplus(l) is exp(l) / (1 + exp(l)) = sigmoid(l), that of x * l is x.
    `d_bce` is d loss / d bce: a number such as 1/B, or one for each image, (B, 1).
    """
    return d_bce * (sigmoid(logits) - x)


def kl_divergence(mu: Array, log_var: Array) -> Array:
    """KL(N(mu, sigma^2) || N(0, 1)) (B,), for mu and log_var = log sigma^2 (B, Z).

        kl = sum over latents of 0.5 * (mu^2 + sigma^2 - 1 - log_var)

    It is the mean over q of log q(z) - log p(z) = 0.5 * (z^2 - epsilon^2 - log_var). The mean of
    epsilon^2 is 1, that of z^2 is mu^2 + sigma^2 (Kingma and Welling 2014, appendix B).
    """
    return np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)


def kl_divergence_backward(d_kl: Array | float, mu: Array, log_var: Array) -> tuple[Array, Array]:
    """d_mu = d_kl * mu and d_log_var = d_kl * 0.5 * (sigma^2 - 1), both (B, Z).

    Here d sigma^2 / d log_var = sigma^2. Both are 0 at mu = 0, sigma = 1: the prior.
    """
    return d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 1)
