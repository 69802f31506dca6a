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
from tests.datasets.own import IMAGES, LABELS, RNG, Loaded, pasted, refusal, save
from tests.helpers import Said, Tally, mutated

pytestmark = pytest.mark.usefixtures("here")

Arrays = dict[str, NDArray[Any]]

UNIT = IMAGES / 255
FLAT = IMAGES.reshape(25, 784)
WIDE = IMAGES.astype(np.int16)
WHITE = IMAGES > 127
WORDS = [str(label) for label in LABELS]
MORE = RNG.integers(0, 256, (9, 28, 28), np.uint8)


def test_images_and_labels_every_tenth_held_out() -> None:
    own = Loaded(save("own.npz", images=IMAGES, labels=LABELS))
    train, test = own.train, own.test
    np.testing.assert_array_equal(test.images, IMAGES[[9, 19]])
    np.testing.assert_array_equal(test.labels, LABELS[[9, 19]])
    np.testing.assert_array_equal(train.images, np.delete(IMAGES, [9, 19], axis=0))
    np.testing.assert_array_equal(train.labels, np.delete(LABELS, [9, 19]))
    assert (train.name, train.source) == ("own.npz", "read from own.npz")
    assert train.class_names == ("0", "1", "2")
    assert train.images.flags.c_contiguous
    assert len(own.lines) == 1
    assert "every tenth picture is held out" in own.lines[0]
    assert own.notes == []


def test_two_pictures_without_labels_are_one_for_each_half() -> None:
    own = Loaded(save("own.npz", images=IMAGES[:2]))
    assert str(own) == "training: 1 of picture\ntest: 1 of picture"


# ------------------------------------------------------------------ pixels

SAME: Arrays = {
    **{f"{kind} to 1": UNIT.astype(kind) for kind in ("<f2", "<f4", ">f4", "<f8", ">f8")},
    **{f"{kind} to 255": IMAGES.astype(kind) for kind in ("<i8", ">u2", "<i4")},
    "flat": FLAT,
    "one channel at the end": IMAGES[..., None],
    "one channel": IMAGES[:, None],
    "columns first": np.asfortranarray(IMAGES),
    "flat, columns first": np.asfortranarray(FLAT),
    "floats, columns first": np.asfortranarray(UNIT),
    "a little above": UNIT + 9e-7,
    "a little below": UNIT - 9e-7,
}


@pytest.mark.parametrize("images", SAME.values(), ids=SAME)
def test_arrays_that_mean_the_same(images: NDArray[Any]) -> None:
    own = Loaded(save("own.npz", images=images))
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.images.dtype == np.uint8
    assert own.notes == []
    np.save("own.npy", images)
    np.testing.assert_array_equal(Loaded("own.npy").images, IMAGES)


def test_arrays_of_more_than_a_block() -> None:
    """512 pictures are converted at once."""
    many = RNG.integers(0, 256, (600, 28, 28), np.uint8)
    for images in (many, np.asfortranarray(many / 255)):
        np.save("own.npy", images)
        np.testing.assert_array_equal(Loaded("own.npy").images, many)


def test_black_and_white() -> None:
    """As bytes from 0 to 255, 0 and 1 would all be black, and a model of them very good."""
    for images in (WHITE, WHITE.astype(np.float32), 255 * WHITE):
        own = Loaded(save("own.npz", images=images))
        np.testing.assert_array_equal(own.images, 255 * WHITE)


def test_colour_becomes_grey_as_pillow_does_it() -> None:
    colour = RNG.integers(0, 256, (12, 28, 28, 3), np.uint8)
    by_pillow = [np.asarray(Image.fromarray(image).convert("L")) for image in colour]
    for images in (colour, colour.transpose(0, 3, 1, 2), colour / 255):
        own = Loaded(save("own.npz", images=images))
        np.testing.assert_array_equal(own.images, by_pillow)


