"""Training survives kills, signals and full disks: a resumed run ends like one never interrupted.

Most runs here are forks of a process that has already imported everything, so each takes a fraction
of a second. The instants of the faults are random; a failing test names its seed.
"""

from __future__ import annotations

import errno
import io
import math
import os
import pty
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from npvae.commands import run_pictures, training_run
from npvae.core.errors import DivergedError, OutputError
from npvae.datasets.minibatches import Indices
from npvae.runs import fit
from npvae.runs.run_directory import open_run
from npvae.settings import Settings
from npvae.storage import checkpoint
from npvae.training import Plan, plan_epoch
from tests.forks import (
    SIGNALS,
    Ending,
    Forks,
    interrupted,
    like_a_user,
)
from tests.helpers import (
    HANGS_AFTER,
    ROOT,
    Tally,
    command,
    digits_file,
    environment,
    process,
    rows,
    run,
    run_script,
    untimed,
)

TRAIN = str(ROOT / "scripts" / "train.py")


def of_epochs(count: int) -> list[str]:
    """The options of a short run."""
    return f"--dataset digits.npz --epochs {count} --hidden 8 --batch-size 64".split()


EPOCHS = 5
RUN = of_epochs(EPOCHS)
NAMES = {"run.json", "metrics.csv", "last.npz", "best.npz", "loss.png", ".lock", "images"}
NAMES |= {"report.html", "samples.gif", "explorer.html", *(f"epoch{n}.npz" for n in (1, 2, 5))}


@pytest.fixture(autouse=True)
def signals_count() -> Iterator[None]:
    with like_a_user():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space and umlauts in its name."""
    folder = tmp_path_factory.mktemp("ein Übungs raum")
    digits_file(folder)
    return folder


@pytest.fixture(scope="module")
def forks(home: Path) -> Iterator[Forks]:
    with closing(Forks(home)) as forks:
        yield forks


class Straight(NamedTuple):
    """The folder of an uninterrupted run, and how long it took."""

    folder: Path
    seconds: float


@pytest.fixture(scope="module")
def straight(home: Path, forks: Forks) -> Straight:
    seconds = []
    for out in ("warm up", "straight"):
        start = time.monotonic()
        ending = forks.run([*RUN, "--out", out])
        seconds.append(time.monotonic() - start)
        assert (ending.code, ending.err) == (0, "")
    return Straight(
        home / "straight", min(seconds)
    )  # the shortest, so that signals come while it runs


def assert_the_same(folder: Path, straight: Path) -> None:
    """Both runs left the same files, byte for byte, except for the seconds."""
    for name in (
        "last.npz",
        "loss.png",
        "samples.gif",
        "explorer.html",  # with the models of kept epochs
        *(f"images/{p.name}" for p in straight.glob("images/*")),
    ):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name
    assert untimed(folder / "metrics.csv") == untimed(straight / "metrics.csv")
    assert all(float(row["seconds"] or 0) >= 0 for row in rows(folder / "metrics.csv"))


def epochs_in(folder: Path) -> int:
    """The number of epochs in the folder, 0 without a checkpoint. Its files must be consistent."""
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    assert names <= NAMES
    if (folder / "last.npz").exists():
        header, _ = checkpoint.load(folder / "last.npz")
        done = int(header["epoch"])
    else:
        done = 0
    if (folder / "metrics.csv").exists():
        kept = rows(folder / "metrics.csv")
        assert [int(row["epoch"]) for row in kept] == list(range(1, len(kept) + 1))
        assert all(float(value or 0) >= 0 for row in kept for value in row.values())
        assert len(kept) in (done, done - 1)
    return done


def epochs_printed(out: str) -> int:
    """The last epoch whose row was printed."""
    printed = re.findall(rf"^ *(\d+)/{EPOCHS} ", out, re.MULTILINE)
    return int(printed[-1]) if printed else 0


@contextmanager
def named(case: str) -> Iterator[None]:
    """A failure in this context names the case."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{case}: {error}") from error


