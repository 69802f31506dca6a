"""What does a command leave behind in its process? Nothing, if the process continues after it.

`python scripts/train.py` has a process of its own. Under `%run` in IPython, `runpy`, a debugger or
`python -i` a session continues, and it needs its signal handlers, hooks, streams, warnings and
environment variables as they were.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from types import FrameType

from npvae.runs.launcher import SIGNALS, on_failure


def is_alone() -> bool:
    """Whether the process ends with this command: it was started to run the script, no more."""
    callers: list[str] = []
    frame: FrameType | None = sys._getframe()
    while frame:
        callers.append(str(frame.f_globals.get("__name__")).partition(".")[0])
        frame = frame.f_back
    packages = [package for package, _ in groupby(callers)]
    as_script, as_module = ["npvae", "__main__"], ["npvae", "__main__", "runpy"]
    on_rank_0 = [*as_module, "mpi4py", "__main__", "runpy"]  # of python -m mpi4py.futures
    return packages in (as_script, as_module, on_rank_0) and not sys.flags.inspect


@contextmanager
def restored() -> Iterator[None]:
    """Afterwards the process is as it was before, whatever a command has changed in it."""
    alarm = [signal.SIGALRM] if hasattr(signal, "SIGALRM") else []  # see signals.py
    timer = signal.getitimer(signal.ITIMER_REAL) if alarm else (0.0, 0.0)
    handlers = {number: signal.getsignal(number) for number in [*SIGNALS, *alarm]}
    hook, show, environment = sys.unraisablehook, warnings.showwarning, dict(os.environ)
    streams = sys.stdout, sys.stderr
    errors = [getattr(stream, "errors", None) for stream in streams]
    ends = on_failure.copy()
    with warnings.catch_warnings():  # so that notes of an earlier command can appear again
        try:
            yield
        finally:
            if alarm and signal.getsignal(signal.SIGALRM) != handlers[signal.SIGALRM]:
                signal.setitimer(signal.ITIMER_REAL, *timer)
            for number, handler in handlers.items():
                with suppress(TypeError, ValueError):  # None: not set by Python; another thread
                    signal.signal(number, handler)
            sys.unraisablehook, warnings.showwarning = hook, show
            sys.stdout, sys.stderr = streams
            for stream, how in zip(streams, errors, strict=True):
                if hasattr(stream, "reconfigure"):
                    stream.reconfigure(errors=how)
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]
            os.environ.update(environment)
            on_failure[:] = ends
