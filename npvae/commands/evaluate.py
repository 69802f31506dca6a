"""What is a model worth? Losses, a bound on log p(x), latents."""

from __future__ import annotations

import json
from collections.abc import Sequence

from npvae.commands import cli
from npvae.commands.model_options import add_model, asked_models, given_again
from npvae.commands.new_file import show_next
from npvae.core.option_types import whole_number

EXAMPLES = """examples:
  python scripts/evaluate.py
  python scripts/evaluate.py --checkpoint runs/mine --samples 500 --json
"""


def main(arguments: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, EXAMPLES)
    add, number = parser.add_argument, whole_number(1)
    add_model(parser)
    help = "draws per image for the importance-weighted bound on log p(x) (default: 100)"
    add("--samples", type=number, default=100, metavar="K", help=help)
    help = "compute this bound for the first N test images (default: 1000)"
    add("--images", type=number, default=1000, metavar="N", help=help)
    help = "make each pixel black or white at random, white with its grey value as probability"
    add("--binarize", action="store_true", help=help)
    add("--json", action="store_true", help="print JSON, for other programs")
    parser.add_common()
    options = parser.parse_args(arguments)
    cli.note_data_dir(options)

    from npvae.commands.evaluation_report import beside_training, evaluation_report, table
    from npvae.runs.terminal import show

    (trained,) = asked_models(options, options.quiet or options.json)
    train, test = trained.data
    if options.binarize and not ((test.images > 0) & (test.images < 255)).any():
        trained.report("note     all pixels are black or white already: --binarize changes nothing")
    report = evaluation_report(
        trained.vae,
        train,
        test,
        samples=options.samples,
        bound_images=options.images,
        seed=options.seed,
        binarize=options.binarize,
    )
    report["checkpoint"] = str(trained.path)
    if options.json:
        print(json.dumps(report, indent=2))
        return
    show(f"model    {trained.path} ({trained.name})")
    show(table(report))
    if not options.binarize and not options.dataset:
        show(f"\n{beside_training(trained.path.name, trained.header)}")
    if not options.quiet:
        index = min(7, len(test) - 1)
        words = f"generate traverse --index {index}"
        show_next("what does each latent mean?", words, *given_again(options))
