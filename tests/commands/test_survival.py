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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from npvae.commands import run_pictures, training_run
from npvae.core.errors import DivergedError, OutputError
from npvae.datasets.minibatches import Indices
from npvae.runs import fit
from npvae.runs.environment import versions
from npvae.runs.run_directory import open_run
from npvae.settings import Settings
from npvae.storage import checkpoint
from npvae.training import Plan, plan_epoch
from tests.forks import SIGNALS, Ending, Forks, interrupted, like_a_user
from tests.helpers import (
    HANGS_AFTER,
    ROOT,
    Tally,
    assert_same_run,
    command,
    digits,
    digits_file,
    environment,
    resume,
    rows,
    run,
    run_script,
    save_dataset,
    unchanged,
    untimed,
)

TRAIN = str(ROOT / "scripts" / "train.py")
EPOCHS = 3
SETTINGS = Settings("digits.npz", epochs=EPOCHS, hidden_dims=(8,), batch_size=64, validation=20)
RUN = SETTINGS.words()  # the same as options
STRAIGHT = Path("straight")  # such a run that nothing interrupts
STATES = ("last.npz", "best.npz")  # the first one that is there counts
NAMES = {"run.json", "metrics.csv", *STATES, "loss.png", ".lock", "images", "report.html"}
NAMES |= {"samples.gif", "explorer.html", "epoch1.npz", "epoch2.npz"}


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """They run in a folder with a space and an umlaut in its name."""
    home = tmp_path_factory.mktemp("ein Übungs raum")
    digits_file(home)
    with closing(Forks(home)) as forks:
        yield forks


@pytest.fixture(scope="module")
def seconds(forks: Forks) -> float:
    """How long the run in STRAIGHT took, or one before it: the shortest, so signals come in it."""
    times = []
    for out in ("warm up", STRAIGHT):
        begun = time.monotonic()
        ending = forks.run([*RUN, "--out", str(out)])
        times.append(time.monotonic() - begun)
        assert (ending.code, ending.err) == (0, "")
    return min(times)


