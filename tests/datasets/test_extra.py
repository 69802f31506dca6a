"""Further training images: none that are there already, after the others, and the same again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.commands import training_run
from npvae.core.errors import DataError, OptionError
from npvae.datasets import Dataset
from npvae.datasets.extra import with_extra
from npvae.runs.trained_model import TrainedModel
from npvae.settings import Settings
from tests.helpers import Bytes, digits, digits_file, run_script


def dataset(name: str, values: list[int], classes: str = "") -> Dataset:
    """Images of one colour each, and a class for each: "a" for all if not said otherwise."""
    images = np.zeros((len(values), 28, 28), np.uint8) + np.array(values, np.uint8)[:, None, None]
    classes = classes or "a" * len(values)
    names = tuple(sorted(set(classes)))
    labels = np.array([names.index(name) for name in classes], np.uint8)
    return Dataset(name, images, labels, names, f"source of {name}")


def colours(images: Bytes) -> list[int]:
    return [int(image[0, 0]) for image in images]


TRAIN, TEST = dataset("base", [1, 2, 3], "abb"), dataset("base", [10, 20, 30], "abb")


def added(extra: Dataset) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    return with_extra(TRAIN, TEST, extra, said.append), said


# ------------------------------------------------------------------ what is added


def test_new_images_come_after_those_that_were_there() -> None:
    found, said = added(dataset("more", [7, 8], "ba"))
    assert colours(found.images) == [1, 2, 3, 7, 8]
    assert found.labels.tolist() == [0, 1, 1, 1, 0]
    assert {found.images.dtype, found.labels.dtype} == {np.dtype(np.uint8)}
    assert found.images.flags.c_contiguous
    assert (found.name, found.class_names) == ("base", ("a", "b"))
    assert found.source == "source of base; 2 more from more"
    assert said == []


def test_classes_are_joined_by_their_names() -> None:
    """As numbers, a hat would be a bag: both are the first of their classes."""
    found, said = added(dataset("more", [7, 8, 9], "zbc"))
    assert found.class_names == ("a", "b", "c", "z")
    assert [found.class_names[label] for label in found.labels] == list("abbzbc")
    assert said == ["Classes that only more has: c, z"]


def test_there_are_256_classes_at_most() -> None:
    names = tuple(map(str, range(255)))
    extra = replace(dataset("more", [7]), class_names=names, labels=np.array([254], np.uint8))
    with pytest.raises(DataError, match=r"at most 256 classes, found 257 together"):
        added(extra)


@pytest.mark.parametrize(
    ("values", "classes", "added_values", "added_labels", "left_out"),
    [
        ([7, 20, 8, 10, 20, 9], "abbaba", [7, 8, 9], [0, 1, 0], 3),  # images of the test set
        ([7, 2, 3, 8], "aaaa", [7, 8], [0, 0], 2),  # of the training set: --validation may hold out
        ([7, 8, 7, 7], "aaaa", [7, 8], [0, 0], 2),  # the same image several times
        ([10, 20, 30], "aaa", [], [], 3),  # nothing is left
    ],
)
def test_images_that_are_there_already_are_left_out_and_counted(
    values: list[int],
    classes: str,
    added_values: list[int],
    added_labels: list[int],
    left_out: int,
) -> None:
    found, said = added(dataset("more", values, classes))
    assert colours(found.images) == [1, 2, 3, *added_values]
    assert found.labels.tolist() == [0, 1, 1, *added_labels]
    assert found.source.endswith(f"; {len(added_values)} more from more")
    assert said == [f"Left out of more, being there already: {left_out} of its images."]


def test_an_image_that_is_nearly_one_of_the_test_set_is_another() -> None:
    extra = dataset("more", [20, 30])
    extra.images[0, 27, 27] += 1
    found, said = added(extra)
    assert colours(found.images) == [1, 2, 3, 20]
    assert said[0].endswith(": 1 of its images.")


def test_what_is_given_stays_as_it_is() -> None:
    extra = dataset("more", [7, 10])
    found, _ = added(extra)
    found.images[:] = 99
    found.labels[:] = 9
    assert colours(TRAIN.images) == [1, 2, 3]
    assert colours(TEST.images) == [10, 20, 30]
    assert colours(extra.images) == [7, 10]
    assert TRAIN.labels.tolist() == [0, 1, 1]
    assert TRAIN.source == "source of base"


# ------------------------------------------------------------------ in a run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with digits.npz (120 + 40) and other.npz, whose training images are 50 new ones and
    5 test images of digits.npz."""
    monkeypatch.chdir(tmp_path)
    digits_file(tmp_path, 120, 40)
    write_other(tmp_path / "other.npz")
    return tmp_path


