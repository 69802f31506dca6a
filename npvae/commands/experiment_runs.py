"""What is each choice worth? Many training runs, several seeds each, side by side.

An experiment is a command line of train.py, run as anybody would run it, in a folder of its own.
The folders are all that is kept: what is there already is not run again, unless its settings are
no longer those of the experiment: then nothing is done at all. What was interrupted is resumed.
experiment_tables.py shows what is there. See also scripts/experiments.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import split

from npvae.core.errors import NpvaeError, OutputError
from npvae.fast.threads import cores
from npvae.runs.progress import clock
from npvae.runs.terminal import columns, is_live, show
from npvae.settings import PRESETS, Settings, option, shown

# Single changes to the tutorial preset; values are written as settings.shown writes them.
CHANGES = (
    "--activation leaky_relu",
    "--activation elu",
    "--activation tanh",
    "--optimizer adamax",
    "--optimizer rmsprop",
    "--optimizer sgd",
    "--optimizer sgd --learning-rate 0.0001",
    "--learning-rate 0.003",
    "--schedule cosine",
    "--schedule step",
    "--warmup 5",
    "--kl-warmup 10",
    "--augment shift",
    "--augment rotate",
    "--augment scale",
    "--augment flip",
    "--hidden 128,128",
    "--latent-dim 20",
    "--beta 0.5",
    "--beta 2",
)

DIVERGED = 5  # the exit code of train.py


def chosen(which: str) -> list[str]:
    """The options of the experiments of the group "presets", "changes" or "all"."""
    presets = [f"--preset {name}" for name in PRESETS]
    changes = [f"--preset tutorial {change}".strip() for change in ("", *CHANGES)]
    return {"presets": presets, "changes": changes, "all": presets + changes[1:]}[which]


def typed(settings: Settings) -> dict[str, str]:
    """Each option of train.py with its value as one types it, but for how often to draw."""
    values = asdict(settings).items()
    return {option(name): shown(value) for name, value in values if name != "pictures_every"}


@dataclass(frozen=True)
class Experiment:
    """One run of train.py with these options and this seed, in a folder inside `place`."""

    options: str
    seed: int
    place: Path

    @property
    def folder(self) -> Path:
        """Such as tutorial-beta-2-seed-0 for --preset tutorial --beta 2."""
        words = [*split(self.options.replace("--", "")), "seed", str(self.seed)]
        return self.place / "-".join(words[words[0] == "preset" :])

    @property
    def diverged(self) -> bool:
        return (self.folder / "diverged.txt").exists()

    @property
    def rows(self) -> list[dict[str, str]]:
        """Its metrics.csv, as far as it has come."""
        try:
            return list(csv.DictReader(io.StringIO((self.folder / "metrics.csv").read_text())))
        except OSError:
            return []

    @property
    def settings(self) -> dict[str, str]:
        """What train.py makes of its options today, as `typed`."""
        words = [*split(self.options), "--seed", str(self.seed)]
        given = dict(zip(words[::2], words[1::2], strict=True))
        return {**typed(PRESETS[given.pop("--preset")]), **given}

    @property
    def epochs(self) -> int:
        """How many it is to have."""
        return int(self.settings["--epochs"])

    @property
    def done(self) -> bool:
        """Raises OutputError if the folder holds a run of other settings."""
        self.check()
        return self.diverged or len(self.rows) == self.epochs

    def check(self) -> None:
        """Raise OutputError if what the folder holds is not this experiment: presets may change."""
        kept = ("last.npz", "metrics.csv", "diverged.txt")
        if not any((self.folder / name).exists() for name in kept):
            return
        try:
            about = json.loads((self.folder / "run.json").read_text())
            was = typed(Settings.from_dict(about["settings"]))
        except (OSError, ValueError, KeyError, TypeError):
            was = {}
        differences = [
            f"{name} {was.get(name, '(unknown)') or 'none'}, not {value or 'none'}"
            for name, value in self.settings.items()
            if was.get(name) != value
        ]
        if differences:
            more = "; ..." if len(differences) > 3 else "."
            raise OutputError(
                f"{self.folder} holds a run of other settings than {self.options} has now.\n"
                f"It began with {'; '.join(differences[:3])}{more}\n"
                "Remove it, or choose another folder with --out."
            )

    def start(
        self, train: Sequence[str], data_dir: str | None, threads: int
    ) -> subprocess.Popen[str]:
        """Begin or resume it; the words `train` call the training command."""
        if (self.folder / "last.npz").exists():
            words = ["--resume", str(self.folder), "--epochs", str(self.epochs)]
        else:
            words = [*split(self.options), "--seed", str(self.seed), "--out", str(self.folder)]
        words += ["--pictures-every", "0", "--quiet"]
        words += ["--data-dir", data_dir] if data_dir else []
        return subprocess.Popen(
            [*train, *words],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def end(self, process: subprocess.Popen[str]) -> None:
        """Take note of how it ended. Raises NpvaeError if it has failed."""
        _, said = process.communicate()
        if process.returncode == DIVERGED:
            (self.folder / "diverged.txt").write_text(said)
        elif process.returncode and not self.done:  # a kill at the last instant may be no failure
            code = process.returncode
            last_words = "\n".join(said.strip().splitlines()[-3:])
            error = NpvaeError(f"train.py {self.options} (exit code {code}) failed:\n{last_words}")
            error.exit_code = max(1, code)
            raise error


def finished(place: Path) -> list[Experiment]:
    """All that is done in this folder, whichever were asked for. Raises OutputError as `done`."""
    tails = {folder.name.rpartition("-seed-")[2] for folder in place.glob("*-seed-*")}
    seeds = sorted({int(tail) for tail in tails if tail.isdecimal()})
    known = [Experiment(options, seed, place) for seed in seeds for options in chosen("all")]
    return [run for run in known if run.done]


def train_all(
    experiments: Sequence[Experiment],
    train: Sequence[str],
    jobs: int = 1,
    data_dir: str | None = None,
    quiet: bool = False,
) -> None:
    """Run all that is not done yet, `jobs` at a time. Raises NpvaeError.

    `train` are the words that call the training command.
    """
    waiting = [experiment for experiment in experiments if not experiment.done]
    progress = Progress(waiting, len(experiments), quiet)
    running: dict[Experiment, subprocess.Popen[str]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                experiment = waiting.pop(0)
                running[experiment] = experiment.start(train, data_dir, max(1, cores() // jobs))
            time.sleep(0.2)
            for experiment in [
                run for run, process in running.items() if process.poll() is not None
            ]:
                experiment.end(running.pop(experiment))
                progress.ended(experiment)
            progress.draw(running)
    except KeyboardInterrupt:
        progress.clear()
        show("Interrupted: what is done is kept, and the same command goes on.", sys.stderr)
        raise
    finally:
        for process in running.values():  # after an error, or Ctrl-C: they save what they have
            process.terminate()
        for process in running.values():
            process.wait()
        progress.clear()


class Progress:
    """A line for each run that has ended and, on a terminal, one that moves."""

    def __init__(self, waiting: Sequence[Experiment], count: int, quiet: bool) -> None:
        self.waiting, self.count, self.quiet = list(waiting), count, quiet
        self.live = is_live(sys.stdout) and not quiet
        self.begin, self.before = time.monotonic(), sum(len(run.rows) for run in waiting)
        self.number = count - len(waiting)

    def ended(self, run: Experiment) -> None:
        self.number += 1
        if not self.quiet:
            self.clear()
            how = (
                "diverged" if run.diverged else f"test loss {float(run.rows[-1]['test_loss']):.2f}"
            )
            print(f"{self.number}/{self.count}  {run.options}, seed {run.seed}: {how}", flush=True)

    def draw(self, running: Iterable[Experiment]) -> None:
        if self.live:
            epochs = sum(len(run.rows) for run in self.waiting)
            to_come = sum(run.epochs for run in self.waiting) - epochs
            trained = epochs - self.before
            left = (time.monotonic() - self.begin) / trained * to_come if trained else math.inf
            now = ", ".join(f"{run.folder.name} {len(run.rows)}/{run.epochs}" for run in running)
            eta = f", {clock(left)} left" if trained else ""
            line = f"{self.number}/{self.count} done{eta}: {now}"
            print(f"\r\033[K{line[: columns(sys.stdout) - 1]}", end="", flush=True)

    def clear(self) -> None:
        if self.live:
            print("\r\033[K", end="", flush=True)
