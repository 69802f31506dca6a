"""What is the network made of?

    activations      bend the straight line; without them all layers collapse into one
    Dense, MLP       h = activation(x @ W + b), and the chain rule through it; several in a row
    reparameterize   z = mu + sigma * epsilon: a random draw that one can differentiate

Each forward stands directly above its backward. `backward` gets what `forward` was given or made,
explicitly, and overwrites the gradients: each parameter is used once, there is nothing to add up.
An activation adds the bias, too: one pass over memory instead of two.
Only arguments whose name begins with `out` are modified. B images.
Next: architecture.py, a page of names, and model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from npvae.core.parameters import Array, NamedArrays
from npvae.fast import kernels


def bias_linear(out: Array, b: Array) -> None:
    """out = out + b: no bend, for layers whose result may be any number."""
    out += b


def linear_backward(h: Array, out: Array) -> None:
    """d_y = d_h."""


@kernels.fused
def bias_relu(out: Array, b: Array) -> None:
    """h = max(x @ W + b, 0), where out holds x @ W before and h afterwards."""
    np.maximum(out + b, 0, out=out)


@kernels.fused
def relu_backward(h: Array, out: Array) -> None:
    """d_y = d_h where h > 0, else 0, in place of d_h; at the kink itself, h = 0, we take 0."""
    out[h <= 0] = 0


def bias_leaky_relu(out: Array, b: Array) -> None:
    """h = max(y, 0.01 y) for y = x @ W + b: a unit that is off still learns a little."""
    out += b
    np.maximum(out, 0.01 * out, out=out)


def leaky_relu_backward(h: Array, out: Array) -> None:
    """d_y = d_h where h > 0, else 0.01 d_h; at the kink itself, h = 0, we take 0.01."""
    np.multiply(out, 0.01, out=out, where=h <= 0)


def bias_elu(out: Array, b: Array) -> None:
    """h = y where y > 0, else exp(y) - 1: two curves that meet at 0 with the same slope, 1.

    (Clevert et al. 2016, eq. 15, with alpha = 1.)
    """
    out += b
    np.expm1(out, out=out, where=out <= 0)


def elu_backward(h: Array, out: Array) -> None:
    """d_y = d_h where h > 0, else d_h * (h + 1), because exp(y) = h + 1."""
    np.multiply(out, h + 1, out=out, where=h <= 0)


def bias_tanh(out: Array, b: Array) -> None:
    """h = tanh(x @ W + b), between -1 and 1."""
    out += b
    np.tanh(out, out=out)


def tanh_backward(h: Array, out: Array) -> None:
    """d_y = d_h * (1 - h^2), because tanh' = 1 - tanh^2."""
    out *= 1 - h**2


class Activation(NamedTuple):
    """h = bend(y) for y = x @ W + b, and its slope in terms of h; in place and elementwise."""

    forward: Callable[[Array, Array], None]  # (x @ W, b): the first becomes h = bend(x @ W + b)
    backward: Callable[[Array, Array], None]  # (h, d_h): the second becomes d_y = d_h * bend'(y)


LINEAR = Activation(bias_linear, linear_backward)
ACTIVATIONS = {
    "relu": Activation(bias_relu, relu_backward),
    "leaky_relu": Activation(bias_leaky_relu, leaky_relu_backward),
    "elu": Activation(bias_elu, elu_backward),
    "tanh": Activation(bias_tanh, tanh_backward),
}


