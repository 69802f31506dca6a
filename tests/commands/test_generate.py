"""scripts/generate.py writes a picture for every mode, never over another, and repeats itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.commands.generate import main, parser, with_mode
from npvae.commands.modes import MODES
from npvae.core.errors import CheckpointError, DataError, NpvaeError, OptionError, OutputError
from npvae.datasets.dataset import fingerprint
from npvae.datasets.drawn_digits import drawn_digits
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.runs.trained_model import TrainedModel, choose_checkpoint
from npvae.storage import checkpoint
from tests.helpers import full_disk, run_script

TRAIN, TEST = drawn_digits(train=300, test=60)
PICTURES = [
    mode for mode in MODES if mode not in ("explorer", "styles")
]  # they have tests of their own
ASKED = {mode: mode for mode in PICTURES} | {
    "reconstruct": "reconstruct --split train --index 0 7 9",
    "digit": "digit 4",
    "class": "class 5",
    "interpolate": "interpolate 3 8",
    "traverse": "traverse --index 7",
}
RUN = Path("runs/digits-z3-001")


def trained_a_little(latent_dim: int) -> VAE:
    vae, adam = VAE(784, (16,), latent_dim, rng=np.random.default_rng(1)), Adam(3e-3)
    x, rng = TRAIN.images.reshape(300, 784) / 255, np.random.default_rng(2)
    for _ in range(20):
        vae.loss_and_gradients(x, vae.noise(300, rng))
        adam.update(vae.parameters, vae.gradients)
    return vae


def save_as_run(vae: VAE, path: Path, dataset: str | Path, epoch: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"name": str(dataset), **fingerprint(TRAIN, TEST)}
    about = {"model": vae.settings, "data": data, "epoch": epoch}
    checkpoint.save(path, about, vae.parameters)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in runs/, and the dataset of it."""
    folder = tmp_path_factory.mktemp("generate")
    np.savez(
        folder / "digits.npz",
        x_train=TRAIN.images,
        y_train=TRAIN.labels,
        x_test=TEST.images,
        y_test=TEST.labels,
    )
    save_as_run(trained_a_little(3), folder / RUN / "last.npz", folder / "digits.npz")
    return folder


