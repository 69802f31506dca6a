"""Has mpiexec started this process, and which of how many is it? It says so in the environment.

Nothing heavy is imported here, so that --help and bad options answer at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from npvae.core.errors import OptionError

# How the launchers of MPICH (and Intel, Microsoft, Slurm) and of Open MPI number their processes.
NUMBERS = (("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))

# A user, a closed terminal, Slurm and other queues, and a limit of CPU time end a program by these.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows has two


def size_and_rank() -> tuple[int, int]:
    """How many processes mpiexec has started, and the number of this one; (1, 0) without it."""
    for names in NUMBERS:
        size, rank = (os.environ.get(name, "") for name in names)
        if size.isdecimal() and rank.isdecimal():
            return int(size), int(rank)
    return 1, 0


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
    return {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_"))}
