"""Rows for every epoch everywhere; on a terminal, one line that moves and never wraps."""

from __future__ import annotations

import io
import pty
import re
import struct
import termios
import time
from contextlib import redirect_stdout
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from npvae.commands.progress import Progress, clock
from npvae.losses import Loss
from npvae.runs.fit import Epoch
from npvae.runs.terminal import PAGE, columns, fitted
from tests.forks import on_a_terminal
from tests.helpers import Said, drawn_lines, run_script, screen


class Terminal(io.StringIO):
    """Stands in for stdout; time passes when a test adds to `now`."""

    tty, now = True, 1000.0

    def isatty(self) -> bool:
        return self.tty

    def train(self, epochs: int = 2, done: int = 0, quiet: bool = False, count: int = 20) -> str:
        """All that is printed while each epoch takes 10 seconds, in `count` batches."""
        before = len(self.getvalue())
        with redirect_stdout(self):
            shown = Progress(epochs, done=done, quiet=quiet)
            for number in range(done + 1, epochs + 1):
                for k in range(1, count + 1):
                    self.now += 10 / count
                    shown.batch(k, count, 543.2 - k)
                shown.epoch(Epoch(number, Loss(283.71, 15.94), Loss(245.12, 14.93), 0.246))
        return self.getvalue()[before:]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    out = Terminal()
    monkeypatch.setattr(time, "monotonic", lambda: out.now)
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    return out


SHOWN: dict[str, dict[str, Any]] = {  # on a terminal with every line that is wiped away later
    "a terminal": {},
    "a narrow terminal": {"COLUMNS": "40"},
    "a dumb terminal, as in a shell inside Emacs": {"TERM": "dumb"},
    "a file": {"tty": False},
    "a file, in a narrow window": {"tty": False, "COLUMNS": "20"},
    "a terminal, quiet": {"quiet": True},
    "a file, quiet": {"tty": False, "quiet": True},
}


def test_what_is_shown_where(
    terminal: Terminal, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {}
    for case, given in SHOWN.items():
        monkeypatch.setenv("COLUMNS", given.get("COLUMNS", "80"))
        monkeypatch.setenv("TERM", given.get("TERM", "xterm"))
        terminal.tty = given.get("tty", True)
        text = terminal.train(quiet=given.get("quiet", False), count=2)
        moves = case in ("a terminal", "a narrow terminal")
        assert bool({"\r", "\033"} & {*text}) is moves
        assert "left" not in "".join(screen(text))
        told[case] = "\n".join(drawn_lines(text)) if moves else text
    said("progress", told)


def test_no_line_is_wider_than_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moving line leaves the last column free: a wrapped line could not be erased."""
    for width in range(30, 90):
        monkeypatch.setenv("COLUMNS", str(width))
        for done in (0, 99_998) if width == 40 else (0,):
            lines = drawn_lines(terminal.train(done + 2, done))
            assert max(map(len, lines)) <= width
            moving = [line for line in lines if re.search(r"\d+/\d+.*\d+:\d\d left", line)]
            assert moving
            assert max(map(len, moving)) < width


def test_numbers_stand_below_their_names(terminal: Terminal) -> None:
    terminal.tty = False
    header, row = terminal.train().splitlines()[:2]
    names = [word.end() for word in re.finditer(r"\b(bce|kl|loss|seconds)\b", header)]
    assert names == [number.end() for number in re.finditer(r"\d+\.\d+", row)]


def test_clearing_leaves_an_empty_line(terminal: Terminal) -> None:
    with redirect_stdout(terminal):
        shown = Progress(3)
        terminal.now += 1
        shown.batch(1, 20, 500.0)
        assert screen(terminal.getvalue())[-1].endswith("0:59 left")
        shown.line.clear()
    assert screen(terminal.getvalue())[-1] == ""


@pytest.mark.parametrize("done", [0, 15])
def test_the_estimate_is_right_when_time_runs_evenly(done: int, terminal: Terminal) -> None:
    """A resumed run counts its own epochs."""
    text = terminal.train(20, done)
    shown = [60 * int(m) + int(s) for m, s in re.findall(r"(\d+):(\d\d) left", text)]
    left = 10 * (20 - done)
    assert len(shown) == 2 * left  # a batch takes half a second
    assert all(abs(eta - (left - 0.5 * k)) <= 0.5 for k, eta in enumerate(shown, start=1))
    assert re.findall(r"(\d+)/20", text)[0] == str(done + 1)


def test_the_line_is_not_drawn_too_often(terminal: Terminal) -> None:
    """A terminal is slower than a batch: 1000 batches in 10 seconds do not print 1000 lines."""
    assert 50 <= terminal.train(1, count=1000).count("left") <= 100


def test_clock() -> None:
    texts = {0: "0:00", 0.4: "0:00", 59.6: "1:00", 65: "1:05", 3599: "59:59", 3600: "1:00:00"}
    texts |= {360_061: "100:01:01", -3: "0:00"}
    assert {seconds: clock(seconds) for seconds in texts} == texts


# ------------------------------------------------------------------ what fits a narrow terminal


LINES = [
    "",
    f"{'  spaces   inside and at the end':40}",
    # Prose is broken between words, and goes on below where it began.
    "data      digits.npz: 200 training and 60 test images, isn't it",
    "this takes python and half a minute of your time, no more",
    "note: python is 3.12.1, it was 3.11.2: the last digits aren't the same",
    # Commands and lines of Python are to be copied.
    "Continue with:  python scripts/train.py --resume 'a run'\"'\"'s place' --epochs 20",
    "  python3 'my scripts/generate.py' --checkpoint 'two words' traverse --index 7",
    "import numpy as np; np.savez('own.npz', images=np.load('a.npy') / 255)",
    "for p in Path('own').rglob('*.png'): Image.fromarray(np.array(Image.open(p))).save(p)",
    "Unpack it first:  python -m zipfile -e own.zip unpacked",
]


def test_prose_is_broken_and_what_can_be_copied_stays_one_line(said: Said) -> None:
    said("lines on 40 columns", {f"{line!r}": fitted(line, 40) for line in LINES})


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--dataset", "no such place"], 3), (["--epochs", "few"], 2)]
)
def test_errors_fit_the_terminal_and_lose_no_word(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    found, seen = on_a_terminal(arguments, tmp_path, 40, "numpy")
    assert found == code
    prose = [line for line in drawn_lines(seen) if "python" not in line]  # commands stay whole
    assert max(map(len, prose)) <= 40
    assert seen.split() == run_script("train.py", *arguments, cwd=tmp_path).stderr.split()


def test_each_stream_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 33, 0, 0))
    with open(ours, "wb"), open(theirs, "w") as narrow:
        assert columns(narrow) == 33
    assert columns(io.StringIO()) == PAGE
