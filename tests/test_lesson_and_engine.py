"""The engine computes what the lesson computes: parameters, optimizer state and losses.

The lesson is `vae.loss_and_gradients` and `optimizer.update`, in the plainest of loops. In float64,
which has to be compiled for it, only in the slow tier; tests/fast/test_kernels.py compares each
loop alone, as plain Python, in float64.
"""

from __future__ import annotations

import math
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

# Five steps. In float64 nothing but the order of sums of at most 40 terms differs, and errors of
# 40 * 1.1e-16 may grow a little from step to step. In float32 the same is 40 * 6e-8 = 2.4e-6, and
# the engine's exp is right to 4e-6; ten times that, because Adam and RMSProp divide by a gradient's
# size: where one is small for its terms, its relative error is larger. All relative to the largest
# number of an array, as an entry of it may be 0 but for rounding.
TOLERANCE = {"float32": 4e-5, "float64": 1e-12}
DTYPES = pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)]
)


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
            np.linspace(0, 4, batches),
            np.linspace(1e-2, 1e-3, batches),
            random_warps(count, AUGMENTATIONS, rng) if warped else None,
        )


def untrained(
    dtype: str = "float32",
    hidden: tuple[int, ...] = (7,),
    activation: str = "relu",
    num_classes: int = 0,
) -> VAE:
    """Untrained, but with biases, so that no gradient is special."""
    rng = np.random.default_rng(5)
    vae = VAE(16, hidden, 3, activation, dtype, rng, num_classes)
    vae.parameters.flat[:] += rng.normal(0, 0.1, vae.parameters.flat.shape)
    return vae


def rule_of(name: str) -> Optimizer:
    """An optimizer whose settings are all others than by default, and make a difference."""
    rule = OPTIMIZERS[name]()
    for setting in set(rule.settings) - {"name", "t", "learning_rate"}:
        setattr(rule, setting, 0.01 if setting == "eps" else 0.3 * getattr(rule, setting))
    return rule


def by_the_lesson(vae: VAE, optimizer: Optimizer, task: Task) -> Array:
    """Train vae; the losses (batches, 2)."""
    losses = []
    for k, beta in enumerate(task.betas):
        batch = slice(k * task.batch_size, (k + 1) * task.batch_size)
        images, epsilon = IMAGES[task.indices[batch]], task.epsilon[batch].astype(vae.dtype)
        if task.warps is None:
            x = to_pixels(images, vae.dtype)
        else:
            x = warp(images, task.warps[batch], vae.dtype)
        c = vae.classes(LABELS[task.indices[batch]])
        loss, gradients = vae.loss_and_gradients(x, epsilon, float(beta), c)
        optimizer.learning_rate = float(task.learning_rates[k])
        optimizer.update(vae.parameters, gradients)
        losses.append((loss.bce, loss.kl))
    return np.array(losses)


def by_the_engine(vae: VAE, optimizer: Optimizer, task: Task, workers: int) -> Array:
    engine = Engine(vae, optimizer, IMAGES, vae.classes(LABELS), workers)
    return np.concatenate([np.stack(portion, axis=1) for portion in engine.train(*task)])


@pytest.mark.parametrize(
    ("activation", "optimizer"), [*zip(kernels.ACTIVATIONS, kernels.OPTIMIZERS, strict=True)]
)
@DTYPES
def test_the_engine_computes_what_the_lesson_does(
    dtype: str, activation: str, optimizer: str
) -> None:
    """One to three hidden layers, with and without warps; the deep ones are conditional.

    One image at a time, fewer images than workers, a last batch that is shorter, long ones, and
    those of more images than the 256 of a block, over which gradients are added up. Lesson and
    engine take turns, too: each goes on with the parameters, state and steps of the other.
    """

    def results(hidden: tuple[int, ...], tasks: list[Task], workers: list[int]) -> dict[str, Array]:
        """After one task after the other; with 0 workers, the lesson trains."""
        classes = CLASSES if len(hidden) > 1 else 0
        vae, rule = untrained(dtype, hidden, activation, classes), rule_of(optimizer)
        losses = [
            by_the_engine(vae, rule, task, number) if number else by_the_lesson(vae, rule, task)
            for task, number in zip(tasks, workers, strict=True)
        ]
        assert rule.learning_rate == tasks[-1].learning_rates[-1]
        state = {kind: values.flat for kind, values in rule.state.items()}
        counted = {"parameters": vae.parameters.flat, "t": np.array(rule.t)}
        return {**counted, "losses": np.concatenate(losses), **state}

    sizes = [((7,), 3, 1), ((7, 6), 5, 2), ((7, 6, 5), 16, 7), ((7,), 65, 30)]
    for number, (hidden, count, batch_size) in enumerate(
        [*sizes, ((7, 6), 340, 300), ((7,), 533, 513)]
    ):
        tasks = [Task.of(count, batch_size, number % 2 == 1, seed) for seed in range(2)]
        expected = results(hidden, tasks, [0, 0])
        for workers in ([1, 1], [2, 2], [3, 3], [5, 5], [2, 0], [0, 2]):
            found = results(hidden, tasks, workers)
            for name, array in expected.items():
                assert found[name].dtype == array.dtype
                near = TOLERANCE[dtype] * float(np.abs(array).max())
                message = f"{name}, {hidden}, {workers} workers"
                np.testing.assert_allclose(found[name], array, rtol=0, atol=near, err_msg=message)


