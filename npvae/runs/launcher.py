"""Has mpiexec started this process, and which of how many is it? It says so in the environment.

Nothing heavy is imported here, so that --help and bad options answer at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from npvae.core.errors import OptionError

# How the launchers of MPICH (and Intel, Microsoft, Slurm), Open MPI and MVAPICH number processes.
NUMBERS = tuple((f"{of}_SIZE", f"{of}_RANK") for of in ("PMI", "OMPI_COMM_WORLD", "MV2_COMM_WORLD"))
# How others number the tasks that they start, and how those become the ranks of one MPI.
TASKS = {
    "Slurm": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun --mpi=pmi2"),
    "Flux": ("FLUX_JOB_SIZE", "FLUX_TASK_RANK", "flux run -o pmi=simple"),
}
OF_A_RANK = ("PMI", "OMPI_", "MV2_", "SLURM_STEP", "SLURM_PROCID", "FLUX_")

# A user, a closed terminal, Slurm and other queues, and a limit of CPU time end a program by these.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows has two

# What a command that fails calls last, with its exit code: see mpi.py.
on_failure: list[Callable[[int], None]] = []


def size_and_rank() -> tuple[int, int]:
    """How many processes mpiexec has started, and the number of this one; (1, 0) without it."""
    for size, rank in NUMBERS:
        if (found := numbers(size, rank))[0]:
            return found
    return 1, 0


def numbers(*names: str) -> tuple[int, int]:
    """The size and the rank that these variables hold; (0, 0) if they do not."""
    size, rank = (os.environ.get(name, "") for name in names)
    return (int(size), int(rank)) if size.isdecimal() and rank.isdecimal() else (0, 0)


def unrelated_tasks() -> str:
    """What the first of several tasks notes that no MPI connects; empty otherwise."""
    for starter, (size, rank, how) in TASKS.items():
        tasks, task = numbers(size, rank)
        if tasks > 1 and task == 0 and size_and_rank()[0] == 1:
            return (
                f"note: {starter} has started {tasks} tasks that do not see each other, so each "
                f"trains a model of its own; for one model use mpiexec or {how}"
            )
    return ""


@contextmanager
def as_rank_0() -> Iterator[None]:
    """For what all ranks do alike and end alike: in this context rank 0 alone prints.

    If it ends with an error, that is its exit code. The others end with 0, as mpiexec could end
    rank 0 before it has explained the error.
    """
    _, rank = size_and_rank()
    if rank == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except (SystemExit, OptionError):
            raise SystemExit(0) from None


def environment_of_a_child() -> dict[str, str]:
    """Our environment for a process that is no rank."""
    return {k: v for k, v in os.environ.items() if not k.startswith(OF_A_RANK)}
