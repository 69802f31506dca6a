"""Draw what a model makes up, and what it keeps of an image.

Each mode writes one new picture and prints its path. Pictures go into images/
beside the model, or where --out says. Nothing is overwritten. The same command
gives the same picture. `explorer` writes a page on which you can play with the
model.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib import import_module
from textwrap import fill
from typing import TYPE_CHECKING, Any

from npvae.commands import cli
from npvae.commands.model_options import OF_DATA, add_model, asked_models, given_again
from npvae.commands.modes import MODES, Mode
from npvae.commands.new_file import save_picture, show_next
from npvae.core.option_types import some_text, whole_number

if TYPE_CHECKING:
    from PIL import Image

    from npvae.runs.trained_model import TrainedModel

EXAMPLES = """examples:
  python scripts/generate.py
  python scripts/generate.py reconstruct --split train --index 0 7 9
  python scripts/generate.py class trouser --checkpoint runs/mine

Each mode explains its options:  python scripts/generate.py traverse --help
"""
TAKE_A_NAME = ("--checkpoint", "--out", "--dataset", "--data-dir")  # even if it is that of a mode
MOVING = 25, 4  # steps and scale of an animation, by default
SCALES = "3, a single image 8"  # where the function chooses it


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
    for name, mode in MODES.items():
        about = f"{mode.line[0].upper()}{mode.line[1:]}.\n\n{fill(mode.more.strip(), 79)}".strip()
        add_options(modes.add_parser(name, help=mode.line, description=about), mode)
    return parser


def add_options(parser: cli.Parser, mode: Mode) -> None:
    """The options of a mode. A page may hold several models, and is not enlarged."""
    own = [add_own(parser).dest for add_own in mode.options]
    parser.set_defaults(own=own, split="test", animate=False, count=None)
    add, steps, factor = parser.add_argument, f"{mode.count}", f"{mode.scale or SCALES}"
    if mode.frames:
        add("--animate", action="store_true", help="a GIF that goes there and back")
        steps, factor = f"{steps}, animated {MOVING[0]}", f"{factor}, animated {MOVING[1]}"
    if mode.split:
        add("--split", choices=("test", "train"), default="test", help="(default: test)")
    add_model(parser, several=not mode.draw)
    out = "a folder, or a new file (default: the run's images/)"
    page = "a folder, or a new .html file (default: explorer.html in the run's folder)"
    add("--out", type=some_text, metavar="PATH", help=out if mode.draw else page)
    number = whole_number(1)
    if mode.count:
        add("--count", type=number, metavar="N", help=f"{mode.things} (default: {steps})")
    if mode.draw:
        add("--scale", type=number, metavar="N", help=f"how much larger (default: {factor})")
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


def draw(options: argparse.Namespace, mode: Mode, model: TrainedModel) -> Image.Image | bytes:
    """The picture that is asked for, or the bytes of an animation."""
    import numpy as np

    from npvae.plots.animation import there_and_back
    from npvae.plots.request import Request

    count, scale = MOVING if options.animate else (mode.count, mode.scale)
    request = Request(
        vae=model.vae,
        name=model.name,
        count=options.count or count,
        scale=options.scale or scale,
        rng=np.random.default_rng(options.seed),
        data=lambda: model.data,
        split=options.split,
        say=model.report,
    )
    module, _, name = (mode.frames if options.animate else mode.draw).rpartition(".")
    drawn = getattr(import_module(f"npvae.plots.{module}"), name)
    picture = drawn(request, **{name: getattr(options, name) for name in options.own})
    return there_and_back(picture) if options.animate else picture


def file_name(options: argparse.Namespace, model: TrainedModel) -> str:
    """The name of a picture's file, without its number: class-ankle-boot, or class-3."""
    from npvae.plots.axes import drawable
    from npvae.plots.class_names import class_label

    wanted = getattr(options, "wanted", "")
    words = drawable(wanted)
    if wanted and not re.search("[A-Za-z0-9]", words):
        words = str(class_label(model.data[0], wanted))
    return re.sub("[^a-z0-9]+", "-", f"{options.mode} {words}".lower()).strip("-")


def main(arguments: Sequence[str]) -> None:
    options = parser().parse_args(with_mode(arguments))
    name, mode = options.mode, MODES[options.mode]
    if mode.instead_of_count and getattr(options, mode.instead_of_count):
        where = f"with --{mode.instead_of_count}, which names the images"
        cli.note_unused(options, ("count",), where)
    cli.note_data_dir(options)
    if not mode.at_random:
        cli.note_unused(options, ("seed",), f"on {name}, which draws nothing at random")
    if not mode.draw:
        from npvae.commands.explorer import write_explorer

        return write_explorer(options)

    from npvae.plots.class_names import numbered
    from npvae.runs.terminal import show

    (model,) = asked_models(options, options.quiet)
    model.report(f"model    {model.path} ({model.name})")
    picture = draw(options, mode, model)
    folder = model.path.parent / "images"
    path = save_picture(picture, options.out or folder, file_name(options, model))
    show(str(path) if options.quiet else f"picture  {path}")
    if not model.has_read_data:
        cli.note_unused(options, OF_DATA, f"on {name}: it needs no images")
    elif names := numbered(model.data[0]):
        those = ", ".join(f"#{number} is {name}" for number, name in names.items())
        model.report(f"names    {those}")
    if not options.quiet:
        suggested = mode.following(model.vae)
        following = MODES[suggested]
        words = f"generate {following.example or suggested}"
        show_next(following.question or following.line, words, *given_again(options))
    return None
