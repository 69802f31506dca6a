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
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np
import pytest

import npvae
from npvae import VAE, Adam, fit
from npvae.fast import describe, jit

if jit.WHY_NOT:
    pytest.skip(f"there is no engine: {jit.WHY_NOT}", allow_module_level=True)

from npvae.fast import engine as engine_module
from npvae.fast.atomics import X86
from npvae.fast.engine import Engine
from tests.helpers import ROOT, Said, refused, run

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


def three_classes(labels: Any) -> Engine:
    return Engine(VAE(16, (7,), 3, num_classes=3), Adam(), IMAGES[:5], labels)


NOT_SQUARE = np.zeros((40, 12), np.uint8)
MISFITS: dict[str, Callable[[Engine], object]] = {
    "an image beyond the last": lambda engine: train(engine, indices=[*range(19), 40]),
    "an image before the first": lambda engine: train(engine, indices=[*range(19), -1]),
    "fractions of images": lambda engine: train(engine, indices=np.linspace(0, 39, 20)),
    "rows of images": lambda engine: train(engine, indices=np.zeros((20, 1), np.int64)),
    "noise for other latents": lambda engine: train(engine, epsilon=np.zeros((20, 4))),
    "too few betas": lambda engine: train(engine, betas=[1, 1, 1]),
    "too many learning rates": lambda engine: train(engine, learning_rates=[1] * 5),
    "too few warps": lambda engine: train(engine, warps=np.zeros((19, 2, 3))),
    "no image in a batch": lambda engine: train(engine, batch_size=0),
    "warps of what is not square": lambda _: train(
        Engine(VAE(12, (7,), 3), Adam(), NOT_SQUARE), warps=np.zeros((20, 2, 3))
    ),
    "pixels as floats": lambda _: small_engine(images=IMAGES / 255),
    "a pixel too few": lambda engine: engine.average_loss(IMAGES[:, :15], task(40)["epsilon"]),
    "no labels": lambda _: three_classes(None),
    "a class too many": lambda _: three_classes([0, 1, 2, 3, 0]),
    "labels for too few": lambda _: three_classes([0, 1]),
}


def test_misfits_are_refused_before_anything_changes(said: Said) -> None:
    engine, found = small_engine(), {}
    before = engine.vae.parameters.flat.copy()
    for misfit, use in MISFITS.items():
        with pytest.raises((IndexError, ValueError)) as caught:
            use(engine)
        found[misfit] = f"{caught.type.__name__}: {caught.value}"
        np.testing.assert_array_equal(engine.vae.parameters.flat, before)
        assert engine.optimizer.t == 0
    said("the engine refuses", found)


def test_labels_may_be_of_any_integers() -> None:
    for dtype in (np.int8, np.uint64, ">i4"):
        three_classes(np.array([0, 1, 2, 1, 0], dtype))


def test_images_in_any_memory_give_the_same() -> None:
    """Transposed, in rows and columns, read-only and held by nobody else; and none is changed."""

    def temporary(images: Any) -> Any:
        return np.frombuffer(bytes(images.data), np.uint8).reshape(images.shape)

    engine, expected = small_engine(images=temporary(IMAGES)), train(small_engine())
    assert train(engine) == expected
    for images in (np.asfortranarray(IMAGES), IMAGES.reshape(40, 4, 4)):
        assert train(small_engine(images=images)) == expected
        np.testing.assert_array_equal(images.reshape(40, 16), IMAGES)
    many, epsilon = np.tile(IMAGES, (500, 1)), engine.vae.noise(20_000, 0)
    assert engine.average_loss(temporary(many), epsilon) == engine.average_loss(many, epsilon)


@pytest.mark.parametrize("sizes", [((7,), 3), ((20,), 3)], ids=["of equal size", "of another"])
def test_an_optimizer_of_another_model_is_refused(sizes: Any) -> None:
    """Its state was read and written beyond its end."""
    first = small_engine()
    train(first)
    adam, other = first.optimizer, VAE(16, sizes[0], sizes[1], rng=4)
    before = first.vae.parameters.flat.copy(), other.parameters.flat.copy(), adam.t
    with refused(ValueError, "steps for another model", "Make a new one"):
        Engine(other, adam, IMAGES)
    with refused(ValueError, "steps for another model"):
        fit(other, IMAGES, 1, optimizer=adam)
    after = first.vae.parameters.flat, other.parameters.flat, adam.t
    for kept, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(kept, now)


@pytest.mark.parametrize("what", ["parameters", "v"])
def test_numbers_that_compiled_code_cannot_change_are_refused(what: str) -> None:
    engine = small_engine()
    train(engine)
    arrays = engine.vae.parameters if what == "parameters" else engine.optimizer.state[what]
    arrays.flat.flags.writeable = False
    with refused(ValueError, f"{what} must be 323 numbers of float32, ", "writable"):
        train(engine)


