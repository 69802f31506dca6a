"""The learning rate and beta at every step of a run, and a run that is taken up in the middle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle, islice, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.commands import training_run
from npvae.core.errors import OptionError
from npvae.core.optimizer_base import Optimizer
from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.runs.fit import Epoch
from npvae.schedules import SCHEDULES, learning_rate, ramp
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.helpers import digits, digits_file, train

TRAIN, TEST = digits(120, 40)

# ------------------------------------------------------------------ the curves

# The share of the training that is done, and what is left of the learning rate.
BY_HAND: dict[str, list[tuple[float, float]]] = {
    "constant": [(0, 1), (0.3, 1), (0.5, 1), (0.99, 1), (1, 1)],
    "cosine": [
        (0, 1),
        (1 / 6, (2 + math.sqrt(3)) / 4),  # cos 30 degrees
        (1 / 4, (2 + math.sqrt(2)) / 4),
        (1 / 3, 3 / 4),
        (1 / 2, 1 / 2),
        (2 / 3, 1 / 4),
        (3 / 4, (2 - math.sqrt(2)) / 4),
        (1, 0),
    ],
    "step": [
        (0, 1), (0.499, 1), (0.5, 0.1), (0.749, 0.1), (0.75, 0.01), (0.999, 0.01), (1, 0.01),
    ],
}  # fmt: skip


def test_every_schedule_is_worked_out_by_hand() -> None:
    assert BY_HAND.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_by_hand(name: str) -> None:
    for share, expected in BY_HAND[name]:
        assert SCHEDULES[name](share) == pytest.approx(expected, rel=1e-14, abs=1e-16), share


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_begin_at_1_and_never_rise(name: str) -> None:
    values = [SCHEDULES[name](k / 1000) for k in range(1001)]
    assert values[0] == 1
    assert all(a >= b for a, b in pairwise(values))
    assert all(value > 0 for value in values[:-1])


def test_a_ramp_by_hand() -> None:
    assert [ramp(t, 4) for t in (0, 1, 2, 3.5, 4, 4.1, 100)] == [0, 0.25, 0.5, 0.875, 1, 1, 1]
    assert [ramp(t, 0.5) for t in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
    assert [ramp(t, 0) for t in (0, 0.1, 1)] == [1, 1, 1]  # none


# ------------------------------------------------------------------ what a run really uses


class Watching(Optimizer):
    """Takes no step, and remembers the learning rate of each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def update(self, parameters: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        self.seen.append(self.learning_rate)


def watched(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[list[float], list[float]]:
    """The learning rate and the beta of each of 12 steps: 4 epochs of 3 batches."""
    betas: list[float] = []
    right = VAE.loss_and_gradients

    def loss_and_gradients(self: VAE, *arguments: Any) -> Any:
        betas.append(arguments[2])
        return right(self, *arguments)

    monkeypatch.setattr(VAE, "loss_and_gradients", loss_and_gradients)
    chosen, watching = Settings(epochs=4, batch_size=50, **settings), Watching()
    list(train(small_vae(), watching, TRAIN, TEST, chosen, range(1, 5)))
    return watching.seen, betas


def small_vae() -> VAE:
    return VAE(784, (8,), 3, rng=np.random.default_rng(0))


COSINES = [(1 + math.cos(math.pi * k / 12)) / 2 for k in range(12)]
FACTORS = {
    "constant": 12 * [1.0],
    "cosine": COSINES,
    "step": 6 * [1.0] + 3 * [0.1] + 3 * [0.01],
}
# By the number of epochs: what the k-th step has of its learning rate. The rate of a step is that
# at its end, or the first would do nothing.
WARMUPS = {
    0.0: 12 * [1.0],
    0.5: [2 / 3] + 11 * [1.0],
    2.0: [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6] + 7 * [1.0],
    8.0: [(k + 1) / 24 for k in range(12)],  # longer than the run
}


@pytest.mark.parametrize(("schedule", "warmup"), list(product(SCHEDULES, WARMUPS)))
def test_the_learning_rate_of_every_step(
    schedule: str, warmup: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"schedule": schedule, "warmup": warmup}
    seen, _ = watched(monkeypatch, learning_rate=0.03, **options)
    expected = [0.03 * a * b for a, b in zip(FACTORS[schedule], WARMUPS[warmup], strict=True)]
    assert seen == pytest.approx(expected, rel=1e-12, abs=0)
    assert min(seen) > 0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 7), (3, 1), (100, 938), (1, 10**6)])
def test_the_learning_rate_is_always_above_0(schedule: str, epochs: int, steps: int) -> None:
    """At the first step, which a warm-up holds down, and at the last, at the end of a cosine."""
    first = learning_rate(1e-3, schedule, epochs, 0, 1 / steps, epochs)
    last = learning_rate(1e-3, schedule, epochs, epochs - 1 / steps, epochs, epochs)
    assert 0 < first <= 1e-3
    assert 0 < last <= 1e-3


def test_a_training_beyond_its_epochs_keeps_the_last_rate() -> None:
    """A cosine would rise again."""
    assert learning_rate(1e-3, "cosine", 0, 7, 8, 5) == learning_rate(1e-3, "cosine", 0, 5, 6, 5)


