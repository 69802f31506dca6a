"""What the README and the guided tour say has to stay true."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE
from npvae.commands.gradcheck_report import table
from npvae.gradcheck_vae import check_everything
from tests.helpers import of_our_lesson

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / page for page in ("README.md", "npvae/README.md", "npvae/QUESTIONS.md", "data/README.md")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@of_our_lesson
def test_the_line_counts_are_right() -> None:
    """To within a tenth: nobody counts, but a file that has doubled would be a surprise."""
    rows = re.findall(
        r"\| \**\[([\w/]+\.py)\]\(npvae/[\w/]+\.py\)\** \| (\d+) \|", PAGES[0].read_text()
    )
    assert len(rows) >= 8
    for name, said in rows:
        lines = len((ROOT / "npvae" / name).read_text().splitlines())
        assert abs(lines - int(said)) <= lines / 10, f"{name} has {lines} lines"


def test_every_script_is_in_the_readme() -> None:
    text = PAGES[0].read_text()
    for script in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{script.name}" in text


def run_example(number: int, **names: Any) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), flags=re.DOTALL)[number]
    exec(compile(code.replace("fashion-mnist", "drawn-digits"), "README.md", "exec"), names)


def test_weights_cross_over_as_the_readme_says() -> None:
    pytest.importorskip("torch", reason="weights cross over to PyTorch")
    vae = VAE()
    before = vae.parameters.copy()
    run_example(1, vae=vae)
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


@of_our_lesson
def test_the_gradient_check_in_the_readme_is_the_real_one() -> None:
    """But for the digits of its errors, which are those of rounding."""
    shown = PAGES[0].read_text().partition("\ngradient ")[2].partition("```")[0].splitlines()[1:]
    real = table(list(check_everything())).splitlines()
    assert shown[-1].partition("worst")[0] == real[-1].partition("worst")[0]
    rows = [line.split()[:2] for line in shown[:-1] if line != "..."]  # name, size
    assert len(rows) > 3
    assert all(row in [line.split()[:2] for line in real] for row in rows)


def test_the_example_of_the_readme_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the built-in digits, so that it needs no data."""
    monkeypatch.chdir(tmp_path)
    run_example(0)
    bce, kl, loss = map(float, capsys.readouterr().out.split())
    assert loss == pytest.approx(bce + kl)
    assert 500 < loss < 600  # untrained: near 784 log 2 = 543
    assert (tmp_path / "vae.npz").exists()
