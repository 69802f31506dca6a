"""What people have besides folders of pictures: IDX files, tables; and what looks like a slip."""

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.core.errors import DataError, OptionError
from npvae.datasets import load_dataset
from npvae.plots.class_names import check_class, class_label
from tests.datasets.own import (
    IMAGES,
    LABELS,
    RNG,
    Loaded,
    halves,
    idx_bytes,
    pasted,
    refusal,
    save,
    save_pictures,
)

MORE = RNG.integers(0, 256, (9, 28, 28), np.uint8)

# ------------------------------------------------------------------ IDX files


def save_idx(folder: Path, names: str, images: NDArray[Any] = IMAGES, more: bool = True) -> None:
    """Four files; in `names`, HALF and ROLE and N stand for what differs between them."""
    folder.mkdir(parents=True, exist_ok=True)
    test = "test" if "emnist" in names or "TEST" in names else "t10k"
    for half, pixels, labels in (("train", images, LABELS), (test, MORE, LABELS[:9])):
        for role, array in (("images", pixels), ("labels", labels)):
            name = names.replace("HALF", half).replace("ROLE", role).replace("TEST", "")
            content = idx_bytes(array)
            pack = gzip.compress if name.endswith(".gz") else bytes
            (folder / name.replace("N", str(array.ndim))).write_bytes(pack(content))


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        ("HALF-ROLE-idxN-ubyte.gz", ""),
        ("HALF-ROLE-idxN-ubyte", ""),
        ("HALF-ROLE.idxN-ubyte", ""),
        ("HALF-ROLE.idxN-ubyte.gz", "raw"),
        ("HALF_ROLE_idxN_ubyte", "MNIST"),
        ("TESTHALF-ROLE-idxN-ubyte", "FashionMNIST/raw"),
        ("k49-HALF-ROLE-idxN-ubyte.gz", "MNIST/raw"),
    ],
)
def test_idx_files_where_and_as_they_are_usually_called(
    tmp_path: Path, names: str, folder: str
) -> None:
    save_idx(tmp_path / folder, names)
    if names.endswith(".gz"):  # as torchvision has them, both
        save_idx(tmp_path / folder, names.removesuffix(".gz"))
    own = Loaded(tmp_path)
    np.testing.assert_array_equal(own.train.images, IMAGES)
    np.testing.assert_array_equal(own.train.labels, LABELS)
    np.testing.assert_array_equal(own.test.images, MORE)
    assert (own.train.class_names, own.notes) == (("0", "1", "2"), [])


def test_emnist_has_26_letters_and_lies_on_its_side(tmp_path: Path) -> None:
    save_idx(tmp_path, "emnist-letters-HALF-ROLE-idxN-ubyte.gz")
    labels = (np.arange(25) + 2).astype(np.uint8)
    path = tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(labels)))
    own = Loaded(tmp_path)
    assert own.train.class_names == tuple(map(str, range(27)))
    assert own.notes[0] == (
        "EMNIST's pictures lie on their side; images.transpose(0, 2, 1) turns them"
    )


def test_idx_files_that_are_not_clear(tmp_path: Path) -> None:
    save_idx(tmp_path / "MNIST" / "raw", "HALF-ROLE-idxN-ubyte")
    save_idx(tmp_path / "FashionMNIST" / "raw", "HALF-ROLE-idxN-ubyte")
    assert f"found 2: {tmp_path / 'FashionMNIST' / 'raw'}, " in refusal(tmp_path)
    assert len(halves(tmp_path / "MNIST")[0]) == 25
    save_idx(tmp_path / "both", "emnist-digits-HALF-ROLE-idxN-ubyte")
    save_idx(tmp_path / "both", "emnist-letters-HALF-ROLE-idxN-ubyte")
    message = refusal(tmp_path / "both")
    assert "emnist-digits-, " in message
    pasted(message)
    assert len(Loaded(tmp_path / "both-own").train) == 25


def test_each_idx_file_may_lie_in_a_folder_of_its_own(tmp_path: Path) -> None:
    save_idx(tmp_path, "HALF-ROLE-idxN-ubyte")
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / "file")
        path.mkdir()
        (tmp_path / "file").rename(path / path.name)
    np.testing.assert_array_equal(Loaded(tmp_path).test.images, MORE)


