"""The loop of training.py, compiled: many batches in one call, by each worker on its own shard.

Every worker runs `train_batches` at the same time, in a thread of its own. For each batch:

    its shard of the images         gather, VAE.forward, VAE.backward: gradients into its own row
    meet                            all gradients and losses are there; a loss that is not finite
                                    stops everybody here, before a gradient is used
    its slice of the parameters     sum of the workers' gradients, one step of the optimizer
    meet                            all parameters are new

A gradient of the loss is a sum over images, so it can be added up from shards; an optimizer treats
every parameter alike, so its step can be made in slices. All sums are made in the same order
whoever comes first: equal seeds and numbers of workers give equal bits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from npvae.fast.atomics import FLUSH, borrowed, float_mode, meet, multiply, set_float_mode
from npvae.fast.jit import jit
from npvae.fast.kernels import (
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


class Network(NamedTuple):
    """What the workers share of the model: P parameters in L layers, K hidden ones on each side."""

    layers: Any  # (L, 4) inputs, outputs, where W begins in parameters, and where b
    activation: int  # its number in kernels.py
    parameters: Any  # (P,)
    gradients: Any  # (workers, P)
    losses: Any  # (workers, 8) sums of bce and kl over a worker's images; a cache line for each
    counter: Any  # (1,) where they meet
    blas: Any  # address of gemm, and a zero of the integers that it takes
    yield_address: int


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


@jit
def shard(count: int, part: int, parts: int) -> tuple[int, int]:
    """Begin and end of one of so many nearly equal parts; those beyond the last are empty."""
    part = min(part, parts)
    return count * part // parts, count * min(part + 1, parts) // parts


@jit
def layer_gradients(blas: Any, x: Any, d_y: Any, d_W: Any, d_b: Any) -> None:
    """d_W = x.T @ d_y and d_b = sum of d_y over the images: Dense.backward without d_x."""
    multiply(blas, x.T, d_y, d_W, d_y.dtype.type(0))
    sum_rows(d_y, d_b)


def work(
    worker: int, first: int, last: int, batch_size: int, network: Network, rule: Rule, data: Batches
) -> int:
    """`train_batches`, while numbers below 1e-38 count as 0.

    Adam's m of a pixel that is black for a thousand batches decays to such numbers. Some processors
    take a hundred times as long for each: measured at batch 32, 5 s an epoch instead of 1.4.
    """
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    stopped = train_batches(worker, first, last, batch_size, network, rule, data)
    set_float_mode(mode)
    return stopped


def step(gradient: Any, more: Any, rate: float, network: Network, rule: Rule) -> None:
    """Optimizer.update with the sum of two gradients (P,) from elsewhere; numbers as in `work`."""
    mode = float_mode()
    set_float_mode(mode | FLUSH)
    t, state = rule.t[0] + 1, (rule.first, rule.second)
    theta, kind, settings = network.parameters, rule.kind, rule.settings
    optimizer_step(kind, theta, gradient, more, state[0], state[1], t, rate, settings)
    rule.t[0] = t
    set_float_mode(mode)


@jit
def train_batches(
    worker: int, first: int, last: int, batch_size: int, network: Network, rule: Rule, data: Batches
) -> int:
    """One worker's part in batches `first` to `last` - 1, all of one length.

    Returns the batch before whose step it stopped: one whose loss is not finite, or `last`.
    """
    layers, parameters, blas = network.layers, network.parameters, network.blas
    dtype, activation = parameters.dtype, network.activation
    overwrite, accumulate = parameters.dtype.type(0), parameters.dtype.type(1)
    learning, steps = len(data.learning_rate) > 0, rule.t[0]
    K = (len(layers) - 3) // 2
    to_mu, to_log_var, decoder, to_logits = K, K + 1, K + 2, len(layers) - 1  # numbers of layers

    # Whose images, and whose parameters? Of fewer images than workers, some workers get none.
    workers = len(network.gradients)
    B = min(batch_size, len(data.indices) - first * batch_size)
    sharing = min(workers, B)  # so many workers share the images
    begin, end = shard(B, worker, sharing)
    low, high = shard(len(parameters), worker, workers)
    theta = parameters[low:high]
    slices = [borrowed(network.gradients[other], low, 1, high - low)[0] for other in range(sharing)]
    state_1, state_2 = rule.first[low:high], rule.second[low:high]

    # The arrays of the lesson, by the number of the layer: y = inputs @ W + b, h = activation(y).
    own = network.gradients[worker]
    W = [borrowed(parameters, at, n_in, n_out) for n_in, n_out, at, _ in layers]
    b = [borrowed(parameters, at, 1, n_out)[0] for _, n_out, _, at in layers]
    d_W = [borrowed(own, at, n_in, n_out) for n_in, n_out, at, _ in layers]
    d_b = [borrowed(own, at, 1, n_out)[0] for _, n_out, _, at in layers]
    h = [np.empty((end - begin, n_out), dtype) for _, n_out, _, _ in layers]
    d = [np.empty((end - begin, n_out), dtype) for _, n_out, _, _ in layers]  # d_h, then d_y
    x = np.empty((end - begin, layers[0, 0]), dtype)
    z = np.empty((end - begin, layers[decoder, 0]), dtype)
    d_z = np.empty_like(z)
    inputs = [x]  # then h_enc[0], ..., h_enc[-1] for both heads, z, h_dec[0], ...
    inputs += [h[k] for k in range(K)] + [h[K - 1], z] + [h[k] for k in range(decoder, to_logits)]

    for batch in range(first, last):
        start, stop = batch * batch_size + begin, batch * batch_size + end
        beta, bce, kl = data.beta[batch], 0.0, 0.0
        if stop > start:
            # The shard: images, noise and, in a conditional model, classes.
            indices, epsilon = data.indices[start:stop], data.epsilon[start:stop]
            if len(data.warps):
                warp_pixels(data.images, indices, data.warps[start:stop], x)
            else:
                gather_pixels(data.images, indices, x)
            one_hot(data.labels, indices, data.images.shape[1], x)
            one_hot(data.labels, indices, epsilon.shape[1], z)

            # VAE.forward. The bias of the logits is added in the loop of the loss.
            for k in range(len(layers)):
                if k == decoder:
                    kl = reparameterize(h[to_mu], h[to_log_var], epsilon, z)
                multiply(blas, inputs[k], W[k], h[k], overwrite)
                if k in (to_mu, to_log_var):
                    add_bias(b[k], h[k])
                elif k < to_logits:
                    bias_activation(activation, b[k], h[k])
            bce = bce_and_gradient(h[to_logits], b[to_logits], x, 1 / B, d[to_logits])

        if learning and stop > start:
            # VAE.backward: the decoder,
            for k in range(to_logits, to_log_var, -1):
                if k < to_logits:
                    activation_backward(activation, h[k], d[k])
                layer_gradients(blas, inputs[k], d[k], d_W[k], d_b[k])
                multiply(blas, d[k], W[k].T, d_z if k == decoder else d[k - 1], overwrite)
            # mu and log_var, where the KL divergence comes in,
            latent_gradients(
                h[to_mu], h[to_log_var], epsilon, d_z, beta / B, d[to_mu], d[to_log_var]
            )
            # h_enc, where the two heads meet,
            for k in (to_mu, to_log_var):
                layer_gradients(blas, inputs[k], d[k], d_W[k], d_b[k])
                multiply(blas, d[k], W[k].T, d[K - 1], overwrite if k == to_mu else accumulate)
            # and the encoder.
            for k in range(K - 1, -1, -1):
                activation_backward(activation, h[k], d[k])
                layer_gradients(blas, inputs[k], d[k], d_W[k], d_b[k])
                if k > 0:
                    multiply(blas, d[k], W[k].T, d[k - 1], overwrite)

        # All gradients and losses are there. Everybody sees the same loss.
        network.losses[worker, 0], network.losses[worker, 1] = bce, kl
        meetings = 2 * (batch - first) + 1
        if not meet(network.counter, meetings * workers, network.yield_address):
            return batch
        bce = kl = 0.0
        for other in range(sharing):
            bce += network.losses[other, 0] / B
            kl += network.losses[other, 1] / B
        if worker == 0:
            data.bce[batch], data.kl[batch] = bce, kl
        if learning and not math.isfinite(bce + beta * kl):
            return batch

        if learning:  # Optimizer.update, of a slice
            for other in range(1, sharing - 1):
                add(slices[other], slices[0])
            t, rate = steps + batch - first + 1, data.learning_rate[batch]
            g, kind, settings = slices[0], rule.kind, rule.settings
            if sharing == 1:
                optimizer_step(kind, theta, g, None, state_1, state_2, t, rate, settings)
            else:
                more = slices[sharing - 1]
                optimizer_step(kind, theta, g, more, state_1, state_2, t, rate, settings)
        if not meet(network.counter, (meetings + 1) * workers, network.yield_address):
            return batch
        if learning and worker == 0:
            rule.t[0] += 1
    return last
