"""How many cores may this process use?"""

from __future__ import annotations

import os


def cores() -> int:
    """How many cores this process may use: $OMP_NUM_THREADS, otherwise all that it may run on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal():
        return min(max(1, int(wanted[:9])), 1024)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
