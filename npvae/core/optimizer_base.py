"""What do all optimizers share? Settings, state, and a walk over the parameters.

This is bookkeeping, kept out of `optimizers.py` so that only the update rules are there: a subclass
names its state and makes a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from npvae.core.parameters import Array, FixedAttributes, FixedNames, NamedArrays

Self = TypeVar("Self", bound="Optimizer")


@dataclass(eq=False)
class Optimizer(FixedAttributes):
    """The base of all optimizers; a subclass adds its settings, `state_names` and `step`.

    `state` maps each of state_names to arrays like the parameters; t is the number of steps so far.
    An optimizer serves one model: see `bind`. A copy (deepcopy, pickle) serves the model of its
    next update. Raises ValueError for settings that make no sense; they may be changed between
    steps.
    """

    learning_rate: float = 1e-3

    state_names: ClassVar[tuple[str, ...]] = ()  # what is kept for each parameter
    fixed = ("state",)

    def __post_init__(self) -> None:
        self.t = 0
        self._served: Mapping[str, Array] | None = None  # its model's parameters
        self.state = FixedNames({name: NamedArrays({}, float) for name in self.state_names})
        for name, value in asdict(self).items():
            positive = name in ("learning_rate", "eps")
            if not (0 < value < np.inf if positive else 0 <= value < 1):
                raise ValueError(
                    f"{type(self).__name__} needs learning_rate > 0, eps > 0, and all others in "
                    f"[0, 1), not {name} = {value}"
                )

    def step(self, theta: Array, gradient: Array, *state: Any, **none: Any) -> None:
        """Change flat theta and its state, arrays named by `state_names`; t counts from 1."""
        raise NotImplementedError

    def update(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """One step for every parameter, in place; the parameters of one model at every call.

        There may be more gradients than parameters: what `parameters` does not name stays as it is.
        Raises ValueError, before anything has changed, if these arrays do not fit together, and as
        `bind` does.
        """
        self.bind(parameters)
        if not parameters.keys() <= gradients.keys():
            raise ValueError("every parameter needs its gradient")
        arrays = [parameters, gradients, *self.state.values()]
        buffers = [
            named.flat
            for named in arrays
            if isinstance(named, NamedArrays) and in_rows(parameters, named)
        ]
        if len(buffers) == len(arrays):  # all in one go
            steps = [flat_views(*buffers)]
        else:
            steps = [flat_views(*(named[name] for named in arrays)) for name in parameters]
        self.t += 1
        for views in steps:
            self.step(*views)

    def bind(self, parameters: Mapping[str, Array]) -> None:
        """Serve the model with these parameters: the same memory, under any mapping.

        Then each of `state` has an array of the same shape for each of them; for NamedArrays it has
        the same layout and dtype, so that the two `flat` correspond. Raises ValueError if steps
        were made for another model, even one of the same sizes.
        """
        if self.t == 0:
            self.init_state(parameters)
        known = parameters if self._served is None else self._served
        same = parameters is known or all(
            name in known and np.may_share_memory(theta, known[name])
            for name, theta in parameters.items()
        )
        if not same or not all(fits(parameters, arrays) for arrays in self.state.values()):
            raise ValueError(
                "this optimizer has made steps for another model, or for fewer of its parameters.\n"
                f"Make a new one for each model, such as {type(self).__name__}()."
            )
        self._served = known

    def init_state(self, parameters: Mapping[str, Array]) -> None:
        """All state is 0 before the first step."""
        shapes = {name: theta.shape for name, theta in parameters.items()}
        dtype = np.result_type(*parameters.values())
        state = {name: NamedArrays(shapes, dtype) for name in self.state_names}
        vars(self)["state"] = FixedNames(state)  # in place of the one before
        self._served = parameters

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: state of its own, and no model yet."""
        state = FixedNames({name: arrays.copy() for name, arrays in self.state.items()})
        return {**vars(self), "state": state, "_served": None}

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


def in_rows(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether both are NamedArrays of the same layout, so that their `flat` correspond."""
    layouts = [[*a.shapes.items()] for a in (one, other) if isinstance(a, NamedArrays)]
    return len(layouts) == 2 and layouts[0] == layouts[1]


def fits(parameters: Mapping[str, Array], state: NamedArrays) -> bool:
    """Whether state has an array like each of the parameters: in a row, if these are in one."""
    if isinstance(parameters, NamedArrays):
        return in_rows(parameters, state) and parameters.flat.dtype == state.flat.dtype
    return {name: theta.shape for name, theta in parameters.items()}.items() <= state.shapes.items()


def flat_views(theta: Array, gradient: Array, *state: Array) -> list[Array]:
    """All as flat views. Raises ValueError if theta cannot be changed in place by the gradient."""
    if not theta.flags.carray or theta.dtype.kind != "f":
        raise ValueError("parameters are changed in place: writable, C-contiguous arrays of floats")
    if gradient.shape != theta.shape:
        raise ValueError(f"a gradient {gradient.shape} for parameters {theta.shape}")
    return [array.reshape(-1) for array in (theta, gradient, *state)]
