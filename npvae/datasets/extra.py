"""How do further images join a training set? They must not be those that it is tested on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from npvae.datasets.dataset import Dataset


def with_extra(
    train: Dataset, test: Dataset, extra: Dataset, report: Callable[[str], None]
) -> Dataset:
    """The training set with the images of `extra` added, but for those that stand in `test`.

    Labels of added images keep the meaning that they have in `extra`.
    """
    tested_on = {image.tobytes() for image in test.images}
    new = np.array([image.tobytes() not in tested_on for image in extra.images], bool)
    if not new.all():
        report(f"Left out of {extra.name}, being in the test set: {np.sum(~new):,} of its images.")
    return replace(
        train,
        images=np.concatenate([train.images, extra.images[new]]),
        labels=np.concatenate([train.labels, extra.labels[new]]),
        source=f"{train.source}; {np.sum(new):,} more from {extra.name}",
    )