def test_arrays_that_are_given_stay_as_they_are() -> None:
    given = {**task(), "warps": np.random.default_rng(3).normal(size=(20, 2, 3))}
    kept = {name: np.copy(value) for name, value in given.items()}
    train(small_engine(), **given)
    for name, value in kept.items():
        np.testing.assert_array_equal(given[name], value)


# ------------------------------------------------------------------ divergence


def parameters_after(steps: int, workers: int = 2) -> Any:
    """Those of an engine that has trained on exactly so many batches of the task."""
    engine, given = small_engine(workers), task()
    for name in ("indices", "epsilon"):
        given[name] = given[name][: 6 * steps]
    for name in ("betas", "learning_rates"):
        given[name] = given[name][:steps]
    assert len(list(engine.train(**given))) >= min(steps, 1)  # nothing, without images
    return engine.vae.parameters.flat


@pytest.mark.parametrize(
    ("batch", "bad", "workers"),
    [(0, math.nan, 2), (1, math.inf, 1), (1, math.nan, 3), (3, math.inf, 2), (3, math.nan, 1)],
)
def test_a_loss_that_is_not_finite_stops_before_its_gradients_are_used(
    batch: int, bad: float, workers: int
) -> None:
    """As soon as one image of the batch has such noise, whichever worker gets it."""
    for place in {min(6 * batch + 5, 19), 6 * batch}:
        engine, epsilon = small_engine(workers), task()["epsilon"]
        epsilon[place] = bad
        losses = train(engine, epsilon=epsilon)
        assert [math.isfinite(loss) for loss in losses] == [True] * batch + [False]
        assert engine.optimizer.t == batch
        expected = parameters_after(batch, workers)
        np.testing.assert_array_equal(engine.vae.parameters.flat, expected)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "tanh"])
def test_a_nan_in_any_parameter_shows_in_the_loss(activation: str) -> None:
    for name in VAE(16, (7,), 3).parameters:
        vae = VAE(16, (7,), 3, activation=activation)
        vae.parameters[name].flat[0] = math.nan
        (loss,) = train(Engine(vae, Adam(), IMAGES, workers=2))
        assert math.isnan(loss), name


# ------------------------------------------------------------------ stopping


def large_engine(hidden: int = 512) -> tuple[Engine, Arguments]:
    """An engine, and work for half a minute on two cores."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (512, 784), np.uint8)
    engine = Engine(VAE(784, (hidden,), 10, rng=rng), Adam(), images, workers=2)
    given = {
        "indices": np.tile(np.arange(512), 1000),
        "epsilon": np.zeros((512_000, 10), np.float32),
        "batch_size": 512,
        "betas": np.ones(1000),
        "learning_rates": np.full(1000, 1e-4),
    }
    return engine, given


def test_ctrl_c_is_heard_while_it_computes() -> None:
    """No worker is left at work: the engine goes on."""
    engine, given = large_engine()
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    seen, heard = 0, False
    try:
        timer.start()
        for bce, _ in engine.train(**given):
            seen += len(bce)
    except KeyboardInterrupt:
        heard = True
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert heard
    steps = engine.optimizer.t
    assert seen <= steps < 1000
    more, _ = next(engine.train(**given))
    assert engine.optimizer.t == steps + len(more)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_signal_at_any_call_leaves_model_and_optimizer_in_step(
    every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises Ctrl-C where a function is called or returns: here at such places in turn.

    The parameters are always those of exactly `t` steps, and the engine goes on.
    """
    monkeypatch.setattr(engine_module, "LOOKS", 1e-9)  # a batch at a time
    references = [parameters_after(steps) for steps in range(5)]
    package = os.path.dirname(npvae.__file__)  # a folder above it may be called npvae, too
    stops, place = set(), 0
    while True:
        engine, events = small_engine(2), 0
        place += every

        def interrupt(frame: FrameType, *_: object, place: int = place) -> None:
            nonlocal events
            if frame.f_code.co_filename.startswith(package):
                events += 1
                if events == place:
                    raise KeyboardInterrupt

        sys.setprofile(interrupt)
        try:
            train(engine)
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        if events < place:
            break
        steps = engine.optimizer.t
        stops.add(steps)
        np.testing.assert_array_equal(engine.vae.parameters.flat, references[steps])
        assert steps == 4 or len(train(engine)) == 4
    assert stops == {0, 1, 2, 3, 4}
    assert place > 100


def test_it_looks_up_several_times_a_second_and_stops_with_whoever_looks() -> None:
    """Each portion is planned for a tenth of a second; the first ones find out how long that is."""
    engine, given = large_engine(hidden=64)
    training, portions = engine.train(**given), []
    for _ in range(4):
        portions.append(len(next(training)[0]))  # planned by the time of the portion before
        assert portions[-1] == max(1, int(0.1 / engine.seconds_per_batch.get(512, 0.1)))
        assert engine.optimizer.t == sum(portions)
    training.close()
    assert portions[0] == 1
    assert engine.optimizer.t == sum(portions)


