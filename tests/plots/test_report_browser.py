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
from npvae.plots.report import ComparedRun, comparison_page, report_page
from npvae.plots.samples import grid
from tests.helpers import HANGS_AFTER
from tests.plots.test_report import REPORT, history
from tests.plots.toys import noise


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of which any error, and any request but for files, fails the test."""
    page, wrong = browser.new_page(), []
    page.set_default_timeout(1000 * HANGS_AFTER)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: wrong.append(asked.url) if "http" in asked.url else None)
    yield page
    page.close()
    assert not wrong


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with the pictures of epochs 1, 2 and 4."""
    (tmp_path / "images").mkdir()
    for epoch in REPORT.pictures:
        for kind in ("sampled", "rec"):
            path = tmp_path / "images" / f"{kind}_epoch{epoch}.png"
            save_png(path, grid(noise(4, epoch), 1, f"{kind} {epoch}"))
    return tmp_path


def wait_for(page: Any, condition: str) -> None:
    """Wait until a condition in JavaScript holds; the page itself may not evaluate texts."""
    pause = "await new Promise(requestAnimationFrame)"
    while True:
        try:
            page.evaluate(f"async () => {{ while (!({condition})) {pause}; }}")
            return
        except Exception as error:
            if "navigation" not in str(error):  # the page has not reloaded itself meanwhile
                raise


def open_page(page: Any, folder: Path, text: str) -> None:
    path = folder / "report.html"
    path.write_text(text, "utf-8")
    page.goto(path.as_uri())


def test_the_slider_shows_the_pictures_and_losses_of_its_epoch(page: Any, folder: Path) -> None:
    open_page(page, folder, report_page(REPORT))
    assert page.get_attribute("#sampled", "src") == "images/sampled_epoch4.png"
    page.locator("#epoch").press("Home")
    assert page.get_attribute("#sampled", "src") == "images/sampled_epoch1.png"
    assert page.get_attribute("#rec", "src") == "images/rec_epoch1.png"
    row = REPORT.history[0]
    assert f"epoch 1: test loss {row['test_loss']:.2f}" in page.inner_text("#epoch-words")
    assert f"test {row['test_kl']:.2f}" in page.inner_text("#kl figcaption")
    wait_for(page, "document.getElementById('sampled').naturalWidth > 100")


def test_curves_floor_and_baseline_latents_and_commands_are_there(page: Any, folder: Path) -> None:
    open_page(page, folder, report_page(REPORT))
    for part in ("loss", "bce", "kl"):
        assert page.locator(f"#{part} path.curve").count() == 2
    assert page.locator("#loss line.dashed").count() == 2
    assert "floor 189.90" in page.text_content("#loss")
    assert page.locator("#kl-bars li").all_inner_texts()[0].startswith("z2")
    assert page.locator("#kl-bars li.unused").all_inner_texts()[0].startswith("z1")
    assert page.inner_text("#commands code") == REPORT.next[0][1]
    share = (385.0 - REPORT.history[-1]["test_loss"]) / (385.0 - 189.9)
    assert f"{share:.0%} of the way" in page.inner_text("#gauge")


def test_while_the_run_lasts_it_reloads_and_keeps_the_chosen_epoch(page: Any, folder: Path) -> None:
    open_page(page, folder, report_page(replace(REPORT, epochs=6)))
    assert "refreshes itself" in page.inner_text("#status")
    page.locator("#epoch").press("Home")
    more = replace(REPORT, epochs=6, history=history(6), pictures=[1, 2, 4, 6])
    for kind in ("sampled", "rec"):
        shutil.copy(folder / f"images/{kind}_epoch4.png", folder / f"images/{kind}_epoch6.png")
    (folder / "report.html").write_text(report_page(more), "utf-8")
    wait_for(page, "document.getElementById('status').textContent.includes('is done')")
    assert page.get_attribute("#sampled", "src") == "images/sampled_epoch1.png"
    page.locator("#epoch").press("End")
    assert page.get_attribute("#sampled", "src") == "images/sampled_epoch6.png"


def test_a_run_that_has_stopped_is_not_waited_for(page: Any, folder: Path) -> None:
    (folder / "report.html").write_text(report_page(REPORT), "utf-8")
    os.utime(folder / "report.html", (1e9, 1e9))  # written long ago
    page.goto((folder / "report.html").as_uri())
    assert "stopped before its last epoch" in page.inner_text("#status")
    assert page.locator("#commands code").all_inner_texts() == [REPORT.resume, REPORT.next[0][1]]


def test_holes_and_runs_without_pictures_are_shown(page: Any, folder: Path) -> None:
    rows = history(5)
    rows[2] |= {"train_bce": float("nan"), "test_loss": float("inf"), "test_kl": 1e30}
    open_page(page, folder, report_page(replace(REPORT, history=rows, pictures=[], beta=4.0)))
    assert page.locator("#pictures").is_hidden()
    assert page.get_attribute("#bce path.curve >> nth=0", "d").count("M") == 2
    assert "test bce + kl" in page.inner_text("#gauge")


