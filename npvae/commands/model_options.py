"""What do the commands that look at a trained model share? The options that say which one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from npvae.commands import cli
from npvae.core.option_types import some_text

if TYPE_CHECKING:
    from npvae.runs.trained_model import TrainedModel

WHICH = "an .npz file, or a run's folder: its best epoch if it kept one, otherwise its last"
OF_DATA = ("dataset", "data_dir", *cli.OWN_DATA)


def add_model(parser: cli.Parser, several: bool = False) -> None:
    """--checkpoint, which may be given several times if `several`, and the options of its data."""
    parser.add_argument(
        "--checkpoint",
        type=some_text,
        action="append" if several else "store",
        metavar="PATH",
        help=f"{WHICH} (default: the newest run in runs/)",
    )
    parser.add_data("the dataset the model was trained on")


def asked_models(options: argparse.Namespace, silent: bool) -> list[TrainedModel]:
    """The models that the options ask for; notes about their data are shown unless `silent`."""
    from npvae.runs.terminal import show_note
    from npvae.runs.trained_model import TrainedModel

    given = options.checkpoint if isinstance(options.checkpoint, list) else [options.checkpoint]
    report = None if silent else show_note
    own_data = cli.own_data(options)
    return [
        TrainedModel(path, options.dataset, options.data_dir, report, own_data) for path in given
    ]


def given_again(options: argparse.Namespace) -> list[str | Path]:
    """Those of these options that were given, as words for the next command."""
    return cli.given_words(options, "checkpoint", *OF_DATA)
