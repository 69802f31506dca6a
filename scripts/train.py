"""Train a variational autoencoder and look at what it has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from npvae import cli
from npvae.settings import Settings

EXAMPLES = """examples:
  python scripts/train.py --epochs 20
  python scripts/train.py --dataset mnist --latent-dim 2
  python scripts/train.py --dataset my-pictures/ --hidden 256,128 --out runs/mine
"""


def parser() -> cli.Parser:
    default = Settings()
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add_data()

    def option(name: str, type: object, value: object, help: str) -> None:
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        help = f"{help} (default: {shown})"
        parser.add_argument(name, type=type, default=value, metavar="N", help=help)  # type: ignore[arg-type]

    option("--epochs", cli.whole_number(1), default.epochs, "passes over the training images")
    option("--latent-dim", cli.whole_number(1), default.latent_dim, "size of the code z")
    option("--hidden", cli.sizes, default.hidden_dims, "sizes of the encoder's hidden layers")
    option("--batch-size", cli.whole_number(1), default.batch_size, "images for each step")
    option("--learning-rate", cli.number(0, above=True), default.learning_rate, "of Adam")
    option("--beta", cli.number(0), default.beta, "weight of the KL divergence")
    option(
        "--pictures-every", cli.whole_number(0), default.pictures_every, "epochs; 0 for no pictures"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="for the results (default: a new folder in runs/)"
    )
    parser.add_common(default.seed)
    return parser


def main(arguments: Sequence[str]) -> None:
    options = vars(parser().parse_args(arguments))
    options["hidden_dims"] = options.pop("hidden")
    settings = Settings(**{field.name: options[field.name] for field in fields(Settings)})

    from npvae import trainer

    trainer.run(settings, options["data_dir"], options["out"], quiet=options["quiet"])


if __name__ == "__main__":
    cli.run(main)
