"""How does a gradient become a step?

Adam keeps two running means for every parameter theta, of its gradient and of the square of it:

    m = beta1 * m + (1 - beta1) * gradient          which direction?
    v = beta2 * v + (1 - beta2) * gradient^2        how large, usually?
    m_hat = m / (1 - beta1^t)                       m and v begin at 0, so after t steps they are
    v_hat = v / (1 - beta2^t)                       too small by exactly this factor
    theta = theta - learning_rate * m_hat / (sqrt(v_hat) + eps)

(Kingma and Ba 2015, algorithm 1.) While a gradient stays the same, each step has the size of
`learning_rate`, however large or small the gradient is. Where its sign changes, steps are smaller.
Relatives follow, as in PyTorch. `update`, in core/optimizer_base.py, calls `step`. Next: schedules.
"""

from dataclasses import dataclass

import numpy as np

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array


@dataclass(eq=False)
class Adam(Optimizer):
    """Adaptive moments, with the defaults of the paper: see above."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    state_names = ("m", "v")

    def step(self, theta: Array, gradient: Array, m: Array, v: Array) -> None:
        m[:] = self.beta1 * m + (1 - self.beta1) * gradient
        v[:] = self.beta2 * v + (1 - self.beta2) * gradient**2
        m_hat = m / (1 - self.beta1**self.t)
        v_hat = v / (1 - self.beta2**self.t)
        theta -= self.learning_rate * m_hat / (np.sqrt(v_hat) + self.eps)


class Adamax(Adam):
    """Adam with the largest recent gradient, u, as the scale (Kingma and Ba 2015, algorithm 2).

    As in PyTorch, eps is added to the gradient, because some gradients are always 0.
    """

    state_names = ("m", "u")

    def step(self, theta: Array, gradient: Array, m: Array, u: Array) -> None:
        m[:] = self.beta1 * m + (1 - self.beta1) * gradient
        u[:] = np.maximum(self.beta2 * u, np.abs(gradient) + self.eps)
        theta -= self.learning_rate / (1 - self.beta1**self.t) * m / u


@dataclass(eq=False)
class RMSProp(Optimizer):
    """The gradient divided by the root of its running mean square (Hinton 2012, lecture 6e).

    v starts at 0 and is not corrected for it: the first steps are up to 1 / sqrt(1 - decay) times
    as large. (The decay is PyTorch's; the lecture has 0.9.)
    """

    decay: float = 0.99
    eps: float = 1e-8
    state_names = ("v",)

    def step(self, theta: Array, gradient: Array, v: Array) -> None:
        v[:] = self.decay * v + (1 - self.decay) * gradient**2
        theta -= self.learning_rate * gradient / (np.sqrt(v) + self.eps)


@dataclass(eq=False)
class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964): steps up to 1 / (1 - momentum) times longer."""

    momentum: float = 0.9
    state_names = ("velocity",)

    def step(self, theta: Array, gradient: Array, velocity: Array) -> None:
        velocity[:] = self.momentum * velocity + gradient
        theta -= self.learning_rate * velocity


KINDS: list[type[Optimizer]] = [Adam, Adamax, RMSProp, SGD]
OPTIMIZERS = {kind.__name__.lower(): kind for kind in KINDS}
