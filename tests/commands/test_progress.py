"""Rows for every epoch everywhere; on a terminal, one line that moves and never wraps."""

from __future__ import annotations

import io
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from pathlib import Path
from types import SimpleNamespace

import pytest

from npvae.commands import progress
from npvae.commands.progress import Progress, clock
from npvae.losses import Loss
from npvae.runs.fit import Epoch
from npvae.runs.terminal import PAGE, columns, fitted
from tests.forks import on_a_terminal
from tests.helpers import drawn_lines, run_script, screen

MOVING = re.compile(r"\d+/\d+.*\d+:\d\d left")


class Terminal(io.StringIO):
    """Stands in for stdout, which is a terminal if `tty`."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


class Clock:
    """Stands in for the time module: time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        read = self.read
        self.module = SimpleNamespace(monotonic=read, perf_counter=read, time=read)

    def read(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    told = Clock()
    monkeypatch.setattr(progress, "time", told.module)
    return told


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80, tty: bool = True) -> Terminal:
    out = Terminal(tty)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    return out


def an_epoch(number: int) -> Epoch:
    return Epoch(number, Loss(283.71, 15.94), Loss(245.12, 14.93), 0.246)


def two_epochs(time: Clock, epochs: int = 2, done: int = 0, quiet: bool = False) -> None:
    """Every epoch takes 10 seconds, in 20 batches."""
    shown = Progress(epochs, done=done, quiet=quiet)
    for number in range(done + 1, epochs + 1):
        for k in range(1, 21):
            time.now += 0.5
            shown.batch(k, 20, 543.2 - k)
        shown.epoch(an_epoch(number))


