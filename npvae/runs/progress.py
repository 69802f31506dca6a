"""What one sees while it trains: a row for every epoch and, on a terminal, a line that moves."""

from __future__ import annotations

import contextlib
import sys
import time

from npvae.runs.fit import Epoch
from npvae.runs.terminal import columns, is_live

LOSSES = "{:>13} {:>6} {:>7}"
HEADER = f"{'epoch':9}{LOSSES.format('train: bce', 'kl', 'loss')}"
HEADER += f"{LOSSES.format('test: bce', 'kl', 'loss')}   seconds"
NARROW = len(HEADER) + 2  # columns a terminal must have for the whole row


class Progress:
    """Prints the progress of a run of `epochs` epochs, `done` of which lie behind already."""

    def __init__(self, epochs: int, done: int = 0, quiet: bool = False) -> None:
        self.epochs, self.done, self.first, self.quiet = epochs, done, done, quiet
        self.live = is_live(sys.stdout) and not quiet
        self.start = self.drawn = time.monotonic()
        if not quiet and columns(sys.stdout) >= NARROW:
            print(HEADER)

    def batch(self, k: int, count: int, loss: float) -> None:
        """Redraw the moving line, at most ten times a second."""
        now = time.monotonic()
        if not self.live or now - self.drawn < 0.1:
            return
        self.drawn = now
        share = k / count
        behind = self.done - self.first + share
        eta = (now - self.start) / behind * (self.epochs - self.first - behind)
        bar = ("#" * round(20 * share)).ljust(20, ".")
        line = f"  {self.done + 1}/{self.epochs} [{bar}] loss {loss:.1f}  {clock(eta)} left"
        if len(line) >= columns(sys.stdout):
            line = f"{self.done + 1}/{self.epochs} {share:4.0%} {clock(eta)} left"
        print(f"\r\033[K{line[: columns(sys.stdout) - 1]}", end="", flush=True)

    def epoch(self, epoch: Epoch) -> None:
        """Print the row of an epoch."""
        assert epoch.test  # every run has a test set
        self.done = epoch.epoch
        if self.quiet:
            return
        row = f"{epoch.epoch:4}/{self.epochs:<4}"
        if columns(sys.stdout) >= NARROW:
            for loss in (epoch.train, epoch.test):
                row += LOSSES.format(*map(short, (loss.bce, loss.kl, loss.loss)))
            row += f"   {epoch.seconds:7.2f}"
        else:
            row += f" test {epoch.test.loss:.2f} {epoch.seconds:.1f} s"
        self.clear()
        print(row, flush=True)

    def clear(self) -> None:
        """Wipe the moving line away, so that something else can be printed."""
        with contextlib.suppress(OSError):  # the terminal may be gone
            if self.live:
                print("\r\033[K", end="", flush=True)


def short(loss: float) -> str:
    """Two decimals, or what fits of a loss that has gone astray."""
    return f"{loss:.2f}" if abs(loss) < 1e6 else f"{loss:.1e}"


def clock(seconds: float) -> str:
    """1:05 for a minute and five seconds."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
