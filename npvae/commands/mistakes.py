"""What goes wrong in a VAE, and what sees it: list, run or guess."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from npvae.commands import cli
from npvae.commands.new_file import save_picture
from npvae.core.option_types import some_text, whole_number

EXAMPLES = """examples:
  python scripts/mistakes.py
  python scripts/mistakes.py exp-log-var-as-sigma
  python scripts/mistakes.py --quiz
"""


def main(arguments: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, EXAMPLES)
    help = "run this mistake (default: list them)"
    parser.add_argument("name", nargs="?", metavar="NAME", help=help)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="run all, and print a table of them")
    what.add_argument("--quiz", action="store_true", help="see the symptoms, guess the mistake")
    number = whole_number(1)
    help = "epochs of training (default: 3)"
    parser.add_argument("--epochs", type=number, default=3, metavar="N", help=help)
    help = "train on the first N images only, for a quick look (default: all)"
    parser.add_argument("--images", type=number, metavar="N", help=help)
    help = "the picture: a .png file or a folder (default: this folder)"
    parser.add_argument("--out", type=some_text, metavar="PATH", help=help)
    parser.add_data()
    parser.add_common()
    options = parser.parse_args(arguments)
    cli.note_data_dir(options)
    if options.name and (options.all or options.quiz):
        parser.error("a NAME, --all or --quiz, only one of them")
    training = ("epochs", "images", "dataset", "data_dir", *cli.OWN_DATA)
    if options.quiz:
        parser.refuse(options, (*training, "out"), "with --quiz, which trains nothing")
    elif options.all:
        parser.refuse(options, ("out",), "with --all, which draws no picture")
    elif not options.name:
        parser.refuse(options, (*training, "out", "seed"), "without a NAME or --all")

    from npvae.mistakes import MISTAKES

    if options.name and options.name not in MISTAKES:
        close = get_close_matches(options.name, MISTAKES, n=1)
        meant = f". Did you mean {close[0]}?" if close else f"; {parser.prog} alone lists them all"
        parser.error(f"no mistake is called {options.name!r}{meant}")

    from npvae.commands import mistakes_report as report
    from npvae.runs.terminal import command, show, show_note

    if options.quiz:
        return report.quiz(options.seed)
    if not options.name and not options.all:
        show(f"{report.listed()}\n\nNext: run one.\n  {command('mistakes', next(iter(MISTAKES)))}")
        return 0

    from npvae.datasets import load_dataset
    from npvae.settings import Settings

    say = None if options.quiet else show_note
    own_data = cli.own_data(options)
    train, test = load_dataset(options.dataset or "auto", options.data_dir, say, **own_data)
    settings = Settings(epochs=options.epochs, seed=options.seed)
    images = train.images[: options.images]
    if options.all:
        for line in report.tour_table(images, test.images, settings, test.title):
            show(line)
        return 0
    mistake = MISTAKES[options.name]
    if not options.quiet:
        show(f"{report.explained(mistake)}\n")
    text, picture = report.side_by_side(mistake, images, test.images, settings)
    path = save_picture(picture, options.out or ".", f"mistake-{mistake.name}")
    show(f"{text}\nsamples of both: {path}")
    return 0
