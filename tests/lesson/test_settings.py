"""Settings as options, as JSON, and as what a run began with: always the same settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from shlex import split
from typing import Any

import numpy as np
import pytest

from npvae.commands import train, training_run
from npvae.core.errors import OptionError
from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS
from npvae.schedules import SCHEDULES
from npvae.settings import PRESETS, Settings, option
from tests.helpers import Said, refused

# Every setting, other than by default.
ODD = Settings(
    dataset="my pictures/it's.npz",
    extra_data="other $HOME.npz",
    resize=True,
    invert=True,
    skip_broken=True,
    augment=("shift", "flip"),
    conditional=True,
    latent_dim=3,
    hidden_dims=(512, 64, 7),
    activation="elu",
    epochs=7,
    batch_size=33,
    optimizer="rmsprop",
    learning_rate=0.00123456789,
    schedule="cosine",
    warmup=0.5,
    beta=0.25,
    kl_warmup=1.75,
    validation=100,
    seed=2**53 - 1,
    pictures_every=0,
)
CONSTANT = replace(ODD, schedule="constant")
EACH = [replace(Settings(), **{field.name: getattr(ODD, field.name)}) for field in fields(Settings)]

Started = Callable[[str], Settings]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """started(command line) is the settings with which train.py would start a run."""
    seen: list[Settings] = []
    # The one function of ours that is not called: otherwise a run would begin.
    monkeypatch.setattr(training_run, "start", lambda chosen, *rest: seen.append(chosen))

    def start(line: str) -> Settings:
        train.main(split(line))
        return seen.pop()

    return start


# ------------------------------------------------------------------ as options, as JSON


def test_odd_settings_are_odd_throughout() -> None:
    assert [f.name for f in fields(Settings) if getattr(ODD, f.name) == f.default] == []


def test_options_and_json_give_the_settings_back(started: Started) -> None:
    assert Settings().options() == ""
    assert [chosen.options().split()[0] for chosen in EACH] == [
        option(field.name) for field in fields(Settings)
    ]
    for chosen in (Settings(), ODD, *EACH, *PRESETS.values()):
        assert started(chosen.options()) == chosen
        kept = json.loads(json.dumps(chosen.as_dict()))
        assert kept == chosen.as_dict()
        found = Settings.from_dict(kept)
        assert found == chosen
        assert hash(found) == hash(chosen)  # tuples, not lists


@pytest.mark.parametrize("name", PRESETS)
def test_options_beside_a_preset_change_their_part_of_it(name: str, started: Started) -> None:
    """Also to what is the default: a given value is given."""
    assert started(f"--preset {name}") == PRESETS[name]
    expected = replace(PRESETS[name], seed=1, epochs=3, hidden_dims=(5, 4), augment=("flip",))
    more = "--seed 1 --epochs 3 --hidden 5,4 --augment flip"
    assert started(f"--preset {name} {more}") == started(f"{more} --preset {name}") == expected
    default = replace(
        PRESETS[name], schedule="constant", batch_size=512, learning_rate=1e-3, latent_dim=10
    )
    line = "--schedule constant --batch-size 512 --learning-rate 0.001 --latent-dim 10"
    assert started(f"--preset {name} {line}") == default


def test_the_presets_are_those_of_the_tutorials_and_two_better_ones(said: Said) -> None:
    said("presets", {name: preset.options() for name, preset in PRESETS.items()})
    plain = Settings()  # 784-128-10, batch 512
    assert (plain.hidden_dims, plain.latent_dim, plain.batch_size) == ((128,), 10, 512)
    assert (plain.epochs, plain.learning_rate, plain.beta) == (20, 1e-3, 1)


def test_help_shows_every_preset_and_every_choice() -> None:
    shown = train.parser().format_help()
    for name, preset in PRESETS.items():
        assert f" {name} {preset.options()}" in " ".join(shown.split())
    for name in (*ACTIVATIONS, *OPTIMIZERS, *SCHEDULES, *AUGMENTATIONS):
        assert name in shown
    for field in fields(Settings):
        assert option(field.name) in shown


def test_settings_that_were_kept_before_there_were_others_load() -> None:
    kept = {"dataset": "mnist", "hidden_dims": [64, 32], "epochs": 3, "validation": 10, "seed": 4}
    found = Settings.from_dict(kept)
    assert found == Settings("mnist", hidden_dims=(64, 32), epochs=3, validation=10, seed=4)
    assert (found.activation, found.optimizer, found.schedule) == ("relu", "adam", "constant")
    assert (found.augment, found.extra_data, found.warmup, found.kl_warmup) == ((), "", 0, 0)


BAD: list[tuple[str, Any]] = [
    ("batch_size", 0),
    ("batch_size", 64.0),
    ("epochs", True),
    ("hidden_dims", (8, 0)),
    ("validation", None),
    ("seed", -1),
    ("learning_rate", 0.0),
    ("learning_rate", float("nan")),
    ("beta", float("inf")),
    ("warmup", -1.0),
    ("activation", "no-such"),
    ("augment", ("blur",)),
    ("dataset", ""),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_settings_that_no_command_line_can_give_are_refused(name: str, value: Any) -> None:
    """A checkpoint might say so; and a division by 0 in the middle of a run helps nobody."""
    with refused(ValueError, "no run can have these settings: Settings(", f"{name}={value!r}"):
        Settings.from_dict({name: value})


def test_a_number_of_numpy_is_a_number() -> None:
    """`fit` is given an optimizer's learning rate, which may be computed."""
    options = Settings(learning_rate=np.float64(0.5), beta=2).options()
    assert options == "--learning-rate 0.5 --beta 2"


