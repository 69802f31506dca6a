"""Train a variational autoencoder and look at what it has learned."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from npvae import cli, cores
from npvae.settings import Settings

SETTINGS = {field.name: field.name for field in fields(Settings)}  # by the name of the option
SETTINGS["hidden"] = SETTINGS.pop("hidden_dims")

EXAMPLES = """examples:
  python scripts/train.py --epochs 20
  python scripts/train.py --dataset mnist --latent-dim 2
  python scripts/train.py --dataset my-pictures/ --hidden 256,128 --out runs/mine
"""


def parser() -> cli.Parser:
    default = Settings()
    parser = cli.Parser(__doc__, EXAMPLES, argument_default=argparse.SUPPRESS)
    parser.add_data()

    def option(name: str, type: object, value: object, help: str) -> None:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        help = f"{help} (default: {shown})"
        parser.add_argument(name, type=type, metavar="N", help=help)  # type: ignore[arg-type]

    option("--epochs", cli.whole_number(1), default.epochs, "passes over the training images")
    option("--latent-dim", cli.whole_number(1), default.latent_dim, "size of the code z")
    option("--hidden", cli.sizes, default.hidden_dims, "sizes of the encoder's hidden layers")
    option("--batch-size", cli.whole_number(1), default.batch_size, "images for each step")
    option("--learning-rate", cli.number(0, above=True), default.learning_rate, "of Adam")
    option("--beta", cli.number(0), default.beta, "weight of the KL divergence")
    option("--validation", cli.whole_number(0), default.validation, "training images held out")
    option("--pictures-every", cli.whole_number(0), default.pictures_every, "epochs; 0 for none")
    target = parser.add_mutually_exclusive_group()
    help = "of the run (default: a new one in runs/)"
    target.add_argument("--out", type=cli.some_text, metavar="FOLDER", help=help)
    help = "go on with the run in this folder"
    target.add_argument("--resume", type=cli.some_text, metavar="RUN", help=help)
    parser.add_common(seed=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str]) -> None:
    options = vars(parser().parse_args(arguments))
    given = {SETTINGS[name]: value for name, value in options.items() if name in SETTINGS}

    cores.divide(batch_size(given, options.get("resume")))
    from npvae import trainer

    data_dir, quiet = options.get("data_dir"), options.get("quiet", False)
    if "resume" in options:
        trainer.resume(options["resume"], given, data_dir, quiet)
    else:
        trainer.start(Settings(**given), data_dir, options.get("out"), quiet)


def batch_size(given: Mapping[str, Any], resumed: str | None) -> int:
    """Of the run to come, or of the one to be resumed, as far as that can be said without NumPy."""
    if resumed is not None:
        try:
            folder = Path(resumed) if Path(resumed).is_dir() else Path(resumed).parent
            about = json.loads((folder / "run.json").read_text())
            return int(about["settings"]["batch_size"])
        except (OSError, ValueError, KeyError, TypeError):  # whatever it is, the trainer will tell
            pass
    return int(given.get("batch_size", Settings.batch_size))


if __name__ == "__main__":
    cli.run(main)
