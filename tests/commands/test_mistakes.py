"""mistakes.py: the list, one mistake beside the right program, the tour's table, the quiz."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.commands import mistakes, mistakes_report
from npvae.commands.mistakes_report import quiz, tour_table
from npvae.mistakes import MISTAKES
from npvae.mistakes.mistake import Mistake
from npvae.mistakes.trial import Findings, Trial
from npvae.settings import Settings
from tests.helpers import ROOT, digits, digits_file

ROW = re.compile(r"\| `([\w-]+)` \| (\S+) \| (\S+) \| (.*) \| (.*) \|")


def test_all_mistakes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert mistakes.main([]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[: len(MISTAKES)]] == list(MISTAKES)
    assert len(MISTAKES) >= 24


def test_one_beside_the_right_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--dataset", str(digits_file(tmp_path)), "--out", str(tmp_path / "it.png")]
    assert mistakes.main(["noise-too-small", "--images", "50", "--epochs", "2", *data]) == 0
    out = capsys.readouterr().out
    mistake = MISTAKES["noise-too-small"]
    assert mistake.diff in out
    assert all(words in out for words in (mistake.what, mistake.where, mistake.sees, mistake.why))
    printed = re.findall(r"it prints, epoch (\d) +(\d+\.\d) +(\d+\.\d)\n", out)
    assert [row[0] for row in printed] == ["1", "2"]
    (true,) = re.findall(r"right formulas +(\d+\.\d) +(\d+\.\d)\n", out)
    assert true[0] == printed[1][1]
    assert true[1] != printed[1][2]
    assert "WRONG: epsilon\n" in out
    assert "fail: z_has_mean_mu_and_spread_sigma\n" in out
    with Image.open(tmp_path / "it.png") as picture:
        assert picture.size[0] > 10 * 28
    table = out[out.index("test loss, nats") :].splitlines()
    assert max(map(len, table[:-1])) <= 60


def test_a_name_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mistakes.main(["noise-to-small"])
    assert "Did you mean noise-too-small?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mistakes.main(["nope"])
    assert "Did you mean" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mistakes.main(["noise-too-small", "--all"])


def test_every_row_of_the_tours_table_is_made_by_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With few images. What catches each mistake is tested with the gallery, so not once more."""

    def declared(mistake: Mistake) -> Findings:
        return Findings(mistake.red, 0.0, mistake.meaning)

    monkeypatch.setattr(mistakes_report, "findings", declared)
    images = digits(32, 10)
    lines = list(tour_table(*images, Settings(epochs=1, batch_size=16), "digits"))
    assert lines[0].startswith("32 images of digits, 1 epochs, batch 16, seed 0. Right: ")
    rows = [found.groups() for found in map(ROW.fullmatch, lines[4:]) if found]
    assert [row[0] for row in rows] == list(MISTAKES)
    for name, _, _, red, meaning in rows:
        assert red == (MISTAKES[name].red or "passes")
        assert meaning == ", ".join(f"`{check}`" for check in MISTAKES[name].meaning)


@pytest.mark.parametrize(
    ("printed", "shown"), [(98.9, "**98.9**"), (99.1, "99.1"), (1e6, "1.0e+06")]
)
def test_what_looks_better_than_right_is_bold(
    printed: float, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class True_:
        total = 100.0

    def trial(mistake: Mistake | None, *_: object) -> Trial:
        return Trial([printed if mistake else 100.0], True_(), np.zeros(1))  # type: ignore[arg-type]

    monkeypatch.setattr(mistakes_report, "trial", trial)
    monkeypatch.setattr(mistakes_report, "findings", lambda mistake: Findings("", 0.0, ()))
    rows = list(tour_table(*digits(2, 1), Settings(), "digits"))[4:]
    assert all(f" | {shown} | 100.0 | passes | " in row for row in rows)


def test_the_quiz(capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the symptoms of a mistake, three mistakes, and counts the right answers."""
    answers: list[str] = []

    def ask(prompt: str) -> str:
        """The first question right, after two slips; the second wrong; then no more."""
        question = capsys.readouterr().out
        symptom = re.findall("What you see: (.*)\n", question)[-1]
        choices = re.findall(r"^  (\d)  (.*)$", question, re.M)[-3:]
        fitting = {m.what for m in MISTAKES.values() if m.sees == symptom}
        (right,) = [number for number, what in choices if what in fitting]
        answers.append(right)
        wrong = str(int(right) % 3 + 1)
        return (right, wrong, "")[len(answers) - 1]

    slips = iter(["4", "one"])
    assert quiz(3, lambda prompt: next(slips, "") or ask(prompt)) == 0
    assert "1 of 2 right" in capsys.readouterr().out


def test_the_quiz_ends_with_its_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_input(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", no_input)
    assert quiz(0, no_input) == 0
    assert "0 of 0 right" in capsys.readouterr().out


def test_the_table_behind_the_tour_is_that_of_the_command() -> None:
    """But for the losses, which take minutes on the real images; and for mistakes of your own."""
    page = (ROOT / "npvae" / "BEHIND.md").read_text()
    rows = [found.groups() for found in ROW.finditer(page)]
    assert len(rows) >= 24
    for name, _, _, red, meaning in rows:
        assert red == (MISTAKES[name].red or "passes")
        assert meaning == ", ".join(f"`{check}`" for check in MISTAKES[name].meaning)
