"""load_dataset: where it looks, what it refuses, and when it falls back on drawn digits."""

import gzip
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from npvae.core.errors import DataError
from npvae.datasets import DATASETS, drawn_digits, load_dataset, paths, standard
from npvae.datasets.dataset import Dataset
from tests.datasets.own import published, save_pictures, stand_in
from tests.helpers import ROOT, environment, run

RNG = np.random.default_rng(6)


FEW_DIGITS = drawn_digits.drawn_digits(train=20, test=10)
SETS = {"fashion-mnist": published(7, 4), "mnist": published(7, 4)}


@pytest.fixture(autouse=True)
def small_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files stand in for the published ones; no network, and nobody's own folders."""
    stand_in(monkeypatch, SETS, "http://127.0.0.1:1/a/", "http://127.0.0.1:1/b/")
    monkeypatch.setattr(paths, "_default_folder", lambda: tmp_path / "default")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NPVAE_DATA_DIR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(drawn_digits, "drawn_digits", lambda: FEW_DIGITS)


def put(folder: Path, name: str, pack: Callable[[bytes], bytes] | None = gzip.compress) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in SETS[name].items():
        if pack:
            (folder / f"{file}.gz").write_bytes(pack(content))
        else:
            (folder / file).write_bytes(content)


def assert_is(name: str, halves: tuple[Dataset, Dataset]) -> None:
    for half, images in zip(
        halves, ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"), strict=True
    ):
        assert half.name == name
        assert half.images.tobytes() == SETS[name][images][16:]
        assert len(half) == len(half.images) == len(half.labels)
        assert half.images.shape[1:] == (28, 28)
        assert half.images.flags.c_contiguous
        assert len(half.class_names) == 10


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
@pytest.mark.parametrize("pack", [gzip.compress, None])
@pytest.mark.parametrize(
    "place",
    [
        *("own", "own/{name}", "own/{torchvision}/raw", "data/{torchvision}/raw"),
        *("{torchvision}/raw", "keras/datasets/{name}"),
    ],
)
def test_files_in_our_folders_and_where_keras_and_torchvision_keep_them(
    tmp_path: Path, name: str, place: str, pack: Callable[[bytes], bytes] | None
) -> None:
    in_torchvision = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}[name]
    folder = tmp_path / place.format(name=name, torchvision=in_torchvision)
    put(folder, name, pack)
    for typed in (name, in_torchvision):
        halves = load_dataset(typed, tmp_path / "own")
        assert_is(name, halves)
        assert tmp_path / halves[0].source.removeprefix("read from ") == folder
    assert (tmp_path / "own" / name).exists() == (place == "own/{name}")


def test_flat_files_of_the_other_dataset_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, "mnist")
    with pytest.raises(DataError, match="cannot be downloaded"):
        load_dataset("fashion-mnist", tmp_path)
    put(tmp_path / "fashion-mnist", "fashion-mnist")
    assert_is("fashion-mnist", load_dataset("fashion-mnist", tmp_path))
    assert_is("mnist", load_dataset("mnist", tmp_path))


def test_order_of_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("cache/npvae", "default", "env", "data"):
        put(tmp_path / folder / "mnist", "mnist")
        if folder == "env":
            monkeypatch.setenv("NPVAE_DATA_DIR", str(tmp_path / "env"))
        chosen = load_dataset("mnist", tmp_path / "data" if folder == "data" else None)
        assert chosen[0].source == f"read from {tmp_path / folder / 'mnist'}"


