"""The engine computes what the lesson computes: parameters, optimizer state and losses.

The lesson is `vae.loss_and_gradients` and `optimizer.update`, in the plainest of loops.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from npvae import VAE, fast
from npvae.core.errors import DivergedError
from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.datasets.augmentation import AUGMENTATIONS, random_warps, warp
from npvae.datasets.minibatches import to_pixels
from npvae.fast import jit, kernels
from npvae.optimizers import OPTIMIZERS, Adam
from npvae.runs.fit import fit
from npvae.settings import Settings
from npvae.training import plan_epoch, train_epoch

if jit.WHY_NOT:
    pytest.skip(f"there is no engine: {jit.WHY_NOT}", allow_module_level=True)

from npvae.fast.engine import Engine
from tests.helpers import of_our_lesson

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16), np.uint8)  # 4 x 4
CLASSES = 4
LABELS = np.random.default_rng(2).integers(0, CLASSES, 40, np.uint8)
WORKERS = (1, 2, 3, 5)


class Task(NamedTuple):
    """Batches to train on, and everything that is random or scheduled about them."""

    indices: Any
    epsilon: Array
    batch_size: int
    betas: Array
    learning_rates: Array
    warps: Array | None = None

    @classmethod
    def of(cls, count: int, batch_size: int, warped: bool = False, seed: int = 3) -> Task:
        """`count` images; beta rises and the learning rate falls from batch to batch."""
        rng, batches = np.random.default_rng(seed), math.ceil(count / batch_size)
        return cls(
            rng.integers(0, len(IMAGES), count),
            rng.standard_normal((count, 3)),
            batch_size,
            np.linspace(0.1, 0.7, batches),
            np.linspace(1e-2, 1e-3, batches),
            random_warps(count, AUGMENTATIONS, rng) if warped else None,
        )

    def batches(self) -> Iterator[slice]:
        for start in range(0, len(self.indices), self.batch_size):
            yield slice(start, min(start + self.batch_size, len(self.indices)))


def untrained(
    dtype: str,
    hidden: tuple[int, ...] = (7,),
    activation: str = "relu",
    seed: int = 5,
    num_classes: int = 0,
) -> VAE:
    """Untrained, but with biases, so that no gradient is special."""
    rng = np.random.default_rng(seed)
    vae = VAE(16, hidden, 3, activation, dtype, rng, num_classes)
    vae.parameters.flat[:] += rng.normal(0, 0.1, vae.parameters.flat.shape)
    return vae


def by_the_lesson(vae: VAE, optimizer: Optimizer, task: Task) -> Array:
    """Train vae; the losses (batches, 2)."""
    losses = []
    for k, batch in enumerate(task.batches()):
        images = IMAGES[task.indices[batch]]
        if task.warps is None:
            x = to_pixels(images, vae.dtype)
        else:
            x = warp(images, task.warps[batch], vae.dtype)
        epsilon = task.epsilon[batch].astype(vae.dtype)
        c = vae.classes(LABELS[task.indices[batch]])
        loss, gradients = vae.loss_and_gradients(x, epsilon, float(task.betas[k]), c)
        optimizer.learning_rate = float(task.learning_rates[k])
        optimizer.update(vae.parameters, gradients)
        losses.append((loss.bce, loss.kl))
    return np.array(losses)


def by_the_engine(vae: VAE, optimizer: Optimizer, task: Task, workers: int) -> Array:
    engine = Engine(vae, optimizer, IMAGES, vae.classes(LABELS), workers)
    portions = [np.stack(portion, axis=1) for portion in engine.train(*task)]
    return np.concatenate(portions)


def results(vae: VAE, optimizer: Optimizer, losses: Array) -> dict[str, Array]:
    state = {kind: values.flat for kind, values in optimizer.state.items()}
    return {"parameters": vae.parameters.flat, "losses": losses, **state}


# Five steps. In float64 nothing but the order of sums of at most 40 terms differs, and errors of
# 40 * 1.1e-16 may grow a little from step to step. In float32 the same is 40 * 6e-8 = 2.4e-6, and
# the engine's exp is right to 4e-6; ten times that, because Adam and RMSProp divide by a gradient's
# size: where one is small for its terms, its relative error is larger. All relative to the largest
# number of an array, as an entry of it may be 0 but for rounding.
TOLERANCE = {"float64": 1e-12, "float32": 4e-5}


@pytest.mark.parametrize("optimizer", kernels.OPTIMIZERS)
@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_engine_computes_what_the_lesson_does(
    dtype: str, activation: str, optimizer: str
) -> None:
    """Every dtype, activation and optimizer, one to three hidden layers, with and without warps.

    The deep ones are conditional as well.
    One image at a time, fewer images than workers, a last batch that is shorter, and long ones.
    """
    sizes = [((7,), 5, 1), ((7, 6), 10, 2), ((7, 6, 5), 32, 7), ((7,), 130, 30)]
    for number, (hidden, count, batch_size) in enumerate(sizes):
        task = Task.of(count, batch_size, warped=number % 2 == 1)
        network: dict[str, Any] = {"hidden": hidden, "activation": activation}
        network["num_classes"] = CLASSES if len(hidden) > 1 else 0
        lesson, rule = untrained(dtype, **network), OPTIMIZERS[optimizer]()
        expected = results(lesson, rule, by_the_lesson(lesson, rule, task))
        for workers in WORKERS:
            vae, same_rule = untrained(dtype, **network), OPTIMIZERS[optimizer]()
            found = results(vae, same_rule, by_the_engine(vae, same_rule, task, workers))
            assert (same_rule.t, same_rule.learning_rate) == (rule.t, rule.learning_rate)
            for name, array in expected.items():
                assert found[name].dtype == array.dtype
                near = TOLERANCE[dtype] * float(np.abs(array).max())
                message = f"{name}, {hidden}, {workers} workers"
                np.testing.assert_allclose(found[name], array, rtol=0, atol=near, err_msg=message)


@pytest.mark.parametrize("batch_size", [300, 513])
def test_batches_of_more_images_than_a_block(batch_size: int) -> None:
    """Gradients are added up over blocks of 256 images; train.py has 512 in a batch."""
    task = Task.of(2 * batch_size + 40, batch_size)
    lesson, vae = untrained("float64", (7, 6)), untrained("float64", (7, 6))
    expected, found = by_the_lesson(lesson, Adam(), task), by_the_engine(vae, Adam(), task, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(vae.parameters.flat, lesson.parameters.flat, rtol=0, atol=1e-11)


@pytest.mark.parametrize("beta", [0.0, 0.25, 4.0])
def test_other_betas(beta: float) -> None:
    task = Task.of(20, 6)._replace(betas=np.full(4, beta))
    lesson, vae = untrained("float64"), untrained("float64")
    expected = by_the_lesson(lesson, Adam(), task)
    found = by_the_engine(vae, Adam(), task, workers=2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(vae.parameters.flat, lesson.parameters.flat, rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", kernels.OPTIMIZERS)
def test_settings_of_an_optimizer_count(optimizer: str) -> None:
    """All of them, changed from what they are by default."""
    task, vaes = Task.of(25, 5), (untrained("float64"), untrained("float64"))
    rules = [OPTIMIZERS[optimizer](), OPTIMIZERS[optimizer]()]
    for rule in rules:
        for name in set(rule.settings) - {"name", "t", "learning_rate"}:
            setattr(rule, name, 0.3 * getattr(rule, name))
    by_the_lesson(vaes[0], rules[0], task)
    by_the_engine(vaes[1], rules[1], task, workers=2)
    apart = vaes[0].parameters.flat - vaes[1].parameters.flat
    assert np.abs(apart).max() < 1e-12


@pytest.mark.parametrize("optimizer", kernels.OPTIMIZERS)
def test_lesson_and_engine_take_turns(optimizer: str) -> None:
    """Each goes on where the other has stopped: parameters, state and number of steps."""
    lesson, vae = untrained("float64"), untrained("float64")
    rule, same_rule = OPTIMIZERS[optimizer](), OPTIMIZERS[optimizer]()
    for seed in range(4):
        task = Task.of(12, 5, seed=seed)
        by_the_lesson(lesson, rule, task)
        if seed % 2:
            by_the_lesson(vae, same_rule, task)
        else:
            by_the_engine(vae, same_rule, task, workers=2)
    assert rule.t == same_rule.t == 12
    np.testing.assert_allclose(vae.parameters.flat, lesson.parameters.flat, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("workers", WORKERS)
def test_equal_seeds_repeat_to_the_bit_and_others_differ(dtype: str, workers: int) -> None:
    def run(seed: int) -> bytes:
        vae = untrained(dtype)
        losses = by_the_engine(vae, Adam(), Task.of(200, 9, seed=seed), workers)
        return vae.parameters.flat.tobytes() + losses.tobytes()

    assert run(0) == run(0)
    assert run(0) != run(1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count", [1, 2, 40, 2100])
def test_losses_of_images_that_are_not_learned(dtype: str, count: int) -> None:
    rng = np.random.default_rng(1)
    vae, images = untrained(dtype), rng.integers(0, 256, (count, 4, 4), np.uint8)
    epsilon = vae.noise(count, rng)
    before = vae.parameters.flat.copy()
    expected = vae.loss(images.reshape(count, -1) / 255, epsilon)
    engine = Engine(vae, Adam(), IMAGES, workers=3)
    # The mean of 2,100 losses, each right to a few roundings.
    near = {"float64": 1e-12, "float32": 1e-5}[dtype]
    found = engine.average_loss(images, epsilon, beta=0.5)
    assert found[:2] == pytest.approx(expected[:2], rel=near)
    assert found.beta == 0.5
    np.testing.assert_array_equal(vae.parameters.flat, before)
    assert engine.optimizer.t == 0


@of_our_lesson
def test_what_the_engine_does_not_know_is_left_to_the_lesson() -> None:
    class Other(Adam):
        pass

    class OtherVAE(VAE):
        pass

    assert fast.why_not_for(VAE(), Adam()) == ""
    assert fast.why_not_for(VAE(), Other()) == "the engine does not know the optimizer other"
    assert fast.why_not_for(OtherVAE(), Adam()) == "the engine does not know this kind of model"


# ------------------------------------------------------------------ whole epochs

EVERYTHING = Settings(
    batch_size=7,
    epochs=3,
    augment=("shift", "rotate"),
    learning_rate=1e-2,
    schedule="cosine",
    warmup=0.5,
    beta=2.0,
    kl_warmup=1.5,
    seed=4,
)


@pytest.mark.parametrize("num_classes", [0, CLASSES])
@pytest.mark.parametrize("settings", [Settings(batch_size=16), EVERYTHING], ids=["plain", "all"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_epochs_are_those_of_the_lesson(dtype: str, settings: Settings, num_classes: int) -> None:
    """The same plan: order, noise, warps, and what is scheduled; of 32 of the 40 images."""
    indices = np.arange(8, 40)
    lesson, vae = (untrained(dtype, num_classes=num_classes) for _ in range(2))
    rule, same_rule, labels = Adam(), Adam(), vae.classes(LABELS)
    engine = Engine(vae, same_rule, IMAGES, labels, workers=2)
    for epoch in range(1, 4):
        plans = [plan_epoch(indices, settings, epoch) for _ in range(2)]
        expected = list(train_epoch(lesson, rule, IMAGES, labels, plans[0], settings))
        found = list(engine.train_epoch(plans[1], settings))
        near = TOLERANCE[dtype] * epoch
        np.testing.assert_allclose(np.array(found), np.array(expected), rtol=near, atol=near)
        assert plans[0].noise.random() == plans[1].noise.random()
        assert plans[0].warps.random() == plans[1].warps.random()
    apart = np.abs(vae.parameters.flat - lesson.parameters.flat).max()
    assert apart < 3 * TOLERANCE[dtype] * np.abs(lesson.parameters.flat).max()
    assert same_rule.learning_rate == rule.learning_rate


@of_our_lesson
def test_fit_takes_the_engine_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 16), np.uint8)
    started: list[Engine] = []

    def noted(*arguments: Any) -> Engine:
        started.append(Engine(*arguments))
        return started[-1]

    def history(wanted: str) -> list[Any]:
        monkeypatch.setenv("NPVAE_BACKEND", wanted)
        vae = untrained("float64")
        epochs = fit(vae, images, epochs=2, batch_size=8, test_images=images[:9])
        return [(*epoch.train, *(epoch.test or ())) for epoch in epochs]

    monkeypatch.setattr("npvae.fast.engine.Engine", noted)
    by_engine = history("auto")
    assert len(started) == 1
    by_lesson = history("numpy")
    assert len(started) == 1
    np.testing.assert_allclose(by_engine, by_lesson, rtol=1e-12)


@of_our_lesson
def test_an_engine_that_cannot_be_compiled_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise jit.CannotCompile("Numba cannot compile it: no room")

    monkeypatch.setenv("NPVAE_BACKEND", "auto")
    monkeypatch.setattr("npvae.fast.engine.Engine", fails)
    with pytest.warns(UserWarning, match="NumPy trains, without the engine: .* no room"):
        (epoch,) = fit(untrained("float32"), IMAGES, epochs=1)
    assert math.isfinite(epoch.train.total)


@of_our_lesson
def test_the_engine_diverges_as_the_lesson_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batch is named, and the same last finite loss."""
    said = []
    for backend in fast.BACKENDS:
        monkeypatch.setenv("NPVAE_BACKEND", backend)
        vae = untrained("float64")
        with pytest.raises(DivergedError) as caught:
            fit(vae, IMAGES, batch_size=3, learning_rate=1e3)
        said.append((str(caught.value), vae.parameters.flat))
    assert said[0][0] == said[1][0]
    assert "batch" in said[0][0]
    np.testing.assert_allclose(said[0][1], said[1][1], rtol=1e-9)
