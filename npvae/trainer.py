"""What `scripts/train.py` does: say what is about to happen, do it, say what came of it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timezone
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np

from npvae import __version__, checkpoint, cli, compiling
from npvae.augmentation import warp_pixels
from npvae.cores import cores, workers
from npvae.curves import loss_curve
from npvae.datasets import DATASETS, Dataset, load_dataset
from npvae.datasets.batches import gather_pixels
from npvae.datasets.extra import with_extra
from npvae.errors import DataError, DivergedError, OptionError, OutputError
from npvae.evaluation import Images, no_latent_loss, pixel_entropy
from npvae.images import comparison, save_png, tile
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS, Optimizer
from npvae.progress import Progress, show
from npvae.runs import RUNS, Run, as_row, new_run, open_run
from npvae.settings import Settings, option, shown
from npvae.training import PICTURES, WEIGHTS, generator, train


def start(settings: Settings, data_dir: str | None, out: str | None, quiet: bool = False) -> None:
    """A new training run: data, folder, epochs, summary."""
    say = silence if quiet else show
    train_set, test_set = load(settings, data_dir, say)
    check_validation(settings, train_set)
    vae = build(settings)
    about = {
        "settings": settings.as_dict(),
        "data": about_data(train_set, test_set, settings),
        "versions": versions(),
    }
    name = f"{short_name(train_set)}-z{settings.latent_dim}"
    run = new_run(name, out, about, started=now())
    where = ["--data-dir", data_dir] if data_dir else []
    with closing(run), told(run, settings, where):
        optimizer = OPTIMIZERS[settings.optimizer](settings.learning_rate)
        test = _train(run, vae, optimizer, settings, train_set, test_set, quiet)
        show(summary(test, train_set, test_set, settings, run, where))


def resume(
    folder: str, given: Mapping[str, Any], data_dir: str | None, quiet: bool = False
) -> None:
    """Go on with a run, bit for bit as if it had never stopped."""
    say = silence if quiet else show
    run, vae, optimizer, header = open_run(folder)
    done = header["epoch"]
    where = ["--data-dir", data_dir] if data_dir else []
    with closing(run):
        settings = Settings.from_dict(header["settings"]).resumed(given, done)
        with told(run, settings, where):
            train_set, test_set = load_again(run, settings, given, data_dir, say)
            before = run.about["versions"]
            for what, now_is in versions().items():
                if now_is != before.get(what):
                    say(f"note: {what} is {now_is}, it was {before.get(what)}: bits will differ")
            run.about["settings"] = settings.as_dict()
            run.write_about(resumed=now(), resumed_after_epoch=done)
            say(f"Resuming {run.folder} after epoch {done}.\n")
            test = _train(run, vae, optimizer, settings, train_set, test_set, quiet, done)
            show(summary(test, train_set, test_set, settings, run, where))


def _train(
    run: Run,
    vae: VAE,
    optimizer: Optimizer,
    settings: Settings,
    train_set: Dataset,
    test_set: Dataset,
    quiet: bool,
    done: int = 0,
) -> Loss:
    """Train the epochs after `done`; the test loss of the last one."""
    say = silence if quiet else show
    images = train_set.images, test_set.images
    say(plan(settings, train_set, test_set, vae, run))
    prepare_kernels(settings, *images, say)
    progress = Progress(settings.epochs, done, quiet)
    epochs = range(done + 1, settings.epochs + 1)
    try:
        for epoch in train(vae, optimizer, *images, settings, epochs, workers(), progress.batch):
            epoch = epoch._replace(seconds=max(0.0, epoch.seconds))  # a clock may jump
            if settings.pictures_every and epoch.epoch % settings.pictures_every == 0:
                save_pictures(run.folder / "images", epoch.epoch, vae, test_set.images, settings)
            if settings.pictures_every:
                curve = loss_curve([*run.history, as_row(epoch)])
                save_png(run.folder / "loss.png", np.asarray(curve))
            run.record(epoch, vae, optimizer)
            progress.epoch(epoch)
    finally:
        progress.clear()
    return epoch.test


def prepare_kernels(
    settings: Settings, images: Images, test_images: Images, say: Callable[[str], None]
) -> None:
    """Train a tiny model on two images, so that all kernels are loaded or, if need be, compiled.

    Here and not by the workers of the first epoch: Ctrl-C would have to wait for them.
    """
    if compiling.BACKEND == "numpy":
        return
    unused = gather_pixels if settings.augment else warp_pixels
    if compiling.must_compile(unused):
        say("Compiling the kernels for this machine: a few seconds, the first time only.\n")
    tiny = replace(settings, hidden_dims=(8,), latent_dim=2, validation=0)
    optimizer = OPTIMIZERS[settings.optimizer](settings.learning_rate)
    with suppress(DivergedError):
        list(train(build(tiny), optimizer, images[:2], test_images[:2], tiny, range(1, 2)))


@contextmanager
def told(run: Run, settings: Settings, where: Sequence[str]) -> Iterator[None]:
    """Whatever cuts training short here: say what is left, and how to go on."""
    try:
        yield
    except OutputError as error:
        what_and_why = str(error).splitlines()[:2]
        lines = [*what_and_why, what_is_left(run, settings, where)]
        raise OutputError("\n".join(lines)) from error
    except (KeyboardInterrupt, OSError):  # OSError: nobody reads what is printed
        with suppress(OSError):
            show(f"Interrupted. {what_is_left(run, settings, where)}", sys.stderr)
        raise


def what_is_left(run: Run, settings: Settings, where: Sequence[str]) -> str:
    """The state of a run that was cut short, and the command that goes on."""
    last = run.folder / "last.npz"
    if not last.exists():
        return "No epoch was finished: begin again with the same command."
    header, _ = checkpoint.load(last)
    state = f"The state after epoch {header['epoch']} is in {last}"
    if header["epoch"] == settings.epochs:
        return f"{state}\nThat was the last one: the run is complete."
    before = Settings.from_dict(header["settings"])
    changes = []  # which are not in the checkpoint yet, such as more epochs
    for name, value in asdict(settings).items():
        if value != getattr(before, name):
            changes += [option(name), shown(value)]
    command = cli.command("train.py", "--resume", run.folder, *changes, *where)
    return f"{state}\nGo on with:  {command}"


def load(
    settings: Settings, data_dir: str | None, say: Callable[[str], None]
) -> tuple[Dataset, Dataset]:
    """Training and test images, the former with --extra-data added."""
    train_set, test_set = load_dataset(settings.dataset, data_dir, report=say)
    if settings.extra_data:
        extra, _ = load_dataset(settings.extra_data, data_dir, report=say)
        train_set = with_extra(train_set, test_set, extra, report=say)
    return train_set, test_set


def load_again(
    run: Run,
    settings: Settings,
    given: Mapping[str, Any],
    data_dir: str | None,
    say: Callable[[str], None],
) -> tuple[Dataset, Dataset]:
    """The images of a run that is resumed; DataError if they are others now."""
    before = run.about["data"]
    # Paths are kept as they were given; those in "data" hold in every folder.
    places = {"dataset": before["name"], "extra_data": before.get("extra", ""), **given}
    train_set, test_set = load(replace(settings, **places), data_dir, say)
    data = about_data(train_set, test_set, settings)
    if data["sha256"] != before["sha256"]:
        more = " and --extra-data" if settings.extra_data else ""
        raise DataError(
            f"the images are not those that {run.folder} was trained on.\n"
            f"Name the right ones by --dataset{more}, or their folder by --data-dir."
        )
    if {"dataset", "extra_data"} & set(given):
        run.about["data"] = data
    return train_set, test_set


def build(settings: Settings) -> VAE:
    """The untrained model of these settings. Raises OptionError if it is too large."""
    rng = generator(settings.seed, WEIGHTS)
    try:
        return VAE(784, settings.hidden_dims, settings.latent_dim, settings.activation, rng=rng)
    except (MemoryError, ValueError) as error:
        raise OptionError(
            f"a network of {settings.hidden_dims} hidden units and {settings.latent_dim} latents "
            "needs more memory than there is."
        ) from error


def save_pictures(folder: Path, epoch: int, vae: VAE, images: Images, settings: Settings) -> None:
    """100 draws from the prior, the same z in every epoch; 50 test images and their x_hat at mu."""
    samples = vae.sample(100, generator(settings.seed, PICTURES))
    save_png(folder / f"sampled_epoch{epoch}.png", tile(samples, columns=10))
    originals = images[:50]
    mu, _ = vae.encode(originals.reshape(len(originals), -1) / 255)
    save_png(folder / f"rec_epoch{epoch}.png", comparison(originals, vae.decode(mu), columns=10))


def short_name(dataset: Dataset) -> str:
    """The name of a dataset as part of a folder's name."""
    return dataset.name if dataset.name in DATASETS else Path(dataset.name).resolve().stem


