"""What can be set, and to what it is set if nobody says otherwise: the tutorial's own settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from npvae.errors import OptionError


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training run computes, as plain data."""

    dataset: str = "auto"
    latent_dim: int = 10
    hidden_dims: tuple[int, ...] = (128,)
    epochs: int = 20
    batch_size: int = 512
    learning_rate: float = 1e-3
    beta: float = 1.0
    validation: int = 0  # training images held out, to choose the best epoch by
    seed: int = 0
    pictures_every: int = 1  # epochs between pictures, 0 for none

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hidden_dims": list(self.hidden_dims)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        return cls(**{**values, "hidden_dims": tuple(values["hidden_dims"])})

    def resumed(self, given: Mapping[str, Any], epochs_done: int) -> Settings:
        """These settings with the changes that a run allows when it is taken up again.

        More epochs and other pictures change nothing of what is there, and a dataset may have moved
        as long as its bytes are the same. Raises OptionError for anything else: the run would no
        longer be the one that its folder says it is.
        """
        for name, value in given.items():
            if name not in ("epochs", "pictures_every", "dataset") and value != getattr(self, name):
                option = "--hidden" if name == "hidden_dims" else f"--{name.replace('_', '-')}"
                raise OptionError(
                    f"{option} cannot change when a run is resumed: it began with "
                    f"{getattr(self, name)}, not {value}.\nLeave {option} away, or start a new run."
                )
        settings = replace(self, **given)
        if settings.epochs <= epochs_done:
            raise OptionError(
                f"the run has {epochs_done} epochs already, so there is nothing to do up to epoch "
                f"{settings.epochs}.\nAsk for more with --epochs {epochs_done + 10}"
            )
        return settings
