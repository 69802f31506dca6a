"""Every run has a folder of its own, and everything in it is whole, in place and readable."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.core.errors import CheckpointError, OutputError
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.runs.fit import Epoch
from npvae.runs.run_directory import Run, find_checkpoint, load_model, new_run, open_run
from npvae.runs.run_lock import Lock
from npvae.storage import checkpoint
from npvae.storage.files import new_temporary
from tests.helpers import Said, refused, rows, unchanged

ABOUT: dict[str, Any] = {"settings": {"seed": 3}, "data": {"name": "x"}, "versions": {"numpy": "1"}}
# A run's lock is held for as long as the run lives, and here that is until it is collected.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file.*\.lock:ResourceWarning")

COLUMNS = "epoch,train_bce,train_kl,train_loss,test_bce,test_kl,test_loss,seconds"


@pytest.fixture(autouse=True)
def place(here: Path, collected: None) -> None:
    """Each test has a folder of its own to work in."""


def record(run: Run, number: int = 1, validation: float | None = None) -> VAE:
    """The end of an epoch, and the model after it."""
    vae, adam = VAE(784, (5,), 2, rng=np.random.default_rng(number)), Adam()
    adam.update(vae.parameters, vae.gradients)
    held_out = None if validation is None else Loss(validation, 0.0)
    test = Loss(200 + 1 / 3, 8.0, 2.0)
    run.record(Epoch(number, Loss(300.0625, 7.5, 2.0), test, 1.5, held_out), vae, adam)
    return vae


def ended(out: str | None = "mine", name: str = "unused", epochs: int = 1, age: float = 0) -> Path:
    """The folder of a run that has ended; its last.npz is `age` seconds old."""
    run = new_run(name, out, ABOUT)
    for number in range(1, epochs + 1):
        record(run, number)
    run.close()
    stamp = (run.folder / "last.npz").stat().st_mtime - age
    os.utime(run.folder / "last.npz", (stamp, stamp))
    return run.folder


# ------------------------------------------------------------------ a folder of one's own


def test_folders_are_numbered_by_name_and_a_thousand_is_no_end() -> None:
    Path("runs/a-z10-007").mkdir(parents=True)
    odd = ["my [set] **", "a?", "dätä set", "digits.v2", "-z10", "100%"]  # are names too
    for name, number in (("a-z10", 8), ("b-z2", 1), *((name, 1) for name in odd)):
        for next_one in (number, number + 1):
            folder = new_run(name, None, ABOUT).folder
            assert folder.as_posix() == f"runs/{name}-{next_one:03d}"
    Path("runs/a-z10-999").write_text("a file, not a folder")
    assert new_run("a-z10", None, ABOUT).folder.name == "a-z10-1000"
    assert new_run("a-z10", None, ABOUT).folder.name == "a-z10-1001"


def test_a_folder_of_ones_choice_is_created_with_its_parents() -> None:
    folder = new_run("unused", "some where/ünder/here", ABOUT).folder
    assert folder == Path("some where/ünder/here")
    assert {p.name for p in folder.iterdir()} == {".lock", "images", "run.json"}
    assert not Path("runs").exists()


def test_an_empty_folder_may_be_used_and_one_with_anything_in_it_not() -> None:
    Path("empty").mkdir()
    alive = new_run("unused", "empty", ABOUT)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    with unchanged("."):
        with refused(OutputError, "another process", "empty"):
            new_run("unused", "empty", ABOUT)
        with refused(OutputError, "mine is not empty", "--out"):
            new_run("unused", "mine", ABOUT)
    alive.close()


def test_a_run_that_never_finished_an_epoch_leaves_its_folder_to_others() -> None:
    new_run("unused", "mine", ABOUT).close()
    again = new_run("unused", "mine", {**ABOUT, "settings": {"seed": 8}})
    assert json.loads(Path("mine/run.json").read_text())["settings"] == {"seed": 8}
    record(again)
    again.close()
    with refused(OutputError, "mine is not empty"):
        new_run("unused", "mine", ABOUT)


def test_killed_in_its_first_epoch_it_may_leave_pictures_and_the_folder_is_free_again() -> None:
    for name in ("images/sampled_epoch1.png", "images/rec_epoch1.png", "loss.png", "report.html"):
        run = new_run("unused", "mine", ABOUT)
        run.history.append({"epoch": 1})  # as it is while last.npz is being written
        run.picture(name, name.encode())
        new_temporary(Path("mine")).touch()
        run.close()
    for name in ("images/prior-001.png", "images/sampled_epoch2.png", "best.npz", "notes.txt"):
        Path("mine", name).write_text("of value to somebody")
        with refused(OutputError, "mine is not empty"):
            new_run("unused", "mine", ABOUT)
        Path("mine", name).unlink()


def test_nothing_is_suggested_that_cannot_work() -> None:
    Path("mine").mkdir()
    Path("mine/metrics.csv").write_text("epoch")
    for last in (None, b"", b"PK"):
        if last is not None:
            Path("mine/last.npz").write_bytes(last)
        with refused(OutputError, "mine is not empty") as refusal:
            new_run("unused", "mine", ABOUT)
        assert "--resume" not in str(refusal.value)


def test_a_place_that_cannot_hold_a_folder_is_an_output_error() -> None:
    for name, out in (("file", "file"), ("file", "file/below"), ("runs", None)):
        Path(name).write_text("")
        with refused(OutputError, name):
            new_run("a-z10", out, ABOUT)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="to root every folder is writable"
)
def test_a_read_only_place_is_an_output_error() -> None:
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="locked"):
        new_run("unused", "locked/run", ABOUT)


def test_of_many_at_once_each_gets_a_number_and_one_the_folder_of_its_choice() -> None:
    together = threading.Barrier(8)
    alive: list[Run] = []

    def make(k: int) -> None:
        together.wait()
        alive.extend(new_run("a-z10", None, ABOUT) for _ in range(5))
        with suppress(OutputError):
            alive.append(new_run("unused", "mine", {**ABOUT, "mine": k}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    assert len({run.folder for run in alive}) == len(alive) == 8 * 5 + 1
    (owner,) = (run for run in alive if run.folder == Path("mine"))
    assert json.loads(Path("mine/run.json").read_text()) == owner.about


# ------------------------------------------------------------------ what is in it


def test_run_json_tells_what_was_run_and_is_written_anew_if_it_is_none() -> None:
    run = new_run("a-z10", None, {**ABOUT, "note": "ünïcode"}, started="now")
    path, about = run.folder / "run.json", {**ABOUT, "note": "ünïcode"}
    assert json.loads(path.read_text()) == {**about, "started": "now"}
    for text in ("", "[]", '{"settings": ', "[" * 100_000):
        path.write_text(text)
        run.write_about(resumed="now")
        assert json.loads(path.read_text()) == {**about, "resumed": "now"}


def test_what_a_killed_process_left_is_removed_when_the_run_goes_on() -> None:
    folder = ended()
    old, new = (new_temporary(folder / "images") for _ in range(2))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    open_run(folder)[0].close()
    assert (old.exists(), new.exists()) == (False, True)  # the new one may be being written


def test_metrics_has_one_row_for_each_epoch() -> None:
    run = new_run("a-z10", None, ABOUT)
    for number in (1, 2):
        record(run, number)
        lines = (run.folder / "metrics.csv").read_text().splitlines()
        assert lines[0] == COLUMNS
        assert len(lines) == 1 + number
    test_loss = 200 + 1 / 3 + 2 * 8
    expected = (2, 300.0625, 7.5, 300.0625 + 2 * 7.5, 200 + 1 / 3, 8, test_loss, 1.5)
    assert list(map(float, lines[-1].split(","))) == pytest.approx(expected, rel=1e-9)  # ten digits


def test_validation_adds_columns_at_the_end_and_keeps_the_best_epoch() -> None:
    run = new_run("a-z10", None, ABOUT)
    for number, validation in enumerate((9.0, 7.0, 8.0, 7.5), start=1):
        record(run, number, validation)
    names = (run.folder / "metrics.csv").read_text().splitlines()[0]
    assert names.startswith(COLUMNS + ",validation_")
    losses = [float(row["validation_loss"]) for row in rows(run.folder / "metrics.csv")]
    assert losses == [9, 7, 8, 7.5]
    assert checkpoint.load(run.folder / "best.npz")[0]["epoch"] == 2
    assert checkpoint.load(run.folder / "last.npz")[0]["epoch"] == 4


@pytest.mark.parametrize("survive", [0, 1, 2])  # best.npz, last.npz, metrics.csv in this order
def test_a_run_that_dies_between_two_files_loses_nothing(
    survive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the writing of epoch 2 stops, the resumed run has the same files."""
    run = new_run("unused", "mine", {**ABOUT, "settings": {"validation": 5}})
    record(run, 1, 9.0)
    original, left = os.replace, iter(range(survive))

    def replace(source: Any, target: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            record(run, 2, 8.0)
    run.close()
    best, last = (checkpoint.load(f"mine/{name}.npz")[0]["history"] for name in ("best", "last"))
    assert best[-1]["validation_loss"] <= min(row["validation_loss"] for row in last)

    again, *_, header = open_run("mine")
    assert header["epoch"] == (1 if survive < 2 else 2)
    for number in range(header["epoch"] + 1, 4):
        record(again, number, 10.0 - number)
    again.close()
    assert [row["epoch"] for row in rows(Path("mine/metrics.csv"))] == ["1", "2", "3"]
    assert checkpoint.load("mine/last.npz")[0]["epoch"] == 3
    assert not list(Path("mine").glob("*.tmp"))


# ------------------------------------------------------------------ finding and loading


def test_a_checkpoint_is_named_by_its_folder_or_by_itself_or_is_the_one_written_last() -> None:
    with refused(CheckpointError, "train.py"):
        find_checkpoint()
    ended(None, "b-z10", age=60)
    newest = ended(None, "a-z10", age=10)
    ended(None, "c-z10", age=30)
    new_run("d-z10", None, ABOUT)  # has no checkpoint yet
    for given in (None, newest, str(newest / "last.npz")):
        assert find_checkpoint(given) == newest / "last.npz"


def test_what_is_no_run_is_answered_with_the_runs_that_there_are(said: Said) -> None:
    answers = {}

    def ask(case: str, given: str) -> None:
        with refused(CheckpointError) as answer:
            find_checkpoint(given)
        answers[f"{case}: {given}"] = str(answer.value)

    Path("empty").mkdir()
    ask("no run", "empty")
    ask("no run", "nowhere")
    new_run("unused", "cut off", ABOUT).close()
    ask("no epoch", "cut off")
    Path("cut off/run.json").write_text('{"settings": {"no": "such"}}')
    ask("no run.json", "cut off")
    ended(None, "b-z10", age=60)
    ended(None, "a-z10")
    for given in ("empty", "runs", "runs/other", "b-z10-001", "runs/b-z10", "runs/a-z10-001/x"):
        ask("two runs", given)
    for name in "cdef":
        ended(None, f"{name}-z10", age=ord(name))
    ask("the newest five of six", "empty")
    said("there is no such run", answers)


def test_a_run_gives_back_its_model() -> None:
    run = new_run("unused", "mine", ABOUT)
    saved = record(run)
    vae, header = load_model("mine/last.npz")
    assert vae.settings == saved.settings
    assert vae.parameters.flat.tobytes() == saved.parameters.flat.tobytes()
    assert VAE.load("mine/last.npz").parameters.flat.tobytes() == vae.parameters.flat.tobytes()
    assert {name: header[name] for name in ABOUT} == ABOUT
    assert header["epoch"] == 1
    assert header["history"][0]["train_bce"] == 300.0625


def test_a_run_that_is_resumed_keeps_others_out_until_it_is_closed() -> None:
    again, *_ = open_run(ended())
    for _ in range(2):  # who was kept out has not opened it to the next one
        with refused(OutputError, "another process is training"):
            open_run("mine")
    again.close()
    open_run("mine")[0].close()


def test_only_the_last_state_of_a_run_is_resumed() -> None:
    VAE(784, (5,), 2).save("model.npz")
    best = ended() / "best.npz"
    best.write_bytes(best.with_name("last.npz").read_bytes())
    for path in ("model.npz", best):
        with refused(CheckpointError, f"{path} is not the last.npz of a run"):
            open_run(path)
    with refused(CheckpointError, "nowhere"):
        open_run("nowhere")
    Path("mine/last.npz").unlink()  # as if killed between the two, at the end of epoch 1
    open_run("mine")[0].close()


@pytest.mark.parametrize(
    "change",
    [
        {"history": [{"epoch": 1}]},
        {"epoch": 7},
        {"optimizer": {"name": "adam"}},
        {"settings": {"batch_size": 0}},
        {"settings": {"validation": 5}},
        {"data": {}},
        {"versions": None},
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_run_of_another_version_is_refused_and_left_to_others(change: dict[str, Any]) -> None:
    """The checkpoint is intact, but this version cannot resume from it."""
    path = ended() / "last.npz"
    header, arrays = checkpoint.load(path)
    header["settings"] = {}  # the defaults
    checkpoint.save(path, header, arrays)
    open_run("mine")[0].close()
    changed = {name: value for name, value in {**header, **change}.items() if value is not None}
    checkpoint.save(path, changed, arrays)
    with pytest.raises(CheckpointError, match=r"not the state of|used: its"):
        open_run("mine")
    Lock(Path("mine")).release()
