"""Settings as options, as JSON, and as what a run began with: always the same settings."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from shlex import split
from typing import Any

import numpy as np
import pytest

from npvae import settings
from npvae.commands import train, training_run
from npvae.core.errors import OptionError
from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS
from npvae.schedules import SCHEDULES
from npvae.settings import PRESETS, Settings

presets = pytest.mark.parametrize("name", PRESETS)

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


def script() -> Any:
    return train


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Any:
    """started(command line) is the settings with which train.py would start a run."""
    seen: list[Settings] = []
    monkeypatch.setattr(training_run, "start", lambda chosen, *rest: seen.append(chosen))

    def start(line: str) -> Settings:
        script().main(split(line))
        return seen.pop()

    return start


# ------------------------------------------------------------------ as options


def test_odd_settings_are_odd_throughout() -> None:
    assert [f.name for f in fields(Settings) if getattr(ODD, f.name) == f.default] == []


@presets
def test_presets_are_the_options_they_are_shown_as(name: str, started: Any) -> None:
    assert started(PRESETS[name].options()) == PRESETS[name]
    assert started(f"--preset {name}") == PRESETS[name]


def test_all_options_together_give_the_settings_back(started: Any) -> None:
    assert started(ODD.options()) == ODD
    assert started("") == Settings()
    assert Settings().options() == ""


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_each_option_alone_gives_its_setting(field: Any, started: Any) -> None:
    chosen = replace(Settings(), **{field.name: getattr(ODD, field.name)})
    assert started(chosen.options()) == chosen
    assert chosen.options().split()[0] == settings.option(field.name)


@presets
def test_options_beside_a_preset_change_their_part_of_it(name: str, started: Any) -> None:
    expected = replace(PRESETS[name], seed=1, epochs=3, hidden_dims=(5, 4), augment=("flip",))
    more = "--seed 1 --epochs 3 --hidden 5,4 --augment flip"
    assert started(f"--preset {name} {more}") == expected
    assert started(f"{more} --preset {name}") == expected


@presets
def test_a_preset_can_be_set_back_to_the_defaults(name: str, started: Any) -> None:
    """A given value is given, also where it is the default."""
    line = "--schedule constant --batch-size 512 --learning-rate 0.001 --latent-dim 10"
    found = started(f"--preset {name} {line}")
    assert (found.schedule, found.batch_size, found.learning_rate) == ("constant", 512, 1e-3)
    assert found.latent_dim == 10


def test_the_presets_are_those_of_the_tutorials() -> None:
    """784-128-10, batch 512, 100 epochs; 784-256-64, batch 64, 20 epochs; 784-256-256-64."""
    tutorial, generate, opt, tuned, best = (
        PRESETS[name] for name in ("tutorial", "vae-generate", "vae-opt", "tuned", "best")
    )
    assert tutorial == Settings("fashion-mnist", epochs=100)
    assert generate == Settings("mnist", hidden_dims=(256,), latent_dim=64, batch_size=64)
    assert opt == replace(generate, hidden_dims=(256, 256))
    assert (tuned.dataset, tuned.hidden_dims, tuned.latent_dim) == ("fashion-mnist", (128,), 10)
    assert tuned.epochs < tutorial.epochs
    assert best.dataset == "fashion-mnist"
    assert len(PRESETS) == 5


def test_help_shows_every_preset_and_every_choice() -> None:
    shown = script().parser().format_help()
    for name, preset in PRESETS.items():
        assert f" {name} {preset.options()}" in " ".join(shown.split())
    for name in (*ACTIVATIONS, *OPTIMIZERS, *SCHEDULES, *AUGMENTATIONS):
        assert name in shown
    for field in fields(Settings):
        assert settings.option(field.name) in shown


# ------------------------------------------------------------------ as JSON


@pytest.mark.parametrize("chosen", [Settings(), ODD, *PRESETS.values()])
def test_json_gives_the_settings_back(chosen: Settings) -> None:
    kept = json.loads(json.dumps(chosen.as_dict()))
    assert kept == chosen.as_dict()
    found = Settings.from_dict(kept)
    assert found == chosen
    assert hash(found) == hash(chosen)  # tuples, not lists


def test_what_was_kept_before_there_were_others_loads() -> None:
    kept = {
        "dataset": "mnist",
        "latent_dim": 2,
        "hidden_dims": [64, 32],
        "epochs": 3,
        "batch_size": 100,
        "learning_rate": 0.01,
        "beta": 2.0,
        "validation": 10,
        "seed": 4,
        "pictures_every": 2,
    }
    expected = Settings(
        "mnist", latent_dim=2, hidden_dims=(64, 32), epochs=3, batch_size=100, learning_rate=0.01,
        beta=2.0, validation=10, seed=4, pictures_every=2,
    )  # fmt: skip
    found = Settings.from_dict(kept)
    assert found == expected
    assert (found.activation, found.optimizer, found.schedule) == ("relu", "adam", "constant")
    assert (found.augment, found.extra_data, found.warmup, found.kl_warmup) == ((), "", 0, 0)


# ------------------------------------------------------------------ taken up again

CONSTANT = replace(ODD, schedule="constant")


def test_what_a_resumed_run_may_change() -> None:
    given: dict[str, Any] = {
        "epochs": 20,
        "pictures_every": 3,
        "dataset": "there.npz",
        "extra_data": "too.npz",
    }
    assert CONSTANT.resumed(given, epochs_done=7) == replace(CONSTANT, **given)
    assert CONSTANT.resumed({}, epochs_done=5) == CONSTANT
    assert CONSTANT.resumed({"epochs": 6}, epochs_done=5).epochs == 6  # fewer than planned


@pytest.mark.parametrize("chosen", [CONSTANT, ODD], ids=["constant", "cosine"])
def test_what_is_given_as_it_was_is_no_change(chosen: Settings) -> None:
    given = {field.name: getattr(chosen, field.name) for field in fields(Settings)}
    assert chosen.resumed(given, epochs_done=5) == chosen


FREE = {"epochs", "pictures_every", "dataset", "extra_data"}
FIXED = [field for field in fields(Settings) if field.name not in FREE]


@pytest.mark.parametrize("field", FIXED, ids=lambda field: field.name)
def test_what_it_may_not(field: Any) -> None:
    with pytest.raises(OptionError) as refusal:
        ODD.resumed({field.name: field.default}, epochs_done=5)
    said = str(refusal.value)
    option = settings.option(field.name)
    assert said.startswith(f"{option} cannot change when a run is resumed: it began with ")
    assert said.endswith(f"Omit {option}, or start a new run.")
    assert len(said.splitlines()) <= 4


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "constant"])
def test_a_schedule_fixes_the_number_of_epochs(schedule: str) -> None:
    chosen = replace(ODD, schedule=schedule)
    for epochs in (6, 8, 100):
        with pytest.raises(OptionError, match=f"--epochs cannot change.* 7, not {epochs}"):
            chosen.resumed({"epochs": epochs}, epochs_done=5)
    assert chosen.resumed({"epochs": 7}, epochs_done=5) == chosen
    with pytest.raises(OptionError, match="7 epochs already") as refusal:
        chosen.resumed({}, epochs_done=7)
    said = str(refusal.value)
    assert f"{schedule} schedule" in said
    assert "start a new run" in said
    assert "--epochs" not in said  # which would be refused, too


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 64.0),
        ("epochs", True),
        ("hidden_dims", ()),
        ("hidden_dims", (8, 0)),
        ("latent_dim", -1),
        ("seed", -1),
        ("validation", None),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("beta", float("inf")),
        ("warmup", -1.0),
        ("optimizer", "no-such"),
        ("activation", "no-such"),
        ("schedule", ""),
        ("augment", ("blur",)),
        ("dataset", ""),
    ],
)
def test_what_no_command_line_can_give_is_refused(name: str, value: Any) -> None:
    """A checkpoint might say so; and a division by 0 in the middle of a run helps nobody."""
    with pytest.raises((ValueError, TypeError)):
        Settings.from_dict({name: value})


def test_a_number_of_numpy_is_a_number() -> None:
    """`fit` is given an optimizer's learning rate, which may be computed."""
    assert Settings(learning_rate=np.float64(0.5), beta=2).options() == (
        "--learning-rate 0.5 --beta 2"
    )


def test_a_run_that_is_done_says_how_to_go_on() -> None:
    for given in ({}, {"epochs": 7}, {"epochs": 6}):
        with pytest.raises(OptionError, match=r"7 epochs already.*\nAsk for more with --epochs 17"):
            CONSTANT.resumed(given, epochs_done=7)
