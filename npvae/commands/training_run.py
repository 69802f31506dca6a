"""What `scripts/train.py` does: say what is about to happen, do it, say what came of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from npvae import fast
from npvae.core.errors import DataError, OptionError
from npvae.core.optimizer_base import Optimizer
from npvae.core.random_streams import Stream, generator
from npvae.datasets import DATASETS, Dataset, is_path, known_name
from npvae.datasets.dataset import are_those_of, fingerprint
from npvae.datasets.extra import load_again, load_with_extra
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.plots.image_grid import reconstruction_grid
from npvae.plots.loss_curves import loss_curve
from npvae.plots.samples import model_name, prior
from npvae.runs.environment import versions
from npvae.runs.fit import train
from npvae.runs.messages import (
    Bounds,
    best_epoch,
    explain_interruption,
    floor_and_baseline,
    plan,
    silence,
    summary,
    what_next,
)
from npvae.runs.progress import Progress
from npvae.runs.run_directory import Run, as_row, new_run, open_run
from npvae.runs.terminal import show, show_note
from npvae.settings import Settings, shown


def start(
    settings: Settings,
    data_dir: str | None,
    out: str | None,
    quiet: bool = False,
    backend: str | None = None,
) -> None:
    """A new training run: data, folder, epochs, summary."""
    settings = with_known_names(settings)
    backend = backend or fast.wanted_backend()
    check_out(settings, out)
    report = silence if quiet else show_note
    train_set, test_set = load_with_extra(
        settings.dataset, settings.extra_data, data_dir, report, settings.own_data
    )
    check_validation(settings, train_set)
    vae = build(settings)
    about = {
        "settings": settings.as_dict(),
        "data": about_data(train_set, test_set, settings),
        "versions": versions(backend),
    }
    name = f"{short_name(train_set)}-z{settings.latent_dim}"
    run = new_run(name, out, about, started=now())
    where = given_folder(data_dir)
    with closing(run), explain_interruption(run, settings, where):
        optimizer = OPTIMIZERS[settings.optimizer](settings.learning_rate)
        _train(run, vae, optimizer, settings, train_set, test_set, quiet, where, backend)


def resume(
    folder: str,
    given: Mapping[str, Any],
    data_dir: str | None,
    quiet: bool = False,
    backend: str | None = None,
) -> None:
    """Go on with a run, bit for bit as if it had never stopped."""
    backend = backend or fast.wanted_backend()
    say = silence if quiet else show
    run, vae, optimizer, header = open_run(folder)
    done = header["epoch"]
    where = given_folder(data_dir)
    with closing(run):
        settings = Settings.from_dict(header["settings"]).resumed(given, done)
        settings = with_known_names(settings)
        with explain_interruption(run, settings, where):
            report = silence if quiet else show_note
            train_set, test_set = images_of(run, settings, given, data_dir, report)
            before = run.about["versions"]
            others = [
                f"{what} is {now_is}, it was {before[what]}"
                for what, now_is in versions(backend).items()
                if now_is != before.get(what, now_is)
            ]
            if others:
                show_note(f"note: last digits may differ: {'; '.join(others)}", sys.stderr)
            run.about["settings"] = settings.as_dict()
            run.write_about(resumed=now(), resumed_after_epoch=done, resumed_with=versions(backend))
            say(f"Resuming {run.folder} after epoch {done}.\n")
            _train(run, vae, optimizer, settings, train_set, test_set, quiet, where, backend, done)


def _train(
    run: Run,
    vae: VAE,
    optimizer: Optimizer,
    settings: Settings,
    train_set: Dataset,
    test_set: Dataset,
    quiet: bool,
    where: Sequence[str | Path],
    backend: str,
    done: int = 0,
) -> None:
    """Train the epochs after `done`, and say what came of it."""
    say = silence if quiet else show
    images = train_set.images, test_set.images
    say(plan(settings, train_set, test_set, vae, run, backend))
    if fast.must_compile(backend):
        say("Compiling for this machine: some ten seconds, the first time only.\n")
    progress = Progress(settings.epochs, done, quiet)
    epochs = range(done + 1, settings.epochs + 1)
    bounds = floor_and_baseline(train_set, test_set)
    if done:  # its pictures may be what could not be written
        draw(run, run.history, vae, test_set, settings, bounds)
    try:
        for epoch in train(vae, optimizer, *images, settings, epochs, progress.batch, backend):
            epoch = epoch._replace(seconds=max(0.0, epoch.seconds))  # a clock may jump
            history = [*run.history, as_row(epoch)]
            try:
                draw(run, history, vae, test_set, settings, bounds)
            except Exception:  # an epoch is not lost over a picture
                run.record(epoch, vae, optimizer)
                raise
            run.record(epoch, vae, optimizer)
            progress.epoch(epoch)
    finally:
        progress.clear()
    say("")
    assert epoch.test
    show(summary(epoch.test, bounds))
    if settings.validation:
        show(best_epoch(run.history))
    if quiet:
        show(f"results   {run.folder}")
    say(what_next(run, settings, where))


def given_folder(data_dir: str | None) -> list[str | Path]:
    """--data-dir for another command, if it was given for this one."""
    return ["--data-dir", Path(data_dir)] if data_dir else []


def with_known_names(settings: Settings) -> Settings:
    """The settings with fashion-mnist for FashionMNIST, and so on."""
    extra = settings.extra_data and known_name(settings.extra_data)
    return replace(settings, dataset=known_name(settings.dataset), extra_data=extra)


def images_of(
    run: Run,
    settings: Settings,
    given: Mapping[str, Any],
    data_dir: str | None,
    report: Callable[[str], None],
) -> tuple[Dataset, Dataset]:
    """The images of a run that is resumed; DataError if they are others now."""
    before = run.about["data"]
    # Paths are kept as they were given; those in "data" hold in every folder.
    name = settings.dataset if "dataset" in given else before["name"]
    extra = settings.extra_data if "extra_data" in given else before.get("extra", "")
    train_set, test_set = load_again(name, extra, data_dir, report, settings.own_data)
    if not are_those_of(before, train_set, test_set):
        more = " and --extra-data" if settings.extra_data else ""
        raise DataError(
            f"the images are not those that {run.folder} was trained on.\n"
            f"Name the right ones with --dataset{more}, or their folder with --data-dir."
        )
    if {"dataset", "extra_data"} & set(given):
        run.about["data"] = about_data(train_set, test_set, settings)
    return train_set, test_set


def build(settings: Settings) -> VAE:
    """The untrained model of these settings. Raises OptionError if it is too large."""
    rng = generator(settings.seed, Stream.WEIGHTS)
    try:
        return VAE(784, settings.hidden_dims, settings.latent_dim, settings.activation, rng=rng)
    except (MemoryError, ValueError) as error:
        sizes = f"--hidden {shown(settings.hidden_dims)} --latent-dim {settings.latent_dim}"
        raise OptionError(
            f"a network of {sizes} needs more memory than there is.\nAsk for a smaller one."
        ) from error


def draw(
    run: Run,
    history: Sequence[Mapping[str, float]],
    vae: VAE,
    test_set: Dataset,
    settings: Settings,
    bounds: Bounds,
) -> None:
    """The pictures of the last epoch in history, if it is due for them, and the loss so far."""
    epoch = len(history)
    if settings.pictures_every and epoch % settings.pictures_every == 0:
        save_pictures(run, epoch, vae, test_set, settings)
    if settings.pictures_every:
        name = model_name(test_set.title, vae.latent_dim)
        run.picture("loss.png", loss_curve(history, name, *bounds))


def save_pictures(run: Run, epoch: int, vae: VAE, test_set: Dataset, settings: Settings) -> None:
    """100 draws from the prior, the same z in every epoch; 50 test images and their x_hat at mu."""
    name = model_name(test_set.title, vae.latent_dim, epoch)
    samples = prior(vae, generator(settings.seed, Stream.SAMPLES), 100, 3, name)
    run.picture(f"images/sampled_epoch{epoch}.png", samples)
    originals = test_set.images[:50]
    mu, _ = vae.encode(originals.reshape(len(originals), -1) / 255)
    title = f"{name}: test images and their reconstructions"
    pairs = reconstruction_grid(originals, vae.decode(mu), 3, title)
    run.picture(f"images/rec_epoch{epoch}.png", pairs)


def short_name(dataset: Dataset) -> str:
    """The name of a dataset as part of a folder's name."""
    return dataset.name if dataset.name in DATASETS else Path(real(dataset.name)).stem


