"""How fast is it, and where does the time go? What `scripts/benchmark.py` measures.

Everything that is compared runs in a process of its own (baselines.py), in rounds that alternate:
a slow minute of the machine hits all alike. What counts are ratios within a round.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import NpvaeError
from npvae.datasets.minibatches import gather_pixels
from npvae.fast.threads import ONE_THREAD, workers
from npvae.layers import reparameterize
from npvae.losses import bce_and_gradient
from npvae.model import VAE, latent_gradients
from npvae.optimizers import Adam
from npvae.reference.baselines import read_images
from npvae.runs.environment import versions

PROGRAMS = ("products", "npvae", "torch", "jax")
SWEEPS = {
    "batch-size": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "hidden": (64, 128, 256, 512, 1024, 2048),
    "latent-dim": (2, 10, 32, 64, 128, 256),
    "images": (15_000, 30_000, 60_000, 120_000, 240_000),
}
Result = dict[str, Any]


def machine() -> Result:
    """What the figures were measured on."""
    about = versions()
    del about["workers"]
    return {
        "cpu": cpu_name(),
        "cores": about.pop("cores"),
        "system": platform.platform(),
        "blas": about.pop("blas"),
        "versions": about,
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "not set"),
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run(program: str, data: str | None, epochs: int, **options: int) -> Result | None:
    """One program in a process of its own; None if what it needs is not installed."""
    command = ["npvae.reference.baselines", program, "--epochs", str(epochs)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    if data is not None:
        command += ["--data", data]
    ours = program == "npvae"
    result: Result | None = start(command, ONE_THREAD if ours else {})
    return result


def start(command: list[str], environment: Mapping[str, str]) -> Any:
    """What a module prints as JSON when run in a process of its own; None if it lacks a package.

    Settings of the user's own environment take precedence.
    """
    environment = {**environment, **os.environ}
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 2:
        return None
    if done.returncode:
        error = NpvaeError("\n".join(done.stderr.strip().splitlines()[-3:]).removeprefix("error: "))
        error.exit_code = max(1, done.returncode)
        raise error
    return json.loads(done.stdout)


def compare(
    data: str | None, batch_size: int, rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds per epoch of each program that can run here, one figure for each round."""
    seconds: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    for number in range(1, rounds + 1):
        say(f"batch {batch_size}, round {number} of {rounds}")
        for program in list(seconds):
            result = run(program, data, epochs=4, batch_size=batch_size)
            if result is None:
                del seconds[program]
            else:  # the first epoch warms up
                seconds[program].append(median(result["seconds"][1:]))
    return seconds


def compared(seconds: dict[str, list[float]]) -> Iterator[Result]:
    """Each program beside ours: median seconds, and the ratio of ours to it, round by round."""
    for program, times in seconds.items():
        ratios = [ours / theirs for ours, theirs in zip(seconds["npvae"], times, strict=True)]
        yield {
            "program": program,
            "seconds": median(times),
            "npvae_takes": median(ratios),
            "from": min(ratios),
            "to": max(ratios),
        }


def sweep(
    data: str | None, names: Sequence[str], say: Callable[[str], None]
) -> dict[str, list[Result]]:
    """How time and memory grow with each size, the others at their defaults."""
    found: dict[str, list[Result]] = {}
    for name in names:
        found[name] = []
        for value in SWEEPS[name]:
            say(f"{name} {value}")
            result = run("npvae", data, epochs=3, **{name.replace("-", "_"): value})
            assert result is not None  # npvae needs nothing that is not here
            seconds = median(result["seconds"][1:])
            row = {name: value, "seconds": seconds, "peak_mib": result["peak_mib"]}
            found[name].append(row)
    return found


def parts(data: str | None, batch_size: int) -> list[Result]:
    """Where the time of an epoch goes, step by step, measured in a process of its own."""
    found: list[Result] = start(
        ["npvae.reference.benchmark", str(batch_size), data or ""], ONE_THREAD
    )
    return found


def timed_parts(images: NDArray[np.uint8], batch_size: int, repeats: int = 30) -> list[Result]:
    """Where the time of an epoch goes: each step of one worker's share of a batch, by itself."""
    share = max(1, batch_size // workers())
    rng = np.random.default_rng(0)
    vae, adam = VAE(rng=rng), Adam()
    a, d = vae.buffers(share), vae.buffers(share)
    flat, x, rows = images.reshape(len(images), -1), a.x, rng.integers(0, len(images), share)
    epsilon = vae.noise(share, rng)
    gather_pixels(flat, rows, x)
    vae.backward(vae.forward(x, epsilon, out=a), out=d)
    h_enc, h_dec = a.h_enc[-1], a.h_dec[-1]

    def decoder_backward() -> None:
        vae.decoder.backward(a.z, a.h_dec, d.h_dec)
        vae.decoder.backward_to_input(d.h_dec, out=d.z)

    def heads_forward() -> None:
        vae.to_mu.forward(h_enc, out=a.mu)
        vae.to_log_var.forward(h_enc, out=a.log_var)

    def heads_backward() -> None:
        vae.to_mu.backward(h_enc, a.mu, d.mu)
        vae.to_log_var.backward(h_enc, a.log_var, d.log_var)
        from_mu = vae.to_mu.backward_to_input(d.mu)
        np.add(from_mu, vae.to_log_var.backward_to_input(d.log_var), out=d.h_enc[-1])

    steps: dict[str, Callable[[], object]] = {
        "noise": lambda: vae.noise(share, rng),
        "gather and scale pixels": lambda: gather_pixels(
            flat, rng.integers(0, len(flat), share), x
        ),
        "x @ W + b, relu (encoder)": lambda: vae.encoder.forward(x, out=a.h_enc),
        "mu, log_var": heads_forward,
        "reparameterize": lambda: reparameterize(a.mu, a.log_var, epsilon, a.z),
        "z @ W + b, relu (decoder)": lambda: vae.decoder.forward(a.z, out=a.h_dec),
        "logits": lambda: vae.to_logits.forward(h_dec, out=a.logits),
        "bce and its gradient": lambda: bce_and_gradient(a.logits, x, 1 / share, d.logits),
        "d_W, d_b of the logits": lambda: vae.to_logits.backward(h_dec, a.logits, d.logits),
        "d_h_dec": lambda: vae.to_logits.backward_to_input(d.logits, out=d.h_dec[-1]),
        "decoder, backward": decoder_backward,
        "kl, d_mu, d_log_var": lambda: latent_gradients(
            a.mu, a.log_var, epsilon, d.z, 1 / share, d.mu, d.log_var
        ),
        "heads, backward": heads_backward,
        "encoder, backward": lambda: vae.encoder.backward(x, a.h_enc, d.h_enc),
        "Adam": lambda: adam.update(vae.parameters, vae.gradients),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():  # in the order of training, for caches as in training
            start = perf_counter()
            step()
            times[name].append(perf_counter() - start)
    batches = -(-len(images) // batch_size)
    return [
        {"part": name, "seconds_per_epoch": median(taken) * batches}
        for name, taken in times.items()
    ]


if __name__ == "__main__":
    size, folder = sys.argv[1:]
    train_images, _ = read_images(Path(folder) if folder else None)
    print(json.dumps(timed_parts(train_images, int(size))))
