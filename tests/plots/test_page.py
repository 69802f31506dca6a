"""Each page is one file of its template, style, data and the modules that its script names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from npvae.plots import explorer, report
from npvae.plots import page as builder
from npvae.plots.page import bundle, page, read
from tests.helpers import data_of

TEMPLATES = [
    explorer.FOLDER / "explorer.html",
    report.FOLDER / "report.html",
    report.FOLDER / "comparison.html",
]
NAMES = ("title", "sampled", "rec", "loss", "diverged", "metrics", "samples_words")
WORDS = dict.fromkeys(NAMES, "images/a.png")
SCRIPTS = sorted(path for path in builder.FOLDER.parent.rglob("*.js") if path.stem != "watch")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_page_is_one_file_and_the_browser_is_told_to_refuse_every_network(template: Path) -> None:
    html = page(template, WORDS, {})
    assert "{{" not in html
    assert "http" not in re.sub("http://www.w3.org/2000/svg|http-equiv", "", html)
    elsewhere = r"<script[^>]* src=|rel=.stylesheet|@import|url\([^#]|^import "
    assert not re.search(elsewhere, html, re.M)
    policy = re.search(r"default-src 'none'[^\"]*", html)
    assert policy
    assert set(re.findall(r"[\w-]+:", policy[0])) <= {"file:", "data:", "blob:"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_words_and_data_cannot_break_a_page(template: Path) -> None:
    words = "</title><!--<script>alert(1)</script>{{data}}"
    html, plain = (
        page(template, {**WORDS, "title": words}, {"name": words}),
        page(template, WORDS, {}),
    )
    assert data_of(html)["name"] == words
    for tag in ("</script>", "<script", "<!--"):
        assert html.count(tag) == plain.count(tag)


def test_every_module_is_in_a_page_behind_those_it_imports() -> None:
    bundles = [bundle(template.with_suffix(".js")) for template in TEMPLATES]
    for script in SCRIPTS:
        own = read(script).splitlines()[0]  # what it is for
        holding = [text for text in bundles if own in text]
        assert holding, script
        for name in builder.IMPORT.findall(read(script)):
            first = read(script.parent / name).splitlines()[0]
            assert all(text.index(first) < text.index(own) for text in holding)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_module_names_what_it_takes_from_others(script: Path) -> None:
    """In one file everything sees everything: this alone keeps imports and exports true."""
    exported = {path: exports(read(path)) for path in SCRIPTS}
    text = read(script)
    imported = {
        (script.parent / name).resolve(): set(re.findall(r"[\w$]+", names))
        for names, name in re.findall(r'^import {([^}]*)} from "(.+)";', text, re.M)
    }
    assert all(names <= exported[path] for path, names in imported.items())
    code = re.sub(r'//.*|"[^"\n]*"', "", builder.IMPORT.sub("", text))
    own = set(re.findall(r"(?:function|class|const|let) (\w+)|^  (\w+)\(.*\) {", code, re.M))
    own_names = {name for pair in own for name in pair}
    others = set().union(*(names for path, names in exported.items() if path != script))
    words = set(re.findall(r"(?<![.\w$])[\w$]+(?![\w$:{])", code))
    named = set().union(*imported.values())
    assert (words & others) - own_names == named


def exports(text: str) -> set[str]:
    names: set[str] = set()
    for line in re.findall(r"^export (?:async )?(?:function|class|const|let) (.*)", text, re.M):
        names |= set(re.findall(r"^([\w$]+)|, ([A-Z]+) =", line)[0])
        names |= set(re.findall(r", ([A-Z]+) = ", line))
    return names - {""}


def test_a_missing_module_and_a_circle_of_imports_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\n')
    with pytest.raises(FileNotFoundError):
        bundle(tmp_path / "a.js")
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\n')
    with pytest.raises(RecursionError):
        bundle(tmp_path / "a.js")
