"""A run on the user's own pictures: how they were changed when loaded belongs to the run."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from npvae.commands import evaluate, generate, train, training_run
from npvae.core.errors import DataError, OptionError
from npvae.datasets import drawn_digits
from npvae.datasets.extra import load_with_extra
from npvae.runs.trained_model import TrainedModel
from npvae.settings import Settings
from tests.datasets.own import Bytes, save, save_pictures
from tests.helpers import digits, drawn, refused, resume, start

X, X_TEST = digits(60, 20)
FEW = drawn(60, 20)


@pytest.fixture(autouse=True)
def pictures(here: Path, monkeypatch: pytest.MonkeyPatch, collected: None) -> None:
    """A folder pictures/ here: large, dark on white, one of them broken."""
    monkeypatch.setattr(drawn_digits, "drawn_digits", lambda: FEW)  # of which there are many
    save_pictures(Path("pictures"), (255 - X).repeat(2, axis=1).repeat(2, axis=2))
    Path("pictures", "003.png").write_bytes(b"")


@pytest.fixture
def own_run() -> None:
    """A run on them."""
    with pytest.warns(UserWarning, match=r"left out: 1 broken: 003\.png \(empty\)"):
        start("run", "pictures", epochs=1, resize=True, invert=True, skip_broken=True)


def assert_alike(images: Bytes, right: Bytes) -> None:
    """But for the rounding of what was scaled."""
    assert np.abs(images[0].astype(int) - right[0]).max() <= 1


@pytest.mark.usefixtures("own_run")
def test_what_was_done_to_pictures_belongs_to_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads(Path("run/run.json").read_text())["settings"]
    assert [settings[name] for name in ("resize", "invert", "skip_broken")] == [True] * 3
    resume(epochs=2)
    assert "--resize --invert --skip-broken" in capsys.readouterr().out
    loaded, _ = TrainedModel("run").data
    assert loaded.source.endswith("59 scaled to 28 x 28 (from 56 x 56), inverted")
    assert_alike(loaded.images, X)
    with refused(OptionError, "--invert cannot change", "it began with it"):
        resume(epochs=3, invert=False)


@pytest.mark.usefixtures("own_run")
def test_pictures_that_have_moved_are_asked_for(here: Path) -> None:
    shutil.move("pictures", "elsewhere")
    gone = f"trained on {here / 'pictures'}, which is not there any more.\n"
    for main, arguments in (
        (train.main, ["--resume", "run", "--epochs", "2"]),
        (evaluate.main, ["--checkpoint", "run"]),
        (generate.main, ["reconstruct", "--checkpoint", "run"]),
    ):
        with refused(DataError, gone, "--dataset NEW"):
            main(arguments)
    resume(epochs=2, dataset="elsewhere")
    assert len(TrainedModel("run").data[0]) == 54  # it knows where they are now


@pytest.mark.usefixtures("own_run")
def test_other_pictures_are_treated_as_those_of_the_run() -> None:
    save_pictures(Path("more"), (255 - X_TEST).repeat(3, axis=1).repeat(3, axis=2))
    assert_alike(TrainedModel("run", "more").data[0].images, X_TEST)
    named, _ = TrainedModel("run", "drawn-digits").data  # which are taken as they are
    assert named.source == "drawn by this program"


def test_a_run_on_other_data_can_be_shown_own_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("digits.npz"), x_train=X, x_test=X_TEST)
    start("run", epochs=1)
    changes = ["--resize", "--invert", "--skip-broken"]
    with pytest.warns(UserWarning, match="left out: 1 broken"):
        generate.main(["reconstruct", "--checkpoint", "run", "--dataset", "pictures", *changes])
    following = capsys.readouterr().out.splitlines()[-1]
    assert all(word in following for word in changes)
    with refused(OptionError, "name them with --dataset"):
        evaluate.main(["--checkpoint", "run", *changes])
    with refused(OptionError, "for pictures of your own"):
        train.main(["--dataset", "drawn-digits", "--invert"])
    assert not Path("runs").exists()


def test_names_of_datasets_as_people_type_them() -> None:
    known = training_run.with_known_names(Settings("Drawn_Digits", extra_data="drawn digits"))
    assert (known.dataset, known.extra_data) == ("drawn-digits", "drawn-digits")


def test_only_pictures_of_ones_own_are_changed_beside_a_published_dataset() -> None:
    save(Path("dark.npz"), images=255 - X_TEST)
    changes = {"invert": True, "resize": True}
    loaded, _ = load_with_extra("drawn-digits", "dark.npz", None, print, changes)
    np.testing.assert_array_equal(loaded.images[:60], FEW[0].images)
    assert len(loaded) == 60  # for the others are in its test set


def test_classes_of_further_images_have_names_to_be_drawn() -> None:
    """--extra-data with more classes than the dataset: an image of each can be interpolated."""
    save(Path("letters.npz"), images=X[:, ::-1], labels=np.arange(60) % 26)
    save_pictures(Path("base"), X_TEST)
    start("run", "base", extra_data="letters.npz", epochs=1)
    images, _ = TrainedModel("run").data
    assert images.class_names == ("picture", *map(str, range(26)))
    last = str(len(images) - 1)
    generate.main(["interpolate", "0", last, "--split", "train", "--checkpoint", "run"])
    assert list(Path("run/images").glob("interpolate-*.png"))


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_run_on_equal_pictures_ends_in_no_error(
    level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Path("equal.npz"), images=np.full((20, 28, 28), level, np.uint8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start("run", "equal.npz", epochs=1)
    assert ["nothing to learn" in str(note.message) for note in caught] == [True]
    assert "test loss" in capsys.readouterr().out
