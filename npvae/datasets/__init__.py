"""Where do the pictures come from? `load_dataset` answers by name or by path.

`dataset.py` says what a dataset is. `standard.py` finds, downloads (`download.py`) and verifies
Fashion-MNIST and MNIST, whose files `idx.py` reads; `drawn_digits.py` draws digits of its own, and
`image_folder.py` and `npz_file.py` read yours. Bytes from outside are used only after a check;
every fault is a `DataError`.
"""

import difflib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from npvae.core.errors import DataError
from npvae.datasets.dataset import Dataset, NotAvailable

__all__ = ["DATASETS", "Dataset", "load_dataset"]

DATASETS = ("fashion-mnist", "mnist", "drawn-digits")


def load_dataset(
    name: str = "auto",
    data_dir: str | Path | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Dataset, Dataset]:
    """Train and test set of a name in DATASETS, of "auto", or of a path to pictures of one's own.

    "auto" is Fashion-MNIST, or drawn-digits where Fashion-MNIST is neither on disk nor to be had;
    a warning says so.
    `data_dir` stands in for $NPVAE_DATA_DIR and data/. `report` gets one line at a time for people.
    Raises DataError.
    """
    name, report = str(name), report or (lambda line: None)
    if name == "auto":
        return _load_auto(data_dir, report)
    if name == "drawn-digits":
        return _load_drawn_digits()
    if name in DATASETS:
        from npvae.datasets.standard import load_standard

        return load_standard(name, data_dir, report)
    if os.path.exists(os.path.expanduser(name)):
        from npvae.datasets.image_folder import load_image_folder

        return load_image_folder(name, report)
    close = difflib.get_close_matches(name.lower().replace("_", "-"), [*DATASETS, "auto"], n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    raise DataError(
        f'There is no dataset and no file or folder called "{name}".{hint}\n'
        f"Choose {', '.join(DATASETS)}, auto, or the path of an .npz file or a folder of pictures."
    )


def _load_auto(
    data_dir: str | Path | None, report: Callable[[str], None]
) -> tuple[Dataset, Dataset]:
    from npvae.datasets.standard import load_standard

    try:
        return load_standard("fashion-mnist", data_dir, report)
    except NotAvailable as error:
        what, first, *_ = str(error).splitlines()
        why = f" ({first.partition(': ')[2]})" if what.endswith(":") else ""  # the first mirror's
        note = f"{what.rstrip(':.')}{why}: using drawn-digits, which this program draws, instead"
        warnings.warn(note, stacklevel=3)
        return _load_drawn_digits()


def _load_drawn_digits() -> tuple[Dataset, Dataset]:
    from npvae.datasets.drawn_digits import drawn_digits

    return drawn_digits()