# ------------------------------------------------------------------ threads


@pytest.mark.parametrize("possible", [0, 1])
def test_the_bytes_are_those_of_the_shares_however_many_threads_there_are(
    possible: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, the calling thread does all."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == possible:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    expected, whole = small_engine(4), small_engine(4)
    losses = train(expected)
    monkeypatch.setattr(threading.Thread, "start", limited)
    assert train(whole) == losses
    np.testing.assert_array_equal(whole.vae.parameters.flat, expected.vae.parameters.flat)


def test_a_thread_that_is_lost_costs_nothing() -> None:
    """It never begins, or comes when all is done: the others do its tasks."""
    engine, late = small_engine(3), []

    def submit(*task: Any) -> None:
        late.append(task)

    engine.threads.submit = submit  # type: ignore[method-assign, assignment]
    assert train(engine) == train(small_engine(3))
    after = engine.vae.parameters.flat.copy()
    for function, *arguments in late:  # when all is done, there is nothing left to do
        function(*arguments)
    np.testing.assert_array_equal(engine.vae.parameters.flat, after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_an_engine_made_before_a_fork_works_after_it() -> None:
    """Its threads are those of the parent; in a process of its own, as pytest has threads too."""
    program = (
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"  # Python 3.12: a fork of several threads
        "from tests.fast.test_engine import small_engine, train\n"
        "expected, engine = train(small_engine(3)), small_engine(3)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if train(engine) == expected else 9)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), train(engine) == expected)\n"
    )
    done = run([sys.executable, "-c", program], cwd=ROOT)
    assert done.stdout == "0 True\n", done.stderr


def test_an_engine_that_another_thread_uses_is_refused() -> None:
    engine, given = large_engine()
    begun, stop = threading.Event(), threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with suppress(RuntimeError):  # it may be refused as well
                for _ in engine.train(**given):
                    begun.set()
                    if stop.is_set():
                        break

    thread = threading.Thread(target=busy)
    thread.start()
    begun.wait()
    images, epsilon = np.zeros((2000, 784), np.uint8), np.zeros((2000, 10), np.float32)

    def until_refused() -> None:  # between two portions it is free, for a moment
        for _ in range(1000):
            engine.average_loss(images, epsilon)

    try:
        with refused(RuntimeError, "another thread uses this engine"):
            until_refused()
    finally:
        stop.set()
        thread.join()
    assert np.isfinite(engine.average_loss(images, epsilon).total)


def test_there_is_a_share_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    images = np.zeros((3, 784), np.uint8)
    assert Engine(VAE(784, (7,), 3), Adam(), images).shares == 3
    assert Engine(VAE(784, (7,), 3), Adam(), images, workers=5).shares == 5
    # With few pixels for each, they would wait longer than they work.
    assert Engine(VAE(100, (7,), 3), Adam(), images[:, :100]).shares == 2
    assert Engine(VAE(16, (7,), 3), Adam(), IMAGES).shares == 1


def test_blas_has_one_thread_while_the_engine_runs_and_as_many_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when NumPy was imported first, with threads: they would fight for the workers' cores."""
    said: list[int] = []
    read = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3)
    write = ctypes.CFUNCTYPE(None, ctypes.c_int)(said.append)
    # Real ones cannot be asked while compiled code runs.
    monkeypatch.setattr(engine_module, "thread_functions", lambda: (read, write))
    engine = small_engine()
    next(engine.train(**task()))
    assert said == [1, 3]
    engine.average_loss(IMAGES, np.zeros((40, 3), np.float32))
    assert said == [1, 3, 1, 3]
    monkeypatch.setattr(engine_module, "thread_functions", lambda: None)  # nor tells its threads
    assert train(small_engine())


# ------------------------------------------------------------------ numbers


def test_a_warp_that_is_no_number_shows_in_the_loss_and_reads_nothing_beyond() -> None:
    warps = np.zeros((20, 2, 3))
    warps[:, 0, 0] = warps[:, 1, 1] = 1
    warps[13, 0, 2], warps[14] = 1e300, math.nan
    losses = train(small_engine(), warps=warps)
    assert np.isfinite(losses[:2]).all()
    assert math.isnan(losses[2])


@pytest.mark.skipif(not X86, reason="only done on x86-64")
def test_numbers_that_decay_to_almost_nothing_are_nothing_but_only_inside() -> None:
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
    # The calling thread is the first worker, and continues with NumPy afterwards.
    assert (np.full(100, 1e-40, np.float32) * np.float32(0.5) > 0).all()


def test_the_plan_says_what_trains_a_model_that_the_engine_does_not_know() -> None:
    class Another(VAE):
        pass

    assert describe("numpy", VAE(), Adam) == "NumPy (as asked for)"
    known, unknown = (describe("auto", kind(), Adam) for kind in (VAE, Another))
    assert unknown.startswith("NumPy (")
    if known.startswith("engine"):
        assert unknown == "NumPy (the engine does not know this kind of model)"