@pytest.fixture(autouse=True)
def place(forks: Forks, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(forks.folder)
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")
    with like_a_user():
        yield


def seeds(count: int, slow: int) -> list[Any]:
    """So many seeds, and more for the slow tier."""
    more = range(count, count + slow)
    return [*range(count), *(pytest.param(seed, marks=pytest.mark.slow) for seed in more)]


def assert_the_same(out: str | Path, straight: Path = STRAIGHT) -> None:
    """Both runs left the same files, byte for byte, except for the seconds."""
    assert_same_run(out, straight)
    for name in ("loss.png", "samples.gif", "explorer.html"):  # the last with models of all epochs
        assert Path(out, name).read_bytes() == (straight / name).read_bytes(), name
    assert all(float(row["seconds"] or 0) >= 0 for row in rows(Path(out, "metrics.csv")))


def epochs_in(out: str) -> int:
    """The number of epochs in a folder, 0 without a checkpoint. Its files must be consistent."""
    folder = Path(out)
    if not folder.exists():
        return 0
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    assert names <= NAMES
    states = [folder / name for name in STATES if name in names]
    done = int(checkpoint.load(states[0])[0]["epoch"]) if states else 0
    if "metrics.csv" in names:
        kept = rows(folder / "metrics.csv")
        assert [int(row["epoch"]) for row in kept] == list(range(1, len(kept) + 1))
        assert all(float(value or 0) >= 0 for row in kept for value in row.values())
        assert len(kept) in (done, done - 1)
    return done


def epochs_printed(out: str) -> int:
    """The last epoch whose row was printed."""
    printed = re.findall(rf"^ *(\d+)/{EPOCHS} ", out, re.MULTILINE)
    return int(printed[-1]) if printed else 0


def suggested(text: str, by: str = TRAIN) -> list[str]:
    """The arguments of the command after the words "Continue with:", split as a shell does it."""
    found = re.search(r"Continue with: +python (.*)", text)
    assert found, text
    script, *arguments = shlex.split(found[1])
    assert script == by
    return arguments


# ------------------------------------------------------------------ kill -9, Ctrl-C, kill


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_kill_9_loses_no_finished_epoch_and_changes_nothing(
    kills: int, forks: Forks, seconds: float, tally: Tally
) -> None:
    """Each run is started, killed later and later, and resumed until it is done."""
    count = seed = 0
    while count < kills:
        seed += 1
        dice, out, before, most = random.Random(seed), f"killed {kills} {seed}", 0, seconds
        while before < EPOCHS:
            arguments = ["--resume", out] if before else [*RUN, "--out", out]
            ending = forks.run(arguments, signal.SIGKILL, dice.uniform(0, most))
            done, most = epochs_in(out), 1.2 * most
            assert ending.err == "", f"seed {seed}"
            assert done >= max(before, epochs_printed(ending.out)), f"seed {seed} loses an epoch"
            assert ending.code == -signal.SIGKILL or (ending.code, done) == (0, EPOCHS)
            if ending.code:
                count += 1
                tally("kill -9 while training", "no finished epoch lost")
            before = done
        if ending.code:  # killed after its last checkpoint, perhaps before metrics.csv
            refused = forks.run(["--resume", out])
            assert refused.code == 2
            assert f"error: the run has {EPOCHS} epochs already" in refused.err
        assert_the_same(out)
        tally("runs killed until they were done", "same bytes as never killed")


def what_came_of(ending: Ending, number: int, out: str, forks: Forks) -> str:
    """Of a signal: the files are right, and the command in the message resumes the run."""
    if ending.code not in (0, 128 + number) and not Path(out).exists():
        assert ending.code in (-number, 99) or "KeyboardInterrupt" in ending.err
        assert "cli.run" not in ending.err
        return "before the script began"
    if ending.code == 0:
        lost = number == signal.SIGINT and bool(re.search(r"\n *KeyboardInterrupt", ending.err))
        assert lost or ending.err == ""
        assert "scripts/train.py" not in ending.err
        assert_the_same(out)
        return "lost by Python before the script began" if lost else "done before it came"
    assert ending.code == 128 + number
    assert not re.search("Traceback|ignored", ending.err)
    assert ending.err.count("\n") <= 4
    done = epochs_in(out)
    if done == EPOCHS:
        assert ending.err == "" or "complete" in ending.err
    elif done:
        assert f"after epoch {done} " in ending.err
        assert forks.run(suggested(ending.err)).code == 0
        assert not list(Path(out).rglob("*.tmp"))
    else:
        alone = "", "Interrupted.\n"  # the latter if a library turned it into another error
        assert ending.err in alone or "same command" in ending.err
        assert forks.run([*RUN, "--out", out])[::2] == (0, "")
    assert_the_same(out)
    return "same bytes after resuming"


@pytest.mark.parametrize("seed", seeds(6, 36))
def test_signals_end_it_at_once_and_the_message_says_how_to_continue(
    seed: int, forks: Forks, seconds: float, tally: Tally
) -> None:
    number, out = SIGNALS[seed % len(SIGNALS)], f"stopped {seed}"
    ending = forks.run([*RUN, "--out", out], number, random.Random(seed).uniform(0, seconds))
    tally(f"{number.name} while training", what_came_of(ending, number, out, forks))


@pytest.mark.parametrize("seed", seeds(2, 12))
def test_signals_from_the_very_start_of_the_process(seed: int, forks: Forks, tally: Tally) -> None:
    """A new process each; the signal comes at any time from the start of Python to the training.

    Before the first line of `cli.run` we do not handle signals. Python then ends in its own way, or
    loses a Ctrl-C in one of its own finalizers, reports that and continues.
    """
    number, out = SIGNALS[seed % len(SIGNALS)], f"early {seed}"
    words = command("train.py", *RUN, "--out", out)
    ending = interrupted(words, Path.cwd(), number, random.Random(seed).uniform(0, 1.5))
    tally(f"{number.name} from the start of Python on", what_came_of(ending, number, out, forks))


@pytest.mark.parametrize("seed", seeds(1, 4))
def test_a_closed_terminal(seed: int, forks: Forks, seconds: float, tally: Tally) -> None:
    """The window is closed: the kernel sends SIGHUP, and nothing can be printed after that."""
    out = f"closed {seed}"
    ours, theirs = pty.openpty()
    words = shlex.join(command("train.py", *RUN, "--out", out))
    child = subprocess.Popen(  # it opens the terminal, which so becomes its own
        ["sh", "-c", f"exec <>{os.ttyname(theirs)} >&0 2>&1; exec {words}"],
        env=environment(TERM="xterm"),
        start_new_session=True,
    )
    seen = b""
    while f"1/{EPOCHS}".encode() not in seen:
        seen += os.read(ours, 65536)
    time.sleep(random.Random(seed).uniform(0, seconds))
    os.close(theirs)
    os.close(ours)
    code = child.wait(timeout=HANGS_AFTER)
    done = epochs_in(out)
    assert done >= 1
    assert code in (0, 128 + signal.SIGHUP)
    if done < EPOCHS:
        assert forks.run(["--resume", out]).code == 0
    assert_the_same(out)
    tally("terminals closed while training", "same bytes after resuming")


def test_a_run_that_ignores_hang_ups_continues() -> None:
    """As under nohup."""
    words = ["nohup", *command("train.py", *RUN, "--out", "nohup")]
    ending = interrupted(words, Path.cwd(), signal.SIGHUP, 0, after="^data ")
    assert (ending.code, ending.err) == (0, "")
    assert_the_same("nohup")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "after", "most", "count"),
    [("empty", "^Compiling", 6, 3), ("full", "^results", 0.5, 6)],
    ids=["compiled", "loaded"],
)
def test_ctrl_c_while_kernels_are_made_ready(
    cache: str, after: str, most: float, count: int, tmp_path: Path, tally: Tally
) -> None:
    """An exception while llvmlite loads a kernel becomes another error."""
    endless = replace(SETTINGS, epochs=9999).words()
    changes = {"NPVAE_BACKEND": "auto", "PYTHONUNBUFFERED": "1"}
    if cache == "full":
        warm = run_script("train.py", *RUN, "--out", "warm", cwd=Path.cwd(), **changes)
        assert warm.returncode == 0
    for seed in range(count):
        if cache == "empty":
            changes["NUMBA_CACHE_DIR"] = str(tmp_path / str(seed))
        words = command("train.py", *endless, "--out", f"{cache} {seed}")
        delay = random.Random(seed).uniform(0, most)
        ending = interrupted(words, Path.cwd(), signal.SIGINT, delay, after=after, **changes)
        assert ending.code == 130, f"seed {seed}: {ending}"
        assert ending.err.startswith("Interrupted."), f"seed {seed}: {ending}"
        assert ending.err.count("\n") <= 2, f"seed {seed}: {ending}"
        tally(f"SIGINT, kernels are not ready, cache {cache}", "ended at once")


