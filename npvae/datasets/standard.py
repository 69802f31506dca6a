"""How do Fashion-MNIST and MNIST come in: from disk, else from a mirror, and verified either way?

Each is four IDX files, known by the SHA-256 of their uncompressed bytes: how they were compressed
and where they came from does not matter. A file that is there but wrong is an error, never a reason
to go on with something else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.datasets.dataset import Dataset, NotAvailable
from npvae.datasets.idx import idx_digest, read_images, read_labels
from npvae.datasets.paths import (
    data_folders,
    places_of_others,
    remains_if_done,
    writable_folder,
)

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Of the uncompressed files, in the order of FILES.
SHA256 = {
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
TITLES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
CLASS_NAMES = {
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "mnist": tuple("0123456789"),
}
_MAX_DOWNLOAD = 48_000_000  # bytes; gzip makes nothing longer than the 47,040,016 it holds


def load_standard(
    name: str, data_dir: str | Path | None, report: Callable[[str], None]
) -> tuple[Dataset, Dataset]:
    """Train and test of "fashion-mnist" or "mnist".

    Raises NotAvailable where it is neither on disk nor to be had, DataError for damaged files.
    """
    folders = data_folders(data_dir)
    arrays: dict[str, NDArray[np.uint8]] = {}
    source = ""
    for file in FILES:
        if found := _read_local(name, file, folders):
            arrays[file], source = found[0], f"read from {found[1]}"
    missing = [file for file in FILES if file not in arrays]
    if missing and (found_elsewhere := _read_elsewhere(name, folders, report)):
        (arrays, place), missing = found_elsewhere, []
        source = f"read from {place}"
    if missing:
        with ExitStack() as stack:
            for folder in folders:
                stack.enter_context(remains_if_done(folder / name))
            folder = writable_folder(folders, name)
            source = f"downloaded from {_download(name, missing, folder, report)}"
        for file in missing:
            arrays[file] = _read_right(name, folder / f"{file}.gz", file)
    train_images, train_labels, test_images, test_labels = (arrays[file] for file in FILES)
    return (
        Dataset(name, train_images, train_labels, CLASS_NAMES[name], source),
        Dataset(name, test_images, test_labels, CLASS_NAMES[name], source),
    )


def _read_local(name: str, file: str, folders: list[Path]) -> tuple[NDArray[np.uint8], Path] | None:
    """The array and its folder, or None where no folder has the file. Raises DataError."""
    for path in _candidates(name, file, folders):
        try:
            array, owner = _read_and_name(path, file)
            if owner == name:
                return array, path.parent
            if owner is None or path.parent.name == name:
                raise _wrong(name, path, file, owner)
        except DataError as error:
            if isinstance(error.__cause__, MemoryError | OSError):  # the file may well be right
                raise
            raise DataError(
                f"{error}\nPut the right file there, or delete it to have it downloaded anew."
            ) from error
        # Else it is the other dataset's, lying in the data folder itself: no concern of ours.
    return None


def _candidates(name: str, file: str, folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in (folder / name / file, folder / file):
            yield from _spellings(path)


def _spellings(path: Path) -> Iterator[Path]:
    """The file, compressed or not, with a dot or a dash: those that there are."""
    dotted = path.name.replace("-idx", ".idx")
    for file in (f"{path.name}.gz", path.name, f"{dotted}.gz", dotted):
        if os.path.isfile(path.with_name(file)):
            yield path.with_name(file)


def _read_elsewhere(
    name: str, folders: list[Path], report: Callable[[str], None]
) -> tuple[dict[str, NDArray[np.uint8]], Path] | None:
    """All files as Keras or torchvision have them, and where; None if neither has.

    What they have is theirs: what is wrong there is passed over, and said.
    """
    for place in places_of_others(name, folders):
        try:
            if os.path.isfile(place):
                from npvae.datasets.npz_file import read_npz

                halves = read_npz(place)
                found = [array for images, _, labels in halves for array in (images, labels)]
                arrays = dict(zip(FILES, map(_as_bytes, found), strict=True))
                for file, array in arrays.items():
                    if _owner(array, file) != name:
                        raise _wrong(name, place, file, _owner(array, file))
                return arrays, place
            paths = {file: next(_spellings(place / file), None) for file in FILES}
            present = {file: path for file, path in paths.items() if path}
            if len(present) == len(FILES):
                return {
                    file: _read_right(name, path, file) for file, path in present.items()
                }, place
        except (DataError, ValueError) as error:
            report(f"Passed over: {str(error).splitlines()[0]}")
    return None


def _as_bytes(array: NDArray[Any] | None) -> NDArray[np.uint8]:
    return np.ascontiguousarray([] if array is None else array, np.uint8)


def _download(name: str, missing: list[str], folder: Path, report: Callable[[str], None]) -> str:
    """Put the missing files into `folder`; the mirror that had them. Raises NotAvailable."""
    from npvae.datasets import download  # with Python's HTTP and TLS, which few runs need

    mirrors = list(download.MIRRORS[name])
    for file in missing:

        def check(path: Path, file: str = file) -> None:
            _read_right(name, path, file)

        urls = [f"{mirror}{file}.gz" for mirror in mirrors]
        try:
            url = download.download(urls, folder / f"{file}.gz", check, _MAX_DOWNLOAD, report)
        except NotAvailable as error:
            what = TITLES[name] + ("" if len(missing) == len(FILES) else f"'s {file}.gz")
            raise NotAvailable(
                f"{what} is not in {folder} and cannot be downloaded:\n{error}\n"
                f"Put its four files there ({FILES[0]}.gz, ...), "
                "or name their folder: --data-dir or NPVAE_DATA_DIR."
            ) from error
        # The mirror that had this file is the first to be asked for the next.
        mirrors.sort(key=lambda mirror: not url.startswith(mirror))
    return mirrors[0]


def _read_and_name(path: Path, file: str) -> tuple[NDArray[np.uint8], str | None]:
    """The array in `path`, and the dataset whose `file` it is, if any. Raises DataError."""
    read = read_images if "images" in file else read_labels
    array = read(path, max_items=60_000 if file.startswith("train") else 10_000)
    return array, _owner(array, file)


def _owner(array: NDArray[np.uint8], file: str) -> str | None:
    """The dataset whose `file` holds this array, if any."""
    digest, place = idx_digest(array), FILES.index(file)
    return next((name for name, digests in SHA256.items() if digests[place] == digest), None)


def _read_right(name: str, path: Path, file: str) -> NDArray[np.uint8]:
    """The array in `path`, which has to be this `file` of this dataset. Raises DataError."""
    array, owner = _read_and_name(path, file)
    if owner != name:
        raise _wrong(name, path, file, owner)
    return array


def _wrong(name: str, path: Path, file: str, owner: str | None) -> DataError:
    found = f"{TITLES[owner]}'s" if owner else "other bytes (the SHA-256 differs)"
    return DataError(f"{path}: expected {TITLES[name]}'s {file}, found {found}")