# ------------------------------------------------------------------ taken up again

FREE: dict[str, Any] = {
    "epochs": 20,
    "pictures_every": 3,
    "dataset": "there.npz",
    "extra_data": "too.npz",
}


def test_a_resumed_run_may_go_on_longer_elsewhere_and_with_other_pictures() -> None:
    assert CONSTANT.resumed(FREE, epochs_done=7) == replace(CONSTANT, **FREE)
    assert CONSTANT.resumed({}, epochs_done=5) == CONSTANT
    assert CONSTANT.resumed({"epochs": 6}, epochs_done=5).epochs == 6  # fewer than planned


@pytest.mark.parametrize("chosen", [CONSTANT, ODD], ids=["constant", "cosine"])
def test_a_setting_that_is_given_as_it_was_is_no_change(chosen: Settings) -> None:
    assert chosen.resumed(vars(chosen), epochs_done=5) == chosen


@pytest.mark.parametrize("field", [field for field in fields(Settings) if field.name not in FREE])
def test_a_resumed_run_keeps_all_other_settings(field: Any) -> None:
    name = option(field.name)
    words = (f"{name} cannot change when a run is resumed", f"Omit {name}, or start a new run.")
    with refused(OptionError, *words):
        ODD.resumed({field.name: field.default}, epochs_done=5)


# The settings of a run, how many epochs are done, and what is given to go on with.
REFUSED: dict[str, tuple[Settings, int, dict[str, Any]]] = {
    "another size": (ODD, 5, {"latent_dim": 4}),
    "no augmentation": (ODD, 5, {"augment": ()}),
    "no longer conditional": (ODD, 5, {"conditional": False}),
    "conditional": (Settings(), 5, {"conditional": True}),
    "more epochs of a cosine": (ODD, 5, {"epochs": 8}),
    "fewer epochs of steps": (replace(ODD, schedule="step"), 5, {"epochs": 6}),
    "more of a cosine that has ended": (ODD, 7, {}),
    "nothing": (CONSTANT, 7, {}),
    "fewer epochs than are done": (CONSTANT, 7, {"epochs": 6}),
    "one epoch": (Settings(epochs=1), 1, {}),
}


def test_refusals_of_a_resumed_run_say_what_it_began_with_and_what_to_do(said: Said) -> None:
    texts = {}
    for name, (settings, done, given) in REFUSED.items():
        with refused(OptionError) as refusal:
            settings.resumed(given, epochs_done=done)
        texts[name] = str(refusal.value)
    said("a setting of a resumed run is refused", texts)
