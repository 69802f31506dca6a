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
        ({"learning_rates": []}, ValueError, r"learning_rates must have shape \(4,\)"),
        ({"learning_rates": [1] * 5}, ValueError, r"learning_rates must have shape \(4,\)"),
        ({"warps": np.zeros((19, 2, 3))}, ValueError, r"warps must have shape \(20, 2, 3\)"),
        ({"indices": np.linspace(0, 39, 20)}, ValueError, "indices must be integers"),
        ({"indices": np.zeros((20, 1), int)}, ValueError, "indices must be integers"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
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


def test_read_only_images_that_nobody_else_holds_are_held() -> None:
    """Also for average_loss, which may have them alone."""

    def temporary() -> Any:
        return np.frombuffer(bytes(images.data), np.uint8).reshape(images.shape)

    images = np.random.default_rng(0).integers(0, 256, (20_000, 784), np.uint8)
    vae = VAE(784, (16,), 2)
    epsilon, engine = vae.noise(len(images), 0), Engine(vae, Adam(), images[:9], workers=1)
    assert engine.average_loss(temporary(), epsilon) == engine.average_loss(images, epsilon)


@pytest.mark.parametrize(
    "labels", [None, [0, 1, 2, -1, 0], [0.5] * 5, [0, 1], [3] * 5, [[0]] * 5, ["a"] * 5]
)
def test_labels_that_do_not_fit_are_refused(labels: Any) -> None:
    vae = VAE(16, (7,), 3, num_classes=3)
    with pytest.raises(ValueError, match="labels"):
        Engine(vae, Adam(), IMAGES[:5], labels)
    for dtype in (np.int8, np.uint64, ">i4"):
        Engine(vae, Adam(), IMAGES[:5], np.array([0, 1, 2, 1, 0], dtype))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sizes", [((7,), 3), ((7,), 5), ((20,), 3), ((7, 6), 3)])
def test_an_optimizer_of_another_model_is_refused(sizes: Any, workers: int) -> None:
    """Also one whose sizes agree. Its state was read and written beyond its end."""
    first = small_engine(workers)
    train(first)
    adam, other = first.optimizer, VAE(16, sizes[0], sizes[1], rng=4)
    before = first.vae.parameters.flat.copy(), other.parameters.flat.copy(), adam.t
    with pytest.raises(ValueError, match=r"steps for another model(.|\n)*Make a new one"):
        Engine(other, adam, IMAGES, workers=workers)
    with pytest.raises(ValueError, match="steps for another model"):
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
    with pytest.raises(ValueError, match=rf"{what} must be 323 numbers of float32, .* writable"):
        train(engine)


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
def test_a_nan_in_any_parameter_shows_in_the_loss(name: str) -> None:
    for activation in ("relu", "leaky_relu", "elu", "tanh"):
        vae = VAE(16, (7,), 3, activation=activation)
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


def test_a_signal_at_any_call_leaves_model_and_optimizer_in_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python raises Ctrl-C where a function is called or returns: here at each such place in turn.

    The parameters are always those of exactly `t` steps, BLAS's threads are as before, and the
    engine goes on.
    """
    monkeypatch.setattr(engine_module, "LOOKS", 1e-9)  # a batch at a time
    references = {steps: reference(steps).vae.parameters.flat for steps in range(1, 5)}
    references[0] = small_engine().vae.parameters.flat
    threads = thread_functions()
    package = os.path.dirname(npvae.__file__)  # a folder above it may be called npvae, too
    stops, place = set(), 0
    while True:
        engine, events = small_engine(2), 0
        place += 1

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
        assert threads is None or threads[0]() == 1
        assert steps == 4 or len(train(engine)) == 4
    assert stops == {0, 1, 2, 3, 4}
    assert place > 100


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


def test_whoever_stops_looking_stops_it() -> None:
    engine = small_engine()
    for _ in engine.train(**task()):
        break
    assert 1 <= engine.optimizer.t < 4


# ------------------------------------------------------------------ threads


@pytest.mark.parametrize("possible", [0, 1, 3])
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
    if not hasattr(os, "fork"):
        pytest.skip("there are no forks")
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
        with pytest.raises(RuntimeError, match="another thread uses this engine"):
            until_refused()
    finally:
        stop.set()
        thread.join()
    assert np.isfinite(engine.average_loss(images, epsilon).total)


def test_there_is_a_share_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "cores", lambda: 3)
    images = np.zeros((3, 784), np.uint8)
    assert Engine(VAE(784, (7,), 3), Adam(), images).shares == 3
    assert Engine(VAE(784, (7,), 3), Adam(), images, workers=5).shares == 5
    # With few pixels for each, they would wait longer than they work.
    assert Engine(VAE(100, (7,), 3), Adam(), images[:, :100]).shares == 2
    assert Engine(VAE(16, (7,), 3), Adam(), IMAGES).shares == 1


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
    write(3)
    for _ in small_engine(2).train(**task()):
        assert read() == 3
    said: list[int] = []
    functions = (
        ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 3),
        ctypes.CFUNCTYPE(None, ctypes.c_int)(said.append),
    )
    monkeypatch.setattr(engine_module, "thread_functions", lambda: functions)
    small_engine(2).average_loss(IMAGES, np.zeros((40, 3), np.float32))
    assert said == [1, 3]


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
