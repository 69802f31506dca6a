"""How commands read their options: help, spellings, hints, and bad command lines.

A bad command line is refused in one line that names the value, and before a heavy import.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from npvae.commands import cli
from npvae.commands.train import parsed
from tests.helpers import ROOT, SCRIPTS, Tally, environment, run

NAMES = [script.name for script in SCRIPTS]

# command_lines.txt has three tables. Bad lines stand by script, separated by |; what the message
# must name is in brackets. What was meant by a line, or is noted about it, stands after it.
TEXT = Path(__file__).with_name("command_lines.txt").read_text(encoding="utf-8")
BAD, MEANT, NOTED = (table.strip().split("\n") for table in TEXT.split("\n\n"))

# Runs command lines one after the other; npvae itself may be imported, heavy packages may not.
CHILD = """
import contextlib, io, json, runpy, sys
HEAVY = ("numba", "llvmlite", "PIL", "torch")
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


def outcomes(lines: Sequence[tuple[str, str]], folder: Path | None = None) -> list[Result]:
    """The results of command lines (script, arguments), all run in one child process."""
    asked = [[str(ROOT / "scripts" / script), arguments.split()] for script, arguments in lines]
    words = [sys.executable, "-W", "error", "-c", CHILD]
    env = environment(PYTHONIOENCODING="utf-8")
    child = run(words, cwd=folder, env=env, given=json.dumps(asked))
    assert child.returncode == 0, child.stderr
    return [tuple(result) for result in json.loads(child.stdout)]


def bad_lines() -> list[tuple[str, str, str]]:
    """Script, arguments, and what the message must name."""
    found = []
    for line in BAD:
        script, _, cases = line.partition(": ")
        for case in cases.split(" | "):
            named = re.search(r"\[(.*)\]", case)
            arguments = re.sub(r"[][]", "", case)
            for name in NAMES if script == "all" else [script]:
                found.append((name, arguments, named[1] if named else ""))
    return found


def test_every_bad_command_line_is_refused_at_once(tally: Tally) -> None:
    lines = bad_lines()
    assert len(set(lines)) == len(lines)
    found = outcomes([(script, arguments) for script, arguments, _ in lines])
    for (script, arguments, named), (code, out, err, heavy) in zip(lines, found, strict=True):
        where = f"{script} {arguments}: {err}"
        assert (code, out, heavy) == (2, "", []), where
        assert re.fullmatch(rf"{script}.*\n", err), where  # one line
        assert named in err, where
        tally("bad command lines", "exit 2, one line, at once")


# ------------------------------------------------------------------ what was meant


def told(table: list[str], folder: Path) -> Iterator[tuple[str, str, int, str]]:
    """Of each line "script: arguments: words": itself, the words, and exit code and stderr."""
    rows = [re.fullmatch(r"(\S+): (.*?):(?: (.*))?", line) for line in table]
    cases = [row.groups(default="") for row in rows if row]
    assert len(cases) == len(rows)
    found = outcomes([(script, line) for script, line, _ in cases], folder)
    for (script, line, words), (code, _, err, _) in zip(cases, found, strict=True):
        yield f"{script} {line}: {err}", words, code, err


def test_an_error_says_what_was_probably_meant(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    for where, meant, code, err in told(MEANT, tmp_path):
        found = re.search(r"\. Did you mean (.*)\? \(see --help\)\n$", err)
        assert (code, found[1] if found else "") == (2, meant), where


def test_spellings_that_can_mean_one_option_only_are_that_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option in ("--batch_size", "--batchsize", "--BatchSize"):
        assert parsed([option, "7"]) == parsed([f"{option}=7"]) == parsed(["--batch-size", "7"])
        note = f"note: {option} is read as --batch-size\n"
        assert capsys.readouterr().err == 2 * note
    assert parsed(["--lr", "0.1"]) == parsed(["--learning-rate", "0.1"])
    assert capsys.readouterr().err == ""


def test_options_of_no_effect_that_could_be_wanted_are_noted(tmp_path: Path) -> None:
    """Each command is read, and then ends for want of a model, a package or a place."""
    for where, note, code, err in told(NOTED, tmp_path):
        assert code != 2, where
        assert err.count("note: ") == bool(note), where
        assert note in err, where


# ------------------------------------------------------------------ help


def test_a_word_of_two_lines_is_refused_like_others() -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.Parser("test").parse_args(["two\nlines"])


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    found = outcomes([(name, "--help") for name in NAMES])
    for script, (code, out, err, heavy) in zip(NAMES, found, strict=True):
        assert (code, err, heavy) == (0, "", []), script
        assert out.startswith(f"usage: {script}")
        assert not re.search(r"%\(|SUPPRESS", out), script
    train = found[NAMES.index("train.py")][1]
    for default in ("20", "10", "128", "512", "0.001", "1", "auto", "runs/"):
        assert re.search(rf"\(default:[^)]*\b{re.escape(default)}", train), default


def test_numpy_comes_after_train_has_limited_the_threads_of_blas() -> None:
    """BLAS reads their number when NumPy is imported; one that finds none to start ends Python."""
    code = "import sys; from npvae.commands import train; sys.exit('numpy' in sys.modules)"
    assert run([sys.executable, "-c", code], env=environment()).returncode == 0
