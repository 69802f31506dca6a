"""Where do the pictures come from? `load_dataset` answers by name or by path.

`dataset.py` says what a dataset is. `standard.py` is the table of the published ones, whose files
`standard_files.py` finds, downloads (`download.py`) and verifies; `drawn_digits.py` draws digits of
its own, and `own_data.py` reads yours, whatever they come as. Bytes from outside are used only
after a check; every fault is a `DataError`. NumPy is imported at the first use: `--help` is quick.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npvae.core.errors import DataError, OptionError
from npvae.datasets.standard import DATASETS, STANDARD

if TYPE_CHECKING:
    from npvae.datasets.dataset import Dataset

__all__ = ["DATASETS", "Dataset", "is_path", "known_name", "load_dataset"]

AUTO = "fashion-mnist"  # what "auto" stands for
_SPELLINGS = {name.replace("-", ""): name for name in (*DATASETS, "auto")}
_SPELLINGS |= {other: name for name, about in STANDARD.items() for other in about.also}


def __getattr__(name: str) -> Any:
    if name != "Dataset":
        raise AttributeError(f"module 'npvae.datasets' has no attribute {name!r}")
    from npvae.datasets.dataset import Dataset

    return Dataset


def load_dataset(
    name: str = "auto",
    data_dir: str | Path | None = None,
    report: Callable[[str], None] | None = None,
    *,
    resize: bool = False,
    invert: bool = False,
    skip_broken: bool = False,
) -> tuple[Dataset, Dataset]:
    """Train and test set of a name in DATASETS, of "auto", or of a path to pictures of one's own.

    "auto" is Fashion-MNIST, or drawn-digits where Fashion-MNIST is neither on disk nor to be had;
    a warning says so.
    `data_dir` stands in for $NPVAE_DATA_DIR and data/. `report` gets one line at a time for people.
    Of pictures of one's own, `resize` scales other sizes to 28 x 28, `invert` makes black white,
    and `skip_broken` leaves out what cannot be read. Raises DataError; OptionError where these are
    asked for a name.
    """
    name, report = known_name(str(name)), report or (lambda line: None)
    if not is_path(name) and (resize or invert or skip_broken):
        what = " ".join(
            ["--resize"] * resize + ["--invert"] * invert + ["--skip-broken"] * skip_broken
        )
        raise OptionError(f"{what}: for pictures of your own; {name} is taken as it is published.")
    if name == "auto":
        return _load_auto(data_dir, report)
    if name == "drawn-digits":
        return _load_drawn_digits()
    if name in STANDARD:
        from npvae.datasets.standard_files import load_standard

        return load_standard(name, data_dir, report)
    if os.path.exists(os.path.expanduser(name)):
        from npvae.datasets.own_data import load_own_data
        from npvae.datasets.pixels import Intake

        return load_own_data(name, Intake(resize, invert, skip_broken, report))
    known = [*DATASETS, "auto"]
    close = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1, cutoff=0.55)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    raise DataError(
        f'there is no dataset and no file or folder called "{name}".{hint}\n'
        f"Choose {', '.join(DATASETS)}, auto, or the path of a folder of pictures or a file."
    )


def is_path(name: str) -> bool:
    """Whether this is not the name of a dataset, but the path to pictures of one's own."""
    return known_name(name) not in ("auto", *DATASETS)


def known_name(name: str) -> str:
    """The dataset that people mean by FashionMNIST, fashion_mnist, ...; a path as it is.

    A folder of that name is meant itself, unless it is torchvision's: then its files are verified.
    """
    meant = _SPELLINGS.get(re.sub("[-_. ]", "", name.lower()), name)
    path = os.path.expanduser(name)
    is_own = os.path.exists(path) and not os.path.isdir(os.path.join(path, "raw"))
    return name if is_own and name not in DATASETS else meant


def _load_auto(
    data_dir: str | Path | None, report: Callable[[str], None]
) -> tuple[Dataset, Dataset]:
    from npvae.datasets.dataset import NotAvailable
    from npvae.datasets.standard_files import load_standard

    try:
        return load_standard(AUTO, data_dir, report)
    except NotAvailable as error:
        what, first, *_ = str(error).splitlines()
        why = f" ({first.partition(': ')[2]})" if what.endswith(":") else ""  # the first mirror's
        note = f"{what.rstrip(':.')}{why}: using drawn-digits, which this program draws, instead"
        warnings.warn(note, stacklevel=3)
        return _load_drawn_digits()


def _load_drawn_digits() -> tuple[Dataset, Dataset]:
    from npvae.datasets.drawn_digits import drawn_digits

    return drawn_digits()
