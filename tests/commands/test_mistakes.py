"""mistakes.py: the list, one mistake beside the right program, the tour's table, the quiz."""

from __future__ import annotations

import re
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.commands import mistakes, mistakes_report
from npvae.commands.mistakes_report import quiz, tour_table
from npvae.losses import Loss
from npvae.mistakes import MISTAKES
from npvae.mistakes.mistake import Mistake
from npvae.mistakes.trial import Findings, Trial, trial
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
    train, test = digits(200, 60)
    right = trial(None, train[:50], test, Settings(epochs=2))
    out = capsys.readouterr().out
    mistake = MISTAKES["noise-too-small"]
    assert mistake.diff in out
    assert all(words in out for words in (mistake.what, mistake.where, mistake.sees, mistake.why))
    printed = re.findall(r"it prints, epoch (\d) +(\d+\.\d) +(\d+\.\d)\n", out)
    assert [row[:2] for row in printed] == [
        (str(epoch), f"{loss:.1f}") for epoch, loss in enumerate(right.printed, start=1)
    ]
    (true,) = re.findall(r"right formulas +(\d+\.\d) +(\d+\.\d)\n", out)
    assert true[0] == printed[1][1]
    assert true[1] != printed[1][2]
    assert "WRONG: epsilon\n" in out
    assert "fail: z_has_mean_mu_and_spread_sigma\n" in out
    with Image.open(tmp_path / "it.png") as picture:
        assert picture.size[0] > 10 * 28
    table = out[out.index("test loss, nats") :].splitlines()
    assert max(map(len, table[:-1])) <= 60


@pytest.mark.parametrize(
    ("name", "words"),
    [("noise-to-small", "Did you mean noise-too-small?"), ("nope", "alone lists them all")],
)
def test_a_name_that_is_not_known(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        mistakes.main([name])
    assert words in capsys.readouterr().err


def rows(table: str) -> list[tuple[str, ...]]:
    """The cells of each mistake: its name, losses, and what the gallery says of what catches it."""
    found = [row.groups() for row in ROW.finditer(table)]
    for name, _, _, red, meaning in found:
        assert red == (MISTAKES[name].red or "passes")
        assert meaning == ", ".join(f"`{check}`" for check in MISTAKES[name].meaning)
    return found


def test_every_row_of_the_tours_table_is_made_by_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With few images. What catches each mistake is tested with the gallery, so not once more."""
    declared = {m.name: Findings(m.red, 0.0, m.meaning) for m in MISTAKES.values()}
    monkeypatch.setattr(mistakes_report, "findings", lambda mistake: declared[mistake.name])
    train, test = digits(200, 60)
    settings = Settings(epochs=1, batch_size=16)
    table = list(tour_table(train[:32], test[:10], settings, "digits"))
    assert table[0].startswith("32 images of digits, 1 epochs, batch 16, seed 0. Right: ")
    assert [name for name, *_ in rows("\n".join(table))] == list(MISTAKES)


def test_what_looks_better_than_right_is_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    """By more than a nat, where the right program prints 100; nothing has to be trained for it."""
    losses = dict(zip(MISTAKES, cycle([98.9, 99.1, 1e6]), strict=False))

    def pretended(mistake: Mistake | None, *_: object) -> Trial:
        return Trial([losses[mistake.name] if mistake else 100.0], Loss(90, 10), np.zeros(1))

    monkeypatch.setattr(mistakes_report, "trial", pretended)
    monkeypatch.setattr(mistakes_report, "findings", lambda mistake: Findings("", 0.0, ()))
    table = list(tour_table(*digits(200, 60), Settings(), "digits"))[4:]
    for line, shown in zip(table, cycle(["**98.9**", "99.1", "1.0e+06"]), strict=False):
        assert f" | {shown} | 100.0 | passes | " in line


@pytest.mark.parametrize("at_its_end", ["an empty line", "no line"])
def test_the_quiz(at_its_end: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows the symptoms of a mistake, three mistakes, and counts the right answers."""
    asked: list[str] = []

    def ask(prompt: str) -> str:
        """All right but the second, after two slips; after twenty questions no more."""
        if len(asked) == 20 and at_its_end == "no line":
            raise EOFError
        question = capsys.readouterr().out
        symptom = re.findall("What you see: (.*)\n", question)[-1]
        choices = re.findall(r"^  (\d)  (.*)$", question, re.M)[-3:]
        fitting = {m.what for m in MISTAKES.values() if m.sees == symptom}
        (right,) = [number for number, what in choices if what in fitting]
        asked.append(symptom)
        return "" if len(asked) > 20 else str(int(right) % 3 + 1) if len(asked) == 2 else right

    slips = iter(["4", "one"])
    assert quiz(3, lambda prompt: next(slips, "") or ask(prompt)) == 0
    assert "19 of 20 right" in capsys.readouterr().out


def test_the_table_behind_the_tour_is_that_of_the_command() -> None:
    """But for the losses, which take minutes on the real images; and for mistakes of your own."""
    assert len(rows((ROOT / "npvae" / "BEHIND.md").read_text())) >= 24