class Dense:
    """h = activation(x @ W + b), with x (B, in), W (in, out), b (out,), h (B, out).

    `W` and `b` are views of the model's parameters, `d_W` and `d_b` of its gradients. In `forward`,
    out receives h; in `backward`, it holds d_h before and d_y afterwards.
    """

    def __init__(
        self, activation: Activation, parameters: NamedArrays, gradients: NamedArrays, name: str
    ) -> None:
        self.activation = activation
        self.W, self.b = parameters[f"{name}.W"], parameters[f"{name}.b"]
        self.d_W, self.d_b = gradients[f"{name}.W"], gradients[f"{name}.b"]

    def initialize(self, rng: np.random.Generator) -> None:
        """Glorot-uniform weights, zero biases: neither signals nor gradients shall explode or die.

        W ~ U(-limit, limit) with limit = sqrt(6 / (in + out)), so that Var W = 2 / (in + out), one
        over the mean of in and out: between 1/in, which keeps the size of x @ W, and 1/out, which
        keeps that of d_y @ W.T (Glorot and Bengio 2010, eq. 16). That relu halves the mean square
        is left out of account.
        """
        limit = np.sqrt(6 / sum(self.W.shape))
        self.W[:] = rng.uniform(-limit, limit, self.W.shape)
        self.b[:] = 0

    def forward(self, x: Array, out: Array | None = None) -> Array:
        """h (B, out) for x (B, in)."""
        h = np.matmul(x, self.W, out=out)
        self.activation.forward(h, self.b)
        return h

    def backward(self, x: Array, h: Array, out: Array) -> None:
        """From d_h to d_W and d_b, given x and h of the forward pass; d_h, in out, becomes d_y.

        Write y = x @ W + b in indices, y[n, j] = sum_i x[n, i] W[i, j] + b[j]. Then

            d_W[i, j] = sum_n x[n, i] d_y[n, j]      which is x.T @ d_y
            d_b[j]    = sum_n d_y[n, j]              the sum over the batch
        """
        self.activation.backward(h, out)
        d_y = out
        np.matmul(x.T, d_y, out=self.d_W)
        np.sum(d_y, axis=0, out=self.d_b)

    def backward_to_input(self, d_y: Array, out: Array | None = None) -> Array:
        """d_x (B, in) from the d_y that `backward` left behind.

            d_x[n, i] = sum_j d_y[n, j] W[i, j]      which is d_y @ W.T

        A method of its own, because nobody needs d_x of the pixels, a sixth of all the work.
        """
        return np.matmul(d_y, self.W.T, out=out)


class MLP:
    """A multi-layer perceptron: Dense layers in a row, each fed with what the one before gave."""

    def __init__(self, layers: Sequence[Dense]) -> None:
        self.layers = list(layers)

    def forward(self, x: Array, out: Sequence[Array] | None = None) -> list[Array]:
        """The h of every layer, the last one being the result."""
        h = []
        for k, layer in enumerate(self.layers):
            x = layer.forward(x, out=None if out is None else out[k])
            h.append(x)
        return h

    def backward(self, x: Array, h: Sequence[Array], out: Sequence[Array]) -> None:
        """From d_h of the last layer, in out[-1], to all others; out[k] becomes d_y of layer k."""
        for k in reversed(range(1, len(self.layers))):
            self.layers[k].backward(h[k - 1], h[k], out[k])
            self.layers[k].backward_to_input(out[k], out=out[k - 1])
        self.layers[0].backward(x, h[0], out[0])

    def backward_to_input(self, d_y: Sequence[Array], out: Array | None = None) -> Array:
        """d_x (B, in) from the d_y of the first layer."""
        return self.layers[0].backward_to_input(d_y[0], out=out)


@kernels.fused
def reparameterize(mu: Array, log_var: Array, epsilon: Array, out: Array) -> None:
    """z = mu + sigma * epsilon into out, all (B, Z), where epsilon is standard normal noise.

    log_var is log sigma^2, so sigma = exp(0.5 * log_var): above 0, whatever number a layer gives.
    z is a draw from N(mu, sigma^2), yet the noise comes from outside: mu and sigma are ordinary
    inputs with ordinary derivatives (Kingma and Welling 2014, section 2.4).
    """
    np.add(mu, np.exp(0.5 * log_var) * epsilon, out=out)


def reparameterize_backward(d_z: Array, log_var: Array, epsilon: Array) -> tuple[Array, Array]:
    """d_mu = d_z and d_log_var = d_z * epsilon * 0.5 * sigma, all (B, Z).

    Because d sigma / d log_var = d exp(0.5 * log_var) / d log_var = 0.5 * sigma.
    """
    return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)
