"""The variational autoencoder: how does one image go through, and how does its gradient come back?

         x (B, 784) pixels in [0, 1]
         |  encoder: Dense + activation
       h_enc (B, 128)
       /    \\                              two heads
     mu      log_var (B, 10)               q(z | x) = N(mu, sigma^2)
       \\    /  z = mu + sigma * epsilon     the draw, with noise from outside
         z (B, 10)
         |  decoder: Dense + activation
       h_dec (B, 128)
         |
       logits (B, 784)                     x_hat = sigmoid(logits)
         |
       loss = bce(logits, x) + beta * kl(mu, log_var)

Going down, `forward` fills in every name; coming up, `backward` fills in the gradient of each.
`mu` is a value here, `d.mu` its gradient, and `to_mu` the layer that it comes from.
Next: gradcheck.py, which checks that one is the derivative of the other, and optimizers.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npvae.core.architecture import Activations, parameter_shapes
from npvae.core.parameters import Array, NamedArrays
from npvae.core.validation import (
    check_beta,
    check_parameters,
    check_settings,
    check_shapes,
    checked,
    validate_checkpoint,
)
from npvae.fast import kernels
from npvae.layers import (
    ACTIVATIONS,
    LINEAR,
    MLP,
    Activation,
    Dense,
    reparameterize,
    reparameterize_backward,
)
from npvae.losses import (
    Loss,
    bce_and_gradient,
    bce_with_logits,
    kl_divergence,
    kl_divergence_backward,
    sigmoid,
)
from npvae.storage import checkpoint


@kernels.fused
def latent_gradients(
    mu: Array,
    log_var: Array,
    epsilon: Array,
    d_z: Array,
    d_kl: float,
    out_mu: Array,
    out_log_var: Array,
) -> Array:
    """Where two paths meet: d_mu and d_log_var (B, Z), into the outs; returns kl (B,).

    One path comes from the pixels through z, the other from the KL divergence; gradients add up.
    """
    mu_from_z, log_var_from_z = reparameterize_backward(d_z, log_var, epsilon)
    mu_from_kl, log_var_from_kl = kl_divergence_backward(d_kl, mu, log_var)
    np.add(mu_from_z, mu_from_kl, out=out_mu)
    np.add(log_var_from_z, log_var_from_kl, out=out_log_var)
    return kl_divergence(mu, log_var)


class VAE:
    """A variational autoencoder with any number of hidden layers; the decoder mirrors the encoder.

    input_dim D pixels; hidden_dims the sizes of the encoder's hidden layers; latent_dim Z;
    activation of the hidden layers; dtype float32 (to train) or float64 (to check);
    rng draws the initial weights: by default a generator with seed 0;
    parameters, if given, are used as they are, and shared with whoever gave them.

    `parameters` and `gradients` are dicts of live arrays by name: "encoder.hidden0.W" (D, H),
    "encoder.hidden0.b" (H,), ..., "encoder.mu.W" (H, Z), "encoder.log_var.W", "decoder.hidden0.W"
    (Z, H), ..., "decoder.logits.W" (H, D), "decoder.logits.b" (D,).
    """

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dims: Sequence[int] = (128,),
        latent_dim: int = 10,
        activation: str = "relu",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
        parameters: NamedArrays | None = None,
    ) -> None:
        check_settings(input_dim, hidden_dims, latent_dim, activation, dtype)
        self.input_dim, self.latent_dim = int(input_dim), int(latent_dim)
        self.hidden_dims = tuple(int(size) for size in hidden_dims)
        self.activation, self.dtype = activation, np.dtype(dtype)
        shapes = parameter_shapes(input_dim, hidden_dims, latent_dim)
        if parameters is not None:
            check_parameters(parameters, shapes, self.dtype)
        self.parameters = NamedArrays(shapes, self.dtype) if parameters is None else parameters
        self.gradients = NamedArrays(shapes, self.dtype)

        def dense(name: str, bend: Activation = LINEAR) -> Dense:
            return Dense(bend, self.parameters, self.gradients, name)

        def mlp(name: str) -> MLP:
            bend = ACTIVATIONS[activation]
            return MLP([dense(f"{name}.hidden{k}", bend) for k in range(len(self.hidden_dims))])

        self.encoder = mlp("encoder")
        self.to_mu = dense("encoder.mu")
        self.to_log_var = dense("encoder.log_var")
        self.decoder = mlp("decoder")
        self.to_logits = dense("decoder.logits")

        heads = self.to_mu, self.to_log_var
        self.layers = [*self.encoder.layers, *heads, *self.decoder.layers, self.to_logits]
        if parameters is None:
            rng = np.random.default_rng(0) if rng is None else rng
            for layer in self.layers:
                layer.initialize(rng)

    # ------------------------------------------------------------------ the way there and back

    def forward(self, x: Array, epsilon: Array, out: Activations | None = None) -> Activations:
        """All activations for pixels x (B, D) and noise epsilon (B, Z), into out if it is given.

        The noise is an argument: given epsilon, the loss is an ordinary function, which can be
        differentiated, checked, repeated, and compared with that of another program.
        """
        a = self.buffers(len(x)) if out is None else out
        check_shapes(x, (len(a.mu), self.input_dim), epsilon, a.mu.shape)
        a.x, a.epsilon = x, epsilon
        self.encoder.forward(x, out=a.h_enc)
        self.to_mu.forward(a.h_enc[-1], out=a.mu)
        self.to_log_var.forward(a.h_enc[-1], out=a.log_var)
        reparameterize(a.mu, a.log_var, epsilon, a.z)
        self.decoder.forward(a.z, out=a.h_dec)
        self.to_logits.forward(a.h_dec[-1], out=a.logits)
        return a

    def backward(
        self,
        a: Activations,
        beta: float = 1.0,
        out: Activations | None = None,
        batch_size: int | None = None,
    ) -> Loss:
        """The loss of activations a, and its gradients in `gradients` and, by name, in out.

        Where a is only a share of a batch, `batch_size` says how many images the whole one has: the
        gradients are then a share of a sum, the loss is the mean of the share.
        """
        d = self.buffers(len(a.x)) if out is None else out
        weight = 1 / (batch_size or len(a.x))  # 1/B, because the loss is a mean over the batch

        # From the loss through the decoder to z.
        bce = bce_and_gradient(a.logits, a.x, weight, d.logits)
        self.to_logits.backward(a.h_dec[-1], a.logits, out=d.logits)
        self.to_logits.backward_to_input(d.logits, out=d.h_dec[-1])
        self.decoder.backward(a.z, a.h_dec, out=d.h_dec)
        self.decoder.backward_to_input(d.h_dec, out=d.z)

        # Two paths meet at mu and log_var: from the pixels through z, and from the KL divergence.
        kl = latent_gradients(a.mu, a.log_var, a.epsilon, d.z, beta * weight, d.mu, d.log_var)

        # Two heads meet at h_enc.
        self.to_mu.backward(a.h_enc[-1], a.mu, out=d.mu)
        self.to_log_var.backward(a.h_enc[-1], a.log_var, out=d.log_var)
        from_mu = self.to_mu.backward_to_input(d.mu)
        from_log_var = self.to_log_var.backward_to_input(d.log_var)
        np.add(from_mu, from_log_var, out=d.h_enc[-1])

        # Through the encoder; the gradient of the pixels themselves is left out.
        self.encoder.backward(a.x, a.h_enc, out=d.h_enc)
        return Loss.of_batch(bce, kl, beta)

    def buffers(self, batch_size: int) -> Activations:
        """Room for the activations, or the gradients, of one batch; to be used again and again."""
        return Activations.empty(
            batch_size, self.input_dim, self.hidden_dims, self.latent_dim, self.dtype
        )

    # ------------------------------------------------------------------ what one does with a VAE

    def loss_and_gradients(
        self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0
    ) -> tuple[Loss, NamedArrays]:
        """The loss of images x (B, D) with noise epsilon (B, Z), and a copy of all gradients.

        Several threads at once need a `twin` each: they would overwrite each other's gradients.
        Raises ValueError for other shapes, NaN, or pixels outside [0, 1], as all methods here do.
        """
        x, epsilon = self._checked(x, epsilon, beta)
        loss = self.backward(self.forward(x, epsilon), beta)
        return loss, self.gradients.copy()

    def loss(self, x: ArrayLike, epsilon: ArrayLike, beta: float = 1.0) -> Loss:
        """The loss alone, for looking at images one does not train on."""
        x, epsilon = self._checked(x, epsilon, beta)
        a = self.forward(x, epsilon)
        return Loss.of_batch(bce_with_logits(a.logits, x), kl_divergence(a.mu, a.log_var), beta)

    def _checked(self, x: ArrayLike, epsilon: ArrayLike, beta: float) -> tuple[Array, Array]:
        x = checked(x, "x", self.input_dim, self.dtype, pixels=True)
        epsilon = checked(epsilon, "epsilon", self.latent_dim, self.dtype, rows=len(x))
        check_beta(beta)
        return x, epsilon

    def encode(self, x: ArrayLike) -> tuple[Array, Array]:
        """mu and log_var (B, Z) of q(z | x) for images x (B, D) with pixels in [0, 1]."""
        x = checked(x, "x", self.input_dim, self.dtype, pixels=True)
        h_enc = self.encoder.forward(x)[-1]
        return self.to_mu.forward(h_enc), self.to_log_var.forward(h_enc)

    def decode(self, z: ArrayLike) -> Array:
        """x_hat (B, D), the probability of white for each pixel, for codes z (B, Z)."""
        z = checked(z, "z", self.latent_dim, self.dtype)
        h_dec = self.decoder.forward(z)[-1]
        return sigmoid(self.to_logits.forward(h_dec))

    def noise(self, count: int, rng: np.random.Generator) -> Array:
        """Standard normal numbers (count, Z): an epsilon to train with, or a z to decode."""
        kind: Any = self.dtype
        return rng.standard_normal((count, self.latent_dim), kind)

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """x_hat (count, D) of codes drawn from the prior: images the model makes up."""
        return self.decode(self.noise(count, rng))

    # ------------------------------------------------------------------ copies, and files

    @property
    def settings(self) -> dict[str, Any]:
        """What it takes to build the same network, as plain data."""
        return {
            "input_dim": self.input_dim,
            "hidden_dims": list(self.hidden_dims),
            "latent_dim": self.latent_dim,
            "activation": self.activation,
            "dtype": self.dtype.name,
        }

    def twin(self) -> VAE:
        """A model with the same live parameters and gradients of its own."""
        return VAE(**self.settings, parameters=self.parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.settings, self.parameters)  # for copy.deepcopy and pickle

    def save(self, path: str | Path) -> None:
        """Write settings and parameters to an .npz file, whole or not at all; see checkpoint.py."""
        checkpoint.save(path, {"model": self.settings}, self.parameters)

    @classmethod
    def load(cls, path: str | Path) -> VAE:
        """The model that `save` or a training run wrote; CheckpointError if anything is amiss."""
        return cls.from_checkpoint(path, *checkpoint.load(path))

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, header: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> VAE:
        """The model in a loaded checkpoint, which may hold more than a model."""
        settings = validate_checkpoint(path, header, arrays)
        vae = cls(**settings)
        for name in vae.parameters:
            vae.parameters[name] = arrays[name]
        return vae


def _rebuilt(settings: Mapping[str, Any], parameters: NamedArrays) -> VAE:
    return VAE(**settings, parameters=parameters)
