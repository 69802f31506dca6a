"""How many cores are there, and how many threads does BLAS start when NumPy is imported?"""

from __future__ import annotations

import os
import re
import sys
import threading


def cores() -> int:
    """How many cores this process may use: $OMP_NUM_THREADS, else all that it is allowed on.

    OMP_NUM_THREADS may be a list, such as 4,2: its first number is for the outermost loops.
    """
    wanted = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    if wanted:
        return min(max(1, int(wanted[1][:9])), 1024)  # a million threads take minutes to start
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# BLAS libraries read these once, when NumPy is imported.
VARIABLES = [f"{library}_NUM_THREADS" for library in ("OPENBLAS", "MKL", "VECLIB")]
limited: list[str] = []  # those that we have set


def limit_blas_threads() -> None:
    """Have BLAS start no threads, unless the user has set their number; before NumPy is imported.

    The engine needs none. Where no thread can be started, OpenBLAS would end the process.
    """
    if "numpy" not in sys.modules and not any(name in os.environ for name in VARIABLES):
        limited.extend(VARIABLES)
        os.environ.update(dict.fromkeys(VARIABLES, "1"))


def free_blas_threads() -> None:
    """Let BLAS use all cores after all, if it was we who limited it: for the lesson."""
    from npvae.fast import blas

    functions = blas.thread_functions() if limited else None
    for name in limited:
        os.environ.pop(name, None)
    limited.clear()
    if functions and can_start_a_thread():
        functions[1](cores())


def can_start_a_thread() -> bool:
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return False
    return True
