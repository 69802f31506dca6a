"""How are arrays taken out of an .npz or .npy file that may hold anything?

An .npz is a zip of .npy files. `halves.py` knows the usual names: `images` [, `labels`], x_train,
y_train, x_test, y_test, train_images, ... Each array's header is checked before anything is
allocated, nothing is unpickled, and floats are turned to bytes a block at a time.
"""

import os
import warnings
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.datasets.dataset import counted, mismatch, reading, some
from npvae.datasets.halves import Part, choose_halves, part_of_array
from npvae.datasets.labels import CLASSES, MAX_WORD, Half
from npvae.datasets.pixels import Bytes, Intake, block_size, fault, to_images
from npvae.storage.files import brief, open_plain, open_zip

_MAX_WHOLE = 1 << 29  # bytes of an array that cannot be read in blocks


def read_npz(path: Path, intake: Intake) -> list[Half]:
    """[all] or [train, test] of an .npz file. Raises DataError."""
    with reading(path, "an .npz file"), open_plain(path) as file, open_zip(file) as archive:
        names = [info.filename for info in archive.infolist()]
        if len(set(names)) < len(names):
            raise ValueError("two arrays of the same name")
        arrays = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
        parts = _parts(path, arrays)
        if unknown := [name for name in names if name not in map("{}.npy".format, parts.values())]:
            shown = some(map(brief, sorted(unknown)), 6)
            intake.notes.append(f"left out: {counted(len(unknown), 'array')} ({shown})")
        halves = {half: half for half, role in parts if role == "images"}
        return [
            _read_half(path, archive, parts, half, intake)
            for half in choose_halves(path, halves, intake.notes)
        ]


def read_npy(path: Path, intake: Intake) -> list[Half]:
    """[all] of an .npy file. Raises DataError."""
    with reading(path, "an .npy file"), open_plain(path) as file:
        images = _read_images(str(path), file, os.fstat(file.fileno()).st_size, intake)
    return [(images, str(path), None)]


def _parts(path: Path, arrays: list[str]) -> dict[Part, str]:
    """The array of each part. Raises DataError unless there are images, and in one array only."""
    parts: dict[Part, str] = {}
    for name in sorted(arrays):
        part = part_of_array(name)
        if part in parts:
            raise _ambiguous(path, parts[part], name)
        if part:
            parts[part] = name
    halves = [half for half, role in parts if role == "images"]
    if "" in halves and len(halves) > 1:
        other = next(half for half in ("train", *halves) if half in halves and half)
        raise _ambiguous(path, parts["", "images"], parts[other, "images"])
    if halves:
        return parts
    raise mismatch(
        path,
        "arrays `images` [and `labels`], or x_train, y_train, x_test, y_test",
        some(map(brief, sorted(arrays)), 6) or "none",
        "Save them under these names:  np.savez('own.npz', images=..., labels=...)",
    )


def _ambiguous(path: Path, one: str, other: str) -> DataError:
    both = f"{brief(one)} and {brief(other)}"
    return mismatch(path, "pictures or labels in one array", both, "Save the file without one.")


def _read_half(
    path: Path, archive: zipfile.ZipFile, parts: dict[Part, str], half: str, intake: Intake
) -> Half:
    name, labels_name = parts[half, "images"], parts.get((half, "labels"), "labels")
    where, labels_where = f"{path}, {name}", f"{path}, {labels_name}"
    with _open(where, archive, f"{name}.npy") as file:
        size = archive.getinfo(f"{name}.npy").file_size
        images = _read_images(where, file, size, intake)
    if (half, "labels") not in parts:
        return images, labels_where, None
    with _open(labels_where, archive, f"{labels_name}.npy") as file:
        size = archive.getinfo(f"{labels_name}.npy").file_size
        return images, labels_where, _read_labels(labels_where, file, size, len(images))


def _read_images(where: str, file: IO[bytes], size: int, intake: Intake) -> Bytes:
    shape, dtype, fortran = _read_header(where, file, size)

    def blocks() -> Iterator[NDArray[Any]]:
        if fortran and prod(shape) * dtype.itemsize > _MAX_WHOLE:
            raise fault(where, "rows first", "Fortran order", "np.ascontiguousarray(x)")
        whole = _read_array(file, shape[::-1], dtype).T if fortran else None
        at_once = block_size(shape)
        for start in range(0, shape[0], at_once):
            count = min(at_once, shape[0] - start)
            if whole is None:
                yield _read_array(file, (count, *shape[1:]), dtype)
            else:
                yield np.ascontiguousarray(whole[start : start + count])

    return to_images(where, shape, dtype, blocks(), intake)


def _read_labels(where: str, file: IO[bytes], size: int, count: int) -> NDArray[Any]:
    shape, dtype, fortran = _read_header(where, file, size, are_labels=True)
    is_word = dtype.kind in "SU" and 1 <= dtype.itemsize <= 4 * MAX_WORD
    fits = 1 <= prod(shape) <= CLASSES * count and prod(shape) * dtype.itemsize <= _MAX_WHOLE
    if not fits or not (is_word or dtype.kind in "buif"):
        raise fault(
            where,
            f"numbers, or words of at most {MAX_WORD} letters, one for each of {count:,} pictures",
            f"{dtype}, {shape}",
        )
    return _read_array(file, shape[::-1], dtype).T if fortran else _read_array(file, shape, dtype)


def _open(where: str, archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    # The other methods of compression have no limit on what a few bytes may turn into.
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise fault(where, "a stored or deflated array", "another kind of compression")
    return archive.open(member)


def _read_header(
    where: str, file: IO[bytes], size: int, are_labels: bool = False
) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape, dtype and whether columns come first, once they agree with the size of the file."""
    if np.lib.format.read_magic(file) != (1, 0):  # later versions may have headers of gigabytes
        raise fault(where, "a plain array (.npy version 1.0)", "another version")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files of Python 2 are none the worse for it
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.char == "O":
        objects = "Python objects, which may hold code (np.load: allow_pickle=True)"
        change = "x.astype(str)" if are_labels else "np.stack(x)"
        raise fault(where, "numbers or words", objects, change)
    if dtype.hasobject or not shape or min(shape) < 0:
        raise fault(where, "an array of numbers", f"{dtype}, {shape}")
    expected, found = prod(shape) * dtype.itemsize, size - file.tell()
    if expected != found:
        raise fault(where, f"{expected:,} bytes for {dtype}, {shape}", f"{found:,}")
    return shape, dtype, fortran_order


def _read_array(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    data = file.read(prod(shape) * dtype.itemsize)  # zipfile checks the sum with the last bytes
    return np.frombuffer(data, dtype).reshape(shape)
