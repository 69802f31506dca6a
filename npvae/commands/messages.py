"""What does training print before it starts, when it is interrupted, and at the end?"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from npvae import fast
from npvae.commands.job import RunJob, Voice
from npvae.core.errors import CheckpointError, DivergedError, OutputError, RankError
from npvae.datasets import Dataset
from npvae.evaluation import no_latent_loss, pixel_entropy
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import OPTIMIZERS
from npvae.plots.explorer import knows
from npvae.runs.run_directory import RUNS, Run, checkpoint_of
from npvae.runs.run_lock import RunMoved
from npvae.runs.terminal import columns, show
from npvae.settings import Settings
from npvae.storage import checkpoint

ROUNDING = 1e-4  # of a loss that is summed in float32
FEW_STEPS = 300  # the default is 118 for each epoch of Fashion-MNIST
COLLAPSED = (
    "Posterior collapse: no latent is active, so z says nothing about the image. Try a smaller",
    "--beta, --kl-warmup 5 or more --epochs; npvae/QUESTIONS.md: Why is my KL zero?",
)


def plan(topics: Mapping[str, Sequence[str]]) -> str:
    """What is about to happen, for people: the topics and their lines."""
    lines = [
        f"{topic if k == 0 else '':10}{line}"
        for topic, text in topics.items()
        for k, line in enumerate(text)
    ]
    return "\n".join([*lines, ""])


def topics(job: RunJob) -> dict[str, list[str]]:
    """The lines of the plan by topic: data, network, training and so on."""
    settings, train_set, test_set, vae = job.settings, job.train, job.test, job.vae
    images = len(train_set) - settings.validation
    steps = ceil(images / settings.batch_size)
    held_out = f"{settings.validation:,} of the training images choose the best epoch"
    few = f"only {count_of(steps * settings.epochs, 'step')} in all: "
    few += "try more --epochs or a smaller --batch-size"
    room = max(20, columns(sys.stdout) - 12)  # so that `show` need not break these lines
    return {
        "data": [
            f"{train_set.name}: {len(train_set):,} training and {len(test_set):,} test images",
            train_set.source,
            *([held_out] if settings.validation else []),
        ],
        "network": network_table(vae),
        "training": [
            f"{count_of(settings.epochs, 'epoch')} of {count_of(steps, 'batch', 'es')} "
            f"of {min(settings.batch_size, images)}, "
            f"{settings.optimizer} {settings.learning_rate:g}, "
            f"beta {settings.beta:g}, seed {settings.seed}",
            *([few] if steps * settings.epochs < FEW_STEPS and settings.batch_size > 1 else []),
            *without_effect(settings, steps),
        ],
        "options": wrap(settings.options(), room, break_on_hyphens=False) or ["all defaults"],
        "losses": [
            "in nats per image: bce (pixels) + beta * kl (latent code)",
            *(["at the full beta, even while it is still rising"] if settings.kl_warmup else []),
            *(["a bound on -log p(x | c), given the class c of x"] if vae.num_classes else []),
        ],
        "backend": [fast.describe(job.backend, vae, OPTIMIZERS[settings.optimizer], job.processes)],
        "results": [str(job.run.folder)],
    }


def without_effect(s: Settings, steps: int) -> list[str]:
    """Which settings change nothing, or not in full, in epochs of so many steps."""
    lines = []
    for name, epochs, what in (
        ("--warmup", s.warmup, "the learning rate"),
        ("--kl-warmup", s.kl_warmup, "beta"),
    ):
        if what == "beta" and s.beta == 0 < epochs:
            lines.append(f"{name} {epochs:g} changes nothing: beta is 0")
        elif epochs > s.epochs:
            share = f"at most {s.epochs / epochs:.0%} of {what} is reached"
            lines.append(f"{name} {epochs:g} is longer than the run: {share}")
    if 0 < s.warmup * steps <= 1:
        lines.append(f"--warmup {s.warmup:g} changes nothing: one batch is longer")
    if s.pictures_every > s.epochs:
        lines.append(f"--pictures-every {s.pictures_every} gives no pictures in this run")
    return lines


def count_of(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"


def network_table(vae: VAE) -> list[str]:
    """The layers with their shapes and parameter counts."""
    notes = dict.fromkeys([*vae.encoder.layers, *vae.decoder.layers], vae.activation)
    if vae.num_classes:
        for layer in (vae.encoder.layers[0], vae.decoder.layers[0]):
            notes[layer] += f"; {vae.num_classes} of the inputs are the class"
    notes[vae.to_log_var] = "z = mu + sigma * epsilon"
    notes[vae.to_logits] = "x_hat = sigmoid(logits)"
    names = [name.removesuffix(".W") for name in vae.parameters if name.endswith(".W")]
    lines = []
    for name, layer in zip(names, vae.layers, strict=True):
        n_in, n_out = layer.W.shape
        count = layer.W.size + layer.b.size
        lines.append(
            f"{name:16} {n_in:4} -> {n_out:<4} {count:9,}  {notes.get(layer, '')}".rstrip()
        )
    return [*lines, f"{'in all':16} {'':12} {vae.parameters.flat.size:9,}  parameters"]


@contextmanager
def explain_interruption(run: Run, settings: Settings, voice: Voice) -> Iterator[None]:
    """If training is interrupted in this context, report what was saved and how to continue."""
    try:
        yield
    except (RunMoved, checkpoint.TooLong):  # they say what to do themselves
        raise
    except DivergedError as error:
        raise DivergedError(
            f"{error}\nStart again with:  {smaller_steps(settings, voice)}"
        ) from error
    except OutputError as error:
        what_and_why = str(error).splitlines()[:2]
        lines = [*what_and_why, how_to_continue(run, settings, voice)]
        raise OutputError("\n".join(lines)) from error
    except RankError as error:
        how = how_to_continue(run, settings, voice)
        error.args = (f"{error}\n{how}",)
        raise
    except (KeyboardInterrupt, OSError, MemoryError) as error:  # OSError: nothing can be printed
        if isinstance(error, BrokenPipeError) and len(run.history) == settings.epochs:
            raise  # the reader of a complete run has seen enough: no error
        what = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Stopped"
        if isinstance(error, BrokenPipeError):  # as in train.py | head -3
            what = "Stopped, as nobody reads the output any more"
        with suppress(OSError, MemoryError, CheckpointError):
            show(f"{what}. {how_to_continue(run, settings, voice)}", sys.stderr)
        if isinstance(error, BrokenPipeError):  # the run is not complete, so this is no success
            raise KeyboardInterrupt from error
        raise


def smaller_steps(settings: Settings, voice: Voice) -> str:
    """The command that starts a run again with a tenth of its learning rate."""
    smaller = replace(settings, learning_rate=settings.learning_rate / 10)
    return voice.command("train", *smaller.words())


def how_to_continue(run: Run, settings: Settings, voice: Voice) -> str:
    """What was saved and the command that resumes it. Makes metrics.csv agree with last.npz."""
    try:
        run.lock.check()
    except RunMoved as moved:
        return str(moved)
    last = checkpoint_of(run.folder)
    if not last.exists():
        return "No epoch was finished: start again with the same command."
    header, _ = checkpoint.load(last)
    with suppress(OutputError):
        run.rewrite_metrics(header["history"])
    state = f"The state after epoch {header['epoch']} is in {last}"
    if header["epoch"] == settings.epochs:
        return f"{state}\nThat was the last epoch: the run is complete."
    before = Settings.from_dict(header["settings"])
    changes = settings.words(before)  # not in the checkpoint yet, such as more epochs
    command = voice.command("train", "--resume", run.folder, *changes)
    return f"{state}\nContinue with:  {command}"


class Bounds(NamedTuple):
    """Two losses of the test set that make others readable, in nats per image."""

    floor: float
    baseline: float


def floor_and_baseline(train_set: Dataset, test_set: Dataset) -> Bounds:
    """The entropy of the test pixels, and the loss of always predicting the mean image."""
    floor = pixel_entropy(test_set.images)
    return Bounds(floor, no_latent_loss(train_set.images, test_set.images))


def summary(test: Loss, bounds: Bounds, active: Iterable[bool] = (True,)) -> str:
    """The test loss of the last epoch, compared with its floor and its baseline.

    `active` says of each latent whether the model uses it.
    """
    floor, baseline = bounds
    beta = "" if test.beta == 1 else f"{test.beta:g} * "
    lines = [
        f"test loss {test.loss:7.2f} nats per image = bce {test.bce:.2f} + {beta}kl {test.kl:.2f}",
        f"floor     {floor:7.2f} the entropy of the test pixels: no model can go below",
        f"baseline  {baseline:7.2f} always the mean training image, nothing in z",
    ]
    if test.beta != 1:
        lines.append(f"-elbo     {-test.elbo:7.2f} bce + kl, comparable with floor and baseline")
    room = baseline - floor
    if -test.elbo < floor - ROUNDING * (1 + floor):
        lines.append(f"{'':10}The loss is below the floor, which is impossible: please report it.")
    elif room < ROUNDING * (1 + floor):
        lines.append(f"{'':10}There is nothing to learn: every image equals the mean image.")
    elif -test.elbo < baseline:
        way = (baseline + test.elbo) / room
        lines.append(f"{'':10}That is {way:.0%} of the way from the baseline to the floor.")
    elif test.beta == 1:
        lines.append(f"{'':10}The loss is not below the baseline yet: train for longer.")
    if not any(active):
        lines += [f"{'':10}{line}" for line in COLLAPSED]
    return "\n".join(lines)


def best_epoch(history: Sequence[Mapping[str, float]]) -> str:
    """The epoch that --validation has kept in best.npz, and its test loss."""
    best = min(reversed(history), key=lambda row: row["validation_loss"])  # the last of equals
    loss, lowest = best["test_loss"], best["validation_loss"]
    which = f"after epoch {best['epoch']:.0f}, which has the lowest validation loss, {lowest:.2f};"
    lines = [
        "kept in best.npz, which `evaluate` and `generate` use",
        "(validation: the images held out; do not compare their loss with a test loss)",
    ]
    return "\n".join([f"best      {loss:7.2f} {which}", *(f"{'':17} {line}" for line in lines)])


def next_steps(job: RunJob) -> str:
    """What to do with a run that is complete."""
    named = job.run.folder.parent != RUNS  # otherwise it is the newest run, which is the default
    commands = [f"  {command}" for _, command in next_commands(job, named)]
    look = [f"  look at {job.run.folder / 'report.html'}"]
    if explorer_of(job).exists():
        look.append(f"  play with {explorer_of(job)}")
    return "\n".join(["", "Next:", *look, *commands])


def explorer_of(job: RunJob) -> Path:
    """The page to play with the model, which a run writes after its last epoch."""
    return job.run.folder / "explorer.html"


def next_commands(job: RunJob, named: bool = True) -> list[tuple[str, str]]:
    """The commands that fit a run with this model, each after its purpose.

    They name the run unless `named` is False: a page is still read when there are newer runs.
    """
    which, vae = ["--checkpoint", job.run.folder] if named else [], job.vae
    if vae.latent_dim <= 2:
        pictures = {"manifold": "the latent space, decoded", "scatter": "the codes of test images"}
    else:
        pictures = {"traverse": "what each latent does to an image"}
    styles = {"styles": "one code in every class"} if vae.num_classes else {}
    page = {"explorer": "a page to play with the model"}
    if explorer_of(job).exists() or not knows(vae.activation):
        page = {}
    modes = {**page, **styles, **pictures}
    command = job.voice.command
    steps = [(f"{why}:", command("generate", mode, *which)) for mode, why in modes.items()]
    return [*steps, ("what the model is worth:", command("evaluate", *which))]
