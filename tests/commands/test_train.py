"""scripts/train.py as a user sees it: its output, its files, how it stops and resumes."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.commands import run_pictures, training_run
from npvae.commands.messages import without_effect
from npvae.core.errors import DataError, OptionError
from npvae.datasets import drawn_digits
from npvae.datasets.standard import STANDARD
from npvae.evaluation import kl_per_latent, no_latent_loss, pixel_entropy
from npvae.plots.animation import samples_in
from npvae.plots.image_grid import reconstruction_grid
from npvae.plots.loss_curves import loss_curve
from npvae.runs.environment import versions
from npvae.runs.fit import Epoch
from npvae.runs.run_directory import Run, load_model
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.forks import interrupted, like_a_user, on_a_terminal, started
from tests.helpers import (
    HANGS_AFTER,
    ROOT,
    command,
    digits,
    digits_file,
    drawn_lines,
    rows,
    run,
    run_script,
    screen,
    untimed,
)

COLUMNS = "epoch,train_bce,train_kl,train_loss,test_bce,test_kl,test_loss,seconds"
BACKEND = os.environ.get("NPVAE_BACKEND", "auto")  # once, what a user would get

# A run's lock is held for as long as the run lives, and here that is until it is collected.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file.*\.lock:ResourceWarning")


@pytest.fixture(autouse=True)
def signals_count_and_locks_are_given_up(collected: None) -> Iterator[None]:
    with like_a_user():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and an umlaut in its name, for runs."""
    folder = tmp_path_factory.mktemp("a földer")
    digits_file(folder)
    return folder


@pytest.fixture(scope="module")
def printed(home: Path) -> list[str]:
    """The output of two runs with equal seeds."""
    arguments = ["--dataset", "digits.npz", "--epochs", "3", "--batch-size", "64", "--seed", "5"]
    texts = []
    for _ in range(2):
        done = run_script("train.py", *arguments, cwd=home)
        assert (done.returncode, done.stderr) == (0, "")
        texts.append(done.stdout)
    return texts


def runs(home: Path) -> list[Path]:
    return [home / "runs" / f"digits-z10-00{number}" for number in (1, 2)]


# ------------------------------------------------------------------ what it prints


def test_the_plan_comes_first(printed: list[str]) -> None:
    plan = printed[0].partition("1/3")[0]
    assert "digits.npz" in plan
    assert re.search(r"\b200\b", plan)
    assert re.search(r"\b60\b", plan)
    for shape, count in (("784 -> 128", "100,480"), ("128 -> 10", "1,290"), ("10 -> 128", "1,408")):
        assert re.search(rf"{shape}\s+{count}", plan)
    assert re.search(r"128 -> 784\s+101,136", plan)
    assert "205,604" in plan  # parameters in all: 100,480 + 2 * 1,290 + 1,408 + 101,136
    assert "runs/digits-z10-001" in plan
    assert "runs/digits-z10-002" in printed[1].partition("1/3")[0]


def test_piped_output_is_plain_lines_that_fit_a_page(printed: list[str]) -> None:
    assert "\r" not in printed[0]
    assert "\033" not in printed[0]
    assert printed[0].endswith("\n")
    assert max(map(len, printed[0].splitlines())) <= 120


def test_there_is_a_row_for_every_epoch(home: Path, printed: list[str]) -> None:
    said = [line for line in printed[0].splitlines() if re.match(r"\s*\d/3\s", line)]
    kept = rows(runs(home)[0] / "metrics.csv")
    assert len(said) == len(kept) == 3
    for line, row in zip(said, kept, strict=True):
        for column in COLUMNS.split(",")[1:7]:
            assert f"{float(row[column]):.2f}" in line, column


def test_the_summary_puts_the_loss_between_floor_and_baseline(
    home: Path, printed: list[str]
) -> None:
    train, test = digits(200, 60)
    summary = printed[0].partition("3/3")[2]
    last = rows(runs(home)[0] / "metrics.csv")[-1]
    for column in ("test_loss", "test_bce", "test_kl"):
        assert f"{float(last[column]):.2f}" in summary
    assert f"{pixel_entropy(test):.2f}" in summary
    assert f"{no_latent_loss(train, test):.2f}" in summary
    assert "nats per image" in summary


