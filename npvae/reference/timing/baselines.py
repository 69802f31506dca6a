"""What are we compared with?

The same VAE, trained with Adam, as a good PyTorch user and a good JAX user write it for a CPU: all
pixels in memory as floats, one layer for both heads, the running loss kept where the numbers are.
And the floor: the five large matrix products of every batch with nothing around them, in NumPy.

    python -m npvae.reference.timing.baselines torch --batch-size 512 --data data/fashion-mnist

prints one line of JSON. Each runs in a process of its own, because their pools of threads would
fight for the cores. Not part of the lesson: only scripts/benchmark.py uses it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Sizes(NamedTuple):
    """What is trained, and for how long; each is an option of the program, too."""

    batch_size: int = 512
    hidden: int = 128
    latent_dim: int = 10
    epochs: int = 5
    seed: int = 0


class Epochs(NamedTuple):
    """What became of each epoch. The first may be slower than the rest: take medians."""

    seconds: list[float]  # shuffle, gather, forward, backward, Adam, running loss
    losses: list[float]  # bce + kl in nats per image, mean over the epoch as it went
    test_losses: list[float]  # after each epoch, not in `seconds`; empty if nobody asked


def npvae_epochs(images: Bytes, sizes: Sizes) -> Epochs:
    """Train on images (N, ...) as scripts/train.py does."""
    from npvae.core.random_streams import Stream, generator
    from npvae.model import VAE
    from npvae.optimizers import Adam
    from npvae.runs.fit import Examples, Job, train
    from npvae.settings import Settings

    rng = generator(sizes.seed, Stream.WEIGHTS)
    vae = VAE(images[0].size, (sizes.hidden,), sizes.latent_dim, rng=rng)
    settings, done = Settings(batch_size=sizes.batch_size, seed=sizes.seed), Epochs([], [], [])
    job = Job(vae, Adam(), settings, Examples(images))
    for result in train(job, range(1, sizes.epochs + 1)):
        done.seconds.append(result.seconds)
        done.losses.append(result.train.total)
    return done


def torch_epochs(images: Bytes, sizes: Sizes, test_images: Bytes | None = None) -> Epochs:
    """Train on images (N, ...) with PyTorch: tensors in memory, no DataLoader, fused Adam."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    batch_size, hidden, latent, epochs, seed = sizes
    torch.manual_seed(seed)

    def to_pixels(given: Bytes) -> Any:
        return torch.tensor(given.reshape(len(given), -1)).float().div_(255)  # (N, D)

    x_train = to_pixels(images)
    x_test = torch.empty(0) if test_images is None else to_pixels(test_images)
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

    done = Epochs([], [], [])
    for _ in range(epochs):
        start, total = perf_counter(), torch.zeros(())
        order: Any = torch.randperm(len(x_train))
        for rows in order.split(batch_size):
            loss = loss_sum(x_train[rows])
            adam.zero_grad()
            (loss / len(rows)).backward()
            adam.step()
            total += loss.detach()
        done.losses.append(total.item() / len(x_train))
        done.seconds.append(perf_counter() - start)
        if len(x_test):
            with torch.no_grad():
                total = sum(loss_sum(x) for x in x_test.split(1000))
            done.test_losses.append(total.item() / len(x_test))
    return done


def jax_epochs(images: Bytes, sizes: Sizes) -> Epochs:
    """Train on images (N, ...) with JAX: a whole epoch is one program, compiled before the clock
    starts. It scans over the full batches; the last, shorter one is a step of its own after the
    scan, compiled for its size: no image is left out and nothing is padded.
    """
    import jax
    import jax.numpy as jnp

    batch_size, hidden, latent, epochs, seed = sizes
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

    def step(state: Any, x: Any, epsilon: Any) -> Any:
        parameters, m, v, t = state
        loss, g = jax.value_and_grad(mean_loss)(parameters, x, epsilon)
        t += 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate, root = 1e-3 / (1 - 0.9**t), 1 / (1 - 0.999**t)
        parameters = jax.tree.map(
            lambda theta, m, v: theta - rate * m / (jnp.sqrt(v * root) + 1e-8), parameters, m, v
        )
        return (parameters, m, v, t), loss * len(x)

    def epoch(state: Any, key: Any, x_train: Any) -> Any:
        shuffle, noise = jax.random.split(key)
        rows = jax.random.permutation(shuffle, count)
        epsilon = jax.random.normal(noise, (count, latent))

        def next_batch(state: Any, batch: Any) -> Any:
            return step(state, x_train[batch[0]], batch[1])

        batches = (
            rows[:full].reshape(-1, batch_size),
            epsilon[:full].reshape(-1, batch_size, latent),
        )
        state, losses = jax.lax.scan(next_batch, state, batches)
        total = jnp.sum(losses)
        if full < count:
            state, last = next_batch(state, (rows[full:], epsilon[full:]))
            total += last
        return state, total / count

    keys = jax.random.split(jax.random.key(seed), 4 + epochs)
    shapes = [(pixels, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, pixels)]
    parameters = [dense(key, *shape) for key, shape in zip(keys[:4], shapes, strict=True)]
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = (parameters, zeros, zeros, jnp.float32(0))
    run = jax.jit(epoch).lower(state, keys[0], x_train).compile()

    done = Epochs([], [], [])
    for key in keys[4:]:
        start = perf_counter()
        state, loss = run(state, key, x_train)
        done.losses.append(float(loss))  # waits for the epoch to end
        done.seconds.append(perf_counter() - start)
    return done