def about_data(train_set: Dataset, test_set: Dataset, settings: Settings) -> dict[str, Any]:
    return {
        "name": from_anywhere(train_set.name),
        "extra": from_anywhere(settings.extra_data),
        "source": train_set.source,
        **fingerprint(train_set, test_set),
    }


def from_anywhere(dataset: str) -> str:
    """The name of a dataset, or its path, in words that mean the same in every folder."""
    return real(dataset) if dataset and is_path(dataset) else dataset


def real(path: str) -> str:
    """The path without links and from the root on, even where links go round in a circle."""
    return os.path.realpath(os.path.expanduser(path))


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def check_out(settings: Settings, out: str | None) -> None:
    """Raise OptionError if the results would be among the pictures that are trained on."""
    around = Path(real(out)).parents if out else ()
    for name in (settings.dataset, settings.extra_data):
        if name and is_path(name) and Path(real(name)) in around:
            raise OptionError(
                f"{out} is inside {name}, whose pictures are trained on.\n"
                "Choose another folder with --out, or leave --out away."
            )


def check_validation(settings: Settings, train_set: Dataset) -> None:
    if settings.validation >= len(train_set):
        raise OptionError(
            f"--validation {settings.validation} would leave nothing to train on: "
            f"there are {len(train_set):,} training images."
        )
