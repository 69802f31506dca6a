"""The IDX reader believes nothing: each lie in a file is a DataError with file, expected, found."""

import gzip
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npvae.core.errors import DataError
from npvae.datasets import idx
from npvae.datasets.idx import idx_digest, read_any, read_images, read_labels
from tests.datasets.own import idx_bytes
from tests.helpers import Tally, mutated

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (3, 28, 28), np.uint8)
LABELS = np.array([0, 9, 4], np.uint8)


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_reads_what_was_written(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "images").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / "labels").write_bytes(pack(idx_bytes(LABELS)))
    images, labels = read_images(tmp_path / "images"), read_labels(tmp_path / "labels")
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(read_any(tmp_path / "images"), IMAGES)


def test_digest_is_that_of_the_file() -> None:
    import hashlib

    assert idx_digest(IMAGES) == hashlib.sha256(idx_bytes(IMAGES)).hexdigest()


WHOLE = idx_bytes(IMAGES)
HUGE = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 28, 28)
OVERFLOW = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31)
LIES = {
    "empty file": (b"", "an empty file"),
    "a web page": (b"<!DOCTYPE html>", "3c 21 44 4f"),
    "wrong magic": (b"\1" + WHOLE[1:], "01 00 08 03"),
    "wrong type": (idx_bytes(IMAGES, 13), "00 00 0d 03"),
    "labels for images": (idx_bytes(LABELS), "00 00 08 01"),
    "broken header": (WHOLE[:10], "10 bytes in all"),
    "wrong size": (idx_bytes(np.zeros((2, 32, 32), np.uint8)), "32 x 32 in its header"),
    **{
        f"{rows} x {columns} for 28 x 28": (
            WHOLE[:8] + struct.pack(">2I", rows, columns) + WHOLE[16:],
            f"{rows} x {columns} in its header",
        )
        for rows, columns in ((28, 27), (27, 28), (28, 56), (14, 56))
    },
    "no images": (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "0 in its header"),
    "too many": (HUGE, "4,294,967,295 in its header"),
    "sizes whose product is zero": (OVERFLOW, "2147483648 x 2147483648 in its header"),
    "a byte short": (WHOLE[:-1], "found 2,351"),
    "a byte too many": (WHOLE + b"\0", "found more than that"),
}


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_named(
    tmp_path: Path, lie: str, pack: Callable[[bytes], bytes], tally: Tally
) -> None:
    content, found = LIES[lie]
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(pack(content))
    with pytest.raises(DataError) as error:
        read_images(path)
    message = str(error.value)
    assert message.startswith(f"{path}: expected ")
    assert found in message
    assert len(message.splitlines()) <= 4
    if "28 x 28" not in lie and lie not in ("wrong size", "wrong type", "labels for images"):
        with pytest.raises(DataError, match=f"^{re.escape(str(path))}: expected "):
            read_any(path)
    tally("IDX files: lies", "refused")


@pytest.mark.parametrize(
    ("kind", "dtype"), [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_arrays_of_any_type_and_shape(tmp_path: Path, kind: int, dtype: str) -> None:
    array = np.arange(24).reshape(4, 3, 2).astype(dtype)
    (tmp_path / "array").write_bytes(idx_bytes(array, kind))
    found = read_any(tmp_path / "array")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == dtype


def test_no_more_is_allocated_than_all_pictures_need(tmp_path: Path) -> None:
    path = tmp_path / "array"
    path.write_bytes(bytes((0, 0, 14, 3)) + struct.pack(">3I", 100_000, 60, 60))
    with pytest.raises(DataError, match="100000 x 60 x 60 in its header"):
        read_any(path)


def test_bytes_after_the_gzip_stream(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    for tail in (b"x", gzip.compress(b""), gzip.compress(b"more")):
        path.write_bytes(gzip.compress(WHOLE) + tail)
        with pytest.raises(DataError, match="bytes after its end"):
            read_images(path)


def test_bytes_after_the_gzip_stream_where_a_piece_of_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, packed = tmp_path / "images.gz", gzip.compress(WHOLE)
    monkeypatch.setattr(idx, "_CHUNK", len(packed))
    path.write_bytes(packed)
    np.testing.assert_array_equal(read_images(path), IMAGES)
    path.write_bytes(packed + b"x")
    with pytest.raises(DataError, match="bytes after its end"):
        read_images(path)


@pytest.mark.usefixtures("time_limit")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path, "it is a folder, not a file"),
        (tmp_path / "pipe", "it is a pipe or a device, not a file"),
        (tmp_path / "absent", "No such file or directory"),
    ):
        with pytest.raises(DataError, match=f"{path}: cannot be read: {why}$"):
            read_images(path)


def test_a_file_that_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = tmp_path / "images"
    path.write_bytes(WHOLE)
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(DataError, match="cannot be read: there is not enough memory for it"):
        read_images(path)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_every_truncation(
    tmp_path: Path, pack: Callable[[bytes], bytes], stride: int, tally: Tally
) -> None:
    for read, array in ((read_images, IMAGES), (read_labels, LABELS)):
        path, content = tmp_path / "cut", pack(idx_bytes(array))
        for length in range(0, len(content), stride):
            path.unlink(missing_ok=True)  # ext4 waits for the disk when one is written over
            path.write_bytes(content[:length])
            with pytest.raises(DataError, match=f"^{re.escape(str(path))}: expected "):
                read(path)
            tally("IDX files: truncations", "refused")


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_of_a_gzip_file_are_refused_or_harmless(
    tmp_path: Path, count: int, tally: Tally
) -> None:
    path, packed = tmp_path / "labels.gz", gzip.compress(idx_bytes(LABELS), mtime=0)
    for seed in range(count):
        path.unlink(missing_ok=True)  # as above
        path.write_bytes(mutated(packed, seed))
        try:
            labels = read_labels(path)
        except DataError:
            tally("IDX files: mutations", "refused")
        else:
            assert labels.tobytes() == LABELS.tobytes(), f"seed {seed}"
            tally("IDX files: mutations", "harmless")
