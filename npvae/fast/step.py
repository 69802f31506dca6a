"""The loop of training.py, compiled: many batches in one call, by as many threads as there are.

A batch is shared out, and the shares of one phase are tasks for the threads: see turns.py. Nearly
all parameters belong to the two layers that touch pixels, so there the pixels are shared out: to a
share belong the rows of the first layer's weights and the columns of the last one's that belong to
its pixels, with their gradients and the state of the optimizer. As a thread prefers one share, they
hardly ever travel from core to core. (The columns lie scattered, and a core reads ahead into those
of another: at batch 32 an epoch takes 1.3 times as long, unless each share has a copy of its own.)
The layers between are small. There the images of a batch are shared out. So a batch has four
phases:

    pixels       own parameters       d_W of the first layer, and the step for the batch before
                 own pixels           x, and a part of x @ W of the first layer, to be added up
    down         own images           from there to h_last, the last hidden layer
    loss         own pixels           logits, bce, its gradient, and a part of d_h_last
                 now the loss is known: if it is not finite, all stop here
    up           own images           from d_h_last to d_y of the first layer

The gradients of the layers between are sums over images, which are added up over the shares; each
makes the step for a slice of them. (Sharing out the images alone is simpler. Measured at batch 512
and 32, it takes 1.0 and 1.4 times as long: gradients and new weights travel, 0.8 MB a batch.)

All sums are made in a fixed order, whichever thread is first: equal seeds and numbers of shares
give equal bits. No array is made here and nothing can fail, so that whatever is set at the
beginning is put back at the end.
"""

from __future__ import annotations

import math
from typing import Any

from npvae.fast import kernels
from npvae.fast.atomics import (
    FLUSH,
    call,
    float_mode,
    multiply,
    prefetch,
    set_float_mode,
    store,
    swap,
    view,
)
from npvae.fast.jit import inlined, jit
from npvae.fast.turns import END, begin, last_of, take

BLOCK = 256  # images whose logits are computed at a time, so that they stay in the core's cache
PIXELS, DOWN, LOSS, UP = range(4)  # the phases of a batch; where nothing is learned, there is no UP
INPUTS, OUTPUTS, W_AT, B_AT, H_AT, SOURCE = range(6)  # columns of the table of layers
CACHE_LINE = 64  # bytes


@jit
def shard(count: int, part: int, parts: int) -> tuple[int, int]:
    """Begin and end of one of so many nearly equal parts; those beyond the last are empty."""
    part = min(part, parts)
    return count * part // parts, count * min(part + 1, parts) // parts


def work(worker: int, record: Any) -> bool:
    """Do tasks until all are done. Worker 0 begins, and returns False if the engine is in use.

    Meanwhile numbers below 1e-38 count as 0. Adam's m of a pixel that is black for a thousand
    batches decays to such numbers. Some processors take a hundred times as long for each: measured
    at batch 32, 5 s an epoch instead of 1.4. And BLAS starts no threads of its own.
    """
    job, threads = record[0], 1
    if worker == 0:
        if not swap(job.busy.address, 0, 1):
            return False
        threads = call(job.read_threads, 0) if job.read_threads else 1
        if threads != 1:
            call(job.set_threads, 1)
        begin(job, 0)
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    do_tasks(worker, job)
    set_float_mode(mode)
    if worker == 0:
        if threads != 1:
            call(job.set_threads, threads)
        store(job.busy.address, 0)
    return True


def step(record: Any) -> None:
    """Optimizer.update by the first row of the gradients; numbers as in `work`."""
    job, mode = record[0], float_mode()
    set_float_mode(mode | FLUSH)
    every = (job.parameters.length,)
    t = view(job.t, 0, 0, (1,))
    rate = view(job.learning_rate, job.first, 0, (1,))[0]
    kernels.optimizer_step(
        job.optimizer,
        view(job.parameters, 0, 0, every),
        view(job.gradients, 0, 0, every),
        view(job.state1, 0, 0, every),
        view(job.state2, 0, 0, every),
        kernels.step_numbers(job.optimizer, t[0] + 1, rate, view(job.settings, 0, 0, (3,))),
    )
    t[0] += 1
    set_float_mode(mode)


