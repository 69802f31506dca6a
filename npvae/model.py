"""How does an image go through the network, and how does its gradient come back?

         x (B, D) pixels in [0, 1]           x_c (B, D + C): x and its class, one-hot
         |  encoder: Dense + activation
       h_enc (B, H)
       /    \\                              two heads
     mu      log_var (B, Z)                q(z | x) = N(mu, sigma^2)
       \\    /  z = mu + sigma * epsilon     the draw, with noise from outside
         z (B, Z)                            z_c (B, Z + C): z and the same class
         |  decoder: Dense + activation
       h_dec (B, H)
         |
       logits (B, D)                       x_hat = sigmoid(logits)
         |
       loss = bce(logits, x) + beta * kl(mu, log_var)

`forward` goes down and names every value; `backward` comes up and computes the gradient of each.
Without classes: `self.to_mu.forward(h)` is h @ W + b, with "encoder.mu.W" and .b of `parameters`.
B images, D pixels, H hidden, Z latents, C classes (or 0). Next: gradcheck.py: is backward right?
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npvae.core.network import Network
from npvae.core.parameters import Array, NamedArrays
from npvae.core.validation import Classes, check_beta, choose, validate, with_classes
from npvae.layers import ACTIVATIONS, MLP, Dense, reparameterize, reparameterize_backward
from npvae.losses import (
    Loss,
    bce_with_logits,
    bce_with_logits_backward,
    kl_divergence,
    kl_divergence_backward,
    sigmoid,
)
from npvae.storage import stored_model


class Activations(NamedTuple):
    """Every value that `forward` computes for one batch, by name."""

    x: Array  # (B, D)
    x_c: Array  # (B, D + C): beside x, C zeros with a 1 for its class; x itself if C = 0
    epsilon: Array  # (B, Z)
    y_enc: list[Array]  # (B, H) for each hidden layer, before its activation
    h_enc: list[Array]  # (B, H) the same, after it
    mu: Array  # (B, Z)
    log_var: Array  # (B, Z)
    z: Array  # (B, Z)
    z_c: Array  # (B, Z + C): the same beside z
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


class VAE(Network):
    """A VAE with any number of hidden layers; the decoder mirrors the encoder.

    dtype is float32 (to train) or float64 (to check); rng, a Generator or a seed, draws weights.
    With num_classes C > 0 it is conditional: c, a label below C for each image, (B,), is required.
    `parameters` and `gradients` map names to live arrays: "encoder.hidden0.W" (D + C, H),
    "encoder.hidden0.b" (H,), "encoder.mu.W" (H, Z), "decoder.hidden0.W" (Z + C, H), and so on.
    Methods raise ValueError for what does not fit; objective and backward check nothing, forward c.
    """

    fixed = (*Network.fixed, "layers", "encoder", "to_mu", "to_log_var", "decoder", "to_logits")

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dims: Sequence[int] = (128,),
        latent_dim: int = 10,
        activation: str = "relu",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | int = 0,
        num_classes: int = 0,
    ) -> None:
        activated = choose("activation", activation, ACTIVATIONS)
        super().__init__(input_dim, hidden_dims, latent_dim, activation, dtype, num_classes)
        self.parameters = NamedArrays(self.shapes, self.dtype)
        self.gradients = NamedArrays(self.shapes, self.dtype)

        def dense(name: str) -> Dense:
            return Dense(self.parameters, self.gradients, name)

        numbers = range(len(hidden_dims))
        self.encoder = MLP([dense(f"encoder.hidden{k}") for k in numbers], activated)
        self.to_mu = dense("encoder.mu")
        self.to_log_var = dense("encoder.log_var")
        self.decoder = MLP([dense(f"decoder.hidden{k}") for k in numbers], activated)
        self.to_logits = dense("decoder.logits")

        encoder = *self.encoder.layers, self.to_mu, self.to_log_var
        self.layers = *encoder, *self.decoder.layers, self.to_logits
        rng = np.random.default_rng(rng)
        for layer in self.layers:
            layer.initialize(rng)

    def forward(self, x: Array, epsilon: Array, c: Classes = None) -> Activations:
        """All values for x (B, D), epsilon (B, Z) and, in a conditional model, labels c (B,)."""
        x_c = with_classes(x, c, self.num_classes)
        y_enc, h_enc = self.encoder.forward(x_c)
        mu = self.to_mu.forward(h_enc[-1])
        log_var = self.to_log_var.forward(h_enc[-1])
        z = reparameterize(mu, log_var, epsilon)
        z_c = with_classes(z, c, self.num_classes)
        y_dec, h_dec = self.decoder.forward(z_c)
        logits = self.to_logits.forward(h_dec[-1])
        return Activations(x, x_c, epsilon, y_enc, h_enc, mu, log_var, z, z_c, y_dec, h_dec, logits)

    def objective(self, a: Activations, beta: float = 1.0) -> Loss:
        """The loss of a batch: the mean over its images of bce + beta * kl."""
        return Loss.of_batch(bce_with_logits(a.logits, a.x), kl_divergence(a.mu, a.log_var), beta)

    def backward(self, a: Activations, beta: float = 1.0) -> Gradients:
        """Sets `gradients`, the derivative of the objective for every parameter."""
        d_bce = 1 / len(a.x)  # 1/B, because the objective is a mean over the batch
        d_kl = beta / len(a.x)

        # From the loss through the decoder to z; the class beside it is given, not computed.
        d_logits = bce_with_logits_backward(d_bce, a.logits, a.x)
        d_h_dec = self.to_logits.backward(a.h_dec[-1], d_logits)
        d_z = self.decoder.backward(a.z_c, a.y_dec, a.h_dec, d_h_dec)[:, : self.latent_dim]

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
        d_x = self.encoder.backward(a.x_c, a.y_enc, a.h_enc, d_h_enc)[:, : self.input_dim]
        return Gradients(d_logits, d_h_dec, d_z, d_mu, d_log_var, d_h_enc, d_x)

    def loss_and_gradients(
        self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0, c: Classes = None
    ) -> tuple[Loss, NamedArrays]:
        """The loss of images x (B, D) with noise epsilon (B, Z), and a copy of all gradients."""
        a = self._checked(x, epsilon, beta, c)
        self.backward(a, beta)
        return self.objective(a, beta), self.gradients.copy()

    def loss(self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0, c: Classes = None) -> Loss:
        """The loss alone, for images that are not trained on."""
        return self.objective(self._checked(x, epsilon, beta, c), beta)

    def _checked(self, x: ArrayLike, epsilon: ArrayLike, beta: float, c: Classes) -> Activations:
        check_beta(beta)
        x = validate(x, "x", self.input_dim, self.dtype, pixels=True)
        epsilon = validate(epsilon, "epsilon", self.latent_dim, self.dtype, rows=len(x))
        return self.forward(x, epsilon, c)

    def encode(self, x: ArrayLike, c: Classes = None) -> tuple[Array, Array]:
        """mu and log_var (B, Z) of q(z | x) for images x (B, D) with pixels in [0, 1]."""
        x = validate(x, "x", self.input_dim, self.dtype, pixels=True)
        _, h_enc = self.encoder.forward(with_classes(x, c, self.num_classes))
        return self.to_mu.forward(h_enc[-1]), self.to_log_var.forward(h_enc[-1])

    def decode_logits(self, z: ArrayLike, c: Classes = None) -> Array:
        """logits (B, D) for latent codes z (B, Z)."""
        z = validate(z, "z", self.latent_dim, self.dtype)
        _, h_dec = self.decoder.forward(with_classes(z, c, self.num_classes))
        return self.to_logits.forward(h_dec[-1])

    def decode(self, z: ArrayLike, c: Classes = None) -> Array:
        """x_hat (B, D), the probability of white for each pixel, for latent codes z (B, Z)."""
        return sigmoid(self.decode_logits(z, c))

    def noise(self, count: int, rng: np.random.Generator | int) -> Array:
        """Standard normal numbers (count, Z): an epsilon to train with, or a z to decode."""
        return np.random.default_rng(rng).standard_normal((count, self.latent_dim), self.dtype)

    def sample(self, count: int, rng: np.random.Generator | int, c: Classes = None) -> Array:
        """x_hat (count, D) for z drawn from the prior: images that the model makes up."""
        return self.decode(self.noise(count, rng), c)

    def save(self, path: str | Path) -> None:
        """Write settings and parameters to an .npz file, whole or not at all (OutputError)."""
        stored_model.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "VAE":
        """The model in a file, or in a run directory. CheckpointError if it cannot be used."""
        return stored_model.load(cls, path)
