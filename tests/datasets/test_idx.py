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
from tests.datasets.own import IMAGES, LABELS, MORE, grouped, idx_bytes, outcome, touch
from tests.helpers import Said, Tally, mutated, refused

pytestmark = pytest.mark.usefixtures("here")

FEW, FEW_LABELS = IMAGES[:3], LABELS[:3]
WHOLE = idx_bytes(FEW)


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_reads_what_was_written(pack: Callable[[bytes], bytes]) -> None:
    images = read_images(touch("images", pack(WHOLE)))
    np.testing.assert_array_equal(images, FEW)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(read_any(Path("images")), FEW)
    labels = read_labels(touch("labels", pack(idx_bytes(FEW_LABELS))))
    np.testing.assert_array_equal(labels, FEW_LABELS)
    assert idx_digest(FEW) == hashlib.sha256(WHOLE).hexdigest()


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
    "wrong type": idx_bytes(FEW, 13),
    "labels for images": idx_bytes(FEW_LABELS),
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


def found_by(read: Callable[[Path], NDArray[Any]], path: Path) -> str:
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
            text = f"{found_by(read_images, path)}\n{found_by(read_any, path)}"
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
        np.testing.assert_array_equal(read_images(touch("images.gz", longer)), FEW)
        for tail in (b"x", gzip.compress(b""), gzip.compress(b"more")):
            with refused(DataError, "bytes after its end"):
                read_images(touch("images.gz", longer + tail))


@pytest.mark.usefixtures("time_limit")
def test_folders_and_pipes_are_no_files(said: Said) -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    texts = {name: found_by(read_images, Path(name)) for name in ("folder", "pipe", "absent")}
    said("IDX files that are no files", texts)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_every_truncation_is_refused(
    pack: Callable[[bytes], bytes], stride: int, tally: Tally
) -> None:
    path = Path("cut")
    for read, array in ((read_images, FEW), (read_labels, FEW_LABELS)):
        content = pack(idx_bytes(array))
        for length in range(0, len(content), stride):
            path.unlink(missing_ok=True)  # ext4 waits for the disk when one is written over
            path.write_bytes(content[:length])
            with refused(DataError, f"{path}: expected "):
                read(path)
            tally("IDX files: truncations", "refused")


def harmless_mutations(
    path: Path, count: int, load: Callable[[Path], bytes], tally: Tally, faults: str
) -> int:
    """Random mutations of a file are refused, or what is loaded is the same; how often it is."""
    content, expected = path.read_bytes(), load(path)
    harmless = 0
    for seed in range(count):
        path.unlink()  # ext4 waits for the disk when one is written over
        path.write_bytes(mutated(content, seed))
        try:
            found = load(path)
        except DataError:
            tally(faults, "refused")
            continue
        assert found == expected, f"seed {seed}"
        tally(faults, "harmless")
        harmless += 1
    return harmless


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_of_a_gzip_file_are_refused_or_harmless(count: int, tally: Tally) -> None:
    path = touch("labels.gz", gzip.compress(idx_bytes(FEW_LABELS), mtime=0))

    def load(path: Path) -> bytes:
        return read_labels(path).tobytes()

    assert harmless_mutations(path, count, load, tally, "IDX files: mutations") < 0.3 * count


IDX = "{}-{}-idx{}-ubyte"  # train or test, images or labels, 3 or 1


def save_idx(
    folder: str, names: str = IDX, test: str = "t10k", images: NDArray[Any] = IMAGES
) -> None:
    """Four files."""
    for half, pixels, labels in (("train", images, LABELS), (test, MORE, LABELS[:9])):
        for role, array in (("images", pixels), ("labels", labels)):
            name = names.format(half, role, array.ndim)
            pack = gzip.compress if name.endswith(".gz") else bytes
            touch(f"{folder}/{name}", pack(idx_bytes(array)))


def test_idx_files_where_and_as_they_are_usually_called(said: Said) -> None:
    texts = {}
    for folder, names, test in (
        ("a", f"{IDX}.gz", "t10k"),
        ("b", IDX, "t10k"),
        ("c", "{}-{}.idx{}-ubyte", "t10k"),
        ("d/raw", "{}-{}.idx{}-ubyte.gz", "t10k"),
        ("e/MNIST", "{}_{}_idx{}_ubyte", "t10k"),
        ("f/FashionMNIST/raw", IDX, "test"),
        ("g/MNIST/raw", f"k49-{IDX}.gz", "t10k"),
        ("h", f"emnist-letters-{IDX}.gz", "test"),
    ):
        save_idx(folder, names, test)
        if names == f"{IDX}.gz":  # as torchvision has them, both
            save_idx(folder, IDX)
        texts[f"{folder}/{names}"] = outcome(folder[0])
    for path in Path("b").iterdir():
        touch(f"i/{path.name}/{path.name}", path.read_bytes())
    texts["each in a folder of its own"] = outcome("i")
    said("IDX files as they are usually called", grouped(texts))


def test_idx_files_that_are_missing_or_wrong(said: Said) -> None:
    save_idx("two/MNIST/raw")
    save_idx("two/FashionMNIST/raw")
    texts = {"two datasets": outcome("two")}
    save_idx("prefixes", f"emnist-digits-{IDX}")
    save_idx("prefixes", f"emnist-letters-{IDX}")
    texts["two prefixes"] = outcome("prefixes")
    save_idx("large", images=IMAGES.repeat(2, axis=1).repeat(2, axis=2))
    texts["another size"] = outcome("large")
    texts["another size, scaled"] = outcome("large", resize=True)
    eight = idx_bytes(np.stack([LABELS] * 8, axis=1).astype(">i4"), 12)  # as QMNIST's
    for suffix, pack in (("", bytes), (".gz", gzip.compress)):
        save_idx("wrong", IDX + suffix, images=(IMAGES > 127).astype(np.uint8))
        texts[f"0 and 1{suffix}"] = outcome("wrong")
        save_idx("wrong", IDX + suffix)
        touch(f"wrong/train-labels-idx1-ubyte{suffix}", pack(eight))
        texts[f"eight labels{suffix}"] = outcome("wrong")
    save_idx("own")
    Path("own/t10k-labels-idx1-ubyte").unlink()
    texts["no test labels"] = outcome("own")
    Path("own/t10k-images-idx3-ubyte").unlink()
    texts["no test set"] = outcome("own")
    touch("own/train-labels-idx1-ubyte", idx_bytes(LABELS[1:]))
    texts["one label too few"] = outcome("own")
    Path("own/train-images-idx3-ubyte").rename("own/t10k-images-idx3-ubyte")
    texts["test set alone"] = outcome("own")
    said("IDX files missing or wrong", texts)
