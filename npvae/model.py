"""How does an image go through the network, and how does its gradient come back?

         x (B, D) pixels in [0, 1]
         |  encoder: Dense + activation
       h_enc (B, H)
       /    \\                              two heads
     mu      log_var (B, Z)                q(z | x) = N(mu, sigma^2)
       \\    /  z = mu + sigma * epsilon     the draw, with noise from outside
         z (B, Z)
         |  decoder: Dense + activation
       h_dec (B, H)
         |
       logits (B, D)                       x_hat = sigmoid(logits)
         |
       loss = bce(logits, x) + beta * kl(mu, log_var)

`forward` goes down and names every value; `backward` comes up and computes the gradient of each.
B images, D pixels, H hidden, Z latents. Next: gradcheck.py: is backward right?
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npvae.core.parameters import Array, NamedArrays, parameter_shapes
from npvae.core.validation import check_beta, check_choice, check_network, validate
from npvae.layers import ACTIVATIONS, MLP, Dense, reparameterize, reparameterize_backward
from npvae.losses import (
    Loss,
    bce_with_logits,
    bce_with_logits_backward,
    kl_divergence,
    kl_divergence_backward,
    sigmoid,
)
from npvae.storage.stored_model import StoredModel


class Activations(NamedTuple):
    """Every value that `forward` computes for one batch, by name."""

    x: Array  # (B, D)
    epsilon: Array  # (B, Z)
    y_enc: list[Array]  # (B, H) for each hidden layer, before its activation
    h_enc: list[Array]  # (B, H) the same, after it
    mu: Array  # (B, Z)
    log_var: Array  # (B, Z)
    z: Array  # (B, Z)
    y_dec: list[Array]  # (B, H) as in the encoder
    h_dec: list[Array]  # (B, H)
    logits: Array  # (B, D)


class Gradients(NamedTuple):
    """Gradients by name: d_mu is d loss / d mu; d_h_enc, d_h_dec are of the last hidden layer."""

    d_logits: Array  # (B, D)
    d_h_dec: Array  # (B, H)
    d_z: Array  # (B, Z)
    d_mu: Array  # (B, Z)
    d_log_var: Array  # (B, Z)
    d_h_enc: Array  # (B, H)
    d_x: Array  # (B, D), through the encoder


class VAE(StoredModel):
    """A VAE with any number of hidden layers; the decoder mirrors the encoder.

    dtype is float32 (to train) or float64 (to check); rng, a Generator or a seed, draws weights.
    `parameters` and `gradients` map names to live arrays: "encoder.hidden0.W" (D, H),
    "encoder.hidden0.b" (H,), ..., "encoder.mu.W" (H, Z), "encoder.log_var.W", "decoder.hidden0.W"
    (Z, H), ..., "decoder.logits.W" (H, D), "decoder.logits.b" (D,). Public methods but forward,
    objective and backward raise ValueError for other shapes, NaN, or pixels outside [0, 1].
    """

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dims: Sequence[int] = (128,),
        latent_dim: int = 10,
        activation: str = "relu",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | int = 0,
    ) -> None:
        check_network(input_dim, hidden_dims, latent_dim, dtype)
        check_choice("activation", activation, ACTIVATIONS)
        self.input_dim, self.latent_dim = int(input_dim), int(latent_dim)
        self.hidden_dims = tuple(int(size) for size in hidden_dims)
        self.activation, self.dtype = activation, np.dtype(dtype)
        shapes = parameter_shapes(input_dim, hidden_dims, latent_dim)
        self.parameters = NamedArrays(shapes, self.dtype)
        self.gradients = NamedArrays(shapes, self.dtype)

        def dense(name: str) -> Dense:
            return Dense(self.parameters, self.gradients, name)

        def mlp(name: str) -> MLP:
            layers = [dense(f"{name}.hidden{k}") for k in range(len(hidden_dims))]
            return MLP(layers, ACTIVATIONS[activation])

        self.encoder = mlp("encoder")
        self.to_mu = dense("encoder.mu")
        self.to_log_var = dense("encoder.log_var")
        self.decoder = mlp("decoder")
        self.to_logits = dense("decoder.logits")

        encoder = [*self.encoder.layers, self.to_mu, self.to_log_var]
        self.layers = [*encoder, *self.decoder.layers, self.to_logits]
        rng = np.random.default_rng(rng)
        for layer in self.layers:
            layer.initialize(rng)

    def forward(self, x: Array, epsilon: Array) -> Activations:
        """All values for x (B, D) and epsilon (B, Z)."""
        y_enc, h_enc = self.encoder.forward(x)
        mu = self.to_mu.forward(h_enc[-1])
        log_var = self.to_log_var.forward(h_enc[-1])
        z = reparameterize(mu, log_var, epsilon)
        y_dec, h_dec = self.decoder.forward(z)
        logits = self.to_logits.forward(h_dec[-1])
        return Activations(x, epsilon, y_enc, h_enc, mu, log_var, z, y_dec, h_dec, logits)

    def objective(self, a: Activations, beta: float = 1.0) -> Loss:
        """The loss of a batch: the mean over its images of bce + beta * kl."""
        return Loss.of_batch(bce_with_logits(a.logits, a.x), kl_divergence(a.mu, a.log_var), beta)

    def backward(self, a: Activations, beta: float = 1.0) -> Gradients:
        """Sets `gradients`, the derivative of the objective for every parameter."""
        d_bce = 1 / len(a.x)  # 1/B, because the objective is a mean over the batch
        d_kl = beta / len(a.x)

        # From the loss through the decoder to z.
        d_logits = bce_with_logits_backward(d_bce, a.logits, a.x)
        d_h_dec = self.to_logits.backward(a.h_dec[-1], d_logits)
        d_z = self.decoder.backward(a.z, a.y_dec, a.h_dec, d_h_dec)

        # Two paths meet at mu and log_var: from the pixels through z, and from the KL divergence.
        d_mu_z, d_log_var_z = reparameterize_backward(d_z, a.log_var, a.epsilon)
        d_mu_kl, d_log_var_kl = kl_divergence_backward(d_kl, a.mu, a.log_var)
        d_mu = d_mu_z + d_mu_kl
        d_log_var = d_log_var_z + d_log_var_kl

        # Two heads meet at h_enc.
        d_h_enc_mu = self.to_mu.backward(a.h_enc[-1], d_mu)
        d_h_enc_log_var = self.to_log_var.backward(a.h_enc[-1], d_log_var)
        d_h_enc = d_h_enc_mu + d_h_enc_log_var

        # Through the encoder to the pixels.
        d_x = self.encoder.backward(a.x, a.y_enc, a.h_enc, d_h_enc)
        return Gradients(d_logits, d_h_dec, d_z, d_mu, d_log_var, d_h_enc, d_x)

    def loss_and_gradients(
        self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0
    ) -> tuple[Loss, NamedArrays]:
        """The loss of images x (B, D) with noise epsilon (B, Z), and a copy of all gradients."""
        a = self._checked_forward(x, epsilon, beta)
        self.backward(a, beta)
        return self.objective(a, beta), self.gradients.copy()

    def loss(self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0) -> Loss:
        """The loss alone, for images that are not trained on."""
        return self.objective(self._checked_forward(x, epsilon, beta), beta)

    def _checked_forward(self, x: ArrayLike, epsilon: ArrayLike, beta: float) -> Activations:
        check_beta(beta)
        x = validate(x, "x", self.input_dim, self.dtype, pixels=True)
        epsilon = validate(epsilon, "epsilon", self.latent_dim, self.dtype, rows=len(x))
        return self.forward(x, epsilon)

    def encode(self, x: ArrayLike) -> tuple[Array, Array]:
        """mu and log_var (B, Z) of q(z | x) for images x (B, D) with pixels in [0, 1]."""
        x = validate(x, "x", self.input_dim, self.dtype, pixels=True)
        _, h_enc = self.encoder.forward(x)
        return self.to_mu.forward(h_enc[-1]), self.to_log_var.forward(h_enc[-1])

    def decode_logits(self, z: ArrayLike) -> Array:
        """logits (B, D) for latent codes z (B, Z)."""
        z = validate(z, "z", self.latent_dim, self.dtype)
        _, h_dec = self.decoder.forward(z)
        return self.to_logits.forward(h_dec[-1])

    def decode(self, z: ArrayLike) -> Array:
        """x_hat (B, D), the probability of white for each pixel, for latent codes z (B, Z)."""
        return sigmoid(self.decode_logits(z))

    def noise(self, count: int, rng: np.random.Generator | int) -> Array:
        """Standard normal numbers (count, Z): an epsilon to train with, or a z to decode."""
        dtype: Any = self.dtype
        return np.random.default_rng(rng).standard_normal((count, self.latent_dim), dtype)

    def sample(self, count: int, rng: np.random.Generator | int) -> Array:
        """x_hat (count, D) for z drawn from the prior: images that the model makes up."""
        return self.decode(self.noise(count, rng))
