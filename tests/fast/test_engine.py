"""The engine is given only what fits, can be stopped at any time, and leaves no trace.

That it computes the right numbers: tests/test_lesson_and_engine.py.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Adam
from npvae.fast import describe, jit

if jit.WHY_NOT:
    pytest.skip(f"there is no engine: {jit.WHY_NOT}", allow_module_level=True)

from npvae.fast import engine as engine_module
from npvae.fast.atomics import X86
from npvae.fast.blas import thread_functions
from npvae.fast.engine import Engine
from tests.helpers import ROOT, run

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16), np.uint8)
Arguments = dict[str, Any]


def small_engine(workers: int = 2, images: Any = IMAGES) -> Engine:
    vae = VAE(16, (7,), 3, rng=np.random.default_rng(1))
    return Engine(vae, Adam(), images, workers=workers)


def task(count: int = 20, batch_size: int = 6) -> Arguments:
    rng, batches = np.random.default_rng(2), math.ceil(count / batch_size)
    return {
        "indices": rng.integers(0, 40, count),
        "epsilon": rng.standard_normal((count, 3), np.float32),
        "batch_size": batch_size,
        "betas": np.ones(batches),
        "learning_rates": np.full(batches, 1e-2),
    }


def train(engine: Engine, **changes: Any) -> list[float]:
    """Train; the loss of every batch."""
    losses = [bce + kl for bce, kl in engine.train(**{**task(), **changes})]
    return [float(loss) for loss in np.concatenate(losses)]


# ------------------------------------------------------------------ what it is given


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"indices": [*range(19), 40]}, IndexError, "there are 40 images, no number 0 to 40"),
        ({"indices": [*range(19), -1]}, IndexError, "there are 40 images, no number -1 to 18"),
        ({"indices": [*range(19)]}, ValueError, r"epsilon must have shape \(19, 3\)"),
        ({"epsilon": np.zeros((20, 4))}, ValueError, r"epsilon must have shape \(20, 3\)"),
        ({"epsilon": np.zeros(20)}, ValueError, "epsilon must have shape"),
        ({"betas": [1, 1, 1]}, ValueError, r"betas must have shape \(4,\)"),
        ({"learning_rates": [1] * 5}, ValueError, r"learning_rates must have shape \(4,\)"),
        ({"warps": np.zeros((19, 2, 3))}, ValueError, r"warps must have shape \(20, 2, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_changes(
    changes: Arguments, error: type[Exception], message: str
) -> None:
    engine = small_engine()
    before = engine.vae.parameters.flat.copy()
    with pytest.raises(error, match=message):
        train(engine, **changes)
    np.testing.assert_array_equal(engine.vae.parameters.flat, before)
    assert engine.optimizer.t == 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(float), "images must be bytes"),
        (IMAGES[:, :15], r"images must be bytes \(N, 16\)"),
        (IMAGES.reshape(20, 32), r"images must be bytes \(N, 16\)"),
    ],
)
def test_images_that_do_not_fit_are_refused(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_engine(images=images)
    with pytest.raises(ValueError, match=message):
        small_engine().average_loss(images, np.zeros((len(images), 3), np.float32))


def test_images_that_are_not_square_cannot_be_warped() -> None:
    images = np.zeros((5, 12), np.uint8)
    engine = Engine(VAE(12, (7,), 3), Adam(), images)
    few = {**task(5, 5), "indices": range(5)}
    with pytest.raises(ValueError, match="only square images"):
        list(engine.train(**few, warps=np.zeros((5, 2, 3))))


def test_images_in_any_memory_give_the_same() -> None:
    """Read-only, transposed, in rows and columns; and none is changed."""
    read_only = np.frombuffer(IMAGES.tobytes(), np.uint8).reshape(40, 16)
    assert not read_only.flags.writeable
    others = [read_only, np.asfortranarray(IMAGES), IMAGES.reshape(40, 4, 4), IMAGES.copy()]
    results = [train(small_engine(images=images)) for images in others]
    assert all(losses == results[0] for losses in results)
    assert all((images.reshape(40, 16) == IMAGES).all() for images in others)
    kept = small_engine(images=np.frombuffer(IMAGES.tobytes(), np.uint8).reshape(40, 16))
    assert train(kept) == results[0]  # nobody but the engine holds them


def test_what_it_is_given_stays_as_it_is() -> None:
    given = {**task(), "warps": np.random.default_rng(3).normal(size=(20, 2, 3))}
    kept = {name: np.copy(value) for name, value in given.items()}
    train(small_engine(), **given)
    for name, value in kept.items():
        np.testing.assert_array_equal(given[name], value)


def test_nothing_is_done_without_images() -> None:
    engine = small_engine()
    assert list(engine.train(**{**task(), **task(0)})) == []
    assert engine.optimizer.t == 0


# ------------------------------------------------------------------ divergence


def reference(steps: int, **changes: Any) -> Engine:
    """An engine that has trained on exactly so many batches of the task."""
    engine, given = small_engine(), {**task(), **changes}
    images = min(6 * steps, 20)
    for name in ("indices", "epsilon"):
        given[name] = given[name][:images]
    for name in ("betas", "learning_rates"):
        given[name] = given[name][:steps]
    train(engine, **given)
    return engine


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_loss_that_is_not_finite_stops_before_its_gradients_are_used(
    batch: int, bad: float, workers: int
) -> None:
    """As soon as one image of the batch has such noise, whichever worker gets it."""
    for place in {min(6 * batch + 5, 19), 6 * batch}:
        engine, epsilon = small_engine(workers), task()["epsilon"]
        epsilon[place] = bad
        losses = train(engine, epsilon=epsilon)
        assert len(losses) == batch + 1
        assert np.isfinite(losses[:-1]).all()
        assert not math.isfinite(losses[-1])
        assert engine.optimizer.t == batch
        assert np.isfinite(engine.vae.parameters.flat).all()
        if batch and workers == 2:
            expected = reference(batch).vae.parameters.flat
            np.testing.assert_array_equal(engine.vae.parameters.flat, expected)


@pytest.mark.parametrize("name", list(VAE(16, (7,), 3).parameters))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_in_any_parameter_shows_in_the_loss(name: str, dtype: str) -> None:
    for activation in ("relu", "leaky_relu", "elu", "tanh"):
        vae = VAE(16, (7,), 3, activation=activation, dtype=dtype)
        vae.parameters[name].flat[0] = math.nan
        (loss,) = train(Engine(vae, Adam(), IMAGES, workers=2))
        assert math.isnan(loss)


def test_a_learning_rate_that_explodes_ends_in_a_loss_that_is_not_finite() -> None:
    losses = train(small_engine(), learning_rates=np.full(4, 1e6))
    assert not math.isfinite(losses[-1])
    assert len(losses) < 4


# ------------------------------------------------------------------ stopping


def large_engine() -> tuple[Engine, Arguments]:
    """An engine with 2,048 hidden units, which would work for minutes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (512, 784), np.uint8)
    engine = Engine(VAE(784, (2048,), 10, rng=rng), Adam(), images, workers=2)
    given = {
        "indices": np.tile(np.arange(512), 1000),
        "epsilon": np.zeros((512_000, 10), np.float32),
        "batch_size": 512,
        "betas": np.ones(1000),
        "learning_rates": np.full(1000, 1e-4),
    }
    return engine, given


