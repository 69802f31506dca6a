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
from pathlib import Path
from statistics import median
from typing import Any

from npvae.core.errors import NpvaeError
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
    result: Result | None = start(command)
    return result


def start(command: list[str]) -> Any:
    """What a module prints as JSON when run in a process of its own; None if it lacks a package."""
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, capture_output=True, text=True)
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
