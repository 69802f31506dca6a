"""How many workers, and how do they run?"""

from __future__ import annotations

import os
import re


def cores() -> int:
    """How many cores this process may use: $OMP_NUM_THREADS, else all that it is allowed on.

    OMP_NUM_THREADS may be a list, such as 4,2: its first number is for the outermost loops.
    """
    wanted = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    if wanted:
        return min(max(1, int(wanted[1][:9])), 1024)  # a million threads take minutes to start
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