def test_idx_files_that_are_missing(tmp_path: Path) -> None:
    save_idx(tmp_path, "HALF-ROLE-idxN-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert Loaded(tmp_path).notes == ["the test set has no labels: its class is called picture"]
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    own = Loaded(tmp_path)
    np.testing.assert_array_equal(own.images, IMAGES)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[1:]))
    assert "one label for each of 25 pictures, found 24" in refusal(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "t10k-images-idx3-ubyte")
    assert "found only test" in refusal(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_that_one_line_converts(tmp_path: Path, suffix: str) -> None:
    names = f"HALF-ROLE-idxN-ubyte{suffix}"
    save_idx(tmp_path, names, (IMAGES > 127).astype(np.uint8))
    message = refusal(tmp_path)
    assert "found only 0 and 1." in message
    pasted(message)
    np.testing.assert_array_equal(Loaded(tmp_path).train.images, 255 * (IMAGES > 127))
    eight = np.stack([LABELS] * 8, axis=1).astype(">i4")  # QMNIST's
    content, pack = idx_bytes(eight, 12), gzip.compress if suffix else bytes
    (tmp_path / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(content))
    message = refusal(tmp_path)
    assert "found >i4, (25, 8)" in message
    pasted(message)
    np.testing.assert_array_equal(Loaded(tmp_path).train.labels, LABELS)


def test_idx_pictures_of_other_sizes(tmp_path: Path) -> None:
    save_idx(tmp_path, "HALF-ROLE-idxN-ubyte", IMAGES.repeat(2, axis=1).repeat(2, axis=2))
    assert "found 56 x 56, (25, 56, 56).\n--resize scales them." in refusal(tmp_path)
    own = Loaded(tmp_path, resize=True)
    assert own.train.images.shape == (25, 28, 28)
    assert own.train.source.endswith(", 25 scaled to 28 x 28 (from 56 x 56)")


# ------------------------------------------------------------------ tables


def table(
    path: Path, labels: Any = LABELS, header: str = "", joint: str = ",", last: bool = False
) -> Path:
    rows = []
    for image, label in zip(IMAGES, labels, strict=True):
        pixels = [str(pixel) for pixel in image.ravel()]
        rows.append(joint.join([*pixels, str(label)] if last else [str(label), *pixels]))
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


PIXELS = [f"pixel{k}" for k in range(784)]


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: table(folder / "a.csv", header=",".join(["label", *PIXELS])),
        lambda folder: table(folder / "a.CSV", header=",".join([*PIXELS, "class"]), last=True),
        lambda folder: table(folder / "a.csv"),
        lambda folder: table(folder / "a.tsv", joint="\t"),
        lambda folder: table(folder / "a.csv", joint=";", labels=LABELS.astype(float)),
        lambda folder: table(folder / "a.csv", header="\ufeff" + '"y",' + ",".join(PIXELS)),
    ],
)
def test_tables_of_a_label_and_784_pixels(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        own = Loaded(file)
        np.testing.assert_array_equal(own.images, IMAGES)
        np.testing.assert_array_equal(own.train.labels, np.delete(LABELS, [9, 19]))
        assert own.train.class_names == ("0", "1", "2")
        has_header = "pixel0" in path.read_text()
        assert own.notes == ["its first column is taken for the label"] * (not has_header)


def test_tables_of_words_and_of_nothing_but_pixels(tmp_path: Path) -> None:
    own = Loaded(table(tmp_path / "a.csv", labels=np.array(list("abc"))[LABELS]))
    assert own.train.class_names == ("a", "b", "c")
    rows = [",".join(map(str, image.ravel() / 255)) for image in IMAGES]
    numbered = [f"{k},{row}" for k, row in enumerate(rows)]
    (tmp_path / "a.csv").write_text("\n".join([",".join(["", *PIXELS]), *numbered]))
    own = Loaded(tmp_path / "a.csv")
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.notes == ["left out: 1 column that number the rows"]
    assert own.train.class_names == ("picture",)


def test_a_delimiter_at_the_end_of_each_row(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv")
    path.write_text(path.read_text().replace("\n", ",\r\n"))
    np.testing.assert_array_equal(Loaded(path).images, IMAGES)


def test_a_label_in_the_last_column_is_known_by_the_corner_before_it(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", last=True)
    path.write_text(
        "".join(f"0,{row.partition(',')[2]}\n" for row in path.read_text().splitlines())
    )
    own = Loaded(path)
    assert own.notes == ["its last column is taken for the label"]
    np.testing.assert_array_equal(own.images[:, 0, 1:], IMAGES[:, 0, 1:])
    np.testing.assert_array_equal(own.train.labels, np.delete(LABELS, [9, 19]))


def test_tables_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = table(path, header=",".join(["label", *PIXELS])).read_text().splitlines()
    for change, words in (
        ([*rows[:5], rows[5].rpartition(",")[0]], "expected 785 columns, found 784 in row 5"),
        ([*rows[:5], rows[5].rpartition(",")[0] + ",x"], "expected numbers in every row"),
        (rows[:1], "expected a row for each picture, found none"),
        ([], "784 pixels in each row, found 1 columns"),
        ([row.rpartition(",")[0] for row in rows], "found 784 columns"),
        (["name,age", "x,3"], "found 2 columns"),
    ):
        path.write_text("\n".join(change))
        assert words in refusal(path)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode())[:-9])
    assert "found a broken one" in refusal(tmp_path / "a.csv.gz")


def test_a_table_of_0_and_1_is_refused_with_the_line_that_converts_it(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", header=",".join(["label", *PIXELS]))
    path.write_text(re.sub(r"(?<=,)(\d+)\b", lambda n: str(int(int(n[0]) > 127)), path.read_text()))
    pasted(refusal(path))
    own = Loaded(tmp_path / "a.npz")
    np.testing.assert_array_equal(own.images, 255 * (IMAGES > 127))
    assert own.train.class_names == ("0", "1", "2")


def test_a_folder_of_tables(tmp_path: Path) -> None:
    header = ",".join(["label", *PIXELS])
    table(tmp_path / "fashion-mnist_train.csv", header=header)
    assert len(halves(tmp_path)[0]) == 23
    path = table(tmp_path / "fashion-mnist_test.csv", header=header)
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    (tmp_path / "sample_submission.txt").touch()
    own = Loaded(tmp_path)
    assert (len(own.train), len(own.test)) == (25, 4)
    assert own.notes[0] == "left out: 1 other file beside the tables"
    table(tmp_path / "mnist_train.csv", header=header)
    assert "expected one table for each half" in refusal(tmp_path)


# ------------------------------------------------------------------ other files


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_folder_of_arrays_is_refused_with_the_line_that_joins_them(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("kmnist")
    folder.mkdir()
    for name, array in (
        ("train-imgs", IMAGES),
        ("train-labels", LABELS),
        ("test-imgs", MORE),
        ("test-labels", LABELS[:9]),
    ):
        saved = np.save if suffix == ".npy" else np.savez_compressed
        saved(folder / f"kmnist-{name}{suffix}", array)
    if suffix == ".npz":
        assert "images=a['arr_0']" in refusal(folder / "kmnist-train-imgs.npz")
    pasted(refusal(folder))
    own = Loaded(Path("kmnist.npz"))
    np.testing.assert_array_equal(own.train.images, IMAGES)
    np.testing.assert_array_equal(own.test.labels, LABELS[:9])
    for path in folder.iterdir():
        path.unlink()
    shutil.move("kmnist.npz", "kmnist/own.npz")
    assert "Name their file:  --dataset kmnist/own.npz" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "way_on"),
    [
        ("train-images-idx3-ubyte.gz", "Name its folder:  --dataset "),
        ("one.png", "Name its folder:  --dataset "),
        ("own.zip", "python -m zipfile -e "),
        ("own.tar.gz", "python -m tarfile -e "),
        ("own.mat", "np.savez('own.npz', images=..., labels=...)"),
        ("own", "np.savez('own.npz', images=..., labels=...)"),
    ],
)
def test_other_files_are_refused_with_the_way_on(tmp_path: Path, name: str, way_on: str) -> None:
    (tmp_path / name).touch()
    assert way_on in refusal(tmp_path / name)


# ------------------------------------------------------------------ what looks like a slip


@pytest.mark.parametrize("level", [0, 127, 255])
def test_pictures_that_are_all_equal_never_pass_in_silence(tmp_path: Path, level: int) -> None:
    equal = np.full((12, 28, 28), level, np.uint8)
    for path in (save(tmp_path / "a.npz", images=equal), save_pictures(tmp_path / "a", equal)):
        assert Loaded(path).notes == ["all 12 pictures are equal: there is nothing to learn"]
    path = save(tmp_path / "a.npz", images=np.repeat(IMAGES[:1], 3, axis=0))
    assert Loaded(path).notes == ["all 3 pictures are equal: there is nothing to learn"]
    path = save(tmp_path / "a.npz", x_train=equal, x_test=IMAGES)
    assert Loaded(path).notes == ["all 12 training pictures are equal: there is nothing to learn"]


def test_pictures_of_one_colour_are_counted(tmp_path: Path) -> None:
    """Such as those of one class that were saved as 0 and 1."""
    images = np.concatenate([IMAGES, (IMAGES[:3] > 127).astype(np.uint8), IMAGES[:1] * 0 + 80])
    assert Loaded(save(tmp_path / "a.npz", images=images)).notes == [
        "4 of 29 pictures are of one colour, without anything on them"
    ]


def ink(count: int) -> NDArray[np.uint8]:
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 8:20, 8:20] = RNG.integers(100, 256, (count, 12, 12))
    return images


