"""Look into a trained model: pictures of what it sees and of what it makes up.

Each mode writes one new PNG, into images/ beside the model unless --out says otherwise, and prints
its path. Nothing is overwritten. The same command gives the same picture.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

from npvae import cli

if TYPE_CHECKING:
    from PIL import Image

    from npvae.trained import Trained

EXAMPLES = """examples:
  python scripts/generate.py
  python scripts/generate.py reconstruct --split train --index 0 7 9
  python scripts/generate.py class trouser --checkpoint runs/fashion-mnist-z10-001

Every mode tells its options:  python scripts/generate.py traverse --help
"""

NOT_CONDITIONAL = """
The model itself is not conditional: it was never told a class and cannot be asked for one.
In its place stands a Gaussian, fitted to the codes of the training images of the class. What
is drawn from it mostly looks right; where two classes overlap, some draws look like the other."""


class Mode(NamedTuple):
    """What a mode does; how many of what it draws; which mode to try next, to see what."""

    line: str
    count: int
    things: str
    next: str
    why: str
    more: str = ""


MODES = {
    "prior": Mode(
        *("draws from the prior (the default)", 100, "draws"),
        *("reconstruct --index 7", "what does it keep of a real image?"),
    ),
    "reconstruct": Mode(
        *("images beside what is decoded from their codes", 10, "images, if no --index is given"),
        *("interpolate 0 1", "what lies between two images?"),
        more="\nThe code of an image is mu, the mean of q(z | x): nothing is random here.",
    ),
    "digit": Mode(
        *("draws that look like one digit", 30, "draws"),
        *("scatter", "has each class a place of its own?", NOT_CONDITIONAL),
    ),
    "class": Mode(
        *("draws that look like one class", 30, "draws"),
        *("scatter", "has each class a place of its own?", NOT_CONDITIONAL),
    ),
    "interpolate": Mode(
        *(
            "from one image to another",
            11,
            "steps",
            "traverse --index 7",
            "what is each latent for?",
        ),
        more="\nTwo ways: around the origin, through places where codes are common, and straight.",
    ),
    "traverse": Mode(
        *("what each latent does to an image", 13, "steps"),
        *("manifold", "the space of codes, decoded"),
        more="""
A row for each latent: it goes from -3 to 3, the others stay at the image's mu. The rows are
ordered by KL on the test images, in nats: how much the latent tells about an image.""",
    ),
    "manifold": Mode(
        *("the plane of codes, decoded", 20, "images a side"),
        *("scatter", "the same space, with the test images in it"),
        more="""
