"""What people have besides pictures, arrays and IDX files: tables; and what looks like a slip."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.core.errors import DataError, OptionError
from npvae.datasets import load_dataset
from npvae.plots.class_names import check_class, class_label
from tests.datasets.own import IMAGES, LABELS, MORE, Loaded, grouped, outcome, refusal, save, touch
from tests.helpers import Said

pytestmark = pytest.mark.usefixtures("here")


WHITE = (IMAGES > 127).astype(np.uint8)
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


ZEROS = "1" + 784 * ",0"
SHORT = rows()[4].rpartition(",")[0]
TABLES: dict[str, list[str]] = {
    "a header": [HEADER, *rows()],
    "a label at the end": [f"{PIXELS},class", *label_last(rows())],
    "quotes": [f'\ufeff"y",{PIXELS}', *rows()],
    "no header": rows(),
    "tabs": [row.replace(",", "\t") for row in rows()],
    "semicolons": [row.replace(",", ";") for row in rows(LABELS.astype(float))],
    "a delimiter at the end": [f"{row},\r" for row in rows()],
    "words": rows(np.array(list("abc"))[LABELS]),
    "numbered, without labels": [f",{PIXELS}", *rows(range(25), IMAGES / 255)],
    "no header, label at the end": label_last(rows()),
    "0 and 1": [HEADER, *rows(images=WHITE)],
    "a row too short": [HEADER, *rows()[:4], SHORT],
    "no rows": [HEADER],
    "empty": [],
    "no square": [line.rpartition(",")[0] for line in [HEADER, *rows()]],
    "no pixels": ["name,age", "x,3"],
    # These would take for ever.
    "blank lines": [ZEROS + 600_000 * "\r"],
    "a long label": [ZEROS, f"{100_000 * 'a'}{ZEROS}"],
    "many columns": [40_000 * "id,"],
}


def test_tables_are_read_or_refused_with_the_way_on(said: Said) -> None:
    texts = {case: outcome(table("a.csv", *lines)) for case, lines in TABLES.items()}
    said("tables", grouped(texts))
    tabs = table("a.tsv", *TABLES["tabs"]).read_bytes()
    for path in ("a.CSV", "a.tsv", "a.csv.gz"):
        found = outcome(touch(path, gzip.compress(tabs) if ".gz" in path else tabs))
        assert found == texts["tabs"], path
    # What NumPy and zlib say of these, and how much of the last one is read, is theirs.
    assert "expected numbers in every row" in refusal(table("a.csv", *rows()[:4], f"{SHORT},x"))
    assert "found a broken one" in refusal(touch("a.csv.gz", gzip.compress(tabs)[:-9]))
    bomb = gzip.compress(f"{ZEROS}\n".encode() + 30_000_000 * b" ")
    assert "letters, and more" in refusal(touch("a.csv.gz", bomb))


def test_a_folder_of_tables(said: Said) -> None:
    table("own/fashion-mnist_train.csv", HEADER, *rows())
    texts = {"training set": outcome("own")}
    table("own/fashion-mnist_test.csv", HEADER, *rows()[:4])
    touch("own/sample_submission.txt")
    texts["both halves and a text"] = outcome("own")
    table("own/mnist_train.csv", HEADER, *rows())
    texts["two training sets"] = outcome("own")
    said("folders of tables", texts)


def test_other_files_are_refused_with_the_way_on(said: Said) -> None:
    names = ("train-images-idx3-ubyte.gz", "one.png", "own.zip", "own.tar.gz", "own.mat", "own")
    texts = {name: outcome(touch(f"files/{name}")) for name in names}
    parts = {"train-imgs": IMAGES, "train-labels": LABELS, "test-imgs": MORE}
    parts["test-labels"] = LABELS[:9]
    for suffix, saved in ((".npy", np.save), (".npz", np.savez)):
        folder = Path(f"arrays{suffix}")
        folder.mkdir()
        for name, array in parts.items():
            saved(folder / f"kmnist-{name}{suffix}", array)
        texts[f"a folder of {suffix}"] = outcome(folder)
    path = folder / "kmnist-train-imgs.npz"
    texts["one of them"] = outcome(path)
    Path("one").mkdir()
    path.rename("one/own.npz")
    texts["a folder of one"] = outcome("one")
    said("other files", texts)


def test_likely_slips_are_noted(said: Said) -> None:
    equal, ink = np.full((12, 28, 28), 127, np.uint8), np.zeros((20, 28, 28), np.uint8)
    ink[:, 8:20, 8:20] = np.maximum(IMAGES[:20, 8:20, 8:20], 100)
    some_light = np.where(np.arange(20)[:, None, None] < 8, 255 - ink, ink)
    images = {
        "all black": 0 * equal,
        "all of one grey": equal,
        "all white": equal + 128,
        "all equal": np.repeat(IMAGES[:1], 3, axis=0),
        # Such as those of one class that were saved as 0 and 1.
        "four of one colour": np.concatenate([IMAGES, WHITE[:3], equal[:1]]),
        "a dark background": ink,
        "a light background": 255 - ink,
        "some have a light background": some_light,
        "neither light nor dark": np.where(some_light == 0, np.uint8(95), some_light),
        "no darker than 160": np.maximum(ink, 160),
        "no darker than 161": np.maximum(ink, 161),
        "nearly black": IMAGES // 16,
        "all are there twice": np.concatenate([IMAGES[:15], IMAGES[:15]]),
    }
    both = np.concatenate([MORE, IMAGES[:4]])
    slips: dict[str, dict[str, NDArray[Any]]] = {
        **{case: {"images": found} for case, found in images.items()},
        "training pictures equal": {"x_train": equal, "x_test": IMAGES},
        "some are in both halves": {
            "x_train": IMAGES,
            "x_test": both,
        },
    }
    texts = {}
    for case, arrays in slips.items():
        path = save("a.npz", **arrays)
        inverted = [f"inverted: {note}" for note in Loaded(path, invert=True).notes]
        texts[case] = "\n".join([*Loaded(path).notes, *inverted])
    texts["no slip, inverted"] = outcome(save("a.npz", images=IMAGES), invert=True)
    said("what looks like a slip", grouped(texts))


def test_options_for_own_pictures_are_refused_for_published_ones() -> None:
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
