"""What can be set? The defaults are the tutorial's network and 20 epochs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from shlex import quote
from typing import Any

from npvae.core.errors import OptionError
from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS
from npvae.schedules import SCHEDULES

OWN_DATA = ("resize", "invert", "skip_broken")
MOST = 2**53  # of a whole number: up to here floats are exact


@dataclass(frozen=True)
class Settings:
    """Everything that determines the result of a training run, as plain data."""

    dataset: str = "auto"
    extra_data: str = ""  # a dataset whose training images are added
    resize: bool = False  # scale the user's own pictures to 28 x 28
    invert: bool = False  # swap their black and white
    skip_broken: bool = False  # omit those that cannot be read
    augment: tuple[str, ...] = ()  # what is done to each training image, some of AUGMENTATIONS
    conditional: bool = False  # encoder and decoder are given the class of each image
    latent_dim: int = 10
    hidden_dims: tuple[int, ...] = (128,)
    activation: str = "relu"
    epochs: int = 20
    batch_size: int = 512
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"  # of the learning rate
    warmup: float = 0.0  # epochs in which the learning rate rises from 0
    beta: float = 1.0
    kl_warmup: float = 0.0  # epochs in which beta rises from 0
    validation: int = 0  # training images held out, to choose the best epoch by
    seed: int = 0
    pictures_every: int = 1  # epochs between pictures, 0 for none

    def __post_init__(self) -> None:
        """Raise ValueError for what no command line can give."""
        words: dict[str, Collection[str]] = {
            "activation": ACTIVATIONS,
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
        }
        at_least_1 = (self.latent_dim, self.epochs, self.batch_size, *self.hidden_dims)
        at_least_0 = (self.validation, self.seed, self.pictures_every)
        rates = (self.learning_rate, self.warmup, self.beta, self.kl_warmup)
        sound = (
            all(is_like(getattr(self, field.name), field.default) for field in fields(self))
            and all(type(n) is int and n >= 1 for n in at_least_1)
            and all(n >= 0 for n in at_least_0)
            and all(n < MOST for n in (*at_least_1, *at_least_0))
            and all(0 <= rate <= sys.float_info.max for rate in rates)
            and self.learning_rate > 0
            and all(getattr(self, name) in known for name, known in words.items())
            and set(self.augment) <= set(AUGMENTATIONS)
            and bool(self.dataset and self.hidden_dims)
        )
        if not sound:
            raise ValueError(f"no run can have these settings: {self}")

    @property
    def own_data(self) -> dict[str, bool]:
        """What is done to the user's own pictures, as `load_dataset` takes it."""
        return {name: getattr(self, name) for name in OWN_DATA}

    def as_dict(self) -> dict[str, Any]:
        return {name: as_json(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**known)

    def options(self) -> str:
        """The options of train.py that give these settings: those that are not the default."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words += [option(field.name), *([] if value is True else [quote(spelled(value))])]
        return " ".join(words)

    def without_effect(self, steps: int) -> list[str]:
        """Which of these settings change nothing, or not in full, in epochs of so many steps."""
        words = []
        if self.warmup > self.epochs:
            share = f"{self.epochs / self.warmup:.0%} of the learning rate"
            words.append(
                f"--warmup {self.warmup:g} is longer than the run: at most {share} is reached"
            )
        if 0 < self.warmup * steps <= 1:
            words.append(f"--warmup {self.warmup:g} changes nothing: one batch is longer")
        if self.kl_warmup and self.beta == 0:
            words.append(f"--kl-warmup {self.kl_warmup:g} changes nothing: beta is 0")
        elif self.kl_warmup > self.epochs:
            share = f"{self.epochs / self.kl_warmup:.0%} of beta"
            words.append(
                f"--kl-warmup {self.kl_warmup:g} is longer than the run: at most {share} is reached"
            )
        if self.pictures_every > self.epochs:
            words.append(f"--pictures-every {self.pictures_every} gives no pictures in this run")
        return words

    def resumed(self, given: Mapping[str, Any], epochs_done: int) -> Settings:
        """These settings with the changes that a run allows when it is resumed.

        More epochs and other pictures change nothing of what is there, and a dataset may have moved
        as long as its bytes are the same. Raises OptionError for anything else: the run would no
        longer be the one that its folder says it is. A schedule depends on the number of epochs.
        """
        free = {"pictures_every", "dataset", "extra_data"}
        if self.schedule == "constant":
            free.add("epochs")
        for name, value in given.items():
            if name not in free and value != getattr(self, name):
                why = f"The {self.schedule} schedule depends on it. " if name == "epochs" else ""
                before = getattr(self, name)
                began = f"with {spelled(before) or 'none'}, not {spelled(value) or 'none'}"
                if type(before) is bool:
                    began = "with it" if before else "without it"
                raise OptionError(
                    f"{option(name)} cannot change when a run is resumed: it began {began}.\n"
                    f"{why}Omit {option(name)}, or start a new run."
                )
        settings = replace(self, **given)
        if settings.epochs <= epochs_done:
            more = f"Ask for more with --epochs {epochs_done + 10}"
            if "epochs" not in free:
                more = f"Its {self.schedule} schedule ends there: for more, start a new run."
            raise OptionError(
                f"the run has {epochs_done} epoch{'s' * (epochs_done > 1)} already, so there is "
                f"nothing to do up to epoch {settings.epochs}.\n{more}"
            )
        return settings


def is_like(value: object, default: object) -> bool:
    """Whether both are of one type; a whole number may stand for a float."""
    number = type(default) is float and type(value) is not bool and isinstance(value, int | float)
    return number or type(value) is type(default)


def option(name: str) -> str:
    """The option of train.py for a setting."""
    return "--hidden" if name == "hidden_dims" else f"--{name.replace('_', '-')}"


def spelled(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def as_json(value: Any) -> Any:
    """What JSON makes of a value: it has no tuples."""
    return list(value) if isinstance(value, tuple) else value


# Whole settings by name, for --preset; USE.md lists the loss of each.
PRESETS = {
    "tutorial": Settings("fashion-mnist", epochs=100),
    "vae-generate": Settings("mnist", hidden_dims=(256,), latent_dim=64, batch_size=64),
    "vae-opt": Settings("mnist", hidden_dims=(256, 256), latent_dim=64, batch_size=64),
    "tuned": Settings(
        "fashion-mnist",
        epochs=40,
        batch_size=32,
        learning_rate=3e-3,
        schedule="cosine",
        warmup=1.0,
    ),
    "best": Settings(
        "fashion-mnist",
        hidden_dims=(512, 256),
        latent_dim=20,
        epochs=32,
        batch_size=128,
        learning_rate=3e-3,
        schedule="cosine",
        warmup=1.0,
    ),
}
