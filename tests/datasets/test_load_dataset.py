"""load_dataset: where it looks, what it refuses, and when it falls back on drawn digits."""

import gzip
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npvae.core.errors import DataError
from npvae.datasets import drawn_digits, load_dataset, paths
from npvae.datasets.dataset import Dataset
from npvae.datasets.standard import FILES
from tests.datasets.own import IMAGES, published, save, save_pictures, stand_in, touch
from tests.helpers import Said, refused, save_dataset

FEW_DIGITS = drawn_digits.drawn_digits(train=20, test=10)
SETS = {"fashion-mnist": published(7, 4), "mnist": published(7, 4)}


@pytest.fixture(autouse=True)
def small_datasets(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files stand in for the published ones; no network, and nobody's own folders."""
    stand_in(monkeypatch, SETS, "http://127.0.0.1:1/a/", "http://127.0.0.1:1/b/")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("NPVAE_DATA_DIR", "env")
    monkeypatch.setenv("KERAS_HOME", "keras")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Ours: 22,000 digits are half a second, each time.
    monkeypatch.setattr(drawn_digits, "drawn_digits", lambda: FEW_DIGITS)


Pack = Callable[[bytes], bytes]


def put(folder: str, name: str, pack: Pack = gzip.compress) -> None:
    suffix = "" if pack is bytes else ".gz"
    for file, content in SETS[name].items():
        touch(f"{folder}/{file}{suffix}", pack(content))


def assert_is(name: str, halves: tuple[Dataset, Dataset]) -> None:
    for half, place in zip(halves, (0, 2), strict=True):
        images, labels = (SETS[name][file] for file in FILES[place : place + 2])
        assert half.name == name
        assert (half.images.tobytes(), half.labels.tobytes()) == (images[16:], labels[8:])
        assert half.images.shape == (len(half), 28, 28)
        assert half.images.flags.c_contiguous
        assert len(half.class_names) == 10


def refusal(name: str, data_dir: str | None = "own") -> str:
    with refused(DataError) as error:
        load_dataset(name, data_dir)
    return str(error.value)


@pytest.mark.parametrize(
    ("folder", "name", "in_torchvision", "pack"),
    [
        ("own", "mnist", "MNIST", gzip.compress),
        ("own/fashion-mnist", "fashion-mnist", "FashionMNIST", bytes),
        ("own/MNIST/raw", "mnist", "MNIST", bytes),
        ("data/FashionMNIST/raw", "fashion-mnist", "FashionMNIST", gzip.compress),
        ("MNIST/raw", "mnist", "MNIST", gzip.compress),
        ("keras/datasets/fashion-mnist", "fashion-mnist", "FashionMNIST", bytes),
    ],
)
def test_files_in_our_folders_and_where_keras_and_torchvision_keep_them(
    folder: str, name: str, in_torchvision: str, pack: Pack
) -> None:
    put(folder, name, pack)
    for typed in (name, in_torchvision):
        halves = load_dataset(typed, "own")
        assert_is(name, halves)
        assert halves[0].source == f"read from {folder}"
    assert Path(f"own/{name}").exists() == (folder == f"own/{name}")


def test_flat_files_of_the_other_dataset_do_not_count() -> None:
    put("own", "mnist")
    assert "cannot be downloaded" in refusal("fashion-mnist")
    put("own/fashion-mnist", "fashion-mnist")
    for name in SETS:
        assert_is(name, load_dataset(name, "own"))


def test_order_of_the_folders() -> None:
    for folder, data_dir in (("cache/npvae", None), ("env", None), ("own", "own")):
        put(f"{folder}/mnist", "mnist")
        assert load_dataset("mnist", data_dir)[0].source == f"read from {folder}/mnist"


def test_the_default_is_data_of_the_clone_that_runs_or_that_we_are_in(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `pip install .` in a clone: the package that runs lies elsewhere."""
    monkeypatch.delenv("NPVAE_DATA_DIR")
    clone, installed = here / "clone", here / "site-packages"
    for place in (clone, installed):
        (place / "npvae" / "datasets").mkdir(parents=True)
    (clone / "pyproject.toml").touch()
    monkeypatch.setattr(paths, "__file__", str(clone / "npvae" / "datasets" / "paths.py"))
    assert paths.data_folders() == [clone / "data", Path("cache/npvae")]
    monkeypatch.setattr(paths, "__file__", str(installed / "npvae" / "datasets" / "paths.py"))
    assert paths.data_folders() == [Path("cache/npvae")]
    monkeypatch.chdir(clone)
    assert paths.data_folders() == [clone / "data", Path("cache/npvae")]


def test_without_a_home_no_folder_is_called_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.data_folders("~nobody-of-that-name/data")[0] == Path("~nobody-of-that-name/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path))  # where nobody has one
    assert paths.data_folders()[-1] == Path(tempfile.gettempdir()) / "npvae"


def test_names_as_people_type_them() -> None:
    for name in SETS:
        put(f"own/{name}", name)
    typed = ["FashionMNIST", "fashion_mnist", "Fashion-MNIST", "fashion mnist", "FMNIST"]
    for meant, names in (("fashion-mnist", typed), ("mnist", ["MNIST", "mnist_784"])):
        for name in names:
            assert_is(meant, load_dataset(name, "own"))
    for name in ("drawn-digits", "Drawn_Digits"):
        assert load_dataset(name) is FEW_DIGITS


def test_a_folder_of_that_name_is_meant_itself() -> None:
    save_pictures("Fashion_MNIST", IMAGES)
    assert load_dataset("Fashion_MNIST")[0].name == "Fashion_MNIST"
    assert "cannot be downloaded" in refusal("fashion-mnist")


def keras_npz(name: str) -> None:
    """keras/datasets/mnist.npz, with the arrays of this dataset."""
    x_train, y_train, x_test, y_test = (
        np.frombuffer(content, np.uint8) for content in SETS[name].values()
    )
    train, test = (x[16:].reshape(-1, 28, 28) for x in (x_train, x_test))
    save_dataset(touch("keras/datasets/mnist.npz"), train, test, y_train[8:], y_test[8:])


def test_the_archive_of_keras_is_read_and_wrong_files_of_others_are_passed_over(said: Said) -> None:
    """They are not ours: they may be right for whom they belong to."""
    keras_npz("mnist")
    assert_is("mnist", load_dataset("mnist", "own"))
    keras_npz("fashion-mnist")
    put("MNIST/raw", "mnist", lambda content: gzip.compress(content)[:-1])
    put("data/MNIST/raw", "fashion-mnist")
    put("own/MNIST/raw", "mnist")
    Path(f"own/MNIST/raw/{FILES[3]}.gz").unlink()  # not all of them
    lines: list[str] = []
    with refused(DataError, "cannot be downloaded"):
        load_dataset("mnist", "own", lines.append)
    said("files of others are passed over", {"mnist": "\n".join(lines)})


def test_missing_and_damaged_files_are_named(said: Said) -> None:
    texts, content = {"not there": refusal("fashion-mnist")}, SETS["fashion-mnist"][FILES[2]]
    damaged = {
        "cut": gzip.compress(content)[:-40],
        "flipped": gzip.compress(content[:500] + bytes([content[500] ^ 1]) + content[501:]),
        "of the other dataset": gzip.compress(SETS["mnist"][FILES[2]]),
    }
    for name, (case, found) in zip(("auto", "fashion-mnist", "auto"), damaged.items(), strict=True):
        put("own/fashion-mnist", "fashion-mnist")
        touch(f"own/fashion-mnist/{FILES[2]}.gz", found)
        texts[f"{name}: {case}"] = refusal(name)
    Path(f"own/fashion-mnist/{FILES[3]}.gz").unlink()
    touch(f"own/fashion-mnist/{FILES[2]}.gz", gzip.compress(content))
    texts["one of four is missing"] = refusal("fashion-mnist")
    texts["the data folder is a file"] = refusal("mnist", str(touch("file")))
    for name in ("Fashion_MINST", "drawn", "", "no/such/folder"):
        texts[f'"{name}"'] = refusal(name)
    for name in ("\0", "x" * 5000):
        refusal(name)
    said("published datasets are refused", texts)


def test_a_file_for_which_there_is_no_memory_is_not_to_be_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    put("own/mnist", "mnist")
    save("own.npz", images=IMAGES)
    monkeypatch.setattr(np, "empty", full)
    for name in ("mnist", "own.npz"):
        assert refusal(name).endswith("cannot be read: there is not enough memory for it")


def test_a_data_folder_that_was_not_there_is_not_left_behind(here: Path) -> None:
    Path("empty").mkdir()
    for folder in ("mistyped", "mistyped/deep/down", "empty"):
        refusal("mnist", folder)
    assert [(path.name, list(path.iterdir())) for path in here.iterdir()] == [("empty", [])]


def test_a_folder_that_cannot_be_written(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("blocked")  # a file in the way stops root too, unlike permissions
    in_cache = Path("cache/npvae/mnist")
    assert paths.writable_folder(paths.data_folders("blocked/data"), "mnist") == in_cache
    monkeypatch.setenv("XDG_CACHE_HOME", "blocked")
    texts = {"by name": refusal("mnist", "blocked/data")}
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        assert load_dataset(data_dir="blocked/data") is FEW_DIGITS
    said("folders that cannot be written", texts | {"auto": str(caught[0].message)})
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    # As a user sees it; root, who may run this test, may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: "cache" in str(path))
    assert paths.writable_folder(paths.data_folders("own"), "mnist") == in_cache


def test_auto_is_fashion_mnist_or_falls_back_in_one_plain_line(said: Said) -> None:
    lines: list[str] = []
    with pytest.warns(UserWarning, match="drawn-digits") as caught:
        assert load_dataset("auto", "own", lines.append) is FEW_DIGITS
    put("own/fashion-mnist", "fashion-mnist")
    assert_is("fashion-mnist", load_dataset(data_dir="own", report=lines.append))
    assert (len(caught), lines) == (1, [])
    said("auto falls back", {"no network": str(caught[0].message)})
