"""What does the user see during training? A row per epoch and, on a terminal, a moving line."""

from __future__ import annotations

import sys
import time

from npvae.runs.fit import Epoch
from npvae.runs.terminal import MovingLine, columns

LOSSES = "{:>13} {:>6} {:>7}"
HEADER = f"{'epoch':9}{LOSSES.format('train: bce', 'kl', 'loss')}"
HEADER += f"{LOSSES.format('test: bce', 'kl', 'loss')}   seconds"
WIDE = len(HEADER) + 2  # columns that a whole row needs


class Progress:
    """Prints the progress of a run of `epochs` epochs, of which `done` are finished already."""

    def __init__(self, epochs: int, done: int = 0, quiet: bool = False) -> None:
        self.epochs, self.done, self.first, self.quiet = epochs, done, done, quiet
        self.line = MovingLine(quiet)
        self.start = self.drawn = time.monotonic()
        if not quiet and columns(sys.stdout) >= WIDE:
            print(HEADER)

    def batch(self, k: int, count: int, loss: float) -> None:
        """Redraw the moving line, at most ten times a second: batch k of `count` is done."""
        now = time.monotonic()
        if not self.line.live or now - self.drawn < 0.1:
            return
        self.drawn = now
        share = k / count
        trained = self.done - self.first + share  # epochs since the start of this process
        eta = (now - self.start) / trained * (self.epochs - self.first - trained)
        bar = ("#" * round(20 * share)).ljust(20, ".")
        which, left = f"{self.done + 1}/{self.epochs}", f"{clock(eta)} left"
        self.line.draw(f"  {which} [{bar}] loss {loss:.1f}  {left}", f"{which} {share:4.0%} {left}")

    def epoch(self, epoch: Epoch) -> None:
        """Print the row of an epoch."""
        assert epoch.test  # every run has a test set
        self.done = epoch.epoch
        if self.quiet:
            return
        row = f"{epoch.epoch:4}/{self.epochs:<4}"
        if columns(sys.stdout) >= WIDE:
            for loss in (epoch.train, epoch.test):
                row += LOSSES.format(*map(loss_text, (loss.bce, loss.kl, loss.loss)))
            row += f"   {epoch.seconds:7.2f}"
        else:
            row += f" test {epoch.test.loss:.2f} {epoch.seconds:.1f} s"
        self.line.clear()
        print(row, flush=True)


def loss_text(loss: float) -> str:
    """Two decimals; in exponential form for a loss that is far too large."""
    return f"{loss:.2f}" if abs(loss) < 1e6 else f"{loss:.1e}"


def clock(seconds: float) -> str:
    """Minutes and seconds, such as 1:05, and hours if there are any."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
