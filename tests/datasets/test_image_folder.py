"""A user's own pictures: what is taken, how it is split, and what is refused in which words."""

import io
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import DataError
from npvae.datasets import Dataset, image_folder, load_dataset

Tally = Callable[[str, str], None]

RNG = np.random.default_rng(8)
IMAGES = RNG.integers(0, 256, (25, 28, 28), np.uint8)
LABELS = (np.arange(25) % 3).astype(np.uint8)


def load(path: Path) -> tuple[Dataset, Dataset]:
    return load_dataset(str(path))


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def refused(path: Path) -> str:
    """The message with which `path` is refused."""
    with pytest.raises(DataError) as error:
        load(path)
    message = str(error.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 4
    return message


# --- .npz ---


def test_images_and_labels_every_tenth_held_out(tmp_path: Path) -> None:
    path, lines = save(tmp_path / "own.npz", images=IMAGES, labels=LABELS), list[str]()
    train, test = load_dataset(str(path), report=lines.append)
    np.testing.assert_array_equal(test.images, IMAGES[[9, 19]])
    np.testing.assert_array_equal(test.labels, LABELS[[9, 19]])
    np.testing.assert_array_equal(train.images, np.delete(IMAGES, [9, 19], axis=0))
    np.testing.assert_array_equal(train.labels, np.delete(LABELS, [9, 19]))
    assert train.name == str(path)
    assert train.class_names == ("0", "1", "2")
    assert train.source == f"read from {path}"
    assert train.images.flags.c_contiguous
    assert len(lines) == 1
    assert "every tenth picture is held out" in lines[0]


def test_keras_names_and_no_labels(tmp_path: Path) -> None:
    y = LABELS.astype(np.int64)
    path = save(
        tmp_path / "a.npz", x_train=IMAGES, y_train=y, x_test=IMAGES[:4], y_test=y[:4, None]
    )
    train, test = load(path)
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(test.labels, LABELS[:4])
    train, test = load(save(tmp_path / "b.npz", images=IMAGES[:2]))
    assert (len(train), len(test)) == (1, 1)
    assert train.labels.tolist() == [0]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_floats_are_rounded_to_bytes(tmp_path: Path, dtype: str) -> None:
    path = save(tmp_path / "own.npz", images=(IMAGES / 255).astype(dtype))
    train, test = load(path)
    np.testing.assert_array_equal(np.concatenate([train.images, test.images])[:9], IMAGES[:9])
    assert train.images.dtype == np.uint8


def test_black_and_white_as_bytes_of_0_and_1_is_refused(tmp_path: Path) -> None:
    """As bytes from 0 to 255 they would all be black, and a model of them very good."""
    black_and_white = (IMAGES > 127).astype(np.uint8)
    path = save(tmp_path / "own.npz", images=black_and_white)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}, images: expected bytes from 0 to 255, found only 0 and 1.\n"
        "If 1 means white, save 255 * images, or images.astype(np.float32)."
    )
    for images in (255 * black_and_white, black_and_white.astype(np.float32)):
        train, _ = load(save(tmp_path / "own.npz", images=images))
        np.testing.assert_array_equal(train.images[:9], 255 * black_and_white[:9])


def test_shapes_that_mean_the_same(tmp_path: Path) -> None:
    for shape in ((25, 784), (25, 28, 28, 1)):
        train, _ = load(save(tmp_path / "own.npz", images=IMAGES.reshape(shape)))
        np.testing.assert_array_equal(train.images[:9], IMAGES[:9])


def test_colour_becomes_grey_as_pillow_does_it(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (12, 28, 28, 3), np.uint8)
    train, _ = load(save(tmp_path / "own.npz", images=colour))
    by_pillow = np.asarray(Image.fromarray(colour[0]).convert("L"))
    np.testing.assert_array_equal(train.images[0], by_pillow)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (IMAGES / 127.5 - 1, "[0, 1]"),
        (IMAGES.astype(np.float32), "x / 255"),
        (np.where(IMAGES > 254, np.nan, 0.5), "found NaN"),
        (np.full((3, 28, 28), np.inf), "inf"),
        (IMAGES.astype(np.int64), "found int64"),
        (np.zeros((5, 32, 32), np.uint8), "found (5, 32, 32)"),
        (np.zeros((0, 28, 28), np.uint8), "found (0, 28, 28)"),
        (np.zeros((), np.uint8), "found uint8, ()"),
        (np.asfortranarray(IMAGES), "Fortran order"),
        (np.zeros((1, 28, 28), np.uint8), "at least two"),
        (IMAGES.astype(complex), "found complex128"),
        (np.full((2, 28, 28), "x"), "found <U1"),
    ],
)
def test_images_that_are_refused(tmp_path: Path, images: NDArray[Any], words: str) -> None:
    assert words in refused(save(tmp_path / "own.npz", images=images))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS[:-1], "found 24"),
        (LABELS.astype(np.int64) - 1, "found -1 to 1"),
        (LABELS.astype(np.int64) + 254, "found 254 to 256"),
        (LABELS.astype(np.float32), "found float32"),
        (np.eye(3, dtype=np.uint8)[LABELS], "found uint8, (25, 3)"),
    ],
)
def test_labels_that_are_refused(tmp_path: Path, labels: NDArray[Any], words: str) -> None:
    message = refused(save(tmp_path / "own.npz", images=IMAGES, labels=labels))
    assert words in message
    assert ", labels: expected " in message