@inlined
def do_tasks(worker: int, job: Any) -> None:
    """This worker's tasks, one after another; whoever completes a phase begins the next one."""
    learning = job.learning_rate.length > 0
    phases = UP + 1 if learning else LOSS + 1
    end = phases * (job.end - job.first)  # the phase after the last batch
    while True:
        phase, share = take(job, worker)
        if phase == END:
            return
        batch, kind = job.first + phase // phases, phase % phases
        due = learning and kind == PIXELS and batch > job.first and is_finite(job, batch - 1)
        if due:
            update(job, batch - 1, share)
        if phase == end:
            if learning:
                copy_columns(job, share, True)
        elif kind == PIXELS:
            pixels(job, batch, share)
        elif kind == DOWN:
            down(job, batch, share)
        elif kind == LOSS:
            loss(job, batch, share)
        else:
            up(job, batch, share)
        if phase == 0:
            copy_columns(job, share, False)
        if last_of(job):
            if due and job.optimizer != kernels.NO_STEP:
                view(job.t, 0, 0, (1,))[0] += 1
            if kind == LOSS:
                add_up(job, batch)
            if phase == end:
                begin(job, END)
            elif kind == LOSS and learning and not is_finite(job, batch):
                begin(job, end)
            else:
                begin(job, phase + 1)


# ------------------------------------------------------------------ what belongs to a share


@inlined
def layers_of(job: Any) -> Any:
    """The table of layers."""
    return view(job.layers, 0, 0, (job.layers.length, 6))


@jit
def images_of(job: Any, batch: int) -> Any:
    """The first image of a batch that this process computes, and their number."""
    start = batch * job.batch_size
    B = min(job.batch_size, job.indices.length - start)
    begin, end = shard(B, job.rank, job.ranks)
    return start + begin, end - begin


@jit
def own_images(job: Any, B: int, share: int) -> Any:
    """The first of its images, of B, and their number, which may be 0."""
    start, end = shard(B, share, min(job.x.length, B))
    return start, end - start


@jit
def own_pixels(job: Any, share: int) -> Any:
    """The first of its pixels, their number, and the number of its inputs of the first layer.

    The inputs for classes, if there are any, belong to the last share.
    """
    shares, layers = job.x.length, layers_of(job)
    first, end = shard(layers[-2, OUTPUTS], share, shares)
    return first, end - first, (end if share + 1 < shares else layers[0, INPUTS]) - first


@inlined
def rows_of(values: Any, layers: Any, k: int, B: int, start: int, rows: int) -> Any:
    """From `start` on, so many rows of the values (B, outputs) of layer k in job.h or job.d."""
    outputs = layers[k, OUTPUTS]
    return view(values, 0, B * layers[k, H_AT] + start * outputs, (rows, outputs))


@inlined
def dense(place: Any, share: int, start: int, inputs: int, outputs: int) -> Any:
    """W (inputs, outputs) and b (outputs,), which begin there in a share's row of an array."""
    W = view(place, share, start, (inputs, outputs))
    return W, view(place, share, start + inputs * outputs, (outputs,))


@inlined
def weights(place: Any, share: int, layers: Any, k: int) -> Any:
    """W and b of layer k, in a row for all parameters."""
    return dense(place, share, layers[k, W_AT], layers[k, INPUTS], layers[k, OUTPUTS])


@jit
def add_parts(parts: Any, start: int, out: Any) -> None:
    """out (n, H) = the sum over all shares of their parts, which begin there."""
    for k in range(parts.length):
        part = view(parts, k, start, out.shape)
        for i in range(len(out)):
            if k == 0:
                kernels.copy(part[i], out[i])
            else:
                kernels.add(part[i], out[i])


@jit
def layer_gradients(job: Any, x: Any, d_y: Any, d_W: Any, d_b: Any, more: bool) -> None:
    """d_W = x.T @ d_y and d_b = sum of d_y over the images: Dense.backward without d_x.

    Added to what is there, if these are `more` images of a batch.
    """
    multiply(job, x.T, d_y, d_W, more)
    kernels.sum_rows(d_y, more, d_b)


# ------------------------------------------------------------------ the tasks


@jit
def pixels(job: Any, batch: int, share: int) -> None:
    """x, and a part of x @ W of the first layer."""
    first, count, inputs = own_pixels(job, share)
    start, B = images_of(job, batch)
    H = layers_of(job)[0, OUTPUTS]
    x = view(job.x, share, 0, (B, inputs))
    images = view(job.images, 0, 0, (job.images.length, job.images.pitch))
    indices = view(job.indices, start, 0, (B,))
    if job.warps.length:
        warps = view(job.warps, start, 0, (B, 2, 3))
        framed = view(job.framed, share, 0, (job.framed.pitch,))
        kernels.warp_pixels(images, indices, warps, first, count, framed, x)
    else:
        for i in range(B):
            prefetch_image(job, start + i + 2, first, count)
            kernels.gather_pixels(images, indices[i : i + 1], first, count, x[i : i + 1])
    kernels.one_hot(view(job.labels, 0, 0, (job.labels.length,)), indices, count, x)
    W = view(job.parameters, 0, first * H, (inputs, H))
    multiply(job, x, W, view(job.y_first, share, 0, (B, H)), False)


