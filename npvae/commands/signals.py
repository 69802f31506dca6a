"""How does a command end on Ctrl-C, on `kill`, when its terminal closes, or its time is over?

By an exception. So whatever is being written is cleaned up, and training can say how to continue.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from npvae.runs.launcher import SIGNALS

PATIENCE = 2.0  # seconds after a signal; after that the next one ends the process at once


class Interrupted(KeyboardInterrupt):
    """A signal, as an exception: whatever is being written is still cleaned up."""


class Signals:
    """All SIGNALS end a command in good order.

    Slurm sends SIGUSR1 before the end of a job's time, other queues SIGUSR2; SIGXCPU means that a
    limit of CPU time is reached. Signals that are ignored, as under nohup, stay ignored.

    `number` is that of the first signal, or 0. If the process is not `alone` (see session.py), it
    survives the command; then `pending` is the signal that the session still has to get, or 0.
    """

    def __init__(self, alone: bool) -> None:
        self.alone, self.number, self.pending, self.since, self.over = alone, 0, 0, 0.0, False
        self.hook = sys.unraisablehook

    def catch(self) -> None:
        """Catch them from here on. One may arrive before the last line of this method."""
        if self.alone:
            atexit.register(self.ignore)  # the first to be registered is the last to be called
        sys.unraisablehook = self.unraisable
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                with suppress(ValueError):  # only the main thread can catch signals
                    signal.signal(number, self.received)

    def received(self, number: int, frame: FrameType | None) -> None:
        """Raise Interrupted, once. If that does not help in time, end the process at once."""
        late = self.number and time.monotonic() - self.since > PATIENCE
        if self.alone and (late or self.over):
            os._exit(128 + (self.number or number))  # no worse than kill -9, which loses nothing
        if not self.alone and (self.over or number != signal.SIGINT):
            self.pending = number
        if not self.over and (late or not self.number):
            self.number, self.since = self.number or number, time.monotonic()
            raise Interrupted

    def ignore(self) -> None:
        """While Python shuts down, no signal may change the exit code."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)  # see `unraisable`

    def unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in a finalizer. If that was ours, raise it again soon."""
        if isinstance(lost.exc_value, Interrupted) and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self.raise_again)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        elif not self.number:  # interrupted code may complain: that is no news
            self.hook(lost)

    def raise_again(self, number: int, frame: FrameType | None) -> None:
        if not self.over:
            raise Interrupted
