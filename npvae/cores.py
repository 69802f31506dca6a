"""Who uses which core: do they share the images of a batch, or each matrix product?

Sharing the images is faster where each share is large, and slower where it is small: workers are
threads of Python, and hand over its lock some thirty times a batch, which takes 0.05 ms whenever
two want it at once. An epoch on two cores, shared by images and by products, and on one core alone:

    batch 512    0.56 s    0.64 s    0.80 s
    batch 128    0.80 s    0.88 s    0.87 s
    batch 64     1.16 s    0.84 s    1.07 s

That is on a quiet machine. Beside another busy program the threads of BLAS wait for each other:
5 to 30 s for an epoch at batch 64. $OPENBLAS_NUM_THREADS=1 avoids that.
Scripts decide, before NumPy is imported: BLAS reads its settings only once.
"""

from __future__ import annotations

import os

LARGE_SHARE = 64  # images


def cores() -> int:
    """How many cores this process may use: $OMP_NUM_THREADS, else all that it is allowed on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal():
        return max(1, int(wanted))
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def settings_for(batch_size: int) -> dict[str, str]:
    """The environment that makes cores share the images of a batch, if that is the faster way."""
    if batch_size // cores() < LARGE_SHARE:
        return {}
    return {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "VECLIB")}


def divide(batch_size: int) -> None:
    """Settle it for this process, unless the user has done so; before NumPy is imported."""
    for name, value in settings_for(batch_size).items():
        os.environ.setdefault(name, value)


def workers() -> int:
    """How many workers a team should have: one for each core, if products keep to one thread."""
    return cores() if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else 1
