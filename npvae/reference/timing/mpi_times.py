"""What do more processes gain? Times of a step and of the sum of gradients, by `mpiexec`.

`python -m npvae.reference.timing.mpi_times 512,64` prints them as JSON; under mpiexec rank 0 does.
On one rank, a step is linear in the batch size: a + b * B. On R ranks it takes a + b * B / R + e,
where e is the time of the exchange, which hardly depends on R (see Ranks.add_up).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from npvae.core.errors import NpvaeError
from npvae.fast.engine import Engine
from npvae.fast.ranks import RankEngine
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.reference.timing.benchmark import printed
from npvae.runs import mpi

BATCHES = 20
ROUNDS = 5


def seconds(action: Callable[[], object], times: int) -> float:
    """The median over rounds of what one of so many calls takes; a first call warms up."""
    found = []
    for _ in range(ROUNDS + 1):
        start = perf_counter()
        action()
        found.append((perf_counter() - start) / times)
    return median(found[1:])


def main(sizes: Sequence[int]) -> None:
    """Measure on all ranks; rank 0 prints seconds of a step, by batch size, and of an exchange."""
    ranks, vae, adam = mpi.join(), VAE(), OPTIMIZERS["adam"]()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 784), np.uint8)
    engine = (
        RankEngine(vae, adam, images, None, ranks)
        if ranks
        else Engine(vae, adam, images, workers=1)
    )
    steps = {}
    for size in sizes:
        indices = rng.integers(0, len(images), BATCHES * size)
        epsilon = vae.noise(len(indices), rng)
        given = indices, epsilon, size, [1.0] * BATCHES, [1e-3] * BATCHES
        steps[size] = seconds(lambda given=given: list(engine.train(*given)), BATCHES)  # type: ignore[misc]
    exchange = 0.0
    if ranks:
        gradient = vae.parameters.flat.copy()

        def exchanges() -> None:
            for _ in range(BATCHES):
                ranks.meet(0.0, 0.0)
                ranks.add_up(gradient)

        exchange = seconds(exchanges, BATCHES)
    if not ranks or ranks.rank == 0:
        print(json.dumps({"step": steps, "exchange": exchange}))


def measured(ranks: int, sizes: Sequence[int]) -> dict[str, Any]:
    """The same from so many processes. Raises NpvaeError."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if not mpiexec:
        raise NpvaeError('mpiexec is missing. Install it with  pip install -e ".[mpi]"')
    words = [sys.executable, "-m", "npvae.reference.timing.mpi_times", ",".join(map(str, sizes))]
    found = printed([mpiexec, "-n", str(ranks), *words], {})
    if found is None:
        raise NpvaeError("mpiexec ended with exit code 2, and no figures.")
    return found


def table(one: dict[str, Any], two: dict[str, Any]) -> str:
    """Times and efficiencies for people: measured for 1 and 2 ranks, estimated for more."""
    sizes, e = [int(size) for size in one["step"]], two["exchange"]
    times = [one["step"][str(size)] for size in sizes]
    lines = ["batch  1 rank  2 ranks  efficiency   4 ranks  8 ranks (estimated)"]
    b = max(1e-12, float(np.polyfit(sizes, times, 1)[0])) if len(sizes) > 1 else times[0] / sizes[0]
    for size, time in zip(sizes, times, strict=True):
        together = two["step"][str(size)]
        more = [time - b * size * (1 - 1 / ranks) + e for ranks in (4, 8)]
        lines.append(
            f"{size:5} {time * 1e3:7.2f} {together * 1e3:8.2f} {time / together / 2:10.0%}  "
            + " ".join(f"{other * 1e3:8.2f}" for other in more)
        )
    pays = [e / (b * (1 - 1 / ranks)) for ranks in (2, 8)]
    return "\n".join(
        [
            *lines,
            "Milliseconds per step of the default network, one core for each rank.",
            f"Of these, the ranks' sum takes {e * 1e3:.2f} ms, and an image {b * 1e6:.1f} us.",
            f"So 2 ranks pay from batch size {pays[0]:.0f} on, 8 from {pays[1]:.0f} (estimated).",
        ]
    )


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1].split(",")])
