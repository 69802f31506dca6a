"""How do further images join a training set? Only those that are not in the dataset already.

One that is in the test set would be trained on, and with --validation one that is in the training
set could be held out and trained on at once.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from npvae.datasets import load_dataset
from npvae.datasets.dataset import Dataset


def load_with_extra(
    name: str, extra: str, data_dir: str | Path | None, report: Callable[[str], None]
) -> tuple[Dataset, Dataset]:
    """What `load_dataset` gives for a name or path, and the training images of `extra`, if any."""
    train, test = load_dataset(name, data_dir, report)
    if extra:
        train = with_extra(train, test, load_dataset(extra, data_dir, report)[0], report)
    return train, test


def with_extra(
    train: Dataset, test: Dataset, extra: Dataset, report: Callable[[str], None]
) -> Dataset:
    """The training set with the images of `extra` added, but for those in it or in `test`.

    Labels of added images keep the meaning that they have in `extra`.
    """
    known = {image.tobytes() for images in (train.images, test.images) for image in images}
    new = np.zeros(len(extra), bool)
    for k, image in enumerate(extra.images):
        new[k] = image.tobytes() not in known
        known.add(image.tobytes())  # or the same image once more would be new, too
    if not new.all():
        report(f"Left out of {extra.name}, being there already: {np.sum(~new):,} of its images.")
    return replace(
        train,
        images=np.concatenate([train.images, extra.images[new]]),
        labels=np.concatenate([train.labels, extra.labels[new]]),
        source=f"{train.source}; {np.sum(new):,} more from {extra.name}",
    )
