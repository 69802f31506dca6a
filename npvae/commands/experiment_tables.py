"""What did the experiments find? A CSV file of all runs, and two tables in Markdown.

Losses are in nats per image, times in seconds of training. Differences below two standard errors
are marked as noise. The runs are those of experiment_runs.py.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, variance

from npvae.commands.experiment_runs import CHANGES, Experiment
from npvae.core.errors import OutputError
from npvae.settings import PRESETS
from npvae.storage.files import CANNOT, read_text, write

# Test losses of the same settings elsewhere, in nats per image: published ones, and in PyTorch.
PUBLISHED = {"vae-generate": 1200.6, "vae-opt": 2926.4}
PYTORCH = {"tutorial": 244.0, "vae-generate": 104.75, "vae-opt": 102.54}


@dataclass(frozen=True)
class Outcome:
    """The result of all runs with the same options, in nats per image and seconds of training."""

    options: str
    losses: list[float]  # test bce + kl of each seed; without beta, so all are comparable
    diverged: int  # number of further seeds that diverged
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
    """The results of these runs, by their options."""
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


NAMES = "options,seed,epochs,train_loss,test_bce,test_kl,test_loss,seconds"


def check_ours(path: Path) -> None:
    """Raise OutputError if a file of this name is there that `write_csv` has not written."""
    if os.path.lexists(path):
        with suppress(OSError, UnicodeDecodeError):
            if read_text(path).partition("\n")[0] == NAMES:
                return
        raise OutputError(
            f"{path} is not a table of experiments, and would be replaced.\n"
            "Move it away, or choose another folder with --out."
        )


def write_csv(finished: Sequence[Experiment], path: Path) -> None:
    """A row for each of these runs. Raises OutputError."""
    text = io.StringIO()
    table = csv.DictWriter(text, NAMES.split(","), extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for run in finished:
        last = run.rows[-1] if run.rows else {}
        seconds = sum(float(row["seconds"] or 0) for row in run.rows)
        about = {"options": run.options, "seed": run.seed, "epochs": len(run.rows)}
        table.writerow({**last, **about, "seconds": f"{seconds:.1f}"})
    write(path, text.getvalue().encode(), CANNOT)


def presets_table(found: Mapping[str, Outcome]) -> str:
    """The presets beside published losses, as a table in Markdown."""
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


def about_presets() -> str:
    """On which data each preset trains, as its losses depend on them."""
    data = [f"{name} {preset.dataset}" for name, preset in PRESETS.items()]
    return f"Losses on different data cannot be compared: {', '.join(data)}."


def changes_table(found: Mapping[str, Outcome]) -> str:
    """Each change beside the tutorial preset, best first, as a table in Markdown.

    The standard error of the difference of two means over n seeds is sd * sqrt(2 / n). sd is the
    standard deviation over seeds, pooled over all rows. Differences below two standard errors are
    marked as noise.
    """
    start = "--preset tutorial"
    if start not in found:
        return "There is no finished run of the preset itself yet, so there is nothing to compare."
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
        effect = "helps" if difference < 0 else "hurts"
        if abs(difference) < noise or not variances:
            effect = "noise" if variances else ""
        change = f"`{row.options.removeprefix(start).strip()}`"
        if row is base:
            change, effect = "(the preset itself)", ""
        figures = f"{row.bce:.2f} | {row.kl:.2f} | {row.loss:.2f} | {row.spread}"
        if not row.losses:
            figures, difference = " | | | diverged", math.inf
        lines.append(f"| {change} | {figures} | {difference:+.2f} | {effect} |")
    lines.append(
        f"\nDifferences below {noise:.2f} nats are noise."
        if variances
        else "\nWith one seed, the noise is unknown."
    )
    return "\n".join(lines)
