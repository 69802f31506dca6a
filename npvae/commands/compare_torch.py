"""Do npvae and PyTorch agree on equal weights, batch and noise?

Compares, in float64, the losses and every gradient of one batch of random
pixels, and every parameter after ten steps of the optimizer. Each array is
shown at the entry that differs most, with the difference relative to its
largest entry.
"""

from __future__ import annotations

from collections.abc import Sequence

from npvae.commands import cli
from npvae.core.errors import OptionError
from npvae.core.network import MAX_CLASSES
from npvae.core.option_types import number, sizes, whole_number
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS


def main(arguments: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, "Exit code 1 if a difference is larger than allowed.")
    add, size = parser.add_argument, whole_number(1)
    help = "sizes of the encoder's hidden layers (default: 128)"
    add("--hidden", type=sizes, default=(128,), metavar="N", help=help)
    help = "number of latents (default: 10)"
    add("--latent-dim", type=size, default=10, metavar="N", help=help)
    help = "activation of the hidden layers (default: relu)"
    add("--activation", choices=ACTIVATIONS, default="relu", help=help)
    help = "optimizer of the ten steps (default: adam)"
    add("--optimizer", choices=OPTIMIZERS, default="adam", help=help)
    help = "images in the batch (default: 64)"
    add("--batch-size", type=size, default=64, metavar="N", help=help)
    help = "weight of the KL divergence (default: 0.7, because 1 would hide a missing factor)"
    add("--beta", type=number(0), default=0.7, metavar="N", help=help)
    help = "classes of a conditional VAE (default: 0, none)"
    add("--classes", type=whole_number(0), default=0, metavar="N", help=help)
    parser.add_common()
    options = parser.parse_args(arguments)
    if options.classes > MAX_CLASSES:
        parser.error(f"argument --classes: {options.classes} is more than {MAX_CLASSES}")

    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: one of its libraries is missing
        why = str(error).partition("\n")[0]
        raise OptionError(f"PyTorch is needed ({why}): python -m pip install torch") from error
    import numpy

    import npvae
    from npvae.reference.pytorch import compare, example, table

    numbers = options.hidden, options.latent_dim, options.batch_size
    vae, x, epsilon = example(*numbers, options.activation, options.seed, options.classes)
    c = vae.classes((numpy.arange(len(x)) % max(1, options.classes)).astype(numpy.uint8))
    rows = compare(vae, x, epsilon, options.beta, optimizer=options.optimizer, c=c)
    report = table(rows)
    if options.quiet:
        print(report.splitlines()[-1])
    else:
        network = "-".join(map(str, (784, *options.hidden, options.latent_dim)))
        print(f"npvae {npvae.__version__}, NumPy {numpy.__version__}, PyTorch {torch.__version__}")
        print(f"{network}, {options.batch_size} images, beta {options.beta:g}, seed {options.seed}")
        classes = f", conditional on {options.classes} classes" if options.classes else ""
        print(f"{options.activation}, {options.optimizer}{classes}\n")
        print(report)
    return 0 if all(row.passed for row in rows) else 1
