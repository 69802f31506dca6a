"""Has mpiexec started this process, and which of how many is it? It says so in the environment.

Nothing heavy is imported here, so that --help and bad options answer at once.
"""

from __future__ import annotations

import os

# How the launchers of MPICH (and Intel, Microsoft, Slurm) and of Open MPI number their processes.
NUMBERS = (("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"))


def size_and_rank() -> tuple[int, int]:
    """How many processes mpiexec has started, and the number of this one; (1, 0) without it."""
    for names in NUMBERS:
        size, rank = (os.environ.get(name, "") for name in names)
        if size.isdecimal() and rank.isdecimal():
            return int(size), int(rank)
    return 1, 0


def environment_of_a_child() -> dict[str, str]:
    """Our environment for a process that is no rank."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI_"))}
