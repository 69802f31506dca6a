"""The pages of runs in a real browser, opened from disk: no error, nothing asked of a network."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.plots.image_grid import image_grid, in_rows, reconstruction_grid, save_png
from npvae.plots.report import ComparedRun, Report, comparison_page, report_page
from npvae.plots.samples import grid
from tests.plots.conftest import Page
from tests.plots.test_report import REPORT
from tests.plots.toys import history, noise

KINDS = ("sampled", "rec")


class Shown(Page):
    """A tab with the page of a run in a folder that has the pictures of epochs 1, 2 and 4."""

    def report(self, report: Report = REPORT, **changes: Any) -> None:
        self.show(report_page(replace(report, **changes)))

    def text(self, selector: str) -> str:
        return str(self.tab.text_content(selector))

    def source(self, selector: str) -> str:
        return str(self.tab.get_attribute(selector, "src"))

    def count(self, selector: str) -> int:
        return int(self.tab.locator(selector).count())

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.tab.locator(selector).all_inner_texts()]

    def assert_fits(self, *widths: int) -> None:
        for width in widths:
            self.tab.set_viewport_size({"width": width, "height": 800})
            assert self.js("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def tab(browser: Any) -> Shown:
    return Shown(browser)


@pytest.fixture
def page(tab: Shown, tmp_path: Path) -> Iterator[Shown]:
    tab.folder = tmp_path
    (tmp_path / "images").mkdir()
    for epoch in REPORT.pictures:
        for kind in KINDS:
            picture = grid(noise(4, epoch), 1, f"{kind} {epoch}")
            save_png(tmp_path / f"images/{kind}_epoch{epoch}.png", picture)
    yield tab
    tab.check()


def test_the_page_shows_what_the_run_has_come_to(page: Shown) -> None:
    """Curves, floor and baseline, latents, commands; pictures and losses of the chosen epoch."""
    page.report()
    for part in ("loss", "bce", "kl"):
        assert page.count(f"#{part} path.curve") == 2
    assert page.count("#loss line.dashed") == 2
    assert "floor 189.90" in page.text("#loss")
    assert page.texts("#kl-bars li")[0].startswith("z2")
    assert page.texts("#kl-bars li.unused")[0].startswith("z1")
    assert page.text("#commands code") == REPORT.next[0][1]
    share = (385.0 - REPORT.history[-1]["test_loss"]) / (385.0 - 189.9)
    assert f"{share:.0%} of the way" in page.text("#gauge")
    assert page.source("#sampled") == "images/sampled_epoch4.png"
    page.tab.locator("#epoch").press("Home")
    assert [page.source(f"#{kind}") for kind in KINDS] == [
        f"images/{kind}_epoch1.png" for kind in KINDS
    ]
    row = REPORT.history[0]
    assert f"epoch 1: test loss {row['test_loss']:.2f}" in page.text("#epoch-words")
    assert f"test {row['test_kl']:.2f}" in page.text("#kl figcaption")
    page.until("document.getElementById('sampled').naturalWidth > 100")


def test_while_the_run_lasts_it_reloads_and_keeps_the_chosen_epoch(page: Shown) -> None:
    page.report(epochs=6)
    assert "refreshes itself" in page.text("#status")
    page.tab.locator("#epoch").press("Home")
    for kind in KINDS:
        images = page.folder / "images"
        shutil.copy(images / f"{kind}_epoch4.png", images / f"{kind}_epoch6.png")
    more = replace(REPORT, epochs=6, history=history(6), pictures=[1, 2, 4, 6])
    (page.folder / "page.html").write_text(report_page(more), "utf-8")
    page.tab.locator("#status", has_text="is done").wait_for()
    assert page.source("#sampled") == "images/sampled_epoch1.png"
    page.tab.locator("#epoch").press("End")
    assert page.source("#sampled") == "images/sampled_epoch6.png"


def test_a_run_that_has_stopped_is_not_waited_for(page: Shown) -> None:
    page.report()
    os.utime(page.folder / "page.html", (1e9, 1e9))  # written long ago
    page.tab.reload()
    assert "stopped before its last epoch" in page.text("#status")
    assert page.texts("#commands code") == [REPORT.resume, REPORT.next[0][1]]


def test_holes_values_off_the_chart_and_runs_without_pictures_are_shown(page: Shown) -> None:
    rows = history(9)
    rows[2] |= {"train_bce": float("nan"), "test_loss": float("inf")}
    rows[4]["test_kl"] = 1e9
    page.report(history=rows, pictures=[], beta=4.0)
    assert page.tab.is_hidden("#pictures")
    assert page.tab.get_attribute("#bce path.curve >> nth=0", "d").count("M") == 2
    assert "test bce + kl" in page.text("#gauge")
    assert [page.count(f"#{part} path.off") for part in ("bce", "kl")] == [0, 1]
    assert "off the chart" in page.text("#kl figcaption")


def test_the_epoch_with_the_lowest_validation_loss_is_named_and_marked(page: Shown) -> None:
    """Of equal ones the last: that is the one which best.npz holds."""
    rows = [{**row, "validation_bce": 1.0, "validation_kl": 2.0} for row in history(5)]
    for row, loss in zip(rows, (300.0, 250.0, 240.0, 240.0, 260.0), strict=True):
        row["validation_loss"] = loss
    page.report(history=rows)
    assert "240.00, after epoch 4" in page.text("#best")
    assert page.count("#loss path.validation") == page.count("#loss circle") == 1
    assert "best epoch 4: 240.00" in page.text("#loss figcaption")


def test_a_report_links_only_what_every_run_has(page: Shown) -> None:
    """And of other files those that it was given; with pictures of one epoch nothing is played."""
    for files in ([], ["explorer.html", "samples.gif"]):
        page.report(pictures=[4], files=files)
        links = [link.get_attribute("href") for link in page.tab.locator("a[href]:visible").all()]
        pictures = [f"images/{kind}_epoch4.png" for kind in KINDS]
        assert links == [*pictures, *files[:1], "metrics.csv", "run.json", *files]
        assert [page.tab.is_visible(part) for part in ("#sampled", "#play")] == [True, False]


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_run_that_diverged_says_what_happened_and_what_comes_next(
    page: Shown, epochs: int
) -> None:
    """Also without scripts."""
    what = "training has diverged in epoch 3, batch 7 of 9: the loss is nan, it was 1e6 before"
    again = [("start again:", "python scripts/train.py --learning-rate 0.1")]
    empty = replace(REPORT, kl=[], active=[], pictures=[], files=[])
    page.report(empty, history=history(epochs), diverged=what, next=again)
    assert page.count("#loss path.curve") == (2 if epochs else 0)
    assert page.texts("#commands code") == [again[0][1]]
    assert page.tab.is_hidden("#latents")
    still = page.context.browser.new_page(java_script_enabled=False)
    still.goto(page.tab.url)
    assert not still.is_visible("img")
    for shown in (page.tab, still):
        assert what in shown.text_content("#status")
        assert shown.is_visible("#metrics") == bool(epochs)
    still.close()


def test_a_dark_page_shows_the_images_of_a_picture_and_nothing_white_around(page: Shown) -> None:
    """The box that the script cuts out of a picture begins and ends where its images do."""
    black = np.zeros((20, 784), np.uint8)
    pictures = {
        "sampled": image_grid(in_rows(black, 10), scale=3, title="title"),
        "rec": reconstruction_grid(black, black, 3, "title"),
    }
    for kind, picture in pictures.items():
        save_png(page.folder / f"images/{kind}_epoch4.png", picture)
    page.show(report_page(REPORT), scheme="dark")
    for kind, picture in pictures.items():
        page.until(f"$('{kind}').style.getPropertyValue('--images')")
        clip = page.js(f"getComputedStyle($('{kind}')).clipPath")
        shares = np.array([float(share) for share in re.findall(r"[\d.]+", clip)]) / 100
        corners = np.rint(shares.reshape(-1, 4, 2) * picture.size).astype(int)
        assert len(corners) == (1 if kind == "sampled" else 2)
        white = np.asarray(picture) == 255
        for (left, top), _, (right, low), _ in corners:
            rows, columns = white[:, left + 9], white[top + 9]
            edges = [*rows[[top - 1, top, low - 1, low]], *columns[[left - 1, left]]]
            assert [*edges, *columns[[right - 1, right]]] == [True, False, False, True] * 2


def test_no_width_makes_it_scroll_sideways(page: Shown) -> None:
    """With the longest words in the gauge."""
    long = [("options", "--dataset " + "n" * 60)]
    page.report(baseline=200.0, name="n" * 60, facts=long)
    page.assert_fits(320, 1400)


def test_a_comparison_has_a_row_and_curves_for_each_run(page: Shown) -> None:
    runs = [
        ComparedRun(name, name, ["1.00", "optimizer adam, " * 20], history(n))
        for n, name in enumerate(["a" * 60, "b", "c"], start=2)
    ]
    samples = [[(page.folder / "images/sampled_epoch1.png").read_bytes()] * 3]
    page.show(comparison_page("Three", ["loss", "all"], runs, "", samples, ""))
    assert page.count("#table tbody tr") == 3
    assert page.count("#kl path.curve") == 6
    page.assert_fits(320, 375, 1280)
    page.until("document.querySelector('img').naturalWidth > 0")
