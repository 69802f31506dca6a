"""Which trained model does a command use, which images belong to it, and where do pictures go?

By default: the newest run in runs/, its best epoch if the run kept one, and the dataset it was
trained on. Whatever is missing is an error that says what to do; nothing is silently replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from npvae.core.errors import CheckpointError, DataError, OptionError, OutputError
from npvae.datasets import Dataset, is_path, load_dataset
from npvae.datasets.dataset import SIDE, what_changed
from npvae.datasets.extra import load_again
from npvae.plots.image_grid import png, save_bytes
from npvae.plots.samples import model_name
from npvae.runs.run_directory import find_checkpoint, load_model
from npvae.settings import OWN_DATA, option
from npvae.storage.files import remove_leftovers


class TrainedModel:
    """The model `vae` of a checkpoint: a file, a run directory, or None for the newest run.

    `dataset` is a name or path as for `load_dataset`, or None for the dataset the model was trained
    on. `report` is called with lines for the user. `own_data` are options of `load_dataset` for the
    user's own pictures, in addition to those the model was trained with. Raises CheckpointError.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        dataset: str | None = None,
        data_dir: str | Path | None = None,
        report: Callable[[str], None] | None = None,
        own_data: Mapping[str, bool] | None = None,
    ) -> None:
        self.path = choose_checkpoint(checkpoint)
        self.vae, self.header = load_model(self.path)
        if self.vae.input_dim != SIDE * SIDE:
            raise CheckpointError(
                f"the model in {self.path} is for images of {self.vae.input_dim} pixels.\n"
                f"This command works with images of {SIDE} x {SIDE} pixels only."
            )
        self.about_data: dict[str, Any] = self.header.get("data", {})
        self.trained_on: str | None = self.about_data.get("name")
        self.dataset, self.data_dir = dataset, data_dir
        self.report = report or (lambda line: None)
        self.own_data = dict(own_data or {})

    @cached_property
    def data(self) -> tuple[Dataset, Dataset]:
        """Training and test set, loaded at the first use. Raises OptionError, DataError.

        The dataset that the model was trained on, with its --extra-data, must not have changed. A
        conditional model depends on its labels, too. Another dataset then needs labels, of no more
        classes: those of the same names, or else by number, which is reported.
        """
        train, test = self._load()
        known, classes = self.vae.num_classes, len(train.class_names)
        if known and classes < 2:
            raise OptionError(
                f"the model is conditional: it needs the class of each image, and {train.name} has "
                "no labels.\nGive it some, such as a folder for each class."
            )
        if known and classes > known:
            raise OptionError(
                f"the model is conditional on {known} classes, but {train.name} has {classes}.\n"
                "Use the dataset that it was trained on."
            )
        own = self.about_data.get("class_names", [])
        if known and len(own) == known and set(train.class_names) <= set(own):
            number = np.array([own.index(name) for name in train.class_names], np.uint8)
            train, test = (
                replace(half, labels=number[half.labels], class_names=tuple(own))
                for half in (train, test)
            )
        pairs = zip(train.class_names, own, strict=False)
        if taken := [f"{theirs} as {ours}" for theirs, ours in pairs if theirs != ours]:
            some = ", ".join(taken[:5]) + ", ..." * (len(taken) > 5)
            self.report(f"note     the model knows classes by number and takes {some}")
        return train, test

    @property
    def has_read_data(self) -> bool:
        """Whether `data` was needed so far."""
        return "data" in vars(self)

    def _load(self) -> tuple[Dataset, Dataset]:
        if self.dataset is not None:
            trained_so = self.trained_so if is_path(self.dataset) else {}
            own_data = {
                name: self.own_data.get(name) or trained_so.get(name, False) for name in OWN_DATA
            }
            return load_dataset(self.dataset, self.data_dir, self.report, **own_data)
        if self.trained_on is None:
            raise OptionError(
                f"{self.path} does not say which dataset its model was trained on.\n"
                "Name it with --dataset."
            )
        if any(on and not self.trained_so[name] for name, on in self.own_data.items()):
            flags = ", ".join(map(option, OWN_DATA))
            raise OptionError(f"{flags} are for other pictures: name them with --dataset.")
        extra = self.about_data.get("extra", "")
        train, test = load_again(
            self.trained_on, extra, self.data_dir, self.report, self.trained_so
        )
        if changed := what_changed(self.about_data, train, test):
            both = " and ".join(filter(None, [self.trained_on, extra]))
            raise DataError(
                f"the {changed} of {both} are not those that the model was trained on.\n"
                "To use them anyway, name them with --dataset."
            )
        return train, test

    @property
    def trained_so(self) -> dict[str, bool]:
        """What was done to pictures of the user's own when the model was trained on them."""
        return {name: self.header.get("settings", {}).get(name, False) for name in OWN_DATA}

    @property
    def name(self) -> str:
        """What the model is, for people: "mnist, z = 10, epoch 20"."""
        dataset = Path(self.trained_on).name if self.trained_on else "unknown data"
        return model_name(dataset, self.vae.latent_dim, self.header.get("epoch"))

    def save(self, picture: Image.Image | bytes, name: str, out: str | Path | None) -> Path:
        """Write a picture, or the bytes of a GIF, as a new file, and return its path.

        `out` is a .png or .gif file, or a folder, by default images/ beside the checkpoint. In a
        folder the file is <name>-001.png, -002, ... Raises OutputError if the file exists or cannot
        be written.
        """
        place = Path(out or self.path.parent / "images")
        if isinstance(picture, bytes):
            return save_new(picture, place, name, ".gif")
        return save_new(png(picture), place, name, ".png")


def choose_checkpoint(given: str | Path | None) -> Path:
    """The file `given`. For a run directory: its best.npz if it has one, otherwise last.npz."""
    path = find_checkpoint(given)
    best = path.with_name("best.npz")
    return best if path != Path(given or "") and os.path.exists(best) else path


def save_new(data: bytes, out: Path, name: str, suffix: str) -> Path:
    """Write a picture or page as a new file, whole or not at all, and return its path.

    Where it goes, and the errors, are those of `new_file`.
    """
    path = new_file(out, name, suffix)
    try:
        save_bytes(path, data)
    except BaseException:
        path.unlink(missing_ok=True)  # it is empty: `new_file` has only claimed the name
        raise
    remove_leftovers(path.parent)
    return path


def new_file(out: Path, name: str, suffix: str) -> Path:
    """Create an empty file: `out` itself, or <name>-001 or the next number in the folder `out`."""
    try:
        if out.suffix.lower() == suffix and not out.is_dir():
            out.parent.mkdir(parents=True, exist_ok=True)
            if create(out):
                return out
            raise OutputError(
                f"{out} exists, and a picture is never overwritten.\n"
                "Choose another name or a folder with --out, or omit --out."
            )
        if out.suffix and not out.is_dir():
            raise OutputError(f"{out} is not a folder, and this picture is a {suffix} file.")
        out.mkdir(parents=True, exist_ok=True)
        candidates = (out / f"{name}-{number:03d}{suffix}" for number in count(1))
        return next(path for path in candidates if create(path))
    except OSError as error:
        raise OutputError(
            f"no picture can be written to {out}: {error.strerror or error}\n"
            "Choose another folder with --out."
        ) from error


def create(path: Path) -> bool:
    """Create an empty file; False if it exists. Of two processes at once only one gets True."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True