def test_ctrl_c_is_heard_while_it_computes() -> None:
    """No worker is left at work, and exactly the counted steps have been made."""
    engine, given = large_engine()
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    seen, heard = 0, False
    try:
        timer.start()
        try:
            for bce, _ in engine.train(**given):
                seen += len(bce)
        except KeyboardInterrupt:
            heard = True
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert heard
    assert seen <= engine.optimizer.t < 1000
    again, given = large_engine()
    steps = engine.optimizer.t
    short = {name: given[name][: steps * 512] for name in ("indices", "epsilon")}
    rates = {name: given[name][:steps] for name in ("betas", "learning_rates")}
    list(again.train(**{**given, **short, **rates}))
    np.testing.assert_array_equal(engine.vae.parameters.flat, again.vae.parameters.flat)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_ctrl_c_while_results_are_handed_back_loses_none(
    call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model, the optimizer and its count of steps agree, whenever the signal comes."""
    images = np.random.default_rng(0).integers(0, 256, (60, 784), np.uint8)
    given: dict[str, Any] = {
        "indices": np.arange(60),
        "epsilon": np.zeros((60, 3), np.float32),
        "batch_size": 20,
        "betas": np.ones(3),
        "learning_rates": np.full(3, 1e-3),
    }
    right, calls = Engine._share_out, 0

    def interrupted(engine: Engine, rule: Any, back: bool = False) -> None:
        nonlocal calls
        if back:
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
        right(engine, rule, back)

    engine = Engine(VAE(784, (8,), 3), Adam(), images, workers=2)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_share_out", interrupted)
        patch.setattr(engine_module, "LOOKS", 1e-9)  # a batch at a time
        with pytest.raises(KeyboardInterrupt):
            list(engine.train(**given))
    assert engine.optimizer.t == call
    again = Engine(VAE(784, (8,), 3), Adam(), images, workers=2)
    some = {name: given[name][: 20 * call] for name in ("indices", "epsilon")}
    some |= {name: given[name][:call] for name in ("betas", "learning_rates")}
    list(again.train(**{**given, **some}))
    np.testing.assert_array_equal(engine.vae.parameters.flat, again.vae.parameters.flat)


def test_it_looks_up_several_times_a_second() -> None:
    """Each portion is planned for a tenth of a second; the first ones find out how long that is."""
    engine, given = large_engine()
    training, portions = engine.train(**given), []
    for _ in range(4):
        portions.append(len(next(training)[0]))  # planned by the time of the portion before
        assert portions[-1] == max(1, int(0.1 / engine.seconds_per_batch.get(512, 0.1)))
        assert engine.optimizer.t == sum(portions)
    training.close()
    assert portions[0] == 1
    assert engine.optimizer.t == sum(portions)


def test_an_interruption_before_all_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers that have started do not wait for the others, and nothing has changed."""
    engine, expected = small_engine(3), train(small_engine(3))
    before = engine.vae.parameters.flat.copy()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine.threads[1], "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(engine)
    np.testing.assert_array_equal(engine.vae.parameters.flat, before)
    assert engine.optimizer.t == 0
    assert train(engine) == expected


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_of_one_worker_is_an_error_and_the_others_do_not_wait(failing: int) -> None:
    """In a process of its own: workers that wait for ever hear no signal."""
    program = (
        "from tests.fast.test_engine import small_engine, train\n"
        "engine = small_engine(3)\n"
        "right = engine.program.run\n"
        "def run(worker, *task):\n"
        f"    if worker == {failing}:\n"
        "        raise MemoryError('no room for x')\n"
        "    return right(worker, *task)\n"
        "before = engine.vae.parameters.flat.copy()\n"
        "engine.program.run = run\n"
        "try:\n"
        "    train(engine)\n"
        "except MemoryError as error:\n"
        "    print(error, engine.optimizer.t, (engine.vae.parameters.flat == before).all())\n"
    )
    done = run([sys.executable, "-c", program], cwd=ROOT)
    assert (done.stdout, done.returncode) == ("no room for x 0 True\n", 0), done.stderr


def test_whoever_stops_looking_stops_it() -> None:
    engine = small_engine()
    for _ in engine.train(**task()):
        break
    assert 1 <= engine.optimizer.t < 4


# ------------------------------------------------------------------ threads


@pytest.mark.parametrize("possible", [0, 1])
def test_where_a_thread_cannot_be_started(possible: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that start do the work; without any, the calling thread does it alone."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == possible:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    expected = train(small_engine(possible + 1))
    monkeypatch.setattr(threading.Thread, "start", limited)
    engine = small_engine(5)
    assert len(engine.threads) == possible
    assert train(engine) == expected


def test_there_is_a_worker_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "cores", lambda: 3)
    images = np.zeros((3, 784), np.uint8)
    assert len(Engine(VAE(784, (7,), 3), Adam(), images).threads) == 2
    assert len(Engine(VAE(784, (7,), 3), Adam(), images, workers=5).threads) == 4
    # With few pixels for each, they would wait longer than they work.
    assert len(Engine(VAE(100, (7,), 3), Adam(), images[:, :100]).threads) == 1
    assert len(Engine(VAE(16, (7,), 3), Adam(), IMAGES).threads) == 0


@pytest.fixture
def blas_threads() -> Any:
    """Functions that read and set the threads of BLAS; the number is restored afterwards."""
    functions = thread_functions()
    if functions is None:
        pytest.skip("BLAS does not tell its threads")
    read, write = functions
    before = read()
    yield read, lambda number: write(ctypes.c_int(number))
    write(ctypes.c_int(before))


def test_blas_has_one_thread_while_the_engine_runs_and_as_many_as_before_afterwards(
    blas_threads: tuple[Callable[[], int], Callable[[int], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when NumPy was imported first, with threads: they would fight for the workers' cores."""
    read, write = blas_threads
    engine, seen = small_engine(2), []
    run = engine.program.run

    def watched(*arguments: Any) -> Any:
        seen.append(read())
        return run(*arguments)

    monkeypatch.setattr(engine.program, "run", watched)
    write(3)
    for _ in engine.train(**task()):
        assert read() == 3
    assert set(seen) == {1}
    engine.average_loss(IMAGES, np.zeros((40, 3), np.float32))
    assert set(seen) == {1}
    assert read() == 3


# ------------------------------------------------------------------ numbers


def test_a_warp_that_is_no_number_shows_in_the_loss_and_reads_nothing_beyond() -> None:
    warps = np.zeros((20, 2, 3))
    warps[:, 0, 0] = warps[:, 1, 1] = 1
    warps[13, 0, 2], warps[14] = 1e300, math.nan
    losses = train(small_engine(), warps=warps)
    assert np.isfinite(losses[:2]).all()
    assert math.isnan(losses[2])


def test_tiny_numbers_count_as_zero_only_inside() -> None:
    """The calling thread is the first worker, and continues with NumPy afterwards."""
    train(small_engine())
    tiny = np.full(100, 1e-40, np.float32)
    assert (tiny * np.float32(0.5) > 0).all()


@pytest.mark.skipif(not X86, reason="only done on x86-64")
def test_what_has_decayed_to_almost_nothing_is_nothing() -> None:
    """Some processors take a hundred times as long for such numbers: Adam's m of black pixels."""
    images = IMAGES.copy()
    images[:, 0] = 0
    engine = small_engine(images=images)
    train(engine)
    m = engine.optimizer.state["m"]["encoder.hidden0.W"]
    assert not m[0].any()  # the weights of a pixel that is always black
    m[0] = 2e-38
    train(engine)  # four steps: 2e-38 * 0.9^4 = 1.3e-38; below 1.2e-38, no number is normal
    assert (m[0] > 0).all()
    train(engine)
    assert not m[0].any()


def test_the_plan_says_what_trains_a_model_that_the_engine_does_not_know() -> None:
    class Another(VAE):
        pass

    assert describe("numpy", VAE(), Adam) == "NumPy (as asked for)"
    known, unknown = (describe("auto", kind(), Adam) for kind in (VAE, Another))
    assert unknown.startswith("NumPy (")
    if known.startswith("engine"):
        assert unknown == "NumPy (the engine does not know this kind of model)"
