"""How do further images join a training set? Only those that are not in the dataset already.

One that is in the test set would be trained on, and with --validation one that is in the training
set could be held out and trained on at once. Classes of the same name are one class.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from npvae.core.errors import DataError
from npvae.datasets import is_path, load_dataset
from npvae.datasets.dataset import Dataset
from npvae.datasets.labels import CLASSES


def load_with_extra(
    name: str,
    extra: str,
    data_dir: str | Path | None,
    report: Callable[[str], None],
    own_data: Mapping[str, bool] | None = None,
) -> tuple[Dataset, Dataset]:
    """What `load_dataset` gives for a name or path, and the training images of `extra`, if any.

    Both halves know the classes of both. `own_data` are options of `load_dataset` for the user's
    own pictures: for each of the two that is a path.
    """
    none_is_own = not (is_path(name) or (extra and is_path(extra)))

    def load(one: str) -> tuple[Dataset, Dataset]:
        given = own_data if own_data and (is_path(one) or none_is_own) else {}
        return load_dataset(one, data_dir, report, **given)

    train, test = load(name)
    if extra:
        with warnings.catch_warnings():  # the test set of `extra` is not used
            warnings.filterwarnings("ignore", ".*test pictures are in the training set")
            more = load(extra)[0]
        train = with_extra(train, test, more, report)
        test = replace(test, class_names=train.class_names)
    return train, test


def load_again(
    name: str,
    extra: str,
    data_dir: str | Path | None,
    report: Callable[[str], None],
    own_data: Mapping[str, bool],
) -> tuple[Dataset, Dataset]:
    """The same for a model that was trained on them. What was noted then is not noted again.

    Raises DataError with the way on if pictures of the user's own are not there any more.
    """
    for path, option in ((name, "--dataset"), (extra, "--extra-data")):
        if path and is_path(path) and not os.path.exists(os.path.expanduser(path)):
            raise DataError(
                f"the model was trained on {path}, which is not there any more.\n"
                f"If it has moved, name its new place with {option} NEW."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_with_extra(name, extra, data_dir, report, own_data)


def with_extra(
    train: Dataset, test: Dataset, extra: Dataset, report: Callable[[str], None]
) -> Dataset:
    """The training set with the images of `extra` added, but for those in it or in `test`.

    Classes are joined by their names; new ones come after those that `train` has.
    """
    known = {image.tobytes() for images in (train.images, test.images) for image in images}
    new = np.zeros(len(extra), bool)
    for k, image in enumerate(extra.images):
        new[k] = image.tobytes() not in known
        known.add(image.tobytes())  # or the same image once more would be new, too
    if not new.all():
        report(f"Left out of {extra.name}, being there already: {np.sum(~new):,} of its images.")
    names = [*train.class_names]
    added = [name for name in extra.class_names if name not in names]
    if added:
        names += added
        some = ", ".join(added[:12]) + ", ..." * (len(added) > 12)
        report(f"Classes that only {extra.name} has: {some}")
    if len(names) > CLASSES:
        raise DataError(
            f"{train.name} and {extra.name}: expected at most {CLASSES} classes, "
            f"found {len(names):,} together."
        )
    label_of = np.array([names.index(name) for name in extra.class_names], np.uint8)
    return replace(
        train,
        images=np.concatenate([train.images, extra.images[new]]),
        labels=np.concatenate([train.labels, label_of[extra.labels[new]]]),
        class_names=tuple(names),
        source=f"{train.source}; {np.sum(new):,} more from {extra.name}",
    )
