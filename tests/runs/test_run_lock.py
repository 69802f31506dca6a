"""A folder belongs to one run at a time, and other people's files in it are kept.

Two processes at once, a folder that is renamed, a lock file that is none, a disk without locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from npvae.core.errors import CheckpointError, DataError, OptionError, OutputError
from npvae.runs import run_lock
from npvae.runs.run_directory import Run, new_run, open_run
from npvae.runs.run_lock import RunMoved
from tests.helpers import Tally, contents, digits_file, refused, resume, rows, start, unchanged
from tests.runs.test_run_directory import ABOUT, ended, record

# A run's lock is held for as long as the run lives, and here that is until it is collected.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file.*\.lock:ResourceWarning")


@pytest.fixture(autouse=True)
def place(here: Path, collected: None) -> None:
    """Each test has a folder of its own to work in."""


@pytest.fixture
def nothing_lost(tally: Tally) -> Iterator[None]:
    """A test that passes counts as one such fault."""
    yield
    tally("folders renamed or shared", "nothing lost or mixed")


@pytest.mark.usefixtures("nothing_lost")
@pytest.mark.parametrize("successor", [False, True])
def test_a_folder_that_is_renamed_ends_its_run_and_nobody_elses(successor: bool) -> None:
    """The name may now belong to another run, and its epochs must not be mixed with ours."""
    run = new_run("unused", "mine", ABOUT)
    record(run)
    Path("mine").rename("kept")
    if successor:
        record(new_run("unused", "mine", {**ABOUT, "settings": {"seed": 8}}))
    attempts: list[Callable[[], object]] = [
        lambda: record(run, 2),
        lambda: run.write_about(),
        lambda: run.rewrite_metrics(run.history),
        lambda: run.picture("loss.png", b"of this run"),
    ]
    with unchanged("."):
        for write in attempts:
            with refused(RunMoved, "mine (or its .lock) was moved or removed"):
                write()
    run.close()
    open_run("kept")[0].close()


def test_training_says_that_its_folder_was_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")  # nothing to compile
    digits_file(Path(), 20, 10)
    original = Run.record

    def record_and_rename(run: Run, *arguments: Any) -> None:
        original(run, *arguments)
        Path("mine").rename("kept")

    with monkeypatch.context() as patch:  # between two epochs, where no call to the disk is alike
        patch.setattr(Run, "record", record_and_rename)
        with refused(OutputError, "mine (or its .lock) was moved", "resume the run from there."):
            start("mine", epochs=3)
    resume("kept")
    assert len(rows(Path("kept/metrics.csv"))) == 3


@pytest.mark.usefixtures("nothing_lost", "time_limit")
@pytest.mark.parametrize("link", [True, False])
def test_a_lock_file_that_is_none_is_left_alone(link: bool) -> None:
    """Opening the target of a link would have emptied it; opening a pipe would wait for ever."""
    ended()
    Path("thesis.txt").write_text("years of work")
    Path("mine/.lock").unlink()
    if link:
        Path("mine/.lock").symlink_to("../thesis.txt")
    else:
        os.mkfifo("mine/.lock")
    with unchanged("."), refused(OutputError, "the folder mine cannot be written"):
        open_run("mine")


@pytest.mark.parametrize(("epochs", "more"), [(5, ""), (1, " --epochs=11")])
def test_a_run_is_suggested_to_be_gone_on_with_unless_it_is_alive(epochs: int, more: str) -> None:
    """Otherwise a user who follows the hint would be refused."""
    run = new_run("unused", "mine", {**ABOUT, "settings": {"epochs": epochs}})
    record(run)
    for alive in (True, False):
        with refused(OutputError, "the folder mine is not empty") as refusal:
            new_run("unused", "mine", ABOUT)
        assert str(refusal.value).endswith(f"--resume mine{more}") == (not alive)
        run.close()


@pytest.mark.usefixtures("nothing_lost")
@pytest.mark.parametrize(
    "text",
    [
        *("", "my notes", "[]", "[" * 100_000, "\udcdcbung"),  # the last one is no UTF-8
        '{"settings": {"theme": "dark"}, "data": {"name": "x"}, "versions": {"app": "1"}}',
        '{"settings": null, "data": {"name": "x"}, "versions": {}}',
        '{"settings": {}, "data": {"name": ["x"]}, "versions": {}}',
        '{"settings": {}, "versions": {}}',
    ],
)
def test_a_run_json_of_somebody_else_is_not_ours_to_replace(text: str) -> None:
    Path("mine").mkdir()
    Path("mine/run.json").write_bytes(text.encode(errors="surrogateescape"))
    with unchanged("mine"), refused(OutputError, "the folder mine is not empty"):
        new_run("unused", "mine", ABOUT)


@pytest.mark.usefixtures("nothing_lost")
def test_a_run_that_begins_and_ends_while_another_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both found the folder free; the first has finished before the second gets the lock."""
    original = run_lock.open_lock

    def slow(folder: Path) -> Any:
        monkeypatch.setattr(run_lock, "open_lock", original)
        ended()
        return original(folder)

    monkeypatch.setattr(run_lock, "open_lock", slow)
    with refused(OutputError, "the folder mine is not empty"):
        new_run("unused", "mine", ABOUT)
    assert len(rows(Path("mine/metrics.csv"))) == 1


