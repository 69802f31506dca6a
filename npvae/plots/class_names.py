"""What is a class called in a picture, and which class is meant by a name?

The names come from the dataset, in any language. Next: request.py.
"""

from __future__ import annotations

import unicodedata

from npvae.core.errors import DataError, OptionError
from npvae.datasets import Dataset
from npvae.plots.axes import drawable


def class_label(dataset: Dataset, name: str) -> int:
    """The label of the class with this name, in any case. OptionError if there is none.

    A part of a name will do if no other name has it: "boot" for "Ankle boot". A class whose name
    cannot be drawn may be called by the number that stands for it in pictures.
    """
    name = unicodedata.normalize("NFC", name)
    if name in dataset.class_names:
        return dataset.class_names.index(name)
    names = [known.lower() for known in dataset.class_names]
    if name.lower() in names:
        return names.index(name.lower())
    if name in numbered(dataset):
        return int(name)
    having_it = [label for label, known in enumerate(names) if name.lower() in known]
    if len(having_it) == 1 and not name.isdecimal():
        return having_it[0]
    digits = not name.isdecimal() or any(known.isdecimal() for known in names)
    no_digits = "" if digits else f"{dataset.name} does not show digits: "
    raise OptionError(
        f'{no_digits}there is no class "{name}" in {dataset.name}.\n'
        f"Its classes: {', '.join(dataset.class_names)}."
    )


def class_name(dataset: Dataset, index: int) -> str:
    """The class of image `index`, short enough for a picture: "class 9" or "Ankle boot"."""
    name = picture_name(dataset, int(dataset.labels[index]))
    return f"class {name}" if name.isdecimal() else name


def picture_name(dataset: Dataset, label: int) -> str:
    """The name of a class, where the font has its letters; else "#3", or "#3: carres" of carrés."""
    name = dataset.class_names[label]
    plain = drawable(name)
    if plain == name:
        return shortened(name)
    return f"#{label}" if "?" in plain else shortened(f"#{label}: {plain}")


def numbered(dataset: Dataset) -> dict[str, str]:
    """The classes whose names the font cannot draw: the numbers drawn instead, and the names."""
    names = enumerate(dataset.class_names)
    return {str(label): name for label, name in names if drawable(name) != name}


def explanation(dataset: Dataset) -> str:
    """What a number in a picture means; "" if all names of classes can be drawn."""
    number = next(iter(numbered(dataset)), "")
    return f"#{number} is class {number}: this font lacks letters of its name." if number else ""


def shortened(name: str) -> str:
    """A name of at most 24 characters: a longer one would crowd out the picture."""
    return name if len(name) <= 24 else f"{name[:21]}..."


def check_class(train: Dataset, label: int) -> None:
    """Raise DataError if no training image has this class: a model knows nothing of it."""
    if not (train.labels == label).any():
        name = shortened(train.class_names[label])
        raise DataError(f"no training image of {train.name} has the class {name}.")
