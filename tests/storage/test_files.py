"""A save happens whole or not at all, whichever call fails and whenever the process is killed.

What is on the disk afterwards is compared byte for byte: all of the old, or all of the new.
"""

import errno
import io
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae.storage.files
from npvae.core.errors import OutputError
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.runs.fit import Epoch
from npvae.runs.run_directory import new_run, open_run
from npvae.storage import checkpoint
from npvae.storage.files import STALE, new_temporary, open_plain, write
from tests.helpers import Tally, contents, refused, rows, run, unchanged

OLD: dict[str, Any] = {"w": np.arange(6.0)}
NEW: dict[str, Any] = {"w": np.ones(1000)}
OTHER_FAULTS = (errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.npz"


@pytest.mark.parametrize("size", [3, 100_001])  # less, and more, than Python keeps back
def test_all_bytes_are_in_the_file_when_it_is_forced_to_the_disk(
    path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(path, bytes(size))
    assert sizes[0] == size  # and then the folder


# ------------------------------------------------------------------ the n-th call fails


def break_disk(patch: pytest.MonkeyPatch, n: int, fault: int) -> list[str]:
    """The n-th call to the disk in storage/files.py fails; the list of calls, as they come.

    A write that fails has written half, and a close that fails has closed the file.
    """
    calls: list[str] = []

    def count(name: str) -> None:
        calls.append(name)
        if len(calls) == n:
            raise OSError(fault, os.strerror(fault))

    class File(io.FileIO):
        def __init__(self, *arguments: Any) -> None:
            count("open")
            super().__init__(*arguments)

        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            count("write")
            return super().write(data[len(data) // 2 :])

        def close(self) -> None:
            was_open = not self.closed
            super().close()
            if was_open:
                count("close")

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            count(name)
            return call(*arguments)

        return counting

    patch.setattr(npvae.storage.files, "open", File, raising=False)
    for name in ("fsync", "replace", "open", "close"):  # open and close: the folder, to sync it
        patch.setattr(os, name, counted(f"os.{name}", getattr(os, name)))
    return calls


WHOLE = ["open", "write", "os.fsync", "close", "os.replace", "os.open", "os.fsync", "os.close"]


@pytest.mark.parametrize(
    "fault",
    [errno.ENOSPC, *(pytest.param(fault, marks=pytest.mark.slow) for fault in OTHER_FAULTS)],
    ids=os.strerror,
)
def test_an_epoch_that_cannot_be_kept_loses_no_other(here: Path, fault: int, tally: Tally) -> None:
    """The end of an epoch: best.npz, last.npz, metrics.csv, each of them old or new."""

    def epoch(number: int) -> Epoch:
        return Epoch(number, Loss(300, 7.5), Loss(200, 8.0), 1.25, Loss(10.0 - number, 0.0))

    def second_epoch(n: int) -> tuple[list[str], str]:
        """Calls to the disk, of which the n-th fails, and what is said of it."""
        for name, data in old.items():
            Path("run", name).write_bytes(data)
        run, vae, adam, _ = open_run("run")
        run.close()
        with pytest.MonkeyPatch.context() as patch:
            calls = break_disk(patch, n, fault)
            try:
                run.record(epoch(2), vae, adam)
            except OutputError as error:
                return calls, str(error)
        return calls, ""

    run = new_run("", "run", {"settings": {"validation": 1}, "data": {"name": "x"}, "versions": {}})
    vae, adam = VAE(4, (3,), 2), Adam()
    adam.update(vae.parameters, vae.gradients)
    run.record(epoch(1), vae, adam)
    run.close()
    old = contents("run")
    assert second_epoch(0) == (3 * WHOLE, "")
    new = contents("run")
    assert all(old[name] != new[name] for name in ("best.npz", "last.npz", "metrics.csv"))
    for n, call in enumerate(3 * WHOLE, start=1):
        where = f"call {n}: {call}"
        _, said = second_epoch(n)
        found = contents("run")
        assert found.keys() == old.keys(), where
        assert all(data in (old[name], new[name]) for name, data in found.items()), where
        if said:
            assert re.match(r"(the checkpoint )?run/\S+ (could not|cannot) be ", said), where
            assert os.strerror(fault) in said, where
            assert len(said.splitlines()) == 2, where
        else:  # only the folder could not be forced to the disk
            assert found == new, where
        again, *_, header = open_run("run")
        again.close()
        assert [row["epoch"] for row in header["history"]] == [1, 2][: header["epoch"]], where
        assert len(rows(Path("run/metrics.csv"))) == header["epoch"], where
        kept = "old file kept" if header["epoch"] == 1 else "saved all the same"
        tally("I/O faults: the end of an epoch", kept)


@pytest.mark.skipif(sys.platform == "win32", reason="limits as Unix has them")
def test_a_disk_that_is_really_full(path: Path, tally: Tally) -> None:
    """A file of 8,000 bytes where a process may write no more than 4,000."""
    checkpoint.save(path, {}, OLD)
    code = """
import resource, sys
import numpy as np
from npvae.storage import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    checkpoint.save(sys.argv[1], {}, {"w": np.ones(1000)})
except checkpoint.OutputError as error:
    print(error)
"""
    with unchanged(path.parent):
        message = run([sys.executable, "-c", code, str(path)]).stdout.splitlines()
    assert message[0] == f"the checkpoint {path} could not be written: File too large"
    assert len(message) == 2
    tally("I/O faults: saving a checkpoint", "old file kept")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_ctrl_c_during_a_save_leaves_what_was_there(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    checkpoint.save(path, {}, OLD)
    monkeypatch.setattr(os, moment, interrupted)
    with unchanged(path.parent), pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {}, NEW)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for place in ("missing/last.npz", "file/last.npz", "folder"):
        with unchanged(tmp_path), refused(OutputError, str(tmp_path / place)):
            checkpoint.save(tmp_path / place, {}, OLD)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_saving_over_a_file_that_is_open(path: Path) -> None:
    """A process that has the old file open still reads the old bytes."""
    checkpoint.save(path, {}, OLD)
    old = path.read_bytes()
    with open(path, "rb") as file:
        checkpoint.save(path, {}, NEW)
        assert file.read() == old
    assert path.read_bytes() != old


# ------------------------------------------------------------------ kill -9

KILLS = """
import os, random, signal, sys, time
import numpy as np
from npvae.storage import checkpoint

path, kills, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
fsync = os.fsync

def slow(descriptor):  # as on a disk, also in memory: else few kills come in the midst of a save
    fsync(descriptor)
    time.sleep(0.003)

os.fsync = slow

def arrays(state):
    return {"w": np.full(20_000 + state % 7, state, np.float32), "b": np.full(9, float(state))}

def save(state):
    checkpoint.save(path, {}, arrays(state)) if how == "save" else np.savez(path, **arrays(state))

def load():
    found = checkpoint.load(path)[1] if how == "save" else dict(np.load(path))
    state = int(found["b"][0])
    for name, array in arrays(state).items():
        np.testing.assert_array_equal(found[name], array)
    return state

save(0)
state = 0
for seed in range(kills):
    saved, saving = os.pipe()
    pid = os.fork()
    if pid == 0:
        while True:
            state += 1
            save(state)
            os.write(saving, b"x")
    os.read(saved, 1)  # however busy the machine is, it has saved once, and is saving again
    os.close(saved), os.close(saving)
    time.sleep(random.Random(seed).uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        found = load()
        assert found > state, f"state {state + 1} had been saved before, not {found}"
        state = found
        print("whole")
    except BaseException as error:
        print(f"lost, seed {seed}: {type(error).__name__}: {error}")
        save(state)
"""
has_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def outcomes_of_kills(path: Path, kills: int, how: str) -> list[str]:
    done = run([sys.executable, "-c", KILLS, str(path), str(kills), how])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@has_forks
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_9_while_saving_loses_nothing(path: Path, kills: int, tally: Tally) -> None:
    outcomes = outcomes_of_kills(path, kills, "save")
    for outcome in outcomes:
        tally("kill -9 while saving", outcome)
    assert outcomes == kills * ["whole"]
    left = sorted(path.parent.glob(".npvae-*.tmp"))
    assert kills / 20 < len(left) <= kills  # and killed in their midst


@has_forks
@pytest.mark.slow
def test_the_same_kills_lose_a_file_that_is_written_over(path: Path) -> None:
    """So that the test above cannot pass by luck."""
    lost = [outcome for outcome in outcomes_of_kills(path, 40, "savez") if outcome != "whole"]
    assert len(lost) > 10


def test_what_killed_processes_left_is_removed_when_it_is_old(path: Path) -> None:
    old, young = (new_temporary(path.parent) for _ in range(2))
    others = ["mine.tmp", ".npvae-notes.tmp", f".npvae-{16 * '0'}.tmp", f"{old.name[:-5]}g.tmp"]
    mine = [path.with_name(name) for name in others]
    for file in (old, young, *mine):
        file.write_bytes(b"half of something")
    long_ago = time.time() - STALE - 60
    for file in (old, *mine):
        os.utime(file, (long_ago, long_ago))
    write(path, b"picture", durable=False)  # there may be thousands of these
    assert old.exists()
    write(path, b"checkpoint")
    assert [file.exists() for file in (old, young, *mine)] == [False, *5 * [True]]


# ------------------------------------------------------------------ reading


@pytest.mark.usefixtures("time_limit")
def test_only_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_plain(tmp_path / name) as file:
            assert file.read() == b"bytes"
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "it is a folder, not a file"),
        (tmp_path / "pipe", "it is a pipe or a device, not a file"),
        (tmp_path / "absent", "No such file or directory"),
    ):
        with refused(OSError, words):
            open_plain(path)
