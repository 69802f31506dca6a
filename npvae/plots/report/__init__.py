"""How does a run become a page in the browser? One HTML file with its numbers; pictures are linked.

    report_page       the page of one run: pictures by epoch, curves, what comes next
    comparison_page   several runs side by side

The pages, styles and scripts beside this module are written by hand. `page` puts them and the data
into one text: the pages need no server, no network and no library. A report links the pictures
by relative paths, so it moves with its folder. It reloads itself while the run lasts (report.js).
"""

from __future__ import annotations

import html
import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Row = Mapping[str, float]
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """All that the page of a run shows. Losses and KL are in nats per image."""

    name: str  # "mnist, z = 10"
    epochs: int  # how many the run shall have
    history: Sequence[Row]  # a row per epoch: epoch, {train,test}_{bce,kl,loss}
    seconds: float  # that the last epoch took; 0 if it is not known
    floor: float
    baseline: float
    beta: float
    kl: Sequence[float]  # per latent
    active: Sequence[bool]  # per latent: does the model use it?
    kl_images: int  # test images over which `kl` is averaged
    pictures: Sequence[int]  # epochs that have pictures in images/
    gif: bool  # whether there is a samples.gif
    facts: Sequence[tuple[str, str]]  # what is trained: topics and what there is to say of them
    next: Sequence[tuple[str, str]]  # why, and the command
    resume: str  # the command that continues the run if it has stopped


def report_page(report: Report) -> str:
    """The HTML text of report.html. Equal reports give equal text."""
    sampled, rec = (
        f"images/{kind}_epoch{report.pictures[-1]}.png" if report.pictures else "data:,"
        for kind in ("sampled", "rec")
    )
    words = {"title": report.name, "samples": sampled, "rec": rec}
    return page("page.html", words, vars(report))


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison."""

    name: str  # its folder
    short: str  # beside the curves
    values: Sequence[str]  # of the columns of the table
    history: Sequence[Row]


def comparison_page(
    title: str,
    columns: Sequence[str],
    runs: Sequence[ComparedRun],
    same: str,
    samples: Sequence[Sequence[bytes]],
    samples_words: str,
) -> str:
    """The HTML text of a comparison. `samples` are bands of PNGs, one of each run in a band."""
    data = {
        "columns": columns,
        "runs": [vars(run) for run in runs],
        "same": same,
        "samples": [[b64encode(png).decode() for png in band] for band in samples],
    }
    return page("comparison.html", {"title": title, "samples_words": samples_words}, data)


def page(name: str, words: Mapping[str, str], data: Any) -> str:
    """The template `name` with its style, scripts, words and data filled in, as one text."""
    numbers = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    text = {key: html.escape(word) for key, word in words.items()}
    text["data"] = numbers.replace("<", "\\u003c")  # no "</script>" may be in it
    template = (FOLDER / name).read_text("utf-8")
    filled = re.sub(r"\{\{(\w+)\}\}", lambda match: text[match[1]], template)
    filled = re.sub(r'<link rel="stylesheet" href="(.+)">', partial(inlined, "style"), filled)
    return re.sub(r'<script src="(.+)"></script>', partial(inlined, "script"), filled)


def inlined(tag: str, match: re.Match[str]) -> str:
    """The file that the match names, inside a tag."""
    return f"<{tag}>\n{(FOLDER / match[1]).read_text('utf-8')}</{tag}>"


def finite(value: Any) -> Any:
    """The same data with None in place of floats that JSON does not have: NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