@DTYPES
def test_losses_of_images_that_are_not_learned(dtype: str) -> None:
    for count in (1, 40, 2100):
        vae, images = untrained(dtype), np.tile(IMAGES, (53, 1))[:count].reshape(-1, 4, 4)
        epsilon, before = vae.noise(count, 1), vae.parameters.flat.copy()
        expected = vae.loss(images.reshape(count, -1) / 255, epsilon)
        engine = Engine(vae, Adam(), IMAGES, workers=3)
        found = engine.average_loss(images, epsilon, beta=0.5)
        # The mean of 2,100 losses, each right to a few roundings.
        near = {"float64": 1e-12, "float32": 1e-5}[dtype]
        assert found == pytest.approx((*expected[:2], 0.5), rel=near)
        np.testing.assert_array_equal(vae.parameters.flat, before)
        assert engine.optimizer.t == 0


def test_float64_has_the_exp_of_numpy() -> None:
    """Compiled alone: the polynomials for float32 are right to seven digits."""
    compiled: Any = pytest.importorskip("numba").njit(**jit.OPTIONS)

    def apply(a: Array) -> float:
        return float(kernels.fast_exp(a[0]))

    assert compiled(apply)(np.array([0.3])) == pytest.approx(math.exp(0.3), rel=1e-15)


# ------------------------------------------------------------------ whole epochs

OF_STEPS: dict[str, Any] = {"learning_rate": 1e-2, "schedule": "cosine", "warmup": 0.5}
OF_KL: dict[str, Any] = {"beta": 2.0, "kl_warmup": 1.5}
EVERYTHING = Settings(batch_size=7, epochs=3, augment=("shift", "rotate"), **OF_STEPS, **OF_KL)


@pytest.mark.parametrize("num_classes", [0, CLASSES])
@DTYPES
def test_epochs_are_those_of_the_lesson(dtype: str, num_classes: int) -> None:
    """The same plan: order, noise, warps, and what is scheduled; of 32 of the 40 images."""
    indices, settings = np.arange(8, 40), EVERYTHING if num_classes else Settings(batch_size=16)
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


# ------------------------------------------------------------------ what is chosen


@of_our_lesson
def test_fit_takes_the_engine_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sums have another order, which shows in the last digits."""

    def history(backend: str) -> list[Any]:
        monkeypatch.setenv("NPVAE_BACKEND", backend)
        epochs = fit(untrained(), IMAGES, epochs=2, batch_size=8, test_images=IMAGES[:9])
        return [(*epoch.train, *(epoch.test or ())) for epoch in epochs]

    by_engine, by_lesson = history("auto"), history("numpy")
    assert by_engine != by_lesson
    np.testing.assert_allclose(by_engine, by_lesson, rtol=4e-5)


@of_our_lesson
def test_an_engine_that_cannot_be_compiled_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise jit.CannotCompile("Numba cannot compile it: no room")

    monkeypatch.setenv("NPVAE_BACKEND", "auto")
    # In place of ours: what is compiled already in this process cannot fail to be compiled.
    monkeypatch.setattr("npvae.fast.engine.Engine", fails)
    with pytest.warns(UserWarning, match="NumPy trains, without the engine: .* no room"):
        (epoch,) = fit(untrained(), IMAGES, epochs=1)
    assert math.isfinite(epoch.train.total)


@of_our_lesson
def test_the_engine_diverges_as_the_lesson_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batch is named, and the same last finite loss."""
    said = []
    for backend in fast.BACKENDS:
        monkeypatch.setenv("NPVAE_BACKEND", backend)
        vae = untrained()
        with pytest.raises(DivergedError, match="batch") as caught:
            fit(vae, IMAGES, batch_size=3, learning_rate=1e3)
        said.append((str(caught.value), vae.parameters.flat))
    assert said[0][0] == said[1][0]
    np.testing.assert_allclose(said[0][1], said[1][1], rtol=1e-4)
