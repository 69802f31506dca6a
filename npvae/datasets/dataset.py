"""What is a dataset here? 28 x 28 grey pictures as bytes, their labels, and what they are called.

Pixels stay uint8 in memory (47 MB for 60,000 pictures); each batch becomes float32 in [0, 1] when
it is needed. Next: `__init__.py`, which finds a dataset by its name.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.storage.files import Damaged, brief, one_line

SIDE = 28  # every picture is SIDE x SIDE
MAX_ITEMS = 250_000  # more pictures than this in one file (196 MB as bytes) are refused


class NotAvailable(DataError):
    """A dataset that is neither on disk nor to be had."""


def mismatch(where: str | Path, expected: str, found: str, way_on: str = "") -> DataError:
    """The error for what is not as it should be: where, why, and in further lines what to do."""
    end = f".\n{way_on}" if way_on else ""
    return DataError(f"{one_line(where)}: expected {expected}, found {found}{end}")


def counted(count: int, noun: str) -> str:
    """ "1 file", "2,000 files", "3 classes"."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending * (count != 1)}"


def some(words: Iterable[str], most: int) -> str:
    """The first of many, and how many follow."""
    words = list(words)
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def in_brief(name: str) -> str:
    """A file's name, to be shown: it may be long, or meant for the terminal."""
    return name if name.isprintable() and len(name) <= 40 else brief(name)


@contextmanager
def reading(path: Path, kind: str = "") -> Iterator[None]:
    """Here a file that cannot be read becomes a DataError.

    With `kind`, so does whatever else goes wrong: the file is a broken one of this kind.
    """
    try:
        yield
    except DataError:
        raise
    except Damaged as damage:
        raise DataError(f"{one_line(path)}: {damage}.") from damage
    except MemoryError as error:
        why = "there is not enough memory for it"
        raise DataError(f"{one_line(path)}: cannot be read: {why}") from error
    except OSError as error:
        raise DataError(f"{one_line(path)}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # gzip, zipfile and the parsers of headers raise a dozen kinds
        if not kind:
            raise
        why = brief(str(error) or type(error).__name__, 100)
        raise mismatch(path, kind, f"a broken one ({why})") from error


@dataclass(frozen=True, eq=False)
class Dataset:
    """One half of a dataset, train or test."""

    name: str  # "fashion-mnist", "mnist", "drawn-digits", or the user's path
    images: NDArray[np.uint8]  # (N, 28, 28), C-contiguous, 0 black to 255 white
    labels: NDArray[np.uint8]  # (N,), indices into class_names
    class_names: tuple[str, ...]
    source: str  # for people: "read from <folder>", "drawn by this program", ...

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        counts = f"{len(self):,} images, {len(self.class_names)} classes"
        return f"Dataset({self.name!r}, {counts}, {self.source})"

    @property
    def title(self) -> str:
        """The name, as it stands above a picture: of a path its last part."""
        return Path(self.name).name


def count_known(images: NDArray[np.uint8], among: NDArray[np.uint8]) -> int:
    """How many of the images are among others, byte by byte."""
    known = {image.tobytes() for image in among}
    return sum(image.tobytes() in known for image in images)


def fingerprint(train: Dataset, test: Dataset) -> dict[str, object]:
    """What changes when any image does, or when one moves from the training to the test set."""
    digest = sha256(train.images.data)
    digest.update(test.images.data)
    counts = {"train_images": len(train), "test_images": len(test)}
    return {"sha256": digest.hexdigest(), **counts}


def fingerprint_of_labels(train: Dataset, test: Dataset) -> str:
    """What changes when the class of any image, or the name of a class, does."""
    digest = sha256(repr(train.class_names).encode())
    digest.update(train.labels.tobytes())
    digest.update(test.labels.tobytes())
    return digest.hexdigest()


def what_changed(about: Mapping[str, object], train: Dataset, test: Dataset) -> str:
    """What lacks the fingerprint that is kept in `about`: images, labels, or nothing ("").

    Only a conditional model keeps a fingerprint of the labels.
    """
    found = fingerprint(train, test)
    if found != {what: about.get(what) for what in found}:
        return "images"
    if "labels" in about and about["labels"] != fingerprint_of_labels(train, test):
        return "labels"
    return ""
