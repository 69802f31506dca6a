"""How does a run become a page in the browser? One HTML file with its numbers; pictures are linked.

    report_page       the page of one run: pictures by epoch, curves, what comes next
    comparison_page   several runs side by side

A report links the pictures by relative paths, so it moves with its folder. It reloads itself while
the run lasts (report.js).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npvae.plots.page import page

Row = Mapping[str, float]
FOLDER = Path(__file__).parent
LINKED = ("explorer.html", "loss.png", "samples.gif")  # by a report, where they exist


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
    files: Sequence[str]  # those of LINKED that exist
    facts: Sequence[tuple[str, str]]  # what is trained: topics and what there is to say of them
    next: Sequence[tuple[str, str]]  # why, and the command
    resume: str  # the command that continues the run if it has stopped
    diverged: str = ""  # what happened, if the run has diverged; then `history` may be empty


def report_page(report: Report) -> str:
    """The HTML text of report.html. Equal reports give equal text."""
    shown = {"loss": "loss.png" if "loss.png" in report.files else "data:,"}  # without scripts
    for kind in ("sampled", "rec"):
        newest = report.pictures[-1:]
        shown[kind] = f"images/{kind}_epoch{newest[0]}.png" if newest else "data:,"
    words = {"diverged": report.diverged, "metrics": "" if report.history else "hidden"}
    return page(FOLDER / "report.html", {"title": report.name, **shown, **words}, vars(report))


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
    words = {"title": title, "samples_words": samples_words}
    return page(FOLDER / "comparison.html", words, data)