def products_epochs(images: Bytes, sizes: Sizes) -> Epochs:
    """The five large products of every batch of an epoch, the last, short one included.

    The other products, with a side of the latents' size, are left out, and so is everything else.
    """
    batch_size, hidden = sizes.batch_size, sizes.hidden
    rng = np.random.default_rng(0)

    def room(*shape: int) -> NDArray[np.float32]:
        return rng.random(shape, np.float32)

    x, h, logits, d, d_h = (room(batch_size, n) for n in (784, hidden, 784, 784, hidden))
    W1, d_W1, W4, d_W4 = room(784, hidden), room(784, hidden), room(hidden, 784), room(hidden, 784)

    def products(size: int) -> None:
        np.matmul(x[:size], W1, out=h[:size])
        np.matmul(h[:size], W4, out=logits[:size])
        np.matmul(h[:size].T, d[:size], out=d_W4)
        np.matmul(d[:size], W4.T, out=d_h[:size])
        np.matmul(x[:size].T, d_h[:size], out=d_W1)

    products(batch_size)  # wakes the threads
    done = Epochs([], [], [])
    for _ in range(sizes.epochs):
        start = perf_counter()
        for first in range(0, len(images), batch_size):
            products(min(batch_size, len(images) - first))
        done.seconds.append(perf_counter() - start)
    return done


# ------------------------------------------------------------------ as a program

# Each with the packages whose versions are of interest.
PROGRAMS: dict[str, tuple[Callable[..., Epochs], list[str]]] = {
    "npvae": (npvae_epochs, ["numba"]),
    "torch": (torch_epochs, ["torch"]),
    "jax": (jax_epochs, ["jax", "jaxlib"]),
    "products": (products_epochs, []),
}


def main(arguments: Sequence[str]) -> None:
    about = "Time epochs of another program; prints one line of JSON."
    parser = argparse.ArgumentParser(
        "python -m npvae.reference.timing.baselines", description=about
    )
    parser.add_argument("program", choices=PROGRAMS)
    for name, default in Sizes()._asdict().items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N")
    help = "an .npz file or a folder of IDX files (default: random pixels)"
    parser.add_argument("--data", type=Path, metavar="PATH", help=help)
    help = "number of images, by repetition if need be (default: all, or 60000 random ones)"
    parser.add_argument("--images", type=int, metavar="N", help=help)
    parser.add_argument("--evaluate", action="store_true", help="test after each epoch (torch)")
    options = parser.parse_args(arguments)

    train, test = read_images(options.data)
    if options.images:
        train = np.resize(train, (options.images, *train.shape[1:]))
    sizes = Sizes(*(getattr(options, name) for name in Sizes._fields))
    epochs, packages = PROGRAMS[options.program]
    try:
        is_tested = options.evaluate and options.program == "torch"
        done = epochs(train, sizes, test) if is_tested else epochs(train, sizes)
    except ImportError as error:
        name = options.program
        print(f"error: {name} is needed ({error}): python -m pip install {name}", file=sys.stderr)
        sys.exit(2)
    result = {
        "program": options.program,
        "batch_size": sizes.batch_size,
        "hidden": sizes.hidden,
        "latent_dim": sizes.latent_dim,
        "images": len(train),
        **done._asdict(),
        "versions": {
            name: sys.modules[name].__version__  # PyTorch's names its CUDA version, too
            for name in ("numpy", *packages)
            if name in sys.modules  # without Numba, npvae runs in NumPy alone
        },
        "peak_mib": peak_memory(),
    }
    print(json.dumps(result))


def peak_memory() -> float | None:
    """The most memory this process has had resident, in MiB; None where nobody counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / (2**20 if sys.platform == "darwin" else 2**10))


def read_images(path: Path | None) -> tuple[Bytes, Bytes | None]:
    """Training and test images (N, 28, 28). Raises DataError."""
    if path is None:
        return np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8), None
    if path.is_dir():
        from npvae.datasets import idx

        files = (path / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k"))
        train, test = (idx.read_images(file) for file in files)
        return train, test
    from npvae.datasets.npz_file import read_npz
    from npvae.datasets.pixels import Intake

    halves = [images for images, *_ in read_npz(path, Intake())]
    return halves[0], halves[1] if len(halves) > 1 else None


if __name__ == "__main__":
    main(sys.argv[1:])
