"""How is a trained model kept, so that it is never lost and never silently wrong?

A checkpoint is a plain .npz file, for anybody to read with `np.load`:

    header                JSON text (a 0-d string array): what `save` was given, the version of
                          the format, and for each other array its dtype, shape and SHA-256
    digest                SHA-256 of the header's text
    encoder.hidden0.W     an array by its name, little-endian, in C order, not compressed
    ...                   and so on; what the names mean is the business of who saved them

Saving replaces the old file by a complete new one, or leaves it alone. Loading unpickles nothing,
believes nothing, and allocates no more than the file is long: each array must have the digest that
the header says, and the header its own. Whatever is wrong with the file, it is a CheckpointError.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from npvae.errors import CheckpointError, OutputError
from npvae.files import write_bytes_safely

VERSION = 1
DTYPES = ("<f4", "<f8")

Arrays = Mapping[str, NDArray[Any]]


def save(path: str | Path, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write header (anything JSON can hold) and float arrays, whole or not at all.

    Raises OutputError if the file cannot be written; what was there before is then untouched.
    """
    arrays = {name: little_endian(array) for name, array in arrays.items()}
    contents = {
        name: {"dtype": a.dtype.str, "shape": a.shape, "sha256": sha256(a.tobytes()).hexdigest()}
        for name, a in arrays.items()
    }
    full = {**header, "format": "npvae checkpoint", "version": VERSION, "arrays": contents}
    text = json.dumps(full, allow_nan=False)
    digest = sha256(text.encode()).hexdigest()
    buffer = io.BytesIO()
    members = {"header": np.array(text), "digest": np.array(digest), **arrays}
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            # A fixed date: the same state gives the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy_bytes(array))
    try:
        write_bytes_safely(path, buffer.getvalue())
    except OSError as error:
        raise OutputError(
            f"the checkpoint {path} could not be written: {error.strerror or error}\n"
            "What it held before is untouched. Make room or choose another folder with --out."
        ) from error


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and arrays exactly as they were saved; CheckpointError if that is not possible."""
    try:
        return _load(Path(path))
    except FileNotFoundError:
        _refuse(path, "there is no such file", "Train a model first, or name another checkpoint.")
    except _Damaged as damage:
        _refuse(path, str(damage), "It is damaged or not ours: use another one, or train again.")
    except OSError as error:
        _refuse(path, error.strerror or str(error), "Is it a file that you may read?")
    except Exception as error:  # zipfile, json and NumPy raise a dozen kinds for broken bytes
        why = f"it cannot be read ({type(error).__name__})"
        _refuse(path, why, "It is damaged or not ours: use another one, or train again.")


class _Damaged(Exception):
    pass


def _refuse(path: str | Path, why: str, what_to_do: str) -> NoReturn:
    raise CheckpointError(f"the checkpoint {path} cannot be used: {why}.\n{what_to_do}") from None


def _load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise _Damaged("two of its members have the same name")
        for info in members.values():
            if info.compress_type != zipfile.ZIP_STORED:
                raise _Damaged(f"its member {_brief(info.filename)} is compressed")
        if sum(info.file_size for info in members.values()) > size:
            raise _Damaged("its members are longer than the file")

        text = _text(archive.read("header.npy"))
        if _text(archive.read("digest.npy")) != sha256(text.encode()).hexdigest():
            raise _Damaged("its header does not have the digest that was saved with it")
        header: dict[str, Any] = json.loads(text)
        if header["format"] != "npvae checkpoint" or header["version"] != VERSION:
            raise _Damaged(f"its format is version {_brief(header['version'])}, not {VERSION}")
        contents = header.pop("arrays")
        if set(members) != {f"{name}.npy" for name in ("header", "digest", *contents)}:
            raise _Damaged("it lacks an array or has one too many")
        return header, {name: _array(archive, name, **about) for name, about in contents.items()}


def _array(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: list[int], sha256: str
) -> NDArray[Any]:
    if dtype not in DTYPES or not all(type(n) is int and n >= 0 for n in shape):
        raise _Damaged(f"its array {_brief(name)} would be {_brief(dtype)} {_brief(shape)}")
    count = prod(shape) * np.dtype(dtype).itemsize
    raw = archive.read(f"{name}.npy")
    data = raw[len(raw) - count :]
    if len(data) != count or _digest(data) != sha256:
        raise _Damaged(f"its array {_brief(name)} does not have the digest that was saved with it")
    array: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape).copy()
    if npy_bytes(array) != raw:
        raise _Damaged(f"its array {_brief(name)} is described in another way than it was saved")
    return array


def _brief(what: object) -> str:
    """Something out of the file, to be shown: it may be long, or meant for the terminal."""
    text = ascii(what)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _text(raw: bytes) -> str:
    """The text of a 0-d string array in .npy format, whose length the file itself limits."""
    start = 10 + int.from_bytes(raw[8:10], "little")  # magic, version, length of the description
    text = raw[start:].decode("utf-32-le")
    if npy_bytes(np.array(text)) != raw:
        raise _Damaged("its header is not a plain text")
    return text


def little_endian(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.newbyteorder("<").str not in DTYPES:
        raise ValueError(f"a checkpoint holds float32 and float64 arrays, not {array.dtype}")
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def npy_bytes(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
