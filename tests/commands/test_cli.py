"""Bad options fail at once and in one line; every way of ending has its exit code."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from npvae.commands import cli
from npvae.core import errors
from npvae.core.option_types import number, sizes, some_of, some_text, whole_number
from npvae.runs import terminal
from tests.forks import SIGNALS, like_a_user, nobody_reads
from tests.helpers import SCRIPTS, Said, Tally, command, of_our_lesson, process, refused, run

# ------------------------------------------------------------------ option types


WORDS = some_of(("shift", "rotate", "flip"))
REFUSED: list[tuple[Callable[[str], Any], str, list[str]]] = [
    (whole_number(1), "whole number", ["0", "-1", "1.0", "", "x", "1e3", str(2**53), "0x10"]),
    (number(0), "not a number", ["nan", "inf", "-inf", "1e999", "", "x", "-0.1", "1,5"]),
    (number(0, above=True), "above 0", ["0", "1e-400"]),  # which is 0 to a computer
    (sizes, "list of sizes", ["", ",", "1,", "0", "1,-2", "1.5", "1 2", f"{2**31}", "\u00b2"]),
    (
        WORDS,
        "is not a selection of shift,rotate,flip",
        ["", ",", "shift,", "shift,shift", "shift flip", "SHIFT", "spin"],
    ),
]


@pytest.mark.parametrize(("parse", "words", "texts"), REFUSED, ids=[row[1] for row in REFUSED])
def test_bad_values_are_refused_by_their_words(
    parse: Callable[[str], Any], words: str, texts: list[str]
) -> None:
    for text in texts:
        with refused(ArgumentTypeError, words, repr(text)):
            parse(text)


def test_bounds_are_kept_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert whole_number(1)("1") == 1
    assert whole_number(0)("0") == 0
    assert number(0)("0") == 0
    assert number(0, above=True)("1e-300") == 1e-300
    assert sizes("512,256,64") == (512, 256, 64)
    assert sizes(f"{2**31 - 1}") == (2**31 - 1,)
    assert WORDS("flip,shift") == ("shift", "flip")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert some_text("~/run") == "/home/somebody/run"
    assert some_text("a~b/run") == "a~b/run"


@pytest.mark.parametrize(
    "line", ["check a.py --hint 4", "check --hint 4 a.py", "--hint 4 check a.py"]
)
def test_an_option_may_stand_between_two_words(line: str) -> None:
    """Python's argparse reads the second of these so from 3.13 on."""
    parser = cli.Parser("")
    for word in "what", "sheet":
        parser.add_argument(word, nargs="?")
    parser.add_argument("--hint", type=int, action="append")
    options = parser.parse_args(line.split())
    assert (options.what, options.sheet, options.hint) == ("check", "a.py", [4])


# ------------------------------------------------------------------ errors and exit codes


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["script.py"])
    with like_a_user():
        yield


def ending(main: Callable[[Sequence[str]], int | None]) -> Any:
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code


def raising(error: BaseException) -> Callable[[Sequence[str]], int | None]:
    def main(arguments: Sequence[str]) -> int:
        raise error

    return main


class Special(errors.DataError):
    pass


CLOSED = ValueError("I/O operation on closed file")
CLOSED.__context__ = MemoryError()  # raised while that was handled
OF_THE_SYSTEM = [
    CLOSED,
    PermissionError(13, "Permission denied", "some/file"),
    OSError(28, "No space left on device"),
    MemoryError("Unable to allocate 7 TiB"),
    ModuleNotFoundError("No module named 'x'", name="x"),
    KeyError("oops"),
]


@of_our_lesson
def test_every_error_has_its_exit_code_and_is_told_without_traceback(
    said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    told = {}
    for error in [*(kind("what\nwhy, where") for kind in [*kinds, Special]), *OF_THE_SYSTEM]:
        code = ending(raising(error))
        out, err = capsys.readouterr()
        assert (out, err[-1]) == ("", "\n")
        told[repr(error)] = f"exit code {code}\n{err[:-1]}"
    said("errors of a command", told)


@of_our_lesson
def test_an_error_is_not_called_a_bug_of_ours_where_the_source_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cli.whose_bug(NameError("y")).startswith("This is a bug in npvae.")
    assert cli.whose_bug(SyntaxError("(")) == "Python cannot read this file."
    monkeypatch.setattr("npvae.losses.kl_divergence", lambda mu, log_var: mu)
    assert cli.whose_bug(NameError("y")).startswith("losses.py differs from")


def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for main, code, where in (
        (raising(KeyError("oops")), 1, "raise error"),
        (cli.command("train"), 3, "no such place"),
    ):
        for debug in ([], ["--debug"]):
            monkeypatch.setattr(sys, "argv", ["train.py", "--dataset", "no such place", *debug])
            assert ending(main) == code
            err = capsys.readouterr().err
            assert err.startswith("Traceback" if debug else "error: ")
            assert where in err or not debug
            assert debug or err.count("\n") <= 4


def test_main_gets_the_arguments_and_returns_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "a", "--b"])
    assert ending(lambda arguments: None if arguments == ["a", "--b"] else 9) == 0
    assert ending(lambda arguments: 0) == 0
    assert ending(lambda arguments: 7) == 7


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Sequence[str]) -> None:
        warnings.showwarning(UserWarning("first\nsecond"), UserWarning, "file.py", 1)

    assert ending(main) == 0
    assert capsys.readouterr().err == "note: first\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux")