# ------------------------------------------------------------------ kill -9


def kill_until_done(
    forks: Forks,
    straight: Straight,
    out: str,
    dice: random.Random,
    tally: Tally,
    first: Sequence[str],
) -> int:
    """Start a run, kill and resume it until it is done. Returns the number of kills."""
    folder, kills, before = forks.folder / out, 0, 0
    while True:
        begun = (folder / "last.npz").exists()
        arguments = ["--resume", out, *first[2:4]] if begun else [*first, "--out", out]
        ending = forks.run(arguments, signal.SIGKILL, dice.uniform(0, straight.seconds))
        assert ending.err == ""
        done = epochs_in(folder) if folder.exists() else 0
        assert done >= max(before, epochs_printed(ending.out)), "a finished epoch is lost"
        before = done
        if ending.code == 0:
            return kills
        assert ending.code == -signal.SIGKILL
        kills += 1
        tally("kill -9 while training", "no finished epoch lost")
        if done == EPOCHS:  # between the last checkpoint and the summary
            ending = forks.run(["--resume", out])
            assert (ending.code, ending.err[:32]) == (
                2,
                f"error: the run has {EPOCHS} epochs already"[:32],
            )
            return kills


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_kill_9_loses_no_finished_epoch_and_changes_nothing(
    forks: Forks, straight: Straight, kills: int, tally: Tally
) -> None:
    count, seed = 0, 0
    while count < kills:
        seed += 1
        out = f"killed {kills} {seed}"
        with named(f"seed {seed}"):
            count += kill_until_done(forks, straight, out, random.Random(seed), tally, RUN)
            assert_the_same(forks.folder / out, straight.folder)
        tally("runs killed until they were done", "same bytes as never killed")
        shutil.rmtree(forks.folder / out)


# ------------------------------------------------------------------ Ctrl-C, kill, a closed terminal


def suggested(text: str) -> list[str]:
    """The command after the words "Continue with:", split as a shell splits it."""
    found = re.search(r"Continue with: +python (.*)", text)
    assert found, text
    return shlex.split(found[1])


def check_interruption(
    forks: Forks, straight: Straight, out: str, ending: Ending, number: int
) -> None:
    """The files are right after a signal, and the command in the message resumes the run."""
    assert "Traceback" not in ending.err
    assert "ignored" not in ending.err
    assert ending.err.count("\n") <= 4
    assert ending.code == 128 + number
    folder = forks.folder / out
    done = epochs_in(folder) if folder.exists() else 0
    if done == EPOCHS:
        assert ending.err == "" or "complete" in ending.err
    elif done:
        assert f"after epoch {done} " in ending.err
        script, *arguments = suggested(ending.err)
        assert script == TRAIN
        assert forks.run(arguments).code == 0
        assert not list(folder.rglob("*.tmp"))
    else:
        alone = "", "Interrupted.\n"  # the latter if a library turned it into another error
        assert ending.err in alone or "same command" in ending.err
        again = forks.run([*RUN, "--out", out])
        assert (again.code, again.err) == (0, "")
    assert_the_same(folder, straight.folder)


@pytest.mark.parametrize("count", [6, pytest.param(36, marks=pytest.mark.slow)])
def test_signals_end_it_at_once_and_the_message_says_how_to_continue(
    forks: Forks, straight: Straight, count: int, tally: Tally
) -> None:
    for seed in range(count):
        dice, out = random.Random(seed), f"stopped {count} {seed}"
        number = SIGNALS[seed % len(SIGNALS)]
        ending = forks.run([*RUN, "--out", out], number, dice.uniform(0, straight.seconds))
        if ending.code == 0:
            assert_the_same(forks.folder / out, straight.folder)
            tally(f"{number.name} while training", "done before it came")
            continue
        if ending.code in (-number, 99) and not (forks.folder / out).exists():
            tally(f"{number.name} while training", "before the script began")
            continue
        with named(f"{number.name}, seed {seed}, {ending}"):
            check_interruption(forks, straight, out, ending, number)
        tally(f"{number.name} while training", "same bytes after resuming")
        shutil.rmtree(forks.folder / out)


