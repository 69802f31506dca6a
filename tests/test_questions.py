"""The answers in QUESTIONS.md: their code runs. The commands of all pages are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae
from npvae.commands import cli
from tests.helpers import ROOT, anchor, drawn

PAGE = (ROOT / "npvae" / "QUESTIONS.md").read_text()
PAGES = [(ROOT / "npvae" / f"{name}.md").read_text() for name in ("START", "README", "USE")]
BLOCKS = re.findall(r"```bash\n(.*?)```", "\n".join([PAGE, *PAGES]), re.DOTALL)
COMMANDS = sorted(set(re.findall(r"python scripts/(?!minimal|plane)([^&#\n]*)", "".join(BLOCKS))))


def test_every_question_is_in_the_list_at_the_top() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    listed = re.findall(r"\[([^]]+)\]\(#([^)]+)\)", PAGE.partition("\n## ")[0])
    assert listed == [(heading, anchor(heading)) for heading in headings]
    assert len(headings) == 18


@pytest.mark.usefixtures("here")
def test_the_code_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On few drawn digits, with an untrained model."""
    for name, latents in ("five", 10), ("two", 2):
        Path("runs", name).mkdir(parents=True)
        npvae.VAE(latent_dim=latents).save(f"runs/{name}/last.npz")
    monkeypatch.setattr(npvae, "load_dataset", lambda name: drawn())
    names: dict[str, Any] = {}
    fewer = {"100, 1_000, 10_000": "20", "10_000": "40"}
    fewer |= {"size=1000": "size=9", "range(100)": "range(3)"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        for many, few in fewer.items():
            block = block.replace(many, few)
        exec(compile(block, "QUESTIONS.md", "exec"), names)
    printed = [float(word) for word in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    assert len(printed) == 2 + 5 + 3 + 2 + 1 + 4 + 3 + 6
    assert np.isfinite(printed).all()


def test_the_commands_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all pages; all but for a last word, which is put there in order to be refused."""
    assert COMMANDS
    for line in COMMANDS:
        script, *options = shlex.split(line)
        with pytest.raises(SystemExit, match="2"):
            cli.command(script.removesuffix(".py"))([*options, "--no-such-option"])
        assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err, line
