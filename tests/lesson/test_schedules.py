"""The learning rate and beta at every step of a run, and a run that is taken up in the middle."""

from __future__ import annotations

import io
import math
import sys
from itertools import cycle, islice, pairwise, product
from pathlib import Path
from typing import Any

import pytest

from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.schedules import SCHEDULES, learning_rate, ramp
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.helpers import assert_same_run, digits, digits_file, resume, start, train
from tests.lesson.test_training import Listening, Watching, trained

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


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_by_hand_begin_at_1_and_never_rise(name: str) -> None:
    for share, expected in BY_HAND[name]:
        assert SCHEDULES[name](share) == pytest.approx(expected, rel=1e-14, abs=1e-16), share
    values = [SCHEDULES[name](k / 1000) for k in range(1001)]
    assert values[0] == 1
    assert all(a >= b for a, b in pairwise(values))
    assert all(value > 0 for value in values[:-1])


def test_a_ramp_by_hand() -> None:
    assert [ramp(t, 4) for t in (0, 1, 2, 3.5, 4, 4.1, 100)] == [0, 0.25, 0.5, 0.875, 1, 1, 1]
    assert [ramp(t, 0.5) for t in (0, 0.25, 0.5, 1)] == [0, 0.5, 1, 1]
    assert [ramp(t, 0) for t in (0, 0.1, 1)] == [1, 1, 1]  # none


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_is_always_above_0(schedule: str) -> None:
    """At the first step, which a warm-up holds down, and at the last, at the end of a cosine."""
    for epochs, steps in ((1, 1), (3, 1), (100, 938), (1, 10**6)):
        first = learning_rate(1e-3, schedule, epochs, 0, 1 / steps, epochs)
        last = learning_rate(1e-3, schedule, epochs, epochs - 1 / steps, epochs, epochs)
        assert 0 < first <= 1e-3
        assert 0 < last <= 1e-3


def test_a_training_beyond_its_epochs_keeps_the_last_rate() -> None:
    """A cosine would rise again."""
    assert learning_rate(1e-3, "cosine", 0, 7, 8, 5) == learning_rate(1e-3, "cosine", 0, 5, 6, 5)


# ------------------------------------------------------------------ what a run really uses

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


# The beta of a step is that at its beginning, so that the first has none at all.
RAMPS = {
    0.0: 12 * [1.0],
    0.5: [0, 2 / 3] + 10 * [1.0],
    2.0: [k / 6 for k in range(6)] + 6 * [1.0],
    8.0: [k / 24 for k in range(12)],
}


BETAS = cycle(product(RAMPS, (1.0, 0.4, 0.0)))
EACH = [(*rates, *betas) for rates, betas in zip(product(SCHEDULES, WARMUPS), BETAS, strict=False)]


@pytest.mark.parametrize(("schedule", "warmup", "kl_warmup", "beta"), EACH)
def test_the_learning_rate_and_beta_of_every_step(
    schedule: str, warmup: float, kl_warmup: float, beta: float
) -> None:
    """Of 12 steps: 4 epochs of 3 batches. Neither knows anything of the other."""
    given: dict[str, Any] = {"schedule": schedule, "warmup": warmup, "learning_rate": 0.03}
    settings = Settings(epochs=4, batch_size=50, beta=beta, kl_warmup=kl_warmup, **given)
    vae, watching = Listening(784, (8,), 3), Watching()
    list(train(vae, watching, TRAIN, TEST, settings, range(1, 5)))
    rates = [0.03 * a * b for a, b in zip(FACTORS[schedule], WARMUPS[warmup], strict=True)]
    assert watching.rates == pytest.approx(rates, rel=1e-12, abs=0)
    betas = [beta * factor for factor in RAMPS[kl_warmup]]
    assert [given[2] for given in vae.heard] == pytest.approx(betas, rel=1e-12, abs=0)


def test_losses_are_told_at_the_full_beta() -> None:
    """Of a model that does not change they are the same, however slowly beta rises."""
    plain, slow = (
        trained(VAE(784, (8,), 3), Watching(), range(1, 3), beta=0.4, kl_warmup=k, validation=20)
        for k in (0.0, 3.0)
    )
    assert plain == slow
    for epoch in slow:
        for loss in (epoch.train, epoch.test, epoch.validation):
            assert loss is not None
            assert loss.beta == 0.4
            assert loss.kl > 0.01


# ------------------------------------------------------------------ taken up again


class Interrupted(io.StringIO):
    """A terminal at which Ctrl-C is pressed when the second of four epochs is shown."""

    def write(self, text: str) -> int:
        if " 2/4 " in text:
            raise KeyboardInterrupt
        return super().write(text)


EVERYTHING: dict[str, Any] = {  # that changes while a model trains
    "epochs": 4,
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
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digits_file(here, 120, 40)
    names = {"schedule": schedule, "optimizer": optimizer, "activation": activation}
    start("whole", **EVERYTHING, **names)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            start("parts", **EVERYTHING, **names)
    assert len(Path("parts/metrics.csv").read_text().splitlines()) == 1 + 2
    resume("parts")
    assert_same_run("parts", "whole")


def test_a_warm_up_without_end_can_be_resumed(here: Path) -> None:
    """Its learning rate is all but 0, and yet one that an optimizer takes."""
    digits_file(here, 120, 40)
    start(epochs=1, learning_rate=1e-30, warmup=1e308)
    resume(epochs=2)
    assert len(checkpoint.load("run/last.npz")[0]["history"]) == 2
