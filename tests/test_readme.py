"""What the README and the guided tour say has to stay true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "npvae" / "README.md", ROOT / "data" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_line_counts_are_right() -> None:
    """To within a tenth: nobody counts, but a file that has doubled would be a surprise."""
    rows = re.findall(r"\| \[(\w+\.py)\]\(npvae/\w+\.py\) \| (\d+) \|", PAGES[0].read_text())
    assert len(rows) >= 8
    for name, said in rows:
        lines = len((ROOT / "npvae" / name).read_text().splitlines())
        assert abs(lines - int(said)) <= lines / 10, f"{name} has {lines} lines"


def test_every_script_is_in_the_readme() -> None:
    text = PAGES[0].read_text()
    for script in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{script.name}" in text


def test_the_example_of_the_readme_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the built-in digits, so that it needs no data."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("fashion-mnist", "drawn-digits"), "README.md", "exec"), {})
    bce, kl, loss = map(float, capsys.readouterr().out.split())
    assert loss == pytest.approx(bce + kl)
    assert 500 < loss < 600  # untrained: near 784 log 2 = 543
    assert (tmp_path / "vae.npz").exists()
