"""How is a trained model saved so that it is never lost and never silently wrong?

A checkpoint is a plain .npz file, which `np.load` can read:

    header                JSON text (a 0-d string array): what `save` was given, the version of
                          the format, and for each other array its dtype, shape and SHA-256
    digest                SHA-256 of the header's text
    encoder.hidden0.W     an array by its name, little-endian, in C order, not compressed
    ...                   and so on

Saving replaces the old file by a complete new one, or leaves it unchanged. Loading unpickles
nothing and allocates at most a few times the size of the file. The header must have its digest, and
each array the digest in the header. Anything wrong with the file raises CheckpointError.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import CheckpointError, OutputError
from npvae.storage.files import (
    MAX_DIRECTORY,
    Damaged,
    brief,
    open_plain,
    open_zip,
    write,
)

VERSION = 1
DTYPES = ("<f4", "<f8")
MAX_HEADER = 1 << 24  # characters, enough for 50,000 epochs
MAX_VALUES = 1 << 20  # in the header; each costs about 100 bytes and a microsecond
MAX_DIMENSIONS = 64  # as in NumPy
NOT_WRITTEN = (
    "the checkpoint {path} could not be written: {why}\n"
    "An existing file is unchanged. Free some space, or check the permissions there."
)
NOT_OURS = "it is an .npz file, but not a checkpoint of npvae"

Arrays = Mapping[str, NDArray[Any]]


class TooLong(OutputError):
    """A checkpoint that could be written, but would be refused by `load`."""


def save(path: str | Path, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a header (anything that JSON can hold) and float arrays, whole or not at all.

    Raises OutputError if the file cannot be written; then an existing file is unchanged.
    """
    arrays = {name: little_endian(array) for name, array in arrays.items()}
    contents = {
        name: {"dtype": a.dtype.str, "shape": a.shape, "sha256": sha256(a.tobytes()).hexdigest()}
        for name, a in arrays.items()
    }
    full = {**header, "format": "npvae checkpoint", "version": VERSION, "arrays": contents}
    text = json.dumps(full, allow_nan=False)
    if is_too_long(text) or sum(50 + len(name) for name in arrays) > MAX_DIRECTORY:
        raise TooLong(
            f"the checkpoint {path} could not be written: its header is too long.\n"
            "An existing file is unchanged. Start a new run with fewer epochs or layers."
        )
    digest = sha256(text.encode()).hexdigest()
    members = {"header": np.array(text), "digest": np.array(digest), **arrays}
    try:
        write(path, _archive(members), NOT_WRITTEN)
    except MemoryError as error:
        raise MemoryError(
            f"The checkpoint {path} could not be written; an existing file is unchanged."
        ) from error


def _archive(members: Arrays) -> bytes:
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, array in members.items():
                # Its date is fixed, so that equal states give equal bytes.
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy_bytes(array))
        return buffer.getvalue()
    except ValueError:
        if buffer.closed:  # it could not grow: then it closes itself, which is what zipfile reports
            raise MemoryError from None
        raise


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays exactly as they were saved. Raises CheckpointError if they are not."""
    try:
        with open_plain(path) as file:
            return _load(file)
    except FileNotFoundError:
        refuse(path, "there is no such file", "Train a model first, or name another checkpoint.")
    except Damaged as damage:
        refuse(path, str(damage))
    except OSError as error:
        refuse(path, error.strerror or str(error), "Name a file that you are allowed to read.")
    except MemoryError:
        refuse(path, "there is not enough memory to load it", "Close other programs first.")
    except Exception:  # zipfile, json and NumPy raise a dozen kinds for damaged bytes
        refuse(path, "it is damaged")


def file_in(path: str | Path) -> Path:
    """The file itself; of a run directory its best.npz, or its last.npz if there is none."""
    path = Path(path)
    if not path.is_dir():
        return path
    best = path / "best.npz"
    return best if best.exists() else path / "last.npz"


def refuse(
    path: str | Path, why: str, what_to_do: str = "Use another checkpoint, or train again."
) -> NoReturn:
    """Raise CheckpointError: why a checkpoint cannot be used."""
    raise CheckpointError(f"the checkpoint {path} cannot be used: {why}.\n{what_to_do}") from None


def _load(file: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    with open_zip(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise Damaged("two of its members have the same name")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED:
                raise Damaged(f"its member {brief(info.filename)} is compressed")
        if sum(info.file_size for info in members.values()) > file.seek(0, io.SEEK_END):
            raise Damaged("its members are longer than the file")
        if not {"header.npy", "digest.npy"} <= set(members):
            raise Damaged(NOT_OURS)

        header = _header(archive)
        contents = header.pop("arrays")
        if set(members) != {f"{name}.npy" for name in ("header", "digest", *contents)}:
            raise Damaged("an array is missing, or there is one too many")
        return header, {name: _array(archive, name, **about) for name, about in contents.items()}


def _header(archive: zipfile.ZipFile) -> dict[str, Any]:
    text = _text(archive, "header")
    if _text(archive, "digest") != sha256(text.encode()).hexdigest():
        raise Damaged("its header is not what was saved")
    if is_too_long(text):
        raise Damaged("its header is too long")
    header: dict[str, Any] = json.loads(text)
    if header["format"] != "npvae checkpoint":
        raise Damaged(NOT_OURS)
    if header["version"] != VERSION:
        version = brief(header["version"])
        raise Damaged(f"it has version {version} of the format, and this npvae knows {VERSION}")
    return header


def _text(archive: zipfile.ZipFile, name: str) -> str:
    shape, dtype, data = _npy(archive, name, most=4 * MAX_HEADER + 1)
    if len(data) > 4 * MAX_HEADER:
        raise Damaged(f"its {name} is too long")
    if shape != () or dtype != np.dtype(f"<U{len(data) // 4}"):
        raise Damaged(f"its {name} is not plain text")
    return data.decode("utf-32-le")


def _array(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: list[int], sha256: str
) -> NDArray[Any]:
    fits = len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    if dtype not in DTYPES or not fits:
        raise Damaged(f"its array {brief(name)} cannot be {brief(dtype)} {brief(shape)}")
    count = prod(shape) * np.dtype(dtype).itemsize
    found_shape, found_dtype, data = _npy(archive, name, most=count + 1)
    if found_shape != tuple(shape) or found_dtype != np.dtype(dtype):
        raise Damaged(f"its array {brief(name)} has another shape or type than was saved")
    if len(data) != count or _digest(data) != sha256:
        raise Damaged(f"its array {brief(name)} is not what was saved")
    array: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape).copy()
    return array


def _npy(
    archive: zipfile.ZipFile, name: str, most: int
) -> tuple[tuple[int, ...], np.dtype[Any], bytes]:
    """Shape, dtype and at most `most` bytes of a member. Whether they agree is not checked here."""
    with archive.open(f"{name}.npy") as file:
        magic = np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if magic != (1, 0) or fortran_order:
            raise Damaged(f"its member {brief(name)} is not as NumPy writes it")
        return shape, dtype, file.read(most)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def is_too_long(header: str) -> bool:
    """Whether reading it could take more than two seconds or 200 MB."""
    return len(header) > MAX_HEADER or sum(map(header.count, "[{,")) > MAX_VALUES


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.newbyteorder("<").str not in DTYPES:
        raise ValueError(f"a checkpoint holds float32 and float64 arrays, not {array.dtype}")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