# The beta of a step is that at its beginning, so that the first has none at all.
RAMPS = {
    0.0: 12 * [1.0],
    0.5: [0, 2 / 3] + 10 * [1.0],
    2.0: [k / 6 for k in range(6)] + 6 * [1.0],
    8.0: [k / 24 for k in range(12)],
}


@pytest.mark.parametrize("kl_warmup", RAMPS)
@pytest.mark.parametrize("beta", [1.0, 0.4, 0.0])
def test_the_beta_of_every_step(
    beta: float, kl_warmup: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates, betas = watched(monkeypatch, beta=beta, kl_warmup=kl_warmup)
    assert betas == pytest.approx([beta * factor for factor in RAMPS[kl_warmup]], rel=1e-12, abs=0)
    assert rates == 12 * [1e-3]  # which knows nothing of it


def test_losses_are_told_at_the_full_beta() -> None:
    """Of a model that does not change they are the same, however slowly beta rises."""
    runs: list[list[Epoch]] = []
    told: list[list[float]] = []
    for kl_warmup in (0.0, 3.0):
        settings = Settings(batch_size=50, beta=0.4, kl_warmup=kl_warmup, validation=20)
        said: list[float] = []

        def report(k: int, count: int, loss: float, said: list[float] = said) -> None:
            said.append(loss)

        vae, epochs = small_vae(), range(1, 3)
        found = train(vae, Watching(), TRAIN, TEST, settings, epochs, report=report)
        runs.append([epoch._replace(seconds=0.0) for epoch in found])
        told.append(said)
    assert runs[0] == runs[1]
    assert told[0] == told[1]
    for epoch in runs[1]:
        assert epoch.validation is not None
        for loss in (epoch.train, epoch.test, epoch.validation):
            assert loss is not None
            assert loss.beta == 0.4
            assert loss.kl > 0.01
            assert loss.loss == loss.bce + 0.4 * loss.kl
    assert told[1][-1] == pytest.approx(runs[1][-1].train.loss, rel=1e-12)


# ------------------------------------------------------------------ taken up again


class Enough(Exception):
    """Whatever ends a run."""


def run(out: str, **settings: Any) -> None:
    data = digits_file(Path(), train=120, test=40)
    chosen = {"hidden_dims": (8,), "batch_size": 50, "pictures_every": 0, **settings}
    training_run.start(Settings(dataset=str(data), **chosen), None, out, quiet=True)


def ends_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    def epoch(self: Any, epoch: Epoch) -> None:
        if epoch.epoch == epochs:
            raise Enough

    monkeypatch.setattr("npvae.commands.training_run.Progress.epoch", epoch)


EVERYTHING: dict[str, Any] = {  # that changes while a model trains
    "warmup": 2.5,
    "kl_warmup": 3.5,
    "augment": AUGMENTATIONS,
    "validation": 20,
    "beta": 0.7,
}
# Every schedule, optimizer and activation there is, in changing company.
MOST = max(len(SCHEDULES), len(OPTIMIZERS), len(ACTIVATIONS))
KINDS = list(islice(zip(cycle(SCHEDULES), cycle(OPTIMIZERS), cycle(ACTIVATIONS)), MOST))


@pytest.mark.parametrize(("schedule", "optimizer", "activation"), KINDS)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    schedule: str,
    optimizer: str,
    activation: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"schedule": schedule, "optimizer": optimizer, "activation": activation}
    settings = {**EVERYTHING, **names, "epochs": 5}
    run("whole", **settings)
    with monkeypatch.context() as patch:
        ends_after(patch, 2)
        with pytest.raises(Enough):
            run("parts", **settings)
    assert len(Path("parts/metrics.csv").read_text().splitlines()) == 1 + 2
    training_run.resume("parts", {}, None, quiet=True)
    for name in ("last.npz", "best.npz"):
        assert Path(f"parts/{name}").read_bytes() == Path(f"whole/{name}").read_bytes()


def test_a_schedule_ends_where_it_was_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More epochs would have made it another run from the first step on."""
    monkeypatch.chdir(tmp_path)
    run("it", epochs=2, schedule="cosine")
    before = {path: path.read_bytes() for path in Path("it").rglob("*") if path.is_file()}
    for given in ({"epochs": 3}, {"epochs": 9}):
        with pytest.raises(OptionError, match="--epochs cannot change when a run is resumed"):
            training_run.resume("it", given, None, quiet=True)
    with pytest.raises(OptionError, match="Its cosine schedule ends there"):
        training_run.resume("it", {}, None, quiet=True)
    assert {p: p.read_bytes() for p in Path("it").rglob("*") if p.is_file()} == before


def test_a_warm_up_without_end_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its learning rate is all but 0, and yet one that an optimizer takes."""
    monkeypatch.chdir(tmp_path)
    digits_file(tmp_path)
    options: dict[str, Any] = {
        "hidden_dims": (8,),
        "learning_rate": 1e-30,
        "warmup": 1e308,
        "pictures_every": 0,
    }
    training_run.start(Settings("digits.npz", epochs=1, **options), None, "run", quiet=True)
    training_run.resume("run", {"epochs": 2}, None, quiet=True)
    assert len(checkpoint.load("run/last.npz")[0]["history"]) == 2
