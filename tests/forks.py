"""Runs scripts in processes that get a signal or kill -9, or have a narrow terminal.

`Forks` runs them in forks of a process that has imported everything already, which take a fraction
of a second; `interrupted` and `on_a_terminal` start Python anew. Only for systems like Unix.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

from tests.helpers import HANGS_AFTER, ROOT, command, environment

SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)

# Reads [script, arguments, folder, signal, delay] by the line; runs each in a fork of itself.
FORKER = """
import json, os, runpy, signal, sys, time
from npvae import fast, gradcheck
from npvae.commands import cli, evaluation_report, training_run
from npvae.plots import manifold, samples
from npvae.runs import trained_model

fast.why_not(fast.wanted_backend())  # with the engine, imports Numba
cli.is_alone = lambda: True  # as if Python had been started for the script
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
for line in sys.stdin:
    script, arguments, folder, number, delay = json.loads(line)
    process = os.fork()
    if not process:
        for descriptor, name in ((1, "out.txt"), (2, "err.txt")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.chdir(folder)
        sys.argv = [script, *arguments]
        code = 99
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    if number:
        time.sleep(delay)
        os.kill(process, number)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


class Ending(NamedTuple):
    """How a script ended, and what it printed."""

    code: int
    out: str
    err: str


class Forks:
    """Runs scripts again and again in a folder, without starting Python again."""

    def __init__(
        self, folder: Path, program: Path = ROOT, before: Sequence[str] = (), **changes: str
    ) -> None:
        """`before` are words before that of Python, such as setpriv."""
        self.folder, self.program = folder, program
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", FORKER],
            cwd=folder,
            env=environment(**changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        arguments: Sequence[str],
        number: int = 0,
        delay: float = 0,
        script: str = "train.py",
        folder: str = ".",
    ) -> Ending:
        """How it ended, by itself or by a signal after so many seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        path = str(self.program / "scripts" / script)
        order = json.dumps([path, list(arguments), folder, int(number), delay])
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], HANGS_AFTER)[0]:
            self.close()
            raise AssertionError(f"{script} {shlex.join(arguments)} hangs")
        code = int(self.process.stdout.readline())
        out, err = ((self.folder / name).read_text() for name in ("out.txt", "err.txt"))
        return Ending(code, out, err)

    def close(self) -> None:
        """End the process, and a script that may still run in a fork of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def like_a_user() -> Iterator[None]:
    """Signals are not ignored, even if the tests run in the background; restored afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def started(words: Sequence[str], cwd: Path, **changes: str) -> subprocess.Popen[str]:
    """A command line that runs in the folder cwd, its output piped."""
    return subprocess.Popen(
        words,
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupted(
    words: Sequence[str], cwd: Path, number: int, delay: float, after: str = "", **changes: str
) -> Ending:
    """How a command line ends that gets a signal so many seconds after its start.

    Or after a line in which the pattern `after` is found; `out` then lacks what came before.
    """
    child = started(words, cwd, **changes)
    try:
        if after:
            wait_for(child, after)
        time.sleep(delay)
        child.send_signal(number)
        out, err = child.communicate(timeout=HANGS_AFTER)
        return Ending(child.returncode, out, err)
    finally:
        child.kill()


def wait_for(child: subprocess.Popen[str], what: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if re.search(what, line):
            return
    raise AssertionError(f"it never said {what}: {child.communicate()[1]}")


@contextmanager
def nobody_reads() -> Iterator[int]:
    """The end to write to of a pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def on_a_terminal(
    arguments: Sequence[str], cwd: Path, columns: int, backend: str, **changes: str
) -> tuple[int, str]:
    """Exit code of train.py and all that a terminal of so many columns gets to see."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        command("train.py", *arguments),
        cwd=cwd,
        env=environment(TERM="xterm", NPVAE_BACKEND=backend, **changes),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    try:
        with suppress(OSError):  # the other end is closed: this is how Linux says that it is over
            while select.select([ours], [], [], HANGS_AFTER)[0]:
                seen += os.read(ours, 65536)
        return child.wait(timeout=HANGS_AFTER), seen.decode()
    finally:
        child.kill()
        os.close(ours)