@jit
def prefetch_image(job: Any, k: int, first: int, count: int) -> None:
    """Ask for the bytes of image indices[k], if there is one, before they are needed.

    Images lie anywhere in memory, and to wait for each costs 64 nanoseconds a cache line: gathering
    half of 512 images takes 170 instead of 228 microseconds.
    """
    if k < job.indices.length:
        index = view(job.indices, k, 0, (1,))[0]
        start = job.images.address + index * job.images.pitch + first
        for address in range(start, start + count, CACHE_LINE):
            prefetch(address)


@jit
def down(job: Any, batch: int, share: int) -> None:
    """From the parts of the first layer's y to h_last: VAE.forward without the last layer."""
    layers, (image, B) = layers_of(job), images_of(job, batch)
    start, rows = own_images(job, B, share)
    z = len(layers) - 1
    to_mu = (z - 3) // 2
    kl = 0.0
    if rows:
        first, Z = image + start, job.epsilon.pitch
        epsilon = view(job.epsilon, first, 0, (rows, Z))
        h_z = rows_of(job.h, layers, z, B, start, rows)
        labels = view(job.labels, 0, 0, (job.labels.length,))
        kernels.one_hot(labels, view(job.indices, first, 0, (rows,)), Z, h_z)
        for k in range(z - 1):
            h = rows_of(job.h, layers, k, B, start, rows)
            W, b = weights(job.parameters, 0, layers, k)
            if k == 0:
                add_parts(job.y_first, start * layers[0, OUTPUTS], h)
            else:
                multiply(
                    job, rows_of(job.h, layers, layers[k, SOURCE], B, start, rows), W, h, False
                )
            kernels.bias_activation(
                kernels.NONE if to_mu <= k <= to_mu + 1 else job.activation, b, h
            )
            if k == to_mu + 1:
                kl = kernels.reparameterize(
                    rows_of(job.h, layers, to_mu, B, start, rows), h, epsilon, h_z
                )
    view(job.losses, share, 0, (2,))[1] = kl


@jit
def loss(job: Any, batch: int, share: int) -> None:
    """Logits, bce, and back to a part of d_h of the last hidden layer."""
    layers, (_, B) = layers_of(job), images_of(job, batch)
    _, count, inputs = own_pixels(job, share)
    last = len(layers) - 2
    H, at = layers[last, INPUTS], layers[last, W_AT]
    x = view(job.x, share, 0, (B, inputs))
    W, b = dense(job.own_parameters, share, at, H, count)
    d_W, d_b = dense(job.gradients, share, at, H, count)
    cost = view(job.cost, share, 0, (count,))
    bce = 0.0
    for i in range(0, B, BLOCK):
        n = min(B - i, BLOCK)
        h = rows_of(job.h, layers, last - 1, B, i, n)
        logits = view(job.logits, share, 0, (n, count))
        d_logits = view(job.logits, share, n * count, (n, count))
        multiply(job, h, W, logits, False)
        bce += kernels.bce_and_gradient(logits, b, x[i : i + n], 1 / B, d_logits, cost)
        if job.learning_rate.length:
            multiply(job, d_logits, W.T, view(job.d_h_last, share, i * H, (n, H)), False)
            layer_gradients(job, h, d_logits, d_W, d_b, i > 0)
    view(job.losses, share, 0, (2,))[0] = bce


@jit
def add_up(job: Any, batch: int) -> None:
    """The loss of the batch, from those of all shares."""
    bce, kl, B = 0.0, 0.0, images_of(job, batch)[1]
    for share in range(job.losses.length):
        sums = view(job.losses, share, 0, (2,))
        bce += sums[0] / B
        kl += sums[1] / B
    view(job.bce, batch, 0, (1,))[0] = bce
    view(job.kl, batch, 0, (1,))[0] = kl


@jit
def number(numbers: Any, batch: int) -> Any:
    """The number that belongs to this batch."""
    return view(numbers, batch, 0, (1,))[0]


@jit
def is_finite(job: Any, batch: int) -> bool:
    """Whether the batch has a loss with which training can go on."""
    return math.isfinite(number(job.bce, batch) + number(job.beta, batch) * number(job.kl, batch))


