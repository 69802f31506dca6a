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
from typing import Any, NamedTuple

from npvae.fast.atomics import (
    FLUSH,
    call,
    float_mode,
    matrix,
    multiply,
    prefetch_images,
    set_float_mode,
    store,
    swap,
    vector,
)
from npvae.fast.jit import inlined, jit
from npvae.fast.kernels import (
    NO_STEP,
    activation_backward,
    add,
    add_bias,
    bce_and_gradient,
    bias_activation,
    gather_pixels,
    latent_gradients,
    one_hot,
    optimizer_step,
    reparameterize,
    step_numbers,
    sum_rows,
    warp_pixels,
)
from npvae.fast.turns import END, Turns, begin, last_of, take

BLOCK = 256  # images whose logits are computed at a time, so that they stay in the core's cache
PIXELS, DOWN, LOSS, UP = range(4)  # the phases of a batch; where nothing is learned, there is no UP
INPUTS, OUTPUTS, W_AT, B_AT, H_AT, SOURCE = range(6)  # columns of the table of layers


class Network(NamedTuple):
    """The model: P parameters in L layers, K hidden ones on each side."""

    layers: Any  # (L + 1, 6), see engine.layer_table; z counts as the output of a last layer
    activation: int  # its number in kernels.py
    parameters: Any  # (P,)
    blas: Any  # address of gemm, and a zero of the integers that it takes
    blas_threads: Any  # addresses of the functions that read and set BLAS's threads, or zeros
    yields: int  # address, see turns.take
    busy: Any  # (1,) whether somebody uses the engine


class Room(NamedTuple):
    """Where S shares keep and exchange the values of a batch of up to B images."""

    x: Any  # (S, B * inputs) own pixels; those of the last share are followed by the classes
    framed: Any  # (S, (side + 2)^2) see warp_pixels
    logits: Any  # (S, 2 * BLOCK * pixels) of a block of images, and their gradient
    cost: Any  # (S, pixels) see bce_and_gradient
    h: Any  # (B * all outputs,) y = inputs @ W + b of each layer, then h = activation(y) over it
    d: Any  # (B * all outputs,) d_h of each layer, then d_y over it
    y_first: Any  # (S, B * H) parts of x @ W of the first layer
    d_h_last: Any  # (S, B * H) parts of d_h of the last hidden layer
    gradients: Any  # (S, P) each one's own, its columns of the last layer without gaps
    losses: Any  # (S, 8) sums of bce and kl; a cache line for each
    theta: Any  # (S, pixels * (H + 1)) each one's own W (H, pixels) and b of the last layer
    first: Any  # (S, pixels * (H + 1)) their state of the optimizer, as in Rule
    second: Any


class Rule(NamedTuple):
    """The optimizer."""

    kind: int  # its number in kernels.py
    settings: Any  # (3,)
    first: Any  # (P,) its state
    second: Any  # (P,) the rest of it, if there is more
    t: Any  # (1,) steps so far


class Batches(NamedTuple):
    """The images of n indices in batches, with all that is random or scheduled about them."""

    images: Any  # (N, D) bytes
    labels: Any  # (N,) classes, if the network has inputs for them
    indices: Any  # (n,)
    epsilon: Any  # (n, Z)
    warps: Any  # (n, 2, 3), or of length 0
    beta: Any  # (batches,)
    learning_rate: Any  # (batches,), or of length 0: nothing is learned
    bce: Any  # (batches,) results, means over the batch; NaN before
    kl: Any  # (batches,)


class Job(NamedTuple):
    """What is to be done: batches `first` to `last` - 1, all of one length."""

    first: int
    last: int
    batch_size: int
    network: Network
    room: Room
    rule: Rule
    data: Batches
    turns: Turns


@jit
def shard(count: int, part: int, parts: int) -> tuple[int, int]:
    """Begin and end of one of so many nearly equal parts; those beyond the last are empty."""
    part = min(part, parts)
    return count * part // parts, count * min(part + 1, parts) // parts


def work(worker: int, job: Job) -> bool:
    """Do tasks until all are done. Worker 0 begins, and returns False if the engine is in use.

    Meanwhile numbers below 1e-38 count as 0. Adam's m of a pixel that is black for a thousand
    batches decays to such numbers. Some processors take a hundred times as long for each: measured
    at batch 32, 5 s an epoch instead of 1.4. And BLAS starts no threads of its own.
    """
    network, turns = job.network, job.turns
    read, write = network.blas_threads
    threads = 1
    if worker == 0:
        if not swap(network.busy, 0, 1):
            return False
        threads = call(read, 0) if read else 1
        if threads != 1:
            call(write, 1)
        begin(turns, 0)
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    do_tasks(worker, job)
    set_float_mode(mode)
    if worker == 0:
        if threads != 1:
            call(write, threads)
        store(network.busy, 0)
    return True


