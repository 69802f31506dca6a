"""How does a gradient become a step?

Adam keeps two running means for every parameter, of the gradient g and of its square:

    m = beta1 * m + (1 - beta1) * g              where is it going
    v = beta2 * v + (1 - beta2) * g^2            how large is it usually
    m_hat = m / (1 - beta1^t)                    both began at 0, so after t steps they are
    v_hat = v / (1 - beta2^t)                    too small by just this factor
    theta = theta - learning_rate * m_hat / (sqrt(v_hat) + eps)

(Kingma and Ba 2015, algorithm 1.) Where gradients point the same way, the step is `learning_rate`,
however large or small they are; where they change sign, it is less. Three relatives follow, in the
form that PyTorch gives them. `step` is all there is to an optimizer: `update`, which calls it for
every parameter, is in optimizer_base.py. An optimizer knows nothing of models. Next: schedules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.fast import kernels


@kernels.fused
def adam_step(
    theta: Array,
    gradient: Array,
    m: Array,
    v: Array,
    t: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """The five lines above for flat arrays: step number t = 1, 2, ... changes theta, m and v."""
    m[:] = beta1 * m + (1 - beta1) * gradient
    v[:] = beta2 * v + (1 - beta2) * gradient**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    theta -= learning_rate * m_hat / (np.sqrt(v_hat) + eps)


@dataclass(eq=False)
class Adam(Optimizer):
    """Adaptive moments, with the defaults of the paper: see above."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    kept = ("m", "v")

    def step(self, theta: Array, gradient: Array, *running: Array) -> None:
        m, v = running
        rates = self.learning_rate, self.beta1, self.beta2, self.eps
        adam_step(theta, gradient, m, v, self.t, *rates)


class Adamax(Adam):
    """Adam with the largest gradient of late in place of the root of the mean square.

    (Kingma and Ba 2015, algorithm 2. There, a gradient that was always 0 makes 0 / 0, and such
    there are: of pixels that are never white. As in PyTorch, eps is added.)
    """

    kept = ("m", "u")

    def step(self, theta: Array, gradient: Array, *running: Array) -> None:
        m, u = running
        m[:] = self.beta1 * m + (1 - self.beta1) * gradient
        u[:] = np.maximum(self.beta2 * u, np.abs(gradient) + self.eps)
        theta -= self.learning_rate / (1 - self.beta1**self.t) * m / u


@dataclass(eq=False)
class RMSProp(Optimizer):
    """Each gradient divided by the root of its running mean square (Hinton 2012, lecture 6e).

    Not corrected for having begun at 0: the first steps are up to 1 / sqrt(1 - decay) times as
    large, ten times by default. (That is PyTorch's decay; the lecture has 0.9.)
    """

    decay: float = 0.99
    eps: float = 1e-8

    kept = ("v",)

    def step(self, theta: Array, gradient: Array, *running: Array) -> None:
        (v,) = running
        v[:] = self.decay * v + (1 - self.decay) * gradient**2
        theta -= self.learning_rate * gradient / (np.sqrt(v) + self.eps)


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum: a ball rolling downhill (Polyak 1964).

    Alone among these, its steps grow with the gradients: while those stay the same, they approach
    1 / (1 - momentum) times learning_rate times the gradient. (What is carried over is a sum of
    gradients; Polyak's is the last step. The two differ while the learning rate changes.)
    """

    momentum: float = 0.9

    kept = ("velocity",)

    def step(self, theta: Array, gradient: Array, *running: Array) -> None:
        (velocity,) = running
        velocity[:] = self.momentum * velocity + gradient
        theta -= self.learning_rate * velocity


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamax": Adamax,
    "rmsprop": RMSProp,
    "sgd": SGD,
}


def restored(
    settings: Mapping[str, Any], state: Mapping[str, Array], parameters: Mapping[str, Array]
) -> Optimizer:
    """The optimizer of these parameters whose `settings` and `state` were kept, to go on with.

    Raises KeyError, TypeError or ValueError if they are not those of an optimizer.
    """
    rates = dict(settings)
    name, t = rates.pop("name", "adam"), int(rates.pop("t"))
    optimizer = OPTIMIZERS[name](**rates)
    if t:
        optimizer.begin(parameters)
        for kind, values in optimizer.running.items():
            values.update({key: state[f"{name}.{kind}.{key}"] for key in parameters})
    optimizer.t = t
    return optimizer