# Refused with lines that make of it, pasted, what it was: one grey level off at most.
CONVERTED_PIXELS: Arrays = {
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
REFUSED_PIXELS: Arrays = {
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
CONVERTED_LABELS: Arrays = {
    "thousands": 1000 * LABELS.astype(np.int64),
    "objects": np.array(["a", "b", "c"], object)[LABELS],
    "two columns": np.stack([LABELS, LABELS + 5], axis=1),
    "negative": LABELS.astype(np.int64) - 1,
    "above 255": LABELS.astype(np.int64) + 254,
}
REFUSED_LABELS: Arrays = {
    "one too few": LABELS[:-1],
    "fractions": LABELS + 0.5,
    "shares": np.full((25, 3), 1 / 3),
    "ones, too wide": np.full((25, 257), 1),
    "complex labels": LABELS.astype(complex),
    "too many": np.array([f"class {k}" for k in range(275)]),
    "three axes": np.full((25, 2, 2), 1),
}
LABELLED = {"images": IMAGES, "labels": LABELS}


def test_arrays_that_are_refused_with_the_line_that_converts_them(said: Said) -> None:
    texts = {}
    cases = {case: LABELLED | {"images": images} for case, images in CONVERTED_PIXELS.items()}
    cases |= {case: LABELLED | {"labels": labels} for case, labels in CONVERTED_LABELS.items()}
    for case, arrays in cases.items():
        texts[case] = pasted(refusal(save("own.npz", **arrays)))
        own, expected = Loaded("own-new.npz"), 255 * WHITE if "0 and 1" in case else IMAGES
        np.testing.assert_allclose(own.images, expected, atol=1, err_msg=case)
        np.testing.assert_array_equal(own.train.labels, np.delete(LABELS, [9, 19]), err_msg=case)
        texts[case] += f"\n{', '.join(own.train.class_names)}"
    said("arrays of an npz that one line converts", texts)


def test_arrays_that_are_refused(said: Said) -> None:
    """Perhaps with a line that is a guess, and runs."""
    texts = {}
    cases = {case: LABELLED | {"images": images} for case, images in REFUSED_PIXELS.items()}
    cases |= {case: LABELLED | {"labels": labels} for case, labels in REFUSED_LABELS.items()}
    words = np.array([f"class {k}" for k in range(257)])
    cases["257 classes"] = {"images": np.resize(IMAGES, (257, 28, 28)), "labels": words}
    for case, arrays in cases.items():
        texts[case] = refusal(save("own.npz", **arrays))
        if "import numpy" in texts[case]:
            pasted(texts[case])
    said("arrays of an npz are refused", texts)


def test_other_sizes_are_scaled_where_it_is_asked_for() -> None:
    """Twice as large, they come back; half as wide, they stand between bands of their edge."""
    smooth = np.full((2, 56, 56), 90, np.uint8)
    smooth[:, 20:40, 20:40] = 200
    path = save("own.npz", images=smooth)
    assert "found 56 x 56" in refusal(path)
    own = Loaded(path, resize=True)
    assert own.train.source == "read from own.npz, 2 scaled to 28 x 28 (from 56 x 56)"
    assert (own.images[0, 12:18, 12:18] == 200).all()
    narrow = Loaded(save(path, images=smooth[:, :, 14:42]), resize=True).images[0]
    assert (narrow[:, :7] == 90).all()
    assert (narrow[12:18, 12:16] == 200).all()
    flat = Loaded(save(path, images=smooth.reshape(2, -1)), resize=True)
    np.testing.assert_array_equal(flat.images, own.images)
    large = IMAGES.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(Loaded(save(path, images=large), resize=True).images, IMAGES)


# ------------------------------------------------------------------ labels

# With the class of labels 0, 1 and 2, in the order of classes.
MEANT: dict[str, tuple[NDArray[Any], list[str]]] = {
    "floats": (LABELS.astype(np.float64), ["0", "1", "2"]),
    "a column": (LABELS[:, None], ["0", "1", "2"]),
    "a row": (LABELS[None], ["0", "1", "2"]),
    "integers": (LABELS.astype(">i8"), ["0", "1", "2"]),
    "True and False": (LABELS > 0, ["0", "1", "1"]),
    "one-hot": (np.eye(3, dtype=np.float32)[LABELS], ["0", "1", "2"]),
    "one-hot, columns first": (np.asfortranarray(np.eye(3, dtype=bool)[LABELS]), ["0", "1", "2"]),
    "words": (np.array(["2", "10", "x"])[LABELS], ["2", "10", "x"]),
    "bytes": (np.array([b"a", b"b", b"\xe9"])[LABELS], ["a", "b", "\xe9"]),
    # Terminals obey no name; accents are the same however they are written.
    "odd names": (
        np.array(["\33[2J", "carr\u00e9s", "carre\u0301s"])[LABELS],
        ["\\x1b[2J", "carr\u00e9s", "carr\u00e9s"],
    ),
}


@pytest.mark.parametrize(("labels", "names"), MEANT.values(), ids=MEANT)
def test_labels_that_mean_classes(labels: NDArray[Any], names: list[str]) -> None:
    own = Loaded(save("own.npz", images=IMAGES, labels=labels))
    assert own.classes == [names[label] for label in LABELS]
    assert own.train.class_names == tuple(dict.fromkeys(names))


def test_there_may_be_256_classes() -> None:
    labels = np.arange(256, dtype=np.uint8)
    own = Loaded(save("own.npz", images=np.resize(IMAGES, (256, 28, 28)), labels=labels))
    assert own.classes == [str(label) for label in labels]


# ------------------------------------------------------------------ names of arrays


@pytest.mark.parametrize(
    "names",
    [
        *("x_train y_train x_test y_test", "X_train y_train X_test y_test"),
        "train_images train_labels test_images test_labels",
        "trainImages trainLabels testImages testLabels",
        "images_train targets_train images_test targets_test",
        *("X y", "data target", "Images Label"),
    ],
)
def test_arrays_by_their_usual_names(names: str) -> None:
    given = (IMAGES, LABELS.astype(np.int64), MORE, LABELS[:9, None])
    arrays: Arrays = dict(zip(names.split(), given, strict=False))
    own = Loaded(save("own.npz", **arrays))
    both = len(names.split()) == 4
    np.testing.assert_array_equal(own.images, np.concatenate([IMAGES, MORE]) if both else IMAGES)
    assert own.classes == WORDS + WORDS[:9] * both
    assert own.notes == []


def test_what_is_not_used_is_said(said: Said) -> None:
    train = {"train_images": IMAGES, "train_labels": LABELS}
    val = {"val_images": MORE[:3], "val_labels": LABELS[:3]}
    others = {"test_images": MORE[3:], "ids": LABELS}
    given: dict[str, Arrays] = {
        "three sets": {"train_images": IMAGES} | others | val,
        "no test set": train | val,
        "no test labels": train | {"test_images": MORE},
        "training set alone": train,
    }
    texts = {case: str(Loaded(save("own.npz", **arrays))) for case, arrays in given.items()}
    said("arrays of an npz that are not used", texts)


def test_names_that_are_not_clear(said: Said) -> None:
    texts = {}
    unclear: dict[str, Arrays] = {
        "all and a half": {"images": MORE, "x_train": IMAGES},
        "twice": {"X": MORE, "images": IMAGES},
        "numbered": {"arr_0": IMAGES, "arr_1": LABELS},
        "unknown": {"what": IMAGES},
    }
    for case, arrays in unclear.items():
        texts[case] = pasted(refusal(save("own.npz", **arrays)))
        texts[case] += f"\n{Loaded('own-new.npz')}"
    texts["test alone"] = refusal(save("own.npz", x_test=IMAGES))
    texts["no array"] = refusal(zipped("own.npz", ("notes.txt", b"")))
    texts["one picture"] = refusal(save("own.npz", images=IMAGES[:1]))
    said("names in an npz", texts)


# ------------------------------------------------------------------ files that lie


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


def test_what_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = save("own.npz", images=IMAGES)
    monkeypatch.setattr(np, "empty", full)
    assert refusal(path) == "own.npz: cannot be read: there is not enough memory for it"


def npy(shape: str, descr: str = "'|u1'", version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header


def zipped(
    path: str | Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return Path(path)


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
    for _ in range(len(texts) + 3):
        tally("npz datasets: zip and header tricks", "refused")


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_npz_is_refused_or_harmless(count: int, tally: Tally) -> None:
    buffer, image = io.BytesIO(), IMAGES[0] // 128 * 255
    np.savez_compressed(buffer, images=np.stack(4 * [image]))
    content, path = buffer.getvalue(), Path("own.npz")
    path.write_bytes(content)
    assert len(Loaded(path).train) == 3, "it is the mutations that are refused"
    harmless = 0
    for seed in range(count):
        path.unlink()  # ext4 waits for the disk when one is written over
        path.write_bytes(mutated(content, seed))
        try:
            found = Loaded(path).images
        except DataError:
            tally("npz datasets: mutations", "refused")
            continue
        assert found.shape == (4, 28, 28), f"seed {seed}"
        assert (found == image).all(), f"seed {seed}"
        harmless += 1
        tally("npz datasets: mutations", "harmless")
    assert 0 < harmless < 0.3 * count