def test_the_epoch_with_the_lowest_validation_loss_is_named_and_marked(
    page: Any, folder: Path
) -> None:
    rows = [{**row, "validation_bce": 1.0, "validation_kl": 2.0} for row in history(5)]
    for row, loss in zip(rows, (300.0, 250.0, 240.0, 240.0, 260.0), strict=True):
        row["validation_loss"] = loss
    open_page(page, folder, report_page(replace(REPORT, history=rows)))
    assert "240.00, after epoch 4" in page.inner_text("#best")
    assert page.locator("#loss path.validation").count() == 1
    assert page.locator("#loss circle").count() == 1
    assert "best epoch 4: 240.00" in page.inner_text("#loss figcaption")


def test_a_report_links_only_what_every_run_has(page: Any, folder: Path) -> None:
    """And of other files those that it was given; with pictures of one epoch nothing is played."""
    for files in ([], ["explorer.html", "samples.gif"]):
        open_page(page, folder, report_page(replace(REPORT, pictures=[], files=files)))
        links = [link.get_attribute("href") for link in page.locator("a[href]:visible").all()]
        assert links == [*files[:1], "metrics.csv", "run.json", *files]
    open_page(page, folder, report_page(replace(REPORT, pictures=[4])))
    assert page.is_visible("#sampled")
    assert page.is_hidden("#play")


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_run_that_diverged_says_what_happened_and_what_comes_next(
    page: Any, folder: Path, epochs: int
) -> None:
    what = "training has diverged in epoch 3, batch 7 of 9: the loss is nan, it was 1e6 before"
    rows, after = history(epochs), replace(REPORT, kl=[], active=[], pictures=[], files=[])
    again = [("start again:", "python scripts/train.py --learning-rate 0.1")]
    open_page(page, folder, report_page(replace(after, history=rows, diverged=what, next=again)))
    assert what in page.text_content("#status")
    assert page.locator("#loss path.curve").count() == (2 if rows else 0)
    assert page.locator("#commands code").all_inner_texts() == [again[0][1]]
    assert page.is_hidden("#latents")
    assert page.is_visible("#metrics") == bool(rows)
    still = page.context.browser.new_page(java_script_enabled=False)
    still.goto(page.url)
    assert what in still.text_content("#status")
    assert still.is_visible("#metrics") == bool(rows)
    assert not still.is_visible("img")
    still.close()


def test_a_dark_page_shows_the_images_of_a_picture_and_nothing_white_around(
    page: Any, folder: Path
) -> None:
    """The box that the script cuts out of a picture begins and ends where its images do."""
    black = np.zeros((20, 784), np.uint8)
    pictures = {
        "sampled": image_grid(in_rows(black, 10), scale=3, title="title"),
        "rec": reconstruction_grid(black, black, 3, "title"),
    }
    for kind, picture in pictures.items():
        save_png(folder / f"images/{kind}_epoch4.png", picture)
    page.emulate_media(color_scheme="dark")
    open_page(page, folder, report_page(REPORT))
    for kind, picture in pictures.items():
        wait_for(page, f"$('{kind}').style.getPropertyValue('--images')")
        clip = page.evaluate(f"getComputedStyle($('{kind}')).clipPath")
        shares = np.array([float(share) for share in re.findall(r"[\d.]+", clip)]) / 100
        corners = np.rint(shares.reshape(-1, 4, 2) * picture.size).astype(int)
        assert len(corners) == (1 if kind == "sampled" else 2)
        white = np.asarray(picture) == 255
        for (left, top), _, (right, low), _ in corners:
            rows, columns = white[:, left + 9], white[top + 9]
            edges = [*rows[[top - 1, top, low - 1, low]], *columns[[left - 1, left]]]
            assert [*edges, *columns[[right - 1, right]]] == [True, False, False, True] * 2


def test_values_off_the_chart_are_marked(page: Any, folder: Path) -> None:
    rows = history(9)
    rows[4]["test_kl"] = 1e9
    open_page(page, folder, report_page(replace(REPORT, history=rows)))
    assert page.locator("#kl path.off").count() == 1
    assert page.locator("#bce path.off").count() == 0
    assert "off the chart" in page.inner_text("#kl figcaption")


@pytest.mark.parametrize("width", [320, 1400])
def test_no_width_makes_it_scroll_sideways(width: int, page: Any, folder: Path) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    facts = [("options", "--dataset " + "n" * 60)]
    above = replace(REPORT, baseline=200.0)  # it has the longest words in the gauge
    open_page(page, folder, report_page(replace(above, name="n" * 60, facts=facts)))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_comparison_has_a_row_and_curves_for_each_run(page: Any, tmp_path: Path) -> None:
    save_png(tmp_path / "samples.png", grid(noise(4), 1, ""))
    names = ["a" * 60, "b", "c"]
    runs = [
        ComparedRun(name, name, ["1.00", "optimizer adam, " * 20], history(n))
        for n, name in enumerate(names, start=2)
    ]
    picture = (tmp_path / "samples.png").read_bytes()
    open_page(
        page, tmp_path, comparison_page("Three", ["loss", "all"], runs, "", [[picture] * 3], "")
    )
    assert page.locator("#table tbody tr").count() == 3
    for width in (320, 375, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#kl path.curve").count() == 6
    wait_for(page, "document.querySelector('img').naturalWidth > 0")
