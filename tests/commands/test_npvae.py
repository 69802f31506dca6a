"""All commands under one name, `npvae`: the same code as the scripts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from npvae.__main__ import COMMANDS, FIRST, main
from npvae.commands.modes import MODES
from npvae.runs import terminal
from tests.helpers import ROOT, SCRIPTS, digits_file, run

TRAIN = ("--dataset", "digits.npz", "--hidden", "5", "--latent-dim", "2", "--epochs", "1")


def test_every_command_of_ours_has_a_script() -> None:
    """And every script a command; a command that a user adds may do without."""
    runners = [script.stem for script in SCRIPTS if "npvae.commands" in script.read_text()]
    assert sorted(runners) == sorted(FIRST)
    assert {*FIRST} <= {*COMMANDS}


HELP = ["", "--help", *(f"{name} --help" for name in COMMANDS)]
HELP += [f"generate {mode} --help" for mode in MODES]


@pytest.mark.parametrize("words", HELP)
def test_help_fits_eighty_columns(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is honest about classes: most models know none."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["/venv/bin/npvae", *words.split()])
    with pytest.raises(SystemExit, match="0"):
        main()
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    about_classes = "generate digit --help", "generate class --help"
    assert ("knows no classes" in " ".join(out.split())) == (words in about_classes)
    if not words:
        assert all(f"\n  {name} " in out for name in COMMANDS)
        assert "Train a variational autoencoder" in out


def test_help_needs_no_docstrings() -> None:
    done = run([sys.executable, "-OO", "-m", "npvae", "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        (["/venv/bin/npvae", "evaluate"], "npvae train --epochs 3"),
        (["/other/bin/npvae", "evaluate"], "/other/bin/npvae train --epochs 3"),
        (["/site-packages/npvae/__main__.py", "evaluate"], "python -m npvae train --epochs 3"),
        (["scripts/evaluate.py"], "python scripts/train.py --epochs 3"),
        (["/venv/bin/ipykernel_launcher.py"], "python scripts/train.py --epochs 3"),
    ],
)
def test_suggested_commands_have_the_form_of_the_one_that_runs(
    called: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    found = {"python": "/venv/bin/python", "npvae": "/venv/bin/npvae"}
    monkeypatch.setattr(shutil, "which", found.get)
    monkeypatch.setattr(sys, "argv", called)
    suggested = terminal.command("train", "--epochs", 3)
    assert suggested == expected
    assert terminal.fitted(f"  {suggested}", 10) == f"  {suggested}"  # a narrow terminal keeps it


def test_a_run_by_the_module_goes_on_by_the_module(tmp_path: Path) -> None:
    digits_file(tmp_path)
    python = [sys.executable, "-m", "npvae"]
    train = run([*python, "train", *TRAIN], cwd=tmp_path)
    assert train.returncode == 0, train.stderr
    assert "  python -m npvae generate" in train.stdout
    assert "scripts/" not in train.stdout
    unknown = run([*python, "trian"], cwd=tmp_path)
    assert unknown.returncode == 2
    assert "'trian'" in unknown.stderr
    assert unknown.stderr.count("\n") == 1
    usage = run([*python, "train", "--help"], cwd=tmp_path)
    assert usage.stdout.startswith("usage: python -m npvae train ")
    assert "\n  python -m npvae train --epochs 20\n" in usage.stdout
