"""How do the standard datasets come in: from disk, else from a mirror, and verified either way?

Each is four IDX files, known by the SHA-256 of their uncompressed bytes: how they were compressed
and where they came from does not matter. A file that is there but wrong is an error, never a reason
to go on with something else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.datasets.dataset import Dataset, NotAvailable, mismatch
from npvae.datasets.idx import idx_digest, read_images, read_labels
from npvae.datasets.paths import data_folders, remains_if_done, writable_folder
from npvae.datasets.standard import STANDARD

Bytes = NDArray[np.uint8]
Report = Callable[[str], None]

_MAX_DOWNLOAD = 48_000_000  # bytes; gzip makes nothing longer than the 47,040,016 it holds


def load_standard(
    name: str, data_dir: str | Path | None, report: Report
) -> tuple[Dataset, Dataset]:
    """Train and test of a dataset in STANDARD.

    Raises NotAvailable where it is neither on disk nor to be had, DataError for damaged files.
    """
    about, folders, source = STANDARD[name], data_folders(data_dir), ""
    arrays: dict[str, Bytes] = {}
    for file in about.files:
        if found := _read_local(name, file, folders):
            arrays[file], source = found[0], f"read from {found[1]}"
    missing = [file for file in about.files if file not in arrays]
    if missing and (elsewhere := _read_elsewhere(name, folders, report)):
        (arrays, place), missing = elsewhere, []
        source = f"read from {place}"
    if missing:
        with ExitStack() as stack:
            for folder in folders:
                stack.enter_context(remains_if_done(folder / name))
            folder = writable_folder(folders, name)
            source = f"downloaded from {_download(name, missing, folder, report)}"
        arrays |= {file: _read_right(name, folder / f"{file}.gz", file) for file in missing}
    images, labels, test_images, test_labels = (arrays[file] for file in about.files)
    return (
        Dataset(name, images, labels, about.class_names, source),
        Dataset(name, test_images, test_labels, about.class_names, source),
    )


def _read_local(name: str, file: str, folders: list[Path]) -> tuple[Bytes, Path] | None:
    """The array and its folder, or None where no folder has the file. Raises DataError."""
    places = (place / file for folder in folders for place in (folder / name, folder))
    for path in (path for place in places for path in _spellings(place)):
        try:
            array = _read(path, file)
            owner = _owner(array, file)
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


def _spellings(path: Path) -> Iterator[Path]:
    """The file, compressed or not, with a dot or a dash: those that there are."""
    dotted = path.name.replace("-idx", ".idx")
    for file in (f"{path.name}.gz", path.name, f"{dotted}.gz", dotted):
        if os.path.isfile(path.with_name(file)):
            yield path.with_name(file)


def _read_elsewhere(
    name: str, folders: list[Path], report: Report
) -> tuple[dict[str, Bytes], Path] | None:
    """All files as Keras or torchvision have them, and where; None if neither has.

    What they have is theirs: what is wrong there is passed over, and said. Of torchvision only what
    `root` was is unknown: a data folder of ours, data/ or the current one.
    """
    about = STANDARD[name]
    keras = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "datasets"
    roots = dict.fromkeys((*folders, Path("data"), Path("."))) if about.torchvision else ()
    in_torchvision = [root / about.torchvision / "raw" for root in roots]
    for place in (keras / name, keras / f"{name}.npz", *in_torchvision):
        try:
            if os.path.isfile(place):
                return _read_archive(name, place), place
            paths = {file: next(_spellings(place / file), None) for file in about.files}
            present = {file: path for file, path in paths.items() if path}
            if len(present) == len(about.files):
                arrays = {file: _read_right(name, path, file) for file, path in present.items()}
                return arrays, place
        except (DataError, ValueError) as error:
            report(f"Passed over: {str(error).splitlines()[0]}")
    return None


def _read_archive(name: str, path: Path) -> dict[str, Bytes]:
    """All arrays of an .npz of Keras. Raises DataError, ValueError."""
    from npvae.datasets.npz_file import read_npz
    from npvae.datasets.pixels import Intake

    found = [
        np.ascontiguousarray([] if array is None else array, np.uint8)
        for images, _, labels in read_npz(path, Intake())
        for array in (images, labels)
    ]
    arrays = dict(zip(STANDARD[name].files, found, strict=True))
    return {file: _checked(name, path, file, array) for file, array in arrays.items()}


def _download(name: str, missing: list[str], folder: Path, report: Report) -> str:
    """Put the missing files into `folder`; the mirror that had them. Raises NotAvailable."""
    from npvae.datasets import download  # with Python's HTTP and TLS, which few runs need

    about, mirrors = STANDARD[name], list(STANDARD[name].mirrors)
    for file in missing:

        def check(path: Path, file: str = file) -> None:
            _read_right(name, path, file)

        urls = [f"{mirror}{file}.gz" for mirror in mirrors]
        try:
            url = download.download(urls, folder / f"{file}.gz", check, _MAX_DOWNLOAD, report)
        except NotAvailable as error:
            what = about.title + ("" if len(missing) == len(about.files) else f"'s {file}.gz")
            raise NotAvailable(
                f"{what} is not in {folder} and cannot be downloaded:\n{error}\n"
                f"Put its four files there ({about.files[0]}.gz, ...), "
                "or name their folder: --data-dir or NPVAE_DATA_DIR."
            ) from error
        # The mirror that had this file is the first to be asked for the next.
        mirrors.sort(key=lambda mirror: not url.startswith(mirror))
    return mirrors[0]


def _read(path: Path, file: str) -> Bytes:
    return (read_images if "images" in file else read_labels)(path)


def _read_right(name: str, path: Path, file: str) -> Bytes:
    """The array in `path`, which has to be this `file` of this dataset. Raises DataError."""
    return _checked(name, path, file, _read(path, file))


def _checked(name: str, path: Path, file: str, array: Bytes) -> Bytes:
    if (owner := _owner(array, file)) != name:
        raise _wrong(name, path, file, owner)
    return array


def _owner(array: Bytes, file: str) -> str | None:
    """The dataset whose `file` holds this array, if any."""
    digest = idx_digest(array)
    known = ((name, about) for name, about in STANDARD.items() if file in about.files)
    return next(
        (name for name, about in known if about.sha256[about.files.index(file)] == digest), None
    )


def _wrong(name: str, path: Path, file: str, owner: str | None) -> DataError:
    found = f"{STANDARD[owner].title}'s" if owner else "other bytes (the SHA-256 differs)"
    return mismatch(path, f"{STANDARD[name].title}'s {file}", found)
