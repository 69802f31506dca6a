"""The IDX reader believes nothing: each lie in a file is a DataError with file, expected, found."""

import gzip
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.datasets.idx import check_counts, idx_digest, read_images, read_labels
from npvae.errors import DataError

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (3, 28, 28), np.uint8)
LABELS = np.array([0, 9, 4], np.uint8)


def idx_bytes(array: NDArray[np.uint8], type_byte: int = 8) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, type_byte, array.ndim)) + sizes + array.tobytes()


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_reads_what_was_written(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "images").write_bytes(pack(idx_bytes(IMAGES)))
    (tmp_path / "labels").write_bytes(pack(idx_bytes(LABELS)))
    images, labels = read_images(tmp_path / "images"), read_labels(tmp_path / "labels")
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    check_counts(tmp_path / "images", images, tmp_path / "labels", labels)


def test_digest_is_that_of_the_file() -> None:
    import hashlib

    assert idx_digest(IMAGES) == hashlib.sha256(idx_bytes(IMAGES)).hexdigest()


WHOLE = idx_bytes(IMAGES)
HUGE = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 28, 28)
LIES = {
    "empty file": (b"", "an empty file"),
    "a web page": (b"<!DOCTYPE html>", "3c 21 44 4f"),
    "wrong magic": (b"\1" + WHOLE[1:], "01 00 08 03"),
    "wrong type": (idx_bytes(IMAGES, type_byte=13), "00 00 0d 03"),
    "labels for images": (idx_bytes(LABELS), "00 00 08 01"),
    "broken header": (WHOLE[:10], "10 bytes in all"),
    "wrong size": (idx_bytes(np.zeros((2, 32, 32), np.uint8)), "32 x 32 in its header"),
    "no images": (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "0 in its header"),
    "too many": (HUGE, "4,294,967,295 in its header"),
    "a byte short": (WHOLE[:-1], "found 2,351"),
    "a byte too many": (WHOLE + b"\0", "found more than that"),
}


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_named(tmp_path: Path, lie: str, pack: Callable[[bytes], bytes]) -> None:
    content, found = LIES[lie]
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(pack(content))
    with pytest.raises(DataError) as error:
        read_images(path)
    message = str(error.value)
    assert message.startswith(f"{path}: expected ")
    assert found in message
    assert len(message.splitlines()) <= 4


def test_label_above_nine(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(np.array([3, 10], np.uint8)))
    with pytest.raises(DataError, match="labels from 0 to 9, found label 10 at index 1"):
        read_labels(path)


def test_images_and_labels_of_different_count() -> None:
    with pytest.raises(DataError, match=r"^b: expected one label .* found 3 labels for 2 pictures"):
        check_counts(Path("a"), IMAGES[:2], Path("b"), LABELS)


def test_bytes_after_the_gzip_stream(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    for tail in (b"x", gzip.compress(b""), gzip.compress(b"more")):
        path.write_bytes(gzip.compress(WHOLE) + tail)
        with pytest.raises(DataError, match="bytes after its end"):
            read_images(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="cannot be read"):
            read_images(path)


def test_every_truncation(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    packed = gzip.compress(idx_bytes(LABELS), mtime=0)
    for length in range(len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(DataError):
            read_labels(path)


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Overwrite, insert or cut at a few random places."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((0, 1, 1, 1, 4, 40)))
        changed[start:end] = rng.randbytes(rng.choice((0, 1, 1, 1, 4)))
    return bytes(changed)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_of_a_gzip_file_are_refused_or_harmless(tmp_path: Path, count: int) -> None:
    path, packed = tmp_path / "labels.gz", gzip.compress(idx_bytes(LABELS), mtime=0)
    for seed in range(count):
        path.write_bytes(mutate(random.Random(seed), packed))
        try:
            labels = read_labels(path)
        except DataError:
            continue
        assert labels.tobytes() == LABELS.tobytes(), f"seed {seed}"


CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
from pathlib import Path
from npvae.datasets.idx import read_images
from npvae.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    try:
        read_images(Path(name))
        print("accepted")
    except DataError:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        print("refused" if grown < 16 else f"refused after {grown} MiB")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux has them")
def test_bombs_cost_no_memory_and_no_time(tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(1 << 27), compresslevel=1)  # 128 MiB in half a MB
    bombs = {
        "promises little": idx_bytes(IMAGES[:1]) + bytes(1 << 27),
        "promises a lot": HUGE + bytes(1 << 27),
        "promises the limit": bytes((0, 0, 8, 3)) + struct.pack(">3I", 250_000, 28, 28),
        "overflows": bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31),
        "is a header for ever": b"\0\0\x08\xff" + bytes(1 << 20),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(gzip.compress(content, compresslevel=1))
    (tmp_path / "zeros").write_bytes(zeros)
    (tmp_path / "empty streams").write_bytes(gzip.compress(b"") * 500_000)
    paths = sorted(map(str, tmp_path.iterdir()))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *paths],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.splitlines() == ["refused"] * 7
