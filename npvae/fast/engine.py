"""The engine as Python sees it: what it is given, threads, progress and interruption.

The calling thread computes a tenth of a second's worth of batches in one compiled call, without the
GIL, while other threads help. Then it is back in Python: it reports the losses, and Ctrl-C is
heard. Where no thread can be started, the calling thread does all the work. The parameters and the
state of the optimizer are changed where they lie, so there is nothing to hand back.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.core.validation import class_labels
from npvae.datasets.augmentation import random_warps
from npvae.datasets.minibatches import minibatches
from npvae.fast.blas import find_blas, thread_functions
from npvae.fast.jit import Program
from npvae.fast.job import Job
from npvae.fast.kernels import ACTIVATIONS, OPTIMIZERS
from npvae.fast.step import BLOCK, work
from npvae.fast.threads import cores, yield_function
from npvae.fast.turns import closed
from npvae.losses import Loss
from npvae.model import VAE
from npvae.settings import Settings
from npvae.training import Plan

LOOKS = 0.1  # seconds between two looks at progress and signals
FEWEST_PIXELS = 49  # of each share, by default: 784 are enough for 16
TEST_BATCH = 1000  # images at a time where nothing is learned

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Arrays = dict[str, Array]


class Engine:
    """Trains `vae` on `images` (N, D) or (N, rows, columns) of bytes by `optimizer`, all in place.

    `labels` (N,) are the classes of a conditional model. The work has as many shares, and as many
    threads do it, as there are cores, unless `workers` says otherwise. The first engine for a dtype
    may have to compile for some seconds, see `fast.must_compile`. Raises CannotCompile, and
    ValueError for images, labels or an optimizer that do not fit the model.
    """

    def __init__(
        self,
        vae: VAE,
        optimizer: Optimizer,
        images: Bytes,
        labels: ArrayLike | None = None,
        workers: int | None = None,
    ) -> None:
        self.vae, self.optimizer = vae, optimizer
        self.images, self.labels = self._checked(images, labels)
        wanted = workers or min(cores(), max(1, vae.input_dim // FEWEST_PIXELS))
        self.shares = min(wanted, vae.input_dim)
        self.seconds_per_batch: dict[int, float] = {}  # by batch size, as measured last
        self.program = program(vae.dtype.name)
        self._start()
        self._rule()  # refuses what does not fit
        self.program.prepare((0, Job.of(vae.dtype.name, {}).record))

    def train(
        self,
        indices: ArrayLike,
        epsilon: ArrayLike,
        batch_size: int,
        betas: ArrayLike,
        learning_rates: ArrayLike,
        warps: ArrayLike | None = None,
    ) -> Generator[tuple[Floats, Floats], None, None]:
        """Train on the images of these indices (n,) in this order, batch_size at a time.

        With noise epsilon (n, Z) and, if given, warps (n, 2, 3), see augmentation.py. Each batch
        has its own beta and learning rate (batches,).

        Yields bce and kl of the batches since the last look, as arrays. Ends early after a batch
        whose loss is not finite, before its gradients are used. Raises IndexError or ValueError
        before anything has changed if the arrays do not fit, and RuntimeError if another thread
        uses this engine.
        """
        data = self._batches(self.images, self.labels, indices, epsilon, batch_size)
        n, count = len(data["indices"]), len(data["bce"])
        data["beta"] = given("betas", betas, (count,))
        data["learning_rate"] = given("learning_rates", learning_rates, (count,))
        if warps is not None:
            data["warps"] = given("warps", warps, (n, 2, 3))
            if n and math.isqrt(self.vae.input_dim) ** 2 != self.vae.input_dim:
                raise ValueError("only square images can be warped")
        job, optimizer = self._job(batch_size, data), self.optimizer
        rates, steps = (memoryview(job.values[name]) for name in ("learning_rate", "t"))
        bce, kl, begun, counted = data["bce"], data["kl"], optimizer.t, vars(optimizer)
        for first, last in self._portions(n, batch_size):
            try:
                self._run(first, last, job)
            finally:  # Python raises Ctrl-C where a function is called, and none is called here
                if steps[0] > begun:
                    counted["t"] = steps[0]
                    counted["learning_rate"] = rates[steps[0] - begun - 1]
            stopped = steps[0] - begun
            done = min(stopped + 1, last)
            yield bce[first:done], kl[first:done]
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
        self, images: Bytes, epsilon: ArrayLike, beta: float = 1.0, labels: ArrayLike | None = None
    ) -> Loss:
        """The mean loss of images (N, ...) with noise epsilon (N, Z); nothing is learned."""
        images, classes = self._checked(images, labels)
        data = self._batches(images, classes, np.arange(len(images)), epsilon, TEST_BATCH)
        job = self._job(TEST_BATCH, data)
        for first, last in self._portions(len(images), TEST_BATCH):
            self._run(first, last, job)
        lengths = np.diff([*range(0, len(images), TEST_BATCH), len(images)])
        bce, kl = (float(np.average(data[name], weights=lengths)) for name in ("bce", "kl"))
        return Loss(bce, kl, beta)

    # ------------------------------------------------------------------ the work

    def _start(self) -> None:
        """What belongs to this process: after a fork, the threads are those of the other one."""
        blas, functions = find_blas(), thread_functions()
        assert blas is not None, "why_not was not asked"
        addresses = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions or ()] or [0, 0]
        self.process = os.getpid()
        self.threads = ThreadPoolExecutor(max(1, self.shares - 1))
        self.busy = np.zeros(1, np.int64)
        self.functions = {
            "gemm": blas.gemm[self.vae.dtype.name],
            "read_threads": addresses[0],
            "set_threads": addresses[1],
            "yields": yield_function(),
        }

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

    def _run(self, first: int, last: int, job: Job) -> None:
        """Compute batches first to last - 1, with the help of other threads."""
        if self.process != os.getpid():
            self._start()
        job = job.replace(first=first, end=last, turns=closed(self.shares))
        with suppress(RuntimeError):  # the system has no more threads
            for worker in range(1, self.shares):
                self.threads.submit(self._work, worker, job)
        if not self._work(0, job):
            raise RuntimeError(
                "another thread uses this engine.\nMake an engine, and a model, for each thread."
            )

    def _work(self, worker: int, job: Job) -> Any:
        """Compiled, without the GIL. (Whoever works holds the job, so that its arrays live.)"""
        return self.program.run(worker, job.record)

    # ------------------------------------------------------------------ what it is given

    def _checked(self, images: Bytes, labels: ArrayLike | None) -> tuple[Bytes, Bytes]:
        """Both as compiled code takes them. Raises ValueError if they do not fit the network."""
        vae = self.vae
        if images.dtype != np.uint8 or math.prod(images.shape[1:]) != vae.input_dim:
            raise ValueError(
                f"images must be bytes (N, {vae.input_dim}), not {images.dtype} {images.shape}"
            )
        classes = class_labels(labels, vae.num_classes, len(images), "labels")
        if classes is None:
            classes = np.zeros(0, np.uint8)
        flat = np.ascontiguousarray(images).reshape(len(images), -1)
        return flat, np.ascontiguousarray(classes, np.uint8)

    def _batches(
        self, images: Bytes, labels: Bytes, indices: ArrayLike, epsilon: ArrayLike, batch_size: int
    ) -> Arrays:
        """The images of these indices in batches, not to be learned. Compiled code checks nothing.

        Raises IndexError or ValueError if they do not fit.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        numbers = np.asarray(indices)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise ValueError(f"indices must be integers (n,), not {numbers.dtype} {numbers.shape}")
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(images):
            raise IndexError(
                f"there are {len(images)} images, no number {numbers.min()} to {numbers.max()}"
            )
        n, count = len(numbers), math.ceil(len(numbers) / batch_size)
        return {
            "images": images,
            "labels": labels,
            "indices": np.ascontiguousarray(numbers, np.int64),
            "epsilon": given("epsilon", epsilon, (n, self.vae.latent_dim), self.vae.dtype),
            "warps": np.zeros((0, 2, 3)),
            "beta": np.ones(count),
            "learning_rate": np.zeros(0),
            "bce": np.full(count, np.nan),
            "kl": np.full(count, np.nan),
        }

    def _rule(self) -> Arrays:
        """The optimizer in arrays. Raises ValueError if it is of another model."""
        optimizer = self.optimizer
        optimizer.bind(self.vae.parameters)
        names = [name for name in optimizer.settings if name not in ("name", "learning_rate", "t")]
        numbers = [float(getattr(optimizer, name)) for name in names]
        state = [fitting(optimizer.state[name].flat, self.vae, name) for name in optimizer.state]
        return {
            "parameters": fitting(self.vae.parameters.flat, self.vae, "parameters"),
            "settings": np.array([*numbers, 0, 0][:3]),
            "state1": state[0],
            "state2": state[-1],
            "t": np.array([optimizer.t], np.int64),
        }

    def _job(self, batch_size: int, data: Arrays) -> Job:
        """All that compiled code needs for these data, with room for the values of a batch."""
        vae, shares, rule = self.vae, self.shares, self._rule()
        layers, images = layer_table(vae), min(batch_size, len(data["indices"]))
        share = -(-vae.input_dim // shares)  # pixels of the largest one
        outputs, hidden = int(layers[:, 1].sum()), vae.hidden_dims[0]

        def room(*shape: int, dtype: DTypeLike = vae.dtype) -> Array:
            return np.zeros(shape, dtype)

        # Copies of what belongs to the last layer; a single share works on that itself.
        own = {
            f"own_{name}": rule[name][np.newaxis] if shares == 1 else room(shares, rule[name].size)
            for name in ("parameters", "state1", "state2")
        }
        if rule["state2"] is rule["state1"]:
            own["own_state2"] = own["own_state1"]
        exchanged = {
            "turns": closed(shares),
            "busy": self.busy,
            "h": room(images * outputs),
            "d": room(images * outputs),
            "y_first": room(shares, images * hidden),
            "d_h_last": room(shares, images * hidden),
            "losses": room(shares, 8, dtype=np.float64),
            "gradients": room(shares, rule["parameters"].size),
            "x": room(shares, images * (share + vae.num_classes)),
            "framed": room(shares, (math.isqrt(vae.input_dim) + 2) ** 2, dtype=np.float32),
            "logits": room(shares, 2 * min(images, BLOCK) * share),
            "cost": room(shares, share),
        }
        numbers = {
            **self.functions,
            **dict.fromkeys(("first", "end", "rank"), 0),
            "ranks": 1,
            "batch_size": batch_size,
            "activation": ACTIVATIONS[vae.activation],
            "optimizer": OPTIMIZERS[self.optimizer.name],
        }
        values = {"layers": layers, **data, **rule, **exchanged, **own, **numbers}
        return Job.of(vae.dtype.name, values)


@functools.cache
def program(dtype: str) -> Program:
    """The compiled step for this dtype: one for each, whatever the network and the optimizer."""
    return Program(work, dtype)


def given(name: str, values: ArrayLike, shape: tuple[int, ...], dtype: DTypeLike = float) -> Array:
    """The values as a contiguous array. Raises ValueError if it has another shape."""
    array: Array = np.ascontiguousarray(values, dtype)
    if np.shape(values) != shape:
        raise ValueError(f"{name} must have shape {shape}, not {np.shape(values)}")
    return array


def layer_table(vae: VAE) -> NDArray[np.int64]:
    """What compiled code knows of each layer, (L + 1, 6); z with the classes counts as the last.

    Inputs, outputs, where W and b begin in the flat parameters, where its values begin in a row of
    all values of an image, and which layer's values are its inputs (-1: the pixels).
    """
    shapes, K = vae.parameters.shapes, len(vae.hidden_dims)
    sizes = [shape for name, shape in shapes.items() if name.endswith(".W")]  # followed by its b
    z = len(sizes)
    sources = [*range(-1, K), K - 1, z, *range(K + 2, z - 1)]
    table, start, at = [], 0, 0
    for (inputs, outputs), source in zip(sizes, sources, strict=True):
        b = start + inputs * outputs
        table.append((inputs, outputs, start, b, at, source))
        start, at = b + outputs, at + outputs
    table.append((0, sizes[K + 2][0], start, start, at, 0))
    return np.array(table, np.int64)


def fitting(array: Array, vae: VAE, name: str) -> Array:
    """An array of a number for each parameter, (P,), that compiled code can change in place.

    Raises ValueError if it is none: another size or dtype, not contiguous, or read-only.
    """
    size = sum(math.prod(shape) for shape in vae.parameters.shapes.values())
    if array.shape != (size,) or array.dtype != vae.dtype or not array.flags.carray:
        raise ValueError(
            f"{name} must be {size} numbers of {vae.dtype}, contiguous and writable, "
            f"not {array.shape} of {array.dtype}"
        )
    return array