@pytest.mark.parametrize("count", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_signals_from_the_very_start_of_the_process(
    home: Path, straight: Straight, forks: Forks, count: int, tally: Tally
) -> None:
    """A new process each; the signal comes at any time from the start of Python to the training.

    Before the first line of `cli.run` we do not handle signals. Python then ends in its own way, or
    loses a Ctrl-C in one of its own finalizers, reports that and continues.
    """
    for seed in range(count):
        dice, out = random.Random(seed), f"early {count} {seed}"
        number, words = SIGNALS[seed % len(SIGNALS)], command("train.py", *RUN, "--out", out)
        ending = interrupted(words, home, number, dice.uniform(0, 1.5))
        what = f"{number.name} from the start of Python on"
        case = f"{number.name}, seed {seed}, {ending}"
        if ending.code not in (128 + number, 0) and not (home / out).exists():
            assert ending.code == -number or "KeyboardInterrupt" in ending.err, case
            assert "cli.run" not in ending.err, case
            tally(what, "before the script began")
        elif ending.code == 0:
            lost = number == signal.SIGINT and bool(re.search(r"\n *KeyboardInterrupt", ending.err))
            assert lost or ending.err == "", case
            assert "scripts/train.py" not in ending.err, case
            assert_the_same(home / out, straight.folder)
            tally(what, "lost by Python before the script began" if lost else "done before it came")
        else:
            with named(case):
                check_interruption(forks, straight, out, ending, number)
            tally(what, "same bytes after resuming")


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_closed_terminal(
    home: Path, straight: Straight, forks: Forks, count: int, tally: Tally
) -> None:
    """The window is closed: the kernel sends SIGHUP, and nothing can be printed after that."""
    for seed in range(count):
        out = f"closed {count} {seed}"
        ours, theirs = pty.openpty()
        words = shlex.join(command("train.py", *RUN, "--out", out))
        terminal = os.ttyname(theirs)
        child = subprocess.Popen(  # it opens the terminal, which so becomes its own
            ["sh", "-c", f"exec <>{terminal} >&0 2>&1; exec {words}"],
            cwd=home,
            env=environment(TERM="xterm"),
            start_new_session=True,
        )
        seen = b""
        while f"1/{EPOCHS}".encode() not in seen:
            seen += os.read(ours, 65536)
        time.sleep(random.Random(seed).uniform(0, straight.seconds))
        os.close(theirs)
        os.close(ours)
        code = child.wait(timeout=HANGS_AFTER)
        done = epochs_in(home / out)
        assert done >= 1
        assert code in (0, 128 + signal.SIGHUP), f"seed {seed}"
        if done < EPOCHS:
            assert forks.run(["--resume", out]).code == 0
        assert_the_same(home / out, straight.folder)
        tally("terminals closed while training", "same bytes after resuming")


def test_a_run_that_ignores_hang_ups_continues(
    forks: Forks, home: Path, straight: Straight
) -> None:
    """As under nohup."""
    words = ["nohup", *command("train.py", *RUN, "--out", "nohup")]
    ending = interrupted(words, home, signal.SIGHUP, 0, after="^data ")
    assert (ending.code, ending.err) == (0, "")
    assert_the_same(home / "nohup", straight.folder)


# What a command does, {} being a signal that it sends itself; its exit code and output. In a
# finalizer Python would print an exception and continue. When all is done, the names of the program
# are gone, so that the last one keeps what it needs in its defaults.
SENT = """
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), {})
        time.sleep(1)
"""
SECOND = """
from npvae.commands import signals
signals.PATIENCE = PATIENCE_OF_60
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
finally:
    print('cleaning up', flush=True)
    time.sleep(0.02)
    os.kill(os.getpid(), {})
    time.sleep(0.02)
    print('done', flush=True)
"""
ENDS: dict[str, tuple[str, int | None, str]] = {  # None: that of the signal
    "in a finalizer": (f"{SENT}\nFinalized()\ntime.sleep(50)\nprint('not ended')", None, ""),
    "a second one": (SECOND.replace("PATIENCE_OF_60", "60"), 130, "cleaning up\ndone\n"),
    "a second one that has waited": (SECOND.replace("PATIENCE_OF_60", "0"), 130, "cleaning up\n"),
    "lost, and all is done": (
        f"{SENT}\nclass Slow:\n    def __del__(self, sleep=time.sleep):\n        sleep(0.1)\n"
        "sys.kept = Slow()\nFinalized()",
        0,
        "",
    ),
    "when all is done": (
        "class Last:\n"
        "    def __del__(self, kill=os.kill, process=os.getpid(), write=os.write):\n"
        "        kill(process, {})\n"
        "        write(1, b'it was there')\n"
        "sys.kept = Last()",
        0,
        "it was there",
    ),
}
# Every end with Ctrl-C, and every other signal with one of them.
PAIRS = [*product(ENDS, [signal.SIGINT]), *zip(ENDS, SIGNALS[1:], strict=True)]


@pytest.mark.parametrize(("end", "number"), PAIRS)
def test_a_command_ends_in_order_whenever_a_signal_comes(
    end: str, number: int, tally: Tally
) -> None:
    body, code, out = ENDS[end]
    done = process(body.replace("{}", str(int(number))))
    expected = 128 + number if code is None else code
    assert (done.returncode, done.stdout, done.stderr) == (expected, out, "")
    tally("signals in a finalizer, twice, when all is done", "ended in order")


def test_a_signal_that_comes_at_any_line_after_the_work_is_no_traceback(tally: Tally) -> None:
    """One process per line of cli.py that runs after main; exit code 0 means that none is left."""
    program = (
        "import os, signal, sys\n"
        "from npvae.commands import cli\n"
        "def main(arguments):\n"
        "    frame = sys._getframe(1)\n"
        "    while frame:\n"
        "        frame.f_trace = trace\n"
        "        frame = frame.f_back\n"
        "    sys.settrace(trace)\n"
        "def trace(frame, event, argument):\n"
        "    global to_come\n"
        "    if event == 'line' and frame.f_code.co_filename == cli.__file__:\n"
        "        to_come -= 1\n"
        "        if to_come == 0:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "    return trace\n"
        "for to_come in range(1, 100):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        cli.run(main)\n"
        "    _, status = os.waitpid(child, 0)\n"
        "    print(os.waitstatus_to_exitcode(status), flush=True)\n"
        "    if status == 0:\n"
        "        break\n"
    )
    done = run([sys.executable, "-c", program])
    *codes, last = done.stdout.split()
    assert (done.returncode, done.stderr) == (0, "")
    assert len(codes) > 5
    assert set(codes) == {"130"}
    assert last == "0"
    for _ in codes:
        tally("signals when all is done", "ended at once")


def assert_interrupted(ending: Ending) -> None:
    """It was ended by Ctrl-C before its first epoch was finished."""
    assert ending.code == 130
    assert ending.err.startswith("Interrupted.")
    assert ending.err.count("\n") <= 2


@pytest.mark.slow
def test_ctrl_c_while_kernels_are_compiled(home: Path, tmp_path: Path, tally: Tally) -> None:
    """The cache is empty, so the run compiles for some ten seconds."""
    for seed in range(3):
        words = command("train.py", *of_epochs(9999), "--out", f"cold {seed}")
        empty = {"NPVAE_BACKEND": "auto", "NUMBA_CACHE_DIR": str(tmp_path / str(seed))}
        delay = random.Random(seed).uniform(0, 6)
        ending = interrupted(words, home, signal.SIGINT, delay, after="^Compiling", **empty)
        with named(f"seed {seed}, {ending}"):
            assert_interrupted(ending)
        tally("SIGINT while kernels are compiled", "ended at once")


@pytest.mark.slow
def test_ctrl_c_while_kernels_are_loaded(home: Path, tally: Tally) -> None:
    """The cache is full. An exception while llvmlite loads a kernel becomes another error."""
    warm = run_script("train.py", *of_epochs(1), cwd=home, NPVAE_BACKEND="auto")
    assert warm.returncode == 0
    for seed in range(6):
        words = command("train.py", *of_epochs(9999), "--out", f"warm {seed}")
        full = {"NPVAE_BACKEND": "auto", "PYTHONUNBUFFERED": "1"}
        delay = random.Random(seed).uniform(0, 0.5)
        ending = interrupted(words, home, signal.SIGINT, delay, after="^results", **full)
        with named(f"seed {seed}, {ending}"):
            assert_interrupted(ending)
        tally("SIGINT while kernels are loaded", "ended at once")


# ------------------------------------------------------------------ disks and folders


def first_epochs(forks: Forks, out: str, epochs: int) -> Path:
    """A complete run with fewer epochs than the straight one and otherwise the same settings."""
    assert forks.run([*of_epochs(epochs), "--out", out]).code == 0
    return forks.folder / out


def test_a_full_disk_keeps_the_last_epoch_and_the_message_says_how_to_continue(
    forks: Forks, home: Path, straight: Straight, tally: Tally
) -> None:
    """A limit on file sizes stands in for a full disk: pictures fit, the checkpoint does not."""
    folder = first_epochs(forks, "full disk", 3)
    before = (folder / "last.npz").read_bytes()
    words = shlex.join(command("train.py", "--resume", "full disk", "--epochs", str(EPOCHS)))
    done = run(["bash", "-c", f"ulimit -f {len(before) // 1024 - 1}; exec {words}"], cwd=home)
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 4
    assert "last.npz could not be written: File too large" in done.stderr
    assert "after epoch 3 " in done.stderr
    assert (folder / "last.npz").read_bytes() == before
    assert forks.run(suggested(done.stderr)[1:]).code == 0
    assert_the_same(folder, straight.folder)
    tally("I/O faults while training", "same bytes after resuming")


THREE_EPOCHS = Settings(dataset="digits.npz", epochs=3, hidden_dims=(8,), batch_size=64)


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An uninterrupted run of THREE_EPOCHS; its parent is the current folder."""
    monkeypatch.chdir(tmp_path)
    digits_file(tmp_path)
    training_run.start(THREE_EPOCHS, None, "straight", quiet=True)
    return tmp_path / "straight"


def cut_short(
    out: str,
    which: int,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings = THREE_EPOCHS,
) -> BaseException:
    """Start a run in `out` and return what it raises at file number `which`, counted from 1.

    An OSError is raised instead of replacing this file, any other error right after that.
    """
    original, left = os.replace, which

    def replace(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left or not isinstance(error, OSError):
            original(source, target)
        if not left:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(run_pictures, "LOOKS", math.inf)
        with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
            training_run.start(settings, None, out, quiet=True)
    return caught.value


# The files in the order in which a run of three epochs writes them.
EPOCH = ["sampled", "rec", "report", "last", "metrics", "kept"]
LAST = ["sampled", "rec", "loss", "gif", "explorer", "report", "last", "metrics"]
FILES = ["run.json", *EPOCH, *EPOCH, *LAST]


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_whichever_file_cannot_be_replaced_the_run_can_be_resumed(
    every: int, three: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for which in range(1, len(FILES) + 1, every):
        out = f"fault {which}"
        error = cut_short(out, which, full, monkeypatch)
        assert isinstance(error, OutputError)
        assert "No space left on device" in str(error)
        assert str(error).count("\n") <= 3
        before, file = FILES[: which - 1].count("last"), FILES[which - 1]
        done = epochs_in(Path(out))
        # An epoch is lost only with its checkpoint, not with a picture or metrics.csv.
        assert done == before + (file not in ("run.json", "last", "metrics", "kept"))
        if done == 3:
            assert "complete" in str(error)
            opened, *_ = open_run(out)
            opened.close()
            assert (Path(out) / "last.npz").read_bytes() == (three / "last.npz").read_bytes()
            assert untimed(Path(out) / "metrics.csv") == untimed(three / "metrics.csv")
            tally("I/O faults while training", "no epoch lost")
            continue
        if done:
            assert f"after epoch {done} " in str(error)
            training_run.resume(out, {}, None, quiet=True)
        else:
            assert "same command" in str(error) or which == 1
            training_run.start(THREE_EPOCHS, None, out, quiet=True)
        assert_the_same(Path(out), three)
        tally("I/O faults while training", "same bytes after resuming")


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_after_ctrl_c_right_after_a_file_all_files_agree(
    every: int, three: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """This includes last.npz, after which metrics.csv is one epoch behind."""
    first = FILES.index("last") + 1
    for which in range(first, len(FILES) + 1, every):
        out = f"cut {which}"
        assert isinstance(
            cut_short(out, which, KeyboardInterrupt(), monkeypatch), KeyboardInterrupt
        )
        done = epochs_in(Path(out))
        assert done == FILES[:which].count("last")
        assert len(rows(Path(out) / "metrics.csv")) == done
        assert (Path(out) / "loss.png").exists()  # although nobody has looked yet
        if done < 3:
            training_run.resume(out, {}, None, quiet=True)
        assert_the_same(Path(out), three)
        tally("Ctrl-C right after a file", "same bytes after resuming")


def test_best_without_last_is_an_epoch_too(
    three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --validation, best.npz is written before last.npz, so in the first epoch it is alone."""
    settings = replace(THREE_EPOCHS, validation=50)
    training_run.start(settings, None, "validated", quiet=True)
    cut_short("cut", FILES.index("last") + 1, KeyboardInterrupt(), monkeypatch, settings)
    assert {path.name for path in Path("cut").glob("*.npz")} == {"best.npz"}
    err = capsys.readouterr().err
    assert f"The state after epoch 1 is in {Path('cut/best.npz')}" in err
    assert suggested(err)[1:] == ["--resume", "cut"]
    training_run.resume("cut", {}, None, quiet=True)
    assert_the_same(Path("cut"), Path("validated"))
    assert Path("cut/best.npz").read_bytes() == Path("validated/best.npz").read_bytes()


def test_a_run_whose_pictures_were_removed_continues(three: Path) -> None:
    training_run.start(replace(THREE_EPOCHS, epochs=2), None, "run", quiet=True)
    shutil.rmtree("run/images")
    training_run.resume("run", {"epochs": 3}, None, quiet=True)
    assert (Path("run/images/rec_epoch3.png")).read_bytes() == (
        three / "images" / "rec_epoch3.png"
    ).read_bytes()


PLAIN_USER = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
modes_count = pytest.mark.skipif(
    bool(PLAIN_USER) and not shutil.which("setpriv"), reason="root may write to every folder"
)


def as_a_plain_user(
    script: str | Path, *arguments: str | Path, cwd: Path, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run it as a user to whom the modes of all folders apply, with a home that is read-only."""
    words = [*PLAIN_USER, sys.executable, str(script), *map(str, arguments)]
    env = environment(HOME="/proc", XDG_CACHE_HOME="", **changes)
    return run(words, cwd=cwd, env=env)


@contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield
    finally:
        for folder in folders:
            folder.chmod(0o755)


@modes_count
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (RUN, "runs"),
        ([*RUN, "--out", "new"], "new"),
        ([*RUN, "--out", "file/below"], "file"),
        ([*RUN, "--out", "/proc/run"], "/proc/run"),
        (["--resume", "mine", "--epochs", "9"], "mine"),
    ],
)
def test_a_folder_that_cannot_be_written(
    arguments: Sequence[str], named: str, tmp_path: Path, straight: Straight, tally: Tally
) -> None:
    digits_file(tmp_path)
    (tmp_path / "file").write_text("")
    shutil.copytree(straight.folder, tmp_path / "mine")
    with read_only(tmp_path, tmp_path / "mine", tmp_path / "mine" / "images"):
        done = as_a_plain_user(TRAIN, *arguments, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert re.match(f"error: .*{named}", done.stderr)
    assert 2 <= done.stderr.count("\n") <= 4
    assert re.search("--out|copy it|permissions", done.stderr)
    assert_the_same(tmp_path / "mine", straight.folder)
    tally("folders that cannot be written", "exit 6")


@modes_count
@pytest.mark.parametrize("backend", ["numpy", pytest.param("auto", marks=pytest.mark.slow)])
def test_a_read_only_installation_without_git(tmp_path: Path, backend: str) -> None:
    """Bytecode and compiled kernels cannot be kept: it works, with at most one line about it."""
    source, work = tmp_path / "source", tmp_path / "work"
    for name in ("npvae", "scripts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    work.mkdir()
    digits_file(work)
    with read_only(source, *(path for path in source.rglob("*") if path.is_dir())):
        done = as_a_plain_user(
            source / "scripts" / "train.py",
            *RUN,
            cwd=work,
            NPVAE_BACKEND=backend,
            PYTHONPATH=str(source),
            PYTHONDONTWRITEBYTECODE="1" if backend == "auto" else "",
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") <= 1
    assert not list(source.rglob("__pycache__"))
    assert epochs_in(work / "runs" / "digits-z10-001") == EPOCHS


def test_the_same_command_twice_uses_two_folders_and_a_used_one_is_refused(
    forks: Forks, home: Path, straight: Straight, tally: Tally
) -> None:
    for _ in range(2):
        assert forks.run(RUN).code == 0
    for number in (1, 2):
        assert_the_same(home / "runs" / f"digits-z10-00{number}", straight.folder)
        tally("the same command again", "a folder of its own")
    before = {path: path.stat() for path in straight.folder.rglob("*") if path.name != ".lock"}
    ending = forks.run([*RUN, "--seed", "1", "--out", "straight"])
    assert ending.code == 6
    assert "straight is not empty" in ending.err
    assert "Choose another one with --out, or omit --out" in ending.err
    assert "--resume straight" in ending.err
    after = {path: path.stat() for path in straight.folder.rglob("*") if path.name != ".lock"}
    assert [(p, s.st_mtime_ns, s.st_size) for p, s in after.items()] == [
        (p, s.st_mtime_ns, s.st_size) for p, s in before.items()
    ]
    tally("the same command again", "refused, nothing touched")


# ------------------------------------------------------------------ another place, another machine


def test_it_resumes_from_another_folder(
    forks: Forks, home: Path, tmp_path: Path, straight: Straight
) -> None:
    folder = first_epochs(forks, "elsewhere", 3)
    done = run_script("train.py", "--resume", folder, "--epochs", str(EPOCHS), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert_the_same(folder, straight.folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Überläufer, o'clock", "-dash", "b\udcffad"])
def test_odd_names_of_folders(name: str, forks: Forks, home: Path, straight: Straight) -> None:
    """The last one is not valid text; file systems accept it."""
    ending = forks.run([*RUN, f"--out={name}"])
    assert (ending.code, ending.err) == (0, "")
    assert_the_same(home / name, straight.folder)


def test_a_terminal_that_knows_only_ascii(home: Path) -> None:
    changes = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = [*RUN, "--out", "straßen"]
    done = run_script("train.py", *arguments, cwd=home, PYTHONIOENCODING="ascii", **changes)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^results +stra\\[\\\w]+en$", done.stdout, re.MULTILINE)
    assert epochs_in(home / "straßen") == EPOCHS


def test_another_number_of_threads_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    digits_file(tmp_path)
    settings = Settings(dataset="digits.npz", epochs=1, hidden_dims=(8,), pictures_every=0)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    training_run.start(settings, None, "run")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    training_run.resume("run", {"epochs": 2}, None, quiet=True)  # --quiet does not hide it
    err = capsys.readouterr().err
    note = "note: last digits may differ: cores is 2, it was 1\n"
    assert err == note
    assert epochs_in(tmp_path / "run") == 2


class Terminal(io.StringIO):
    """Stands in for the stream of a terminal."""

    def isatty(self) -> bool:
        return True


def test_clocks_that_jump_change_nothing_but_the_times(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each clock that our modules read jumps by hours, forwards and backwards.

    Python's own clocks stay right, because its threads wait by them.
    """
    dice = random.Random(7)

    def jumping(clock: Callable[[], float]) -> Callable[[], float]:
        return lambda: clock() + dice.uniform(-9999, 9999)

    clocks = {getattr(time, name) for name in ("time", "monotonic", "perf_counter")}
    wrong = SimpleNamespace(**{clock.__name__: jumping(clock) for clock in clocks})
    for name, module in list(sys.modules.items()):
        for variable, value in list(vars(module).items()) if name.startswith("npvae") else ():
            if value is time:
                monkeypatch.setattr(module, variable, wrong)
            elif any(value is clock for clock in clocks):
                monkeypatch.setattr(module, variable, jumping(value))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    training_run.start(THREE_EPOCHS, None, "clock")
    seen = terminal.getvalue()
    assert "left" in seen
    assert not re.search(r"-\d+(:\d|\.\d\d\s)", seen)
    assert_the_same(Path("clock"), three)
    times = [float(row["seconds"]) for row in rows(Path("clock/metrics.csv"))]
    assert any(time == 0 or time > 100 for time in times)  # so the clocks did jump


# ------------------------------------------------------------------ losses that are not finite


def test_a_learning_rate_that_is_far_too_large(home: Path, forks: Forks, tally: Tally) -> None:
    ending = forks.run([*RUN, "--learning-rate", "1e6", "--out", "diverged"])
    assert ending.code == 5
    assert re.match(
        r"error: training has diverged in epoch \d, batch \d of 4: the loss is (nan|inf), "
        r"it was [\d.e+]+ before\.\nTry a smaller --learning-rate\.",
        ending.err,
    ), ending.err
    assert ending.err.count("\n") <= 4
    assert not list((home / "diverged").rglob("*.tmp"))
    again = forks.run([*RUN, "--learning-rate", "1e-3", "--out", "diverged 2"])
    assert again.code == 0
    tally("diverging runs", "exit 5, nothing lost")


@pytest.mark.parametrize(("batch", "backend"), [(2, "auto"), (4, "auto"), (4, "numpy")])
def test_a_loss_that_is_not_finite_keeps_the_last_good_state(
    batch: int, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    monkeypatch.chdir(tmp_path)
    digits_file(tmp_path)
    settings = Settings(dataset="digits.npz", epochs=4, hidden_dims=(8,), batch_size=64)
    training_run.start(settings, None, "straight", quiet=True, backend=backend)
    kept = {}

    def plan_that_diverges(indices: Indices, settings: Settings, epoch: int) -> Plan:
        plan = plan_epoch(indices, settings, epoch)
        if epoch == 3:
            kept.update({p.name: p.read_bytes() for p in Path("run").iterdir() if p.is_file()})
            plan.betas[batch - 2] = 1e308  # its step ruins the parameters
        return plan

    with monkeypatch.context() as patch:
        patch.setattr(fit, "plan_epoch", plan_that_diverges)
        with pytest.raises(DivergedError, match=rf"epoch 3, batch {batch} of 4: the loss is nan"):
            training_run.start(settings, None, "run", quiet=True, backend=backend)
    assert Path("run/loss.png").exists()  # drawn when the run stopped
    assert kept.pop("report.html") != Path("run/report.html").read_bytes()  # it says so
    assert {name: (Path("run") / name).read_bytes() for name in kept} == kept
    assert epochs_in(tmp_path / "run") == 2
    training_run.resume("run", {}, None, quiet=True, backend=backend)
    assert_the_same(tmp_path / "run", tmp_path / "straight")
    tally("diverging runs", "exit 5, nothing lost")