@pytest.mark.parametrize(("word", "code"), [("--help", 6), ("--no-such-option", 2)])
def test_help_and_bad_options_on_a_full_disk(word: str, code: int) -> None:
    words = shlex.join(command("gradcheck.py", word))
    done = run(["sh", "-c", f"{words} >/dev/full {'2>/dev/full' if code == 2 else ''}"])
    assert done.returncode == code
    assert done.stderr in ("", "error: the output cannot be written: No space left on device\n")


def test_a_current_folder_that_has_been_removed(tmp_path: Path) -> None:
    words = shlex.join(command("train.py"))
    done = run(["sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && {words}"], cwd=tmp_path)
    assert done.returncode == 6
    assert done.stderr == (
        "error: the current folder was removed.\nChange to another folder, and run this again.\n"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("print('x' * 10**6)", 0),
        ("print('x')", 0),  # still in the buffer when main returns
        ("print('x'); from npvae.core.errors import DataError; raise DataError('what')", 3),
        ("print('x'); raise KeyboardInterrupt", 130),
        ("cli.command('train')(['--help'])", 0),
    ],
)
def test_a_reader_who_has_enough_is_no_error(body: str, code: int) -> None:
    """As in `train.py | head -3`: no message about the pipe, and the code is that of the run."""
    with nobody_reads() as pipe:
        done = process(body, pipe)
    assert (done.returncode, done.stderr) == (code, "error: what\n" if code == 3 else "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as in Linux")
