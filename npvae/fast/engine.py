"""The engine as Python sees it: workers, progress and interruption.

The calling thread is the first worker; each further one has a thread of its own. They compute a
tenth of a second's worth of batches in one compiled call, without the GIL. Then the calling thread
is back in Python: it reports the losses, and Ctrl-C is heard. Where no thread can be started, the
calling thread does all the work.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array, NamedArrays
from npvae.datasets.augmentation import random_warps
from npvae.datasets.minibatches import minibatches
from npvae.fast.atomics import GIVEN_UP, yield_function
from npvae.fast.blas import find_blas, one_thread
from npvae.fast.jit import Program
from npvae.fast.kernels import ACTIVATIONS, OPTIMIZERS
from npvae.fast.step import Batches, Columns, Network, Room, Rule, shard, work
from npvae.fast.threads import cores
from npvae.losses import Loss
from npvae.model import VAE
from npvae.settings import Settings
from npvae.training import Plan

LOOKS = 0.1  # seconds between two looks at progress and signals
FEWEST_PIXELS = 49  # of each worker, by default: 784 are enough for 16
TEST_BATCH = 1000  # images at a time where nothing is learned

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]


class Engine:
    """Trains `vae` on `images` (N, D) or (N, rows, columns) of bytes by `optimizer`, all in place.

    `labels` (N,) are the classes of a conditional model. There are as many workers as cores, unless
    `workers` says otherwise. The first engine for a dtype may have to compile for some seconds, see
    `fast.must_compile`. Raises CannotCompile.
    """

    def __init__(
        self,
        vae: VAE,
        optimizer: Optimizer,
        images: Bytes,
        labels: Bytes | None = None,
        workers: int | None = None,
    ) -> None:
        self.vae, self.optimizer = vae, optimizer
        self.given = images, labels  # their memory is used as long as the engine lives
        self.images, self.labels = self._checked(images, labels)
        wanted = workers or min(cores(), max(1, vae.input_dim // FEWEST_PIXELS))
        self.threads = start_threads(min(wanted, vae.input_dim) - 1)
        blas = find_blas()
        assert blas is not None, "why_not was not asked"
        count, layers = 1 + len(self.threads), layer_table(vae)
        self.network = Network(
            layers=layers,
            activation=ACTIVATIONS[vae.activation],
            parameters=vae.parameters.flat,
            gradients=np.zeros((count, len(vae.parameters.flat)), vae.dtype),
            losses=np.zeros((count, 8)),
            counter=np.zeros(1, np.int64),
            blas=(blas.gemm[vae.dtype.name], blas.integer(0)),
            yield_address=yield_function(),
        )
        self.seconds_per_batch: dict[int, float] = {}  # by batch size, as measured last
        self.program = program(vae.dtype.name)
        nothing = self._batches(self.images, self.labels, [], np.zeros((0, vae.latent_dim)), None)
        rule = self._rule()
        self.columns = [self._columns(worker, rule) for worker in range(count)]
        room = self._room(1)
        self.program.prepare((0, 0, 0, 1, self.network, self.columns[0], room, rule, nothing))

    def train(
        self,
        indices: ArrayLike,
        epsilon: Array,
        batch_size: int,
        betas: ArrayLike,
        learning_rates: ArrayLike,
        warps: Array | None = None,
    ) -> Generator[tuple[Floats, Floats], None, None]:
        """Train on the images of these indices (n,) in this order, batch_size at a time.

        With noise epsilon (n, Z) and, if given, warps (n, 2, 3), see augmentation.py. Each batch
        has its own beta and learning rate (batches,).

        Yields bce and kl of the batches since the last look, as arrays. Ends early after a batch
        whose loss is not finite, before its gradients are used. Raises IndexError or ValueError
        before anything has changed if the arrays do not fit.
        """
        data = self._batches(
            self.images, self.labels, indices, epsilon, warps, betas, learning_rates, batch_size
        )
        rule = self._rule()
        before, room = self.optimizer.t, self._room(min(batch_size, len(data.indices)))
        self._share_out(rule)
        for first, last in self._portions(len(data.indices), batch_size):
            try:
                stopped = self._run(first, last, batch_size, room, rule, data)
            finally:
                to_the_end(lambda: self._settle(rule, before, data))
            done = min(stopped + 1, last)
            yield data.bce[first:done], data.kl[first:done]
            if stopped < last:
                return

    def train_epoch(self, plan: Plan, settings: Settings) -> Iterator[Loss]:
        """Like training.train_epoch, except that the losses come ten times a second.

        After a loss that is not finite there is no further one.
        """
        count, kinds = len(plan.shuffled), settings.augment
        epsilon, warps = self.vae.noise(count, plan.noise), None
        if kinds:
            batches = minibatches(plan.shuffled, settings.batch_size)
            warps = np.concatenate([random_warps(len(b), kinds, plan.warps) for b in batches])
        betas = iter(plan.betas)
        given = settings.batch_size, plan.betas, plan.learning_rates, warps
        for bce, kl in self.train(plan.shuffled, epsilon, *given):
            yield from map(Loss, bce.tolist(), kl.tolist(), betas)

    def average_loss(
        self, images: Bytes, epsilon: Array, beta: float = 1.0, labels: Bytes | None = None
    ) -> Loss:
        """The mean loss of images (N, ...) with noise epsilon (N, Z); nothing is learned."""
        images, labels = self._checked(images, labels)
        data = self._batches(images, labels, np.arange(len(images)), epsilon, None)
        rule, room = self._rule(), self._room(min(TEST_BATCH, len(images)))
        self._share_out(rule)
        for first, last in self._portions(len(images), TEST_BATCH):
            self._run(first, last, TEST_BATCH, room, rule, data)
        lengths = np.diff([*range(0, len(images), TEST_BATCH), len(images)])
        bce, kl = (float(np.average(means, weights=lengths)) for means in (data.bce, data.kl))
        return Loss(bce, kl, beta)

    # ------------------------------------------------------------------ the workers

    def _portions(self, images: int, batch_size: int) -> Iterator[tuple[int, int]]:
        """Ranges of batches, first to last - 1, each of about LOOKS seconds.

        All batches of a range have the same length: a shorter last batch is a range of its own.
        """
        full, count, first = images // batch_size, math.ceil(images / batch_size), 0
        while first < count:
            some = max(1, int(LOOKS / self.seconds_per_batch.get(batch_size, LOOKS)))
            last = min(first + some, full if first < full else count)
            start = perf_counter()
            yield first, last
            self.seconds_per_batch[batch_size] = (perf_counter() - start) / (last - first)
            first = last

    def _run(
        self, first: int, last: int, batch_size: int, room: Room, rule: Rule, data: Batches
    ) -> int:
        """All workers, each its part of these batches; returns where they stopped."""
        batches = first, last, batch_size
        tasks = [(*batches, self.network, own, room, rule, data) for own in self.columns]
        others: list[Future[int]] = []
        self.network.counter[0] = 0

        def part(worker: int) -> int:
            try:
                return int(self.program.run(worker, *tasks[worker]))
            except BaseException:  # no memory is left: the others must not wait
                self.network.counter[0] = GIVEN_UP
                raise

        with one_thread():
            try:
                for worker, thread in enumerate(self.threads, start=1):
                    others.append(thread.submit(part, worker))
                stopped = part(0)
            except BaseException:  # Ctrl-C, perhaps before all have started: do not wait
                self.network.counter[0] = GIVEN_UP
                raise
            finally:
                to_the_end(lambda: wait(others))
        for other in others:
            other.result()  # raises what the worker has raised
        return stopped

    def _settle(self, rule: Rule, before: int, data: Batches) -> None:
        """Hand everything that was learned back to the model and the optimizer."""
        self._share_out(rule, back=True)
        self.optimizer.t = int(rule.t[0])
        if self.optimizer.t > before:
            latest = data.learning_rate[self.optimizer.t - before - 1]
            self.optimizer.learning_rate = float(latest)

    # ------------------------------------------------------------------ what is whose

    def _columns(self, worker: int, rule: Rule) -> Columns:
        """Arrays for a worker's own columns of the last layer and their optimizer state.

        A single worker uses the arrays of the model and the optimizer themselves.
        """
        if not self.threads:
            start = self.network.layers[-1, 2]
            flats = self.vae.parameters.flat, rule.first, rule.second
            return Columns(*(flat[start:] for flat in flats))
        size = sum(part.size for part in self._last_layer(worker, self.vae.parameters))
        theta, first, second = (np.zeros(size, self.vae.dtype) for _ in range(3))
        return Columns(theta, first, second if rule.second is not rule.first else first)

    def _last_layer(self, worker: int, arrays: NamedArrays) -> list[Array]:
        """Views of a worker's columns, where these are arrays for all parameters."""
        W, b = arrays["decoder.logits.W"], arrays["decoder.logits.b"]
        own = slice(*shard(len(b), worker, 1 + len(self.threads)))
        return [W[:, own], b[own]]

    def _share_out(self, rule: Rule, back: bool = False) -> None:
        """Copy the columns of parameters and state to the workers they belong to, or back."""
        if not self.threads:
            self.columns = [self._columns(0, rule)]
            return
        named = [self.vae.parameters, *self.optimizer.state.values()]
        for worker, own in enumerate(self.columns):
            for arrays, flat in zip(named, own, strict=False):
                W, b = self._last_layer(worker, arrays)
                copies = flat[: W.size].reshape(W.shape), flat[W.size :]
                for part, copy in zip((W, b), copies, strict=True):
                    np.copyto(part, copy) if back else np.copyto(copy, part)

    def _room(self, images: int) -> Room:
        """Where the workers exchange the activations of so many images."""
        hidden, workers = self.vae.hidden_dims[0], len(self.columns)

        def room(*shape: int) -> Array:
            return np.empty((*shape, images, hidden), self.vae.dtype)

        return Room(room(workers), room(), room(workers), room())

    # ------------------------------------------------------------------ what they are given

    def _checked(self, images: Bytes, labels: Bytes | None) -> tuple[Bytes, Bytes]:
        """Both as compiled code takes them. Raises ValueError if they do not fit the network."""
        vae, (inputs, _) = self.vae, self.vae.parameters.shapes["encoder.hidden0.W"]
        classes = inputs - vae.input_dim
        if images.dtype != np.uint8 or math.prod(images.shape[1:]) != vae.input_dim:
            raise ValueError(
                f"images must be bytes (N, {vae.input_dim}), not {images.dtype} {images.shape}"
            )
        if classes and (
            labels is None or labels.shape != images.shape[:1] or labels.max(initial=0) >= classes
        ):
            raise ValueError(f"a conditional model needs a label below {classes} for each image")
        none = np.zeros(0, np.uint8)
        flat = np.ascontiguousarray(images).reshape(len(images), -1)
        return writable(flat), none if labels is None else writable(
            np.ascontiguousarray(labels, np.uint8)
        )

    def _batches(
        self,
        images: Bytes,
        labels: Bytes,
        indices: ArrayLike,
        epsilon: Array,
        warps: Array | None,
        betas: ArrayLike | None = None,
        learning_rates: ArrayLike = (),
        batch_size: int = TEST_BATCH,
    ) -> Batches:
        """All inputs of the compiled code, which checks nothing.

        Raises IndexError or ValueError if they do not fit.
        """
        indices = np.require(indices, np.int64, ["C", "W"])
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(images):
            raise IndexError(
                f"there are {len(images)} images, no number {indices.min()} to {indices.max()}"
            )
        count = math.ceil(len(indices) / batch_size)
        betas = np.ones(count) if betas is None else np.require(betas, np.float64, ["C", "W"])
        rates = np.require(learning_rates, np.float64, ["C", "W"])
        epsilon = np.require(epsilon, self.vae.dtype, ["C", "W"])
        warps = np.zeros((0, 2, 3)) if warps is None else np.require(warps, np.float64, ["C", "W"])
        shapes: dict[str, tuple[tuple[int, ...], list[tuple[int, ...]]]] = {
            "epsilon": (epsilon.shape, [(len(indices), self.vae.latent_dim)]),
            "warps": (warps.shape, [(len(indices), 2, 3), (0, 2, 3)]),
            "betas": (betas.shape, [(count,)]),
            "learning_rates": (rates.shape, [(count,), (0,)]),
        }
        for name, (shape, allowed) in shapes.items():
            if shape not in allowed:
                raise ValueError(f"{name} must have shape {allowed[0]}, not {shape}")
        if len(warps) and math.isqrt(self.vae.input_dim) ** 2 != self.vae.input_dim:
            raise ValueError("only square images can be warped")
        results = np.full((2, count), np.nan)
        return Batches(
            images, labels, indices, epsilon, warps, betas, rates, results[0], results[1]
        )

    def _rule(self) -> Rule:
        """The optimizer in numbers and arrays."""
        optimizer = self.optimizer
        if optimizer.t == 0:
            optimizer.init_state(self.vae.parameters)
        names = [name for name in optimizer.settings if name not in ("name", "learning_rate", "t")]
        numbers = [float(getattr(optimizer, name)) for name in names]
        state = [arrays.flat for arrays in optimizer.state.values()]
        return Rule(
            kind=OPTIMIZERS[optimizer.name],
            settings=np.array([*numbers, 0, 0][:3]),
            first=state[0],
            second=state[-1],
            t=np.array([optimizer.t]),
        )


