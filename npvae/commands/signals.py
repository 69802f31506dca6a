"""How does a program end that is told to: by Ctrl-C, by `kill`, by a terminal that closes?

By an exception, so that what is being written is cleaned up, and training can say how to go on.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from types import FrameType

PATIENCE = 2.0  # seconds after a signal; then the next one ends it at once


class Interrupted(KeyboardInterrupt):
    """A signal, as an exception: what is being written is still cleaned up."""


class Signals:
    """Ctrl-C, SIGTERM or SIGHUP, as a closed terminal sends it, end the program in good order.

    `number` is that of the first one, or 0. Signals that are ignored, as by nohup, stay ignored.
    """

    def __init__(self) -> None:
        self.number, self.since, self.over = 0, 0.0, False
        known = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
        self.numbers = [number for number in known if number]  # Windows has no SIGHUP

    def catch(self) -> None:
        """Catch them from here on; one may come before the last line of this is done."""
        atexit.register(self.deaf)  # the first to be registered is the last to be called
        sys.unraisablehook = self.lost
        for number in self.numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.received)

    def received(self, number: int, frame: FrameType | None) -> None:
        """Raise Interrupted, once; if that should not help, end the process the hard way."""
        late = self.number and time.monotonic() - self.since > PATIENCE
        if late or self.over:
            os._exit(128 + (self.number or number))  # no worse than kill -9, which loses nothing
        if not self.number:
            self.number, self.since = number, time.monotonic()
            raise Interrupted

    def deaf(self) -> None:
        """Python takes itself down, and no signal shall change the exit code any more."""
        for number in self.numbers:
            signal.signal(number, signal.SIG_IGN)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)  # see `lost`

    def lost(self, lost: sys.UnraisableHookArgs) -> None:
        """Raise it again, in a moment, if it came in a finalizer: nothing gets out of there."""
        if isinstance(lost.exc_value, Interrupted) and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self.again)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        elif not self.number:  # what was cut off in the middle may complain: nobody wants to know
            sys.__unraisablehook__(lost)

    def again(self, number: int, frame: FrameType | None) -> None:
        if not self.over:
            raise Interrupted