def test_a_checkpoint_without_memory_for_it_says_so_and_keeps_the_old_one(tmp_path: Path) -> None:
    """At some of the limits a buffer cannot grow: it closes itself, and zipfile minds that."""
    body = """
import os, resource
from npvae.commands.cli import _explain
from npvae.model import VAE
used = int(open('/proc/self/statm').read().split()[0]) * 4096
vae, codes = VAE(784, (512,), 20), set()
def save(*_): vae.save('new.npz')
for k in range(40):
    resource.setrlimit(resource.RLIMIT_AS, (used + (k << 19), -1))
    try: save()
    except BaseException as error: codes.add(_explain(error)[0])
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(codes)
"""
    done = run([sys.executable, "-c", body], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{2}\n", "")


# ------------------------------------------------------------------ signals

# What main does, KILL being a signal that it sends itself; its exit code (None: that of the
# signal), what it prints and what it says. In a finalizer Python would print an exception and
# continue. When all is done, the names of the program are gone, so that the last one keeps what it
# needs in its defaults.
SENT = """
class Finalized:
    def __del__(self):
        KILL
        time.sleep(1)
"""
SECOND = """
from npvae.commands import signals
signals.PATIENCE = SECONDS
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
finally:
    print('cleaning up', flush=True)
    time.sleep(0.02)
    KILL
    time.sleep(0.02)
    print('done', flush=True)
"""
LOST = """
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.1)
sys.kept = Slow()
Finalized()
"""
LAST = """
class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), write=os.write):
        kill(process, NUMBER)
        write(1, b'it was there')
sys.kept = Last()
"""
CLEANED = """
warnings.showwarning('before', UserWarning, 'file.py', 1)
try:
    KILL
    time.sleep(9)
except Exception:
    print('swallowed')
finally:
    print('cleaned up')
    warnings.showwarning('a cache that does not work', UserWarning, 'file.py', 1)
"""
TURNED = """
try:
    KILL
    time.sleep(9)
except KeyboardInterrupt as error:
    raise ValueError('a picture that was cut off') from error
"""
ENDS: dict[str, tuple[str, int | None, str, str]] = {
    "at work": ("KILL\ntime.sleep(9)", None, "", ""),
    "at work that cleans up": (CLEANED, None, "cleaned up\n", "note: before\n"),
    "turned into another error": (TURNED, None, "", "Interrupted.\n"),
    "in a finalizer": (f"{SENT}\nFinalized()\ntime.sleep(50)\nprint('not ended')", None, "", ""),
    "a second one": (SECOND.replace("SECONDS", "60"), 130, "cleaning up\ndone\n", ""),
    "a second one that has waited": (SECOND.replace("SECONDS", "0"), 130, "cleaning up\n", ""),
    "lost, and all is done": (f"{SENT}\n{LOST}", 0, "", ""),
    "when all is done": (LAST, 0, "it was there", ""),
}
# Every end with Ctrl-C, and with one of the other signals.
PAIRS = [pair for end in zip(ENDS, cycle(SIGNALS[1:]), strict=False) for pair in (end, (end[0], 2))]


@pytest.mark.parametrize(("end", "number"), PAIRS)
def test_a_command_ends_in_order_whenever_a_signal_comes(
    end: str, number: int, tally: Tally
) -> None:
    body, code, out, err = ENDS[end]
    body = body.replace("KILL", "os.kill(os.getpid(), NUMBER)").replace("NUMBER", str(int(number)))
    done = process(body)
    expected = 128 + number if code is None else code
    assert (done.returncode, done.stdout, done.stderr) == (expected, out, err)
    tally("signals at work, in a finalizer, twice, when all is done", "ended in order")


AT_EACH_LINE = """
import os, signal, sys
from npvae.commands import cli

def main(arguments):
    frame = sys._getframe(1)
    while frame:
        frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(trace)

def trace(frame, event, argument):
    global to_come
    if event == 'line' and frame.f_code.co_filename == cli.__file__:
        to_come -= 1
        if to_come == 0:
            os.kill(os.getpid(), signal.SIGINT)
    return trace

for to_come in range(1, 100):
    child = os.fork()
    if child == 0:
        cli.run(main)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
    if status == 0:
        break
"""


def test_a_signal_that_comes_at_any_line_after_the_work_is_no_traceback(tally: Tally) -> None:
    """One process per line of cli.py that runs after main; exit code 0 means that none is left."""
    done = run([sys.executable, "-c", AT_EACH_LINE])
    *codes, last = done.stdout.split()
    assert (done.returncode, done.stderr) == (0, "")
    assert len(codes) > 5
    assert {*codes} == {str(128 + signal.SIGINT)}
    assert last == "0"
    for _ in codes:
        tally("signals when all is done", "ended at once")


# ------------------------------------------------------------------ what messages name


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({"python": "/venv/bin/python", "python3": "/venv/bin/python3"}, "python"),
        ({"python3": "/venv/bin/python3"}, "python3"),  # as on Debian
        ({"python": "/usr/bin/python", "python3": "/venv/bin/python3"}, "python3"),
        ({"python": "/usr/bin/python"}, "/venv/bin/python"),  # an environment that is not active
        ({}, "/venv/bin/python"),
    ],
)
def test_commands_are_for_the_python_that_runs_this(
    found: dict[str, str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another Python may lack our packages."""
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    monkeypatch.setattr(shutil, "which", found.get)
    assert terminal.command("train.py").startswith(f"{word} ")


WITHOUT = """
import json, runpy, sys
sys.modules[sys.argv[1]] = None  # so Python takes it for missing
for sys.argv in json.load(sys.stdin):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        print(end.code)
"""


@pytest.mark.parametrize(
    ("module", "package", "scripts"),
    [("numpy", "numpy", [script.name for script in SCRIPTS]), ("PIL", "pillow", ["train.py"])],
)
def test_a_missing_package_is_named_with_what_installs_it(
    module: str, package: str, scripts: list[str], tmp_path: Path
) -> None:
    """As in a clone whose packages are not installed yet."""
    needed = {"compare.py": ["a", "b"], "lab.py": ["start"]}
    words = [command(script, *needed.get(script, []))[1:] for script in scripts]
    done = run([sys.executable, "-c", WITHOUT, module], cwd=tmp_path, given=json.dumps(words))
    assert done.stdout.split() == ["2"] * len(scripts)
    why = f"error: the Python package {package} is missing."
    install = f"{shlex.quote(sys.executable)} -m pip install numpy pillow numba"
    told = [f"{why} Install it for this Python with", install]
    assert done.stderr.splitlines() == len(scripts) * told


def test_names_for_the_terminal_are_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show("\33[2J\r\x9b\u202e\u2066\udcff\u2028é\u3000\nnext")
    shown = r"\x1b[2J\r\x9b\u202e\u2066\udcff\u2028" + "é\u3000\nnext\n"
    assert capsys.readouterr().out == shown
