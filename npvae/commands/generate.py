"""Draw what a trained model makes up, and what it keeps of an image.

Each mode writes one new picture and prints its path. Pictures go into images/ beside the model, or
where --out says. Nothing is overwritten. The same command gives the same picture. `explorer` writes
a page on which you can play with the model.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from shlex import split
from typing import TYPE_CHECKING, Any

from npvae.commands import cli
from npvae.runs import terminal

if TYPE_CHECKING:
    from PIL import Image

    from npvae.runs.trained_model import TrainedModel

EXAMPLES = """examples:
  python scripts/generate.py
  python scripts/generate.py reconstruct --split train --index 0 7 9
  python scripts/generate.py class trouser --checkpoint runs/fashion-mnist-z10-001

Each mode explains its options:  python scripts/generate.py traverse --help
"""

MODES = {
    "prior": "samples from the prior (the default)",
    "reconstruct": "images and their reconstructions",
    "digit": "samples that look like one digit",
    "class": "samples that look like one class",
    "styles": "one code in every class of a conditional model",
    "interpolate": "the path from one image to another",
    "traverse": "what each latent does to an image",
    "manifold": "a plane of the latent space, decoded",
    "scatter": "the codes of the test images, coloured by class",
    "explorer": "a page for the browser, to play with the model",
}

OF_CLASS = """
A model of `train.py --conditional` draws the class that is asked for, with z from the prior. Any
other model knows no classes: the codes come from a Gaussian that is fitted to the codes of the
training images of the class. Where two classes overlap, some samples look like the other one, and a
note says so."""

MORE = {
    "prior": "",
    "reconstruct": """
The code of an image is mu, the mean of q(z | x): no noise is added. --as draws the same code as
another class: this handwriting, as a 7.""",
    "digit": OF_CLASS,
    "class": OF_CLASS,
    "styles": "\nEach row is one z from the prior, each column a class of a conditional model.",
    "interpolate": """
Two paths: around the origin, through places where codes are common, and straight. --animate shows
them as a GIF.""",
    "traverse": """
In each row one latent goes from -3 to 3, and the others stay at the image's mu. The row with the
greatest KL on the test images comes first: its latent tells most about an image. --animate moves
all latents at once, a tile for each.""",
    "manifold": """
The images stand at the quantiles of a standard normal, or evenly spaced with --range. With two
latents, z0 and z1 span the plane. With more, it goes through the mean of the test images' codes
along their first two principal components, in standard deviations. With one, it is a strip.""",
    "scatter": "\nWith more than two latents: the plane of the first two principal components.",
    "explorer": """
