"""What can be set, and to what it is set if nobody says otherwise: the tutorial's own settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
    seed: int = 0
    pictures_every: int = 1  # epochs between pictures, 0 for none

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
