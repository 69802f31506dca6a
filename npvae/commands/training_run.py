"""What does `train` do? Print the plan, train epoch by epoch, save each one, print a summary."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from npvae import fast
from npvae.commands.explorer import keep_epoch
from npvae.commands.job import RunJob, Voice
from npvae.commands.messages import (
    best_epoch,
    explain_interruption,
    floor_and_baseline,
    next_steps,
    plan,
    smaller_steps,
    summary,
    topics,
)
from npvae.commands.progress import Progress
from npvae.commands.run_pictures import RunPictures
from npvae.core.errors import DataError, DivergedError, OptionError
from npvae.core.random_streams import Stream, generator
from npvae.datasets import DATASETS, Dataset, is_path, known_name
from npvae.datasets.dataset import fingerprint, fingerprint_of_labels, what_changed
from npvae.datasets.extra import load_again, load_with_extra
from npvae.evaluation import active_units
from npvae.fast.threads import free_blas_threads
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.runs.environment import versions
from npvae.runs.fit import Job, train
from npvae.runs.mpi import Ranks, watch
from npvae.runs.run_directory import Run, as_row, new_run, open_run
from npvae.runs.terminal import show, show_note
from npvae.settings import Settings, differences, spelled
from npvae.storage.stored_model import from_checkpoint


def start(
    settings: Settings,
    data_dir: str | None,
    out: str | None,
    quiet: bool = False,
    backend: str | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Train a new run in the folder `out`, by default the next one in runs/."""
    settings, voice = with_known_names(settings), Voice(quiet, data_dir)
    backend = backend or fast.wanted_backend()
    check_out(settings, out)
    train_set, test_set = load_with_extra(
        settings.dataset, settings.extra_data, data_dir, voice.note, settings.own_data
    )
    check_validation(settings, train_set)
    vae = build(settings, number_of_classes(settings, train_set))
    about = {
        "settings": settings.as_dict(),
        "data": about_data(train_set, test_set, settings),
        "versions": versions(backend, ranks.size if ranks else 1),
    }
    name = f"{short_name(train_set)}-z{settings.latent_dim}"
    run = new_run(name, out, about, started=now())
    with closing(run), explain_interruption(run, settings, voice):
        optimizer = OPTIMIZERS[settings.optimizer](settings.learning_rate)
        what = vae, optimizer, settings, train_set, test_set
        carry_out(RunJob(*what, backend, ranks, run=run, voice=voice))


