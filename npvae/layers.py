"""What is the network made of?

    Dense            y = x @ W + b
    activations      h = relu(y) and its relatives: without them, all layers collapse into one
    MLP              Dense and activation, several times in a row
    reparameterize   z = mu + sigma * epsilon: a random draw that you can differentiate

Each forward stands directly above its backward, which turns the gradient of the output into that of
the input. `d_y` is d loss / d y, shaped like y, and so on for every name. Next: model.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from npvae.core.parameters import Array, FixedAttributes, NamedArrays


class Dense(FixedAttributes):
    """y = x @ W + b for a batch of B images: x (B, in), W (in, out), b (out,), y (B, out)."""

    def __init__(self, parameters: NamedArrays, gradients: NamedArrays, name: str) -> None:
        self.W, self.b = parameters[f"{name}.W"], parameters[f"{name}.b"]
        self.d_W, self.d_b = gradients[f"{name}.W"], gradients[f"{name}.b"]

    def initialize(self, rng: np.random.Generator) -> None:
        """Glorot-uniform weights, zero biases: signals and gradients keep their size.

        W ~ U(-limit, limit), so Var(W) = limit^2 / 3 = 2 / (in + out), a compromise: 1/in would
        keep the size of x @ W, and 1/out that of d_y @ W.T (Glorot and Bengio 2010, eq. 16).
        """
        limit = np.sqrt(6 / sum(self.W.shape))
        self.W[:] = rng.uniform(-limit, limit, self.W.shape)
        self.b[:] = 0

    def forward(self, x: Array) -> Array:
        """y (B, out) for x (B, in)."""
        return x @ self.W + self.b

    def backward(self, x: Array, d_y: Array) -> Array:
        """Overwrites d_W and d_b and returns d_x (B, in), given the x of the forward pass.

        Write y = x @ W + b in indices: y[n, j] = sum_i x[n, i] W[i, j] + b[j]. Then

            d_W[i, j] = sum_n x[n, i] d_y[n, j]      which is x.T @ d_y
            d_b[j]    = sum_n d_y[n, j]              the sum over the batch
            d_x[n, i] = sum_j d_y[n, j] W[i, j]      which is d_y @ W.T
        """
        self.d_W[:] = x.T @ d_y
        self.d_b[:] = d_y.sum(axis=0)
        return d_y @ self.W.T


def relu(y: Array) -> Array:
    """h = max(y, 0)."""
    return np.maximum(y, 0)


def relu_backward(y: Array, d_h: Array) -> Array:
    """d_y = d_h where y > 0, else 0; at the kink itself, y = 0, we take 0."""
    return d_h * (y > 0)


def leaky_relu(y: Array) -> Array:
    """h = max(y, 0.01 y): a unit that is off still learns a little."""
    return np.maximum(y, 0.01 * y)


def leaky_relu_backward(y: Array, d_h: Array) -> Array:
    """d_y = d_h where y > 0, else 0.01 d_h; at the kink itself, y = 0, we take 0.01."""
    return np.where(y > 0, d_h, 0.01 * d_h)


def elu(y: Array) -> Array:
    """h = y where y > 0, else exp(y) - 1; the slopes meet at 0 (Clevert et al. 2016, eq. 15)."""
    return np.where(y > 0, y, np.expm1(np.minimum(y, 0)))


def elu_backward(y: Array, d_h: Array) -> Array:
    """d_y = d_h where y > 0, else d_h * exp(y)."""
    return d_h * np.exp(np.minimum(y, 0))


def tanh(y: Array) -> Array:
    """h = tanh(y), between -1 and 1."""
    return np.tanh(y)


def tanh_backward(y: Array, d_h: Array) -> Array:
    """d_y = d_h * (1 - h^2), because tanh' = 1 - tanh^2."""
    return d_h * (1 - np.tanh(y) ** 2)


class Activation(NamedTuple):
    """An elementwise function and its gradient."""

    forward: Callable[[Array], Array]  # h from y
    backward: Callable[[Array, Array], Array]  # d_y from y and d_h


ACTIVATIONS = {
    "relu": Activation(relu, relu_backward),
    "leaky_relu": Activation(leaky_relu, leaky_relu_backward),
    "elu": Activation(elu, elu_backward),
    "tanh": Activation(tanh, tanh_backward),
}


class MLP(FixedAttributes):
    """A multi-layer perceptron: Dense and activation in turn, each fed by the one before."""

    def __init__(self, layers: Sequence[Dense], activation: Activation) -> None:
        self.layers, self.activation = tuple(layers), activation

    def forward(self, x: Array) -> tuple[list[Array], list[Array]]:
        """y and h of every layer; h[-1] is the result."""
        y, h = [], []
        for layer in self.layers:
            y.append(layer.forward(x))
            h.append(self.activation.forward(y[-1]))
            x = h[-1]
        return y, h

    def backward(self, x: Array, y: Sequence[Array], h: Sequence[Array], d_h: Array) -> Array:
        """d_x from d_h of the last layer; sets d_W and d_b of every layer on the way."""
        inputs = [x, *h[:-1]]
        for k in reversed(range(len(self.layers))):
            d_y = self.activation.backward(y[k], d_h)
            d_x = self.layers[k].backward(inputs[k], d_y)
            d_h = d_x  # the input of this layer is the h of the layer before
        return d_x


def reparameterize(mu: Array, log_var: Array, epsilon: Array) -> Array:
    """z = mu + sigma * epsilon, all (B, Z), where epsilon is standard normal noise.

    log_var is log sigma^2, so sigma = exp(0.5 * log_var) > 0. z is a draw from N(mu, sigma^2), but
    the noise comes from outside: mu and sigma have derivatives (Kingma and Welling 2014, 2.4).
    """
    return mu + np.exp(0.5 * log_var) * epsilon


def reparameterize_backward(d_z: Array, log_var: Array, epsilon: Array) -> tuple[Array, Array]:
    """d_mu = d_z and d_log_var = d_z * epsilon * 0.5 * sigma, all (B, Z).

    Here d sigma / d log_var = d exp(0.5 * log_var) / d log_var = 0.5 * sigma.
    """
    return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)
