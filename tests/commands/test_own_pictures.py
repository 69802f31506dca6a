"""A run on the user's own pictures: how they were changed when loaded belongs to the run."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.commands import evaluate, generate, train, training_run
from npvae.core.errors import DataError, OptionError
from npvae.datasets import drawn_digits
from npvae.datasets.extra import load_with_extra
from npvae.runs.trained_model import TrainedModel
from npvae.settings import Settings
from tests.datasets.own import save, save_pictures
from tests.helpers import digits

SMALL = ["--epochs", "1", "--hidden", "8", "--pictures-every", "0", "--latent-dim", "2"]
X, X_TEST = digits(60, 20)
FEW = drawn_digits.drawn_digits(train=60, test=20)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collected: None) -> Path:
    """A folder with pictures/: large, dark on white, one of them broken."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drawn_digits, "drawn_digits", lambda: FEW)
    large = (255 - X).repeat(2, axis=1).repeat(2, axis=2)
    save_pictures(tmp_path / "pictures", large)
    (tmp_path / "pictures" / "003.png").write_bytes(b"")
    return tmp_path


@pytest.fixture
def own_run(here: Path) -> Path:
    """A run on them."""
    options = ["--resize", "--invert", "--skip-broken", *SMALL, "--out", "run", "--quiet"]
    with pytest.warns(UserWarning, match=r"left out: 1 broken: 003\.png \(empty\)"):
        train.main(["--dataset", "pictures", *options])
    return here


def test_what_was_done_to_pictures_belongs_to_the_run(
    own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(Path("run/run.json").read_text())["settings"]
    assert [settings[name] for name in ("resize", "invert", "skip_broken")] == [True] * 3
    training_run.resume("run", {"epochs": 2}, None)
    assert "--resize --invert --skip-broken" in capsys.readouterr().out
    loaded, _ = TrainedModel("run").data
    assert loaded.source.endswith("59 scaled to 28 x 28 (from 56 x 56), inverted")
    assert np.abs(loaded.images[0].astype(int) - X[0]).max() <= 1
    with pytest.raises(OptionError, match=r"--invert cannot change .* it began with it"):
        training_run.resume("run", {"epochs": 3, "invert": False}, None)


def test_pictures_that_have_moved_are_asked_for(own_run: Path) -> None:
    shutil.move("pictures", "elsewhere")
    gone = rf"trained on {own_run / 'pictures'}, which is not there any more\.\n.*--dataset NEW"
    for command, arguments in (
        (train, ["--resume", "run", "--epochs", "2"]),
        (evaluate, ["--checkpoint", "run"]),
        (generate, ["reconstruct", "--checkpoint", "run"]),
    ):
        with pytest.raises(DataError, match=gone):
            command.main(arguments)
    training_run.resume("run", {"epochs": 2, "dataset": "elsewhere"}, None, quiet=True)
    assert len(TrainedModel("run").data[0]) == 54  # it knows where they are now


def test_other_pictures_are_treated_as_those_of_the_run(own_run: Path) -> None:
    save_pictures(own_run / "more", (255 - X_TEST).repeat(3, axis=1).repeat(3, axis=2))
    found, _ = TrainedModel("run", "more").data
    assert np.abs(found.images[0].astype(int) - X_TEST[0]).max() <= 1
    named, _ = TrainedModel("run", "drawn-digits").data  # which are taken as they are
    assert named.source == "drawn by this program"


def test_a_run_on_other_data_can_be_shown_own_pictures(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(here / "digits.npz", x_train=X, x_test=X_TEST)
    train.main(["--dataset", "digits.npz", *SMALL, "--out", "run", "--quiet"])
    options = ["--checkpoint", "run", "--resize", "--invert", "--skip-broken"]
    with pytest.warns(UserWarning, match="left out: 1 broken"):
        generate.main(["reconstruct", "--dataset", "pictures", *options])
    following = capsys.readouterr().out.splitlines()[-1]
    assert all(word in following for word in ("--resize", "--invert", "--skip-broken"))
    with pytest.raises(OptionError, match="name them with --dataset"):
        evaluate.main(options)
    with pytest.raises(OptionError, match="for pictures of your own"):
        train.main(["--dataset", "drawn-digits", "--invert", *SMALL])
    assert not Path("runs").exists()


def test_names_of_datasets_as_people_type_them(here: Path) -> None:
    settings = Settings("Drawn_Digits", extra_data="drawn digits")
    known = training_run.with_known_names(settings)
    assert (known.dataset, known.extra_data) == ("drawn-digits", "drawn-digits")


def test_only_pictures_of_ones_own_are_changed_beside_a_published_dataset(here: Path) -> None:
    save(here / "dark.npz", images=255 - X_TEST)
    loaded, _ = load_with_extra(
        "drawn-digits", "dark.npz", None, print, {"invert": True, "resize": True}
    )
    np.testing.assert_array_equal(loaded.images[:60], FEW[0].images)
    assert len(loaded) == 60  # for the others are in its test set


def test_classes_of_further_images_have_names_to_be_drawn(here: Path) -> None:
    """--extra-data with more classes than the dataset: an image of each can be interpolated."""
    labels: Any = np.arange(60) % 26
    save(here / "letters.npz", images=X[:, ::-1], labels=labels)
    save_pictures(here / "base", X_TEST)
    options = ["--dataset", "base", "--extra-data", "letters.npz"]
    train.main([*options, *SMALL, "--out", "run", "--quiet"])
    images, _ = TrainedModel("run").data
    assert images.class_names == ("picture", *map(str, range(26)))
    last = str(len(images) - 1)
    generate.main(["interpolate", "0", last, "--split", "train", "--checkpoint", "run"])
    assert list(Path("run/images").glob("interpolate-*.png"))


def test_a_run_on_equal_pictures_ends_in_no_error(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in (0, 127, 255):
        save(here / "equal.npz", images=np.full((20, 28, 28), level, np.uint8))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train.main(["--dataset", "equal.npz", *SMALL, "--out", f"run {level}"])
        assert ["nothing to learn" in str(note.message) for note in caught] == [True]
        assert "test loss" in capsys.readouterr().out
