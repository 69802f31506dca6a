"""The pictures that `generate.py` draws: a row for each.

To add one, write its function in npvae/plots (see `Request` there) and add a row here. Options,
help, file names, notes about options without effect, and what comes next follow from the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

from npvae.core.option_types import number, whole_number

if TYPE_CHECKING:
    from npvae.model import VAE

Option = Callable[[Any], Any]
option: Callable[..., Option] = partial(methodcaller, "add_argument")  # takes what argparse takes


@dataclass(frozen=True)
class Mode:
    """A picture of a trained model."""

    line: str  # what it shows, in the list of modes
    draw: str = ""  # module in npvae/plots and function, imported when called; none for a page
    count: int = 0  # how many, by default, if the user may choose,
    things: str = ""  # of what
    scale: int = 3  # by default; 0 if the function chooses
    frames: str = ""  # the function that makes the frames for --animate, if there is one
    options: tuple[Option, ...] = ()  # of this mode alone: the function gets their values
    instead_of_count: str = ""  # the option that says which images are shown, if there is one
    split: bool = False  # whether it shows images of the test or of the training set
    at_random: bool = False  # whether it depends on --seed
    more: str = ""  # in its help, below the line
    question: str = ""  # that it answers, where another mode suggests it; otherwise the line
    example: str = ""  # the words that are suggested; otherwise its name
    next: str = "prior"  # the mode that it suggests,
    next_of_few: str = ""  # with one or two latents,
    next_of_conditional: str = ""  # and with a conditional model, if that is another one

    def following(self, vae: VAE) -> str:
        """The mode that comes next for this model."""
        few = self.next_of_few if vae.latent_dim <= 2 else ""
        conditional = self.next_of_conditional if vae.num_classes else ""
        return conditional or few or self.next


NUMBER = whole_number(0)
ENDS = option("index", type=NUMBER, nargs=2, metavar="N", help="from which image to which")
FIRST = "the numbers of images (default: the first --count)"
IMAGES = option("--index", type=NUMBER, nargs="+", metavar="N", help=FIRST)
IMAGE = option("--index", type=NUMBER, default=0, metavar="N", help="of the image (default: 0)")
DIGIT = option("wanted", choices=list("0123456789"), metavar="N", help="0 to 9")
CLASS = option("wanted", metavar="NAME", help="such as trouser; another word lists them all")
WANTED = partial(option, dest="wanted", default="", metavar="NAME")
AS = WANTED("--as", help="as another class, with a conditional model (default: their own)")
IN_CLASS = WANTED("--class", help="of a conditional model (default: its first class)")
EVENLY = "evenly spaced from -R to R (default: quantiles of a standard normal)"
RANGE = option("--range", dest="reach", type=number(0, above=True), metavar="R", help=EVENLY)
PICK = "images to pick: test images, the model's own draws, or none (default: test)"
EXAMPLES = option("--examples", choices=("test", "model", "none"), default="test", help=PICK)
OF_CLASS: dict[str, Any] = {
    "draw": "samples.of_class",
    "count": 30,
    "things": "samples",
    "at_random": True,
    "next": "scatter",
    "next_of_conditional": "styles",
    "more": """
A model of `train.py --conditional` draws the class that is asked for, with z from the prior. Any
other model knows no classes: the codes come from a Gaussian that is fitted to the codes of the
training images of the class. Where two classes overlap, some samples look like the other one, and a
note says so.""",
}

MODES = {
    "prior": Mode(
        "samples from the prior (the default)",
        draw="samples.prior",
        count=100,
        things="samples",
        at_random=True,
        question="what does the model make up?",
        next="reconstruct",
        next_of_few="manifold",  # it shows everything, so it comes before the single images
        next_of_conditional="styles",
    ),
    "reconstruct": Mode(
        "images and their reconstructions",
        draw="samples.reconstruct",
        count=10,
        things="images, if no --index is given",
        scale=0,
        options=(IMAGES, AS),
        instead_of_count="index",
        split=True,
        question="what does the model keep of a real image?",
        example="reconstruct --index 0",
        next="interpolate",
        more="""
The code of an image is mu, the mean of q(z | x): no noise is added. --as draws the same code as
another class: this handwriting, as a 7.""",
    ),
    "digit": Mode("samples that look like one digit", options=(DIGIT,), **OF_CLASS),
    "class": Mode("samples that look like one class", options=(CLASS,), **OF_CLASS),
    "styles": Mode(
        "one code in every class of a conditional model",
        draw="samples.styles",
        count=10,
        things="codes",
        at_random=True,
        question="does z hold the style alone?",
        next="reconstruct",
        more="Each row is one z from the prior, each column a class of a conditional model.",
    ),
    "interpolate": Mode(
        "the path from one image to another",
        draw="latent_walks.interpolate",
        frames="latent_walks.animate_interpolation",
        count=11,
        things="steps",
        options=(ENDS,),
        split=True,
        question="what lies between two images?",
        example="interpolate 0 1 --split train",
        next="traverse",
        more="""
Two paths: around the origin, through places where codes are common, and straight. --animate shows
them as a GIF.""",
    ),
    "traverse": Mode(
        "what each latent does to an image",
        draw="latent_walks.traverse",
        frames="latent_walks.animate_traversal",
        count=13,
        things="steps",
        options=(IMAGE,),
        split=True,
        question="what is each latent for?",
        example="traverse --index 0",
        next="manifold",
        next_of_few="prior",
        more="""
In each row one latent goes from -3 to 3, and the others stay at the image's mu. The row with the
greatest KL on the test images comes first: its latent tells most about an image. --animate moves
all latents at once, a tile for each.""",
    ),
    "manifold": Mode(
        "a plane of the latent space, decoded",
        draw="manifold.of_model",
        count=20,
        things="images a side",
        scale=2,
        options=(IN_CLASS, RANGE),
        question="the latent space, decoded",
        next="scatter",
        more="""
The images stand at the quantiles of a standard normal, or evenly spaced with --range. With two
latents, z0 and z1 span the plane. With more, it goes through the mean of the test images' codes
along their first two principal components, in standard deviations. With one, it is a strip.""",
    ),
    "scatter": Mode(
        "the codes of the test images, coloured by class",
        draw="latent_scatter.codes",
        count=10_000,
        things="test images at most",
        scale=1,
        question="where are the test images, and do the classes overlap?",
        next_of_few="reconstruct",
        more="With more than two latents: the plane of the first two principal components.",
    ),
    "explorer": Mode(
        "a page for the browser, to play with the model",
        options=(EXAMPLES,),
        more="""
One HTML file that holds the model itself: move its latents, draw an image and see it encoded. It
opens by a double click, and needs no network. With a conditional model you also choose the class.
Several --checkpoint give a page that switches between them. It becomes explorer.html in the folder
of the (first) checkpoint.""",
    ),
}
