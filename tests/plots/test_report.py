"""The pages of a run and of a comparison hold what they were given, and nothing from elsewhere."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from dataclasses import replace

from npvae.plots.report import ComparedRun, Report, comparison_page, report_page
from tests.helpers import data_of
from tests.plots.toys import history

REPORT = Report(
    name="mnist, z = 3",
    epochs=5,
    history=history(4),
    seconds=0.25,
    floor=189.9,
    baseline=385.0,
    beta=1.0,
    kl=[1.5, 0.001, 2.5],
    active=[True, False, True],
    kl_images=1000,
    pictures=[1, 2, 4],
    files=["loss.png"],
    facts=[("data", "mnist: 60,000 training and 10,000 test images\nread from here")],
    next=[("what it is worth:", "python scripts/evaluate.py --checkpoint 'a <b>'")],
    resume="python scripts/train.py --resume here",
)


def test_the_page_holds_all_that_it_was_given() -> None:
    """And the same each time."""
    page = report_page(REPORT)
    assert data_of(page) == json.loads(json.dumps(vars(REPORT)))
    assert page == report_page(replace(REPORT))


def test_the_page_links_its_pictures_by_relative_paths() -> None:
    """So the folder can be moved. Without scripts the page shows the newest ones."""
    links = re.findall(r'(?:src|href)="([^"]*)"', report_page(REPORT))
    assert {"images/sampled_epoch4.png", "images/rec_epoch4.png", "loss.png"} <= set(links)
    assert all(re.fullmatch(r"data:,|[\w/]+\.(png|gif|csv|json|html)", link) for link in links)


def test_losses_that_are_not_finite_are_holes() -> None:
    rows = history(2)
    rows[0]["train_kl"], rows[1]["train_kl"] = math.nan, math.inf
    data = data_of(report_page(replace(REPORT, history=rows)))
    assert [row["train_kl"] for row in data["history"]] == [None, None]


def test_a_comparison_holds_its_runs_and_its_picture() -> None:
    runs = [ComparedRun(f"runs/{name}", name, ["1", name], history(3)) for name in "ab"]
    samples = [[b"one", b"two"]]
    page = comparison_page("Two runs", ["beta", "loss"], runs, "all else", samples, "of <z>")
    data = data_of(page)
    assert data["columns"] == ["beta", "loss"]
    assert [run["values"] for run in data["runs"]] == [["1", "a"], ["1", "b"]]
    assert data["same"] == "all else"
    assert data["samples"] == [[b64encode(png).decode() for png in samples[0]]]
    assert "of &lt;z&gt;" in page
