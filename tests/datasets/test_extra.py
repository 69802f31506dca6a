"""Further training images: none that are there already, after the others, and the same again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.core.errors import DataError, OptionError
from npvae.datasets import Dataset
from npvae.datasets.extra import load_with_extra, with_extra
from npvae.runs.trained_model import TrainedModel
from tests.datasets.own import IMAGES, LABELS, Bytes, save
from tests.helpers import Said, digits, refused, resume, save_dataset, start, unchanged, untimed


def dataset(name: str, values: list[int], classes: str) -> Dataset:
    """Images of one colour each, and the letter of a class for each."""
    images = np.zeros((len(values), 28, 28), np.uint8) + np.array(values, np.uint8)[:, None, None]
    names = tuple(sorted(set(classes)))
    labels = np.array([names.index(name) for name in classes], np.uint8)
    return Dataset(name, images, labels, names, f"source of {name}")


def colours(images: Bytes) -> list[int]:
    return [int(image[0, 0]) for image in images]


TRAIN, TEST = dataset("base", [1, 2, 3], "abb"), dataset("base", [10, 20, 30], "abb")


# Images and their classes: those that are given, and those that are added.
FURTHER = {
    "all are new": ([7, 8], "ba", [7, 8], "ba"),
    # As numbers, a z would be an a: both are the first of their classes.
    "of other classes": ([7, 8, 9], "zzc", [7, 8, 9], "zzc"),
    "some of the test set": ([7, 20, 8, 10, 20, 9], "abbaba", [7, 8, 9], "aba"),
    "some of the training set": ([7, 2, 3, 8], "aaaa", [7, 8], "aa"),  # it may be held out
    "the same several times": ([7, 8, 7, 7], "aaaa", [7, 8], "aa"),
    "nothing is left": ([10, 20, 30], "aaa", [], ""),
}


def test_images_that_are_there_already_are_left_out_and_counted(said: Said) -> None:
    texts = {}
    for case, (values, classes, new, of_new) in FURTHER.items():
        lines: list[str] = []
        found = with_extra(TRAIN, TEST, dataset("more", values, classes), lines.append)
        assert colours(found.images) == [1, 2, 3, *new]
        assert "".join(found.class_names[label] for label in found.labels) == "abb" + of_new
        assert {found.images.dtype, found.labels.dtype} == {np.dtype(np.uint8)}
        assert found.images.flags.c_contiguous
        names = f"{found.name}: {', '.join(found.class_names)}"
        texts[case] = "\n".join([names, found.source, *lines])
    said("further images", texts)


def test_both_halves_know_the_classes_of_both(here: Path) -> None:
    save("base.npz", images=IMAGES, labels=np.array(list("ab"))[LABELS % 2])
    save("more.npz", images=255 - IMAGES, labels=np.array(list("bc"))[LABELS % 2])
    halves = load_with_extra("base.npz", "more.npz", None, print)
    assert [half.class_names for half in halves] == [("a", "b", "c")] * 2


def test_there_are_256_classes_at_most() -> None:
    extra = dataset("more", [7], "a")
    extra = replace(extra, class_names=tuple(map(str, range(254))))
    assert len(with_extra(TRAIN, TEST, extra, print).class_names) == 256
    with refused(DataError, "at most 256 classes, found 257 together"):
        with_extra(TRAIN, TEST, replace(extra, class_names=(*extra.class_names, "254")), print)


def test_an_image_that_is_nearly_one_of_the_test_set_is_another() -> None:
    extra = dataset("more", [20, 30], "aa")
    extra.images[0, 27, 27] += 1
    assert colours(with_extra(TRAIN, TEST, extra, print).images) == [1, 2, 3, 20]


def test_the_datasets_given_stay_as_they_are() -> None:
    extra = dataset("more", [7, 10], "aa")
    found = with_extra(TRAIN, TEST, extra, print)
    found.images[:] = 99
    found.labels[:] = 9
    given = np.concatenate([each.images for each in (TRAIN, TEST, extra)])
    assert colours(given) == [1, 2, 3, 10, 20, 30, 7, 10]
    assert TRAIN.labels.tolist() == [0, 1, 1]
    assert TRAIN.source == "source of base"


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With digits.npz (120 + 40) and other.npz, whose training images are 50 new ones and 5 test
    images of digits.npz."""
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")  # nothing is compiled for a few images
    save_dataset(Path("digits.npz"), *digits(120, 40))
    save_other()
    return here


def save_other(flip: bool = False) -> None:
    train, test = digits(120, 40)
    new = train[:50, ::-1, :: -1 if flip else 1]
    save_dataset(Path("other.npz"), np.concatenate([new, test[:5]]), test[:3])


def begin(out: str = "run", **settings: Any) -> None:
    start(out, **{"extra_data": "other.npz", **settings})


def recorded(out: str) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(Path(out, "run.json").read_text())["data"]
    return about


def test_a_run_says_what_was_added_and_tests_on_its_own_test_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin("with")
    out = capsys.readouterr().out
    assert "Left out of other.npz, being there already: 5 of its images." in out
    assert "170 training and 40 test images" in out
    assert "50 more from other.npz" in out
    start("without")
    found, without = recorded("with"), recorded("without")
    assert (found["train_images"], found["test_images"]) == (170, 40)
    assert found["extra"] == str(folder / "other.npz")
    assert (without["train_images"], without["extra"]) == (120, "")
    assert without["sha256"] != found["sha256"]


@pytest.mark.usefixtures("folder")
def test_it_goes_on_from_wherever_it_and_the_extra_data_are_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin("whole", epochs=4)
    begin("parts", epochs=2)
    Path("elsewhere").mkdir()
    shutil.move("other.npz", "elsewhere/moved.npz")
    with refused(DataError, "other.npz"):
        resume("parts", epochs=3)
    resume("parts", epochs=3, extra_data="elsewhere/moved.npz")
    monkeypatch.chdir("elsewhere")
    resume("../parts", epochs=4)
    assert untimed(Path("../parts/metrics.csv")) == untimed(Path("../whole/metrics.csv"))


@pytest.mark.usefixtures("folder")
def test_other_bytes_are_refused() -> None:
    begin()
    start("without")
    # evaluate.py compares with the mean training picture, and that is one of all of them.
    assert [len(half) for half in TrainedModel("run").data] == [170, 40]
    save_other(flip=True)
    with unchanged("run", "without"):
        with refused(DataError, "not those that the model was trained on"):
            TrainedModel("run").data  # noqa: B018
        for given in ({}, {"extra_data": "other.npz"}, {"extra_data": "digits.npz"}):
            with refused(DataError, "not those that"):
                resume("run", epochs=3, **given)
        with refused(DataError, "not those that"):  # none can be added later
            resume("without", epochs=3, extra_data="other.npz")


@pytest.mark.usefixtures("folder")
def test_as_many_may_be_held_out_as_there_are_together_and_all_must_be_there() -> None:
    begin(validation=160, epochs=1)
    with refused(OptionError, "170"):
        begin("too many", validation=170)
    with refused(DataError, "nowhere.npz"):
        begin("without", extra_data="nowhere.npz")
    assert not Path("without").exists()
