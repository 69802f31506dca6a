"""What have the experiments come to? One table of all runs for a machine, two for people.

In nats per image and seconds of training; what is less than twice the noise is said to be noise.
The runs are those of experiments.py.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, variance

from npvae.commands.experiment_runs import CHANGES, Experiment
from npvae.core.errors import OutputError
from npvae.settings import PRESETS
from npvae.storage.files import write_bytes_safely

# Test losses of the same settings elsewhere, in nats per image: as published, and in PyTorch.
PUBLISHED = {"vae-generate": 1200.6, "vae-opt": 2926.4}
PYTORCH = {"tutorial": 244.0, "vae-generate": 104.75, "vae-opt": 102.54}


@dataclass(frozen=True)
class Outcome:
    """What the runs of the same options came to, in nats per image and seconds of training."""

    options: str
    losses: list[float]  # test bce + kl of each seed: without beta, so that all can be compared
    diverged: int  # how many further seeds
    bce: float
    kl: float
    seconds: float

    @property
    def loss(self) -> float:
        return mean(self.losses) if self.losses else math.inf

    @property
    def spread(self) -> str:
        if not self.losses:
            return "diverged"
        more = f", {self.diverged} diverged" if self.diverged else ""
        return f"{min(self.losses):.2f} to {max(self.losses):.2f}{more}"


def outcomes(finished: Sequence[Experiment]) -> dict[str, Outcome]:
    """What these runs came to, by their options."""
    found: dict[str, Outcome] = {}
    for options in dict.fromkeys(run.options for run in finished):
        runs = [run for run in finished if run.options == options]
        rows = [run.rows for run in runs if not run.diverged]
        bce = [float(row[-1]["test_bce"]) for row in rows]
        kl = [float(row[-1]["test_kl"]) for row in rows]
        seconds = [sum(float(epoch["seconds"] or 0) for epoch in row) for row in rows]
        losses = [a + b for a, b in zip(bce, kl, strict=True)]
        means = (mean(values or [math.nan]) for values in (bce, kl, seconds))
        found[options] = Outcome(options, losses, len(runs) - len(rows), *means)
    return found


def write_csv(finished: Sequence[Experiment], path: Path) -> None:
    """A row for each of these runs. Raises OutputError."""
    text = io.StringIO()
    names = "options,seed,epochs,train_loss,test_bce,test_kl,test_loss,seconds"
    table = csv.DictWriter(text, names.split(","), extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for run in finished:
        last = run.rows[-1] if run.rows else {}
        seconds = sum(float(row["seconds"] or 0) for row in run.rows)
        about = {"options": run.options, "seed": run.seed, "epochs": len(run.rows)}
        table.writerow({**last, **about, "seconds": f"{seconds:.1f}"})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_safely(path, text.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


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
