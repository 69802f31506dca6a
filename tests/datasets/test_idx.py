"""The IDX reader believes nothing: each lie in a file is a DataError with file, expected, found."""

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.datasets.idx import idx_digest, read_any, read_images, read_labels
from tests.datasets.own import harmless_mutations, idx_bytes, touch
from tests.helpers import Said, Tally, refused

pytestmark = pytest.mark.usefixtures("here")

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (3, 28, 28), np.uint8)
LABELS = np.array([0, 9, 4], np.uint8)
WHOLE = idx_bytes(IMAGES)


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_reads_what_was_written(pack: Callable[[bytes], bytes]) -> None:
    images = read_images(touch("images", pack(WHOLE)))
    np.testing.assert_array_equal(images, IMAGES)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(read_any(Path("images")), IMAGES)
    np.testing.assert_array_equal(read_labels(touch("labels", pack(idx_bytes(LABELS)))), LABELS)
    assert idx_digest(IMAGES) == hashlib.sha256(WHOLE).hexdigest()


def test_arrays_of_any_type_and_shape() -> None:
    types = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
    for kind, dtype in types.items():
        array = np.arange(24).reshape(4, 3, 2).astype(dtype)
        found = read_any(touch("array", idx_bytes(array, kind)))
        np.testing.assert_array_equal(found, array)
        assert found.dtype == dtype


def header(*sizes: int, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


LIES = {
    "empty file": b"",
    "a web page": b"<!DOCTYPE html>",
    "wrong magic": b"\1" + WHOLE[1:],
    "wrong type": idx_bytes(IMAGES, 13),
    "labels for images": idx_bytes(LABELS),
    "broken header": WHOLE[:10],
    "wrong size": idx_bytes(np.zeros((2, 32, 32), np.uint8)),
    "28 x 27 for 28 x 28": header(3, 28, 27) + WHOLE[16:],
    "27 x 28 for 28 x 28": header(3, 27, 28) + WHOLE[16:],
    "28 x 56 for 28 x 28": header(3, 28, 56) + WHOLE[16:],
    "14 x 56 for 28 x 28": header(3, 14, 56) + WHOLE[16:],
    "no images": header(0, 28, 28),
    "too many": header(2**32 - 1, 28, 28),
    "sizes whose product is zero": header(2**31, 2**31, 2**31),
    "more than all pictures have": header(100_000, 60, 60, kind=14),
    "a byte short": WHOLE[:-1],
    "a byte too many": WHOLE + b"\0",
}


def outcome(read: Callable[[Path], NDArray[Any]], path: Path) -> str:
    try:
        array = read(path)
    except DataError as refusal:
        return str(refusal)
    return f"{array.dtype}, {array.shape}"


def test_each_lie_is_named(said: Said, tally: Tally) -> None:
    """To a reader of pictures, and to one of any array, to which it need not be a lie."""
    texts: dict[str, str] = {}
    for lie, content in LIES.items():
        for pack in (gzip.compress, bytes):
            path = touch("train-images-idx3-ubyte.gz", pack(content))
            text = f"{outcome(read_images, path)}\n{outcome(read_any, path)}"
            assert texts.setdefault(lie, text) == text
            tally("IDX files: lies", "refused")
    said("IDX files that lie", texts)


def test_bytes_after_the_gzip_stream_are_seen_wherever_it_ends() -> None:
    """At the end of what is read at once, too: the name in its header makes it longer."""
    packed = gzip.compress(WHOLE)
    for length in (len(packed), *(1 << power for power in range(12, 21))):
        name = (length - len(packed)) * b"x"
        start = packed[:3] + (b"\x08" + packed[4:10] + name[1:] + b"\0" if name else packed[3:10])
        longer = start + packed[10:]
        np.testing.assert_array_equal(read_images(touch("images.gz", longer)), IMAGES)
        for tail in (b"x", gzip.compress(b""), gzip.compress(b"more")):
            with refused(DataError, "bytes after its end"):
                read_images(touch("images.gz", longer + tail))


@pytest.mark.usefixtures("time_limit")
def test_what_is_no_file_is_refused(said: Said) -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    texts = {name: outcome(read_images, Path(name)) for name in ("folder", "pipe", "absent")}
    said("IDX files that are no files", texts)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_every_truncation_is_refused(
    pack: Callable[[bytes], bytes], stride: int, tally: Tally
) -> None:
    path = Path("cut")
    for read, array in ((read_images, IMAGES), (read_labels, LABELS)):
        content = pack(idx_bytes(array))
        for length in range(0, len(content), stride):
            path.unlink(missing_ok=True)  # ext4 waits for the disk when one is written over
            path.write_bytes(content[:length])
            with refused(DataError, f"{path}: expected "):
                read(path)
            tally("IDX files: truncations", "refused")


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_of_a_gzip_file_are_refused_or_harmless(count: int, tally: Tally) -> None:
    path = touch("labels.gz", gzip.compress(idx_bytes(LABELS), mtime=0))

    def load(path: Path) -> bytes:
        return read_labels(path).tobytes()

    assert harmless_mutations(path, count, load, tally, "IDX files: mutations") < 0.3 * count
