"""Every run has a folder of its own, and everything in it is whole, in place and readable."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from tests.helpers import HANGS_AFTER, environment, refused, rows, unchanged

ABOUT: dict[str, Any] = {"settings": {"seed": 3}, "data": {"name": "x"}, "versions": {"numpy": "1"}}
# A run's lock is held for as long as the run lives, and here that is until it is collected.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file.*\.lock:ResourceWarning")

COLUMNS = "epoch,train_bce,train_kl,train_loss,test_bce,test_kl,test_loss,seconds"


@pytest.fixture(autouse=True)
def place(here: Path, collected: None) -> None:
    """Each test has a folder of its own to work in."""


def small_vae() -> VAE:
    return VAE(784, (5,), 2, rng=np.random.default_rng(0))


def an_epoch(number: int, validation: float | None = None) -> Epoch:
    held_out = None if validation is None else Loss(validation, 0.0)
    return Epoch(number, Loss(300.0625, 7.5, 2.0), Loss(200 + 1 / 3, 8.0, 2.0), 1.25, held_out)


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
    again.record(an_epoch(1), small_vae(), Adam())
    again.close()
    with pytest.raises(OutputError, match=r"mine.*not empty"):
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
        with pytest.raises(OutputError, match=r"mine.*not empty"):
            new_run("unused", "mine", ABOUT)
        Path("mine", name).unlink()


def test_nothing_is_suggested_that_cannot_work() -> None:
    Path("mine").mkdir()
    Path("mine/metrics.csv").write_text("epoch")
    for last in (None, b"", b"PK"):
        if last is not None:
            Path("mine/last.npz").write_bytes(last)
        with pytest.raises(OutputError, match=r"mine.*not empty") as caught:
            new_run("unused", "mine", ABOUT)
        assert "--resume" not in str(caught.value)


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


def test_only_one_thread_gets_the_folder_of_its_choice() -> None:
    together, alive = threading.Barrier(8), []

    def make(k: int) -> int:
        together.wait()
        try:
            alive.append(new_run("unused", "mine", {**ABOUT, "mine": k}))
        except OutputError:
            return -1
        return k

    with ThreadPoolExecutor(8) as pool:
        owners = [k for k in pool.map(make, range(8)) if k >= 0]
    assert len(owners) == 1
    assert json.loads(Path("mine/run.json").read_text())["mine"] == owners[0]


def test_processes_never_share_a_folder() -> None:
    code = (
        "import sys\n"
        "from npvae.runs.run_directory import new_run\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(*[new_run('a-z10', None, {}).folder for _ in range(20)])\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    printed = [child.communicate(timeout=HANGS_AFTER)[0] for child in children]
    folders = [folder for text in printed for folder in text.split()]
    assert len(folders) == len(set(folders)) == 40


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
    run = recorded()
    run.close()
    old, new = (new_temporary(run.folder / "images") for _ in range(2))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    again, *_ = open_run(run.folder)
    again.close()
    assert (old.exists(), new.exists()) == (False, True)  # the new one may be being written


def test_metrics_has_one_row_for_each_epoch() -> None:
    run = new_run("a-z10", None, ABOUT)
    for number in (1, 2):
        run.record(an_epoch(number), small_vae(), Adam())
        lines = (run.folder / "metrics.csv").read_text().splitlines()
        assert lines[0] == COLUMNS
        assert len(lines) == 1 + number
    last = {name: float(value) for name, value in rows(run.folder / "metrics.csv")[-1].items()}
    assert last["epoch"] == 2
    assert last["train_bce"] == 300.0625
    assert last["train_loss"] == 300.0625 + 2 * 7.5
    assert last["test_kl"] == 8
    assert last["test_loss"] == pytest.approx(200 + 1 / 3 + 2 * 8, rel=1e-9)  # ten digits
    assert last["seconds"] == 1.25


def test_validation_adds_columns_at_the_end_and_keeps_the_best_epoch() -> None:
    run = new_run("a-z10", None, ABOUT)
    for number, validation in enumerate((9.0, 7.0, 8.0, 7.5), start=1):
        run.record(an_epoch(number, validation), small_vae(), Adam())
    names = (run.folder / "metrics.csv").read_text().splitlines()[0]
    assert names.startswith(COLUMNS + ",validation_")
    losses = [float(row["validation_loss"]) for row in rows(run.folder / "metrics.csv")]
    assert losses == [9, 7, 8, 7.5]
    assert checkpoint.load(run.folder / "best.npz")[0]["epoch"] == 2
    assert checkpoint.load(run.folder / "last.npz")[0]["epoch"] == 4


def test_a_run_that_dies_between_two_files_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the writing of epoch 2 stops, the resumed run has the same files."""

    vae, adam = small_vae(), Adam()
    adam.update(vae.parameters, vae.gradients)

    def record(run: Run, number: int) -> None:
        run.record(an_epoch(number, validation=10.0 - number), vae, adam)

    original = os.replace
    for survived in range(4):
        run = new_run("a-z10", None, {**ABOUT, "settings": {"validation": 5}})
        record(run, 1)
        left = survived

        def replace(source: Any, target: Any) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            original(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            try:
                record(run, 2)
            except KeyboardInterrupt:
                assert survived < 3  # last.npz, best.npz, metrics.csv
        folder = run.folder
        del run
        gc.collect()

        again, _, _, header = open_run(folder)
        done = header["epoch"]
        if done == 1:
            record(again, 2)
        record(again, 3)
        assert [row["epoch"] for row in rows(folder / "metrics.csv")] == ["1", "2", "3"]
        assert checkpoint.load(folder / "last.npz")[0]["epoch"] == 3
        assert not list(folder.glob("*.tmp"))
        del again
        gc.collect()


def test_best_is_never_older_than_last_says() -> None:
    """Killed right after last.npz was written: best.npz must hold the best of its history."""
    run = new_run("a-z10", None, ABOUT)
    run.record(an_epoch(1, 9.0), small_vae(), Adam())
    seen: list[tuple[float, float]] = []
    original = os.replace

    def replace(source: Any, target: Any) -> None:
        original(source, target)
        last = checkpoint.load(run.folder / "last.npz")[0]["history"]
        best = checkpoint.load(run.folder / "best.npz")[0]["history"]
        lowest = min(row["validation_loss"] for row in last)
        seen.append((best[-1]["validation_loss"], lowest))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        run.record(an_epoch(2, 8.0), small_vae(), Adam())
    assert seen
    assert all(best <= lowest for best, lowest in seen)


# ------------------------------------------------------------------ finding and loading


def recorded(name: str = "a-z10", age: float = 0) -> Run:
    run = new_run(name, None, ABOUT)
    vae, adam = small_vae(), Adam()
    vae.parameters["encoder.mu.b"] = 0.25
    adam.update(vae.parameters, vae.gradients)
    run.record(an_epoch(1), vae, adam)
    stamp = (run.folder / "last.npz").stat().st_mtime - age
    os.utime(run.folder / "last.npz", (stamp, stamp))
    return run


def test_a_checkpoint_is_named_by_its_folder_or_by_itself_or_is_the_one_written_last() -> None:
    with refused(CheckpointError, "train.py"):
        find_checkpoint()
    recorded("b-z10", age=60)
    newest = recorded("a-z10", age=10).folder
    recorded("c-z10", age=30)
    new_run("d-z10", None, ABOUT)  # has no checkpoint yet
    for given in (None, newest, str(newest / "last.npz")):
        assert find_checkpoint(given) == newest / "last.npz"


def test_what_is_no_run_is_answered_with_the_runs_that_there_are(
    said: Callable[[str, dict[str, str]], None],
) -> None:
    answers = {}

    def ask(case: str, given: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            find_checkpoint(given)
        answers[f"{case}: {given}"] = str(caught.value)

    Path("empty").mkdir()
    ask("no run", "empty")
    ask("no run", "nowhere")
    new_run("unused", "cut off", ABOUT).close()
    ask("no epoch", "cut off")
    Path("cut off/run.json").write_text('{"settings": {"no": "such"}}')
    ask("no run.json", "cut off")
    recorded("b-z10", age=60)
    recorded("a-z10")
    for given in ("empty", "runs", "runs/other", "b-z10-001", "runs/b-z10", "runs/a-z10-001/x"):
        ask("two runs", given)
    for name in "cdef":
        recorded(f"{name}-z10", age=ord(name))
    ask("the newest five of six", "empty")
    said("there is no such run", answers)


def test_a_run_gives_back_its_model() -> None:
    run = recorded()
    vae, header = load_model(run.folder / "last.npz")
    assert vae.parameters["encoder.mu.b"].tolist() == [0.25, 0.25]
    assert vae.settings == small_vae().settings
    assert header["settings"] == ABOUT["settings"]
    assert header["data"] == ABOUT["data"]
    assert header["epoch"] == 1
    assert header["history"][0]["train_bce"] == 300.0625
    again = VAE.load(run.folder / "last.npz")
    assert again.parameters.flat.tobytes() == vae.parameters.flat.tobytes()


def test_a_run_that_is_resumed_keeps_others_out_until_it_is_closed() -> None:
    run = recorded()
    run.close()
    again, *_ = open_run(run.folder)
    for _ in range(2):  # who was kept out has not opened it to the next one
        with pytest.raises(OutputError, match="another process is training"):
            open_run(run.folder)
    again.close()
    open_run(run.folder)[0].close()


def test_a_model_alone_is_not_a_run() -> None:
    small_vae().save("model.npz")
    with pytest.raises(CheckpointError, match=r"[Rr]esume"):
        open_run("model.npz")
    with pytest.raises(CheckpointError, match="nowhere"):
        open_run("nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"history": [{"epoch": 1}]},
        {"epoch": 7},
        {"optimizer": {"name": "adam"}},
        {"settings": {"batch_size": 0}},
        {"data": {}},
        {"versions": None},
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_run_of_another_version_is_refused_and_left_to_others(change: dict[str, Any]) -> None:
    """The checkpoint is intact, but this version cannot resume from it."""
    run = recorded()
    run.close()
    path = run.folder / "last.npz"
    header, arrays = checkpoint.load(path)
    header["settings"] = {}  # the defaults
    checkpoint.save(path, header, arrays)
    again, *_ = open_run(run.folder)
    again.close()
    changed = {name: value for name, value in {**header, **change}.items() if value is not None}
    checkpoint.save(path, changed, arrays)
    with pytest.raises(CheckpointError, match=r"not the state of|used: its"):
        open_run(run.folder)
    Lock(run.folder).release()