# ------------------------------------------------------------------ disks


def test_a_full_disk_keeps_the_last_epoch_and_the_message_says_how_to_continue(
    forks: Forks, tally: Tally
) -> None:
    """A limit on file sizes stands in for a full disk: pictures fit, the checkpoint does not.

    It goes on from another folder, too.
    """
    assert forks.run([*replace(SETTINGS, epochs=2).words(), "--out", "full disk"]).code == 0
    last = Path("full disk", "last.npz").absolute()
    before = last.read_bytes()
    words = shlex.join(command("train.py", "--resume", last.parent, "--epochs", str(EPOCHS)))
    done = run(["bash", "-c", f"ulimit -f {len(before) // 1024 - 1}; exec {words}"])
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 4
    assert "best.npz could not be written: File too large" in done.stderr
    assert "after epoch 2 " in done.stderr
    assert last.read_bytes() == before
    Path("elsewhere").mkdir()
    assert forks.run(suggested(done.stderr), folder="elsewhere").code == 0
    assert not list(Path("elsewhere").iterdir())
    assert_the_same(last.parent)
    tally("I/O faults while training", "same bytes after resuming")


# The files in the order in which a run writes them.
EPOCH = ["sampled", "rec", "report", "best", "last", "metrics", "kept"]
LAST = ["sampled", "rec", "loss", "gif", "explorer", "report", "best", "last", "metrics"]
FILES = ["run.json", *EPOCH, *EPOCH, *LAST]
PICTURES = {"sampled", "rec", "report", "loss", "gif", "explorer"}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# Always: best without last is an epoch, too; a kept model, metrics.csv behind last, a page.
SOME = (5, 8, 13, 20)
EACH = [
    pytest.param(n, marks=[] if n in SOME else pytest.mark.slow) for n in range(1, len(FILES) + 1)
]


