"""What is each choice worth? Many training runs, several seeds each, side by side.

An experiment is a command line of train.py, run as anybody would run it, in a folder of its own.
The folders are all that is kept: what is there already is not run again, what was interrupted is
resumed, and the tables are made from what is there. See also scripts/experiments.py.
"""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import split
from statistics import mean, variance

from npvae.cores import cores
from npvae.errors import NpvaeError, OutputError
from npvae.files import write_bytes_safely
from npvae.progress import clock
from npvae.settings import PRESETS

# Single changes to the tutorial preset.
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

# Test losses of the same settings elsewhere, in nats per image: as published, and in PyTorch.
PUBLISHED = {"vae-generate": 1200.6, "vae-opt": 2926.4}
PYTORCH = {"tutorial": 244.0, "vae-generate": 104.75, "vae-opt": 102.54}

DIVERGED = 5  # the exit code of train.py


def chosen(which: str) -> list[str]:
    """The options of the experiments of the group "presets", "changes" or "all"."""
    presets = [f"--preset {name}" for name in PRESETS]
    changes = [f"--preset tutorial {change}".strip() for change in ("", *CHANGES)]
    return {"presets": presets, "changes": changes, "all": presets + changes[1:]}[which]


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
    def epochs(self) -> int:
        """How many it is to have."""
        words = split(self.options)
        preset = PRESETS[words[words.index("--preset") + 1]]
        return int(words[words.index("--epochs") + 1]) if "--epochs" in words else preset.epochs

    @property
    def done(self) -> bool:
        return self.diverged or len(self.rows) == self.epochs

    def start(self, train: Path, data_dir: str | None, threads: int) -> subprocess.Popen[str]:
        """Begin or resume it with this train.py."""
        if len(self.rows) > self.epochs:
            raise NpvaeError(
                f"{self.folder} holds a run of more epochs than {self.options} has now.\n"
                "Remove it, or choose another folder with --out."
            )
        if (self.folder / "last.npz").exists():
            words = ["--resume", str(self.folder), "--epochs", str(self.epochs)]
        else:
            words = [*split(self.options), "--seed", str(self.seed), "--out", str(self.folder)]
        words += ["--pictures-every", "0", "--quiet"]
        words += ["--data-dir", data_dir] if data_dir else []
        return subprocess.Popen(
            [sys.executable, str(train), *words],
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
        elif process.returncode:
            raise NpvaeError(f"train.py {self.options} has failed:\n{said.strip()}")


def train_all(
    experiments: Sequence[Experiment],
    train: Path,
    jobs: int = 1,
    data_dir: str | None = None,
    quiet: bool = False,
) -> None:
    """Run all that is not done yet with this train.py, `jobs` at a time. Raises NpvaeError."""
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
    finally:
        for process in running.values():  # after an error, or Ctrl-C: they save what they have
            process.terminate()
            process.wait()
        progress.clear()


class Progress:
    """A line for each run that has ended and, on a terminal, one that moves."""

    def __init__(self, waiting: Sequence[Experiment], count: int, quiet: bool) -> None:
        self.waiting, self.count, self.quiet = list(waiting), count, quiet
        self.live = sys.stdout.isatty() and not quiet
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
            print(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)

    def clear(self) -> None:
        if self.live:
            print("\r\033[K", end="", flush=True)


@dataclass(frozen=True)
class Outcome:
    """What the runs of the same options came to, in nats per image and seconds of training."""

    options: str
    losses: list[float]  # test bce + kl of each seed: without beta, so that all can be compared
    bce: float
    kl: float
    seconds: float

    @property
    def loss(self) -> float:
        return mean(self.losses) if self.losses else math.inf

    @property
    def spread(self) -> str:
        return f"{min(self.losses):.2f} to {max(self.losses):.2f}" if self.losses else "diverged"


def outcomes(experiments: Sequence[Experiment]) -> dict[str, Outcome]:
    """By their options, of those experiments that are done for at least one seed."""
    found: dict[str, Outcome] = {}
    for options in dict.fromkeys(experiment.options for experiment in experiments):
        done = [run for run in experiments if run.options == options and run.done]
        rows = [run.rows for run in done if not run.diverged]
        if done:
            bce = [float(row[-1]["test_bce"]) for row in rows]
            kl = [float(row[-1]["test_kl"]) for row in rows]
            seconds = [sum(float(epoch["seconds"] or 0) for epoch in row) for row in rows]
            losses = [a + b for a, b in zip(bce, kl, strict=True)]
            found[options] = Outcome(
                options, losses, *(mean(values or [math.nan]) for values in (bce, kl, seconds))
            )
    return found


def write_csv(experiments: Sequence[Experiment], path: Path) -> None:
    """All runs that are done as one table. Raises OutputError."""
    text = io.StringIO()
    names = "options,seed,epochs,train_loss,test_bce,test_kl,test_loss,seconds"
    table = csv.DictWriter(text, names.split(","), extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for run in experiments:
        if run.done:
            last = run.rows[-1] if run.rows else {}
            seconds = sum(float(row["seconds"] or 0) for row in run.rows)
            about = {"options": run.options, "seed": run.seed, "epochs": len(run.rows)}
            table.writerow({**last, **about, "seconds": f"{seconds:.1f}"})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_safely(path, text.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


# ------------------------------------------------------------------ the tables


def presets_table(found: Mapping[str, Outcome]) -> str:
    """The presets beside the figures of others, in Markdown."""
    lines = [
        "| preset | test bce | kl | loss: mean | of seeds | seconds | PyTorch | published |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for name in PRESETS:
        outcome = found.get(f"--preset {name}")
        if outcome and outcome.losses:
            lines.append(
                f"| `{name}` | {outcome.bce:.2f} | {outcome.kl:.2f} | **{outcome.loss:.2f}** "
                f"| {outcome.spread} | {outcome.seconds:.0f} "
                f"| {PYTORCH.get(name, '')} | {PUBLISHED.get(name, '')} |"
            )
        elif outcome:
            lines.append(f"| `{name}` | | | | diverged | | | |")
    return "\n".join(lines)


def changes_table(found: Mapping[str, Outcome]) -> str:
    """Each change beside the tutorial, best first, in Markdown.

    Two means of n seeds differ by chance by about sd * sqrt(2 / n), where sd is how much seeds of
    the same settings differ: here the root of the mean variance over all rows. What is less than
    twice that is called noise.
    """
    start = "--preset tutorial"
    if start not in found:
        return "The preset itself, to compare with, has no finished run yet."
    base = found[start]
    rows = [found[f"{start} {change}"] for change in CHANGES if f"{start} {change}" in found]
    variances = [variance(row.losses) for row in (base, *rows) if len(row.losses) > 1]
    noise = 2 * math.sqrt(mean(variances or [0]) * 2 / max(1, len(base.losses)))
    lines = [
        "| change | test bce | kl | bce + kl: mean | of seeds | difference | |",
        "| --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for row in sorted([base, *rows], key=lambda row: row.loss):
        difference = row.loss - base.loss
        verdict = "helps" if difference < 0 else "hurts"
        if abs(difference) < noise or not variances:
            verdict = "noise" if variances else ""
        change = f"`{row.options.removeprefix(start).strip()}`"
        if row is base:
            change, verdict = "(the preset itself)", ""
        figures = f"{row.bce:.2f} | {row.kl:.2f} | {row.loss:.2f} | {row.spread}"
        if not row.losses:
            figures, difference = " | | | diverged", math.inf
        lines.append(f"| {change} | {figures} | {difference:+.2f} | {verdict} |")
    lines.append(
        f"\nWithin {noise:.2f} nats is noise." if variances else "\nOne seed tells no noise."
    )
    return "\n".join(lines)
