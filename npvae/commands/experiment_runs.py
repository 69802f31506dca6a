"""What is each choice worth? Many training runs, several seeds each, side by side.

An experiment is a command line of `train` with its own run directory. Finished runs are not
repeated and interrupted ones are resumed. If a directory holds a run of other settings, nothing is
trained at all. experiment_tables.py prints the results.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from shlex import split

from npvae.commands.experiment_workers import Workers
from npvae.commands.progress import clock
from npvae.core.errors import NpvaeError, OutputError
from npvae.runs.run_lock import about_in
from npvae.runs.terminal import MovingLine, show
from npvae.settings import PRESETS, Settings, differences, option, spelled
from npvae.storage.files import CANNOT, write

# Single changes of the tutorial preset; values are spelled as settings.spelled spells them.
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

DIVERGED = 5  # the exit code of `train`


def option_lines(which: str) -> list[str]:
    """The options of each experiment in the group "presets", "changes" or "all"."""
    presets = [f"--preset {name}" for name in PRESETS]
    changes = [f"--preset tutorial {change}".strip() for change in ("", *CHANGES)]
    return {"presets": presets, "changes": changes, "all": presets + changes[1:]}[which]


def option_values(settings: Settings) -> dict[str, str]:
    """Each option of `train` with its value as one types it, except --pictures-every."""
    values = vars(settings).items()
    return {option(name): spelled(value) for name, value in values if name != "pictures_every"}


@dataclass(frozen=True)
class Experiment:
    """One run of `train` with these options and this seed, in a folder inside `place`."""

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
        """The rows of its metrics.csv so far."""
        try:
            return list(csv.DictReader(io.StringIO((self.folder / "metrics.csv").read_text())))
        except OSError:
            return []

    @property
    def settings(self) -> dict[str, str]:
        """The settings of its options today, as in `option_values`."""
        words = [*split(self.options), "--seed", str(self.seed)]
        given = dict(zip(words[::2], words[1::2], strict=True))
        return {**option_values(PRESETS[given.pop("--preset")]), **given}

    @property
    def epochs(self) -> int:
        """How many epochs it trains."""
        return int(self.settings["--epochs"])

    @property
    def done(self) -> bool:
        """Whether it is finished. Raises OutputError if the folder holds another run."""
        self.check()
        return self.diverged or len(self.rows) == self.epochs

    def check(self) -> None:
        """Raise OutputError if the folder holds another run, as after a change of the presets."""
        kept = ("last.npz", "metrics.csv", "diverged.txt")
        if not any((self.folder / name).exists() for name in kept):
            return
        about = about_in(self.folder)
        was = option_values(Settings.from_dict(about["settings"])) if about else {}
        others = [
            f"{name} {'(unknown)' if before is None else before or 'none'}, not {value or 'none'}"
            for name, (before, value) in differences(was, self.settings).items()
        ]
        if others:
            more = "; ..." if len(others) > 3 else "."
            raise OutputError(
                f"{self.folder} holds a run with other settings than {self.options} has now.\n"
                f"It started with {'; '.join(others[:3])}{more}\n"
                "Remove it, or choose another folder with --out."
            )

    def words(self, train: Sequence[str], data_dir: str | None) -> list[str]:
        """The command that starts or resumes it; the words `train` call the training command."""
        if (self.folder / "last.npz").exists():
            words = ["--resume", str(self.folder), "--epochs", str(self.epochs)]
        else:
            words = [*split(self.options), "--seed", str(self.seed), "--out", str(self.folder)]
        words += ["--pictures-every", "0", "--quiet"]
        return [*train, *words, *(["--data-dir", data_dir] if data_dir else [])]

    def end(self, code: int, said: str) -> None:
        """Record that it diverged, if it did. Raises NpvaeError if it failed.

        `code` and `said` are the exit code and the errors of its command.
        """
        if code == DIVERGED:
            write(self.folder / "diverged.txt", said.encode(), CANNOT)
        elif code and not self.done:  # killed after its last epoch, it is done
            last_words = "\n".join(said.strip().splitlines()[-3:])
            error = NpvaeError(f"train {self.options} failed (exit code {code}):\n{last_words}")
            error.exit_code = max(1, code)
            raise error


def finished(place: Path) -> list[Experiment]:
    """All finished experiments in this folder. Raises OutputError as `done` does."""
    tails = {folder.name.rpartition("-seed-")[2] for folder in place.glob("*-seed-*")}
    seeds = sorted({int(tail) for tail in tails if tail.isdecimal()})
    known = [Experiment(options, seed, place) for seed in seeds for options in option_lines("all")]
    return [run for run in known if run.done]


def train_all(
    experiments: Sequence[Experiment],
    train: Sequence[str],
    workers: Workers,
    data_dir: str | None = None,
    quiet: bool = False,
) -> None:
    """Have the workers train all unfinished experiments. Raises NpvaeError.

    The words `train` call the training command.
    """
    waiting = [experiment for experiment in experiments if not experiment.done]
    progress = Progress(waiting, len(experiments), quiet)
    running: dict[Future[tuple[int, str]], Experiment] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers.count:
                experiment = waiting.pop(0)
                running[workers.submit(experiment.words(train, data_dir))] = experiment
            for future in wait(running, 0.2, FIRST_COMPLETED).done:
                experiment = running.pop(future)
                experiment.end(*future.result())
                progress.ended(experiment)
            progress.draw(running.values())
    except KeyboardInterrupt:
        progress.line.clear()
        show("Interrupted. Finished epochs are kept; the same command continues.", sys.stderr)
        raise
    finally:
        workers.stop()  # after an error or Ctrl-C, the runs keep their finished epochs
        progress.line.clear()


class Progress:
    """Prints a line for each run that has ended and, on a terminal, a moving line."""

    def __init__(self, waiting: Sequence[Experiment], count: int, quiet: bool) -> None:
        self.waiting, self.count, self.quiet = list(waiting), count, quiet
        self.line = MovingLine(quiet)
        self.begin, self.before = time.monotonic(), sum(len(run.rows) for run in waiting)
        self.number = count - len(waiting)

    def ended(self, run: Experiment) -> None:
        self.number += 1
        if not self.quiet:
            self.line.clear()
            how = "diverged"
            if not run.diverged:  # without beta, so that all are comparable
                loss = sum(float(run.rows[-1][part]) for part in ("test_bce", "test_kl"))
                how = f"test bce + kl {loss:.2f}"
            print(f"{self.number}/{self.count}  {run.options}, seed {run.seed}: {how}", flush=True)

    def draw(self, running: Iterable[Experiment]) -> None:
        if self.line.live:
            epochs = sum(len(run.rows) for run in self.waiting)
            to_come = sum(run.epochs for run in self.waiting) - epochs
            trained = epochs - self.before
            left = (time.monotonic() - self.begin) / trained * to_come if trained else math.inf
            now = ", ".join(f"{run.folder.name} {len(run.rows)}/{run.epochs}" for run in running)
            eta = f", {clock(left)} left" if trained else ""
            self.line.draw(f"{self.number}/{self.count} done{eta}: {now}")