def step(gradient: Any, rate: float, theta: Any, rule: Rule) -> None:
    """Optimizer.update of theta (P,) with a gradient from elsewhere; numbers as in `work`."""
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    numbers = step_numbers(rule.kind, rule.t[0] + 1, rate, rule.settings)
    optimizer_step(rule.kind, theta, gradient, rule.first, rule.second, numbers)
    rule.t[0] += 1
    set_float_mode(mode)


@inlined
def do_tasks(worker: int, job: Job) -> None:
    """This worker's tasks, one after another; whoever completes a phase begins the next one."""
    turns, learning = job.turns, len(job.data.learning_rate) > 0
    phases = UP + 1 if learning else LOSS + 1
    end = phases * (job.last - job.first)  # the phase after the last batch
    while True:
        phase, share = take(turns, worker, job.network.yields)
        if phase == END:
            return
        batch, kind = job.first + phase // phases, phase % phases
        due = learning and kind == PIXELS and batch > job.first and is_finite(batch - 1, job)
        if due:
            update(batch - 1, share, job)
        if phase == end:
            if learning:
                copy_columns(share, job, True)
        elif kind == PIXELS:
            pixels(batch, share, job)
        elif kind == DOWN:
            down(batch, share, job)
        elif kind == LOSS:
            loss(batch, share, job)
        else:
            up(batch, share, job)
        if phase == 0:
            copy_columns(share, job, False)
        if last_of(turns):
            if due:
                job.rule.t[0] += job.rule.kind != NO_STEP
            if kind == LOSS:
                add_up(batch, job)
            if phase == end:
                begin(turns, END)
            elif kind == LOSS and learning and not is_finite(batch, job):
                begin(turns, end)
            else:
                begin(turns, phase + 1)


# ------------------------------------------------------------------ what belongs to a share


@inlined
def images_in(batch: int, job: Job) -> int:
    """How many images this batch has."""
    return min(job.batch_size, len(job.data.indices) - batch * job.batch_size)


@inlined
def own_pixels(share: int, job: Job) -> tuple[int, int, int]:
    """The first of its pixels, their number, and the number of its inputs of the first layer.

    The inputs for classes, if there are any, belong to the last share.
    """
    shares, layers = len(job.room.x), job.network.layers
    first, end = shard(layers[-2, OUTPUTS], share, shares)
    return first, end - first, (end if share + 1 < shares else layers[0, INPUTS]) - first


@inlined
def rows_of(flat: Any, layers: Any, k: int, B: int, start: int, rows: int) -> Any:
    """From `start` on, so many rows of the values (B, outputs) of layer k in room.h or room.d."""
    outputs = layers[k, OUTPUTS]
    return matrix(flat, B * layers[k, H_AT] + start * outputs, rows, outputs)


@inlined
def dense(flat: Any, start: int, inputs: int, outputs: int) -> Any:
    """W (inputs, outputs) and b (outputs,), which begin there in a flat array."""
    return matrix(flat, start, inputs, outputs), vector(flat, start + inputs * outputs, outputs)


@inlined
def weights(flat: Any, layers: Any, k: int) -> Any:
    """W and b of layer k, in a flat array of all parameters."""
    return dense(flat, layers[k, W_AT], layers[k, INPUTS], layers[k, OUTPUTS])


@inlined
def row(array: Any, i: int, start: int, length: int) -> Any:
    """array[i, start : start + length]."""
    return vector(array, i * array.shape[1] + start, length)


@jit
def add_parts(parts: Any, start: int, out: Any) -> None:
    """out = the sum over all shares of their parts, which begin there."""
    flat = vector(out, 0, out.size)
    first = row(parts, 0, start, len(flat))
    for i in range(len(flat)):  # flat[:] = first takes Numba two seconds to compile
        flat[i] = first[i]
    for k in range(1, len(parts)):
        add(row(parts, k, start, len(flat)), flat)


@inlined
def layer_gradients(blas: Any, x: Any, d_y: Any, d_W: Any, d_b: Any, more: bool) -> None:
    """d_W = x.T @ d_y and d_b = sum of d_y over the images: Dense.backward without d_x.

    Added to what is there, if these are `more` images of a batch.
    """
    multiply(blas, x.T, d_y, d_W, d_y.dtype.type(more))
    sum_rows(d_y, more, d_b)


# ------------------------------------------------------------------ the tasks


