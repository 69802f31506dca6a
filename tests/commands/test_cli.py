"""Bad options fail at once and in one line; every way of ending has its exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from npvae.commands import cli
from npvae.core import errors
from npvae.runs import terminal
from tests.forks import SIGNALS, like_a_user
from tests.helpers import ROOT, SCRIPTS, command, environment, run

NAMES = [script.name for script in SCRIPTS]

# Arguments, and what the line must name.
EVERYWHERE = [
    ("--no-such-option", "--no-such-option"),
    ("--seed -1", "-1"),
    ("--seed x7", "x7"),
    ("--seed 1.5", "1.5"),
    ("--seed 1e3", "1e3"),
    ("--seed 99999999999999999999", "99999999999999999999"),
    ("--seed", "--seed"),
    ("--quiet=yes", "yes"),
    ("--qui", "--qui"),  # no abbreviations: a later option may begin with the same letters
    ("--debu", "--debu"),
    ("surplus-word", "surplus-word"),
    ("--quiet surplus-word", "surplus-word"),
]
TRAIN = [
    ("--epochs 0", "0"),
    ("--epochs -3", "-3"),
    ("--epochs 2.5", "2.5"),
    ("--epochs twenty", "twenty"),
    ("--epochs nan", "nan"),
    ("--epochs", "--epochs"),
    ("--epochs=", "--epochs"),
    ("--epoch 5", "--epoch"),
    ("--epochs 5 6", "6"),
    ("--latent-dim 0", "0"),
    ("--latent-dim 1,2", "1,2"),
    ("--latent 5", "--latent"),
    ("--batch-size 0", "0"),
    ("--batch-size -512", "-512"),
    ("--batch-size 5e2", "5e2"),
    ("--hidden 0", "0"),
    ("--hidden 128,", "128,"),
    ("--hidden 128,,64", "128,,64"),
    ("--hidden 128x64", "128x64"),
    ("--hidden -128", "-128"),
    ("--hidden 12.5", "12.5"),
    ("--learning-rate 0", "0"),
    ("--learning-rate -0.001", "-0.001"),
    ("--learning-rate=-1e-3", "-1e-3"),
    ("--learning-rate nan", "nan"),
    ("--learning-rate inf", "inf"),
    ("--learning-rate fast", "fast"),
    ("--beta -1", "-1"),
    ("--beta NaN", "NaN"),
    ("--beta infinity", "infinity"),
    ("--pictures-every -1", "-1"),
    ("--pictures-every 1.0", "1.0"),
    ("--validation -1", "-1"),
    ("--validation 10%", "10%"),
    ("--out here --resume there", "--resume"),
    ("--resume there --out here", "--out"),
    ("--resume there --preset tuned", "--preset"),
    ("--preset tuned --resume there", "--resume"),
    ("--preset none", "none"),
    ("--preset", "--preset"),
    ("--activation gelu", "gelu"),
    ("--activation ReLU", "ReLU"),
    ("--optimizer lion", "lion"),
    ("--schedule linear", "linear"),
    ("--warmup -1", "-1"),
    ("--warmup inf", "inf"),
    ("--kl-warmup -0.5", "-0.5"),
    ("--kl-warmup slow", "slow"),
    ("--augment spin", "spin"),
    ("--augment shift,spin", "shift,spin"),
    ("--augment shift,shift", "shift,shift"),
    ("--augment shift,", "shift,"),
    ("--augment=", "--augment"),
    ("--augment shift rotate", "rotate"),
    ("--extra-data=", "--extra-data"),
    ("--extra-data", "--extra-data"),
    ("--dataset", "--dataset"),
    ("--data-dir", "--data-dir"),
    ("--out", "--out"),
]

# Runs command lines one after the other; npvae itself may be imported, heavy packages may not.
CHILD = """
import contextlib, io, json, runpy, sys
HEAVY = ("numpy", "numba", "llvmlite", "PIL", "torch")
tried = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in HEAVY:
            tried.append(name)
            raise ImportError(name + " is not wanted here")

sys.meta_path.insert(0, Watch())
results = []
for script, arguments in json.load(sys.stdin):
    tried.clear()
    sys.argv = [script, *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(script, run_name="__main__")
            code = None
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)
    results.append([code, out.getvalue(), err.getvalue(), list(tried)])
