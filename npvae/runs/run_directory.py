"""What is in a run directory?

    runs/fashion-mnist-z10-001/
        run.json       settings, versions and data of the run, and when it started
        metrics.csv    a row for each epoch, losses in nats per image
        last.npz       checkpoint of the last epoch: parameters, optimizer, epoch, history
        best.npz       checkpoint of the epoch with the lowest validation loss (--validation)
        epoch5.npz     its model after epoch 1, 2, 5 and 10, without the optimizer
        report.html    the page of the run: losses, pictures by epoch, what comes next
        explorer.html  a page to play with the model; written after the last epoch
        loss.png       the loss curves; drawn every five seconds, and when the run ends or stops
        samples.gif    the samples, epoch by epoch; written after the last epoch
        images/        sampled_epoch%d.png, rec_epoch%d.png
        .lock          held by the process that trains there, see run_lock.py, with the digests of
                       the pictures that were written before an epoch was finished

Every file is written whole or not at all. Resuming needs last.npz alone. It is written after the
pictures of its epoch, so an interruption between two files loses nothing. It holds no times, so
equal runs give equal bytes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import CheckpointError, NpvaeError, OutputError
from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.plots.image_grid import png, save_bytes
from npvae.runs import terminal
from npvae.runs.fit import Epoch
from npvae.runs.run_lock import (
    FolderNotEmpty,
    Lock,
    about_in,
    create_numbered,
    is_running,
    lock_new,
)
from npvae.settings import Settings
from npvae.storage import checkpoint
from npvae.storage.files import CANNOT, read_text, remove_leftovers, write
from npvae.storage.stored_model import from_checkpoint

RUNS = Path("runs")
NUMBERED = re.compile(r"sampled_epoch(\d{1,9})\.png")
COLUMNS = "epoch,train_bce,train_kl,train_loss,test_bce,test_kl,test_loss,seconds"


class Run:
    """The directory of one run. No other process can write there until `close`.

    `about` is what run.json and each checkpoint say about the run; `history` has a row per epoch.
    """

    def __init__(self, lock: Lock, about: Mapping[str, Any]) -> None:
        self.lock, self.folder, self.about = lock, lock.folder, dict(about)
        self.history: list[dict[str, float]] = []
        self.seconds: list[str] = []

    def close(self) -> None:
        """Let other processes write to the folder."""
        self.lock.release()

    def record(self, epoch: Epoch, vae: VAE, optimizer: Optimizer) -> None:
        """Save the state after an epoch: last.npz has all of it, and metrics.csv follows."""
        self.lock.check()
        self.history.append(as_row(epoch))
        self.seconds.append(f"{epoch.seconds:.4f}")
        header, arrays = self.state(vae, optimizer)
        header |= {"epoch": epoch.epoch, "history": self.history}
        validation = [row.get("validation_loss", 0.0) for row in self.history]
        if epoch.validation and validation[-1] == min(validation):
            checkpoint.save(self.folder / "best.npz", header, arrays)
        checkpoint.save(self.folder / "last.npz", header, arrays)
        self.write("metrics.csv", self.metrics())

    def state(self, vae: VAE, optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Array]]:
        """Header and arrays from which training can go on: what is trained, and all its numbers."""
        header = {**self.about, "model": vae.settings, "optimizer": optimizer.settings}
        return header, {**vae.parameters, **optimizer.state_arrays}

    def rewrite_metrics(self, history: list[dict[str, float]]) -> None:
        """Write metrics.csv from the history in last.npz, which may be one epoch ahead of it.

        Raises OutputError.
        """
        self.history, self.seconds = history, self.seconds[: len(history)]
        self.write("metrics.csv", self.metrics())

    def metrics(self) -> str:
        """The history as CSV: COLUMNS and, with --validation, the columns of the validation set."""
        extra = [name for name in self.history[0] if name.startswith("validation")]
        lines = [",".join([COLUMNS, *extra])]
        for row, seconds in zip(self.history, self.seconds, strict=True):
            cells = {name: f"{value:.10g}" for name, value in row.items()} | {"seconds": seconds}
            lines.append(",".join(cells[name] for name in lines[0].split(",")))
        return "\n".join(lines) + "\n"

    def write(self, name: str, text: str) -> None:
        """Write a text file of the run, whole or not at all."""
        self.lock.check()
        write(self.folder / name, text.encode(), CANNOT)

    def picture(self, name: str, picture: NDArray[np.uint8] | Image.Image | bytes) -> None:
        """Write a picture or page of the run, whole or not at all. Raises OutputError."""
        self.lock.check()
        data = picture if isinstance(picture, bytes) else png(picture)
        if not checkpoint_of(self.folder).exists():  # a run that starts again here may replace it
            self.lock.note(data)
        save_bytes(self.folder / name, data)

    def epochs_with_pictures(self, last: int) -> list[int]:
        """The epochs up to `last` that have their samples in images/, in order."""
        found = (NUMBERED.fullmatch(path.name) for path in (self.folder / "images").iterdir())
        return sorted(int(name[1]) for name in found if name and int(name[1]) <= last)

    def write_about(self, **more: Any) -> None:
        """Write run.json, keeping entries of before, such as when the run was started."""
        about = {**about_in(self.folder), **self.about, **more}
        self.write("run.json", json.dumps(about, indent=2) + "\n")


def as_row(epoch: Epoch) -> dict[str, float]:
    """The losses of an epoch as one flat row; its seconds are kept elsewhere."""
    row: dict[str, float] = {"epoch": epoch.epoch}
    for name in ("train", "test", "validation"):
        if loss := getattr(epoch, name):
            row |= {f"{name}_bce": loss.bce, f"{name}_kl": loss.kl, f"{name}_loss": loss.loss}
    return row


# ------------------------------------------------------------------ new runs


def new_run(name: str, out: str | Path | None, about: Mapping[str, Any], **more: Any) -> Run:
    """Create the folder `out`, by default runs/<name>-001 or the next number, for a new run.

    `about` is written to run.json and to every checkpoint, `more` to run.json alone. Raises
    OutputError if `out` is not empty or cannot be written.
    """
    folder = RUNS if out is None else Path(out)
    with ExitStack() as on_failure:
        try:
            folder = create_numbered(RUNS, name) if out is None else folder
            run = on_failure.enter_context(closing(Run(lock_new(folder), about)))
            (folder / "images").mkdir(exist_ok=True)
        except FolderNotEmpty:
            raise OutputError(
                f"the folder {folder} is not empty: a new run would overwrite what it holds.\n"
                f"Choose another one with --out, or omit --out.{resume_hint(folder)}"
            ) from None
        except OSError as error:
            raise OutputError(
                f"the folder {folder} cannot be used: {error.strerror or error}\n"
                "Choose another one with --out."
            ) from error
        run.write_about(**more)
        on_failure.pop_all()
    return run


def resume_hint(folder: Path) -> str:
    """How to continue the run in a folder, as another line; nothing if that is impossible."""
    try:
        _, header, _ = load_state(checkpoint_of(folder))
        settings, done = Settings.from_dict(header["settings"]), header["epoch"]
        more = {"epochs": done + 10} if done >= settings.epochs else {}
        settings.resumed(more, done)
        Lock(folder).release()  # raises OutputError if that run is still alive
    except (NpvaeError, KeyError):
        return ""
    options = [f"--{name}={value}" for name, value in more.items()]
    resume = terminal.command("train", "--resume", folder, *options)
    return f"\nOr continue the run in it:  {resume}"


# ------------------------------------------------------------------ existing runs


def find_checkpoint(given: str | Path | None = None) -> Path:
    """The checkpoint file: `given` itself, that of the run directory `given`, or of the newest run.

    Raises CheckpointError, which says what exists instead.
    """
    if given is not None:
        path = Path(given)
        if not os.path.lexists(path):
            raise CheckpointError(f"there is no {path}.\n{other_runs(path)}")
        return checkpoint_in(path) if path.is_dir() else path
    found = runs_in(RUNS)
    if not found:
        raise CheckpointError(
            f"no trained model was found in {RUNS.resolve()}.\n"
            f"Name one with --checkpoint, or train one:  {terminal.command('train')}"
        )
    return found[0] / "last.npz"


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder that have finished an epoch, the newest first."""
    found = sorted(folder.glob("*/last.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in found]


def other_runs(missing: Path) -> str:
    """What to name instead of a run that does not exist: the most similar name, or all names."""
    for found in (runs_in(missing), runs_in(missing.parent), [*missing.parent.glob("*.npz")]):
        if found:
            break
    found = found or runs_in(RUNS)
    if not found:
        return f"There is no run yet. Train one:  {terminal.command('train')}"
    paths = {path.name: str(path) for path in found}
    if near := get_close_matches(missing.name, paths, n=1):
        return f"Did you mean {paths[near[0]]}?"
    return f"There {'is' if len(paths) == 1 else 'are'} {', '.join([*paths.values()][:5])}"


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint of a run directory. Raises CheckpointError, which says what exists instead."""
    state = checkpoint_of(folder)
    if os.path.exists(state):
        return state
    to_do = other_runs(folder)
    if is_running(folder):
        to_do = "A process is training there. Wait for its first epoch to finish."
    elif about := about_in(folder):  # the run may use the same folder again
        words = Settings.from_dict(about["settings"]).words()
        to_do = (
            "Its run ended before the first epoch was finished.\n"
            f"Start it again:  {terminal.command('train', *words, '--out', folder)}"
        )
    raise CheckpointError(f"there is no trained model in {folder}.\n{to_do}")


def checkpoint_of(folder: Path) -> Path:
    """Its last.npz. If the first epoch was interrupted between best.npz and last.npz: best.npz."""
    last, best = folder / "last.npz", folder / "best.npz"
    return best if os.path.exists(best) and not os.path.exists(last) else last


def load_model(path: str | Path) -> tuple[VAE, dict[str, Any]]:
    """The model in a checkpoint, and the checkpoint's header.

    The header of a run has "settings", "data" and "versions" as in run.json, "epoch" and "history".
    """
    vae, header, _ = load_state(path)
    return vae, header


def load_state(path: str | Path) -> tuple[VAE, dict[str, Any], dict[str, Array]]:
    """Model, header and arrays of a checkpoint, all of them checked. Raises CheckpointError."""
    header, arrays = checkpoint.load(path)
    vae = from_checkpoint(VAE, path, header, arrays)
    try:
        settings = Settings.from_dict(header.get("settings", {}))
    except (TypeError, ValueError):  # unknown names; values that no run can have
        checkpoint.refuse(path, "its settings are not those of this version of npvae")
    held_out = {"validation_loss" in row for row in header.get("history", [])}
    if "settings" in header and held_out - {settings.validation > 0}:
        checkpoint.refuse(path, "its history does not belong to its settings")
    return vae, header, arrays


def open_run(given: str | Path) -> tuple[Run, VAE, Optimizer, dict[str, Any]]:
    """A run to resume, as it was after its last epoch. Raises CheckpointError, OutputError."""
    path = find_checkpoint(given)
    if path.exists() and path != checkpoint_of(path.parent):
        raise CheckpointError(
            f"{path} is not the last.npz of a run, and only a run can be resumed.\n"
            "Name the run directory."
        )
    vae, header, arrays = load_state(path)
    with ExitStack() as on_failure:
        try:
            about = {name: dict(header[name]) for name in ("settings", "data", "versions")}
            done = len(header["history"])
            optimizer = OPTIMIZERS[header["optimizer"]["name"]].from_state(
                header["optimizer"], arrays, vae.parameters
            )
            run = on_failure.enter_context(closing(Run(Lock(path.parent), about)))
            check_ours(path)
            run.seconds = read_seconds(path.parent / "metrics.csv", done)
            run.rewrite_metrics(header["history"])
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint {path} holds a model, but not the state of a training run that\n"
                "this version of npvae can resume. Name the directory of a run."
            ) from error
        try:
            (path.parent / "images").mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{path.parent / 'images'} cannot be created: {error.strerror}\n"
                "Move away the file of this name."
            ) from error
        remove_leftovers(path.parent / "images")
        on_failure.pop_all()
    return run, vae, optimizer, header


def check_ours(last: Path) -> None:
    """Raise OutputError if a resumed run would replace a file that no run of ours has written."""
    names = ("run.json", "metrics.csv", "loss.png", "samples.gif", "*.html", "images/*")
    others = [path for name in names for path in last.parent.glob(name)]
    if others and not about_in(last.parent):
        raise OutputError(
            f"{last.parent} has no run.json of a run, and {others[0]} would be replaced.\n"
            f"Copy {last.name} to an empty folder, and resume the run there."
        )


def read_seconds(path: Path, count: int) -> list[str]:
    """The seconds of the first `count` epochs in a metrics.csv; "" where they are missing."""
    place = COLUMNS.split(",").index("seconds")
    found = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in read_text(path).splitlines():
            row = line.split(",")
            with suppress(ValueError, IndexError):  # the user has edited it
                found[row[0]] = f"{float(row[place]):.4f}"
    return [found.get(str(epoch), "") for epoch in range(1, count + 1)]
