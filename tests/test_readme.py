"""What the pages say stays true: links, translations, numbers, code, commands."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae
from npvae import VAE
from npvae.commands import cli
from npvae.commands.gradcheck_report import table
from npvae.gradcheck_vae import check_everything
from tests.helpers import ROOT, anchor, drawn, of_our_lesson

README, USE = ROOT / "README.md", ROOT / "npvae" / "USE.md"
START, QUESTIONS = ROOT / "npvae" / "START.md", ROOT / "npvae" / "QUESTIONS.md"
PAGES = [README, USE, *(ROOT / page for page in ("CONTRIBUTING.md", "data/README.md"))]
PAGES += [ROOT / "npvae" / f"{page}.md" for page in ("README", "ADD", "BEHIND", "QUESTIONS")]
CHINESE = {page: page.with_suffix(".zh-CN.md") for page in (README, START)}
PAGES += [START, *CHINESE.values()]

LINK = r"\]\(([^)\s]+)\)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file, and to a heading of it."""
    for link in re.findall(LINK, page.read_text(encoding="utf-8")):
        path, _, place = link.partition("#")
        if "://" not in link:
            target = page.parent / path if path else page
            assert target.exists(), link
            if place and target.suffix == ".md":
                headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
                assert place in map(anchor, headings), link


def facts(line: str) -> dict[str, list[str]]:
    """What a translation keeps, as long as words for numbers stay words."""
    text = line.replace(".zh-CN", "")
    return {
        "links": sorted({*re.findall(LINK, text)}),
        "code": sorted({*re.findall("`.+?`", text)}),
        "numbers": sorted(re.findall(r"-?\d(?:[\d.,e-]*\d)?", re.sub(LINK, "", text))),
    }


@pytest.mark.parametrize(("english", "chinese"), CHINESE.items(), ids=["README", "START"])
def test_the_chinese_page_says_the_same(english: Path, chinese: Path) -> None:
    """Line by line, which is paragraph by paragraph; and it marks the links to English pages."""
    pages = [page.read_text("utf-8") for page in (english, chinese)]
    code = False
    for ours, theirs in zip(*map(str.splitlines, pages), strict=True):
        code ^= ours.startswith("```")
        if code or ours.startswith(("```", "    ")):
            assert theirs == ours
        else:
            assert facts(theirs) == facts(ours), theirs
    local_page = r"\[([^]]*)\]\([^:)]*(?<!zh-CN)\.(?:md|html|ipynb)(?:#[^)]*)?\)"
    assert re.findall(local_page + r"(?!\**.英文.)", pages[1]) == ["English"]


def test_the_readme_is_short_and_its_commands_fit_a_phone() -> None:
    """Each of the two can be pasted whole, and ends where one of its lines fails."""
    assert len(README.read_text().splitlines()) <= 150
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert [block.split()[-1] for block in blocks] == ["20", "pytest"]
    for lines in (block.splitlines() for block in blocks):
        assert all(line.endswith(" &&") for line in lines[:-1])
        assert max(map(len, lines)) <= 40


@of_our_lesson
def test_the_line_counts_are_right() -> None:
    """To within a tenth: nobody counts, but a file that has doubled would be a surprise."""
    row = r"\| \**\[([\w/]+\.py)\]\(npvae/[\w/]+\.py\)\** \| (\d+) \|"
    rows = re.findall(row, README.read_text())
    assert len(rows) >= 8
    for name, said in rows:
        lines = len((ROOT / "npvae" / name).read_text().splitlines())
        assert abs(lines - int(said)) <= lines / 10, f"{name} has {lines} lines"


def test_every_script_has_its_line() -> None:
    text = USE.read_text()
    for script in (ROOT / "scripts").glob("*.py"):
        assert f"scripts/{script.name}" in text


@pytest.fixture
def few_images(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever dataset is asked for; the pages name one that has to be downloaded."""
    monkeypatch.setattr(npvae, "load_dataset", lambda name: drawn())


def run_code(page: Path, blocks: slice, fewer: dict[str, str], **names: Any) -> None:
    """These blocks of Python of a page, one after the other, with other words in them."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)[blocks]:
        for many, few in fewer.items():
            block = block.replace(many, few)
        exec(compile(block, page.name, "exec"), names)


def test_weights_cross_over_as_the_readme_says() -> None:
    pytest.importorskip("torch", reason="weights cross over to PyTorch")
    vae = VAE()
    before = vae.parameters.copy()
    run_code(USE, slice(1, 2), {}, vae=vae)
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


@of_our_lesson
def test_the_gradient_check_in_the_readme_is_the_real_one() -> None:
    """But for the digits of its errors, which are those of rounding."""
    shown = README.read_text().partition("\ngradient ")[2].partition("```")[0].splitlines()[1:]
    real = table(list(check_everything())).splitlines()
    assert shown[-1].partition("worst")[0] == real[-1].partition("worst")[0]
    rows = [line.split()[:2] for line in shown[:-1] if line != "..."]  # name, size
    assert len(rows) > 3
    assert all(row in [line.split()[:2] for line in real] for row in rows)


@of_our_lesson
@pytest.mark.usefixtures("few_images")
def test_overfitting_is_shown_as_the_first_hour_says(capsys: pytest.CaptureFixture[str]) -> None:
    """With a hundredth of the epochs."""
    run_code(START, slice(1), {"epochs=300": "epochs=3"})
    assert re.fullmatch(r"epoch   1  train \d+\.\d  test \d+\.\d\n", capsys.readouterr().out)


@pytest.mark.usefixtures("few_images")
def test_the_example_of_the_library_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_code(USE, slice(1), {})
    bce, kl, loss = map(float, capsys.readouterr().out.split())
    assert loss == pytest.approx(bce + kl)
    assert 500 < loss < 600  # untrained: near 784 log 2 = 543
    assert Path("vae.npz").exists()


def test_every_question_is_in_the_list_at_the_top() -> None:
    top, *sections = QUESTIONS.read_text().split("\n## ")
    headings = [section.partition("\n")[0] for section in sections]
    listed = re.findall(r"\[([^]]+)\]\(#([^)]+)\)", top)
    assert listed == [(heading, anchor(heading)) for heading in headings]
    assert len(headings) == 18


@pytest.mark.usefixtures("few_images")
def test_the_code_of_the_answers_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """With untrained models."""
    for name, latents in ("five", 10), ("two", 2):
        Path("runs", name).mkdir(parents=True)
        VAE(latent_dim=latents).save(f"runs/{name}/last.npz")
    fewer = {"100, 1_000, 10_000": "20", "10_000": "40"}
    fewer |= {"size=1000": "size=9", "range(100)": "range(3)"}
    run_code(QUESTIONS, slice(None), fewer)
    printed = [float(word) for word in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    assert len(printed) == 2 + 5 + 3 + 2 + 1 + 4 + 3 + 6
    assert np.isfinite(printed).all()


def test_the_commands_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    """All but for a last word, which is put there in order to be refused."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.name != "ADD.md")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    lines = {*re.findall(r"python scripts/(?!minimal|plane)([^&#\n]*)", blocks)}
    assert len(lines) > 20
    for line in lines:
        script, *options = shlex.split(line)
        with pytest.raises(SystemExit, match="2"):
            cli.command(script.removesuffix(".py"))([*options, "--no-such-option"])
        assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err, line
