"""What can be set? The defaults are the tutorial's network and 20 epochs.

Each field of `Settings` is an option of train.py: its default, its help and what it can be.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from shlex import join
from typing import Any

from npvae.core.errors import OptionError
from npvae.core.option_types import number, sizes, some_of, some_text, whole_number
from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS
from npvae.schedules import SCHEDULES

OWN_DATA = ("resize", "invert", "skip_broken")


def setting(default: Any, help: str = "", free: bool = False, names: str = "", **how: Any) -> Any:
    """A field of Settings. argparse reads its option as `how` says: type or choices, and so on.

    A resumed run may change it if it is `free`. `names` are those of the option where they are not
    the field's own. Options that other commands have, too, get their help in commands/cli.py.
    """
    if default is False:
        how["action"] = "store_true"
    elif "type" in how:
        how.setdefault("metavar", "N")
    return field(default=default, metadata={"help": help, "free": free, "names": names, "how": how})


@dataclass(frozen=True)
class Settings:
    """Everything that determines the result of a training run, as plain data."""

    dataset: str = setting("auto", free=True, type=some_text)
    extra_data: str = setting(
        "", "a dataset whose training images are added", free=True, type=some_text, metavar="NAME"
    )
    resize: bool = setting(False)  # scale the user's own pictures to 28 x 28
    invert: bool = setting(False)  # swap their black and white
    skip_broken: bool = setting(False)  # omit those that cannot be read
    augment: tuple[str, ...] = setting(
        (),
        f"move each training image at random: some of {','.join(AUGMENTATIONS)}",
        type=some_of(AUGMENTATIONS),
        metavar="WAYS",
    )
    conditional: bool = setting(False, "encoder and decoder are given the class of each image")
    latent_dim: int = setting(10, "size of the latent code z", type=whole_number(1))
    hidden_dims: tuple[int, ...] = setting(
        (128,), "sizes of the encoder's hidden layers", names="--hidden", type=sizes
    )
    activation: str = setting("relu", "activation of the hidden layers", choices=ACTIVATIONS)
    epochs: int = setting(20, "passes over the training images", free=True, type=whole_number(1))
    batch_size: int = setting(512, "images per mini-batch", type=whole_number(1))
    optimizer: str = setting("adam", "how a gradient becomes a step", choices=OPTIMIZERS)
    learning_rate: float = setting(
        1e-3,
        "size of the optimizer's steps",
        names="--learning-rate --lr",
        type=number(0, above=True),
    )
    schedule: str = setting("constant", "how the learning rate decreases", choices=SCHEDULES)
    warmup: float = setting(0.0, "epochs in which the learning rate rises from 0", type=number(0))
    beta: float = setting(1.0, "weight of the KL divergence", type=number(0))
    kl_warmup: float = setting(0.0, "epochs in which beta rises from 0", type=number(0))
    validation: int = setting(0, "training images held out for validation", type=whole_number(0))
    seed: int = setting(0, type=whole_number(0))
    pictures_every: int = setting(
        1, "epochs between pictures, 0 for none", free=True, type=whole_number(0)
    )

    def __post_init__(self) -> None:
        """Raise ValueError for what no command line can give."""
        if not all(can_be(getattr(self, field.name), field) for field in fields(self)):
            raise ValueError(f"no run can have these settings: {self}")

    @property
    def own_data(self) -> dict[str, bool]:
        """What is done to the user's own pictures, as `load_dataset` takes it."""
        return {name: getattr(self, name) for name in OWN_DATA}

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold: it has no tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**known)

    def words(self, base: Settings | None = None) -> list[str]:
        """The options of train.py that make these settings of `base`, by default the defaults."""
        words = []
        for name, (_, value) in differences(vars(base or Settings()), vars(self)).items():
            words += [option(name), *([] if value is True else [spelled(value)])]
        return words

    def options(self) -> str:
        """The same as one line for a shell."""
        return join(self.words())

    def resumed(self, given: Mapping[str, Any], epochs_done: int) -> Settings:
        """These settings with the changes that a run allows when it is resumed.

        More epochs and other pictures change nothing of what is there, and a dataset may have moved
        as long as its bytes are the same. Raises OptionError for anything else: the run would no
        longer be the one that its folder says it is. A schedule depends on the number of epochs.
        """
        free = {field.name for field in fields(self) if field.metadata["free"]}
        if self.schedule != "constant":
            free.remove("epochs")
        for name, (before, value) in differences(vars(self), {**vars(self), **given}).items():
            if name not in free:
                why = f"The {self.schedule} schedule depends on it. " if name == "epochs" else ""
                began = f"with {shown(before)}, not {shown(value)}"
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


def differences(*several: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What is not the same in all of these: the name, and the value in each (None: it has none)."""
    names = dict.fromkeys(name for one in several for name in one)
    values = {name: [one.get(name) for one in several] for name in names}
    return {name: them for name, them in values.items() if any(v != them[0] for v in them)}


def can_be(value: object, field: Field[Any]) -> bool:
    """Whether a command line can give this value to a field, or it is the default."""
    how, kind = field.metadata["how"], type(field.default)
    whole_or_numpy = kind is float and isinstance(value, int | float) and type(value) is not bool
    if type(value) is not kind and not whole_or_numpy:
        return False
    if "choices" in how:
        return value in how["choices"]
    if value == field.default or "type" not in how:
        return True
    try:
        read = how["type"](spelled(value))
    except ArgumentTypeError:
        return False
    return read == value or isinstance(value, str)  # ~ in a path is expanded


def options_of(name: str) -> list[str]:
    """All names of the option of train.py for a setting."""
    names: str = Settings.__dataclass_fields__[name].metadata["names"]
    return names.split() or [f"--{name.replace('_', '-')}"]


def option(name: str) -> str:
    """Its first name."""
    return options_of(name)[0]


def spelled(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)


def shown(value: Any) -> str:
    """The same for people: yes or no, and none where nothing is chosen."""
    return {True: "yes", False: "no"}[value] if type(value) is bool else spelled(value) or "none"


# Whole settings by name, for --preset; USE.md lists the loss of each.
PRESETS = {
    "tutorial": Settings("fashion-mnist", epochs=100),
    "vae-generate": Settings("mnist", hidden_dims=(256,), latent_dim=64, batch_size=64),
    "vae-opt": Settings("mnist", hidden_dims=(256, 256), latent_dim=64, batch_size=64),
    "tuned": Settings(
        "fashion-mnist", epochs=40, batch_size=32, learning_rate=3e-3, schedule="cosine", warmup=1.0
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
