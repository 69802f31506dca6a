"""Train a variational autoencoder, and see what it has learned."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from textwrap import TextWrapper

from npvae import fast
from npvae.commands import cli
from npvae.core.option_types import some_text
from npvae.fast.threads import limit_blas_threads
from npvae.runs.launcher import as_rank_0

# What imports NumPy is imported in functions, after `limit_blas_threads`.

EPILOG = """examples:
  python scripts/train.py --epochs 20
  python scripts/train.py --dataset mnist --latent-dim 2
  python scripts/train.py --preset tuned --seed 1
  python scripts/train.py --dataset my-pictures/ --hidden 256,128 --out runs/mine
  mpiexec -n 4 python scripts/train.py --epochs 20

presets; other options change single settings of them:
"""


def parser() -> cli.Parser:
    """The options: one for each field of Settings, and what is no setting of a run."""
    from npvae.settings import PRESETS, Settings, options_of, shown

    wrapper = TextWrapper(80, subsequent_indent=16 * " ", break_on_hyphens=False)
    presets = [wrapper.fill(f"  {name:13} {p.options()}") for name, p in PRESETS.items()]
    epilog = EPILOG + "\n".join(presets)
    parser = cli.Parser(__doc__, epilog, argument_default=argparse.SUPPRESS)
    parser.add_data()
    for field in fields(Settings):
        if help := field.metadata["help"]:  # otherwise other commands have the option, too
            names, how = options_of(field.name), field.metadata["how"]
            help = f"{help} (default: {shown(field.default)})"
            parser.add_argument(*names, dest=field.name, help=help, **how)

    start = parser.add_mutually_exclusive_group()
    help = "start from these settings, see below (default: none)"
    start.add_argument("--preset", choices=PRESETS, metavar="NAME", help=help)
    help = "continue the run in this folder (default: start a new run)"
    start.add_argument("--resume", type=some_text, metavar="RUN", help=help)
    help = "auto, compiled loops where they can run, or numpy, the source as you read it "
    help += "(default: auto)"
    parser.add_argument("--backend", choices=fast.BACKENDS, help=help)
    help = "the run directory (default: a new one in runs/)"
    parser.add_argument("--out", type=some_text, metavar="FOLDER", help=help)
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
    limit_blas_threads()
    with as_rank_0():
        options = vars(parsed(arguments))
    from npvae.commands import training_run
    from npvae.runs import mpi
    from npvae.settings import PRESETS, Settings

    given = {field.name: options[field.name] for field in fields(Settings) if field.name in options}
    data_dir, quiet = options.get("data_dir"), options.get("quiet", False)
    backend = options.get("backend")
    ranks = mpi.join()
    with mpi.together(ranks, "debug" in options):
        if ranks and ranks.rank:
            training_run.follow(ranks)
        elif "resume" in options:
            training_run.resume(options["resume"], given, data_dir, quiet, backend, ranks)
        else:
            chosen = replace(PRESETS.get(options.get("preset", ""), Settings()), **given)
            training_run.start(chosen, data_dir, options.get("out"), quiet, backend, ranks)
