"""scripts/generate.py writes a picture for every mode, never over another, and repeats itself."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.commands.generate import main, parser, with_mode
from npvae.commands.modes import MODES
from npvae.core.errors import DataError, NpvaeError, OutputError
from npvae.datasets.dataset import fingerprint
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.runs.trained_model import TrainedModel, choose_checkpoint
from npvae.storage import checkpoint
from tests.helpers import (
    ROOT,
    Said,
    contents,
    drawn,
    full_disk,
    refused,
    save_dataset,
    unchanged,
)

TRAIN, TEST = drawn()
OTHERS = {"explorer", "styles"}  # they have tests of their own
ASKED = {mode: mode for mode in MODES if mode not in OTHERS} | {
    "reconstruct": "reconstruct --split train --index 0 7 9",
    "digit": "digit 4",
    "class": "class 5",
    "interpolate": "interpolate 3 8",
    "traverse": "traverse --index 7",
}
RUN = Path("runs/digits-z3-001")


@cache
def trained_a_little(latent_dim: int) -> VAE:
    vae, adam = VAE(784, (16,), latent_dim, rng=np.random.default_rng(1)), Adam(3e-3)
    x, rng = TRAIN.images.reshape(200, 784) / 255, np.random.default_rng(2)
    for _ in range(20):
        vae.loss_and_gradients(x, vae.noise(200, rng))
        adam.update(vae.parameters, vae.gradients)
    return vae


def save_as_run(vae: VAE, run: str | Path, dataset: str = "digits.npz") -> None:
    Path(run).mkdir(parents=True)
    about = {"model": vae.settings, "data": {"name": dataset, **fingerprint(TRAIN, TEST)}}
    checkpoint.save(Path(run, "last.npz"), {**about, "epoch": 3}, vae.parameters)


@pytest.fixture(autouse=True)
def run(here: Path) -> None:
    """In the current folder there are a run in runs/ and its dataset."""
    save_dataset(here / "digits.npz", TRAIN.images, TEST.images, TRAIN.labels, TEST.labels)
    save_as_run(trained_a_little(3), RUN)


def quiet(line: str) -> None:
    main([*line.split(), "--quiet"])


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.width, picture.height


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_every_mode_writes_a_picture_and_the_same_again(
    latent_dim: int, capsys: pytest.CaptureFixture[str]
) -> None:
    save_as_run(trained_a_little(latent_dim), "this")
    for mode, asked in ASKED.items():
        name = {"digit": "digit-4", "class": "class-5"}.get(mode, mode)
        paths = [Path("this", "images", f"{name}-00{number}.png") for number in (1, 2)]
        for path in paths:
            count = [] if "--index" in asked else ["--count", "5"]
            main([*asked.split(), "--checkpoint", "this", *count])
            said = capsys.readouterr()
            assert f"picture  {path}\n" in said.out
            assert "scripts/generate.py" in said.out.splitlines()[-1]
            assert said.err == ""
        first, second = (path.read_bytes() for path in paths)
        assert first == second
        assert min(size(paths[0])) > 100
    assert len(contents("this/images")) == 2 * len(ASKED)


def test_what_is_drawn_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    quiet("prior --count 4")
    assert capsys.readouterr().out == f"{RUN / 'images' / 'prior-001.png'}\n"
    main(["manifold", "--count", "3", "--checkpoint", str(RUN)])
    said = capsys.readouterr().out
    assert f"model    {RUN / 'last.npz'} (digits.npz, z = 3, epoch 3)" in said
    assert "plane    principal component 1 of mu to the right (" in said
    assert said.endswith(f"generate.py scatter --checkpoint {RUN}\n")
    main(["digit", "4", "--count", "4"])  # after 20 steps the classes are hardly told apart
    assert "note     4 is poorly separated: " in capsys.readouterr().out
    for mode in ("prior", "reconstruct"):
        main([mode, "--dataset", "digits.npz", "--count", "2"])
    note = "note: --dataset: no effect on prior: it needs no images\n"
    assert capsys.readouterr().err == note


def test_each_next_command_is_one_that_works() -> None:
    for name, mode in MODES.items():
        parser().parse_args((mode.example or name).split() + ["4"] * (name in ("digit", "class")))
        assert {mode.next, mode.next_of_few, mode.next_of_conditional} <= {*MODES, ""}
        assert mode.next or name == "explorer"


@pytest.mark.parametrize(("latent_dim", "second"), [(2, "manifold"), (3, "reconstruct")])
def test_following_the_suggestions_leads_through_all_pictures(latent_dim: int, second: str) -> None:
    vae, names = VAE(784, (4,), latent_dim), ["prior"]
    while (name := MODES[names[-1]].following(vae)) not in names:
        names.append(name)
    assert {*names} == {"prior", "reconstruct", "interpolate", "traverse", "manifold", "scatter"}
    assert (names[1], name) == (second, "prior")


MEANT = {
    "": "prior",
    "--seed 3": "prior --seed 3",
    "--seed 3 digit 4": "digit --seed 3 4",
    "digit 4 --out prior": "digit 4 --out prior",
    "--out scatter": "prior --out scatter",
    "--out scatter scatter --seed 3": "scatter --out scatter --seed 3",
    "--help": "--help",
    "nonsense": "nonsense",
}


def test_the_mode_may_stand_anywhere_and_is_prior_if_there_is_none() -> None:
    assert {given: " ".join(with_mode(given.split())) for given in MEANT} == MEANT


@pytest.mark.parametrize("asked", ["interpolate 3 8", "traverse --index 7"])
def test_paths_can_move(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    quiet(f"{asked} --animate --count 4")
    path = Path(capsys.readouterr().out.strip())
    assert path.name == f"{asked.split()[0]}-001.gif"
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 6  # there and back: 0 1 2 3 2 1
    quiet(f"{asked} --animate --count 4 --out mine.gif")
    assert Path("mine.gif").read_bytes() == path.read_bytes()


# Two commands of each line give the same picture, and the third another.
SAME = [
    "manifold --count 3 --range 3 | manifold --count 3 --range 3.0 | manifold --count 3 --range 1",
    "prior | prior --seed 0 | prior --seed 5",
    "digit 4 | digit 4 --seed 0 | digit 4 --seed 5",
]


@pytest.mark.parametrize("lines", SAME)
def test_range_and_seed_decide_the_picture(lines: str) -> None:
    for line in lines.split(" | "):
        quiet(line)
    first, same, other = contents(RUN / "images").values()
    assert first == same != other


def test_scale_and_count_decide_the_size() -> None:
    for number, scale in enumerate((2, 5), start=1):
        quiet(f"prior --count 30 --scale {scale}")
        width, height = size(RUN / "images" / f"prior-{number:03d}.png")
        assert width == 2 * 24 + 10 * 28 * scale + 9 * 4  # margins, images, gaps
        assert height > 2 * 24 + 3 * 28 * scale + 2 * 4  # and a title


def test_nothing_is_overwritten() -> None:
    for mode in ("prior", "prior", "manifold", "prior"):
        quiet(f"{mode} --count 2")
    before = contents(RUN / "images")
    assert list(before) == ["manifold-001.png", "prior-001.png", "prior-002.png", "prior-003.png"]
    (RUN / "images" / "prior-002.png").unlink()
    quiet("prior --count 3")
    after = contents(RUN / "images")
    assert list(after) == list(before)
    assert after.pop("prior-002.png") != before.pop("prior-002.png")
    assert after == before


def test_out_is_a_new_file_or_any_folder(capsys: pytest.CaptureFixture[str]) -> None:
    Path("full.png").mkdir()  # a folder, whatever its name
    for out in ("new/deep/mine.png", "new/folder", "full.png"):
        quiet(f"prior --count 2 --out {out}")
    paths = capsys.readouterr().out.split()
    assert paths == ["new/deep/mine.png", "new/folder/prior-001.png", "full.png/prior-001.png"]
    assert len({Path(path).read_bytes() for path in paths}) == 1


def test_no_trace_of_a_picture_that_could_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", full_disk)
    with unchanged("."), refused(OutputError, "No space left"):
        quiet("prior --count 2")


def test_the_best_epoch_of_a_run_is_taken_unless_another_is_named() -> None:
    last, best = RUN / "last.npz", RUN / "best.npz"
    assert choose_checkpoint(None) == choose_checkpoint(RUN) == last
    shutil.copy(last, best)
    assert choose_checkpoint(None) == choose_checkpoint(str(RUN)) == best
    assert choose_checkpoint(last) == last


def test_the_dataset_is_that_of_the_run_unless_another_is_named(here: Path) -> None:
    train, test = TrainedModel(RUN).data
    np.testing.assert_array_equal(train.images, TRAIN.images)
    np.testing.assert_array_equal(test.labels, TEST.labels)
    save_dataset(here / "other.npz", TEST.images, TRAIN.images)
    train, _ = TrainedModel(RUN, "other.npz").data
    np.testing.assert_array_equal(train.images, TEST.images)


@pytest.mark.parametrize("change", ["another pixel", "another split"])
def test_images_that_are_others_now_are_refused_unless_they_are_named(
    here: Path, change: str
) -> None:
    whole = np.concatenate([TRAIN.images, TEST.images])
    cut = len(TRAIN) - (change == "another split")
    whole[0, 0, 0] += change == "another pixel"
    save_dataset(here / "digits.npz", whole[:cut], whole[cut:])
    with refused(DataError, "digits.npz are not those that the model was trained", "--dataset"):
        quiet("scatter")
    quiet("scatter --dataset digits.npz")


def test_a_picture_that_takes_no_data_needs_none() -> None:
    VAE(784, (4,), 2).save("bare.npz")
    save_as_run(trained_a_little(2), "other-run", "gone.npz")
    quiet("manifold --checkpoint bare.npz --count 2")
    quiet("scatter --checkpoint bare.npz --dataset digits.npz")
    quiet("prior --checkpoint other-run")
    assert sorted(contents("images")) == ["manifold-001.png", "scatter-001.png"]


REFUSED = """
reconstruct --index 0 60
interpolate 200 1 --split train
traverse --index 60
class trouser
prior --scale 1000
prior --checkpoint nowhere.npz
prior --checkpoint nowhere
prior --checkpoint small.npz
scatter --dataset nothing
scatter --checkpoint bare.npz
scatter --checkpoint other-run
traverse --animate --out mine.png
prior --out mine.png
prior --out file
prior --out file/x.png
"""


def test_refusals_are_short_and_leave_nothing_behind(said: Said) -> None:
    VAE(100, (4,), 2).save("small.npz")
    VAE(784, (4,), 2).save("bare.npz")
    save_as_run(trained_a_little(2), "other-run", "gone.npz")
    for name in ("mine.png", "file"):
        Path(name).write_bytes(b"mine")
    told = {line: refusal(line) for line in REFUSED.strip().splitlines()}
    shutil.rmtree("runs")
    said("generate refuses", {**told, "without any run": refusal("prior")})


def refusal(line: str) -> str:
    """The kind of error and its text, in which scripts/ stands for the folder of this clone."""
    with unchanged("."), refused(NpvaeError) as error:
        quiet(line)
    return f"{error.type.__name__}: {error.value}".replace(f"{ROOT}{os.sep}", "")