The images are spaced by the quantiles of the prior. With more than two latents it is the plane of
the two with the greatest KL on the test images, all others 0; with one latent, a strip.""",
    ),
    "scatter": Mode(
        *("the codes of the test images, coloured by class", 10_000, "test images at most"),
        *("prior", "what does it make up on its own?"),
        more="\nWith more than two latents: in the plane of their greatest variance (PCA).",
    ),
}


class ModeParser(cli.Parser):
    """The options of one mode."""

    def __init__(self, prog: str, description: str, **rest: Any) -> None:
        super().__init__(description)
        self.prog = prog


def parser() -> cli.Parser:
    parser = cli.Parser(__doc__, EXAMPLES)
    modes = parser.add_subparsers(
        dest="mode", metavar="MODE", required=True, parser_class=ModeParser
    )
    number = cli.whole_number(0)
    for name, mode in MODES.items():
        about = f"{mode.line[0].upper()}{mode.line[1:]}.\n{mode.more}"
        options = modes.add_parser(name, help=mode.line, description=about)
        add = options.add_argument
        if name == "digit":
            add("name", choices=list("0123456789"), metavar="N", help="0 to 9")
        elif name == "class":
            add("name", metavar="NAME", help="such as trouser; another word lists them all")
        elif name == "interpolate":
            add("index", type=number, nargs=2, metavar="N", help="from which image to which")
        elif name == "reconstruct":
            add("--index", type=number, nargs="+", metavar="N", help="the numbers of images")
        elif name == "traverse":
            add("--index", type=number, default=0, metavar="N", help="of the image (default: 0)")
        if name in ("interpolate", "reconstruct", "traverse"):
            add("--split", choices=("test", "train"), default="test", help="(default: test)")
        add_shared(options, mode)
    return parser


def add_shared(parser: cli.Parser, mode: Mode) -> None:
    """The options of every mode."""
    count = f"{mode.things} (default: {mode.count})"
    data_dir = "where its files are or go (default: $NPVAE_DATA_DIR, else data/)"
    model = "an .npz file, or a run's folder: its best epoch if it kept one, else its last"
    add = parser.add_argument
    add("--checkpoint", metavar="PATH", help=f"{model} (default: the newest run in runs/)")
    add("--out", metavar="PATH", help="a folder, or a new .png file (default: the run's images/)")
    add("--count", type=cli.whole_number(1), default=mode.count, metavar="N", help=count)
    add("--scale", type=cli.whole_number(1), metavar="N", help="how much larger, in whole steps")
    add("--dataset", metavar="NAME", help="name or path (default: what the model was trained on)")
    add("--data-dir", metavar="FOLDER", help=data_dir)
    parser.add_common()


def with_mode(arguments: Sequence[str]) -> list[str]:
    """The arguments with the mode in front, wherever it stood; prior if there was none."""
    rest = list(arguments)
    if rest and (not rest[0].startswith("-") or rest[0] in ("-h", "--help")):
        return rest
    mode = next((argument for argument in rest if argument in MODES), None)
    if mode is None:
        return ["prior", *rest]
    rest.remove(mode)
    return [mode, *rest]


def draw(options: argparse.Namespace, model: Trained) -> Image.Image:
    """The picture that is asked for."""
    import numpy as np

    from npvae import generation, planes

    mode, vae, count, scale = options.mode, model.vae, options.count, options.scale or 3
    rng = np.random.default_rng(options.seed)
    if mode == "prior":
        return generation.prior(vae, rng, count, scale, model.name)
    if mode == "manifold":
        plane: Sequence[int] = range(vae.latent_dim)
        if len(plane) > 2:
            plane = planes.most_active(vae, model.data[1].images)[:2]
            model.report(f"plane    z{plane[0]} and z{plane[1]}, which tell most; all others are 0")
        return planes.manifold(vae, plane, count, options.scale or 2, model.name)

    train, test = model.data
    if mode == "scatter":
        return planes.codes(vae, test, count, options.scale or 1, model.name)
    if mode in ("digit", "class"):
        return generation.of_class(vae, train, options.name, rng, count, scale, model.name)

    split, index = options.split, options.index
    images = test if split == "test" else train
    if mode == "interpolate":
        return generation.interpolate(vae, images, split, index, count, scale)
    if mode == "traverse":
        return generation.traverse(vae, images, split, index, test.images, count, scale)
    index = index or range(min(count, len(images)))
    scale = options.scale or (8 if len(index) == 1 else 3)
    return generation.reconstruct(vae, images, split, index, scale)


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(with_mode(arguments))

    from npvae.trained import Trained

    say = (lambda line: None) if options.quiet else print
    model = Trained(options.checkpoint, options.dataset, options.data_dir, say)
    say(f"model    {model.path} ({model.name})")
    picture = draw(options, model)
    name = re.sub("[^a-z0-9]+", "-", f"{options.mode} {getattr(options, 'name', '')}".lower())
    path = model.save(picture, name.strip("-"), options.out)
    print(path if options.quiet else f"picture  {path}")

    mode = MODES[options.mode]
    given = f" --checkpoint {quote(options.checkpoint)}" if options.checkpoint else ""
    say(f"\nNext: {mode.why}\n  python scripts/generate.py {mode.next}{given}")


if __name__ == "__main__":
    cli.run(main)
