"""Train a variational autoencoder and look at what it has learned."""
# ruff: noqa: E402  BLAS reads its settings when NumPy is imported

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from npvae.fast.threads import limit_blas_threads

limit_blas_threads()

from npvae import fast, settings
from npvae.commands import cli
from npvae.datasets.augmentation import AUGMENTATIONS
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS
from npvae.runs.launcher import as_rank_0
from npvae.schedules import SCHEDULES
from npvae.settings import PRESETS, Settings

EPILOG = """examples:
  python scripts/train.py --epochs 20
  python scripts/train.py --dataset mnist --latent-dim 2
  python scripts/train.py --preset tuned --seed 1
  python scripts/train.py --dataset my-pictures/ --hidden 256,128 --out runs/mine
  mpiexec -n 4 python scripts/train.py --epochs 20

presets; other options change single settings of them:
"""


def parser() -> cli.Parser:
    presets = "\n".join(f"  {name:13} {preset.options()}" for name, preset in PRESETS.items())
    parser = cli.Parser(__doc__, EPILOG + presets, argument_default=argparse.SUPPRESS)
    parser.add_data()

    def option(setting: str, help: str, **more: Any) -> None:
        value = getattr(Settings, setting)
        default = "no" if value is False else settings.spelled(value) or "none"
        more = {"metavar": "N", **more} if "type" in more else more
        name, help = settings.option(setting), f"{help} (default: {default})"
        names = [name, "--lr"] if setting == "learning_rate" else [name]
        parser.add_argument(*names, dest=setting, help=help, **more)

    whole, some, rate = cli.whole_number(1), cli.some_of(AUGMENTATIONS), cli.number(0)
    above = cli.number(0, above=True)
    help = "a dataset whose training images are added"
    option("extra_data", help, type=cli.some_text, metavar="NAME")
    help = f"move each training image at random: some of {','.join(AUGMENTATIONS)}"
    option("augment", help, type=some, metavar="WAYS")
    help = "encoder and decoder are given the class of each image"
    option("conditional", help, action="store_true")
    option("latent_dim", "size of the latent code z", type=whole)
    option("hidden_dims", "sizes of the encoder's hidden layers", type=cli.sizes)
    option("activation", "activation of the hidden layers", choices=ACTIVATIONS)
    option("epochs", "passes over the training images", type=whole)
    option("batch_size", "images per mini-batch", type=whole)
    option("optimizer", "how a gradient becomes a step", choices=OPTIMIZERS)
    option("learning_rate", "size of the optimizer's steps", type=above)
    option("schedule", "how the learning rate decreases", choices=SCHEDULES)
    option("warmup", "epochs in which the learning rate rises from 0", type=rate)
    option("beta", "weight of the KL divergence", type=rate)
    option("kl_warmup", "epochs in which beta rises from 0", type=rate)
    option("validation", "training images held out for validation", type=cli.whole_number(0))
    option("pictures_every", "epochs between pictures, 0 for none", type=cli.whole_number(0))

    start = parser.add_mutually_exclusive_group()
    start.add_argument("--preset", choices=PRESETS, help="start from these settings, see below")
    help = "continue the run in this folder"
    start.add_argument("--resume", type=cli.some_text, metavar="RUN", help=help)
    help = "auto, compiled loops where they can run, or numpy, the source as you read it"
    parser.add_argument("--backend", choices=fast.BACKENDS, help=help)
    help = "the run directory (default: a new one in runs/)"
    parser.add_argument("--out", type=cli.some_text, metavar="FOLDER", help=help)
    parser.add_common(seed=argparse.SUPPRESS)
    return parser


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options that were given, and no others."""
    train = parser()
    options = train.parse_args(arguments)
    if "resume" in options and "out" in options:
        train.error("argument --out: not allowed with --resume, which writes to the run's folder")
    cli.note_data_dir(options)
    return options


def main(arguments: Sequence[str]) -> None:
    with as_rank_0():
        options = vars(parsed(arguments))
    given = {field.name: options[field.name] for field in fields(Settings) if field.name in options}
    data_dir, quiet = options.get("data_dir"), options.get("quiet", False)
    backend = options.get("backend")
    from npvae.commands import training_run
    from npvae.runs import mpi

    ranks = mpi.join()
    with mpi.together(ranks):
        if ranks and ranks.rank:
            training_run.follow(ranks)
        elif "resume" in options:
            training_run.resume(options["resume"], given, data_dir, quiet, backend, ranks)
        else:
            chosen = replace(PRESETS.get(options.get("preset", ""), Settings()), **given)
            training_run.start(chosen, data_dir, options.get("out"), quiet, backend, ranks)
