"""How is an IDX file read, when nothing in it is believed?

An IDX file is a header of big-endian numbers and the plain bytes of an array, usually gzipped:

    0 0 | type (8: uint8) | ndim | size of each dimension, 4 bytes each | the items

`read_images` and `read_labels` take what MNIST's files hold, `read_any` takes any array.

The header is checked before anything is allocated, and no more is decompressed than the header
promises. Every fault is a `DataError` that says what was expected and found.
"""

import hashlib
import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.dataset import MAX_ITEMS, SIDE, mismatch, reading
from npvae.storage.files import open_plain

_CHUNK = 1 << 18
_UINT8 = 8
_TYPES = {_UINT8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_NUMBERS = MAX_ITEMS * SIDE * SIDE


def read_images(path: Path) -> NDArray[np.uint8]:
    """The pictures (N, 28, 28) of an IDX file, gzipped or not. Raises DataError."""
    return _read(path, (SIDE, SIDE))


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The labels (N,) of an IDX file, gzipped or not. Raises DataError."""
    return _read(path, ())


def read_any(path: Path) -> NDArray[Any]:
    """The array of any IDX file, gzipped or not, as it is. Raises DataError."""
    return _read(path, None)


def idx_digest(array: NDArray[np.uint8]) -> str:
    """SHA-256, in hex, of the uncompressed IDX file that holds this array."""
    digest = hashlib.sha256(bytes((0, 0, _UINT8, array.ndim)))
    digest.update(struct.pack(f">{array.ndim}I", *array.shape))
    digest.update(array.data)
    return digest.hexdigest()


def _read(path: Path, item_shape: tuple[int, ...] | None) -> NDArray[Any]:
    try:
        with reading(path), open_plain(path) as file:
            is_gzip = file.peek(2)[:2] == b"\x1f\x8b"
            stream = _Gunzip(file) if is_gzip else file
            dtype, shape = _read_header(path, stream, item_shape)
            array = np.empty(shape, dtype)
            got = _fill(stream, array.reshape(-1).view(np.uint8).data)
            more = stream.read(1)
    except EOFError:
        raise mismatch(path, "a whole gzip stream", "one that breaks off") from None
    except zlib.error as error:
        raise mismatch(path, "an intact gzip stream", f"a damaged one ({error})") from error
    if got < array.nbytes or more:
        found = "more than that" if more else f"{got:,}"
        raise mismatch(path, f"{array.nbytes:,} bytes after the header", found)
    return array


def _read_header(
    path: Path, stream: "_Readable", item_shape: tuple[int, ...] | None
) -> tuple[str, tuple[int, ...]]:
    """dtype and shape of the array, once they can be true. Raises DataError."""
    start = bytearray(4)
    got = _fill(stream, memoryview(start))
    ndim = start[3] if item_shape is None else 1 + len(item_shape)
    kind = start[2] if item_shape is None else _UINT8
    expected = bytes((0, 0, kind, ndim))
    if start[:got] != expected[:got] or got < 4 or kind not in _TYPES or not 1 <= ndim <= 4:
        header = "an IDX header" if item_shape is None else f"an IDX header ({expected.hex(' ')})"
        raise mismatch(path, header, start[:got].hex(" ") or "an empty file")
    rest = bytearray(4 * ndim)
    got = _fill(stream, memoryview(rest))
    if got < len(rest):
        raise mismatch(path, f"a header of {4 + len(rest)} bytes", f"{4 + got} bytes in all")
    shape = struct.unpack(f">{ndim}I", rest)
    count, *sizes = shape
    for is_right, expected_here, found in (
        (item_shape in (None, tuple(sizes)), f"{SIDE} x {SIDE} pictures", sizes),
        (1 <= count <= MAX_ITEMS, f"1 to {MAX_ITEMS:,} items", [f"{count:,}"]),
        (1 <= prod(shape) <= _MAX_NUMBERS, f"1 to {_MAX_NUMBERS:,} numbers", shape),
    ):
        if not is_right:
            raise mismatch(path, expected_here, f"{' x '.join(map(str, found))} in its header")
    return _TYPES[kind], shape


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _fill(stream: _Readable, out: memoryview) -> int:
    """Read into `out` until it is full or the stream ends; the number of bytes read."""
    filled = 0
    while filled < len(out) and (piece := stream.read(min(_CHUNK, len(out) - filled))):
        out[filled : filled + len(piece)] = piece
        filled += len(piece)
    return filled


class _Gunzip:
    """Reads one gzip stream, never decompressing more than is asked for.

    Plain zlib, not gzip.GzipFile: that goes on to the next stream in the file, and a file of a
    million empty streams would keep it busy for minutes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._zlib = zlib.decompressobj(wbits=31)  # 31: gzip, with its checksum and length

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; b"" at the end. Raises EOFError, zlib.error."""
        while not self._zlib.eof:
            raw = self._zlib.unconsumed_tail or self._file.read(_CHUNK)
            piece = self._zlib.decompress(raw, size)
            if piece:
                return piece
            if not raw and not self._zlib.eof:
                raise EOFError
        if self._zlib.unused_data or self._file.read(1):
            raise zlib.error("bytes after its end")
        return b""
