"""What people have besides folders of pictures: IDX files, tables; and what looks like a slip."""

import gzip
import shutil
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
    idx_bytes,
    pasted,
    refusal,
    save,
    touch,
)
from tests.helpers import Said

pytestmark = pytest.mark.usefixtures("here")

MORE = RNG.integers(0, 256, (9, 28, 28), np.uint8)
WHITE = (IMAGES > 127).astype(np.uint8)
WORDS = [str(label) for label in LABELS]

# ------------------------------------------------------------------ IDX files

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


@pytest.mark.parametrize(
    ("folder", "names", "test"),
    [
        ("own", f"{IDX}.gz", "t10k"),
        ("own", IDX, "t10k"),
        ("own", "{}-{}.idx{}-ubyte", "t10k"),
        ("own/raw", "{}-{}.idx{}-ubyte.gz", "t10k"),
        ("own/MNIST", "{}_{}_idx{}_ubyte", "t10k"),
        ("own/FashionMNIST/raw", IDX, "test"),
        ("own/MNIST/raw", f"k49-{IDX}.gz", "t10k"),
    ],
)
def test_idx_files_where_and_as_they_are_usually_called(folder: str, names: str, test: str) -> None:
    save_idx(folder, names, test)
    if names.endswith(".gz"):  # as torchvision has them, both
        save_idx(folder, names.removesuffix(".gz"), test)
    own = Loaded("own")
    np.testing.assert_array_equal(own.train.images, IMAGES)
    np.testing.assert_array_equal(own.test.images, MORE)
    assert own.classes == WORDS + WORDS[:9]
    assert (own.train.class_names, own.notes) == (("0", "1", "2"), [])


def test_each_idx_file_may_lie_in_a_folder_of_its_own() -> None:
    save_idx("all")
    for path in Path("all").iterdir():
        touch(f"own/{path.name}/{path.name}", path.read_bytes())
    np.testing.assert_array_equal(Loaded("own").test.images, MORE)


def test_emnist_has_26_letters_and_lies_on_its_side(said: Said) -> None:
    save_idx("own", f"emnist-letters-{IDX}.gz", "test")
    labels = gzip.compress(idx_bytes((np.arange(25) + 2).astype(np.uint8)))
    touch("own/emnist-letters-train-labels-idx1-ubyte.gz", labels)
    own = Loaded("own")
    assert own.train.class_names == tuple(map(str, range(27)))
    said("EMNIST", {"letters": "\n".join(own.notes)})