def test_piped_output_is_plain_lines(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    out = terminal(monkeypatch, tty=False)
    two_epochs(time)
    text = out.getvalue()
    assert "\r" not in text
    assert "\033" not in text
    assert text.endswith("\n")
    rows = [line.split() for line in text.splitlines() if "/2" in line]
    assert [row[0] for row in rows] == ["1/2", "2/2"]
    numbers = [float(word) for word in rows[0][1:]]
    # train and test bce, kl, loss; seconds
    assert numbers == [283.71, 15.94, 299.65, 245.12, 14.93, 260.05, 0.25]


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    """As in a shell inside Emacs, which would show the escape codes."""
    out = terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    two_epochs(time)
    assert "1/2" in out.getvalue()
    assert not {"\r", "\033"} & set(out.getvalue())


def test_a_narrow_window_does_not_narrow_what_is_piped(
    monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    out = terminal(monkeypatch, columns=20, tty=False)
    two_epochs(time)
    assert all(number in out.getvalue() for number in ("283.71", "15.94", "245.12", "14.93"))


def test_nothing_is_printed_when_quiet(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    for tty in (True, False):
        out = terminal(monkeypatch, tty=tty)
        two_epochs(time, quiet=True)
        assert out.getvalue() == ""


@pytest.mark.parametrize("columns", [80, 79, 78, 77, 76, 75, 74, 73, 72, 60, 48, 40, 30])
def test_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    """The moving line leaves the last column free: a wrapped line could not be erased."""
    out = terminal(monkeypatch, columns)
    two_epochs(time)
    lines = drawn_lines(out.getvalue())
    assert max(map(len, lines)) <= columns
    moving = [line for line in lines if MOVING.search(line)]
    assert moving
    assert max(map(len, moving)) < columns


def test_numbers_stand_below_their_names(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    out = terminal(monkeypatch, tty=False)
    two_epochs(time)
    header, row = out.getvalue().splitlines()[:2]
    names = [word.end() for word in re.finditer(r"\b(bce|kl|loss|seconds)\b", header)]
    numbers = [number.end() for number in re.finditer(r"\d+\.\d+", row)]
    assert names == numbers


def test_no_line_is_too_wide_in_long_runs(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    out = terminal(monkeypatch, 40)
    two_epochs(time, epochs=100_000, done=99_998)
    assert max(map(len, drawn_lines(out.getvalue()))) < 40


@pytest.mark.parametrize("columns", [80, 40])
def test_the_moving_line_is_gone_in_the_end(
    columns: int, monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    out = terminal(monkeypatch, columns)
    two_epochs(time)
    assert not any("left" in line for line in screen(out.getvalue()))
    rows = [line for line in screen(out.getvalue()) if re.match(r"\s*[12]/2 ", line)]
    assert len(rows) == 2
    assert all(f"{number}/2" in row for number, row in enumerate(rows, start=1))
    assert all("260.05" in row for row in rows)  # the test loss is there, however narrow it is


def test_clearing_leaves_an_empty_line(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    out = terminal(monkeypatch)
    shown = Progress(3)
    time.now += 1
    shown.batch(1, 20, 500.0)
    assert MOVING.search(screen(out.getvalue())[-1])
    shown.line.clear()
    assert screen(out.getvalue())[-1] == ""


def left(out: Terminal) -> list[int]:
    """The estimates that were shown, in seconds."""
    found = re.findall(r"(?:(\d+):)?(\d+):(\d\d) left", out.getvalue())
    return [
        3600 * int(hours or 0) + 60 * int(minutes) + int(rest) for hours, minutes, rest in found
    ]


def test_the_estimate_is_right_when_time_runs_evenly(
    monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    out = terminal(monkeypatch)
    two_epochs(time, epochs=20)
    shown = left(out)
    assert len(shown) == 400  # a batch takes half a second
    # 20 epochs of 10 seconds; after k batches of half a second 200 - k / 2 are left.
    assert all(abs(eta - (200 - 0.5 * k)) <= 0.5 for k, eta in enumerate(shown, start=1))


def test_the_estimate_of_a_resumed_run_counts_its_own_epochs(
    monkeypatch: pytest.MonkeyPatch, time: Clock
) -> None:
    out = terminal(monkeypatch)
    two_epochs(time, epochs=20, done=15)
    shown = left(out)
    assert all(abs(eta - (50 - 0.5 * k)) <= 0.5 for k, eta in enumerate(shown, start=1))
    assert "16/20" in out.getvalue()
    assert "15/20" not in out.getvalue()


def test_the_line_is_not_drawn_too_often(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    """A terminal is slower than a batch: 1000 batches in a second do not print 1000 lines."""
    out = terminal(monkeypatch)
    shown = Progress(3)
    for k in range(1, 1001):
        time.now += 0.001
        shown.batch(k, 1000, 500.0)
    assert 5 <= out.getvalue().count("left") <= 20


def test_what_the_line_says(monkeypatch: pytest.MonkeyPatch, time: Clock) -> None:
    out = terminal(monkeypatch)
    shown = Progress(7)
    time.now += 1
    shown.batch(10, 20, 432.19)
    line = screen(out.getvalue())[-1]
    assert "1/7" in line
    assert "432.2" in line
    # Half an epoch took a second, six and a half are left.
    assert "0:13 left" in line
    filled, empty = line.count("#"), line.count(".") - 1  # one point is that of the loss
    assert filled == empty > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (65, "1:05"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (360_061, "100:01:01"),
        (-3, "0:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "code", "columns"),
    [
        (["--dataset", "no such place"], 3, 40),
        (["--resume", "nowhere"], 4, 100),
        (["--epochs", "few"], 2, 40),
    ],
)
def test_errors_fit_the_terminal_and_lose_no_word(
    arguments: list[str], code: int, columns: int, tmp_path: Path
) -> None:
    found, seen = on_a_terminal(arguments, tmp_path, columns, "numpy")
    assert found == code
    prose = [line for line in drawn_lines(seen) if "python" not in line]  # commands stay whole
    assert max(map(len, prose)) <= columns
    assert seen.split() == run_script("train.py", *arguments, cwd=tmp_path).stderr.split()


def test_each_stream_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 33, 0, 0))
    with open(ours, "wb"), open(theirs, "w") as narrow:
        assert columns(narrow) == 33
    assert columns(io.StringIO()) == PAGE


def test_a_word_is_no_command() -> None:
    line = "note: python is 3.12.1, it was 3.11.2: the bits of /my python stuff/ aren't the same"
    assert fitted(line, 40).split() == line.split()


@pytest.mark.parametrize(
    "line",
    [
        "import numpy as np; np.savez('own.npz', images=np.load('a.npy') / 255)",
        "for p in Path('own').rglob('*.png'): Image.fromarray(np.array(Image.open(p))).save(p)",
        "Unpack it first:  python -m zipfile -e own.zip unpacked",
    ],
)
def test_lines_to_be_copied_stay_whole(line: str) -> None:
    assert fitted(line, 40) == line