@jit
def pixels(batch: int, share: int, job: Job) -> None:
    """x, and a part of x @ W of the first layer."""
    network, room, data, B = job.network, job.room, job.data, images_in(batch, job)
    first, count, inputs = own_pixels(share, job)
    H = network.layers[0, OUTPUTS]
    x = matrix(room.x, share * room.x.shape[1], B, inputs)
    start = batch * job.batch_size
    indices = data.indices[start : start + B]
    if len(data.warps):
        warps = data.warps[start : start + B]
        warp_pixels(data.images, indices, warps, first, count, room.framed[share], x)
    else:
        for i in range(B):
            prefetch_images(data.images, indices, i + 2, first, count)
            gather_pixels(data.images, indices[i : i + 1], first, count, x[i : i + 1])
    one_hot(data.labels, indices, count, x)
    W = matrix(network.parameters, first * H, inputs, H)
    y_part = matrix(room.y_first, share * room.y_first.shape[1], B, H)
    multiply(network.blas, x, W, y_part, x.dtype.type(0))


@jit
def down(batch: int, share: int, job: Job) -> None:
    """From the parts of the first layer's y to h_last: VAE.forward without the last layer."""
    network, room, data, B = job.network, job.room, job.data, images_in(batch, job)
    layers, blas, activation = network.layers, network.blas, network.activation
    start, end = shard(B, share, min(len(room.x), B))  # of few images, some shares have none
    rows, z = end - start, len(layers) - 1
    to_mu = (z - 3) // 2
    overwrite = room.h.dtype.type(0)
    kl = 0.0
    if rows:
        own = slice(batch * job.batch_size + start, batch * job.batch_size + end)
        h_z = rows_of(room.h, layers, z, B, start, rows)
        one_hot(data.labels, data.indices[own], data.epsilon.shape[1], h_z)
        for k in range(z - 1):
            h = rows_of(room.h, layers, k, B, start, rows)
            W, b = weights(network.parameters, layers, k)
            if k == 0:
                add_parts(room.y_first, start * layers[0, OUTPUTS], h)
            else:
                inputs = rows_of(room.h, layers, layers[k, SOURCE], B, start, rows)
                multiply(blas, inputs, W, h, overwrite)
            if k == to_mu or k == to_mu + 1:
                add_bias(b, h)
            else:
                bias_activation(activation, b, h)
            if k == to_mu + 1:
                mu = rows_of(room.h, layers, to_mu, B, start, rows)
                kl = reparameterize(mu, h, data.epsilon[own], h_z)
    room.losses[share, 1] = kl


@jit
def loss(batch: int, share: int, job: Job) -> None:
    """Logits, bce, and back to a part of d_h of the last hidden layer."""
    network, room, B = job.network, job.room, images_in(batch, job)
    layers, blas, learning = network.layers, network.blas, len(job.data.learning_rate) > 0
    _, count, inputs = own_pixels(share, job)
    last = len(layers) - 2
    H, overwrite = layers[last, INPUTS], room.h.dtype.type(0)
    x = matrix(room.x, share * room.x.shape[1], B, inputs)
    W, b = dense(room.theta, share * room.theta.shape[1], H, count)
    d_W, d_b = dense(room.gradients[share], layers[last, W_AT], H, count)
    d_h_part = matrix(room.d_h_last, share * room.d_h_last.shape[1], B, H)
    bce = 0.0
    for i in range(0, B, BLOCK):
        n = min(B - i, BLOCK)
        h = rows_of(room.h, layers, last - 1, B, i, n)
        logits = matrix(room.logits[share], 0, n, count)
        d_logits = matrix(room.logits[share], n * count, n, count)
        multiply(blas, h, W, logits, overwrite)
        bce += bce_and_gradient(logits, b, x[i : i + n], 1 / B, d_logits, room.cost[share])
        if learning:
            multiply(blas, d_logits, W.T, d_h_part[i : i + n], overwrite)
            layer_gradients(blas, h, d_logits, d_W, d_b, i > 0)
    room.losses[share, 0] = bce


@inlined
def add_up(batch: int, job: Job) -> None:
    """The loss of the batch, from those of all shares."""
    bce, kl, B = 0.0, 0.0, images_in(batch, job)
    for share in range(len(job.room.losses)):
        bce += job.room.losses[share, 0] / B
        kl += job.room.losses[share, 1] / B
    job.data.bce[batch], job.data.kl[batch] = bce, kl


@inlined
def is_finite(batch: int, job: Job) -> bool:
    """Whether the batch has a loss with which training can go on."""
    data = job.data
    return math.isfinite(data.bce[batch] + data.beta[batch] * data.kl[batch])


