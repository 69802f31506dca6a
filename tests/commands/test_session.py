"""A script that runs inside a session (IPython, runpy, python -i) leaves it as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import like_a_user
from tests.helpers import ROOT, digits_file, environment, run

SCRIPTS = str(ROOT / "scripts")

# A session: `call` runs a script as %run does and returns its exit code, `call_main` is for a main
# of its own, and `state` is what a command may change.
SESSION = f"""
import os, runpy, signal, sys, time, warnings
from npvae.commands import cli
from npvae.runs.launcher import SIGNALS

signal.signal(signal.SIGTERM, lambda *_: print("the session got SIGTERM"))

def call(script, *arguments):
    sys.argv = [f"{SCRIPTS}/{{script}}", *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code

library = {{"__name__": "a_library", "cli": cli}}
exec("def run(main): cli.run(main)", library)

def call_main(main):
    try:
        library["run"](main)
    except SystemExit as end:
        return end.code

def state():
    numbers = *SIGNALS, signal.SIGALRM
    streams = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr)]
    hooks = warnings.showwarning, sys.unraisablehook, sys.excepthook, warnings.filters[:]
    handlers = [signal.getsignal(number) for number in numbers]
    timer = signal.getitimer(signal.ITIMER_REAL)
    return handlers, timer, streams, hooks, dict(os.environ), os.getcwd(), sys.path[:]

before = state()
"""


@pytest.fixture(autouse=True)
def signals_count() -> Iterator[None]:
    with like_a_user():
        yield


def session(body: str, folder: Path, *flags: str) -> str:
    """The output of such a session; the body raises an error if something is wrong."""
    done = run([sys.executable, *flags, "-c", SESSION + body], cwd=folder, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("thread", ["main", "another"])
def test_the_session_is_as_it_was(thread: str, tmp_path: Path) -> None:
    """Whether a command succeeds or ends with an error."""
    digits_file(tmp_path)
    calls = """
def calls():
    small = ["--dataset", "digits.npz", "--epochs", "1", "--hidden", "8"]
    assert call("train.py", *small, "--out", "run") == 0
    assert call("evaluate.py", "--checkpoint", "run", "--samples", "2") == 0
    assert call("generate.py", "--checkpoint", "run", "--quiet") == 0
    assert call("gradcheck.py", "--no-such-option") == 2
    assert call("train.py", "--dataset", "nothing.npz") == 3
"""
    how = "import threading\nthread = threading.Thread(target=calls)\nthread.start(); thread.join()"
    session(
        f"{calls}\n{'calls()' if thread == 'main' else how}\n"
        "assert state() == before, (state(), before)\n"
        "assert os.path.exists('run/images/prior-001.png')\n",
        tmp_path,
    )


def test_ctrl_c_ends_the_command_and_then_works_in_the_session(tmp_path: Path) -> None:
    out = session(
        """
def main(arguments):
    os.environ["OPENBLAS_NUM_THREADS"] = "7"
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(50)

for _ in range(2):
    assert call_main(main) == 130
    assert state() == before
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(50)
except KeyboardInterrupt:
    print("Ctrl-C works")
""",
        tmp_path,
    )
    assert out == "Ctrl-C works\n"


@pytest.mark.parametrize(
    ("patience", "out"), [(60, "cleaning up\ndone\n"), (0, "cleaning up\n")], ids=["early", "late"]
)
def test_no_signal_ends_the_session(patience: int, out: str, tmp_path: Path) -> None:
    """A second one cuts the command short if the first did not help; the session gets SIGTERM."""
    found = session(
        f"""
from npvae.commands import signals
signals.PATIENCE = {patience}

def main(arguments):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(50)
    finally:
        print("cleaning up")
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        print("done")

assert call_main(main) == 130
assert state() == before
""",
        tmp_path,
    )
    assert found == f"{out}the session got SIGTERM\n"


def test_an_alarm_that_the_session_has_set_still_comes(tmp_path: Path) -> None:
    """Also if the command has needed the alarm itself, for a signal in a finalizer."""
    session(
        """
signal.signal(signal.SIGALRM, lambda *_: print("the session's alarm"))
signal.setitimer(signal.ITIMER_REAL, 500)
before = state()

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

def main(arguments):
    Finalized()
    time.sleep(50)

for code, called in {0: lambda arguments: 0, 130: main}.items():
    assert call_main(called) == code
    assert signal.getsignal(signal.SIGALRM) is before[0][-1]
    assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
""",
        tmp_path,
    )


def test_a_signal_between_the_command_and_the_session_is_for_the_session(tmp_path: Path) -> None:
    out = session(
        """
def flush(code, alone):
    signals.over = True
    os.kill(os.getpid(), signal.SIGINT)
    return code

signals = cli.Signals(alone=False)
cli.Signals, cli._flush = lambda alone: signals, flush
try:
    call_main(lambda arguments: 0)
except KeyboardInterrupt:
    print("Ctrl-C")
assert state() == before
""",
        tmp_path,
    )
    assert out == "Ctrl-C\n"


def test_each_command_of_a_session_shows_its_notes(tmp_path: Path) -> None:
    """Python shows a warning once for each line of a program, and a session is one program."""
    out = session(
        "def main(arguments):\n    warnings.warn('drawn digits instead')\n"
        "for _ in range(2):\n    call_main(main)\n",
        tmp_path,
        "-W",
        "default",
    )
    assert out == 2 * "note: drawn digits instead\n"


def test_python_i_goes_on_after_the_script(tmp_path: Path) -> None:
    words = [sys.executable, "-i", "-q", f"{SCRIPTS}/gradcheck.py", "--no-such-option"]
    given = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    done = run(words, cwd=tmp_path, given=given)
    assert done.returncode == 0
    assert "True" in done.stdout
