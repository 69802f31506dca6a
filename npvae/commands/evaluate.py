"""What is a trained model worth? Losses, a bound on the likelihood, and what each latent does."""

from __future__ import annotations

import json
from collections.abc import Sequence

from npvae.commands import cli
from npvae.runs import terminal

EXAMPLES = """examples:
  python scripts/evaluate.py
  python scripts/evaluate.py --checkpoint runs/mnist-z10-001 --samples 500 --json
"""


def main(arguments: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--checkpoint",
        type=cli.some_text,
        metavar="PATH",
        help="a checkpoint file or a run directory (default: the newest run)",
    )
    parser.add_data("the dataset the model was trained on")
    parser.add_argument(
        "--samples",
        type=cli.whole_number(1),
        default=100,
        metavar="K",
        help="draws per image for the importance-weighted bound on log p(x) (default: 100)",
    )
    parser.add_argument(
        "--images",
        type=cli.whole_number(1),
        default=1000,
        metavar="N",
        help="compute this bound for the first N test images (default: 1000)",
    )
    parser.add_argument(
        "--binarize",
        action="store_true",
        help="make each pixel black or white at random, white with its grey value as probability",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    parser.add_common()
    options = parser.parse_args(arguments)
    cli.note_data_dir(options)

    from npvae.commands.evaluation_report import beside_training, evaluation_report, table
    from npvae.runs.terminal import show, show_note
    from npvae.runs.trained_model import TrainedModel

    silent = options.quiet or options.json
    report_to, own_data = None if silent else show_note, cli.own_data(options)
    trained = TrainedModel(
        options.checkpoint, options.dataset, options.data_dir, report_to, own_data
    )
    train, test = trained.data
    if options.binarize and report_to and not ((test.images > 0) & (test.images < 255)).any():
        report_to("note     all pixels are black or white already: --binarize changes nothing")
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
        which = cli.given_words(options, "checkpoint", "dataset", "data_dir", *cli.OWN_DATA)
        index = min(7, len(test) - 1)
        following = terminal.command("generate", "traverse", "--index", index, *which)
        show(f"\nNext: what does each latent mean?\n  {following}")