def resume(
    folder: str,
    given: Mapping[str, Any],
    data_dir: str | None,
    quiet: bool = False,
    backend: str | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Continue the run in a folder, as if it had never stopped; `given` are changed settings."""
    backend, voice = backend or fast.wanted_backend(), Voice(quiet, data_dir)
    run, vae, optimizer, header = open_run(folder)
    done = header["epoch"]
    with closing(run):
        settings = Settings.from_dict(header["settings"]).resumed(given, done)
        settings = with_known_names(settings)
        with explain_interruption(run, settings, voice):
            train_set, test_set = images_of(run, settings, given, voice)
            check_validation(settings, train_set)
            before, today = run.about["versions"], versions(backend, ranks.size if ranks else 1)
            others = [
                f"{what} is {now_is}, it was {was}"
                for what, (was, now_is) in differences(before, today).items()
                if was and now_is  # otherwise it is not known
            ]
            if others:
                show_note(f"note: last digits may differ: {'; '.join(others)}", sys.stderr)
            run.about["settings"] = settings.as_dict()
            run.write_about(resumed=now(), resumed_after_epoch=done, resumed_with=today)
            voice.say(f"Resuming {run.folder} after epoch {done}.\n")
            what = vae, optimizer, settings, train_set, test_set
            carry_out(RunJob(*what, backend, ranks, run=run, voice=voice, done=done))


def carry_out(job: RunJob) -> None:
    """Train the epochs to come, save each one, and print the progress and a summary."""
    run, vae, settings, voice = job.run, job.vae, job.settings, job.voice
    about = topics(job)
    if job.ranks:  # mpiexec would leave rank 0 no time to say it then
        again = voice.command("train", "--resume", run.folder)
        about["results"].append(f"if a process is lost, continue with:  {again}")
        watch(run.folder / "last.npz", again)
    voice.say(plan(about))
    if fast.why_not(job.backend) and not job.ranks:
        free_blas_threads()  # the lesson trains: products take all cores
    if fast.must_compile(job.backend):
        from npvae.fast.jit import writable_folders

        when = "the first time only" if writable_folders() else "in every run"
        voice.say(f"Compiling for this machine: some ten seconds, {when}.\n")
    facts = [(topic, "\n".join(about[topic])) for topic in about if topic != "results"]
    progress = Progress(settings.epochs, job.done, voice.quiet)
    epochs = range(job.done + 1, settings.epochs + 1)
    if job.ranks:
        job.ranks.share((*run.state(vae, job.optimizer), epochs, voice.data_dir, job.backend))
    bounds = floor_and_baseline(job.train, job.test)
    draw = RunPictures(job, bounds, facts)
    if job.done:  # the run may have stopped because these could not be written
        draw(run.history, 0.0)
        keep_epoch(run, vae, job.done)
    try:
        for epoch in train(job, epochs, progress.batch):
            epoch = epoch._replace(seconds=max(0.0, epoch.seconds))  # if a clock went backwards
            history = [*run.history, as_row(epoch)]
            try:
                draw(history, epoch.seconds)
            except Exception:  # the epoch is saved even if its pictures fail
                run.record(epoch, vae, job.optimizer)
                raise
            run.record(epoch, vae, job.optimizer)
            keep_epoch(run, vae, epoch.epoch)
            progress.epoch(epoch)
    except BaseException as error:  # Ctrl-C, too
        with suppress(Exception):
            draw.draw_curve(run.history)
            if isinstance(error, DivergedError):
                what, again = str(error).splitlines()[0], smaller_steps(settings, voice)
                draw.write_report(run.history, 0.0, what, again)
        raise
    finally:
        progress.line.clear()
    voice.say("")
    assert epoch.test
    labels = vae.classes(job.test.labels)
    show(summary(epoch.test, bounds, active_units(vae, job.test.images, labels=labels)))
    if settings.validation:
        show(best_epoch(run.history))
    if voice.quiet:
        show(f"results   {run.folder}")
    voice.say(next_steps(job))


def follow(ranks: Ranks) -> None:
    """Train with rank 0, which has read the settings; write and print nothing.

    The images are read here, too, after rank 0 has downloaded them. Raises DataError if they, or
    the labels of a conditional model, are others on this machine.
    """
    header, arrays, epochs, data_dir, backend = ranks.share()
    settings, data = Settings.from_dict(header["settings"]), header["data"]
    vae = from_checkpoint(VAE, "of rank 0", header, arrays)
    optimizer = OPTIMIZERS[header["optimizer"]["name"]].from_state(
        header["optimizer"], arrays, vae.parameters
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rank 0 shows what there is to note
        silent = Voice(quiet=True)
        train_set, test_set = load_again(
            data["name"], data["extra"], data_dir, silent.note, settings.own_data
        )
        if changed := what_changed(data, train_set, test_set):
            raise DataError(f"{data['name']} here does not have the {changed} of rank 0.")
        job = Job(vae, optimizer, settings, train_set, test_set, backend, ranks)
        for _ in train(job, epochs):
            pass


def with_known_names(settings: Settings) -> Settings:
    """The settings with fashion-mnist for FashionMNIST, and so on."""
    extra = settings.extra_data and known_name(settings.extra_data)
    return replace(settings, dataset=known_name(settings.dataset), extra_data=extra)


def images_of(
    run: Run, settings: Settings, given: Mapping[str, Any], voice: Voice
) -> tuple[Dataset, Dataset]:
    """The images of a run that is resumed. Raises DataError if they or their labels changed."""
    before = run.about["data"]
    # Settings have paths as the user wrote them; in "data" they are absolute.
    name = settings.dataset if "dataset" in given else before["name"]
    extra = settings.extra_data if "extra_data" in given else before.get("extra", "")
    train_set, test_set = load_again(name, extra, voice.data_dir, voice.note, settings.own_data)
    if changed := what_changed(before, train_set, test_set):
        more = " and --extra-data" if settings.extra_data else ""
        to_do = f"Name the right ones with --dataset{more}, or their folder with --data-dir."
        if changed == "labels":
            to_do = (
                "A conditional model depends on them: put back the right ones, or start a new run."
            )
        raise DataError(f"the {changed} are not those that {run.folder} was trained on.\n{to_do}")
    if {"dataset", "extra_data"} & set(given):
        run.about["data"] = about_data(train_set, test_set, settings)
    return train_set, test_set


def number_of_classes(settings: Settings, train_set: Dataset) -> int:
    """Those that the model is given: 0 unless it is conditional. OptionError without labels."""
    count = len(train_set.class_names)
    if settings.conditional and count < 2:
        raise OptionError(
            f"--conditional needs the class of each image, and {train_set.name} has no labels.\n"
            "Give it some, such as a folder for each class, or omit --conditional."
        )
    return count if settings.conditional else 0


def build(settings: Settings, num_classes: int = 0) -> VAE:
    """The untrained model of these settings. Raises OptionError if it is too large."""
    rng = generator(settings.seed, Stream.WEIGHTS)
    try:
        return VAE(
            784,
            settings.hidden_dims,
            settings.latent_dim,
            settings.activation,
            rng=rng,
            num_classes=num_classes,
        )
    except (MemoryError, ValueError) as error:
        sizes = f"--hidden {spelled(settings.hidden_dims)} --latent-dim {settings.latent_dim}"
        raise OptionError(
            f"a network of {sizes} needs more memory than there is.\nChoose a smaller one."
        ) from error


def short_name(dataset: Dataset) -> str:
    """The name of a dataset as part of a folder name."""
    return dataset.name if dataset.name in DATASETS else Path(real_path(dataset.name)).stem


def about_data(train_set: Dataset, test_set: Dataset, settings: Settings) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    if settings.conditional:
        labels["labels"] = fingerprint_of_labels(train_set, test_set)
        labels["class_names"] = list(train_set.class_names)
    return {
        "name": absolute_name(train_set.name),
        "extra": absolute_name(settings.extra_data),
        "source": train_set.source,
        **fingerprint(train_set, test_set),
        **labels,
    }


def absolute_name(dataset: str) -> str:
    """The name of a dataset, or its absolute path."""
    return real_path(dataset) if dataset and is_path(dataset) else dataset


def real_path(path: str) -> str:
    """The absolute path without links, even where links form a circle."""
    return os.path.realpath(os.path.expanduser(path))


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def check_out(settings: Settings, out: str | None) -> None:
    """Raise OptionError if the results would lie among the training images."""
    around = Path(real_path(out)).parents if out else ()
    for name in (settings.dataset, settings.extra_data):
        if name and is_path(name) and Path(real_path(name)) in around:
            raise OptionError(
                f"{out} is inside {name}, the folder of the training images.\n"
                "Choose another folder with --out, or omit --out."
            )


def check_validation(settings: Settings, train_set: Dataset) -> None:
    if settings.validation >= len(train_set):
        raise OptionError(
            f"--validation {settings.validation} would leave nothing to train on: "
            f"there are {len(train_set):,} training images."
        )
