"""Who uses which core: do they share the images of a batch, or each matrix product?

The images. Each core computes with its own share from the first product to the last; BLAS, which
would use all cores for each product, keeps to one thread. Seconds for an epoch of 784-128-10 on two
cores that are free, and beside another busy program, where the threads of BLAS wait for each other:

    batch                  512            128             64             32
    images shared     0.56   0.64    0.80   0.91    1.16   1.39    1.23   1.31
    products shared   0.64   0.90    0.88   1.52    0.84     17    4.14     12

(Measured on a busier day than the table of the README.) Sharing wins where batches are large; at 64
it takes 1.4 times as long if all cores are free, but never waits if they are not. A batch of 32 is
not shared: one core does it. BLAS reads its settings only once, so scripts say it before NumPy is
imported.
"""

from __future__ import annotations

import os

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "VECLIB")}


def cores() -> int:
    """How many cores this process may use: $OMP_NUM_THREADS, else all that it is allowed on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal():
        return min(max(1, int(wanted[:9])), 1024)  # a team of a million takes minutes to gather
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def limit_blas_threads() -> None:
    """Settle it for this process, unless the user has done so; before NumPy is imported."""
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)


def workers() -> int:
    """How many workers a team should have: one for each core, if products keep to one thread."""
    return cores() if os.environ.get("OPENBLAS_NUM_THREADS") == "1" else 1
