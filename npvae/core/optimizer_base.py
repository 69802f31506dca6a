"""What have all optimizers in common? Settings, running values, and a walk over the parameters.

Here is what stands in the way of the lesson, which is optimizers.py: a subclass there says what it
keeps for each parameter, and how it makes a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from npvae.core.parameters import Array, NamedArrays


@dataclass(eq=False)
class Optimizer:
    """What all have in common; a subclass adds its settings, what it keeps, and `step`.

    Raises ValueError when made with settings that make no sense; they may be changed between steps.
    """

    learning_rate: float = 1e-3

    kept: ClassVar[tuple[str, ...]] = ()  # the running values of each parameter

    def __post_init__(self) -> None:
        self.t = 0  # steps so far
        self.layout: list[tuple[str, tuple[int, ...]]] = []  # names and shapes, in order
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

        There may be more gradients than parameters: what is not named in `parameters` stays as it
        is. Raises ValueError, before anything has changed, if these arrays do not fit together.
        """
        if self.t == 0:
            self.begin(parameters)
        together = [parameters, gradients, *self.running.values()]
        if not all(parameters.keys() <= arrays.keys() for arrays in together):
            raise ValueError("every parameter needs its gradient, and to be there from the start")
        buffers = [
            arrays.flat
            for arrays in together
            if isinstance(arrays, NamedArrays) and [*arrays.shapes.items()] == self.layout
        ]
        if len(buffers) == len(together):  # all in one go
            fitting = [flat_views(*buffers)]
        else:
            fitting = [flat_views(*(arrays[name] for arrays in together)) for name in parameters]
        self.t += 1
        for arrays in fitting:
            self.step(*arrays)

    def begin(self, parameters: Mapping[str, Array]) -> None:
        """All running values are 0 before the first step."""
        self.layout = [(name, theta.shape) for name, theta in parameters.items()]
        dtype = np.result_type(*parameters.values())
        self.running = {name: NamedArrays(dict(self.layout), dtype) for name in self.kept}

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