def test_the_default_is_data_of_the_clone_that_runs_or_that_we_are_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As after `pip install .` in a clone: the package that runs lies elsewhere."""
    monkeypatch.undo()
    monkeypatch.delenv("NPVAE_DATA_DIR", raising=False)
    clone, installed = tmp_path / "clone", tmp_path / "site-packages"
    for place in (clone, installed):
        (place / "npvae" / "datasets").mkdir(parents=True)
    (clone / "pyproject.toml").touch()
    monkeypatch.setattr(paths, "__file__", str(clone / "npvae" / "datasets" / "paths.py"))
    assert paths.data_folders()[0] == clone / "data"
    monkeypatch.setattr(paths, "__file__", str(installed / "npvae" / "datasets" / "paths.py"))
    assert clone / "data" not in paths.data_folders()
    monkeypatch.chdir(clone)
    assert paths.data_folders()[0] == clone / "data"


def test_without_a_home_the_cache_is_no_folder_called_tilde(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path))  # where nobody has one
    assert paths.data_folders()[-1] == Path(tempfile.gettempdir()) / "npvae"


def test_a_named_dataset_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_dataset("fashion-mnist", tmp_path)
    lines = str(error.value).splitlines()
    assert lines == [
        f"Fashion-MNIST is not in {tmp_path / 'fashion-mnist'} and cannot be downloaded:",
        "http://127.0.0.1:1/a/train-images-idx3-ubyte.gz: Connection refused",
        "http://127.0.0.1:1/b/train-images-idx3-ubyte.gz: Connection refused",
        "Put its four files there (train-images-idx3-ubyte.gz, ...), "
        "or name their folder: --data-dir or NPVAE_DATA_DIR.",
    ]


def test_a_data_folder_that_was_not_there_is_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("mistyped", "mistyped/deep/down", "empty"):
        with pytest.raises(DataError):
            load_dataset("mnist", tmp_path / folder)
    assert [(path.name, list(path.iterdir())) for path in tmp_path.iterdir()] == [("empty", [])]


def test_the_missing_file_is_named(tmp_path: Path) -> None:
    put(tmp_path / "mnist", "mnist")
    (tmp_path / "mnist/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"MNIST's t10k-labels-idx1-ubyte\.gz is not in"):
        load_dataset("mnist", tmp_path)


def test_a_file_for_which_there_is_no_memory_is_not_to_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    put(tmp_path / "mnist", "mnist")
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(DataError, match=r"there is not enough memory for it$"):
        load_dataset("mnist", tmp_path)


def test_auto_takes_fashion_mnist_where_it_is(tmp_path: Path) -> None:
    put(tmp_path / "fashion-mnist", "fashion-mnist")
    lines: list[str] = []
    assert_is("fashion-mnist", load_dataset(data_dir=tmp_path, report=lines.append))
    assert lines == []


def test_drawn_digits_by_name() -> None:
    assert load_dataset("drawn-digits") is FEW_DIGITS


def test_auto_falls_back_in_one_plain_line(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.warns(UserWarning, match="drawn-digits") as caught:
        train, _ = load_dataset("auto", tmp_path, lines.append)
    assert train.name == "drawn-digits"
    assert lines == []
    assert [str(warning.message) for warning in caught] == [
        f"Fashion-MNIST is not in {tmp_path / 'fashion-mnist'} and cannot be downloaded "
        "(Connection refused): using drawn-digits, which this program draws, instead"
    ]


@pytest.mark.parametrize("name", ["auto", "fashion-mnist"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "other dataset"])
def test_damaged_files_stop_even_auto(tmp_path: Path, name: str, damage: str) -> None:
    folder, file = tmp_path / "fashion-mnist", "t10k-images-idx3-ubyte"
    put(folder, "fashion-mnist")
    content = SETS["fashion-mnist"][file]
    damaged = {
        "cut": gzip.compress(content)[:-40],
        "flipped": gzip.compress(content[:500] + bytes([content[500] ^ 1]) + content[501:]),
        "other dataset": gzip.compress(SETS["mnist"][file]),
    }
    (folder / f"{file}.gz").write_bytes(damaged[damage])
    with pytest.raises(DataError) as error:
        load_dataset(name, tmp_path)
    message = str(error.value)
    assert message.startswith(f"{folder / file}.gz: expected ")
    assert "delete it to have it downloaded anew" in message
    assert ("MNIST's" in message.split("found")[1]) == (damage == "other dataset")


@pytest.mark.parametrize(
    "name",
    ["FashionMNIST", "fashion_mnist", "Fashion-MNIST", "fashion mnist", "FASHIONMNIST", "fmnist"],
)
def test_names_as_people_type_them(name: str, tmp_path: Path) -> None:
    put(tmp_path / "data" / "fashion-mnist", "fashion-mnist")
    put(tmp_path / "data" / "mnist", "mnist")
    assert_is("fashion-mnist", load_dataset(name, tmp_path / "data"))
    assert_is("mnist", load_dataset("MNIST", tmp_path / "data"))
    assert load_dataset("Drawn_Digits") is FEW_DIGITS


def keras_npz(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True)
    arrays = [np.frombuffer(content, np.uint8) for content in SETS[name].values()]
    x_train, y_train, x_test, y_test = arrays
    images = {
        "x_train": x_train[16:].reshape(-1, 28, 28),
        "x_test": x_test[16:].reshape(-1, 28, 28),
    }
    np.savez(path, y_train=y_train[8:], y_test=y_test[8:], **images)  # type: ignore[arg-type]


def test_the_archive_of_keras(tmp_path: Path) -> None:
    keras_npz(tmp_path / "keras" / "datasets" / "mnist.npz", "mnist")
    assert_is("mnist", load_dataset("mnist", tmp_path / "own"))


def test_wrong_files_of_others_are_passed_over_and_that_is_said(tmp_path: Path) -> None:
    """They are not ours: they may be right for whom they belong to."""
    keras_npz(tmp_path / "keras" / "datasets" / "mnist.npz", "fashion-mnist")
    put(tmp_path / "MNIST" / "raw", "mnist", lambda content: gzip.compress(content)[:-1])
    put(tmp_path / "data" / "MNIST" / "raw", "fashion-mnist")
    put(tmp_path / "own" / "MNIST" / "raw", "mnist")
    (tmp_path / "own" / "MNIST" / "raw" / f"{standard.FILES[3]}.gz").unlink()  # not all of them
    lines: list[str] = []
    with pytest.raises(DataError, match="cannot be downloaded"):
        load_dataset("mnist", tmp_path / "own", lines.append)
    assert len([line for line in lines if line.startswith("Passed over: ")]) == 3


def test_a_folder_of_that_name_is_meant_itself(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (3, 28, 28), np.uint8)
    save_pictures(tmp_path / "Fashion_MNIST", images)
    assert load_dataset("Fashion_MNIST")[0].name == "Fashion_MNIST"
    with pytest.raises(DataError, match="cannot be downloaded"):
        load_dataset("fashion-mnist")


def test_unknown_names_get_the_choices() -> None:
    with pytest.raises(DataError) as error:
        load_dataset("Fashion_MINST")
    assert 'Did you mean "fashion-mnist"?' in str(error.value)
    with pytest.raises(DataError, match='Did you mean "drawn-digits"'):
        load_dataset("drawn")
    assert all(name in str(error.value) for name in (*DATASETS, "auto", "a folder"))
    for name in ("", "\0", "x" * 5000, "no/such/folder"):
        with pytest.raises(DataError):
            load_dataset(name)


def test_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        load_dataset("mnist", tmp_path / "file")


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blocked").touch()  # a file in the way stops root too, unlike permissions
    monkeypatch.setattr(paths, "_default_folder", lambda: tmp_path / "blocked" / "data")
    folders = paths.data_folders()
    assert paths.writable_folder(folders, "mnist") == tmp_path / "cache" / "npvae" / "mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    with pytest.raises(DataError, match="cannot be written"):
        load_dataset("mnist")
    with pytest.warns(UserWarning, match="cannot be written: using drawn-digits"):
        assert load_dataset()[0].name == "drawn-digits"


def test_a_folder_without_the_right_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user sees it; root, who may run this test, may write anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: "cache" in str(path))
    folders = paths.data_folders(tmp_path / "data")
    assert paths.writable_folder(folders, "mnist") == tmp_path / "cache" / "npvae" / "mnist"


def test_the_home_of_a_user_who_does_not_exist(tmp_path: Path) -> None:
    assert paths.data_folders("~nobody-of-that-name/data")[0] == Path("~nobody-of-that-name/data")


ROW = """STANDARD = {{
    "kmnist": Standard(
        title="KMNIST",
        class_names=tuple("okstnhmyrw"),
        mirrors=("http://127.0.0.1:1/",),
        sha256={sums},
        torchvision="KMNIST",
    ),"""
USE = """
from npvae.commands.cli import Parser
from npvae.datasets import load_dataset
for name in ("kmnist", "K_MNIST"):
    train, test = load_dataset(name, "data")
    print(train.name, train.class_names[0], len(train), len(test), train.source)
parser = Parser("", "")
parser.add_data()
print("kmnist" in parser.format_help())
load_dataset("kmnist", "nowhere")
"""


def test_a_standard_dataset_is_added_by_one_row(tmp_path: Path) -> None:
    """To a copy of the package, as a student would."""
    shutil.copytree(ROOT / "npvae", tmp_path / "npvae")
    files = SETS["mnist"]
    sums = tuple(hashlib.sha256(content).hexdigest() for content in files.values())
    table = tmp_path / "npvae" / "datasets" / "standard.py"
    table.write_text(table.read_text().replace("STANDARD = {", ROW.format(sums=sums)))
    put(tmp_path / "data" / "kmnist", "mnist")
    done = run([sys.executable, "-c", USE], cwd=tmp_path, env={**environment(), "PYTHONPATH": "."})
    assert done.stdout.splitlines() == [*2 * ["kmnist o 7 4 read from data/kmnist"], "True"]
    assert "KMNIST is not in nowhere/kmnist and cannot be downloaded" in done.stderr


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_real_files(name: str, monkeypatch: pytest.MonkeyPatch, real_data: str) -> None:
    monkeypatch.undo()
    train, test = load_dataset(name, real_data)
    assert (len(train), len(test)) == (60_000, 10_000)
    if name == "fashion-mnist":
        assert np.bincount(train.labels).tolist() == [6000] * 10
    assert train.labels[:3].tolist() == {"fashion-mnist": [9, 0, 0], "mnist": [5, 0, 4]}[name]


REAL_DATA = os.environ.get("NPVAE_DATA_DIR")


@pytest.fixture
def real_data() -> str:
    if not REAL_DATA:
        pytest.skip("NPVAE_DATA_DIR is not set: no real data to read")
    return REAL_DATA
