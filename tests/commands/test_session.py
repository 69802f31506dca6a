"""A script that runs inside a session (IPython, runpy, python -i) leaves it as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import like_a_user
from tests.helpers import ROOT, digits_file, run

SCRIPTS = str(ROOT / "scripts")

# A session: `call` runs a script as %run does and returns its exit code, `call_main` is for a main
# of its own, and `state` is what a command may change.
SESSION = f"""
import os, runpy, signal, sys, threading, time, warnings
from npvae.commands import cli, signals
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

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(50)

def state():
    numbers = *SIGNALS, signal.SIGALRM
    streams = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr)]
    hooks = warnings.showwarning, sys.unraisablehook, sys.excepthook, warnings.filters[:]
    handlers = [signal.getsignal(number) for number in numbers]
    timer = signal.getitimer(signal.ITIMER_REAL)
    return handlers, timer, streams, hooks, dict(os.environ), os.getcwd(), sys.path[:]

before = state()
"""

COMMANDS = """
def calls(out):
    small = ["--dataset", "digits.npz", "--epochs", "1", "--hidden", "8"]
    assert call("train.py", *small, "--out", out) == 0
    assert call("evaluate.py", "--checkpoint", out, "--samples", "2") == 0
    assert call("generate.py", "--checkpoint", out, "--quiet") == 0
    assert call("gradcheck.py", "--no-such-option") == 2
    assert call("train.py", "--dataset", "nothing.npz") == 3
    assert state() == before, (state(), before)
    assert os.path.exists(f"{out}/images/prior-001.png")
    print(f"as before: {out}", file=told)

told, sys.stdout, sys.stderr = sys.stdout, open(os.devnull, "w"), open(os.devnull, "w")
before = state()
calls("run")
thread = threading.Thread(target=calls, args=["run of a thread"])
thread.start()
thread.join()
"""
CTRL_C = """
def main(arguments):
    os.environ["OPENBLAS_NUM_THREADS"] = "7"
    ctrl_c()

for _ in range(2):
    assert call_main(main) == 130
    assert state() == before
try:
    ctrl_c()
except KeyboardInterrupt:
    print("Ctrl-C works")
"""
SECOND = """
signals.PATIENCE = SECONDS

def main(arguments):
    try:
        ctrl_c()
    finally:
        print("cleaning up")
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        print("done")

assert call_main(main) == 130
assert state() == before
"""
ALARM = """
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
"""
BETWEEN = """
def flush(code, alone):
    its.over = True
    os.kill(os.getpid(), signal.SIGINT)
    return code

its = cli.Signals(alone=False)
cli.Signals, cli._flush = lambda alone: its, flush  # nothing else of the machine happens there
try:
    call_main(lambda arguments: 0)
except KeyboardInterrupt:
    print("Ctrl-C works")
assert state() == before
"""
# Python shows a warning once for each line of a program, and a session is one program.
NOTES = """
warnings.simplefilter("default")
for _ in range(2):
    call_main(lambda arguments: warnings.warn('drawn digits instead'))
"""
SESSIONS: dict[str, tuple[str, str]] = {  # what happens in it, and what it prints
    "commands that succeed and fail, in a thread, too": (
        COMMANDS,
        "as before: run\nas before: run of a thread\n",
    ),
    "Ctrl-C ends the command and then works in the session": (CTRL_C, "Ctrl-C works\n"),
    "a second signal does not end the session, which gets it": (
        SECOND.replace("SECONDS", "60"),
        "cleaning up\ndone\nthe session got SIGTERM\n",
    ),
    "a second signal that has waited cuts the command short": (
        SECOND.replace("SECONDS", "0"),
        "cleaning up\nthe session got SIGTERM\n",
    ),
    "an alarm of the session still comes, though the command needs it": (ALARM, ""),
    "a signal between the command and the session is for the session": (BETWEEN, "Ctrl-C works\n"),
    "each command shows its notes": (NOTES, 2 * "note: drawn digits instead\n"),
}


@pytest.fixture(autouse=True)
def signals_count() -> Iterator[None]:
    with like_a_user():
        yield


@pytest.mark.parametrize(("body", "out"), SESSIONS.values(), ids=SESSIONS)
def test_a_session_is_as_it_was(body: str, out: str, tmp_path: Path) -> None:
    digits_file(tmp_path, 64, 20)
    done = run([sys.executable, "-c", SESSION + body], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if out:
        assert done.stdout + done.stderr == out


def test_python_i_goes_on_after_the_script(tmp_path: Path) -> None:
    words = [sys.executable, "-i", "-q", f"{SCRIPTS}/gradcheck.py", "--no-such-option"]
    given = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    done = run(words, cwd=tmp_path, given=given)
    assert done.returncode == 0
    assert "True" in done.stdout
