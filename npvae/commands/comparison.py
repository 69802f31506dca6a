"""What `scripts/compare.py` does: the differences of trained models, as a table and as a page."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npvae.commands.new_file import save_new
from npvae.core.errors import CheckpointError
from npvae.core.parameters import Array
from npvae.datasets.dataset import SIDE
from npvae.model import VAE
from npvae.plots.image_grid import png, to_uint8
from npvae.plots.report import ComparedRun, comparison_page
from npvae.runs.run_directory import find_checkpoint
from npvae.runs.trained_model import TrainedModel
from npvae.settings import OWN_DATA, Settings, differences, option, shown

SAMPLES = 12  # in a row of the picture
BANDS = 2  # of rows, each with other codes
LOSSES = ("test loss", "test bce", "test kl", "bce + kl")
NOT_COMPARED = ("epochs", "pictures_every")  # the epoch of each run has a column of its own


class Comparison(NamedTuple):
    """Several trained models, and how they differ."""

    models: Sequence[TrainedModel]
    columns: Sequence[str]
    runs: Sequence[ComparedRun]
    same: str  # what does not differ, in words, and which figures cannot be compared

    @classmethod
    def of(cls, folders: Sequence[str]) -> Comparison:
        """Load the runs. Raises CheckpointError if one is not there, or is no run."""
        models = [TrainedModel(find_checkpoint(folder)) for folder in folders]  # not the best epoch
        histories = [history_of(model) for model in models]
        settings = [settings_of(model) for model in models]
        differing = differences(*settings)
        columns = [*LOSSES, *differing, "epoch"]
        runs = [
            ComparedRun(
                folder,
                name,
                [*losses(history[-1]), *(known[k] for k in differing), epoch(history[-1])],
                history,
            )
            for folder, name, known, history in zip(
                folders, short_names(models), settings, histories, strict=True
            )
        ]
        common = {name: text for name, text in settings[0].items() if name not in differing}
        words = [what_is_the_same(common), *cautions(models, list(differing))]
        return cls(models, columns, runs, " ".join(words))

    def table(self) -> str:
        """A line for each run: the first column flush left, the others flush right."""
        rows = [["run", *self.columns], *([run.short, *run.values] for run in self.runs)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip()
            for first, *rest in rows
        )


def losses(row: Mapping[str, float]) -> list[str]:
    """The LOSSES of a row of the history."""
    bce, kl = row["test_bce"], row["test_kl"]
    return [f"{x:.2f}" for x in (row["test_loss"], bce, kl, bce + kl)]


def epoch(row: Mapping[str, float]) -> str:
    """The epoch of a row of the history."""
    return f"{row['epoch']:.0f}"


def history_of(model: TrainedModel) -> list[dict[str, float]]:
    """Its epochs. Raises CheckpointError if the checkpoint is not that of a run."""
    history = model.header.get("history")
    if not history:
        raise CheckpointError(
            f"{model.path} holds a model, but no history of its training.\n"
            "Name the folder of a run."
        )
    return list(history)


def short_names(models: Sequence[TrainedModel]) -> list[str]:
    """The folders of the runs: their last names, or their paths if two have the same one."""
    folders = [model.path.parent for model in models]
    names = [os.path.basename(os.path.abspath(folder)) for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def settings_of(model: TrainedModel) -> dict[str, str]:
    """The settings of a run for people, by the names of their options."""
    settings = Settings.from_dict(model.header.get("settings", {}))
    return in_words(
        replace(
            settings,
            dataset=model.trained_on or "unknown",
            latent_dim=model.vae.latent_dim,
            hidden_dims=model.vae.hidden_dims,
        )
    )


def in_words(settings: Settings) -> dict[str, str]:
    return {
        option(name).removeprefix("--"): shown(value)
        for name, value in vars(settings).items()
        if name not in NOT_COMPARED
    }


def what_is_the_same(common: dict[str, str]) -> str:
    """The common settings that are not the default."""
    default = in_words(Settings())
    listed = ", ".join(f"{name} {text}" for name, text in common.items() if text != default[name])
    words = f"The same in all: {listed}; all other settings have their defaults."
    return words if listed else "All other settings have their defaults."


def cautions(models: Sequence[TrainedModel], differing: Sequence[str]) -> list[str]:
    """What to know before these figures are compared, a sentence each."""
    classes = max(model.vae.num_classes for model in models)
    words = []
    if differ_in_data(models, differing):
        words.append("Losses on different data cannot be compared.")
    if any(model.vae.num_classes == 0 for model in models) and classes:
        words.append(
            "A conditional run bounds -log p(x | c), given the class c, the others -log p(x): "
            f"their losses are not the same quantity. Add log {classes} = {math.log(classes):.2f} "
            f"nats, which name one of {classes} classes, to a conditional loss before you compare."
        )
    if "beta" in differing:
        words.append("With different beta compare bce + kl, not the loss.")
    if "kl-warmup" in differing:
        words.append("All losses are at the full beta, even while it was still rising.")
    if any(model.path.with_name("best.npz").exists() for model in models):
        words.append(
            "Every row is the last epoch of its run; evaluate and generate use best.npz if there "
            "is one."
        )
    return words


def differ_in_data(models: Sequence[TrainedModel], differing: Sequence[str]) -> bool:
    """Whether some have other test images. Their digest is that of the training images, too."""
    digests = {str(model.about_data.get("sha256")) for model in models}
    read_otherwise = not {"dataset", *OWN_DATA}.isdisjoint(
        name.replace("-", "_") for name in differing
    )
    if "None" in digests:  # a checkpoint of another program
        return read_otherwise
    return len(digests) > 1 and (read_otherwise or "extra-data" not in differing)


def write_page(comparison: Comparison, seed: int, out: str | None) -> Path:
    """Write the page as a new file, and return its path. Raises OutputError."""
    models, runs = comparison.models, comparison.runs
    caption = "each column is one draw of z, decoded by each run"
    if len({model.vae.latent_dim for model in models}) > 1:
        caption += "; a model with fewer latents is given the first of them"
    if any(model.vae.num_classes for model in models):
        caption += "; a conditional model takes its classes in turn"
    page = comparison_page(
        f"{len(runs)} runs compared",
        [*LOSSES, "what differs"],
        [in_one_cell(run, comparison.columns) for run in runs],
        comparison.same,
        samples(models, seed),
        caption,
    )
    common = os.path.commonpath([model.path.parent.resolve().parent for model in models])
    return save_new(page.encode(), Path(out or os.path.relpath(common)), "comparison", ".html")


def in_one_cell(run: ComparedRun, columns: Sequence[str]) -> ComparedRun:
    """The run with its settings as one text: columns for many settings would not fit a page."""
    known = list(zip(columns, run.values, strict=True))
    settings = ", ".join(f"{name} {value or 'unknown'}" for name, value in known[len(LOSSES) :])
    return replace(run, values=[*run.values[: len(LOSSES)], settings])


def samples(models: Sequence[TrainedModel], seed: int) -> list[list[bytes]]:
    """BANDS of PNGs, one of each model in a band: SAMPLES images decoded from the same codes.

    Models with fewer latents than others take the first part of each z. A conditional model takes
    its classes in turn.
    """
    latents = max(model.vae.latent_dim for model in models)
    z = np.random.default_rng(seed).standard_normal((BANDS, SAMPLES, latents))
    return [
        [strip(decoded(model.vae, some[:, : model.vae.latent_dim])) for model in models]
        for some in z
    ]


def strip(x_hat: Array) -> bytes:
    """A PNG of images (B, D) side by side, a black pixel around each."""
    tiles = np.pad(to_uint8(x_hat).reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    return png(np.hstack([*tiles]))


def decoded(vae: VAE, z: Array) -> Array:
    """x_hat (B, D) for z (B, Z)."""
    c = np.arange(len(z)) % vae.num_classes if vae.num_classes else None
    return vae.decode(z, c)
