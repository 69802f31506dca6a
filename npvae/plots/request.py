"""What is asked for: a picture of which model, from which images, how many, how large?

Every picture of `generate.py` is a function of a `Request`. It says in words what the picture
shows, and raises an OptionError that names what there is instead if something does not exist.
Next: samples.py, which makes the first pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import OptionError
from npvae.core.parameters import Array
from npvae.datasets import Dataset
from npvae.datasets.dataset import SIDE
from npvae.datasets.minibatches import Labels
from npvae.latent_space import encode_all
from npvae.model import VAE
from npvae.plots.class_names import check_class, class_label, class_name, shortened

MOST_PIXELS = 100_000_000  # of a picture; few programs show more


def model_name(dataset: str, latent_dim: int, epoch: int | None = None) -> str:
    """The model in titles: "mnist, z = 10, epoch 20"."""
    after = "" if epoch is None else f", epoch {epoch}"
    return f"{shortened(dataset)}, z = {latent_dim}{after}"


def check_size(tiles: int, scale: int) -> None:
    """Raise OptionError if that many images, enlarged by `scale`, make too large a picture."""
    pixels = tiles * (SIDE * scale) ** 2
    if pixels > MOST_PIXELS:
        raise OptionError(
            f"that picture would have {pixels / 1e6:,.0f} million pixels, and "
            f"{MOST_PIXELS / 1e6:.0f} million are the most.\nAsk for less with --count or --scale."
        )


def no_data() -> tuple[Dataset, Dataset]:
    raise ValueError("this picture shows images, and no dataset was given for it")


@dataclass(frozen=True)
class Request:
    """A picture that is asked for. `rng` is its only source of randomness."""

    vae: VAE
    name: str  # of the model, for titles: see model_name
    count: int  # of samples, steps or images
    scale: int  # pixels of the picture for a pixel of an image, across and down; 0: the default
    rng: np.random.Generator
    data: Callable[[], tuple[Dataset, Dataset]] = no_data  # training and test set, if needed
    split: str = "test"  # whose images are shown: test or train
    say: Callable[[str], None] = lambda line: None  # for what the user should know

    @property
    def images(self) -> Dataset:
        """The half of the dataset whose images are shown."""
        return self.data()[("train", "test").index(self.split)]

    def encoded(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], Array, Labels]:
        """These of its images (N, 28, 28), their codes mu (N, Z), and their classes (N,).

        The classes are None unless the model is conditional. OptionError if there is no such image.
        """
        dataset = self.images
        for index in indices:
            if not 0 <= index < len(dataset):
                raise OptionError(
                    f"there is no {self.split} image {index}: those of {dataset.name} have the "
                    f"numbers 0 to {len(dataset) - 1}."
                )
        images, labels = dataset.images[list(indices)], dataset.labels[list(indices)]
        c = self.vae.classes(labels)
        return images, encode_all(self.vae, images, labels=c)[0], c

    def known_class(self, wanted: str) -> int:
        """The label of a class that has training images. OptionError or DataError otherwise."""
        train, _ = self.data()
        label = class_label(train, wanted)
        check_class(train, label)
        return label

    def check_conditional(self, what: str) -> None:
        """Raise OptionError unless the model is given classes."""
        if not self.vae.num_classes:
            raise OptionError(
                f"{what} needs a conditional model, and this one knows no classes.\n"
                "Train one with --conditional."
            )

    def source(self) -> str:
        """ "test image", or "mnist test image" if the model's name does not say so already."""
        title = shortened(self.images.title)
        named = self.name.startswith(title)
        return f"{self.split} image" if named else f"{title} {self.split} image"

    def described(self, index: int) -> str:
        """An image in words: "test image 4 (class 9)"."""
        return f"{self.source()} {index} ({class_name(self.images, index)})"
