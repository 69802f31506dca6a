"""The loop of training.py, compiled: many batches in one call, each worker doing its part of each.

Every worker runs `train_batches` at the same time, in a thread of its own. Nearly all parameters
belong to the two layers that touch pixels, so there the pixels are shared out: each worker has the
rows of the first layer's weights and the columns of the last one's that belong to its pixels, with
their gradients and the state of the optimizer. None of these ever travels from core to core. The
layers between are small. There the images of a batch are shared out. So a batch has five parts, and
all workers meet after each but the last:

    own pixels of all images       x, and a part of x @ W of the first layer, to be added up
    own images                     from there to h_last, the last hidden layer
    own pixels of all images       logits, bce, its gradient, and a part of d_h_last
                                   now the loss is known: if it is not finite, all stop here
    own images                     from d_h_last to d_y of the first layer
    own parameters                 d_W of the first layer, and the optimizer's step

The gradients of the layers between are sums over images, which are added up over the workers; each
makes the step for a slice of them. (Sharing out the images alone is simpler. Measured at batch 512
and 32, it takes 1.0 and 1.4 times as long: gradients and new weights travel, 0.8 MB a batch.)

All sums are made in a fixed order, whichever worker is first: equal seeds and numbers of workers
give equal bits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npvae.fast.atomics import (
    FLUSH,
    borrowed,
    float_mode,
    meet,
    multiply,
    prefetch_images,
    set_float_mode,
)
from npvae.fast.jit import jit, jit_too
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
    sum_rows,
    warp_pixels,
)

BLOCK = 256  # images whose logits are computed at a time, so that they stay in the core's cache


class Network(NamedTuple):
    """What the workers share of the model: P parameters in L layers, K hidden ones on each side."""

    layers: Any  # (L, 4) inputs, outputs, where W begins in parameters, and where b
    activation: int  # its number in kernels.py
    parameters: Any  # (P,); of the last layer, the workers have copies
    gradients: Any  # (workers, P): each one's own, its columns of the last layer without gaps
    losses: Any  # (workers, 8) sums of bce and kl, each worker's part; a cache line for each
    counter: Any  # (1,) where they meet
    blas: Any  # address of gemm, and a zero of the integers that it takes
    yield_address: int


class Columns(NamedTuple):
    """What one worker has of the last layer: W (H, own pixels) and b (own pixels,), flat."""

    parameters: Any
    first: Any  # the state of the optimizer, as in Rule
    second: Any


class Room(NamedTuple):
    """Where the workers exchange activations of a batch of up to B images."""

    y_first: Any  # (workers, B, H): parts of x @ W of the first layer
    h_last: Any  # (B, H)
    d_h_last: Any  # (workers, B, H): its parts
    d_y_first: Any  # (B, H)


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
    bce: Any  # (batches,) results, means over the batch
    kl: Any  # (batches,)


@jit_too
def shard(count: int, part: int, parts: int) -> tuple[int, int]:
    """Begin and end of one of so many nearly equal parts; those beyond the last are empty."""
    part = min(part, parts)
    return count * part // parts, count * min(part + 1, parts) // parts


@jit
def layer_gradients(blas: Any, x: Any, d_y: Any, d_W: Any, d_b: Any, more: bool = False) -> None:
    """d_W = x.T @ d_y and d_b = sum of d_y over the images: Dense.backward without d_x.

    Added to what is there, if these are `more` images of a batch.
    """
    multiply(blas, x.T, d_y, d_W, d_y.dtype.type(more))
    sum_rows(d_y, more, d_b)


@jit
def dense(flat: Any, at: int, n_in: int, n_out: int) -> Any:
    """W (n_in, n_out) and b (n_out,), which begin there in a flat array."""
    return borrowed(flat, at, n_in, n_out), borrowed(flat, at + n_in * n_out, 1, n_out)[0]


@jit
def add_parts(parts: Any, out: Any) -> None:
    """out = the sum of arrays of its size."""
    flat, first = out.reshape(-1), parts[0]
    for i in range(len(flat)):  # flat[:] = first takes Numba two seconds to compile
        flat[i] = first[i]
    for k in range(1, len(parts)):
        add(parts[k], flat)


def work(
    worker: int,
    first: int,
    last: int,
    batch_size: int,
    network: Network,
    columns: Columns,
    room: Room,
    rule: Rule,
    data: Batches,
) -> int:
    """`train_batches`, while numbers below 1e-38 count as 0.

    Adam's m of a pixel that is black for a thousand batches decays to such numbers. Some processors
    take a hundred times as long for each: measured at batch 32, 5 s an epoch instead of 1.4.
    """
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    stopped = train_batches(worker, first, last, batch_size, network, columns, room, rule, data)
    set_float_mode(mode)
    return stopped


def step(gradient: Any, rate: float, network: Network, rule: Rule) -> None:
    """Optimizer.update with a gradient (P,) from elsewhere; numbers as in `work`."""
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    t, state = rule.t[0] + 1, (rule.first, rule.second)
    theta, kind, settings = network.parameters, rule.kind, rule.settings
    optimizer_step(kind, theta, gradient, state[0], state[1], t, rate, settings)
    rule.t[0] = t
    set_float_mode(mode)


@jit
def train_batches(
    worker: int,
    first: int,
    last: int,
    batch_size: int,
    network: Network,
    columns: Columns,
    room: Room,
    rule: Rule,
    data: Batches,
) -> int:
    """One worker's part in batches `first` to `last` - 1, all of one length.

    Returns the batch before whose step it stopped: one whose loss is not finite, or `last`.
    """
    layers, parameters, blas = network.layers, network.parameters, network.blas
    counter, yields, meetings = network.counter, network.yield_address, 0
    dtype, activation = parameters.dtype, network.activation
    overwrite, accumulate = parameters.dtype.type(0), parameters.dtype.type(1)
    learning, steps = len(data.learning_rate) > 0, rule.t[0]
    L, workers = len(layers), len(network.losses)
    K = (L - 3) // 2
    to_mu, to_log_var, decoder, to_logits = K, K + 1, K + 2, L - 1  # numbers of layers
    H, D = layers[0, 1], layers[to_logits, 1]
    B, space = min(batch_size, len(data.indices) - first * batch_size), len(room.h_last)

    # Our images. Of fewer images than workers, some workers get none.
    sharing = min(workers, B)
    begin, end = shard(B, worker, sharing)
    rows = end - begin
    h_last, d_y_first = borrowed(room.h_last, 0, B, H), borrowed(room.d_y_first, 0, B, H)
    y_parts = [
        borrowed(room.y_first, (other * space + begin) * H, 1, rows * H)[0]
        for other in range(workers)
    ]
    d_h_parts = [
        borrowed(room.d_h_last, (other * space + begin) * H, 1, rows * H)[0]
        for other in range(workers)
    ]

    # Our pixels; the inputs for classes, if there are any, belong to the last worker.
    pixel, next_pixel = shard(D, worker, workers)
    n_pixels = next_pixel - pixel
    n_inputs = n_pixels if worker + 1 < workers else layers[0, 0] - pixel
    x = np.empty((B, n_inputs), dtype)
    W_first = borrowed(parameters, pixel * H, n_inputs, H)
    own = network.gradients[worker]
    d_W_first = borrowed(own, pixel * H, n_inputs, H)
    y_part = borrowed(room.y_first, worker * space * H, B, H)
    W_last, b_last = dense(columns.parameters, 0, H, n_pixels)
    at = layers[to_logits, 2]
    d_last = own[at : at + len(columns.parameters)]
    d_W_last, d_b_last = dense(d_last, 0, H, n_pixels)
    d_h_part = borrowed(room.d_h_last, worker * space * H, B, H)
    logits = np.empty((min(B, BLOCK), n_pixels), dtype)
    d_logits = np.empty_like(logits)

    # The layers for our images, by number: y = inputs @ W + b, and h = activation(y) over it.
    W = [borrowed(parameters, at, n_in, n_out) for n_in, n_out, at, _ in layers]
    b = [borrowed(parameters, at, 1, n_out)[0] for _, n_out, _, at in layers]
    d_W = [borrowed(own, at, n_in, n_out) for n_in, n_out, at, _ in layers]
    d_b = [borrowed(own, at, 1, n_out)[0] for _, n_out, _, at in layers]
    h = [np.empty((rows, n_out), dtype) for _, n_out, _, _ in layers[:to_logits]]
    d = [np.empty((rows, n_out), dtype) for _, n_out, _, _ in layers[:to_logits]]  # d_h, then d_y
    h[to_logits - 1] = borrowed(room.h_last, begin * H, rows, H)
    d[0] = borrowed(room.d_y_first, begin * H, rows, H)
    z = np.empty((rows, layers[decoder, 0]), dtype)
    d_z = np.empty_like(z)
    inputs = [h[max(0, min(k, K) - 1)] if k < decoder else h[k - 1] for k in range(to_logits)]
    d_inputs = [d[max(0, min(k, K) - 1)] if k < decoder else d[k - 1] for k in range(to_logits)]
    inputs[decoder], d_inputs[decoder] = z, d_z

    # Our parameters: rows of the first W, columns of the last layer, and a slice of all between.
    theta_first = parameters[pixel * H : (pixel + n_inputs) * H]
    first_1 = rule.first[pixel * H : (pixel + n_inputs) * H]
    first_2 = rule.second[pixel * H : (pixel + n_inputs) * H]
    origin = layers[0, 3]  # of what is between: it begins with the first b
    low, high = shard(layers[to_logits, 2] - origin, worker, workers)
    low, high = origin + low, origin + high
    theta, state_1, state_2 = parameters[low:high], rule.first[low:high], rule.second[low:high]
    slices = [borrowed(network.gradients[k], low, 1, high - low)[0] for k in range(sharing)]

    for batch in range(first, last):
        start, beta, bce, kl = batch * batch_size, data.beta[batch], 0.0, 0.0

        # Our pixels of all images.
        indices = data.indices[start : start + B]
        if len(data.warps):
            warp_pixels(data.images, indices, data.warps[start : start + B], pixel, n_pixels, x)
        else:
            for i in range(B):
                prefetch_images(data.images, indices, i + 2, pixel, n_pixels)
                gather_pixels(data.images, indices[i : i + 1], pixel, n_pixels, x[i : i + 1])
        one_hot(data.labels, indices, n_pixels, x)
        multiply(blas, x, W_first, y_part, overwrite)
        meetings += workers
        if not meet(counter, meetings, yields):
            return batch  # a worker is missing: nothing has been done

        # Our images, from the first layer to h_last.
        if rows:
            epsilon = data.epsilon[start + begin : start + end]
            one_hot(data.labels, indices[begin:end], epsilon.shape[1], z)
            add_parts(y_parts, h[0])
            bias_activation(activation, b[0], h[0])
            for k in range(1, to_logits):
                if k == decoder:
                    kl = reparameterize(h[to_mu], h[to_log_var], epsilon, z)
                multiply(blas, inputs[k], W[k], h[k], overwrite)
                if k in (to_mu, to_log_var):
                    add_bias(b[k], h[k])
                else:
                    bias_activation(activation, b[k], h[k])
        meetings += workers
        meet(counter, meetings, yields)

        # Our pixels of all images again: the loss, and back to h_last.
        for i in range(0, B, BLOCK):
            j = min(B, i + BLOCK)
            y, d_y = logits[: j - i], d_logits[: j - i]
            multiply(blas, h_last[i:j], W_last, y, overwrite)
            bce += bce_and_gradient(y, b_last, x[i:j], 1 / B, d_y)
            if learning:
                multiply(blas, d_y, W_last.T, d_h_part[i:j], overwrite)
                layer_gradients(blas, h_last[i:j], d_y, d_W_last, d_b_last, i > 0)
        network.losses[worker, 0], network.losses[worker, 1] = bce, kl
        meetings += workers
        meet(counter, meetings, yields)

        # All workers see the same loss.
        bce = kl = 0.0
        for other in range(workers):
            bce += network.losses[other, 0] / B
            kl += network.losses[other, 1] / B
        if worker == 0:
            data.bce[batch], data.kl[batch] = bce, kl
        if not learning:
            continue
        if not math.isfinite(bce + beta * kl):
            return batch

        # Our images, back from h_last to the first layer. Two paths meet at mu and log_var, and
        # two heads at the hidden layer below.
        if rows:
            add_parts(d_h_parts, d[to_logits - 1])
            for k in range(to_logits - 1, 0, -1):
                if k == to_log_var:
                    latent_gradients(h[to_mu], h[k], epsilon, d_z, beta / B, d[to_mu], d[k])
                elif k != to_mu:
                    activation_backward(activation, h[k], d[k])
                layer_gradients(blas, inputs[k], d[k], d_W[k], d_b[k])
                multiply(blas, d[k], W[k].T, d_inputs[k], accumulate if k == to_mu else overwrite)
            activation_backward(activation, h[0], d[0])
            sum_rows(d[0], False, d_b[0])
        meetings += workers
        meet(counter, meetings, yields)

        # Our parameters.
        multiply(blas, x.T, d_y_first, d_W_first, overwrite)
        if rule.kind == NO_STEP:
            continue
        for other in range(1, sharing):
            add(slices[other], slices[0])
        steps += 1
        step = steps, data.learning_rate[batch], rule.settings
        d_first = d_W_first.reshape(-1)
        optimizer_step(rule.kind, theta_first, d_first, first_1, first_2, *step)
        optimizer_step(rule.kind, columns.parameters, d_last, columns.first, columns.second, *step)
        optimizer_step(rule.kind, theta, slices[0], state_1, state_2, *step)
        if worker == 0:
            rule.t[0] = steps
    return last