print(json.dumps(results))
"""

Result = tuple[Any, str, str, list[str]]  # exit code, stdout, stderr, heavy imports tried


def outcomes(lines: Sequence[tuple[str, str]]) -> list[Result]:
    """What comes of command lines (script, arguments), all in one child process."""
    asked = [[str(ROOT / "scripts" / script), arguments.split()] for script, arguments in lines]
    words = [sys.executable, "-W", "error", "-c", CHILD]
    child = run(words, env=environment(PYTHONIOENCODING="utf-8"), given=json.dumps(asked))
    assert child.returncode == 0, child.stderr
    return [tuple(result) for result in json.loads(child.stdout)]


def test_bad_command_lines_say_what_is_wrong_in_one_line_and_at_once() -> None:
    bad = [(script, *case) for script in NAMES for case in EVERYWHERE]
    bad += [("train.py", *case) for case in TRAIN]
    assert len(bad) > 40
    found = outcomes([(script, arguments) for script, arguments, _ in bad])
    for (script, arguments, named), (code, out, err, heavy) in zip(bad, found, strict=True):
        where = f"{script} {arguments}: {err}"
        assert code == 2, where
        assert out == "", where
        assert err.count("\n") == 1, where
        assert err.endswith("\n"), where
        assert err.startswith(script), where
        assert named in err, where
        assert not heavy, f"{where} imports {heavy}"


def test_odd_values_stay_on_one_line() -> None:
    (code, _, err, _) = outcomes([("train.py", "--epochs a\\nb")])[0]
    assert (code, err.count("\n")) == (2, 1)
    with pytest.raises(SystemExit) as end:
        cli.Parser("test").parse_args(["two\nlines"])
    assert end.value.code == 2


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    for script, (code, out, err, heavy) in zip(
        NAMES, outcomes([(name, "--help") for name in NAMES]), strict=True
    ):
        assert code == 0, script
        assert not heavy, f"{script} imports {heavy}"
        assert err == ""
        assert out.startswith(f"usage: {script}")
        assert "%(" not in out, script
        assert "SUPPRESS" not in out, script


def test_help_of_train_names_every_default() -> None:
    out = outcomes([("train.py", "--help")])[0][1]
    for default in ("20", "10", "128", "512", "0.001", "1", "auto", "runs/"):
        assert re.search(rf"\(default:[^)]*\b{re.escape(default)}", out), default


# ------------------------------------------------------------------ option types


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "", "x", "1e3", str(2**53), "0x10", "None"])
def test_whole_numbers_refuse(text: str) -> None:
    with pytest.raises(Exception, match="whole number") as caught:
        cli.whole_number(1)(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "x", "-0.1", "1,5"])
def test_numbers_refuse(text: str) -> None:
    with pytest.raises(Exception, match="not a number") as caught:
        cli.number(0)(text)
    assert repr(text) in str(caught.value)


def test_bounds_are_kept_to_the_letter() -> None:
    assert cli.whole_number(1)("1") == 1
    assert cli.whole_number(0)("0") == 0
    assert cli.number(0)("0") == 0
    assert cli.number(0, above=True)("1e-300") == 1e-300
    with pytest.raises(Exception, match="above 0"):
        cli.number(0, above=True)("0")
    with pytest.raises(Exception, match="above 0"):
        cli.number(0, above=True)("1e-400")  # is 0 to a computer


def test_layer_sizes() -> None:
    assert cli.sizes("128") == (128,)
    assert cli.sizes("512,256,64") == (512, 256, 64)
    for text in ("", ",", "1,", "0", "1,-2", "1.5", "1 2", "x"):
        with pytest.raises(Exception, match="list of sizes"):
            cli.sizes(text)


def test_some_of_the_known_words_in_the_known_order() -> None:
    parse = cli.some_of(("shift", "rotate", "flip"))
    assert parse("shift") == ("shift",)
    assert parse("flip,shift") == ("shift", "flip")
    for text in ("", ",", "shift,", "shift,shift", "shift flip", "SHIFT", "spin"):
        with pytest.raises(Exception, match="is not some of shift,rotate,flip") as caught:
            parse(text)
        assert repr(text) in str(caught.value)


# ------------------------------------------------------------------ exit codes

EXIT_CODES = {
    "NpvaeError": 1,
    "OptionError": 2,
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


def process(body: str) -> subprocess.CompletedProcess[str]:
    """How a process ends that has such a main; a signal might end this one, and all tests."""
    main = textwrap.indent(textwrap.dedent(body), "    ")
    modules = "import os, signal, time, warnings\nfrom npvae.commands import cli\n"
    return run([sys.executable, "-c", f"{modules}def main(arguments):\n{main}\ncli.run(main)"])


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
        "error: there is not enough memory for this: ask for less.\nUnable to allocate 7 TiB\n"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux")
@pytest.mark.parametrize(("word", "code"), [("--help", 6), ("--no-such-option", 2)])
def test_help_and_bad_options_on_a_full_disk(word: str, code: int) -> None:
    words = " ".join(command("gradcheck.py", word))
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
    gone = tmp_path / "gone"
    words = " ".join(command(script))
    done = run(["sh", "-c", f"mkdir {gone} && cd {gone} && rmdir {gone} && {words}"])
    assert done.returncode == 6
    assert done.stderr == (
        "error: the current folder has been removed.\nGo to one that exists, and call this again.\n"
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
    """Another one may lack our packages."""
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    monkeypatch.setattr(shutil, "which", found.get)
    assert terminal.command("train.py").startswith(f"{word} ")


def test_a_missing_package_is_named_with_what_installs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ending(raising(ModuleNotFoundError("No module named 'PIL'", name="PIL"))) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: the Python package pillow is missing. Install it for this Python with"
    assert second.endswith(" -m pip install numpy pillow numba")
    assert ending(raising(ModuleNotFoundError("No module named 'x'", name="x"))) == 1


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
    assert cli.some_text("~/run") == "/home/somebody/run"
    assert cli.some_text("a~b/run") == "a~b/run"


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