@pytest.fixture
def here(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of that folder, to work in."""
    shutil.copytree(template / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(folder: Path = RUN / "images") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.width, picture.height


# --- every mode ----------------------------------------------------------------------------------


def test_every_mode_as_a_user_runs_it(here: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(
            lambda asked: run_script("generate.py", *shlex.split(asked), cwd=here), ASKED.values()
        )
    for mode, process in zip(ASKED, done, strict=True):
        assert process.returncode == 0, process.stderr
        assert process.stderr == ""
        name = {"digit": "digit-4", "class": "class-5"}.get(mode, mode)
        path = RUN / "images" / f"{name}-001.png"
        assert f"picture  {path}\n" in process.stdout
        assert min(size(here / path)) > 100
        *_, command = process.stdout.splitlines()
        assert command.startswith("  python ")
        assert "scripts/generate.py" in command
    assert len(pictures(here / RUN / "images")) == len(ASKED)


def test_a_picture_that_needs_no_images_says_that_a_dataset_is_not_used(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode in ("prior", "reconstruct"):
        main([mode, "--dataset", "drawn-digits", "--count", "2"])
    note = "note: --dataset: no effect on prior: it needs no images\n"
    assert capsys.readouterr().err == note


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_every_mode_works_for_few_latents(latent_dim: int, here: Path, template: Path) -> None:
    save_as_run(trained_a_little(latent_dim), here / "few" / "last.npz", template / "digits.npz")
    for asked in ASKED.values():
        main([*shlex.split(asked), "--checkpoint", "few", "--count", "5", "--quiet"])
    assert len(pictures(here / "few" / "images")) == len(ASKED)


def test_quiet_prints_the_path_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prior", "--count", "4", "--quiet"])
    assert capsys.readouterr().out == f"{RUN / 'images' / 'prior-001.png'}\n"


def test_what_is_shown_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["manifold", "--count", "3", "--checkpoint", str(RUN)])
    said = capsys.readouterr().out
    assert f"model    {RUN / 'last.npz'} (digits.npz, z = 3, epoch 3)" in said
    assert "plane    principal component 1 of mu to the right (" in said
    assert said.endswith(f"generate.py scatter --checkpoint {RUN}\n")


def test_each_next_command_is_one_that_works() -> None:
    assert set(PICTURES) == set(ASKED)
    for name, mode in MODES.items():
        parser().parse_args((mode.example or name).split() + ["4"] * (name in ("digit", "class")))
        assert {mode.next, mode.next_of_few, mode.next_of_conditional} <= {*MODES, ""}
        assert mode.next or name == "explorer"


@pytest.mark.parametrize("latent_dim", [2, 3])
def test_following_the_suggestions_leads_through_all_pictures(latent_dim: int) -> None:
    name, seen, vae = "prior", set[str](), VAE(784, (4,), latent_dim)
    while name not in seen:
        seen.add(name)
        name = MODES[name].following(vae)
    assert seen == {"prior", "reconstruct", "interpolate", "traverse", "manifold", "scatter"}
    assert name == "prior"


def test_with_two_latents_the_manifold_comes_next(
    here: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_as_run(trained_a_little(2), here / "few" / "last.npz", template / "digits.npz")
    main(["--count", "2", "--checkpoint", "few"])
    assert "generate.py manifold --checkpoint few" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", "prior"),
        ("--seed 3", "prior --seed 3"),
        ("--seed 3 digit 4", "digit --seed 3 4"),
        ("digit 4 --out prior", "digit 4 --out prior"),
        ("--out scatter", "prior --out scatter"),
        ("--out scatter scatter --seed 3", "scatter --out scatter --seed 3"),
        ("--help", "--help"),
        ("nonsense", "nonsense"),
    ],
)
def test_the_mode_may_stand_anywhere_and_is_prior_if_there_is_none(given: str, meant: str) -> None:
    assert with_mode(given.split()) == meant.split()


@pytest.mark.parametrize("mode", MODES)
def test_help_fits_80_columns_and_is_honest_about_classes(
    mode: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([mode, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    assert ("knows no classes" in " ".join(lines)) == (mode in ("digit", "class"))


# --- the same again ------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ASKED.values())
def test_equal_commands_give_equal_bytes(asked: str, here: Path) -> None:
    for _ in range(2):
        main([*asked.split(), "--seed", "5", "--count", "6", "--quiet"])
    first, second = pictures().values()
    assert first == second


@pytest.mark.parametrize("asked", ["interpolate 3 8", "traverse --index 7"])
def test_paths_can_move(asked: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*asked.split(), "--animate", "--count", "4", "--quiet"])
    path = Path(capsys.readouterr().out.strip())
    assert path.name == f"{asked.split()[0]}-001.gif"
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) == 6  # there and back: 0 1 2 3 2 1
    main([*asked.split(), "--animate", "--count", "4", "--quiet", "--out", "mine.gif"])
    assert Path("mine.gif").read_bytes() == path.read_bytes()
    with pytest.raises(OutputError, match=r"mine\.png is not a folder, .* \.gif"):
        main([*asked.split(), "--animate", "--quiet", "--out", "mine.png"])


def test_the_manifold_can_be_evenly_spaced(here: Path) -> None:
    for range_ in ("3", "3.0", "1"):
        main(["manifold", "--count", "3", "--range", range_, "--quiet"])
    same, equal, other = pictures().values()
    assert same == equal != other


def test_it_warns_of_a_class_that_is_poorly_separated(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained for 20 steps, the model has hardly told the classes apart."""
    main(["digit", "4", "--count", "4"])
    assert re.search(
        r"note     4 is poorly separated: \d+% of such samples", capsys.readouterr().out
    )


@pytest.mark.parametrize("asked", ["prior", "digit 4"])
def test_another_seed_gives_another_picture(asked: str, here: Path) -> None:
    for seed in ("5", "6"):
        main([*asked.split(), "--seed", seed, "--quiet"])
    first, second = pictures().values()
    assert first != second


def test_scale_and_count_decide_the_size(here: Path) -> None:
    for number, scale in enumerate((2, 5), start=1):
        main(["prior", "--count", "30", "--scale", str(scale), "--quiet"])
        width, height = size(RUN / "images" / f"prior-{number:03d}.png")
        assert width == 2 * 24 + 10 * 28 * scale + 9 * 4  # margins, images, gaps
        assert height > 2 * 24 + 3 * 28 * scale + 2 * 4  # and a title


# --- where it goes -------------------------------------------------------------------------------


def test_nothing_is_overwritten(here: Path) -> None:
    for mode in ("prior", "prior", "manifold", "prior"):
        main([mode, "--count", "2", "--quiet"])
    before = pictures()
    assert list(before) == ["manifold-001.png", "prior-001.png", "prior-002.png", "prior-003.png"]
    (RUN / "images" / "prior-002.png").unlink()
    main(["prior", "--count", "3", "--quiet"])
    after = pictures()
    assert list(after) == list(before)
    assert after.pop("prior-002.png") != before.pop("prior-002.png")
    assert after == before


def test_out_is_a_new_file_or_any_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("full.png").mkdir()  # a folder, whatever its name
    for out in ("new/deep/mine.png", "new/folder", "full.png"):
        main(["prior", "--count", "2", "--quiet", "--out", out])
    paths = capsys.readouterr().out.split()
    assert paths == ["new/deep/mine.png", "new/folder/prior-001.png", "full.png/prior-001.png"]
    assert len({Path(path).read_bytes() for path in paths}) == 1


def test_an_existing_file_is_refused_and_kept(here: Path) -> None:
    Path("mine.png").write_bytes(b"a picture of mine")
    with pytest.raises(OutputError, match=r"mine\.png exists.*\n.*--out"):
        main(["prior", "--out", "mine.png", "--quiet"])
    assert Path("mine.png").read_bytes() == b"a picture of mine"


def test_no_trace_of_a_picture_that_could_not_be_written(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        main(["prior", "--count", "2", "--quiet"])
    assert pictures() == {}


def test_a_folder_that_cannot_be_is_an_error(here: Path) -> None:
    Path("file").touch()
    for out in ("file", "file/below", "file/x.png"):
        with pytest.raises(OutputError, match="no picture can be written to file"):
            main(["prior", "--count", "2", "--out", out])


# --- which model and data ------------------------------------------------------------------------


def test_the_newest_run_and_its_best_epoch_are_taken(here: Path) -> None:
    last, best = RUN / "last.npz", RUN / "best.npz"
    assert choose_checkpoint(None) == choose_checkpoint(RUN) == last
    shutil.copy(last, best)
    assert choose_checkpoint(None) == choose_checkpoint(str(RUN)) == best
    assert choose_checkpoint(last) == last  # said and meant
    newer = Path("runs/digits-z3-002/last.npz")
    newer.parent.mkdir()
    shutil.copy(last, newer)
    os.utime(last, (1, 1))
    assert choose_checkpoint(None) == newer


def test_the_dataset_is_that_of_the_run_unless_another_is_named(here: Path, template: Path) -> None:
    train, test = TrainedModel(RUN).data
    np.testing.assert_array_equal(train.images, TRAIN.images)
    np.testing.assert_array_equal(test.labels, TEST.labels)
    np.savez(here / "other.npz", x_train=TEST.images, x_test=TRAIN.images)
    train, _ = TrainedModel(RUN, "other.npz").data
    np.testing.assert_array_equal(train.images, TEST.images)
    save_as_run(VAE(784, (4,), 2), here / "gone" / "last.npz", here / "gone.npz")
    with pytest.raises(DataError, match=r"gone\.npz"):
        main(["scatter", "--checkpoint", "gone", "--quiet"])
    main(["prior", "--checkpoint", "gone", "--quiet"])  # takes no data


@pytest.mark.parametrize("change", ["another pixel", "another split"])
def test_images_that_are_others_now_are_refused_unless_they_are_named(
    here: Path, template: Path, change: str
) -> None:
    whole = np.concatenate([TRAIN.images, TEST.images])
    cut = len(TRAIN) - (change == "another split")
    whole[0, 0, 0] += change == "another pixel"
    np.savez(here / "mine.npz", x_train=whole[:cut], x_test=whole[cut:])
    save_as_run(VAE(784, (4,), 2), here / "run" / "last.npz", here / "mine.npz")
    message = r"mine\.npz are not those that the model was trained on\.\n.*--dataset"
    with pytest.raises(DataError, match=message):
        main(["scatter", "--checkpoint", "run", "--quiet"])
    main(["scatter", "--checkpoint", "run", "--quiet", "--dataset", str(here / "mine.npz")])


def test_a_model_without_a_dataset_asks_for_one(here: Path, template: Path) -> None:
    VAE(784, (4,), 2).save("bare.npz")
    main(["manifold", "--checkpoint", "bare.npz", "--count", "2", "--quiet"])
    with pytest.raises(OptionError, match=r"bare\.npz does not say which dataset.*\n.*--dataset"):
        main(["scatter", "--checkpoint", "bare.npz", "--quiet"])
    given = ["--checkpoint", "bare.npz", "--dataset", str(template / "digits.npz"), "--quiet"]
    main(["scatter", *given])
    assert sorted(pictures(here / "images")) == ["manifold-001.png", "scatter-001.png"]


def test_a_model_of_other_images_is_an_error(here: Path) -> None:
    VAE(100, (4,), 2).save("small.npz")
    with pytest.raises(CheckpointError, match="100 pixels"):
        main(["--checkpoint", "small.npz"])


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ("reconstruct --index 0 60", OptionError, "no test image 60: .* 0 to 59"),
        ("interpolate 300 1 --split train", OptionError, "no train image 300: .* 0 to 299"),
        ("traverse --index 60", OptionError, "0 to 59"),
        ("class trouser", OptionError, "Its classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("prior --scale 1000", OptionError, "million pixels"),
        ("prior --checkpoint nowhere.npz", CheckpointError, "nowhere.npz"),
        ("prior --checkpoint nowhere", CheckpointError, "nowhere"),
        ("scatter --dataset nothing", DataError, "nothing"),
    ],
)
def test_errors_are_short_and_leave_nothing_behind(
    arguments: str, kind: type[NpvaeError], says: str, here: Path
) -> None:
    with pytest.raises(kind, match=says) as caught:
        main(arguments.split())
    assert str(caught.value).count("\n") < 4
    assert pictures() == {}


def test_without_any_run_it_says_how_to_get_one(tmp_path: Path) -> None:
    process = run_script("generate.py", cwd=tmp_path)
    assert process.returncode == 4
    assert "scripts/train.py" in process.stderr
    assert process.stderr.count("\n") <= 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("digit", "N"),
        ("digit 10", "10"),
        ("digit four", "four"),
        ("class", "NAME"),
        ("interpolate 1", "N"),
        ("interpolate 1 -2", "-2"),
        ("interpolate 1 2 3", "3"),
        ("reconstruct --index", "--index"),
        ("reconstruct --index -1", "-1"),
        ("reconstruct --split dev", "dev"),
        ("traverse --index 1 2", "2"),
        ("prior --count 0", "0"),
        ("prior --scale 0.5", "0.5"),
        ("prior --index 7", "7"),
        ("mainfold", "mainfold"),
    ],
)
def test_bad_options_fail_at_once(
    arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said
