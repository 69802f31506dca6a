"""How does a gradient become a step?

Adam keeps two running means for every parameter, of the gradient g and of its square:

    m = beta1 * m + (1 - beta1) * g              where is it going
    v = beta2 * v + (1 - beta2) * g^2            how large is it usually
    m_hat = m / (1 - beta1^t)                    both began at 0, so after t steps they are
    v_hat = v / (1 - beta2^t)                    too small by just this much
    theta = theta - learning_rate * m_hat / (sqrt(v_hat) + eps)

(Kingma and Ba 2015, algorithm 1.) Where gradients point the same way, the step is `learning_rate`,
however large or small they are; where they change sign, it is less. Three relatives follow, each
with the lines of its paper. An optimizer knows nothing of models. Next: schedules.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from npvae import kernels
from npvae.arrays import Array, NamedArrays


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
class Optimizer:
    """What all have in common; a subclass adds its settings, what it keeps, and `step`.

    Raises ValueError when made with settings that make no sense; they may be changed between steps.
    """

    learning_rate: float = 1e-3

    kept: ClassVar[tuple[str, ...]] = ()  # the running values of each parameter

    def __post_init__(self) -> None:
        self.t = 0  # steps so far
        self.running = {name: NamedArrays({}, float) for name in self.kept}
        for name, value in asdict(self).items():
            positive = name in ("learning_rate", "eps")
            if not (0 < value < np.inf if positive else 0 <= value < 1):
                raise ValueError(
                    f"{type(self).__name__} needs learning_rate > 0, eps > 0, and all else in "
                    f"[0, 1), not {name} = {value}"
                )

    def step(self, theta: Array, gradient: Array, *running: Array) -> None:
        """Change flat theta, and the running values in the order of `kept`; t counts from 1."""
        raise NotImplementedError

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """One step for every parameter, in place; the same parameters at every call.

        Raises ValueError, before anything has changed, if these arrays do not fit together.
        """
        if self.t == 0:
            self._begin(parameters)
        running = self.running.values()
        if isinstance(parameters, NamedArrays) and isinstance(gradients, NamedArrays):
            fitting = [flat_views(parameters.flat, gradients.flat, *(v.flat for v in running))]
        else:
            fitting = [
                flat_views(theta, gradients[name], *(v[name] for v in running))
                for name, theta in parameters.items()
            ]
        self.t += 1
        for arrays in fitting:
            self.step(*arrays)

    def _begin(self, parameters: Mapping[str, Array]) -> None:
        """All running values are 0 before the first step."""
        shapes = {name: theta.shape for name, theta in parameters.items()}
        dtype = np.result_type(*parameters.values())
        self.running = {name: NamedArrays(shapes, dtype) for name in self.kept}

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps as text: name, settings, and the number of steps so far."""
        return {"name": self.name, **asdict(self), "t": self.t}

    @property
    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps as arrays, such as "adam.m.encoder.mu.W" for m of that one."""
        return {
            f"{self.name}.{kind}.{name}": array
            for kind, values in self.running.items()
            for name, array in values.items()
        }


def flat_views(theta: Array, gradient: Array, *running: Array) -> list[Array]:
    """All as flat views. Raises ValueError if theta cannot be changed in place by the others."""
    if not theta.flags.c_contiguous or theta.dtype.kind != "f":
        raise ValueError("parameters are changed in place: C-contiguous arrays of floats")
    if gradient.shape != theta.shape:
        raise ValueError(f"a gradient {gradient.shape} for parameters {theta.shape}")
    if any(values.shape != theta.shape for values in running):
        raise ValueError(f"parameters {theta.shape} are not those of the steps before")
    return [array.reshape(-1) for array in (theta, gradient, *running)]


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
    large, ten times by default.
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

    Alone among these, its steps grow with the gradients: they are 1 / (1 - momentum) times
    learning_rate times the gradient, as long as that points the same way.
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
        optimizer._begin(parameters)
        for kind, values in optimizer.running.items():
            values.update({key: state[f"{name}.{kind}.{key}"] for key in parameters})
    optimizer.t = t
    return optimizer
