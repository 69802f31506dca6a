"""scripts/train.py as a user sees it: its output, its files, how it stops and resumes."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.commands import run_pictures, training_run
from npvae.commands.messages import best_epoch, without_effect
from npvae.core.errors import DataError, OptionError
from npvae.datasets import drawn_digits
from npvae.datasets.standard import STANDARD
from npvae.evaluation import kl_per_latent, no_latent_loss, pixel_entropy
from npvae.plots.animation import samples_in
from npvae.plots.image_grid import reconstruction_grid
from npvae.plots.loss_curves import loss_curve
from npvae.runs.run_directory import load_model
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.forks import interrupted, like_a_user, nobody_reads, on_a_terminal, started
from tests.helpers import (
    HANGS_AFTER,
    Said,
    command,
    contents,
    data_of,
    digits,
    digits_file,
    drawn_lines,
    from_clone,
    refused,
    resume,
    rows,
    run,
    run_script,
    save_dataset,
    screen,
    start,
    unchanged,
)

BACKEND = os.environ.get("NPVAE_BACKEND", "auto")  # once, what a user would get
RUN = Path("runs/digits-z10-001")

# A run's lock is held for as long as the run lives, and here that is until it is collected.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file.*\.lock:ResourceWarning")


@pytest.fixture(autouse=True)
def place(here: Path, collected: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    digits_file(here)
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")
    with like_a_user():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and an umlaut in its name."""
    folder = tmp_path_factory.mktemp("a földer")
    digits_file(folder)
    return folder