One HTML file that holds the model itself: move its latents, draw an image and see it encoded. It
opens by a double click, and needs no network. With a conditional model you also choose the class.
Several --checkpoint give a page that switches between them. It becomes explorer.html in the folder
of the (first) checkpoint.""",
}

TAKE_A_NAME = ("--checkpoint", "--out", "--dataset", "--data-dir")  # even if it is that of a mode

COUNTS = {
    "prior": (100, "samples"),
    "reconstruct": (10, "images, if no --index is given"),
    "digit": (30, "samples"),
    "class": (30, "samples"),
    "styles": (10, "codes"),
    "interpolate": (11, "steps"),
    "traverse": (13, "steps"),
    "manifold": (20, "images a side"),
    "scatter": (10_000, "test images at most"),
}
DRAW_AT_RANDOM = ("prior", "digit", "class", "styles")
ANIMATED = 25  # steps of an animation, if no --count is given

NEXT = {
    "prior": ("what does the model keep of a real image?", "reconstruct --index 0"),
    "reconstruct": ("what lies between two images?", "interpolate 0 1 --split train"),
    "digit": ("do the classes overlap?", "scatter"),
    "class": ("do the classes overlap?", "scatter"),
    "styles": ("what does it keep of a real image?", "reconstruct --index 0"),
    "interpolate": ("what is each latent for?", "traverse --index 0"),
    "traverse": ("a plane of the latent space, decoded", "manifold"),
    "manifold": ("where are the test images in this plane?", "scatter"),
    "scatter": ("what does the model make up?", "prior"),
}
# With one or two latents the manifold shows everything, so it comes before the single images.
NEXT_OF_FEW = {
    **NEXT,
    "prior": ("the latent space, decoded", "manifold"),
    "scatter": NEXT["prior"],
    "traverse": NEXT["scatter"],
}

DOES_Z_HOLD_STYLE = ("does z hold the style alone?", "styles")
NEXT_OF_CONDITIONAL = dict.fromkeys(("prior", "digit", "class"), DOES_Z_HOLD_STYLE)


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
    for name, line in MODES.items():
        about = f"{line[0].upper()}{line[1:]}.\n{MORE[name]}"
        options = modes.add_parser(name, help=line, description=about)
        add = options.add_argument
        if name == "digit":
            add("name", choices=list("0123456789"), metavar="N", help="0 to 9")
        elif name == "class":
            add("name", metavar="NAME", help="such as trouser; another word lists them all")
        elif name == "interpolate":
            add("index", type=number, nargs=2, metavar="N", help="from which image to which")
        elif name == "reconstruct":
            add("--index", type=number, nargs="+", metavar="N", help="the numbers of images")
            another = "draw them as another class, with a conditional model"
            add("--as", dest="name", default="", metavar="NAME", help=another)
        elif name == "traverse":
            add("--index", type=number, default=0, metavar="N", help="of the image (default: 0)")
        if name == "manifold":
            of_class = "of a conditional model (default: its first class)"
            evenly = "evenly spaced from -R to R (default: quantiles of a normal)"
            add("--class", dest="name", default="", metavar="NAME", help=of_class)
            add("--range", type=cli.number(0, above=True), metavar="R", help=evenly)
        if name in ("interpolate", "traverse"):
            add("--animate", action="store_true", help="a GIF that goes there and back")
        if name in ("interpolate", "reconstruct", "traverse"):
            add("--split", choices=("test", "train"), default="test", help="(default: test)")
        if name == "explorer":
            examples = "images to pick: test images (the default), the model's own draws, or none"
            add("--examples", choices=("test", "model", "none"), default="test", help=examples)
        add_shared(options, *COUNTS.get(name, ()))
    return parser


def add_shared(parser: cli.Parser, count: int = 0, things: str = "") -> None:
    """The options of every mode; the explorer, which counts nothing, takes several checkpoints."""
    is_page = not count
    count_help = f"{things} (default: {count})"
    data_dir = "where its files are or go (default: the same as for train)"
    model = "an .npz file, or a run's folder: its best epoch if it kept one, else its last"
    add = parser.add_argument
    add(
        "--checkpoint",
        type=cli.some_text,
        action="append" if is_page else "store",
        metavar="PATH",
        help=f"{model} (default: the newest run in runs/)",
    )
    out = "a folder, or a new file (default: the run's images/)"
    page = "a folder, or a new .html file (default: explorer.html in the run's folder)"
    add("--out", type=cli.some_text, metavar="PATH", help=page if is_page else out)
    if not is_page:
        steps = "how much larger, in whole steps"
        add("--count", type=cli.whole_number(1), metavar="N", help=count_help)
        add("--scale", type=cli.whole_number(1), metavar="N", help=steps)
    dataset = "name or path (default: what the model was trained on)"
    add("--dataset", type=cli.some_text, metavar="NAME", help=dataset)
    add("--data-dir", type=cli.some_text, metavar="FOLDER", help=data_dir)
    parser.add_own_data()
    parser.add_common()


def with_mode(arguments: Sequence[str]) -> list[str]:
    """The arguments with the mode in front, wherever it stood; prior if there was none."""
    rest = list(arguments)
    if rest and (not rest[0].startswith("-") or rest[0] in ("-h", "--help")):
        return rest
    for k, word in enumerate(rest):
        if word in MODES and rest[k - 1] not in TAKE_A_NAME:
            return [word, *rest[:k], *rest[k + 1 :]]
    return ["prior", *rest]


def draw(options: argparse.Namespace, model: TrainedModel) -> Image.Image | bytes:
    """The picture that is asked for, or the bytes of an animation."""
    import numpy as np

    from npvae.plots import latent_scatter, latent_walks, samples
    from npvae.plots.animation import there_and_back
    from npvae.plots.manifold import latent_plane, manifold, principal_plane
    from npvae.plots.validation import check_class, check_conditional, class_label, picture_name

    mode, vae, name = options.mode, model.vae, model.name
    animate = getattr(options, "animate", False)
    count = options.count or (ANIMATED if animate else COUNTS[mode][0])
    scale = options.scale or (4 if animate else 3)
    rng = np.random.default_rng(options.seed)
    if mode == "prior":
        return samples.prior(vae, rng, count, scale, name)
    if mode == "manifold":
        c = None
        if options.name:
            check_conditional(vae, "--class")
        if vae.num_classes:
            c = class_label(model.data[0], options.name) if options.name else 0
            check_class(model.data[0], c)
            name = f"{name}, class {picture_name(model.data[0], c)}"
        if vae.latent_dim <= 2:
            plane = latent_plane(vae.latent_dim)
        else:
            test = model.data[1]
            plane = principal_plane(vae, test.images, vae.classes(test.labels))
        model.report(f"plane    {plane.words}")
        return manifold(vae, plane, count, options.scale or 2, name, options.range, c)

    train, test = model.data
    if mode == "scatter":
        return latent_scatter.codes(vae, test, "test", count, options.scale or 1, name)
    if mode == "styles":
        return samples.styles(vae, train, rng, count, scale, name)
    if mode in ("digit", "class"):
        picture, warning = samples.of_class(vae, train, options.name, rng, count, scale, name)
        if warning:
            model.report(f"note     {options.name} is {warning}")
        return picture

    index = options.index
    images = test if options.split == "test" else train
    asked = vae, images, options.split
    if mode == "interpolate" and animate:
        frames = latent_walks.animate_interpolation(*asked, index, count, scale, name)
        return there_and_back(frames)
    if mode == "interpolate":
        return latent_walks.interpolate(*asked, index, count, scale, name)
    if mode == "traverse" and animate:
        frames = latent_walks.animate_traversal(*asked, index, test, count, scale, name)
        return there_and_back(frames)
    if mode == "traverse":
        return latent_walks.traverse(*asked, index, test, count, scale, name)
    index = index or range(min(count, len(images)))
    scale = options.scale or (8 if len(index) == 1 else 3)
    if options.name and vae.num_classes:
        check_class(train, class_label(train, options.name))
    return samples.reconstruct(*asked, index, scale, name, options.name)


def file_name(options: argparse.Namespace, model: TrainedModel) -> str:
    """The name of a picture's file, without its number: class-ankle-boot, or class-3."""
    from npvae.plots.axes import drawable
    from npvae.plots.validation import class_label

    words = drawable(getattr(options, "name", ""))
    if options.mode == "class" and not re.search("[A-Za-z0-9]", words):
        words = str(class_label(model.data[0], options.name))
    return re.sub("[^a-z0-9]+", "-", f"{options.mode} {words}".lower()).strip("-")


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(with_mode(arguments))
    mode = options.mode
    if mode == "reconstruct" and options.index:
        cli.note_unused(options, ("count",), "with --index, which names the images")
    cli.note_data_dir(options)
    if mode not in DRAW_AT_RANDOM:
        cli.note_unused(options, ("seed",), f"on {mode}, which draws nothing at random")
    if mode == "explorer":
        from npvae.commands.explorer import write_explorer

        write_explorer(options)
        return

    from npvae.plots.validation import numbered
    from npvae.runs.terminal import show, show_note
    from npvae.runs.trained_model import TrainedModel

    say = (lambda line: None) if options.quiet else show
    report = None if options.quiet else show_note
    model = TrainedModel(
        options.checkpoint, options.dataset, options.data_dir, report, cli.own_data(options)
    )
    say(f"model    {model.path} ({model.name})")
    picture = draw(options, model)
    path = model.save(picture, file_name(options, model), options.out)
    show(str(path) if options.quiet else f"picture  {path}")
    if not model.has_read_data:
        cli.note_unused(
            options, ("dataset", "data_dir", *cli.OWN_DATA), f"on {mode}: it needs no images"
        )
    if mode not in ("prior", "manifold") and (names := numbered(model.data[0])):
        say("names    " + ", ".join(f"#{number} is {name}" for number, name in names.items()))

    why, command = (NEXT if model.vae.latent_dim > 2 else NEXT_OF_FEW)[mode]
    if model.vae.num_classes and mode in NEXT_OF_CONDITIONAL:
        why, command = NEXT_OF_CONDITIONAL[mode]
    given = cli.given_words(options, "checkpoint", "dataset", "data_dir", *cli.OWN_DATA)
    say(f"\nNext: {why}\n  {terminal.command('generate', *split(command), *given)}")
