"""How fast is an epoch, beside other programs? What `scripts/benchmark.py` measures.

Everything that is compared runs in a process of its own (baselines.py), in rounds that alternate:
a slow minute of the machine hits all alike. What counts are ratios within a round.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from npvae.core.errors import NpvaeError
from npvae.runs.environment import versions

PROGRAMS = ("products", "npvae", "torch", "jax")
CROWDS = (0, 1, 4, 20)  # busy processes beside ours
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


def run(
    program: str, data: str | None, epochs: int, workers: int = 0, **options: int
) -> Result | None:
    """One program in a process of its own; None if what it needs is not installed.

    With so many workers, if given; by default npvae has one for each core.
    """
    words = [program, "--epochs", str(epochs), *(["--data", data] if data else [])]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    command = [sys.executable, "-m", "npvae.reference.timing.baselines", *words]
    return printed(command, {"OMP_NUM_THREADS": str(workers)} if workers else {})


def printed(command: list[str], environment: dict[str, str]) -> Result | None:
    """What a command prints as JSON; None if it lacks a package. Raises NpvaeError."""
    environment = os.environ | environment
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 2:
        return None
    if done.returncode:
        error = NpvaeError("\n".join(done.stderr.strip().splitlines()[-3:]).removeprefix("error: "))
        error.exit_code = max(1, done.returncode)
        raise error
    result: Result = json.loads(done.stdout)
    return result


def warm_seconds(result: Result | None) -> float:
    """Of an epoch. The first warms up."""
    assert result is not None  # npvae needs nothing that is not here
    return float(median(result["seconds"][1:]))


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
            else:
                seconds[program].append(warm_seconds(result))
    return seconds


def compared(seconds: dict[str, list[float]]) -> Iterator[Result]:
    """Each program beside ours: median seconds, and the ratio of ours to it, round by round."""
    for program, times in seconds.items():
        ratio = spread(seconds["npvae"], times, "npvae_takes")
        yield {"program": program, "seconds": median(times), **ratio}


def spread(ours: list[float], theirs: list[float], name: str) -> Result:
    """The ratio of times, round by round: its median, called `name`, and its range."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {name: median(ratios), "from": min(ratios), "to": max(ratios)}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """In this context so many other processes want a core, as in a class on one server."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def crowd(
    data: str | None, batch_size: int, rounds: int, say: Callable[[str], None]
) -> list[Result]:
    """Seconds of 200 batches beside other processes: with one worker, and with one per core."""
    found = []
    for processes in CROWDS:
        times: dict[int, list[float]] = {1: [], 0: []}  # by workers; 0: one for each core
        for number in range(1, rounds + 1):
            say(f"beside {processes} processes, round {number} of {rounds}")
            for workers in times:
                options = {"workers": workers, "batch_size": batch_size, "images": 200 * batch_size}
                with busy(processes):
                    times[workers].append(warm_seconds(run("npvae", data, 4, **options)))
        found.append(
            {
                "busy": processes,
                "one worker": median(times[1]),
                "a worker for each core": median(times[0]),
                **spread(times[0], times[1], "ratio"),
            }
        )
    return found


def sweep(
    data: str | None, names: Sequence[str], say: Callable[[str], None]
) -> dict[str, list[Result]]:
    """How time and memory grow with each size, the others at their defaults."""

    def row(name: str, value: int) -> Result:
        say(f"{name} {value}")
        result = run("npvae", data, epochs=3, **{name.replace("-", "_"): value})
        seconds = warm_seconds(result)
        return {name: value, "seconds": seconds, "peak_mib": result and result["peak_mib"]}

    return {name: [row(name, value) for value in SWEEPS[name]] for name in names}
