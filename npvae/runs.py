"""Where does a run live, and what is in its folder?

    runs/fashion-mnist-z10-001/
        run.json       settings, versions, data: what was run
        metrics.csv    a row for each epoch, nats per image
        last.npz       the state after the last epoch: parameters, optimizer, epoch, history
        images/        sampled_epoch%d.png, rec_epoch%d.png

Two runs never share a folder, not even if they start at the same instant: the one that creates
run.json owns it. Every file is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from npvae import checkpoint
from npvae.errors import CheckpointError, OutputError
from npvae.files import write_bytes_safely
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.training import Epoch

RUNS = Path("runs")
COLUMNS = [
    "epoch",
    "train_bce",
    "train_kl",
    "train_loss",
    "test_bce",
    "test_kl",
    "test_loss",
    "seconds",
]  # of metrics.csv


class Run:
    """The folder of one run, and what has been written there so far."""

    def __init__(
        self, folder: Path, about: Mapping[str, Any], history: Sequence[Mapping[str, float]] = ()
    ) -> None:
        self.folder, self.about = folder, dict(about)
        self.history = [dict(row) for row in history]

    def record(self, epoch: Epoch, vae: VAE, optimizer: Adam) -> None:
        """Keep the state after an epoch: first all of it in last.npz, then the row for people."""
        self.history.append(as_row(epoch))
        header = {
            **self.about,
            "model": vae.settings,
            "epoch": epoch.epoch,
            "history": self.history,
            "optimizer": optimizer.settings,
        }
        checkpoint.save(self.folder / "last.npz", header, {**vae.parameters, **optimizer.state})
        lines = [",".join(COLUMNS)]
        lines += [
            ",".join(format(row[column], ".10g") for column in COLUMNS) for row in self.history
        ]
        self.write("metrics.csv", "\n".join(lines) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write a text file of the run, whole or not at all."""
        try:
            write_bytes_safely(self.folder / name, text.encode())
        except OSError as error:
            raise OutputError(
                f"{self.folder / name} cannot be written: {error.strerror or error}\n"
                "Make room, or choose another folder with --out."
            ) from error


def as_row(epoch: Epoch) -> dict[str, float]:
    return {
        "epoch": epoch.epoch,
        "train_bce": epoch.train.bce,
        "train_kl": epoch.train.kl,
        "train_loss": epoch.train.loss,
        "test_bce": epoch.test.bce,
        "test_kl": epoch.test.kl,
        "test_loss": epoch.test.loss,
        "seconds": round(epoch.seconds, 4),
    }


def new_run(name: str, out: str | Path | None, about: Mapping[str, Any]) -> Run:
    """Create the folder `out`, or the next free runs/<name>-001, and write run.json into it.

    Raises OutputError if `out` holds anything already, or cannot be written.
    """
    text = json.dumps(about, indent=2) + "\n"
    try:
        if out is not None:
            run = Run(Path(out), about)
            run.folder.mkdir(parents=True, exist_ok=True)
            if any(run.folder.iterdir()) or not claimed(run.folder):
                raise OutputError(
                    f"the folder {run.folder} is in use: a new run would overwrite what it holds.\n"
                    "Choose another one with --out, or leave --out away for a new one."
                )
        else:
            run = Run(next_free(name), about)
        (run.folder / "images").mkdir()
    except OSError as error:
        raise OutputError(
            f"the folder {out or RUNS} cannot be used: {error.strerror or error}\n"
            "Choose another one with --out."
        ) from error
    run.write("run.json", text)
    return run


def find_checkpoint(given: str | Path | None = None, name: str = "last.npz") -> Path:
    """The checkpoint file that is meant by a file, by a run's folder, or, if None, the newest run.

    Raises CheckpointError, saying what to do, if there is none.
    """
    if given is not None:
        path = Path(given)
        return path / name if path.is_dir() else path
    found = sorted(RUNS.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CheckpointError(
            f"no trained model was found in {RUNS.resolve()}.\n"
            "Train one first with  python scripts/train.py  or name one with --checkpoint."
        )
    return found[-1]


def load_model(path: str | Path) -> tuple[VAE, dict[str, Any]]:
    """The model in a checkpoint, and all that the checkpoint says about its run.

    Of a run's checkpoint: "settings", "data" and "versions" as in run.json; "epoch" and "history".
    """
    header, arrays = checkpoint.load(path)
    return VAE.from_checkpoint(header, arrays), header


def next_free(name: str) -> Path:
    RUNS.mkdir(exist_ok=True)
    number = 1 + max((run_number(folder) for folder in RUNS.glob(f"{name}-*")), default=0)
    while True:
        folder = RUNS / f"{name}-{number:03d}"
        folder.mkdir(exist_ok=True)
        if claimed(folder):
            return folder
        number += 1


def run_number(folder: Path) -> int:
    tail = folder.name.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def claimed(folder: Path) -> bool:
    """Whether the folder is now ours: only one process can create run.json."""
    try:
        os.close(os.open(folder / "run.json", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True
