"""What are we compared with?

The same VAE, 784-H-Z trained with Adam, as a good PyTorch user and a good JAX user write it for a CPU:
all pixels in memory as floats, one layer for both heads, the running loss kept where the numbers are.
And the floor: the five large matrix products of each batch with nothing around them, in NumPy.

    python -m npvae.rivals torch --batch-size 512 --epochs 5 --data data/fashion-mnist

prints one line of JSON. A process for each: their pools of threads would fight for the same cores.
scripts/benchmark.py does that. Nothing here is used for anything else.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Epochs(NamedTuple):
    """What became of each epoch. The first is often slower than the rest: take medians."""

    seconds: list[float]  # shuffle, gather, forward, backward, Adam, running loss
    losses: list[float]  # bce + kl in nats per image, mean over the epoch as it went


def torch_epochs(
    images: NDArray[np.uint8],
    batch_size: int = 512,
    hidden: int = 128,
    latent: int = 10,
    epochs: int = 5,
    seed: int = 0,
) -> Epochs:
    """Train on images (N, ...) with PyTorch: tensors in memory, no DataLoader, fused Adam."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(seed)
    x_train = torch.tensor(images.reshape(len(images), -1)).float() / 255  # (N, D)
    pixels = x_train.shape[1]
    encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    for theta in parameters:
        nn.init.xavier_uniform_(theta) if theta.ndim == 2 else nn.init.zeros_(theta)
    adam = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def loss_sum(x: Any) -> Any:
        mu, log_var = encoder(x).chunk(2, dim=1)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        bce = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        return bce - 0.5 * torch.sum(1 + log_var - mu.square() - log_var.exp())

    done = Epochs([], [])
    for _ in range(epochs):
        start, total = perf_counter(), torch.zeros(())
        for rows in torch.randperm(len(x_train)).split(batch_size):
            loss = loss_sum(x_train[rows])
            adam.zero_grad()
            (loss / len(rows)).backward()
            adam.step()
            total += loss.detach()
        done.losses.append(total.item() / len(x_train))
        done.seconds.append(perf_counter() - start)
    return done


def jax_epochs(
    images: NDArray[np.uint8],
    batch_size: int = 512,
    hidden: int = 128,
    latent: int = 10,
    epochs: int = 5,
    seed: int = 0,
) -> Epochs:
    """Train on images (N, ...) with JAX: an epoch is one compiled program, compiled before the clock
    starts. It scans over the full batches; the last, short one is a step of its own after the scan.
    """
    import jax
    import jax.numpy as jnp

    x_train = jnp.asarray(images.reshape(len(images), -1), jnp.float32) / 255  # (N, D)
    count, pixels = x_train.shape
    full = count // batch_size * batch_size

    def dense(key: Any, n_in: int, n_out: int) -> tuple[Any, Any]:
        return jax.nn.initializers.glorot_uniform()(key, (n_in, n_out)), jnp.zeros(n_out)

    def mean_loss(parameters: Any, x: Any, epsilon: Any) -> Any:
        (W1, b1), (W2, b2), (W3, b3), (W4, b4) = parameters
        mu, log_var = jnp.split(jax.nn.relu(x @ W1 + b1) @ W2 + b2, 2, axis=1)
        z = mu + jnp.exp(0.5 * log_var) * epsilon
        logits = jax.nn.relu(z @ W3 + b3) @ W4 + b4
        bce = jnp.sum(jax.nn.softplus(logits) - x * logits)
        kl = 0.5 * jnp.sum(mu**2 + jnp.exp(log_var) - 1 - log_var)
        return (bce + kl) / len(x)

    def step(state: Any, batch: Any) -> Any:
        (parameters, m, v, t), (rows, epsilon) = state, batch
        loss, g = jax.value_and_grad(mean_loss)(parameters, x_train[rows], epsilon)
        t += 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate, root = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        parameters = jax.tree.map(
            lambda theta, m, v: theta - rate * m / (jnp.sqrt(v * root) + 1e-8), parameters, m, v
        )
        return (parameters, m, v, t), loss * len(rows)

    def epoch(state: Any, key: Any) -> Any:
        shuffle, noise = jax.random.split(key)
        rows = jax.random.permutation(shuffle, count)
        epsilon = jax.random.normal(noise, (count, latent))
        batches = (
            rows[:full].reshape(-1, batch_size),
            epsilon[:full].reshape(-1, batch_size, latent),
        )
        state, losses = jax.lax.scan(step, state, batches)
        total = jnp.sum(losses)
        if full < count:
            state, last = step(state, (rows[full:], epsilon[full:]))
            total += last
        return state, total / count

    keys = jax.random.split(jax.random.key(seed), 4 + epochs)
    sizes = [(pixels, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, pixels)]
    parameters = [dense(key, *size) for key, size in zip(keys[:4], sizes, strict=True)]
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = (parameters, zeros, zeros, jnp.float32(0))
    run = jax.jit(epoch).lower(state, keys[0]).compile()

    done = Epochs([], [])
    for key in keys[4:]:
        start = perf_counter()
        state, loss = run(state, key)
        done.losses.append(float(loss))  # waits for the epoch to end
        done.seconds.append(perf_counter() - start)
    return done