def refusing(error: int) -> Any:
    def flock(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    return flock


@pytest.mark.parametrize("locks", [True, False])
def test_a_run_in_its_first_epoch_is_not_said_to_have_ended(
    locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not locks:
        monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    run = new_run("unused", "mine", ABOUT)
    with refused(CheckpointError, "A process is training there"):
        open_run("mine")
    run.close()
    with refused(CheckpointError, "Its run ended before"):
        open_run("mine")


@pytest.mark.usefixtures("nothing_lost")
@pytest.mark.parametrize("system", ["Windows", "a network disk"])
def test_without_locks_a_folder_has_one_run_at_a_time(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system == "Windows":
        monkeypatch.setitem(sys.modules, "fcntl", None)  # so that it cannot be imported
    else:
        monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    run = new_run("unused", "mine", ABOUT)
    taken = (f"is training in mine: 'process {os.getpid()} on ", "remove mine/.in-use")
    with refused(OutputError, *taken):
        new_run("unused", "mine", ABOUT)
    record(run)
    for _ in range(2):  # who was refused does not let the next one in
        with refused(OutputError, *taken):
            open_run("mine")
    run.close()
    again, *_ = open_run("mine")
    record(again, 2)
    for _ in range(2):
        again.close()
    assert not Path("mine/.in-use").exists()


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EACCES])
def test_both_ways_to_say_that_the_lock_is_taken(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended()
    monkeypatch.setattr(fcntl, "flock", refusing(error))
    with refused(OutputError, "another process is training in mine"):
        open_run("mine")


@pytest.mark.usefixtures("time_limit")
def test_texts_that_are_no_files_keep_nobody_waiting() -> None:
    ended()
    Path("mine/metrics.csv").unlink()
    os.mkfifo("mine/metrics.csv")
    open_run("mine")[0].close()
    assert Path("mine/metrics.csv").is_file()
    Path("mine/run.json").unlink()
    os.mkfifo("mine/run.json")
    with refused(OutputError, "mine has no run.json of a run"):
        open_run("mine")


SOMEBODYS = ("report.html", "loss.png", "samples.gif", "metrics.csv", "best.npz", "images/1.png")


OTHERS = ("images/sampled_epoch1.png", ".lock", ".npvae-1.tmp")


@pytest.mark.usefixtures("nothing_lost")
@pytest.mark.parametrize(
    ("name", "beside"),
    [
        *((name, "last.npz") for name in (*SOMEBODYS, *OTHERS)),
        *((name, "an unfinished run") for name in ("loss.png", "metrics.csv", *OTHERS)),
        *((name, "nothing") for name in ("loss.png", *OTHERS)),
    ],
)
def test_what_no_run_has_written_stays(name: str, beside: str) -> None:
    """Neither a new run nor one that is resumed takes a name for a sign that a file is its own."""
    run = new_run("unused", "mine", ABOUT)
    run.picture("loss.png", b"of this run")
    if beside == "last.npz":
        record(run)
    run.close()
    for file in contents("mine"):
        if beside == "nothing" or (beside == "last.npz" and file != "last.npz"):
            Path("mine", file).unlink()
    Path("mine", name).write_text("years of work")
    with refused(OutputError, "mine is not empty", "--out"):
        new_run("unused", "mine", ABOUT)
    if beside == "last.npz" and name not in ("best.npz", ".lock", ".npvae-1.tmp"):
        with refused(OutputError, "last.npz to an empty folder"):
            open_run("mine")
        Path("copy").mkdir()
        copy("mine/last.npz", "copy")
        open_run("copy")[0].close()
    assert Path("mine", name).read_text() == "years of work"


def test_seconds_that_somebody_has_edited() -> None:
    """Each belongs to its epoch, and text that is not a number is dropped."""
    ended(epochs=3)
    header, first, _, third = Path("mine/metrics.csv").read_text().splitlines()
    for lines, expected in (
        ([header, first, third], ["1.5000", "", "1.5000"]),
        ([header, first.replace("1.5000", "hello"), third], ["", "", "1.5000"]),
        ([header, third], ["", "", "1.5000"]),
    ):
        Path("mine/metrics.csv").write_text("\n".join(lines))
        again, *_ = open_run("mine")
        again.close()
        assert [row["seconds"] for row in rows(Path("mine/metrics.csv"))] == expected


def test_pictures_where_a_file_is_in_the_way() -> None:
    ended()
    Path("mine/images").rmdir()
    Path("mine/images").write_text("")
    with refused(OutputError, "mine/images cannot be created"):
        open_run("mine")


def test_links_that_go_round_in_a_circle_are_no_dataset() -> None:
    Path("circle.npz").symlink_to("circle.npz")
    with refused(DataError, "no dataset and no file or folder called", "circle.npz"):
        start("out", "circle.npz")


@pytest.mark.parametrize("given", [{"dataset": "pictures"}, {"extra_data": "pictures"}])
def test_results_do_not_go_into_the_folder_of_the_pictures(given: dict[str, str]) -> None:
    """They would be pictures of the dataset from then on."""
    digits_file(Path(), 20, 10)
    Path("pictures").mkdir()
    with refused(OptionError, "pictures/run is inside pictures"):
        start("pictures/run", **given)
    assert not list(Path("pictures").iterdir())
