"""What do all optimizers share? Settings, state, and a walk over the parameters.

This is bookkeeping, kept out of `optimizers.py` so that only the update rules are there: a subclass
names its state and makes a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from npvae.core.parameters import Array, NamedArrays

Self = TypeVar("Self", bound="Optimizer")


@dataclass(eq=False)
class Optimizer:
    """The base of all optimizers; a subclass adds its settings, `state_names` and `step`.

    `state` maps each of state_names to arrays like the parameters; t is the number of steps so far.
    Raises ValueError for settings that make no sense; they may be changed between steps.
    """

    learning_rate: float = 1e-3

    state_names: ClassVar[tuple[str, ...]] = ()  # what is kept for each parameter

    def __post_init__(self) -> None:
        self.t = 0
        self.layout: list[tuple[str, tuple[int, ...]]] = []  # names and shapes, in order
        self.state = {name: NamedArrays({}, float) for name in self.state_names}
        for name, value in asdict(self).items():
            positive = name in ("learning_rate", "eps")
            if not (0 < value < np.inf if positive else 0 <= value < 1):
                raise ValueError(
                    f"{type(self).__name__} needs learning_rate > 0, eps > 0, and all others in "
                    f"[0, 1), not {name} = {value}"
                )

    def step(self, theta: Array, gradient: Array, *state: Array) -> None:
        """Change flat theta, and its state in the order of `state_names`; t counts from 1."""
        raise NotImplementedError

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """One step for every parameter, in place; the same parameters at every call.

        There may be more gradients than parameters: what `parameters` does not name stays as it is.
        Raises ValueError, before anything has changed, if these arrays do not fit together.
        """
        if self.t == 0:
            self.init_state(parameters)
        arrays = [parameters, gradients, *self.state.values()]
        if not all(parameters.keys() <= named.keys() for named in arrays):
            raise ValueError("every parameter needs its gradient, and to be there from the start")
        buffers = [
            named.flat
            for named in arrays
            if isinstance(named, NamedArrays) and [*named.shapes.items()] == self.layout
        ]
        if len(buffers) == len(arrays):  # all in one go
            steps = [flat_views(*buffers)]
        else:
            steps = [flat_views(*(named[name] for named in arrays)) for name in parameters]
        self.t += 1
        for views in steps:
            self.step(*views)

    def init_state(self, parameters: Mapping[str, Array]) -> None:
        """All state is 0 before the first step."""
        self.layout = [(name, theta.shape) for name, theta in parameters.items()]
        dtype = np.result_type(*parameters.values())
        self.state = {name: NamedArrays(dict(self.layout), dtype) for name in self.state_names}

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps as text: name, settings, and the number of steps so far."""
        return {"name": self.name, **asdict(self), "t": self.t}

    @property
    def state_arrays(self) -> dict[str, Array]:
        """What a checkpoint keeps as arrays, such as "adam.m.encoder.mu.W"."""
        return {
            f"{self.name}.{kind}.{name}": array
            for kind, arrays in self.state.items()
            for name, array in arrays.items()
        }

    @classmethod
    def from_state(
        cls: type[Self],
        settings: Mapping[str, Any],
        state_arrays: Mapping[str, Array],
        parameters: Mapping[str, Array],
    ) -> Self:
        """The optimizer of these parameters whose settings and state_arrays were kept.

        Raises KeyError, TypeError or ValueError if they are not those of such an optimizer.
        """
        rates = {name: value for name, value in settings.items() if name not in ("name", "t")}
        optimizer = cls(**rates)
        if int(settings["t"]):
            optimizer.init_state(parameters)
            for kind, arrays in optimizer.state.items():
                for name in parameters:
                    arrays[name] = state_arrays[f"{optimizer.name}.{kind}.{name}"]
        optimizer.t = int(settings["t"])
        return optimizer


def flat_views(theta: Array, gradient: Array, *state: Array) -> list[Array]:
    """All as flat views. Raises ValueError if theta cannot be changed in place by the others."""
    if not theta.flags.c_contiguous or theta.dtype.kind != "f":
        raise ValueError("parameters are changed in place: C-contiguous arrays of floats")
    if gradient.shape != theta.shape:
        raise ValueError(f"a gradient {gradient.shape} for parameters {theta.shape}")
    if any(values.shape != theta.shape for values in state):
        raise ValueError(f"parameters {theta.shape} are not those of the steps before")
    return [array.reshape(-1) for array in (theta, gradient, *state)]
