"""Check every gradient against central differences in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from npvae.commands import cli
from npvae.commands.model_options import WHICH
from npvae.commands.new_file import save_picture
from npvae.core.errors import OptionError
from npvae.core.option_types import some_text

if TYPE_CHECKING:
    from npvae.gradcheck import Check

USAGE = """%(prog)s [-h] [--out PATH] [--seed N] [--quiet] [--debug]
           [--only TEXT | --network | --checkpoint PATH | --steps |
            --trace [{example,random}]]"""

EXAMPLES = """examples:
  python scripts/gradcheck.py --only "vae relu"
  python scripts/gradcheck.py --steps
  python scripts/gradcheck.py --trace

Exit code 1 if the largest relative error of any is above 1e-7."""


def main(arguments: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, EXAMPLES, usage=USAGE)
    what = parser.add_mutually_exclusive_group()
    help = 'check only the rows that contain this text, such as "vae relu" (default: all)'
    what.add_argument("--only", type=some_text, metavar="TEXT", help=help)
    help = "check the real 784-128-10 network along random directions, in float64"
    what.add_argument("--network", action="store_true", help=help)
    help = f"the same for a trained model: {WHICH} (default: no model)"
    what.add_argument("--checkpoint", type=some_text, metavar="PATH", help=help)
    help = "how the error depends on the step size: a table and a picture"
    what.add_argument("--steps", action="store_true", help=help)
    help = "print every value and gradient of one tiny batch: the worked example of the tour, or a "
    help += "random one (without a word: example; default: no trace)"
    kinds = ("example", "random")
    what.add_argument("--trace", nargs="?", const=kinds[0], choices=kinds, help=help)
    help = "the picture of --steps: a .png file or a folder (default: this folder)"
    parser.add_argument("--out", type=some_text, metavar="PATH", help=help)
    parser.add_common()
    options = parser.parse_args(arguments)
    if options.steps:
        return step_sizes(options.seed, options.out or ".")
    if options.out:
        parser.error("argument --out: only --steps makes a picture")
    if options.trace == "example":
        cli.note_unused(options, ("seed",), "on the worked example; --trace random draws another")
    if options.trace:
        return trace(options.trace, options.seed)

    from npvae.commands.gradcheck_report import summary, table
    from npvae.gradcheck_vae import check_everything

    if options.network or options.checkpoint:
        checks = network(options.checkpoint, options.seed, options.quiet)
    else:
        checks = list(check_everything(options.seed, options.only or ""))
    if not checks:
        raise OptionError(
            f"no row of the table contains {options.only!r}.\n"
            "Rows are called vae relu 7: encoder.mu.W, bce: logits, and so on."
        )
    print(summary(checks) if options.quiet else table(checks))
    return 0 if all(check.passed for check in checks) else 1


def network(checkpoint: str | None, seed: int, quiet: bool) -> list[Check]:
    """The real network, trained or not, along random directions."""
    import numpy as np

    from npvae.datasets.drawn_digits import drawn_digits
    from npvae.model import VAE
    from npvae.reference.directions import check_directions
    from npvae.runs.trained_model import TrainedModel

    vae = TrainedModel(checkpoint).vae if checkpoint else VAE(rng=seed)
    images, _ = drawn_digits(train=8, test=1)
    if not quiet:
        sizes = "-".join(map(str, (vae.input_dim, *vae.hidden_dims, vae.latent_dim)))
        which = "trained" if checkpoint else "not trained"
        which += f", conditional on {vae.num_classes} classes" if vae.num_classes else ""
        print(f"{sizes}, {vae.activation}, {which}: 8 drawn digits, along random directions\n")
    rng, x = np.random.default_rng(seed), images.images.reshape(8, -1) / 255
    c = vae.classes(images.labels % max(1, vae.num_classes))  # any classes will do
    return list(check_directions(vae, x, rng, c=c))


def step_sizes(seed: int, out: str) -> int:
    """The table and the picture of the error against the step size."""
    from npvae.plots.step_sizes import step_size_plot
    from npvae.reference.step_sizes import study, table
    from npvae.runs.terminal import show

    found = study(seed)
    print(table(found))
    picture = step_size_plot(found.steps, found.errors, found.truncation, found.rounding)
    path = save_picture(picture, out, "step-sizes")
    show(f"\npicture  {path}")
    return 0


def trace(which: str, seed: int) -> int:
    """One tiny batch under the lens."""
    from npvae.reference.trace import random_example, trace_lines, worked_example

    vae, x, epsilon = worked_example() if which == "example" else random_example(seed)
    print("\n".join(trace_lines(vae, x, epsilon)))
    return 0