@jit
def up(job: Any, batch: int, share: int) -> None:
    """From the parts of d_h_last to d_y of the first layer: VAE.backward.

    Two paths meet at mu and log_var, and two heads at the hidden layer below.
    """
    layers, (image, B) = layers_of(job), images_of(job, batch)
    start, rows = own_images(job, B, share)
    if not rows:
        return
    z = len(layers) - 1
    to_mu = (z - 3) // 2
    d_last = rows_of(job.d, layers, z - 2, B, start, rows)
    add_parts(job.d_h_last, start * d_last.shape[1], d_last)
    for k in range(z - 2, -1, -1):
        h = rows_of(job.h, layers, k, B, start, rows)
        d = rows_of(job.d, layers, k, B, start, rows)
        W, _ = weights(job.parameters, 0, layers, k)
        d_W, d_b = weights(job.gradients, share, layers, k)
        if k == to_mu + 1:
            epsilon = view(job.epsilon, image + start, 0, (rows, job.epsilon.pitch))
            mu = rows_of(job.h, layers, to_mu, B, start, rows)
            d_mu = rows_of(job.d, layers, to_mu, B, start, rows)
            d_z = rows_of(job.d, layers, z, B, start, rows)
            kernels.latent_gradients(mu, h, epsilon, d_z, number(job.beta, batch) / B, d_mu, d)
        elif k != to_mu:
            kernels.activation_backward(job.activation, h, d)
        if k == 0:
            kernels.sum_rows(d, False, d_b)
        else:
            inputs = layers[k, SOURCE]
            x = rows_of(job.h, layers, inputs, B, start, rows)
            layer_gradients(job, x, d, d_W, d_b, False)
            multiply(job, d, W.T, rows_of(job.d, layers, inputs, B, start, rows), k == to_mu)


@jit
def update(job: Any, batch: int, share: int) -> None:
    """d_W of the first layer, and the optimizer's step for the parameters of this share."""
    layers, (_, B), shares = layers_of(job), images_of(job, batch), job.x.length
    first, count, inputs = own_pixels(job, share)
    last, H = len(layers) - 2, layers[0, OUTPUTS]
    x, d_y = view(job.x, share, 0, (B, inputs)), rows_of(job.d, layers, 0, B, 0, B)
    multiply(job, x.T, d_y, view(job.gradients, share, first * H, (inputs, H)), False)
    if job.optimizer == kernels.NO_STEP:
        return
    settings, t = view(job.settings, 0, 0, (3,)), number(job.t, 0) + 1
    numbers = kernels.step_numbers(job.optimizer, t, number(job.learning_rate, batch), settings)
    begin, end = layers[0, B_AT], layers[last, W_AT]  # of all between: it begins with the first b
    low, high = shard(end - begin, share, shares)
    between = view(job.gradients, 0, begin + low, (high - low,))
    for other in range(1, min(shares, B)):
        kernels.add(view(job.gradients, other, begin + low, (high - low,)), between)

    for part in range(3):
        theta, state1, state2, row = job.parameters, job.state1, job.state2, 0
        if part == 0:  # rows of the first W
            at, size, gradients = first * H, inputs * H, share
        elif part == 1:  # a slice of all between
            at, size, gradients = begin + low, high - low, 0
        else:  # columns of the last layer
            at, size, gradients = end, count * (layers[last, INPUTS] + 1), share
            theta, state1, state2 = job.own_parameters, job.own_state1, job.own_state2
            row = share
        kernels.optimizer_step(
            job.optimizer,
            view(theta, row, at, (size,)),
            view(job.gradients, gradients, at, (size,)),
            view(state1, row, at, (size,)),
            view(state2, row, at, (size,)),
            numbers,
        )


@jit
def copy_columns(job: Any, share: int, back: bool) -> None:
    """The share's columns of the last layer and their state into copies of its own, or back.

    A single share works on the columns themselves.
    """
    if job.x.length > 1:
        copy_own(job, share, job.parameters, job.own_parameters, back)
        copy_own(job, share, job.state1, job.own_state1, back)
        copy_own(job, share, job.state2, job.own_state2, back)


@jit
def copy_own(job: Any, share: int, place: Any, own: Any, back: bool) -> None:
    """Row by row. (b follows W, as a last row.)"""
    first, count, _ = own_pixels(job, share)
    layer = layers_of(job)[-2]
    for i in range(layer[INPUTS] + 1):
        theirs = view(place, 0, layer[W_AT] + i * layer[OUTPUTS] + first, (count,))
        ours = view(own, share, layer[W_AT] + i * count, (count,))
        if back:
            kernels.copy(ours, theirs)
        else:
            kernels.copy(theirs, ours)
