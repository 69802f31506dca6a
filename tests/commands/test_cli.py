"""Bad options fail at once and in one line; every way of ending has its exit code."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from npvae.commands import cli
from npvae.core import errors
from npvae.core.option_types import number, sizes, some_of, some_text, whole_number
from npvae.runs import terminal
from tests.forks import SIGNALS, like_a_user
from tests.helpers import SCRIPTS, command, of_our_lesson, process, refused, run

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


def test_bounds_are_kept_to_the_letter() -> None:
    assert whole_number(1)("1") == 1
    assert whole_number(0)("0") == 0
    assert number(0)("0") == 0
    assert number(0, above=True)("1e-300") == 1e-300
    assert sizes("512,256,64") == (512, 256, 64)
    assert sizes(f"{2**31 - 1}") == (2**31 - 1,)
    assert WORDS("shift") == ("shift",)
    assert WORDS("flip,shift") == ("shift", "flip")


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


# ------------------------------------------------------------------ exit codes

EXIT_CODES = {
    "NpvaeError": 1,
    "OptionError": 2,
    "RankError": 1,
    "DataError": 3,
    "CheckpointError": 4,
    "DivergedError": 5,
    "OutputError": 6,
}


@pytest.fixture(autouse=True)
def signals_count() -> Iterator[None]:
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


@pytest.fixture(autouse=True)
def arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py"])


def test_every_error_has_its_exit_code_and_is_told_without_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds: dict[str, type[errors.NpvaeError]] = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type)
    }
    assert {name: kind.exit_code for name, kind in kinds.items()} == EXIT_CODES
    for name, kind in kinds.items():
        assert ending(raising(kind("what\nwhy, where"))) == EXIT_CODES[name]
        out, err = capsys.readouterr()
        assert (out, err) == ("", "error: what\nwhy, where\n")


def test_errors_of_a_kind_inherit_its_code() -> None:
    class Special(errors.DataError):
        pass

    assert ending(raising(Special("x"))) == 3


def test_a_bug_of_ours_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(raising(KeyError("oops"))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "KeyError" in err
    assert "oops" in err
    assert "bug" in err
    assert "--debug" in err
    assert err.count("\n") <= 4


@pytest.mark.parametrize("error", [KeyError("oops"), errors.DataError("what")])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "--debug"])
    assert ending(raising(error)) == getattr(error, "exit_code", 1)
    _, err = capsys.readouterr()
    assert err.startswith("Traceback")
    assert "raise error" in err


def test_a_traceback_is_what_the_user_sees_with_debug_and_not_without(tmp_path: Path) -> None:
    for debug in ([], ["--debug"]):
        arguments = ["--dataset", "no such place", *debug]
        done = run(command("train.py", *arguments), cwd=tmp_path)
        assert done.returncode == 3
        assert ("Traceback" in done.stderr) is bool(debug)
        assert "no such place" in done.stderr
        assert debug or done.stderr.count("\n") <= 4


def test_errors_of_the_system_say_of_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(raising(PermissionError(13, "Permission denied", "some/file"))) == 6
    assert capsys.readouterr().err == (
        "error: some/file cannot be read or written: Permission denied\n"
    )
    assert ending(raising(OSError(28, "No space left on device"))) == 6
    assert capsys.readouterr().err == (
        "error: the output cannot be written: No space left on device\n"
    )


def test_too_little_memory_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(raising(MemoryError("Unable to allocate 7 TiB"))) == 2
    assert capsys.readouterr().err == (
        "error: there is not enough memory for this.\nUnable to allocate 7 TiB\n"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux")
@pytest.mark.parametrize(("word", "code"), [("--help", 6), ("--no-such-option", 2)])
def test_help_and_bad_options_on_a_full_disk(word: str, code: int) -> None:
    words = shlex.join(command("gradcheck.py", word))
    done = run(["sh", "-c", f"{words} >/dev/full {'2>/dev/full' if code == 2 else ''}"])
    assert done.returncode == code
    assert done.stderr in ("", "error: the output cannot be written: No space left on device\n")


def test_help_for_a_reader_who_has_enough() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(command("train.py", "--help"), stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "generate.py"])
def test_a_current_folder_that_has_been_removed(script: str, tmp_path: Path) -> None:
    words = shlex.join(command(script))
    done = run(["sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && {words}"], cwd=tmp_path)
    assert done.returncode == 6
    assert done.stderr == (
        "error: the current folder was removed.\nChange to another folder, and run this again.\n"
    )


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


@pytest.mark.parametrize(
    ("script", "module", "package"),
    [*((script.name, "numpy", "numpy") for script in SCRIPTS), ("train.py", "PIL", "pillow")],
)
def test_a_missing_package_is_named_with_what_installs_it(
    script: str, module: str, package: str, tmp_path: Path
) -> None:
    """As in a clone whose packages are not installed yet."""
    needed = {"compare.py": ["a", "b"], "lab.py": ["start"]}
    words = command(script, *needed.get(script, []))[1:]
    program = (
        "import runpy, sys\n"
        f"sys.modules[{module!r}] = None\n"  # so Python takes it for missing
        f"sys.argv = {words!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = run([sys.executable, "-c", program], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    why = f"error: the Python package {package} is missing."
    assert first == f"{why} Install it for this Python with"
    assert second.endswith(" -m pip install numpy pillow numba")


def test_an_unknown_module_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(raising(ModuleNotFoundError("No module named 'x'", name="x"))) == 1
    assert "bug" in capsys.readouterr().err


def test_codes_of_success() -> None:
    assert ending(lambda arguments: None) == 0
    assert ending(lambda arguments: 0) == 0
    assert ending(lambda arguments: 1) == 1


def test_main_gets_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", "a", "--b"])
    seen: list[str] = []
    ending(lambda arguments: seen.extend(arguments))
    assert seen == ["a", "--b"]


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_have_their_codes(number: int) -> None:
    done = process(f"os.kill(os.getpid(), {int(number)})\ntime.sleep(9)")
    assert (done.returncode, done.stderr) == (128 + number, "")


def test_a_killed_script_cleans_up() -> None:
    """SIGTERM passes through `finally`, so that no temporary file is left."""
    done = process(
        """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        except Exception:
            print("swallowed")
        finally:
            print("cleaned up")
        """
    )
    assert (done.returncode, done.stdout) == (143, "cleaned up\n")


def test_an_error_made_of_a_signal_has_the_code_of_the_signal() -> None:
    done = process(
        """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        except KeyboardInterrupt as error:
            raise ValueError("a picture that was cut off") from error
        """
    )
    assert (done.returncode, done.stderr) == (143, "Interrupted.\n")


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: Sequence[str]) -> None:
        warnings.showwarning(UserWarning("first\nsecond"), UserWarning, "file.py", 1)

    assert ending(main) == 0
    assert capsys.readouterr().err == "note: first\n"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("print('x' * 10**6)", 0),
        ("print('x')", 0),  # still in the buffer when main returns
        ("print('x'); raise DataError('what')", 3),
        ("print('x'); raise KeyboardInterrupt", 130),
    ],
)
def test_a_reader_who_has_enough_is_no_error(body: str, code: int) -> None:
    """As in `train.py | head -3`: no message about the pipe, and the code is that of the run."""
    program = (
        "from npvae.commands import cli\nfrom npvae.core.errors import DataError\n"
        f"def main(arguments):\n    {body}\ncli.run(main)"
    )
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run([sys.executable, "-c", program], stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == code
    assert "pipe" not in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert some_text("~/run") == "/home/somebody/run"
    assert some_text("a~b/run") == "a~b/run"


def test_after_a_signal_nobody_wants_to_know_what_was_cut_off() -> None:
    done = process(
        """
        warnings.showwarning("before", UserWarning, "file.py", 1)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        finally:
            warnings.showwarning("a cache that does not work", UserWarning, "file.py", 1)
        """
    )
    assert (done.returncode, done.stderr) == (143, "note: before\n")


def test_names_for_the_terminal_are_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show("\33[2J\r\x9b\u202e\u2066\udcff\u2028é\u3000\nnext")
    shown = r"\x1b[2J\r\x9b\u202e\u2066\udcff\u2028" + "é\u3000\nnext\n"
    assert capsys.readouterr().out == shown


@of_our_lesson
def test_an_error_is_not_called_a_bug_of_ours_where_the_source_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert cli.whose_bug(NameError("y")).startswith("This is a bug in npvae.")
    assert cli.whose_bug(SyntaxError("(")) == "Python cannot read this file."
    monkeypatch.setattr("npvae.losses.kl_divergence", lambda mu, log_var: mu)
    assert cli.whose_bug(NameError("y")).startswith("losses.py differs from")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as in Linux")
def test_a_checkpoint_without_memory_for_it_says_so_and_keeps_the_old_one(tmp_path: Path) -> None:
    """At some of the limits a buffer cannot grow: it closes itself, and zipfile minds that."""
    body = (
        "import os, resource\nfrom npvae.model import VAE\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "vae, codes = VAE(784, (512,), 20), set()\n"
        "def save(*_): vae.save('new.npz')\n"
        "for k in range(40):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used + (k << 19), -1))\n"
        "    try: save()\n"
        "    except BaseException as error: codes.add(_explain(error)[0])\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
        "print(codes)\n"
    )
    done = run([sys.executable, "-c", f"from npvae.commands.cli import _explain\n{body}"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{2}\n", "")