def test_a_light_background_is_said(tmp_path: Path) -> None:
    path, images = tmp_path / "a.npz", ink(20)
    assert Loaded(save(path, images=images)).notes == []
    assert Loaded(path, invert=True).notes == ["the background is light: leave --invert away"]
    assert Loaded(save(path, images=255 - images)).notes == [
        "the background is light: --invert makes it dark, as MNIST's is"
    ]
    own = Loaded(path, invert=True)
    assert own.notes == []
    assert own.train.source == f"read from {path}, inverted"
    np.testing.assert_array_equal(own.images, images)
    some = np.where(np.arange(20)[:, None, None] < 8, 255 - images, images)
    assert Loaded(save(path, images=some)).notes == [
        "8 of 20 pictures have a light background, the others not"
    ]
    between = np.where(some == 0, np.uint8(95), some)  # neither light nor dark
    assert Loaded(save(path, images=between)).notes == []
    assert Loaded(save(path, images=np.maximum(images, 160))).notes == []


def test_pictures_that_are_nearly_black_are_said(tmp_path: Path) -> None:
    note = "the lightest pixel is 15 of 255: times 17 it would be white"
    path = save(tmp_path / "a.npz", images=IMAGES // 16)
    assert Loaded(path).notes == [note]
    assert note in Loaded(path, invert=True).notes  # of the file, not of what is made of it


def test_test_pictures_in_the_training_set_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    own = Loaded(save(path, x_train=IMAGES, x_test=np.concatenate([MORE, IMAGES[:4]])))
    assert own.notes == ["4 of 13 test pictures are in the training set, too"]
    own = Loaded(save(path, images=np.concatenate([IMAGES[:15], IMAGES[:15]])))
    assert own.notes == ["3 of 3 test pictures are in the training set, too"]


def test_what_is_for_own_pictures_is_not_for_published_ones() -> None:
    for name in ("mnist", "auto", "FashionMNIST", "drawn-digits"):
        with pytest.raises(OptionError, match="--resize --invert: for pictures of your own"):
            load_dataset(name, resize=True, invert=True)


ROW = b"1" + 784 * b",0" + b"\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ROW + 10_000_000 * b"\n", "expected a row for each picture, found 500,001 lines"),
        (10_000_000 * b"\r", "expected a row for each picture, found 500,001 lines"),
        (2000 * (784 * (100 * b"0" + b",") + b"1\n"), "letters, and more"),
        (ROW + 100_000 * b"a" + ROW[1:], "expected labels of at most 256 letters"),
        (40_000 * b"id," + b"\n", "found 40,000 columns"),
    ],
)
def test_tables_that_would_take_for_ever(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress(data))
    assert words in refusal(path)


def test_classes_are_those_of_the_labels_that_occur(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    labels: Any = {"y_train": 3 + 4 * (LABELS > 0), "y_test": np.array([5, 7, 7])}
    np.savez(path, **{"x_train": IMAGES, "x_test": MORE[:3], **labels})
    own = Loaded(path)
    assert own.train.class_names == ("3", "5", "7")
    assert own.notes[0] == "classes with test pictures only, of which nothing can be learned: 5"
    with pytest.raises(DataError, match=r"no training image of .* has the class 5"):
        check_class(own.train, class_label(own.train, "5"))