def write_other(path: Path, flip: bool = False) -> None:
    test = digits(120, 40)[1]
    new = digits(120, 40)[0][:50, ::-1]
    x = np.concatenate([new[:, :, ::-1] if flip else new, test[:5]])
    path.parent.mkdir(exist_ok=True)
    y_train, y_test = np.zeros(55, np.uint8), np.zeros(3, np.uint8)
    np.savez(path, x_train=x, x_test=test[:3], y_train=y_train, y_test=y_test)


def start(out: str, **settings: Any) -> None:
    small = {"hidden_dims": (8,), "batch_size": 64, "pictures_every": 0, **settings}
    chosen = {"dataset": "digits.npz", "extra_data": "other.npz", "epochs": 2, **small}
    training_run.start(Settings(**chosen), None, out)


def about(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(out) / "run.json").read_text())
    return found


def test_a_run_says_what_was_added_and_tests_on_its_own_test_set(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start("with")
    out = capsys.readouterr().out
    assert "Left out of other.npz, being there already: 5 of its images." in out
    assert "170 training and 40 test images" in out
    assert "50 more from other.npz" in out
    data = about("with")["data"]
    assert (data["train_images"], data["test_images"]) == (170, 40)
    assert data["extra"] == str(here / "other.npz")
    start("without", extra_data="")
    assert about("without")["data"]["train_images"] == 120
    assert about("without")["data"]["extra"] == ""
    assert about("without")["data"]["sha256"] != data["sha256"]


def test_the_extra_images_belong_to_what_the_model_was_trained_on(here: Path) -> None:
    """evaluate.py compares with the mean training picture, and that is one of all of them."""
    start("run")
    train, test = TrainedModel("run").data
    assert (len(train), len(test)) == (170, 40)
    write_other(here / "other.npz", flip=True)
    with pytest.raises(DataError, match=r"not those that the model was trained on"):
        TrainedModel("run").data  # noqa: B018


def test_it_goes_on_wherever_the_extra_data_is_now(here: Path) -> None:
    start("whole", epochs=3)
    start("parts", epochs=2)
    (here / "elsewhere").mkdir()
    shutil.move("other.npz", "elsewhere/moved.npz")
    with pytest.raises(DataError, match=r"other\.npz"):
        training_run.resume("parts", {"epochs": 3}, None)
    training_run.resume("parts", {"epochs": 3, "extra_data": "elsewhere/moved.npz"}, None)
    whole, parts = (Path(f"{name}/metrics.csv").read_text() for name in ("whole", "parts"))
    for a, b in zip(whole.splitlines(), parts.splitlines(), strict=True):
        assert a.split(",")[:7] == b.split(",")[:7]  # all but the seconds


def test_it_goes_on_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start("run")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    training_run.resume("../run", {"epochs": 3}, None)
    assert len(Path("../run/metrics.csv").read_text().splitlines()) == 4


def test_other_bytes_are_refused(here: Path) -> None:
    start("run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    write_other(here / "flipped.npz", flip=True)
    for given in ({"extra_data": "flipped.npz"}, {"extra_data": "digits.npz"}):
        with pytest.raises(DataError, match="not those that"):
            training_run.resume("run", {"epochs": 3, **given}, None)
    write_other(here / "other.npz", flip=True)
    with pytest.raises(DataError, match="not those that"):
        training_run.resume("run", {"epochs": 3}, None)
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


def test_none_can_be_added_later(here: Path) -> None:
    start("run", extra_data="")
    with pytest.raises(DataError, match="not those that"):
        training_run.resume("run", {"epochs": 3, "extra_data": "other.npz"}, None)


def test_as_many_may_be_held_out_as_there_are_together(here: Path) -> None:
    start("run", validation=160, epochs=1)
    with pytest.raises(OptionError, match="170"):
        start("too many", validation=170)


def test_the_command_works_from_another_folder(here: Path) -> None:
    away = here / "away"
    away.mkdir()
    options = ["--epochs", "1", "--hidden", "8", "--pictures-every", "0", "--out", "run"]
    data = ["--dataset", "../digits.npz", "--extra-data", "../other.npz"]
    done = run_script("train.py", *data, *options, cwd=away)
    assert (done.returncode, done.stderr) == (0, "")
    assert "170 training and 40 test images" in done.stdout
    done = run_script("train.py", "--resume", "away/run", "--epochs", "2", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    done = run_script("train.py", *data[:2], "--extra-data", "nowhere.npz", *options, cwd=away)
    assert done.returncode == 3
    assert "nowhere.npz" in done.stderr