@jit
def up(batch: int, share: int, job: Job) -> None:
    """From the parts of d_h_last to d_y of the first layer: VAE.backward.

    Two paths meet at mu and log_var, and two heads at the hidden layer below.
    """
    network, room, data, B = job.network, job.room, job.data, images_in(batch, job)
    layers, blas, activation = network.layers, network.blas, network.activation
    start, end = shard(B, share, min(len(room.x), B))
    rows, z = end - start, len(layers) - 1
    to_mu = (z - 3) // 2
    if not rows:
        return
    own = slice(batch * job.batch_size + start, batch * job.batch_size + end)
    d_last = rows_of(room.d, layers, z - 2, B, start, rows)
    add_parts(room.d_h_last, start * d_last.shape[1], d_last)
    for k in range(z - 2, 0, -1):
        h = rows_of(room.h, layers, k, B, start, rows)
        d = rows_of(room.d, layers, k, B, start, rows)
        if k == to_mu + 1:
            mu = rows_of(room.h, layers, to_mu, B, start, rows)
            d_mu = rows_of(room.d, layers, to_mu, B, start, rows)
            d_z = rows_of(room.d, layers, z, B, start, rows)
            d_kl = data.beta[batch] / B
            latent_gradients(mu, h, data.epsilon[own], d_z, d_kl, d_mu, d)
        elif k != to_mu:
            activation_backward(activation, h, d)
        W, _ = weights(network.parameters, layers, k)
        d_W, d_b = weights(room.gradients[share], layers, k)
        layer_gradients(
            blas, rows_of(room.h, layers, layers[k, SOURCE], B, start, rows), d, d_W, d_b, False
        )
        d_inputs = rows_of(room.d, layers, layers[k, SOURCE], B, start, rows)
        multiply(blas, d, W.T, d_inputs, d.dtype.type(k == to_mu))
    d_first = rows_of(room.d, layers, 0, B, start, rows)
    activation_backward(activation, rows_of(room.h, layers, 0, B, start, rows), d_first)
    _, d_b = weights(room.gradients[share], layers, 0)
    sum_rows(d_first, False, d_b)


@jit
def update(batch: int, share: int, job: Job) -> None:
    """d_W of the first layer, and the optimizer's step for the parameters of this share."""
    network, room, rule, B = job.network, job.room, job.rule, images_in(batch, job)
    layers, shares = network.layers, len(room.x)
    first, count, inputs = own_pixels(share, job)
    last, H = len(layers) - 2, layers[0, OUTPUTS]
    x = matrix(room.x, share * room.x.shape[1], B, inputs)
    d_W = matrix(room.gradients[share], first * H, inputs, H)
    multiply(network.blas, x.T, rows_of(room.d, layers, 0, B, 0, B), d_W, x.dtype.type(0))
    if rule.kind == NO_STEP:
        return
    rate = job.data.learning_rate[batch]
    numbers = step_numbers(rule.kind, rule.t[0] + 1, rate, rule.settings)
    begin, end = layers[0, B_AT], layers[last, W_AT]  # of all between: it begins with the first b
    low, high = shard(end - begin, share, shares)
    for other in range(1, min(shares, B)):
        more = row(room.gradients, other, begin + low, high - low)
        add(more, row(room.gradients, 0, begin + low, high - low))

    for part in range(3):
        if part == 0:  # rows of the first W
            at, size, gradients = first * H, inputs * H, share
        elif part == 1:  # a slice of all between
            at, size, gradients = begin + low, high - low, 0
        else:  # columns of the last layer
            at, size, gradients = end, count * (layers[last, INPUTS] + 1), share
        gradient = row(room.gradients, gradients, at, size)
        if part < 2:
            theta = vector(network.parameters, at, size)
            state_1, state_2 = vector(rule.first, at, size), vector(rule.second, at, size)
        else:
            theta = row(room.theta, share, 0, size)
            state_1, state_2 = row(room.first, share, 0, size), row(room.second, share, 0, size)
        optimizer_step(rule.kind, theta, gradient, state_1, state_2, numbers)


@jit
def copy_own(share: int, job: Job, flat: Any, own: Any, back: bool) -> None:
    """Copy the columns that belong to a share between an array of all and its own, row by row.

    (b follows W, as a last row.)
    """
    first, count, _ = own_pixels(share, job)
    layer = job.network.layers[-2]
    H, D, at = layer[INPUTS], layer[OUTPUTS], layer[W_AT]
    for i in range(H + 1):
        theirs = vector(flat, at + i * D + first, count)
        ours = row(own, share, i * count, count)
        if back:
            theirs, ours = ours, theirs
        for j in range(count):
            ours[j] = theirs[j]


@inlined
def copy_columns(share: int, job: Job, back: bool) -> None:
    """The share's columns of the last layer and their state into copies of its own, or back.

    A single share works on the columns themselves.
    """
    room, rule = job.room, job.rule
    if len(room.x) == 1:
        return
    copy_own(share, job, job.network.parameters, room.theta, back)
    copy_own(share, job, rule.first, room.first, back)
    copy_own(share, job, rule.second, room.second, back)