def about_data(train_set: Dataset, test_set: Dataset, settings: Settings) -> dict[str, Any]:
    digest = sha256(train_set.images.data)
    digest.update(test_set.images.data)
    return {
        "name": from_anywhere(train_set.name),
        "extra": from_anywhere(settings.extra_data),
        "source": train_set.source,
        "sha256": digest.hexdigest(),
        "train_images": len(train_set),
        "test_images": len(test_set),
    }


def from_anywhere(dataset: str) -> str:
    """The name of a dataset, or its path, in words that mean the same in every folder."""
    return dataset if dataset in ("", "auto", *DATASETS) else str(Path(dataset).resolve())


def versions() -> dict[str, str]:
    found = {"npvae": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return {**found, "kernels": compiling.BACKEND, "cores": str(cores()), "workers": str(workers())}


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def silence(text: str) -> None:
    """Says nothing, for --quiet."""


def check_validation(settings: Settings, train_set: Dataset) -> None:
    if settings.validation >= len(train_set):
        raise OptionError(
            f"--validation {settings.validation} would leave nothing to train on: "
            f"there are {len(train_set):,} training images."
        )


def plan(settings: Settings, train_set: Dataset, test_set: Dataset, vae: VAE, run: Run) -> str:
    """What is about to happen, for people."""
    images = len(train_set) - settings.validation
    steps = ceil(images / settings.batch_size)
    held_out = f"{settings.validation:,} of the training images choose the best epoch"
    kernels = f"NumPy, {compiling.WHY_NUMPY}" if compiling.WHY_NUMPY else "compiled by Numba"
    topics = {
        "data": [
            f"{train_set.name}: {len(train_set):,} training and {len(test_set):,} test images",
            train_set.source,
            *([held_out] if settings.validation else []),
        ],
        "network": network(vae),
        "training": [
            f"{count_of(settings.epochs, 'epoch')} of {count_of(steps, 'batch', 'es')} "
            f"of {settings.batch_size}, {settings.optimizer} {settings.learning_rate:g}, "
            f"beta {settings.beta:g}, seed {settings.seed}"
        ],
        "options": wrap(settings.options(), 88, break_on_hyphens=False) or ["all as by default"],
        "losses": ["in nats per image: bce (pixels) + beta * kl (code)"],
        "kernels": [f"{kernels}; {count_of(workers(), 'worker')}"],
        "results": [str(run.folder)],
    }
    lines = [
        f"{topic if k == 0 else '':10}{line}"
        for topic, text in topics.items()
        for k, line in enumerate(text)
    ]
    return "\n".join([*lines, ""])


def count_of(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def network(vae: VAE) -> list[str]:
    """The network layer by layer: shapes and parameter counts."""
    notes = dict.fromkeys([*vae.encoder.layers, *vae.decoder.layers], vae.activation)
    notes[vae.log_var] = "z = mu + sigma * epsilon"
    notes[vae.logits] = "x_hat = sigmoid(logits)"
    names = [name.removesuffix(".W") for name in vae.parameters if name.endswith(".W")]
    lines = []
    for name, layer in zip(names, vae.layers, strict=True):
        n_in, n_out = layer.W.shape
        count = layer.W.size + layer.b.size
        lines.append(
            f"{name:16} {n_in:4} -> {n_out:<4} {count:9,}  {notes.get(layer, '')}".rstrip()
        )
    return [*lines, f"{'in all':16} {'':12} {vae.parameters.flat.size:9,}  parameters"]


def summary(
    test: Loss,
    train_set: Dataset,
    test_set: Dataset,
    settings: Settings,
    run: Run,
    where: Sequence[str],
) -> str:
    """The test loss between its floor and its baseline, and what to do next."""
    floor = pixel_entropy(test_set.images)
    baseline = no_latent_loss(train_set.images, test_set.images)
    beta = "" if test.beta == 1 else f"{test.beta:g} * "
    lines = [
        "",
        f"test loss {test.loss:7.2f} nats per image = bce {test.bce:.2f} + {beta}kl {test.kl:.2f}",
        f"floor     {floor:7.2f} the entropy of the test pixels: no model can go below",
        f"baseline  {baseline:7.2f} always the mean training picture, nothing in z",
    ]
    if test.beta != 1:
        lines.append(f"-elbo     {-test.elbo:7.2f} bce + kl, to be compared with these two")
    if -test.elbo < baseline:
        way = (baseline + test.elbo) / (baseline - floor)
        lines.append(f"{'':10}which makes {way:.0%} of the way from the baseline to the floor")
    elif test.beta == 1:
        lines.append(f"{'':10}which it does not reach yet: train for longer")
    lines += ["", "Next:"]
    newest = settings.epochs - settings.epochs % (settings.pictures_every or settings.epochs + 1)
    if newest:
        lines.append(f"  look at {run.folder / 'images' / f'sampled_epoch{newest}.png'}")
    which = [*([] if run.folder.parent == RUNS else ["--checkpoint", run.folder]), *where]
    lines += [
        f"  {cli.command('generate.py', *which)}",
        f"  {cli.command('evaluate.py', *which)}",
        f"  {cli.command('gradcheck.py')}",
    ]
    return "\n".join(lines)
