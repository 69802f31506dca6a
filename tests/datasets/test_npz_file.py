"""Arrays of a user's own, in .npz and .npy files: what loads, and what is refused, and how."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.datasets.own import IMAGES, LABELS, MORE, RNG, Loaded, grouped, outcome, refusal, save
from tests.datasets.test_idx import harmless_mutations
from tests.helpers import Said, Tally

pytestmark = pytest.mark.usefixtures("here")

Arrays = dict[str, NDArray[Any]]

UNIT = IMAGES / 255
WHITE = IMAGES > 127
FLAT = IMAGES.reshape(25, 784)
WIDE = IMAGES.astype(np.int16)
PIXELS: Arrays = {
    # These mean the same.
    **{f"{kind} to 1": UNIT.astype(kind) for kind in ("<f2", "<f4", ">f4", "<f8", ">f8")},
    **{f"{kind} to 255": IMAGES.astype(kind) for kind in ("u1", "<i8", ">u2", "<i4")},
    "flat": FLAT,
    "one channel at the end": IMAGES[..., None],
    "one channel": IMAGES[:, None],
    "columns first": np.asfortranarray(IMAGES),
    "flat, columns first": np.asfortranarray(FLAT),
    "floats, columns first": np.asfortranarray(UNIT),
    "within rounding above": UNIT + 9e-7,
    "within rounding below": UNIT - 9e-7,
    # As bytes from 0 to 255, 0 and 1 would all be black, and a model of them very good.
    "True and False": WHITE,
    "floats of 0 and 1": WHITE.astype(np.float32),
    "0 and 255": np.where(WHITE, 255, 0),
    "bytes of 0 and 1": WHITE.astype(np.uint8),
    # These are refused with the line that converts them.
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
    "four channels at the end": np.repeat(IMAGES[..., None], 4, 3),
    "four channels": np.repeat(IMAGES[:, None], 4, 1),
    "images last": np.moveaxis(IMAGES, 0, -1),
    "flat, images last": FLAT.T,
    "flat in colour": np.repeat(FLAT, 3, 1),
    # The line is a guess, or there is none.
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
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
MANY = np.array([f"class {k}" for k in range(275)])
OF_CLASSES: Arrays = {
    "floats": LABELS.astype(np.float64),
    "a column": LABELS[:, None],
    "a row": LABELS[None],
    "integers": LABELS.astype(">i8"),
    "up to 255": LABELS + np.uint8(253),
    "True and False": LABELS > 0,
    "one-hot": ONE_HOT,
    "one-hot, columns first": np.asfortranarray(ONE_HOT.astype(bool)),
    "words": np.array(["10", "2", "x"])[LABELS],
    "words of bytes": np.array([b"a", b"b", b"\xe9"])[LABELS],
    # Terminals obey no name; accents are the same however they are written.
    "odd words": np.array(["\33[2J", "carr\u00e9s", "carre\u0301s"])[LABELS],
    # These are refused with the line that converts them.
    "thousands": 1000 * LABELS.astype(np.int64),
    "objects": np.array(["a", "b", "c"], object)[LABELS],
    "two columns": np.stack([LABELS, LABELS + 5], axis=1),
    "negative": LABELS.astype(np.int64) - 1,
    "above 255": LABELS.astype(np.int64) + 254,
    # The line is a guess, or there is none.
    "one too few": LABELS[:-1],
    "fractions": LABELS + 0.5,
    "huge": LABELS * 1e18,
    "two of three": 1 - ONE_HOT,
    "long words": np.array(["a", "b", 257 * "c"])[LABELS],
    "shares": np.full((25, 3), 1 / 3),
    "ones, too wide": np.full((25, 257), 1),
    "complex": LABELS.astype(complex),
    "too many": MANY,
    "three axes": np.full((25, 2, 2), 1),
}
BOTH = {"train_images": IMAGES, "train_labels": LABELS}
VAL = {"val_images": MORE[:3], "val_labels": LABELS[:3]}
NAMES: dict[str, Arrays] = {
    **{
        names: dict(zip(names.split(), (IMAGES, LABELS, MORE, LABELS[:9, None]), strict=False))
        for names in (
            *("x_train y_train x_test y_test", "X_train y_train X_test y_test"),
            "train_images train_labels test_images test_labels",
            "trainImages trainLabels testImages testLabels",
            "images_train targets_train images_test targets_test",
            *("X y", "data target", "Images Label"),
        )
    },
    "three sets": {"train_images": IMAGES, "test_images": MORE, "ids": LABELS} | VAL,
    "no test set": BOTH | VAL,
    "no test labels": BOTH | {"test_images": MORE},
    "training set alone": BOTH,
    "two pictures": {"images": IMAGES[:2]},
    # These are refused, some with the line that names them otherwise.
    "all and a half": {"images": MORE, "x_train": IMAGES},
    "twice": {"X": MORE, "images": IMAGES},
    "numbered": {"arr_0": IMAGES, "arr_1": LABELS},
    "unknown": {"what": IMAGES},
    "test alone": {"x_test": IMAGES},
    "one picture": {"images": IMAGES[:1]},
    "257 classes": {"images": np.resize(IMAGES, (257, 28, 28)), "labels": MANY[:257]},
}
CASES: dict[str, dict[str, Arrays]] = {
    "pixels": {case: {"images": images, "labels": LABELS} for case, images in PIXELS.items()},
    "labels": {case: {"images": IMAGES, "labels": labels} for case, labels in OF_CLASSES.items()},
    "names": NAMES,
}


@pytest.mark.parametrize("what", CASES)
def test_arrays_are_read_or_refused_with_the_way_on(what: str, said: Said) -> None:
    texts = {}
    for case, arrays in CASES[what].items():
        texts[case] = outcome(save("own.npz", **arrays))
    said(f"arrays in an npz, {what}", grouped(texts))


def test_images_and_labels_every_tenth_held_out() -> None:
    own = Loaded(save("own.npz", images=IMAGES, labels=LABELS))
    np.testing.assert_array_equal(own.test.images, IMAGES[[9, 19]])
    np.testing.assert_array_equal(own.test.labels, LABELS[[9, 19]])
    assert (own.train.name, own.train.source) == ("own.npz", "read from own.npz")
    assert {half.dtype for half in (own.train.images, own.test.labels)} == {np.dtype(np.uint8)}
    assert own.train.images.flags.c_contiguous
    assert len(own.lines) == 1
    assert "every tenth picture is held out" in own.lines[0]


def test_an_array_in_a_file_of_its_own_of_more_than_one_block() -> None:
    """512 pictures are converted at once."""
    many = RNG.integers(0, 256, (600, 28, 28), np.uint8)
    for images in (many, np.asfortranarray(many / 255)):
        np.save("own.npy", images)
        np.testing.assert_array_equal(Loaded("own.npy").images, many)


def test_colour_becomes_grey_as_pillow_does_it() -> None:
    colour = RNG.integers(0, 256, (12, 28, 28, 3), np.uint8)
    by_pillow = [np.asarray(Image.fromarray(image).convert("L")) for image in colour]
    for images in (colour, colour.transpose(0, 3, 1, 2), colour / 255):
        own = Loaded(save("own.npz", images=images))
        np.testing.assert_array_equal(own.images, by_pillow)


def test_other_sizes_are_scaled_where_it_is_asked_for() -> None:
    """Twice as large, they come back; half as wide, they stand between bands of their edge."""
    large = save("own.npz", images=IMAGES.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(Loaded(large, resize=True).images, IMAGES)
    square, small = (np.full((2, side, side), 90, np.uint8) for side in (56, 28))
    square[:, 20:40, 20:40] = small[:, 10:20, 10:20] = 200
    for images in (square, square.reshape(2, -1), square[:, :, 14:42]):
        own = Loaded(save("own.npz", images=images), resize=True)
        np.testing.assert_array_equal(own.images, small)
    assert own.train.source == "read from own.npz, 2 scaled to 28 x 28 (from 28 x 56)"


def test_there_may_be_256_classes() -> None:
    labels = np.arange(256, dtype=np.uint8)
    own = Loaded(save("own.npz", images=np.resize(IMAGES, (256, 28, 28)), labels=labels))
    assert own.train.class_names == tuple(map(str, range(256)))


class Touch:
    """Unpickled, it would create a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def test_nothing_is_unpickled() -> None:
    objects = np.array([Touch()] * 3, dtype=object)
    refusal(save("own.npz", images=objects))
    refusal(save("own.npz", images=IMAGES[:3], labels=objects))
    assert not Path("touched").exists()


