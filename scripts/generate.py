"""Look into a trained model: pictures of what it sees and of what it makes up.

Each mode writes one PNG, into images/ beside the model unless --out says otherwise, prints its path,
and never overwrites a file. Equal seeds give equal pictures.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from npvae import cli

if TYPE_CHECKING:
    from PIL import Image

    from npvae.trained import Trained

EXAMPLES = """examples:
  python scripts/generate.py
  python scripts/generate.py reconstruct --split train --index 0 7 9
  python scripts/generate.py class trouser --checkpoint runs/fashion-mnist-z10-001
  python scripts/generate.py traverse --index 7 --scale 4

Each mode has options of its own:  python scripts/generate.py traverse --help
Every mode has --checkpoint, --out, --count, --scale, --seed, --dataset, --data-dir, --quiet, --debug.
"""

NOT_CONDITIONAL = """The model itself is not conditional: it was never told a class and cannot be asked for one. What
stands in is a Gaussian, fitted to the codes of the training images of that class: codes drawn from
it mostly decode to that class, but where classes overlap some draws look like a neighbour."""

ABOUT = {  # of each mode: in one line, and what more there is to know
    "prior": ("draws from the prior: what the model makes up (the mode if none is named)", ""),
    "reconstruct": (
        "images, encoded and decoded",
        "The code of an image is the mean mu of q(z | x); nothing is random here.",
    ),
    "digit": ("draws that look like a digit: digit 4", NOT_CONDITIONAL),
    "class": ("draws that look like a class: class trouser", NOT_CONDITIONAL),
    "interpolate": (
        "from one image to another through the space of codes: interpolate 3 8",
        "Two ways: spherical, around the origin at the distance where codes are common, and straight.",
    ),
    "traverse": (
        "what each latent does to an image",
        "One row for each latent, from -3 to 3, the others held at the image's mu. Rows are ordered\n"
        "by the latent's KL divergence, averaged over the test images: how much it tells of an image.",
    ),
    "manifold": (
        "the plane of codes as the decoder sees it",
        "Spaced by the quantiles of the prior. With more than two latents: the plane of the two with\n"
        "the greatest KL divergence on the test images, all others 0.",
    ),
    "scatter": (
        "where the test images lie in the plane of codes, by class",
        "With more than two latents: the plane of their greatest variance (PCA).",
    ),
}

NEXT = {
    "prior": ("reconstruct --index 7", "what does it keep of a real image?"),
    "reconstruct": ("interpolate 0 1", "what lies between two images?"),
    "digit": ("scatter", "has each class a place of its own?"),
    "class": ("scatter", "has each class a place of its own?"),
    "interpolate": ("traverse --index 7", "what is each latent for?"),
    "traverse": ("manifold", "the plane of codes, decoded"),
    "manifold": ("scatter", "the plane of codes, encoded"),
    "scatter": ("prior", "what does it make up on its own?"),
}

COUNTS = {
    "prior": (100, "draws"),
    "reconstruct": (10, "images, where no --index is given"),
    "digit": (30, "draws"),
    "class": (30, "draws"),
    "interpolate": (11, "steps"),
    "traverse": (13, "steps"),
    "manifold": (20, "images a side"),
    "scatter": (10_000, "test images at most"),
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
    index = cli.whole_number(0)
    for mode, (line, more) in ABOUT.items():
        words = f"{line[0].upper()}{line[1:]}.\n\n{more}".strip()
        mode_parser = modes.add_parser(mode, help=line, description=words)
        add = mode_parser.add_argument
        if mode == "reconstruct":
            add("--index", type=index, nargs="+", metavar="N", help="the images (default: 0 to 9)")
        elif mode == "traverse":
            add("--index", type=index, default=0, metavar="N", help="the image (default: 0)")
        elif mode == "interpolate":
            add("ends", type=index, nargs=2, metavar=("A", "B"), help="the numbers of two images")
        elif mode == "digit":
            add("name", type=digit, metavar="N", help="the digit, 0 to 9")
        elif mode == "class":
            add("name", metavar="NAME", help="the class, such as trouser")
        if mode in ("reconstruct", "traverse", "interpolate"):
            add("--split", choices=("test", "train"), default="test", help="(default: test)")
        add_shared(mode_parser, *COUNTS[mode])
    return parser


def add_shared(parser: cli.Parser, count: int, things: str) -> None:
    """The options of every mode."""
    add = parser.add_argument
    add(
        "--checkpoint",
        metavar="PATH",
        help="an .npz file, or the folder of a run: its best.npz if there is one, else last.npz "
        "(default: the newest run in runs/)",
    )
    add(
        "--out",
        metavar="PATH",
        help="a new .png file, or a folder (default: images/ beside the checkpoint)",
    )
    add("--count", type=cli.whole_number(1), default=count, help=f"{things} (default: {count})")
    add("--scale", type=cli.whole_number(1), help="pixels to a side for each pixel of an image")
    add("--dataset", metavar="NAME", help="name or path (default: what the model was trained on)")
    add(
        "--data-dir",
        metavar="FOLDER",
        help="where the dataset's files are or go (default: $NPVAE_DATA_DIR, else data/)",
    )
    parser.add_common()


def digit(text: str) -> str:
    """An option's type: the name of a digit."""
    if text not in tuple("0123456789"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a digit, 0 to 9")
    return text


def with_mode(arguments: Sequence[str]) -> list[str]:
    """The arguments with the mode in front, wherever it stands; prior if there is none."""
    if arguments and (not arguments[0].startswith("-") or arguments[0] in ("-h", "--help")):
        return list(arguments)
    mode = next((argument for argument in arguments if argument in ABOUT), "prior")
    rest = list(arguments)
    if mode in rest:
        rest.remove(mode)
    return [mode, *rest]


def draw(options: argparse.Namespace, model: Trained) -> Image.Image:
    """The picture that the options ask for."""
    import numpy as np

    from npvae import generation

    vae, count, scale, title = model.vae, options.count, options.scale or 3, model.name
    rng = np.random.default_rng(options.seed)
    if options.mode == "prior":
        return generation.prior(vae, rng, count, scale, title)
    if options.mode == "manifold":
        plane: Sequence[int] = range(vae.latent_dim)
        if len(plane) > 2:
            plane = generation.most_active(vae, model.data[1].images)[:2]
            model.report(f"plane    z{plane[0]} and z{plane[1]}, the two with the greatest KL")
        return generation.manifold(vae, plane, count, options.scale or 2, title)

    train, test = model.data
    if options.mode == "scatter":
        return generation.codes(vae, test, count, options.scale or 1, title)
    if options.mode in ("digit", "class"):
        return generation.of_class(vae, train, options.name, rng, count, scale, title)

    images, split = (train if options.split == "train" else test), options.split
    if options.mode == "reconstruct":
        indices = options.index or range(min(count, len(images)))
        scale = options.scale or (8 if len(indices) == 1 else 3)
        return generation.reconstruct(vae, images, split, indices, scale)
    if options.mode == "interpolate":
        return generation.interpolate(vae, images, split, options.ends, count, scale)
    return generation.traverse(vae, images, split, options.index, test.images, count, scale)


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(with_mode(arguments))

    from npvae.trained import Trained

    say = (lambda text: None) if options.quiet else print
    model = Trained(options.checkpoint, options.dataset, options.data_dir, say)
    say(f"model    {model.path} ({model.name})")
    picture = draw(options, model)
    name = re.sub("[^a-z0-9]+", "-", f"{options.mode} {getattr(options, 'name', '')}".lower())
    path = model.save(picture, name.strip("-"), options.out)
    print(path if options.quiet else f"picture  {path}")
    command, why = NEXT[options.mode]
    given = f" --checkpoint {quote(options.checkpoint)}" if options.checkpoint else ""
    say(f"\nNext:\n  python scripts/generate.py {command}{given}    {why}")


if __name__ == "__main__":
    cli.run(main)
