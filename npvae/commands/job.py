"""What is one training run, from `train.py` to the loop, and how does it speak to the user?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from npvae.datasets import Dataset
from npvae.runs import terminal
from npvae.runs.fit import Job
from npvae.runs.run_directory import Run


class Voice(NamedTuple):
    """With `quiet` only results are printed. The commands that are suggested get our --data-dir."""

    quiet: bool = False
    data_dir: str | None = None

    def say(self, text: str) -> None:
        if not self.quiet:
            terminal.show(text)

    def note(self, text: str) -> None:
        """The same, and no error if it cannot be printed."""
        if not self.quiet:
            terminal.show_note(text)

    def command(self, name: str, *words: object) -> str:
        """One of our commands for the same data, as a line to copy into a shell."""
        where = ["--data-dir", Path(self.data_dir)] if self.data_dir else []
        return terminal.command(name, *words, *where)


@dataclass(frozen=True)
class RunJob(Job):
    """A job in a run directory, of which `done` epochs are finished."""

    train: Dataset
    test: Dataset
    backend: str
    run: Run = field(kw_only=True)
    voice: Voice = field(kw_only=True)
    done: int = field(default=0, kw_only=True)