def test_idx_files_that_are_missing_or_not_clear(said: Said) -> None:
    save_idx("two/MNIST/raw")
    save_idx("two/FashionMNIST/raw")
    save_idx("prefixes", f"emnist-digits-{IDX}")
    save_idx("prefixes", f"emnist-letters-{IDX}")
    save_idx("one label too few")
    touch("one label too few/train-labels-idx1-ubyte", idx_bytes(LABELS[1:]))
    save_idx("test alone")
    Path("test alone/train-images-idx3-ubyte").unlink()
    save_idx("large", images=IMAGES.repeat(2, axis=1).repeat(2, axis=2))
    refused = ("two", "prefixes", "one label too few", "test alone", "large")
    texts = {folder: refusal(folder) for folder in refused}

    for folder in ("two", "prefixes"):
        pasted(texts[folder])
    for folder in ("two/MNIST", "two-own", "prefixes-own"):
        assert len(Loaded(folder).images) == 34
    texts["large, scaled"] = Loaded("large", resize=True).train.source
    Path("two/MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    texts["no test labels"] = str(Loaded("two/MNIST"))
    Path("two/MNIST/raw/t10k-images-idx3-ubyte").unlink()
    texts["no test set"] = str(own := Loaded("two/MNIST"))
    np.testing.assert_array_equal(own.images, IMAGES)
    said("IDX files missing or not clear", texts)


def test_idx_files_that_one_line_converts(said: Said) -> None:
    texts, eight = {}, idx_bytes(np.stack([LABELS] * 8, axis=1).astype(">i4"), 12)  # as QMNIST's
    for suffix, pack in (("", bytes), (".gz", gzip.compress)):
        save_idx("own", IDX + suffix, images=WHITE)
        texts[f"0 and 1{suffix}"] = pasted(refusal("own"))
        touch(f"own/train-labels-idx1-ubyte{suffix}", pack(eight))
        texts[f"eight labels{suffix}"] = pasted(refusal("own"))
        own = Loaded("own")
        np.testing.assert_array_equal(own.train.images, 255 * WHITE)
        np.testing.assert_array_equal(own.train.labels, LABELS)
    said("IDX files that one line converts", texts)


# ------------------------------------------------------------------ tables

PIXELS = ",".join(f"pixel{k}" for k in range(784))
HEADER = f"label,{PIXELS}"


def rows(labels: Any = LABELS, images: NDArray[Any] = IMAGES) -> list[str]:
    """A label and 784 pixels in each."""
    pixels = (",".join(map(str, image.ravel())) for image in images)
    return [f"{label},{row}" for label, row in zip(labels, pixels, strict=True)]


def label_last(lines: list[str]) -> list[str]:
    return [f"{row},{label}" for label, _, row in (line.partition(",") for line in lines)]


def table(path: str, *lines: str) -> Path:
    return touch(path, "\n".join([*lines, ""]).encode())


TABLES: dict[str, tuple[str, list[str]]] = {
    "a header": ("a.csv", [HEADER, *rows()]),
    "a label at the end": ("a.CSV", [f"{PIXELS},class", *label_last(rows())]),
    "no header": ("a.csv", rows()),
    "tabs": ("a.tsv", [row.replace(",", "\t") for row in rows()]),
    "semicolons": ("a.csv", [row.replace(",", ";") for row in rows(LABELS.astype(float))]),
    "quotes": ("a.csv", [f'\ufeff"y",{PIXELS}', *rows()]),
    "a delimiter at the end": ("a.csv", [f"{row},\r" for row in rows()]),
}


@pytest.mark.parametrize(("name", "lines"), TABLES.values(), ids=TABLES)
def test_tables_of_a_label_and_784_pixels(name: str, lines: list[str]) -> None:
    path = table(name, *lines)
    for file in (path, touch("b.csv.gz", gzip.compress(path.read_bytes()))):
        own = Loaded(file)
        np.testing.assert_array_equal(own.images, IMAGES)
        assert own.classes == WORDS
        has_header = "pixel0" in lines[0]
        assert own.notes == ["its first column is taken for the label"] * (not has_header)


def test_tables_whose_label_is_a_word_or_the_last_column_or_is_not_there() -> None:
    own = Loaded(table("a.csv", *rows(np.array(list("abc"))[LABELS])))
    assert own.train.class_names == ("a", "b", "c")

    numbered = [f",{PIXELS}", *rows(range(25), IMAGES / 255)]
    own = Loaded(table("a.csv", *numbered))
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.notes == ["left out: 1 column that number the rows"]
    assert own.train.class_names == ("picture",)

    black_corner = IMAGES.copy()
    black_corner[:, 0, 0] = 0
    own = Loaded(table("a.csv", *label_last(rows(images=black_corner))))
    assert own.notes == ["its last column is taken for the label"]
    np.testing.assert_array_equal(own.images, black_corner)
    assert own.classes == WORDS


def test_tables_that_are_refused(said: Said) -> None:
    lines, zeros = [HEADER, *rows()], "1" + 784 * ",0"
    short = lines[5].rpartition(",")[0]
    refused: dict[str, list[str]] = {
        "a row too short": [*lines[:5], short],
        "no rows": lines[:1],
        "empty": [],
        "no square": [line.rpartition(",")[0] for line in lines],
        "no pixels": ["name,age", "x,3"],
        # What would take for ever:
        "blank lines": [zeros + 600_000 * "\r"],
        "a long label": [zeros, zeros[:1] + 100_000 * "a" + zeros[1:]],
        "many columns": [40_000 * "id,"],
    }
    texts = {case: refusal(table("a.csv", *found)) for case, found in refused.items()}
    texts["0 and 1"] = pasted(refusal(table("a.csv", HEADER, *rows(images=WHITE))))
    own = Loaded("a.npz")
    np.testing.assert_array_equal(own.images, 255 * WHITE)
    assert own.train.class_names == ("0", "1", "2")
    said("tables are refused", texts)

    # What NumPy and zlib say of these, and how much of the last one is read, is theirs.
    assert "expected numbers in every row" in refusal(table("a.csv", *lines[:5], f"{short},x"))
    whole = gzip.compress("\n".join(lines).encode())
    assert "found a broken one" in refusal(touch("a.csv.gz", whole[:-9]))
    bomb = gzip.compress(zeros.encode() + b"\n" + 30_000_000 * b" ")
    assert "letters, and more" in refusal(touch("a.csv.gz", bomb))


def test_a_folder_of_tables(said: Said) -> None:
    table("own/fashion-mnist_train.csv", HEADER, *rows())
    texts = {"training set": str(Loaded("own"))}
    table("own/fashion-mnist_test.csv", HEADER, *rows()[:4])
    touch("own/sample_submission.txt")
    texts["both halves and a text"] = str(Loaded("own"))
    table("own/mnist_train.csv", HEADER, *rows())
    texts["two training sets"] = refusal("own")
    said("folders of tables", texts)


# ------------------------------------------------------------------ other files


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_folder_of_arrays_is_refused_with_the_line_that_joins_them(suffix: str) -> None:
    folder, saved = touch("kmnist/text").parent, np.save if suffix == ".npy" else np.savez
    (folder / "text").unlink()
    for name, array in (
        ("train-imgs", IMAGES),
        ("train-labels", LABELS),
        ("test-imgs", MORE),
        ("test-labels", LABELS[:9]),
    ):
        saved(folder / f"kmnist-{name}{suffix}", array)
    if suffix == ".npz":
        assert "images=a['arr_0']" in refusal(folder / "kmnist-train-imgs.npz")
    pasted(refusal(folder))
    own = Loaded("kmnist.npz")
    np.testing.assert_array_equal(own.images, np.concatenate([IMAGES, MORE]))
    assert own.classes == WORDS + WORDS[:9]
    shutil.rmtree(folder)
    folder.mkdir()
    shutil.move("kmnist.npz", "kmnist/own.npz")
    assert "Name their file:  --dataset kmnist/own.npz" in refusal(folder)


def test_other_files_are_refused_with_the_way_on(said: Said) -> None:
    names = ("train-images-idx3-ubyte.gz", "one.png", "own.zip", "own.tar.gz", "own.mat", "own")
    said("files that are no dataset", {name: refusal(touch(f"files/{name}")) for name in names})


# ------------------------------------------------------------------ what looks like a slip


def test_what_looks_like_a_slip_is_said(said: Said) -> None:
    equal, ink = np.full((12, 28, 28), 127, np.uint8), np.zeros((20, 28, 28), np.uint8)
    ink[:, 8:20, 8:20] = RNG.integers(100, 256, (20, 12, 12))
    some_light = np.where(np.arange(20)[:, None, None] < 8, 255 - ink, ink)
    doubled = np.concatenate([IMAGES[:15], IMAGES[:15]])
    both = np.concatenate([MORE, IMAGES[:4]])
    slips: dict[str, dict[str, NDArray[Any]]] = {
        "all black": {"images": 0 * equal},
        "all of one grey": {"images": equal},
        "all white": {"images": equal + 128},
        "all equal": {"images": np.repeat(IMAGES[:1], 3, axis=0)},
        "training pictures equal": {"x_train": equal, "x_test": IMAGES},
        # Such as those of one class that were saved as 0 and 1.
        "four of one colour": {"images": np.concatenate([IMAGES, WHITE[:3], IMAGES[:1] * 0 + 80])},
        "a dark background": {"images": ink},
        "a light background": {"images": 255 - ink},
        "some have a light background": {"images": some_light},
        "neither light nor dark": {"images": np.where(some_light == 0, np.uint8(95), some_light)},
        "no darker than 160": {"images": np.maximum(ink, 160)},
        "nearly black": {"images": IMAGES // 16},
        "some are in both halves": {"x_train": IMAGES, "x_test": both},
        "all are there twice": {"images": doubled},
    }
    texts = {}
    for case, arrays in slips.items():
        path = save("a.npz", **arrays)
        inverted = [f"inverted: {note}" for note in Loaded(path, invert=True).notes]
        texts[case] = "\n".join([*Loaded(path).notes, *inverted])
    said("what looks like a slip", texts)


def test_inverted_pictures_are_said_to_be() -> None:
    own = Loaded(save("a.npz", images=IMAGES), invert=True)
    np.testing.assert_array_equal(own.images, 255 - IMAGES)
    assert own.train.source == "read from a.npz, inverted"


def test_what_is_for_own_pictures_is_not_for_published_ones() -> None:
    for name in ("mnist", "auto", "FashionMNIST", "drawn-digits"):
        with pytest.raises(OptionError, match="--resize --invert: for pictures of your own"):
            load_dataset(name, resize=True, invert=True)


def test_classes_are_those_of_the_labels_that_occur() -> None:
    labels: Any = {"y_train": 3 + 4 * (LABELS > 0), "y_test": np.array([5, 7, 7])}
    own = Loaded(save("own.npz", x_train=IMAGES, x_test=MORE[:3], **labels))
    assert own.train.class_names == ("3", "5", "7")
    assert own.notes[0] == "classes with test pictures only, of which nothing can be learned: 5"
    with pytest.raises(DataError, match=r"no training image of .* has the class 5"):
        check_class(own.train, class_label(own.train, "5"))