def cut_short(out: str, which: int, fault: BaseException, settings: Settings = SETTINGS) -> str:
    """Start a run that ends at file number `which`, counted from 1, and return its message.

    An OSError is raised instead of replacing this file, any other error right after that.
    """
    original, left = os.replace, which

    def replaced(source: Any, target: Any) -> None:
        nonlocal left
        left -= 1
        if left or not isinstance(fault, OSError):
            original(source, target)
        if not left:
            raise fault

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replaced)
        patch.setattr(run_pictures, "LOOKS", math.inf)  # a slow machine would draw more often
        with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
            training_run.start(settings, None, out, quiet=True)
    return str(caught.value)


@pytest.mark.parametrize("fault", [FULL, KeyboardInterrupt()], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("which", EACH)
def test_at_whichever_file_a_run_ends_all_files_agree_and_it_goes_on(
    which: int, fault: BaseException, capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    out, full = f"cut {which} {type(fault).__name__}", fault is FULL
    message = cut_short(out, which, fault)
    written = FILES[: which - full]
    done = written.count("last") or written.count("best")
    if full and FILES[which - 1] in PICTURES:
        done += 1  # an epoch is lost only with its checkpoint
    assert epochs_in(out) == done
    if full:
        assert "No space left on device" in message
        assert message.count("\n") <= 3
    else:
        message = capsys.readouterr().err
        assert len(rows(Path(out, "metrics.csv")) if done else []) == done
        assert Path(out, "loss.png").exists() == bool(done)  # although nobody has looked yet
    if done == 0:
        assert "same command" in message or which == 1
        training_run.start(SETTINGS, None, out, quiet=True)
    else:
        (state, *_) = [path for name in STATES if (path := Path(out, name)).exists()]
        assert f"The state after epoch {done} is in {state}" in message
    if 0 < done < EPOCHS:
        assert suggested(message, "scripts/train.py") == ["--resume", out]
        resume(out)
    if done == EPOCHS:
        assert "complete" in message
        open_run(out)[0].close()
    if done == EPOCHS and full:  # its last pictures are missing
        assert Path(out, "last.npz").read_bytes() == (STRAIGHT / "last.npz").read_bytes()
        assert untimed(Path(out, "metrics.csv")) == untimed(STRAIGHT / "metrics.csv")
    else:
        assert_the_same(out)
    what = "I/O faults while training" if full else "Ctrl-C right after a file"
    tally(what, "no epoch lost" if full and done == EPOCHS else "same bytes after resuming")


RESUMED: dict[str, tuple[str, dict[str, Any]]] = {  # by the engine, and by the lesson
    "what changes as it trains": (
        "auto",
        {"schedule": "cosine", "warmup": 1.5, "kl_warmup": 2.5, "augment": ("shift", "rotate")},
    ),
    "classes and further images": ("numpy", {"conditional": True, "extra_data": "other.npz"}),
    "another optimizer": ("numpy", {"optimizer": "rmsprop", "activation": "elu"}),
}


@pytest.mark.parametrize(("backend", "settings"), RESUMED.values(), ids=RESUMED)
def test_a_run_in_parts_is_the_run_in_one(
    backend: str, settings: dict[str, Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", backend)
    train, test = digits(120, 40)
    labels = np.arange(160, dtype=np.uint8) % 10
    for name, sign in (("classes.npz", 1), ("other.npz", -1)):
        save_dataset(Path(name), train[:, ::sign], test[:, ::sign], labels[:120], labels[120:])
    chosen = replace(SETTINGS, dataset="classes.npz", pictures_every=0, **settings)
    training_run.start(chosen, None, "whole", quiet=True)
    cut_short("parts", 8, KeyboardInterrupt(), chosen)
    assert 0 < epochs_in("parts") < EPOCHS
    resume("parts")
    assert_same_run("parts", "whole")


def test_a_run_whose_pictures_were_removed_continues() -> None:
    training_run.start(replace(SETTINGS, epochs=2), None, "no pictures", quiet=True)
    shutil.rmtree("no pictures/images")
    resume("no pictures", epochs=EPOCHS)
    picture = f"images/rec_epoch{EPOCHS}.png"
    assert Path("no pictures", picture).read_bytes() == (STRAIGHT / picture).read_bytes()


# ------------------------------------------------------------------ folders


PLAIN_USER = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
NO_HOME = {"HOME": "/proc", "XDG_CACHE_HOME": ""}
modes_count = pytest.mark.skipif(
    bool(PLAIN_USER) and not shutil.which("setpriv"), reason="root may write to every folder"
)


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
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, tally: Tally) -> None:
    locked = tmp_path / "locked"
    shutil.copytree(STRAIGHT, locked / "mine")
    (digits_file(locked).with_name("file")).touch()
    closed = unchanged(locked), read_only(locked, locked / "mine", locked / "mine" / "images")
    with closing(Forks(tmp_path, ROOT, PLAIN_USER, **NO_HOME)) as forks, closed[0], closed[1]:
        for words, named in (
            (RUN, "runs"),
            ([*RUN, "--out", "new"], "new"),
            ([*RUN, "--out", "file/below"], "file"),
            ([*RUN, "--out", "/proc/run"], "/proc/run"),
            (["--resume", "mine", "--epochs", "9"], "mine"),
        ):
            ending = forks.run(words, folder="locked")
            assert ending.code == 6, ending.err
            assert re.match(f"error: .*{named}", ending.err)
            assert 2 <= ending.err.count("\n") <= 4
            assert re.search("--out|copy it|permissions", ending.err)
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
    changes = {"NPVAE_BACKEND": backend, "PYTHONPATH": str(source), **NO_HOME}
    changes["PYTHONDONTWRITEBYTECODE"] = "1" if backend == "auto" else ""
    words = [*PLAIN_USER, sys.executable, str(source / "scripts" / "train.py"), *RUN]
    with read_only(source, *(path for path in source.rglob("*") if path.is_dir())):
        done = run(words, cwd=work, env=environment(**changes))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") <= 1
    assert not list(source.rglob("__pycache__"))
    assert epochs_in(str(work / "runs" / "digits-z10-001")) == EPOCHS


def test_the_same_command_twice_uses_two_folders_and_a_used_one_is_refused(
    forks: Forks, tally: Tally
) -> None:
    for number in (1, 2):
        folder = f"runs/digits-z10-00{number}"
        ending = forks.run(RUN)
        assert (ending.code, ending.err) == (0, "")
        assert folder in ending.out
        assert_the_same(folder)
        tally("the same command again", "a folder of its own")
    with unchanged(STRAIGHT):
        assert forks.run([*RUN, "--seed", "1", "--out", str(STRAIGHT)]).code == 6
    tally("the same command again", "refused, nothing touched")


# ------------------------------------------------------------------ another place, another machine


def test_odd_names_of_folders(forks: Forks) -> None:
    """The end of this one is not valid text; file systems accept it."""
    name = "-dash Überläufer, o'clock b\udcffad"
    ending = forks.run([*RUN, f"--out={name}"])
    assert (ending.code, ending.err) == (0, "")
    assert_the_same(name)


def test_a_terminal_that_knows_only_ascii() -> None:
    changes = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    changes["PYTHONIOENCODING"] = "ascii"
    done = run_script("train.py", *RUN, "--out", "straßen", cwd=Path.cwd(), **changes)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^results +stra\\[\\\w]+en$", done.stdout, re.MULTILINE)
    assert epochs_in("straßen") == EPOCHS


def test_whatever_may_change_the_last_digits_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a run goes on with other threads, other packages."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    training_run.start(replace(SETTINGS, epochs=1), None, "moved")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    today = versions("numpy")
    assert today["blas"] == "unknown" or re.fullmatch(r"OpenBLAS \w+, \d+ threads?", today["blas"])
    header, arrays = checkpoint.load("moved/last.npz")
    header["versions"] |= {"numpy": "another", "blas": "one more"}
    checkpoint.save("moved/last.npz", header, arrays)
    training_run.resume("moved", {"epochs": 2}, None, quiet=True)  # --quiet does not hide it
    others = [("numpy", "another"), ("blas", "one more"), ("cores", "1")]
    what = "; ".join(f"{name} is {today[name]}, it was {was}" for name, was in others)
    assert capsys.readouterr().err == f"note: last digits may differ: {what}\n"


class Terminal(io.StringIO):
    """Stands in for the stream of a terminal."""

    def isatty(self) -> bool:
        return True


def test_clocks_that_jump_change_nothing_but_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
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
    training_run.start(SETTINGS, None, "clock")
    seen = terminal.getvalue()
    assert "left" in seen
    assert not re.search(r"-\d+(:\d|\.\d\d\s)", seen)
    assert_the_same("clock")
    times = [float(row["seconds"]) for row in rows(Path("clock/metrics.csv"))]
    assert any(time == 0 or time > 100 for time in times)  # so the clocks did jump


# ------------------------------------------------------------------ losses that are not finite


def test_a_learning_rate_that_is_far_too_large(forks: Forks, tally: Tally) -> None:
    ending = forks.run([*RUN, "--learning-rate", "1e6", "--out", "diverged"])
    assert ending.code == 5
    assert re.match(
        r"error: training has diverged in epoch \d, batch \d of 3: the loss is (nan|inf), "
        r"it was [\d.e+]+ before\.\nTry a smaller --learning-rate\.",
        ending.err,
    ), ending.err
    assert ending.err.count("\n") <= 4
    assert not list(Path("diverged").rglob("*.tmp"))
    tally("diverging runs", "exit 5, nothing lost")


@pytest.mark.parametrize(("batch", "backend"), [(2, "auto"), (3, "auto"), (3, "numpy")])
def test_a_loss_that_is_not_finite_keeps_the_last_good_state(
    batch: int, backend: str, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", backend)
    straight = STRAIGHT if backend == "numpy" else Path("by the engine")
    if not straight.exists():
        training_run.start(SETTINGS, None, str(straight), quiet=True)
    run, kept = Path(f"not finite {batch} {backend}"), {}

    def plan_that_diverges(indices: Indices, settings: Settings, epoch: int) -> Plan:
        plan = plan_epoch(indices, settings, epoch)
        if epoch == EPOCHS:
            kept.update({p.name: p.read_bytes() for p in run.iterdir() if p.is_file()})
            plan.betas[batch - 2] = 1e308  # its step ruins the parameters
        return plan

    with monkeypatch.context() as patch:  # there is no other way to let a given batch diverge
        patch.setattr(fit, "plan_epoch", plan_that_diverges)
        with pytest.raises(DivergedError, match=rf"epoch 3, batch {batch} of 3: the loss is nan"):
            training_run.start(SETTINGS, None, str(run), quiet=True)
    assert (run / "loss.png").exists()  # drawn when the run stopped
    assert kept.pop("report.html") != (run / "report.html").read_bytes()  # it says so
    assert {name: (run / name).read_bytes() for name in kept} == kept
    assert epochs_in(str(run)) == 2
    resume(run)
    assert_the_same(run, straight)
    tally("diverging runs", "exit 5, nothing lost")