@pytest.fixture(scope="module")
def printed(home: Path) -> str:
    """The output of the run in RUN."""
    options = ["--epochs", "3", "--batch-size", "64", "--seed", "5"]
    done = run_script("train.py", "--dataset", "digits.npz", *options, cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Name and content of each file, in the order in which they are written."""
    original, files = os.replace, list[tuple[str, bytes]]()

    def replace(source: Any, target: Any) -> None:
        files.append((Path(target).name, Path(source).read_bytes()))
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    return files


# ------------------------------------------------------------------ what it prints


def test_a_run_says_what_it_does_and_what_came_of_it(
    printed: str, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain lines; numbers of two decimals, which may depend on the machine, are 0.00 here."""
    told = {"as a script": from_clone(printed)}
    few: dict[str, Any] = {"validation": 20, "kl_warmup": 4.0, "warmup": 5.0, "pictures_every": 3}
    start("little effect", beta=784.0, latent_dim=2, learning_rate=0.025, **few)
    told["settings that mislead"] = capsys.readouterr().out
    resume("little effect", epochs=3)
    told["resumed"] = capsys.readouterr().out
    start("enough steps", epochs=3, batch_size=2)
    told["enough steps"] = capsys.readouterr().out
    training_run.start(Settings("digits.npz", epochs=1, batch_size=1), None, None, quiet=True)
    told["quiet, and single images"] = capsys.readouterr().out
    said("a run", {case: re.sub(r" *\d+\.\d\d\b", " 0.00", text) for case, text in told.items()})


def test_all_numbers_are_those_of_the_model_and_the_images(home: Path, printed: str) -> None:
    kept = rows(home / RUN / "metrics.csv")
    columns = ("train_bce", "train_kl", "train_loss", "test_bce", "test_kl", "test_loss")
    lines = [line for line in printed.splitlines() if re.match(r"\s*\d/3\s", line)]
    for line, row in zip(lines, kept, strict=True):
        assert line.split()[1:7] == [f"{float(row[column]):.2f}" for column in columns]
    (train, test), last = digits(200, 60), kept[-1]
    bounds = pixel_entropy(test), no_latent_loss(train, test)
    for number in (*(float(last[column]) for column in columns[3:]), *bounds):
        assert f"{number:.2f}" in printed.partition("3/3")[2]
    vae, header = load_model(home / RUN / "last.npz")
    assert header["epoch"] == 3
    # The kl does not depend on the noise; the loss was summed in batches of its own.
    kl = vae.loss(test.reshape(60, 784) / 255, np.zeros((60, 10))).kl
    assert kl == pytest.approx(float(last["test_kl"]), rel=1e-5)
    assert header["history"][-1]["test_loss"] == pytest.approx(float(last["test_loss"]), rel=1e-9)


SETTINGS: list[dict[str, Any]] = [
    {"warmup": 2.0, "kl_warmup": 2.0, "pictures_every": 2},
    {"warmup": 5.0},
    {"warmup": 0.25},
    {"kl_warmup": 4.0},
    {"kl_warmup": 4.0, "beta": 0.0},
    {"pictures_every": 3},
]


def test_the_plan_names_settings_of_little_effect(said: Said) -> None:
    lines = {str(given): without_effect(Settings(epochs=2, **given), steps=4) for given in SETTINGS}
    said("settings of little effect", {given: "\n".join(found) for given, found in lines.items()})


def test_with_validation_it_says_which_epoch_is_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start(epochs=4, validation=40, learning_rate=0.05)
    best = min(rows(Path("run/metrics.csv")), key=lambda row: float(row["validation_loss"]))
    loss, lowest = (float(best[name]) for name in ("test_loss", "validation_loss"))
    which = f"after epoch {best['epoch']}, which has the lowest validation loss, {lowest:.2f};"
    assert f"best      {loss:7.2f} {which}\n" in capsys.readouterr().out
    assert checkpoint.load("run/best.npz")[0]["epoch"] == int(best["epoch"])
    equal = [{"epoch": n, "test_loss": 9.0, "validation_loss": 8.0} for n in (1, 2)]
    assert "after epoch 2" in best_epoch(equal)


def test_a_terminal_shows_a_line_that_moves(home: Path) -> None:
    # Single images and many parameters: the line is drawn each tenth of a second of an epoch.
    columns, small = 40, ["--epochs", "2", "--batch-size", "1", "--hidden", "512,512"]
    arguments = ["--dataset", "digits.npz", *small, "--out", "terminal"]
    code, seen = on_a_terminal(arguments, home, columns, BACKEND)
    assert code == 0
    moving = [line for line in drawn_lines(seen) if re.search(r"\d/2.*\d:\d\d left", line)]
    assert moving
    assert max(map(len, moving)) < columns
    shown = screen(seen)
    assert "\033" not in "".join(shown)
    assert not any("left" in line for line in shown)
    assert len([line for line in shown if re.match(r"\s*\d/2\s", line)]) == 2
    # Only what is not to be broken, a path or a command, may be wider.
    wide = [line for line in shown if len(line) > columns]
    assert all("python " in line or len(line.split()) <= 2 for line in wide)


# ------------------------------------------------------------------ what it leaves


def test_the_folder_of_a_run(home: Path, printed: str) -> None:
    pictures = {f"images/{kind}_epoch{n}.png" for kind in ("rec", "sampled") for n in (1, 2, 3)}
    others = {"report.html", "explorer.html", "samples.gif", "loss.png", "epoch1.npz", "epoch2.npz"}
    found = contents(home / RUN)
    assert found.keys() == {"run.json", "metrics.csv", "last.npz", ".lock", *others, *pictures}
    for name in pictures:
        with Image.open(home / RUN / name) as picture:
            assert picture.mode == "L"
            assert min(picture.size) > 10 * 3 * 28
            assert len({*picture.tobytes()}) > 2
    about = json.loads(found["run.json"])
    settings = Settings("digits.npz", epochs=3, batch_size=64, seed=5).as_dict()
    assert about["settings"] == json.loads(json.dumps(settings))
    assert about["data"]["train_images"] == 200
    assert {"npvae", "python", "numpy", "numba", "pillow"} <= set(about["versions"])


def test_the_originals_stand_above_their_reconstructions(home: Path, printed: str) -> None:
    _, test = digits(200, 60)
    vae, _ = load_model(home / RUN / "last.npz")
    mu, _ = vae.encode(test[:50].reshape(50, 784) / 255)
    name = "digits.npz, z = 10, epoch 3: test images and their reconstructions"
    expected = reconstruction_grid(test[:50], vae.decode(mu), 3, name)
    with Image.open(home / RUN / "images" / "rec_epoch3.png") as picture:
        difference = np.asarray(picture).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1  # a level, by rounding


@pytest.mark.parametrize(("every", "expected"), [(0, []), (2, [2, 4]), (6, []), (4, [4])])
def test_pictures_come_as_often_as_asked(every: int, expected: list[int]) -> None:
    start(epochs=5, pictures_every=every)
    found = {path.name for path in Path("run/images").iterdir()}
    kinds = ("sampled", "rec")
    assert found == {f"{kind}_epoch{epoch}.png" for epoch in expected for kind in kinds}
    assert Path("run/samples.gif").exists() is (len(expected) > 1)
    assert data_of(Path("run/report.html"))["pictures"] == expected


def test_page_and_curve_are_complete_after_every_epoch_and_when_a_run_is_resumed(
    written: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_pictures, "LOOKS", 0)  # as if every epoch took longer
    start(epochs=2, pictures_every=2)
    resume(epochs=4)
    shown = ["loss.png", "report.html"]
    names = [name for name, _ in written if name in {*shown, "last.npz"}]
    assert names == 2 * [*shown, "last.npz"] + shown + 2 * [*shown, "last.npz"]
    vae, header = load_model("run/last.npz")
    pages = [data_of(content.decode()) for name, content in written if name == "report.html"]
    for k, page, epochs in zip((1, 2, 2, 3, 4), pages, (2, 2, 4, 4, 4), strict=True):
        assert page["history"] == header["history"][:k]
        assert page["pictures"] == [n for n in (2, 4) if n <= k]
        assert page["epochs"] == epochs
        assert ("explorer.html" in page["files"]) is (k > 1)
        assert 0 < page["floor"] < page["baseline"]
    np.testing.assert_allclose(page["kl"], kl_per_latent(vae, digits(200, 60)[1]), rtol=1e-6)
    assert all("--checkpoint run" in line for _, line in page["next"])
    curve = loss_curve(header["history"], "digits.npz, z = 10", page["floor"], page["baseline"])
    with Image.open("run/loss.png") as picture, Image.open("run/samples.gif") as animation:
        assert (np.asarray(picture) == np.asarray(curve)).all()
        assert getattr(animation, "n_frames", 1) == 2  # with those before it was resumed


def samples(path: str) -> Any:
    with Image.open(path) as picture:
        return samples_in(np.asarray(picture))


def test_samples_of_all_epochs_are_of_the_same_codes() -> None:
    """So you see the same picture become clearer, not another one each time.

    Steps of 1e-30 do not change the model: then the pictures do not change either.
    """
    for seed in (0, 1):
        start(f"run{seed}", seed=seed, learning_rate=1e-30, pictures_every=1)
    first, second = (samples(f"run0/images/sampled_epoch{n}.png") for n in (1, 2))
    assert (first == second).all()
    assert (samples("run1/images/sampled_epoch1.png") != first).any()


@pytest.mark.parametrize(("train", "test"), [(1, 1), (2, 1), (65, 7)])
def test_tiny_sets_are_no_trouble(train: int, test: int, here: Path) -> None:
    digits_file(here, train, test)
    start(epochs=1, pictures_every=1)
    assert rows(Path("run/metrics.csv"))[0]["epoch"] == "1"


# ------------------------------------------------------------------ stopping and going on


def endless(*more: str, epochs: int = 100_000) -> list[str]:
    arguments = ["--dataset", "digits.npz", "--epochs", str(epochs), "--hidden", "16"]
    return command("train.py", *arguments, "--out", "run", *more)


@pytest.mark.parametrize(
    ("after", "number"), [("^results", signal.SIGINT), (r"^ *2/100000", signal.SIGTERM)]
)
def test_a_signal_ends_a_run_that_would_go_on(after: str, number: int, here: Path) -> None:
    """Before its first epoch, or later; test_survival.py tries any instant of short runs."""
    ending = interrupted(endless(), here, number, 0.02, after=after, PYTHONUNBUFFERED="1")
    assert ending.code == 128 + number
    assert re.match("Interrupted. (No|The state after) epoch", ending.err)
    assert not list(here.rglob("*.tmp"))


STOPPED = r"Stopped, as nobody reads the output any more\. (No|The state)"


@pytest.mark.parametrize(
    ("words", "lines", "code", "err"),
    [
        (endless("--pictures-every", "0"), 3, 130, STOPPED),
        (endless("--quiet", epochs=1), 0, 0, "$"),
    ],
    ids=["train.py | head -3", "train.py --quiet | head -1"],
)
def test_a_reader_who_leaves_gets_no_traceback(
    words: list[str], lines: int, code: int, err: str, here: Path
) -> None:
    """The run is complete or not, and its code says so."""
    child = started(words, here, PYTHONUNBUFFERED="1")
    assert child.stdout is not None
    for _ in range(lines):
        child.stdout.readline()
    child.stdout.close()
    child.stdout = None  # closed: communicate would not take it
    try:
        _, found = child.communicate(timeout=HANGS_AFTER)
    finally:
        child.kill()
    assert child.returncode == code
    assert re.match(err, found)
    assert not re.search("Traceback|BrokenPipe", found)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux")
@pytest.mark.parametrize("output", ["closed", "full"])
def test_an_output_that_fails_is_not_blamed_on_the_data(output: str, here: Path) -> None:
    """It is no success either: notes about the data come before there is a run to keep."""
    x, _ = digits(20, 2)
    (here / "pictures").mkdir()
    for number, image in enumerate(x):
        Image.fromarray(image).save(here / "pictures" / f"{number}.png")
    np.savez(here / "all.npz", images=x)
    data = {"closed": ["pictures"], "full": ["all.npz", "--extra-data", "all.npz"]}[output]
    options = ["--epochs", "1", "--hidden", "4", "--out", "run"]
    words = command("train.py", "--dataset", *data, *options)
    with nobody_reads() as pipe, open("/dev/full", "wb") as device:
        done = run(words, stdout=pipe if output == "closed" else device.fileno())
    assert done.returncode == {"closed": 130, "full": 6}[output]
    assert "cannot be read" not in done.stderr
    assert done.stderr.count("\n") <= 4


def test_what_cannot_be_done_says_why_and_changes_nothing(here: Path) -> None:
    with unchanged(here), refused(OptionError, "200"):
        start("another", validation=200)
    start()
    train, test = digits(200, 60)
    with unchanged("run"):
        for given, word in (({"latent_dim": 3, "epochs": 9}, "latent-dim"), ({}, "2 epochs")):
            with refused(OptionError, word):
                resume("run", **given)
        for images in ((255 - train, test), (train, 255 - test)):
            save_dataset(here / "digits.npz", *images)
            with refused(DataError, "not those that"):
                resume(epochs=3)


def test_without_a_network_it_draws_digits_and_says_so_in_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ("http://127.0.0.1:9/",)  # nobody listens there: refused at once
    for name, row in STANDARD.items():
        monkeypatch.setitem(STANDARD, name, row._replace(mirrors=nowhere))
    monkeypatch.setenv("no_proxy", "*")
    few = drawn_digits.drawn_digits(train=200, test=60)
    monkeypatch.setattr(drawn_digits, "drawn_digits", lambda: few)  # 70,000 take their time
    monkeypatch.delenv("NPVAE_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))  # where the user may have Fashion-MNIST
    small = Settings(epochs=1, hidden_dims=(8,), pictures_every=0)
    with pytest.warns(UserWarning, match="Fashion-MNIST .* using drawn-digits") as caught:
        training_run.start(small, "empty data folder", None)
    (note,) = (str(warning.message) for warning in caught)
    assert not re.search("\n|http", note)
    out, err = capsys.readouterr()
    assert err == ""
    assert "drawn-digits: 200 training and 60 test images" in out.splitlines()[0]
    assert Path("runs/drawn-digits-z10-001/last.npz").is_file()
    with pytest.raises(DataError, match=r"127\.0\.0\.1"):  # what was named is never replaced
        training_run.start(Settings(dataset="mnist"), "empty data folder", None)
    assert len(list(Path("runs").iterdir())) == 1
