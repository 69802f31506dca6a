"""How does a gradient become a step?

Adam keeps two running means for every parameter, of the gradient g and of its square:

    m = beta1 * m + (1 - beta1) * g              where is it going
    v = beta2 * v + (1 - beta2) * g^2            how large is it usually
    m_hat = m / (1 - beta1^t)                    both began at 0, so after t steps they are
    v_hat = v / (1 - beta2^t)                    too small by just this much
    theta = theta - learning_rate * m_hat / (sqrt(v_hat) + eps)

(Kingma and Ba 2015, algorithm 1.) Where gradients point the same way, the step is `learning_rate`,
however large or small they are; where they change sign, it is less. An optimizer knows nothing of
models. Next: training.py.
"""

from __future__ import annotations

from collections.abc import Mapping

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


class Adam:
    """Adam with the defaults of its paper, for any arrays by name."""

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        if not (learning_rate > 0 and 0 <= beta1 < 1 and 0 <= beta2 < 1 and eps > 0):
            raise ValueError(
                "Adam needs learning_rate > 0, beta1 and beta2 in [0, 1) and eps > 0, not "
                f"{learning_rate}, {beta1}, {beta2}, {eps}"
            )
        self.learning_rate, self.beta1, self.beta2, self.eps = learning_rate, beta1, beta2, eps
        self.t = 0
        self.m = self.v = NamedArrays({}, float)

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """One step for every parameter, in place; the same parameters at every call."""
        if self.t == 0:
            self._begin(parameters)
        if isinstance(parameters, NamedArrays) and isinstance(gradients, NamedArrays):
            self._step(parameters.flat, gradients.flat, self.m.flat, self.v.flat)
        else:
            for name, theta in parameters.items():
                self._step(theta, gradients[name], self.m[name], self.v[name])
        self.t += 1

    def _begin(self, parameters: Mapping[str, Array]) -> None:
        shapes = {name: theta.shape for name, theta in parameters.items()}
        dtype = np.result_type(*parameters.values())
        self.m, self.v = NamedArrays(shapes, dtype), NamedArrays(shapes, dtype)

    def _step(self, theta: Array, gradient: Array, m: Array, v: Array) -> None:
        if not theta.flags.c_contiguous or theta.dtype.kind != "f":
            raise ValueError("Adam changes parameters in place: C-contiguous arrays of floats")
        if gradient.shape != theta.shape:
            raise ValueError(f"a gradient {gradient.shape} for parameters {theta.shape}")
        theta, gradient, m, v = (array.reshape(-1) for array in (theta, gradient, m, v))
        rates = self.learning_rate, self.beta1, self.beta2, self.eps
        adam_step(theta, gradient, m, v, self.t + 1, *rates)

    @classmethod
    def restored(cls, settings: Mapping[str, float], arrays: Mapping[str, Array]) -> Adam:
        """The optimizer whose `settings` and `state` are given, ready for the next step."""
        adam = cls(*(settings[name] for name in ("learning_rate", "beta1", "beta2", "eps")))
        names = [name.removeprefix("adam.m.") for name in arrays if name.startswith("adam.m.")]
        if names:
            adam._begin({name: arrays[f"adam.m.{name}"] for name in names})
        for name in names:
            adam.m[name], adam.v[name] = arrays[f"adam.m.{name}"], arrays[f"adam.v.{name}"]
        adam.t = int(settings["t"])
        return adam

    @property
    def settings(self) -> dict[str, float]:
        """What a checkpoint keeps as text: the settings, and the number of steps so far."""
        names = ("learning_rate", "beta1", "beta2", "eps", "t")
        return {name: getattr(self, name) for name in names}

    @property
    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps as arrays: both running means, by the names of the parameters."""
        return {
            **{f"adam.m.{name}": m for name, m in self.m.items()},
            **{f"adam.v.{name}": v for name, v in self.v.items()},
        }
