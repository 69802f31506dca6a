"""`generate.py explorer`: one HTML page with one or more trained models in it.

By default it is explorer.html in the folder of the first checkpoint: it belongs to that run, so a
new one replaces the old. A file that --out names is never overwritten. `train.py` writes the page,
too, with the models of the epochs that a run keeps: a slider shows how the codes find their places.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from npvae.commands.model_options import asked_models
from npvae.commands.new_file import save_new, show_page
from npvae.core.errors import OptionError, OutputError
from npvae.fast import stands_for
from npvae.plots.explorer import ModelOnPage, explorer_page, knows
from npvae.plots.image_grid import save_bytes
from npvae.plots.request import model_name
from npvae.runs.run_directory import Run, load_model
from npvae.runs.trained_model import TrainedModel
from npvae.storage import checkpoint
from npvae.storage.files import open_plain

if TYPE_CHECKING:
    from npvae.datasets import Dataset
    from npvae.model import VAE


KEPT = (1, 2, 5, 10)  # epochs whose model a run keeps: 0.8 MB each, for the default network
IMAGES = 2000  # test images that the page is made from at the end of a run: it shall take no second


def keep_epoch(run: Run, vae: VAE, epoch: int) -> None:
    """Save the model after an epoch as epoch1.npz and so on, if it is one of KEPT. OutputError."""
    if epoch in KEPT and run.about["settings"]["pictures_every"]:
        header = {**run.about, "model": vae.settings, "epoch": epoch}
        checkpoint.save(run.folder / f"epoch{epoch}.npz", header, vae.parameters)


def kept_epochs(folder: Path, before: int) -> dict[int, Path]:
    """The checkpoints that `keep_epoch` has left in a folder, of the epochs before this one."""
    paths = {epoch: folder / f"epoch{epoch}.npz" for epoch in KEPT if epoch < before}
    return {epoch: path for epoch, path in paths.items() if path.exists()}


def write_page_of_run(run: Run, vae: VAE, test: Dataset, epoch: int) -> None:
    """Write explorer.html of a run whose model is `vae` now, with the epochs that it has kept.

    Nothing is written if the page cannot compute the activation. Raises OutputError.
    """
    if not knows(vae.activation):
        return
    earlier = {n: load_model(path)[0] for n, path in kept_epochs(run.folder, epoch).items()}
    models = [
        ModelOnPage(model, model_name(test.title, vae.latent_dim, n), f"epoch {n}")
        for n, model in {**earlier, epoch: vae}.items()
    ]
    some = replace(test, images=test.images[:IMAGES], labels=test.labels[:IMAGES])
    run.picture("explorer.html", explorer_page(models, some).encode())


def write_explorer(options: argparse.Namespace) -> None:
    """Write the page with the models of `options.checkpoint`, and say where it is."""
    asked = models = asked_models(options, options.quiet)
    for model in asked:
        model.report(f"model    {model.path} ({model.name})")
        if not knows(model.vae.activation):
            raise OptionError(
                f"the page cannot compute the activation {model.vae.activation}, which "
                f"{model.path} was trained with.\n"
                "Add its line to ACTIVATIONS in npvae/plots/explorer/model.js."
            )
    if changed := stands_for.difference():
        asked[0].report(f"note: {changed}. The page computes what the engine does.")
    if options.checkpoint is None or [*map(os.path.isdir, options.checkpoint)] == [True]:  # a run
        kept = kept_epochs(asked[0].path.parent, asked[0].header.get("epoch", 0))
        models = [*map(TrainedModel, kept.values()), *asked]
    differences = what_differs(models)
    on_page = [
        ModelOnPage(model.vae, full_name(model, difference), difference)
        for model, difference in zip(models, differences, strict=True)
    ]
    page = explorer_page(on_page, common_test_set(asked), options.examples)
    path = write(page.encode(), options.out, models[0].path.parent)
    show_page(path, options.quiet)


def common_test_set(models: Sequence[TrainedModel]) -> Dataset:
    """The test set of all models, with the labels that conditional ones need.

    Raises OptionError if they have different ones.
    """
    first, *others = (model.data[1] for model in models)
    conditional = any(model.vae.num_classes for model in models)
    for model, other in zip(models[1:], others, strict=True):
        same = {
            "images": np.array_equal(first.images, other.images),
            "labels": not conditional or np.array_equal(first.labels, other.labels),
            "classes": not conditional or first.class_names == other.class_names,
        }
        for what, is_same in same.items():
            if not is_same:
                raise OptionError(
                    f"{models[0].path} and {model.path} have different test {what}.\n"
                    "The models of one page share them: name a dataset for all with --dataset."
                )
    return first


def what_differs(models: Sequence[TrainedModel]) -> list[str]:
    """A short name for each model: the settings in which they differ, or else their folders."""
    facts = [settings_of(model) for model in models]
    names = list(dict.fromkeys(name for fact in facts for name in fact))
    differing = [name for name in names if len({fact.get(name) for fact in facts}) > 1]
    short = [
        ", ".join(f"{name} {fact[name]}".strip() for name in differing if name in fact)
        for fact in facts
    ]
    return short if len(set(short)) == len(short) else [str(model.path.parent) for model in models]


def settings_of(model: TrainedModel) -> dict[str, str]:
    """What a model is, as far as its checkpoint says, in the order in which it matters."""
    known = model.header.get("settings", {})
    facts = {
        "epoch": model.header.get("epoch"),
        "beta": known.get("beta"),
        "": "conditional" if model.vae.num_classes else "unconditional",
        "z": model.vae.latent_dim,
        "hidden": "-".join(map(str, model.vae.hidden_dims)),
        "activation": model.vae.activation,
        "seed": known.get("seed"),
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in facts.items()
    }


def full_name(model: TrainedModel, difference: str) -> str:
    """The model's name, and what it does not say of the difference from the others."""
    said = ["", *model.name.replace(" = ", " ").split(", ")]
    more = [part for part in difference.split(", ") if part not in said]
    return ", ".join([model.name, *more])


def write(page: bytes, out: str | None, folder: Path) -> Path:
    """Write the page into `folder`, or to a new file `out`, or into a folder `out`.

    Raises OutputError if the file that is named exists, or nothing can be written there.
    """
    path = Path(out or folder)
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        path = path / "explorer.html"
    if out or not os.path.lexists(path):
        return save_new(page, path, "explorer", path.suffix)
    if not begins_as(path, page):
        raise OutputError(
            f"{path} exists, and it is not a page of ours.\nChoose another place with --out."
        )
    save_bytes(path, page)
    return path


def begins_as(path: Path, page: bytes) -> bool:
    """Whether a file begins as our pages do, up to the title."""
    head = page[: page.index(b"<title>")]
    with open_plain(path) as file:
        return file.read(len(head)) == head
