"""Arrays of a user's own, in .npz and .npy files: what loads, and what is refused, and how."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import DataError
from tests.datasets.own import IMAGES, LABELS, RNG, Loaded, halves, pasted, refusal, save
from tests.helpers import Said, Tally, mutated

UNIT = IMAGES / 255
COLOUR = RNG.integers(0, 256, (12, 28, 28, 3), np.uint8)


def test_images_and_labels_every_tenth_held_out(tmp_path: Path) -> None:
    path = save(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    own = Loaded(path)
    train, test = own.train, own.test
    np.testing.assert_array_equal(test.images, IMAGES[[9, 19]])
    np.testing.assert_array_equal(test.labels, LABELS[[9, 19]])
    np.testing.assert_array_equal(train.images, np.delete(IMAGES, [9, 19], axis=0))
    np.testing.assert_array_equal(train.labels, np.delete(LABELS, [9, 19]))
    np.testing.assert_array_equal(own.images, IMAGES)
    assert train.name == str(path)
    assert train.class_names == ("0", "1", "2")
    assert train.source == f"read from {path}"
    assert train.images.flags.c_contiguous
    assert len(own.lines) == 1
    assert "every tenth picture is held out" in own.lines[0]
    assert own.notes == []


# ------------------------------------------------------------------ pixels


@pytest.mark.parametrize(
    "images",
    [
        *(UNIT.astype(dtype) for dtype in ("<f2", "<f4", ">f4", "<f8", ">f8")),
        *(IMAGES.astype(dtype) for dtype in ("<i8", ">u2", "<i4")),
        *(IMAGES.reshape(shape) for shape in ((25, 784), (25, 28, 28, 1), (25, 1, 28, 28))),
        *(np.asfortranarray(array) for array in (IMAGES, IMAGES.reshape(25, 784), UNIT)),
        UNIT + 9e-7,
        UNIT - 9e-7,
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_that_mean_the_same(tmp_path: Path, images: NDArray[Any]) -> None:
    own = Loaded(save(tmp_path / "own.npz", images=images))
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.images.dtype == np.uint8
    assert own.notes == []
    np.save(tmp_path / "own.npy", images)
    np.testing.assert_array_equal(Loaded(tmp_path / "own.npy").images, IMAGES)


def test_black_and_white(tmp_path: Path) -> None:
    """As bytes from 0 to 255, 0 and 1 would all be black, and a model of them very good."""
    path, white = tmp_path / "own.npz", IMAGES > 127
    for images in (white, white.astype(np.float32), np.where(white, 255, 0)):
        np.testing.assert_array_equal(Loaded(save(path, images=images)).images, 255 * white)


@pytest.mark.parametrize("colour", [COLOUR, COLOUR.transpose(0, 3, 1, 2), COLOUR / 255])
def test_colour_becomes_grey_as_pillow_does_it(tmp_path: Path, colour: NDArray[Any]) -> None:
    by_pillow = [np.asarray(Image.fromarray(image).convert("L")) for image in COLOUR]
    own = Loaded(save(tmp_path / "own.npz", images=colour))
    np.testing.assert_array_equal(own.images, by_pillow)


FLAT = IMAGES.reshape(25, 784)
WIDE = IMAGES.astype(np.int16)
WHITE = IMAGES > 127
# Refused with lines that make of it, pasted, what it was: one grey level off at most.
CONVERTED: dict[str, NDArray[Any]] = {
    "-1 to 1": IMAGES / 127.5 - 1,
    "-0.5 to 0.5": UNIT - 0.5,
    "floats to 255": IMAGES.astype(np.float32),
    "floats to 1020": IMAGES.astype(np.float32) * 4,
    "standardised": (UNIT - 0.13) / 0.31,
    "divided twice": UNIT / 255,
    "16 bits": IMAGES.astype(np.uint16) * 257,
    "signed bytes": IMAGES.view(np.int8),
    "from -128": WIDE - 128,
    "from -255": WIDE * 2 - 255,
    "bytes of 0 and 1": WHITE.astype(np.uint8),
    "four channels at the end": np.repeat(IMAGES[..., None], 4, 3),
    "four channels": np.repeat(IMAGES[:, None], 4, 1),
    "images last": np.moveaxis(IMAGES, 0, -1),
    "flat, images last": FLAT.T,
    "flat in colour": np.repeat(FLAT, 3, 1),
}
# The lines are a guess, or there are none.
NOT_CONVERTED: dict[str, NDArray[Any]] = {
    "a little above 1": UNIT * 1.01,
    "a little outside": UNIT * 1.18 - 0.09,
    "above 1": UNIT * 1.11,
    "outside": UNIT * 1.11 - 0.11,
    "NaN": np.where(IMAGES > 254, np.nan, UNIT),
    "infinite": np.full((3, 28, 28), np.inf),
    "no images": np.zeros((0, 28, 28), np.uint8),
    "a number": np.zeros((), np.uint8),
    "one image": np.zeros((28, 28), np.uint8),
    "two channels": np.zeros((3, 28, 28, 2), np.uint8),
    "another size": np.zeros((5, 32, 30), np.uint8),
    "complex": IMAGES.astype(complex),
    "words": np.full((2, 28, 28), "x"),
}
CONVERTED_LABELS: dict[str, tuple[NDArray[Any], str]] = {
    "thousands": (1000 * LABELS.astype(np.int64), "012"),
    "objects": (np.array(["a", "b", "c"], object)[LABELS], "abc"),
    "two columns": (np.stack([LABELS, LABELS + 5], axis=1), "012"),
    "negative": (LABELS.astype(np.int64) - 1, "012"),
    "above 255": (LABELS.astype(np.int64) + 254, "012"),
}
OTHER_LABELS: dict[str, NDArray[Any]] = {
    "one too few": LABELS[:-1],
    "fractions": LABELS + 0.5,
    "shares": np.full((25, 3), 1 / 3),
    "ones, too wide": np.full((25, 257), 1),
    "complex": LABELS.astype(complex),
    "too many": np.array([f"class {k}" for k in range(275)]),
    "three axes": np.full((25, 2, 2), 1),
}


def test_pixels_that_are_refused(said: Said, tmp_path: Path) -> None:
    path, texts = tmp_path / "own.npz", {}
    for case, array in CONVERTED.items():
        texts[case] = pasted(refusal(save(path, images=array, labels=LABELS)))
        own = Loaded(tmp_path / "own-new.npz")
        expected = 255 * WHITE if "0 and 1" in case else IMAGES
        np.testing.assert_allclose(own.images, expected, atol=1, err_msg=case)
        assert own.train.class_names == ("0", "1", "2")
    for case, array in NOT_CONVERTED.items():
        texts[case] = refusal(save(path, images=array, labels=LABELS))
        if "import numpy" in texts[case]:
            pasted(texts[case])
    said("pixels of an npz", texts)


def test_labels_that_are_refused(said: Said, tmp_path: Path) -> None:
    path, texts = tmp_path / "own.npz", {}
    for case, (labels, names) in CONVERTED_LABELS.items():
        texts[case] = pasted(refusal(save(path, images=IMAGES, labels=labels)))
        own = Loaded(tmp_path / "own-new.npz")
        assert own.train.class_names == tuple(names)
        np.testing.assert_array_equal(own.train.labels, np.delete(LABELS, [9, 19]))
    for case, labels in OTHER_LABELS.items():
        texts[case] = refusal(save(path, images=IMAGES, labels=labels))
        if "import numpy" in texts[case]:
            pasted(texts[case])
    said("labels of an npz", texts)


def test_other_sizes_are_scaled_where_it_is_asked_for(tmp_path: Path) -> None:
    """Twice as large, they come back; half as wide, they stand between bands of their edge."""
    large = IMAGES.repeat(2, axis=1).repeat(2, axis=2)
    path = save(tmp_path / "own.npz", images=large)
    assert "found 56 x 56" in refusal(path)
    own = Loaded(path, resize=True)
    assert own.train.source == f"read from {path}, 25 scaled to 28 x 28 (from 56 x 56)"
    smooth = np.full((2, 56, 56), 90, np.uint8)
    smooth[:, 20:40, 20:40] = 200
    own = Loaded(save(path, images=smooth), resize=True)
    assert (own.train.images[0, 12:18, 12:18] == 200).all()
    narrow = Loaded(save(path, images=smooth[:, :, 14:42]), resize=True).train.images[0]
    assert (narrow[:, :7] == 90).all()
    assert (narrow[12:18, 12:16] == 200).all()
    flat = Loaded(save(path, images=smooth.reshape(2, -1)), resize=True)
    np.testing.assert_array_equal(flat.train.images, own.train.images)


# ------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS.astype(np.float64), "012"),
        (LABELS[:, None], "012"),
        (LABELS[None], "012"),
        (LABELS.astype(">i8"), "012"),
        (LABELS > 0, "01"),
        (np.eye(3, dtype=np.float32)[LABELS], "012"),
        (np.asfortranarray(np.eye(3, dtype=bool)[LABELS]), "012"),
        (np.array(list("abc"))[LABELS], "abc"),
        (np.array(["10", "2", "x"])[LABELS], ["2", "10", "x"]),
        (np.array([b"a", b"b", b"c"])[LABELS], "abc"),
    ],
)
def test_labels_that_mean_classes(tmp_path: Path, labels: NDArray[Any], names: str) -> None:
    own = Loaded(save(tmp_path / "own.npz", images=IMAGES, labels=labels))
    assert own.train.class_names == tuple(names)
    flat = labels.argmax(1) if labels.shape == (25, 3) else labels.ravel()
    expected = [np.str_(word, "latin-1") if flat.dtype.kind == "S" else str(word) for word in flat]
    numbers = {"False": "0", "True": "1", "0.0": "0", "1.0": "1", "2.0": "2"}
    assert own.classes == [numbers.get(word, word) for word in expected]


def test_names_are_escaped_and_their_accents_composed(tmp_path: Path) -> None:
    """Terminals obey no name; accents are the same however they are written."""
    labels = np.array(["carr\u00e9s", "\33[2J", "carre\u0301s"])[LABELS]
    own = Loaded(save(tmp_path / "own.npz", images=IMAGES, labels=labels))
    assert own.train.class_names == ("\\x1b[2J", "carr\u00e9s")


def test_256_classes_at_most(tmp_path: Path) -> None:
    many, labels = np.resize(IMAGES, (256, 28, 28)), np.arange(256, dtype=np.uint8)
    own = Loaded(save(tmp_path / "own.npz", images=many, labels=labels))
    assert len(own.train.class_names) == 256
    many, words = np.resize(IMAGES, (257, 28, 28)), np.array([f"class {k}" for k in range(257)])
    path = save(tmp_path / "own.npz", images=many, labels=words)
    assert "at most 256 classes, found 257" in refusal(path)


# ------------------------------------------------------------------ names of arrays

MORE = RNG.integers(0, 256, (9, 28, 28), np.uint8)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("trainImages", "trainLabels", "testImages", "testLabels"),
        ("images_train", "targets_train", "images_test", "targets_test"),
    ],
)
def test_halves_by_their_usual_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays: tuple[NDArray[Any], ...] = (IMAGES, LABELS.astype(np.int64), MORE, LABELS[:9, None])
    own = Loaded(save(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True))))
    np.testing.assert_array_equal(own.train.images, IMAGES)
    np.testing.assert_array_equal(own.test.images, MORE)
    np.testing.assert_array_equal(own.test.labels, LABELS[:9])
    assert own.notes == []


@pytest.mark.parametrize("names", [("X", "y"), ("data", "target"), ("Images", "Label")])
def test_all_in_one_by_its_usual_names(tmp_path: Path, names: tuple[str, str]) -> None:
    own = Loaded(save(tmp_path / "a.npz", **{names[0]: IMAGES, names[1]: LABELS}))
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.train.class_names == ("0", "1", "2")


def test_what_is_not_used_is_said(said: Said, tmp_path: Path) -> None:
    path, val = tmp_path / "a.npz", {"val_images": MORE[:3], "val_labels": LABELS[:3]}
    known = {"train_images": IMAGES, "train_labels": LABELS}
    given: dict[str, tuple[dict[str, NDArray[Any]], int, int]] = {
        "three sets": (
            {"train_images": IMAGES, "test_images": MORE[3:], "ids": LABELS} | val,
            25,
            6,
        ),
        "no test set": (known | val, 25, 3),
        "no test labels": (known | {"test_images": MORE}, 25, 9),
        "training set alone": (known, 23, 2),
    }
    notes = {}
    for case, (arrays, train, test) in given.items():
        own = Loaded(save(path, **arrays))
        assert (len(own.train), len(own.test)) == (train, test), case
        notes[case] = "\n".join(own.notes)
    said("notes about the arrays of an npz", notes)


def test_names_that_are_not_clear(said: Said, tmp_path: Path) -> None:
    path, texts = tmp_path / "own.npz", {}
    unclear: dict[str, dict[str, NDArray[Any]]] = {
        "all and a half": {"images": MORE, "x_train": IMAGES},
        "twice": {"X": MORE, "images": IMAGES},
        "numbered": {"arr_0": IMAGES, "arr_1": LABELS},
        "unknown": {"what": IMAGES},
    }
    for case, arrays in unclear.items():
        texts[case] = pasted(refusal(save(path, **arrays)))
        assert len(Loaded(tmp_path / "own-new.npz").images) in (9, 25)
    texts["test alone"] = refusal(save(path, x_test=IMAGES))
    texts["no array"] = refusal(zipped(path, ("notes.txt", b"")))
    texts["one picture"] = refusal(save(path, images=IMAGES[:1]))
    said("names in an npz", texts)


def test_two_pictures_without_labels_are_one_for_each_half(tmp_path: Path) -> None:
    train, test = halves(save(tmp_path / "b.npz", images=IMAGES[:2]))
    assert (len(train), len(test)) == (1, 1)
    assert (train.labels.tolist(), train.class_names) == ([0], ("picture",))


# ------------------------------------------------------------------ files that lie
class Touch:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    objects = np.array([Touch(touched)] * 3, dtype=object)
    refusal(save(tmp_path / "own.npz", images=objects))
    refusal(save(tmp_path / "labels.npz", images=IMAGES[:3], labels=objects))
    assert not touched.exists()


def test_one_wrong_bit_of_the_pixels_is_noticed(tmp_path: Path) -> None:
    """Not compressed, so that only the checksum can tell."""
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    whole = (tmp_path / "own.npz").read_bytes()
    for array in (IMAGES, LABELS):
        at = whole.index(array.tobytes()) + 7
        (tmp_path / "own.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "Bad CRC-32" in refusal(tmp_path / "own.npz")


def test_what_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = save(tmp_path / "own.npz", images=IMAGES)
    monkeypatch.setattr(np, "empty", full)
    assert refusal(path) == f"{path}: cannot be read: there is not enough memory for it"


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


def test_zip_tricks_are_refused(tmp_path: Path, tally: Tally) -> None:
    for trick in ZIP_TRICKS.values():
        refusal(zipped(tmp_path / "own.npz", ("images.npy", trick)))
        tally("npz datasets: zip and header tricks", "refused")


def test_zip_tricks_with_the_archive(tmp_path: Path) -> None:
    good = npy("(3, 28, 28)") + PIXELS
    path = tmp_path / "own.npz"
    assert len(halves(zipped(path, ("images.npy", good)))[0]) == 2
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(path, ("images.npy", good), ("images.npy", good))
    assert "same name" in refusal(path)
    zipped(path, ("images.npy", good), method=zipfile.ZIP_LZMA)
    assert "another kind of compression" in refusal(path)
    path.write_bytes(b"no zip at all")
    refusal(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # all its pictures are equal
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_npz_is_refused_or_harmless(tmp_path: Path, count: int, tally: Tally) -> None:
    buffer, image = io.BytesIO(), IMAGES[0] // 128 * 255
    np.savez_compressed(buffer, images=np.stack(4 * [image]))
    content, path = buffer.getvalue(), tmp_path / "own.npz"
    path.write_bytes(content)
    assert len(halves(path)[0]) == 3, "it is the mutations that are refused"
    harmless = 0
    for seed in range(count):
        path.unlink()  # ext4 waits for the disk when one is written over
        path.write_bytes(mutated(content, seed))
        try:
            train, test = halves(path)
        except DataError:
            tally("npz datasets: mutations", "refused")
            continue
        assert len(train) + len(test) == 4, f"seed {seed}"
        assert (train.images == image).all(), f"seed {seed}"
        harmless += 1
        tally("npz datasets: mutations", "harmless")
    assert 0 < harmless < 0.3 * count
