"""How many cores are there, and how many threads does BLAS start when NumPy is imported?"""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
import threading
from pathlib import Path, PurePosixPath


def cores() -> int:
    """How many cores this process may use: $OMP_NUM_THREADS, otherwise all that it is allowed on.

    A quota of CPU time, as containers have it, counts as so many cores, rounded up.
    OMP_NUM_THREADS may be a list, such as 4,2: its first number is for the outermost loops.
    """
    wanted = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    if wanted:
        return min(max(1, int(wanted[1][:9])), 1024)  # a million threads take minutes to start
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """How many CPUs' time the control groups of Linux grant to this process; inf if unlimited.

    Groups are nested and each may have a quota, so the smallest counts. A container sees its own
    group as the topmost one, whatever the process calls it. `root` is that of the file system.
    """
    quotas, groups = [math.inf], root / "sys/fs/cgroup"
    lines = text(root / "proc/self/cgroup")
    for controllers, path in re.findall(r"^\d+:(.*?):(/.*)$", lines, re.MULTILINE):
        group = PurePosixPath(os.path.normpath(path))
        if not controllers:  # version 2
            mounts = [groups, groups / "unified"]
        else:
            mounts = [groups / controllers] if "cpu" in controllers.split(",") else []
        for mount in mounts:
            quotas += [quota_of(mount / str(g).lstrip("/")) for g in (group, *group.parents)]
    return min(quotas)


def quota_of(group: Path) -> float:
    """The quota of one group alone: microseconds of CPU time in each period of so many."""
    version_2 = text(group / "cpu.max")
    version_1 = text(group / "cpu.cfs_quota_us") + " " + text(group / "cpu.cfs_period_us")
    numbers = re.match(r"(\d+)\s+([1-9]\d*)\s*$", version_2 or version_1)  # otherwise max or -1
    return int(numbers[1]) / int(numbers[2]) if numbers else math.inf


def text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError):  # it is not there, or not for us
        return ""


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


def yield_function() -> int:
    """The address of the system's function that lets another thread run on this core."""
    system = ctypes.CDLL("kernel32") if os.name == "nt" else ctypes.CDLL(None)
    function = system.SwitchToThread if os.name == "nt" else system.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0