def test_one_wrong_bit_of_the_pixels_is_noticed() -> None:
    """Not compressed, so that only the checksum can tell."""
    path = Path("own.npz")
    np.savez(path, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    for array in (IMAGES, LABELS):
        at = whole.index(array.tobytes()) + 7
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "Bad CRC-32" in refusal(path)


def npy(shape: str, descr: str = "'|u1'", version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header


def zipped(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


# storage/test_hostile_files.py has those that are large, or keep whoever opens them.
LIES: dict[str, bytes] = {
    "two negatives": npy("(-3, -28, 28)") + IMAGES[:3].tobytes(),
    "too little": npy("(3, 28, 28)") + IMAGES[:3].tobytes()[:-1],
    "too much": npy("(3, 28, 28)") + IMAGES[:3].tobytes() + b"x",
    "another version": npy("(3, 28, 28)", version=2) + IMAGES[:3].tobytes(),
}


def test_files_that_lie_are_refused(said: Said, tally: Tally) -> None:
    good, path = ("images.npy", npy("(3, 28, 28)") + IMAGES[:3].tobytes()), Path("own.npz")
    assert len(Loaded(zipped(path, good)).images) == 3
    texts = {case: refusal(zipped(path, ("images.npy", lie))) for case, lie in LIES.items()}
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(path, good, good)
    texts["the same name twice"] = refusal(path)
    texts["another method"] = refusal(zipped(path, good, method=zipfile.ZIP_LZMA))
    said("npz files that lie", texts)
    for no_array in (b"hello", b""):  # of which NumPy says something
        refusal(zipped(path, ("images.npy", no_array)))
    path.write_bytes(b"no zip at all")
    refusal(path)
    assert "found none" in refusal(zipped(path, ("notes.txt", b"")))
    for _ in range(len(texts) + 3):
        tally("npz datasets: zip and header tricks", "refused")


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_npz_is_refused_or_harmless(count: int, tally: Tally) -> None:
    path = save("own.npz", images=np.stack(4 * [IMAGES[0] // 128 * 255]))

    def load(path: Path) -> bytes:
        return Loaded(path).images.tobytes()

    harmless = harmless_mutations(path, count, load, tally, "npz datasets: mutations")
    assert 0 < harmless < 0.3 * count