def to_the_end(action: Callable[[], object]) -> None:
    """Run an action to its end: a Ctrl-C during it is raised afterwards.

    The action may run twice.
    """
    try:
        action()
    except BaseException:
        action()
        raise


PROGRAMS: dict[str, Program] = {}


def program(dtype: str) -> Program:
    """The compiled step for this dtype: one for each, whatever the network and the optimizer."""
    if dtype not in PROGRAMS:
        PROGRAMS[dtype] = Program(work, dtype)
    return PROGRAMS[dtype]


def start_threads(count: int) -> list[ThreadPoolExecutor]:
    """So many threads that wait for work, or as many as can be started."""
    threads: list[ThreadPoolExecutor] = []
    for _ in range(count):
        thread = ThreadPoolExecutor(1)
        try:
            thread.submit(int).result()
        except RuntimeError:  # the system has no more
            break
        threads.append(thread)
    return threads


def layer_table(vae: VAE) -> NDArray[np.int64]:
    """Each layer's inputs and outputs, and where in the flat parameters its W and b begin."""
    table, start = [], 0
    for name, shape in vae.parameters.shapes.items():
        if name.endswith(".W"):  # followed by its b
            table.append((*shape, start, start + math.prod(shape)))
        start += math.prod(shape)
    return np.array(table, np.int64)


def writable(array: Bytes) -> Bytes:
    """The same memory, marked as writable: to Numba a read-only array is of another type."""
    if array.flags.writeable:
        return array
    pointer = ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
    view: Bytes = np.ctypeslib.as_array(pointer, array.shape)
    return view