def test_what_it_names_as_next_is_there(home: Path, printed: list[str]) -> None:
    summary = printed[0].partition("3/3")[2]
    following = summary.partition("Next")[2]
    scripts = [shlex.split(line)[1] for line in re.findall("python .*", following)]
    pages = re.findall(r"\S+\.html", summary)
    assert len(scripts) >= 2
    assert pages
    assert all((ROOT / script).is_file() for script in scripts)
    assert all((home / page).is_file() for page in pages)


def test_the_commands_of_a_page_name_its_run(home: Path, printed: list[str]) -> None:
    """The page is still read when there are newer runs, and commands use the newest by default."""
    for folder, text in zip(runs(home), printed, strict=True):
        run_dir = str(folder.relative_to(home))
        for _, line in data_of(folder / "report.html")["next"]:
            assert shlex.split(line)[-2:] == ["--checkpoint", run_dir]
        assert "--checkpoint" not in text


def test_quiet_prints_results_alone(home: Path) -> None:
    arguments = ["--dataset", "digits.npz", "--epochs", "1", "--quiet", "--out", "quiet"]
    done = run_script("train.py", *arguments, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test loss" in done.stdout
    assert "784" not in done.stdout
    assert "1/1" not in done.stdout
    assert "Next" not in done.stdout


# ------------------------------------------------------------------ what it leaves


def test_the_folder_of_a_run(home: Path, printed: list[str]) -> None:
    folder = runs(home)[0]
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    pictures = [f"images/{kind}_epoch{n}.png" for kind in ("rec", "sampled") for n in (1, 2, 3)]
    visible = [name for name in found if not name.startswith(".")]
    assert set(visible) >= {"run.json", "metrics.csv", "last.npz", *pictures}
    assert not [name for name in found if name.endswith(".tmp")]
    for name in pictures:
        with Image.open(folder / name) as picture:
            assert picture.mode == "L"
            assert min(picture.size) > 10 * 3 * 28
            pixels = np.asarray(picture)
            assert pixels.min() < pixels.max()
    assert (folder / "metrics.csv").read_text().splitlines()[0] == COLUMNS


def test_the_originals_stand_above_their_reconstructions(home: Path, printed: list[str]) -> None:
    _, test = digits(200, 60)
    vae, _ = load_model(runs(home)[0] / "last.npz")
    mu, _ = vae.encode(test[:50].reshape(50, 784) / 255)
    name = "digits.npz, z = 10, epoch 3: test images and their reconstructions"
    expected = reconstruction_grid(test[:50], vae.decode(mu), 3, name)
    with Image.open(runs(home)[0] / "images" / "rec_epoch3.png") as picture:
        difference = np.asarray(picture).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1  # a level, by rounding


def test_run_json_tells_how_to_repeat_the_run(home: Path, printed: list[str]) -> None:
    about = json.loads((runs(home)[0] / "run.json").read_text())
    assert about["settings"]["seed"] == 5
    assert about["settings"]["epochs"] == 3
    assert about["settings"]["batch_size"] == 64
    assert about["settings"]["hidden_dims"] == [128]
    assert about["settings"]["learning_rate"] == 1e-3
    assert about["data"]["train_images"] == 200
    assert {"npvae", "python", "numpy", "numba", "pillow"} <= set(about["versions"])


def test_the_same_command_twice_makes_the_same_numbers_in_two_folders(
    home: Path, printed: list[str]
) -> None:
    one, two = runs(home)
    assert untimed(one / "metrics.csv") == untimed(two / "metrics.csv")
    _, arrays = checkpoint.load(one / "last.npz")
    _, others = checkpoint.load(two / "last.npz")
    assert arrays.keys() == others.keys()
    assert len(arrays) > 10  # the parameters, and what Adam remembers
    for name, array in arrays.items():
        assert array.tobytes() == others[name].tobytes(), name
    for picture in (one / "images").iterdir():
        assert picture.read_bytes() == (two / "images" / picture.name).read_bytes()


def test_the_numbers_are_those_of_the_saved_model(home: Path, printed: list[str]) -> None:
    vae, header = load_model(runs(home)[0] / "last.npz")
    assert header["epoch"] == 3
    last = rows(runs(home)[0] / "metrics.csv")[-1]
    _, test = digits(200, 60)
    x = test.reshape(60, 784) / 255
    # The kl does not depend on the noise; the loss was summed in batches of its own.
    assert vae.loss(x, np.zeros((60, 10))).kl == pytest.approx(float(last["test_kl"]), rel=1e-5)
    assert header["history"][-1]["test_loss"] == pytest.approx(float(last["test_loss"]), rel=1e-9)


# ------------------------------------------------------------------ on a terminal


@pytest.mark.parametrize(
    ("columns", "backend", "hidden"), [(80, BACKEND, "512,512"), (40, "numpy", "256")]
)
def test_a_terminal_shows_a_line_that_moves(
    home: Path, columns: int, backend: str, hidden: str
) -> None:
    # Single images and many parameters: the line is drawn each tenth of a second of an epoch.
    arguments = ["--dataset", "digits.npz", "--epochs", "2", "--batch-size", "1"]
    arguments += ["--hidden", hidden, "--out", f"terminal{columns}"]
    code, seen = on_a_terminal(arguments, home, columns, backend)
    assert code == 0
    moving = [line for line in drawn_lines(seen) if re.search(r"\d/2.*\d:\d\d left", line)]
    assert moving
    assert max(map(len, moving)) < columns
    shown = screen(seen)
    assert not any("left" in line for line in shown)
    epochs = [line for line in shown if re.match(r"\s*\d/2\s", line)]
    assert len(epochs) == 2
    assert max(map(len, epochs)) <= columns
    assert "\033" not in "".join(shown)
    # Only what is not to be broken, a path or a command, may be wider.
    wide = [line for line in shown if len(line) > columns]
    assert all("python " in line or len(line.split()) <= 2 for line in wide)


# ------------------------------------------------------------------ stopping and going on


def endless(out: Path, *more: str) -> list[str]:
    arguments = ["--dataset", "digits.npz", "--epochs", "100000", "--hidden", "16"]
    return command("train.py", *arguments, "--out", out, *more)


@pytest.mark.parametrize(
    ("after", "number"), [("^results", signal.SIGINT), (r"^ *2/100000", signal.SIGTERM)]
)
def test_a_signal_ends_a_run_that_would_go_on(
    home: Path, tmp_path: Path, after: str, number: int
) -> None:
    """Before its first epoch, or later; test_survival.py tries any instant of short runs."""
    words = endless(tmp_path / "run")
    ending = interrupted(words, home, number, 0.02, after=after, PYTHONUNBUFFERED="1")
    assert ending.code == 128 + number
    assert re.match("Interrupted. (No|The state after) epoch", ending.err)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_reader_who_leaves_gets_no_traceback(home: Path, tmp_path: Path) -> None:
    """train.py | head -3"""
    words = endless(tmp_path / "run", "--pictures-every", "0")
    child = started(words, home, PYTHONUNBUFFERED="1")
    assert child.stdout is not None
    assert child.stderr is not None
    for _ in range(3):
        child.stdout.readline()
    child.stdout.close()
    child.stdout = None  # closed: communicate would not take it
    try:
        _, err = child.communicate(timeout=HANGS_AFTER)
    finally:
        child.kill()
    assert child.returncode == 130  # it is not done
    assert re.match(r"Stopped, as nobody reads the output any more\. (No|The state)", err)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_a_reader_who_leaves_a_complete_run_is_no_error(home: Path, tmp_path: Path) -> None:
    """train.py --quiet | head -1"""
    words = endless(tmp_path / "run", "--epochs", "1", "--quiet")
    child = started(words, home, PYTHONUNBUFFERED="1")
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(timeout=HANGS_AFTER)
    assert (child.returncode, err) == (0, "")
    assert (tmp_path / "run" / "last.npz").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux")
@pytest.mark.parametrize(("output", "code"), [("closed", 130), ("full", 6)])
@pytest.mark.parametrize("dataset", ["folder", "npz with extra data"])
def test_an_output_that_fails_is_not_blamed_on_the_data(
    dataset: str, output: str, code: int, tmp_path: Path
) -> None:
    """It is no success either: notes about the data come before there is a run to keep."""
    x, _ = digits(20, 2)
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number}.png")
    np.savez(tmp_path / "all.npz", images=x)
    chosen = ["--dataset", "pictures"]
    if dataset != "folder":
        chosen = ["--dataset", "all.npz", "--extra-data", "all.npz"]
    if output == "closed":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    try:
        words = command("train.py", *chosen, "--epochs", "1", "--hidden", "4", "--out", "run")
        done = run(words, cwd=tmp_path, stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == code, done.stderr
    assert "cannot be read" not in done.stderr
    assert done.stderr.count("\n") <= 4


# ------------------------------------------------------------------ in this process: it is quicker


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return digits_file(tmp_path)


def start(data: Path, out: str | None = None, **settings: Any) -> None:
    chosen = {"hidden_dims": (8,), "batch_size": 64, "pictures_every": 0, **settings}
    training_run.start(Settings(dataset=str(data), **chosen), None, out)


def test_two_and_two_epochs_are_four(here: Path) -> None:
    start(here, "four", epochs=4, validation=20)
    start(here, "two", epochs=2, validation=20)
    training_run.resume("two", {"epochs": 4}, None)
    assert Path("two/last.npz").read_bytes() == Path("four/last.npz").read_bytes()
    assert Path("two/best.npz").read_bytes() == Path("four/best.npz").read_bytes()
    assert untimed(Path("two/metrics.csv")) == untimed(Path("four/metrics.csv"))
    assert all(float(row["seconds"]) > 0 for row in rows(Path("two/metrics.csv")))


def test_what_cannot_be_resumed_says_why_and_changes_nothing(here: Path) -> None:
    start(here, "run", epochs=2)
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    with pytest.raises(OptionError, match="latent-dim"):
        training_run.resume("run", {"latent_dim": 3, "epochs": 9}, None)
    with pytest.raises(OptionError, match="2 epochs"):
        training_run.resume("run", {"epochs": 2}, None)
    x_train, x_test = digits(200, 60)
    for train, test in ((255 - x_train, x_test), (x_train, 255 - x_test)):
        np.savez(here, x_train=train, x_test=test, y_train=[0] * 200, y_test=[0] * 60)
        with pytest.raises(DataError, match="not those that"):
            training_run.resume("run", {"epochs": 3}, None)
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("what", ["numpy", "blas"])
def test_whatever_may_change_the_last_digits_is_told(
    what: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(here, "run", epochs=1)
    before = versions()
    assert before["blas"] == "unknown" or re.fullmatch(
        r"OpenBLAS \w+, \d+ threads?", before["blas"]
    )
    monkeypatch.setattr(training_run, "versions", lambda *_: {**before, what: "another"})
    training_run.resume("run", {"epochs": 2}, None, quiet=True)
    note = f"note: last digits may differ: {what} is another, it was {before[what]}\n"
    assert capsys.readouterr().err == note


def test_with_validation_it_says_which_epoch_is_the_best(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(here, "run", epochs=4, validation=40, learning_rate=0.05)
    history = rows(Path("run/metrics.csv"))
    best = min(history, key=lambda row: float(row["validation_loss"]))
    loss, lowest = (float(best[name]) for name in ("test_loss", "validation_loss"))
    out = capsys.readouterr().out
    which = f"after epoch {best['epoch']}, which has the lowest validation loss, {lowest:.2f};"
    assert f"best      {loss:7.2f} {which}\n" in out
    assert checkpoint.load("run/best.npz")[0]["epoch"] == int(best["epoch"])
    start(here, "without", epochs=1)
    assert "best.npz" not in capsys.readouterr().out


def test_it_says_so_if_a_run_has_few_steps(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As with a few hundred pictures and a batch size meant for sixty thousand."""
    start(here, "few", epochs=2, batch_size=512)
    assert (
        "only 2 steps in all: try more --epochs or a smaller --batch-size"
        in capsys.readouterr().out
    )
    start(here, "enough", epochs=3, batch_size=2)
    assert "steps in all" not in capsys.readouterr().out


WITHOUT_EFFECT: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"warmup": 2.0, "kl_warmup": 2.0, "pictures_every": 2}, []),
    ({"warmup": 5.0}, ["--warmup 5 is longer than the run: at most 40% of the learning rate"]),
    ({"warmup": 0.1}, ["--warmup 0.1 changes nothing: one batch is longer"]),
    ({"kl_warmup": 4.0}, ["--kl-warmup 4 is longer than the run: at most 50% of beta"]),
    ({"kl_warmup": 4.0, "beta": 0.0}, ["--kl-warmup 4 changes nothing: beta is 0"]),
    ({"pictures_every": 3}, ["--pictures-every 3 gives no pictures in this run"]),
]


@pytest.mark.parametrize(("settings", "said"), WITHOUT_EFFECT, ids=str)
def test_the_plan_names_settings_of_little_effect(settings: Any, said: list[str]) -> None:
    found = without_effect(Settings(epochs=2, **settings), steps=4)
    assert [words in line for words, line in zip(said, found, strict=True)] == [True] * len(said)


def test_figures_that_mislead_are_explained(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(here, "run", epochs=3, beta=784.0, kl_warmup=4.0, validation=20, learning_rate=0.05)
    out = capsys.readouterr().out
    for words in ("--kl-warmup 4 is longer", "at the full beta", "Posterior collapse: no latent"):
        assert words in out
    assert "do not compare their loss with a test loss" in out


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(0, 2, []), (2, 5, [2, 4]), (3, 2, []), (1, 2, [1, 2])]
)
def test_pictures_come_as_often_as_asked(
    here: Path,
    every: int,
    epochs: int,
    expected: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    start(here, "run", epochs=epochs, pictures_every=every)
    found = sorted(Path("run/images").glob("sampled_epoch*.png"))
    assert [path.name for path in found] == [f"sampled_epoch{epoch}.png" for epoch in expected]
    assert Path("run/samples.gif").exists() is (len(expected) > 1)
    assert data_of(Path("run/report.html"))["pictures"] == expected


def data_of(page: Path) -> Any:
    """The numbers in a run's page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found
    return json.loads(found[1])


def test_the_page_of_a_run_is_complete_after_every_epoch_and_when_it_is_resumed(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    record = Run.record

    def watched(self: Run, epoch: Epoch, *more: Any) -> None:
        pages.append(data_of(self.folder / "report.html"))  # before last.npz, as all pictures
        record(self, epoch, *more)

    monkeypatch.setattr(Run, "record", watched)
    start(here, "run", epochs=2, pictures_every=1)
    training_run.resume("run", {"epochs": 4}, None)
    for k, page in enumerate(pages, start=1):
        assert [row["epoch"] for row in page["history"]] == list(range(1, k + 1))
        assert page["pictures"] == list(range(1, k + 1))
        assert page["epochs"] == (2 if k <= 2 else 4)
        assert page["files"][:1] == (["explorer.html"] if k >= 2 else [])
    vae, header = load_model("run/last.npz")
    assert pages[-1]["history"] == header["history"]
    _, test = digits(200, 60)
    np.testing.assert_allclose(pages[-1]["kl"], kl_per_latent(vae, test), rtol=1e-6)
    assert 0 < pages[-1]["floor"] < pages[-1]["baseline"]
    for _, command_line in pages[-1]["next"]:
        assert "--checkpoint run" in command_line
    with Image.open("run/samples.gif") as picture:
        assert (
            getattr(picture, "n_frames", 1) == 4
        )  # of all epochs, those before it was resumed too


@pytest.mark.parametrize(("looks", "expected"), [(0, [1, 2, 3]), (math.inf, [3])])
def test_the_curve_has_a_point_for_every_epoch_whenever_it_is_drawn(
    looks: float, expected: list[int], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes epochs without pictures, and those before the run was resumed."""
    drawn: list[list[float]] = []

    def curve(history: Sequence[Mapping[str, float]], name: str, *bounds: float) -> Image.Image:
        drawn.append([row["epoch"] for row in history])
        assert name == "digits.npz, z = 10"
        assert 0 < bounds[0] < bounds[1]
        return loss_curve(history, name, *bounds)

    monkeypatch.setattr(run_pictures, "loss_curve", curve)
    monkeypatch.setattr(run_pictures, "LOOKS", looks)
    start(here, "run", epochs=3, pictures_every=2)
    assert drawn == [list(range(1, last + 1)) for last in expected]
    training_run.resume("run", {"epochs": 4}, None)
    assert drawn[-1] == [1, 2, 3, 4]


def samples(path: str) -> Any:
    with Image.open(path) as picture:
        return samples_in(np.asarray(picture))


def test_samples_of_all_epochs_are_of_the_same_codes(here: Path) -> None:
    """So you see the same picture become clearer, not another one each time.

    Steps of 1e-30 do not change the model: then the pictures do not change either.
    """
    for seed in (0, 1):
        start(here, f"run{seed}", epochs=3, seed=seed, learning_rate=1e-30, pictures_every=1)
    first, *others = (samples(f"run0/images/sampled_epoch{n}.png") for n in (1, 2, 3))
    assert all((first == other).all() for other in others)
    assert (samples("run1/images/sampled_epoch1.png") != first).any()


@pytest.mark.parametrize(("train", "test"), [(1, 1), (2, 1), (65, 7)])
def test_tiny_sets_are_no_trouble(
    train: int, test: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start(digits_file(tmp_path, train, test), "run", epochs=1, pictures_every=1)
    assert rows(Path("run/metrics.csv"))[0]["epoch"] == "1"


def test_too_much_held_out_is_a_bad_option_and_leaves_no_folder(here: Path) -> None:
    with pytest.raises(OptionError, match="200"):
        start(here, validation=200)
    assert not Path("runs").exists()


def test_without_a_network_it_draws_digits_and_says_so_in_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ("http://127.0.0.1:9/",)  # nobody listens there: refused at once
    for name, row in STANDARD.items():
        monkeypatch.setitem(STANDARD, name, row._replace(mirrors=nowhere))
    monkeypatch.setenv("no_proxy", "*")
    few = drawn_digits.drawn_digits(train=200, test=60)
    monkeypatch.setattr(drawn_digits, "drawn_digits", lambda: few)
    monkeypatch.delenv("NPVAE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here.parent))  # where the user may have Fashion-MNIST
    small = Settings(epochs=1, hidden_dims=(8,), pictures_every=0)
    with pytest.warns(UserWarning, match="Fashion-MNIST .* using drawn-digits") as caught:
        training_run.start(small, "empty data folder", None)
    (note,) = (str(warning.message) for warning in caught)
    assert "\n" not in note
    assert "http" not in note
    out, err = capsys.readouterr()
    assert err == ""
    assert "drawn-digits: 200 training and 60 test images" in out.splitlines()[0]
    assert Path("runs/drawn-digits-z10-001/last.npz").is_file()

    with pytest.raises(DataError, match=r"127\.0\.0\.1"):  # what was named is never replaced
        training_run.start(Settings(dataset="mnist"), "empty data folder", None)
    assert len(list(Path("runs").iterdir())) == 1