def test_all_256_labels(tmp_path: Path) -> None:
    labels = np.arange(25, dtype=np.uint8) + 231
    train, _ = load(save(tmp_path / "own.npz", images=IMAGES, labels=labels))
    assert len(train.class_names) == 256


class Touch:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    objects = np.array([Touch(touched)] * 3, dtype=object)
    refused(save(tmp_path / "own.npz", images=objects))
    refused(save(tmp_path / "labels.npz", images=IMAGES[:3], labels=objects))
    assert not touched.exists()


def test_one_wrong_bit_of_the_pixels_is_noticed(tmp_path: Path) -> None:
    """Not compressed, so that only the checksum can tell."""
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "own.npz").read_bytes()
    for array in (IMAGES, LABELS):
        at = whole.index(array.tobytes()) + 7
        (tmp_path / "own.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "Bad CRC-32" in refused(tmp_path / "own.npz")


def test_what_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = save(tmp_path / "own.npz", images=IMAGES)
    monkeypatch.setattr(np, "empty", full)
    assert refused(path) == f"{path}: cannot be read: there is not enough memory for it"


def npy(shape: str, descr: str = "'|u1'", version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header


def zipped(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


PIXELS = IMAGES[:3].tobytes()
ZIP_TRICKS: dict[str, bytes] = {
    "huge shape": npy("(200000, 28, 28)"),
    "shape beyond all": npy("(10**30, 28, 28)"),
    "billions": npy("(4000000000000, 28, 28)"),
    "negative shape": npy("(-1, 28, 28)") + PIXELS,
    "two negatives": npy("(-3, -28, 28)") + PIXELS,
    "too little": npy("(3, 28, 28)") + PIXELS[:-1],
    "too much": npy("(3, 28, 28)") + PIXELS + b"x",
    "object dtype": npy("(3, 28, 28)", "'|O'") + PIXELS * 8,
    "fields": npy("(3, 28, 28)", "[('a', '|u1')]") + PIXELS,
    "code for a header": npy("__import__('os').getpid()") + PIXELS,
    "deep header": npy("(" * 5000 + ")" * 5000) + PIXELS,
    "no numpy": b"hello",
    "empty": b"",
    "another version": npy("(3, 28, 28)", version=2) + PIXELS,
}


@pytest.mark.parametrize("trick", ZIP_TRICKS)
def test_zip_tricks_are_refused(tmp_path: Path, trick: str, tally: Tally) -> None:
    refused(zipped(tmp_path / "own.npz", ("images.npy", ZIP_TRICKS[trick])))
    tally("npz datasets: zip and header tricks", "refused")


def test_zip_tricks_with_the_archive(tmp_path: Path) -> None:
    good = npy("(3, 28, 28)") + PIXELS
    path = tmp_path / "own.npz"
    assert len(load(zipped(path, ("images.npy", good)))[0]) == 2
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(path, ("images.npy", good), ("images.npy", good))
    assert "same name" in refused(path)
    zipped(path, ("images.npy", good), method=zipfile.ZIP_LZMA)
    assert "another kind of compression" in refused(path)
    zipped(path, ("pictures.npy", good))
    assert "found 'pictures.npy'." in refused(path)
    path.write_bytes(b"no zip at all")
    refused(path)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_npz_is_refused_or_harmless(tmp_path: Path, count: int, tally: Tally) -> None:
    buffer, image = io.BytesIO(), IMAGES[0] // 128 * 255
    np.savez_compressed(buffer, images=np.stack(4 * [image]))
    content, path = buffer.getvalue(), tmp_path / "own.npz"
    path.write_bytes(content)
    assert len(load(path)[0]) == 3, "it is the mutations that are refused"
    outcomes = Counter[str]()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        changed = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        path.unlink(missing_ok=True)  # ext4 waits for the disk when one is written over
        path.write_bytes(changed[: len(changed) if seed % 4 else rng.integers(len(changed))])
        try:
            train, test = load(path)
        except DataError:
            outcomes["refused"] += 1
            tally("npz datasets: mutations", "refused")
            continue
        assert len(train) + len(test) == 4, f"seed {seed}"
        assert (train.images == image).all(), f"seed {seed}"
        outcomes["harmless"] += 1
        tally("npz datasets: mutations", "harmless")
    assert 0 < outcomes["harmless"] < 0.2 * count


# --- folders ---


def save_pictures(folder: Path, images: NDArray[np.uint8], suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03}{suffix}")


def test_flat_folder(tmp_path: Path) -> None:
    save_pictures(tmp_path, IMAGES)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._000.png").write_text("left by a file manager")
    train, test = load(tmp_path)
    np.testing.assert_array_equal(train.images, np.delete(IMAGES, [9, 19], axis=0))
    np.testing.assert_array_equal(test.images, IMAGES[[9, 19]])
    assert train.class_names == ("picture",)


def test_sub_folders_name_the_classes(tmp_path: Path) -> None:
    for half, count in (("train", 3), ("test", 2)):
        for name in ("shoe", "hät 1"):
            save_pictures(tmp_path / half / name, IMAGES[:count])
    train, test = load(tmp_path)
    assert train.class_names == test.class_names == ("hät 1", "shoe")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(test.images, IMAGES[[0, 1, 0, 1]])


@pytest.mark.parametrize("suffix", [".PNG", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"])
def test_kinds_of_pictures(tmp_path: Path, suffix: str) -> None:
    smooth = np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8) * 4
    save_pictures(tmp_path, np.stack([smooth, smooth]), suffix)
    train, _ = load(tmp_path)
    assert np.abs(train.images[0].astype(int) - smooth).max() <= (16 if "w" in suffix else 4)


def test_colour_transparency_and_palettes(tmp_path: Path) -> None:
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    half_white = Image.new("RGBA", (28, 28), (255, 255, 255, 128))
    red.save(tmp_path / "a.png")
    half_white.save(tmp_path / "b.png")
    red.quantize().save(tmp_path / "c.png")
    Image.new("1", (28, 28), 1).save(tmp_path / "d.png")
    Image.new("LA", (28, 28), (200, 0)).save(tmp_path / "e.png")
    Image.new("L", (28, 28), 7).save(tmp_path / "f.png")
    train, test = load(tmp_path)
    grey = [int(image[5, 5]) for image in (*train.images, *test.images)]
    assert grey == [76, 128, 76, 255, 0, 7]
    assert (train.images == train.images[:, :1, :1]).all()


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    save_pictures(tmp_path, IMAGES[:3])
    Image.new("L", (32, 30)).save(tmp_path / "001.png")
    message = refused(tmp_path)
    assert f"{tmp_path / '001.png'}: expected 28 x 28 pixels, found 32 x 30." in message


def png_header(width: int, height: int) -> bytes:
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def test_broken_and_hostile_pictures_are_named(tmp_path: Path) -> None:
    save_pictures(tmp_path, IMAGES[:3])
    path = tmp_path / "001.png"
    whole = path.read_bytes()
    sixteen_bits = io.BytesIO()
    Image.fromarray(np.full((28, 28), 40_000, np.uint16)).save(sixteen_bits, "PNG")
    tiff = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(tiff, "TIFF")
    broken = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello",
        "flipped": whole[:60] + bytes([whole[60] ^ 4]) + whole[61:],
        "gigapixels": png_header(60_000, 60_000),
        "many pixels": png_header(10_000, 10_000),
        "16 bits": sixteen_bits.getvalue(),
        "another format": tiff.getvalue(),
    }
    for kind, content in broken.items():
        path.write_bytes(content)
        assert str(path) in refused(tmp_path), kind


def test_files_too_long_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pictures(tmp_path, IMAGES[:3])
    assert len(load(tmp_path)[0]) == 2
    monkeypatch.setattr(image_folder, "_MAX_BYTES", 700)
    assert refused(tmp_path).endswith("000.png: expected at most 700 bytes, found more.")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)  # root may read everything
    assert refused(tmp_path) == f"{tmp_path}: cannot be read: Permission denied"


def test_folders_that_are_refused(tmp_path: Path) -> None:
    assert "found 0" in refused(tmp_path)
    save_pictures(tmp_path / "train", IMAGES[:2])
    assert "found only train" in refused(tmp_path)
    save_pictures(tmp_path / "test" / "a", IMAGES[:2])
    save_pictures(tmp_path / "test", IMAGES[:2])
    assert "found both" in refused(tmp_path)
    (tmp_path / "file.png").touch()
    assert "an .npz file or a folder" in refused(tmp_path / "file.png")


def test_too_many_classes(tmp_path: Path) -> None:
    for index in range(257):
        save_pictures(tmp_path / str(index), IMAGES[:1])
    assert "at most 256 classes, found 257" in refused(tmp_path)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return (
        bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def test_folder_of_idx_files(tmp_path: Path) -> None:
    for half in ("train", "t10k"):
        (tmp_path / f"{half}-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES))
        (tmp_path / f"{half}-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS))
    train, test = load(tmp_path)
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(test.labels, LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[1:]))
    assert "found 24 labels for 25 pictures" in refused(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "found not both" in refused(tmp_path)
