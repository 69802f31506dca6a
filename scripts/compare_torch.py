"""The same weights, batch and noise through npvae and PyTorch: losses, gradients, ten steps of Adam."""

from __future__ import annotations

import argparse
import sys


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Put npvae and PyTorch side by side, in float64: the losses and every gradient "
        "of one batch, and every parameter after ten steps of Adam. An array is shown at the entry "
        "where the two differ most, relative to its largest entry.",
        epilog="Exit code: 0 all agree, 1 something differs, 2 PyTorch is missing or a bad option.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--hidden", type=positive, nargs="+", default=[128], help="sizes of the hidden layers")
    add("--latent-dim", type=positive, default=10, help="size of the code z")
    add("--batch-size", type=positive, default=64, help="images, of random pixels")
    add("--beta", type=float, default=0.7, help="weight of the KL; not 1, so that it shows")
    add("--seed", type=natural, default=0, help="of weights, pixels and noise")
    add("--quiet", action="store_true", help="print the verdict alone")
    return parser.parse_args()


def natural(text: str) -> int:
    number = int(text) if text.isdecimal() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}")
    return number


def positive(text: str) -> int:
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("must be at least 1, not 0")
    return natural(text)


def main() -> int:
    options = parse_arguments()
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that it needs is missing
        why = str(error).splitlines()[0] if str(error) else "it cannot be imported"
        print(f"This needs PyTorch ({why}): python -m pip install torch", file=sys.stderr)
        return 2
    import numpy as np

    import npvae
    from npvae.torch_reference import compare, example, table, verdict

    vae, x, epsilon = example(
        options.hidden, options.latent_dim, options.batch_size, seed=options.seed
    )
    rows = compare(vae, x, epsilon, options.beta)
    if not options.quiet:
        sizes = "-".join(map(str, [vae.input_dim, *vae.hidden_dims, vae.latent_dim]))
        print(f"npvae {npvae.__version__}, NumPy {np.__version__}, PyTorch {torch.__version__}")
        print(f"{sizes}, {len(x)} images, beta {options.beta:g}, seed {options.seed}, float64\n")
        print(table(rows), end="\n\n")
    print(verdict(rows))
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
