"""What several tests share: small data, scripts run as a user would run them, a terminal's view."""

from __future__ import annotations

import inspect
import json
import os
import random
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.commands import training_run
from npvae.core.optimizer_base import Optimizer
from npvae.datasets import Dataset
from npvae.datasets.drawn_digits import drawn_digits
from npvae.fast import stands_for
from npvae.model import VAE
from npvae.runs import fit
from npvae.runs.fit import Epoch, Examples, Job, Report
from npvae.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("minimal_vae.py", "plane_vae.py")  # they have no options
SCRIPTS = sorted(path for path in (ROOT / "scripts").glob("*.py") if path.name not in SHOWN)

HANGS_AFTER = 300.0  # seconds: nothing here takes that long, however busy the machine is

Bytes = NDArray[np.uint8]
Tally = Callable[[str, str], None]  # see conftest.py
Said = Callable[[str, dict[str, str]], None]


@cache
def drawn(train: int = 200, test: int = 60) -> tuple[Dataset, Dataset]:
    """A few drawn digits; the same arrays each time, so copy first."""
    return drawn_digits(train=train, test=test)


def digits(train: int, test: int) -> tuple[Bytes, Bytes]:
    """Their images alone."""
    train_set, test_set = drawn(train, test)
    return train_set.images, test_set.images


def train(
    vae: VAE,
    optimizer: Optimizer,
    images: Bytes,
    test_images: Bytes | None,
    settings: Settings,
    epochs: range,
    report: Report | None = None,
) -> Iterator[Epoch]:
    """`fit.train` for a model that is not conditional."""
    test = None if test_images is None else Examples(test_images)
    return fit.train(Job(vae, optimizer, settings, Examples(images), test), epochs, report)


def save_dataset(
    path: Path, train: Bytes, test: Bytes, y_train: Any = None, y_test: Any = None
) -> Path:
    """An .npz file of these images, for --dataset; without labels, every class is 0."""
    y_train = np.zeros(len(train), np.uint8) if y_train is None else y_train
    y_test = np.zeros(len(test), np.uint8) if y_test is None else y_test
    np.savez(path, x_train=train, x_test=test, y_train=y_train, y_test=y_test)
    return path


def digits_file(folder: Path, train: int = 200, test: int = 60) -> Path:
    """Drawn digits as such a file: loaded at once."""
    return save_dataset(folder / "digits.npz", *digits(train, test))


def start(out: str | Path = "run", dataset: str | Path = "digits.npz", **settings: Any) -> None:
    """A small run in this process, without pictures, in the folder `out` of this one."""
    small = {"hidden_dims": (8,), "batch_size": 64, "epochs": 2, "pictures_every": 0}
    chosen = Settings(**{"dataset": str(dataset), **small, **settings})
    training_run.start(chosen, None, str(out))


def resume(out: str | Path = "run", **given: Any) -> None:
    training_run.resume(str(out), given, None)


def assert_same_run(one: str | Path, other: str | Path) -> None:
    """The same models, losses and pictures, to the bit. Both have held out images (best.npz)."""
    one, other = Path(one), Path(other)
    for name in ("last.npz", "best.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert untimed(one / "metrics.csv") == untimed(other / "metrics.csv")
    pictures = [  # not what a run that was killed left half written
        {name: data for name, data in contents(run / "images").items() if name.endswith(".png")}
        for run in (one, other)
    ]
    assert pictures[0] == pictures[1]


@contextmanager
def refused(error: type[Exception], *words: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """What is done here raises this error, with all of these words in at most four lines."""
    with pytest.raises(error) as info:
        yield info
    message = str(info.value)
    assert len(message.splitlines()) <= 4, message
    for word in words:
        assert word in message, message


@contextmanager
def unchanged(*folders: str | Path) -> Iterator[None]:
    """What is done here leaves every file below these folders as it was, and adds none."""
    before = [contents(folder) for folder in folders]
    try:
        yield
    finally:  # also where it raises an error that is caught outside
        assert [contents(folder) for folder in folders] == before


def contents(folder: str | Path) -> dict[str, bytes]:
    """The bytes of all files below a folder, by their names in it."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def mutated(data: bytes, seed: int) -> bytes:
    """One to three of: bytes changed, zeroed, removed, doubled, moved, put in; the end cut off."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        start, elsewhere = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        stop = start + rng.choice([1, 2, 4, 30, 400])
        before, some, after = data[:start], data[start:stop], data[stop:]
        data = rng.choice(
            [
                before + rng.randbytes(len(some)) + after,
                before + bytes(len(some)) + after,
                before + after,
                before + some + some + after,
                data[:elsewhere] + some + data[elsewhere + len(some) :],
                before + rng.randbytes(rng.randint(1, 40)) + some + after,
                before,
            ]
        )
    return data


def data_of(page: str | Path) -> Any:
    """What a page of ours (its HTML, or its path) carries as JSON."""
    html = page.read_text(encoding="utf-8") if isinstance(page, Path) else page
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(found)


def environment(**changes: str) -> dict[str, str]:
    """For a child process: one BLAS thread, which small runs like, and no Numba to wait for.

    It imports this npvae from any folder, although PYTHONPATH may be relative here.
    """
    odd = ("COLUMNS", "LINES", "NPVAE_DATA_DIR", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in odd}
    others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    path = os.pathsep.join([str(ROOT), *map(os.path.abspath, others)])
    settings = {"NPVAE_BACKEND": "numpy", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": path}
    return {**kept, **settings, **changes}


def command(script: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]


def run_script(
    script: str, *arguments: str | Path, cwd: Path, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end in the folder cwd, its output piped."""
    return run(command(script, *arguments), cwd=cwd, env=environment(**changes))


def run(
    words: Sequence[str],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    given: str = "",
    stdout: int = subprocess.PIPE,
    timeout: float | None = HANGS_AFTER,
) -> subprocess.CompletedProcess[str]:
    """The same with any command line; on stdin it gets what is given, and then the end."""
    return subprocess.run(
        words,
        cwd=cwd,
        env=env or environment(),
        input=given,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def wait_for_files(folder: Path, name: str, count: int, process: subprocess.Popen[str]) -> None:
    """Until a process has made so many files of this name, or has ended."""
    until = time.monotonic() + HANGS_AFTER
    while len(list(folder.rglob(name))) < count and process.poll() is None:
        assert time.monotonic() < until, f"{name} does not come"
        time.sleep(0.02)


def process(body: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """How a command whose main does this ends, in a process of its own: a signal may end it."""
    main = textwrap.indent(textwrap.dedent(body), "    ")
    modules = "import os, signal, sys, time, warnings\nfrom npvae.commands import cli\n"
    program = f"{modules}def main(arguments):\n{main}\ncli.run(main)"
    return run([sys.executable, "-c", program], stdout=stdout)


def is_ours() -> bool:
    """Whether the lesson is the one that is released: what the engine stands for, and no more."""
    known = json.loads(stands_for.DIGESTS.read_text(encoding="utf-8"))
    sources = {name: inspect.getsource(import_module(name)) for name in stands_for.LESSON}
    return bool(known == {name: stands_for.digests(name, text) for name, text in sources.items()})


# What a line of your own in the lesson may change: nothing is wrong then.
of_our_lesson = pytest.mark.skipif(
    not is_ours(), reason="about the lesson as it is released, and this one has been changed"
)


def full_disk(*anything: object) -> None:
    """Instead of a function of `os` that writes."""
    raise OSError(28, "No space left on device")


def screen(output: str) -> list[str]:
    """What a terminal would show, were it wide enough, after all of the output."""
    lines = [""]
    for piece in re.split(r"(\r\n|\n|\r|\033\[K)", output):
        if piece in ("\n", "\r\n"):
            lines.append("")
        elif piece in ("\r", "\033[K"):
            # Both come together here: back to the start of the line, and wipe it.
            lines[-1] = "" if piece == "\033[K" else lines[-1]
        else:
            lines[-1] += piece
    return lines


def drawn_lines(output: str) -> list[str]:
    """Every line that ever stood on the terminal, wiped away later or not."""
    return [line for line in re.split(r"\r\n|\n|\r|\033\[K", output) if line]


def from_clone(text: str) -> str:
    """A message in which our scripts have the names that they have in the clone."""
    return re.sub(r"python ('?).*?(scripts/\w+\.py)\1", r"python \2", text)


def rows(csv: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.csv, as text by column."""
    names, *lines = (line.split(",") for line in csv.read_text().splitlines())
    return [dict(zip(names, line, strict=True)) for line in lines]


def untimed(csv: Path) -> list[dict[str, Any]]:
    """The same but for the seconds, which no two runs have in common."""
    return [{**row, "seconds": ""} for row in rows(csv)]


def anchor(heading: str) -> str:
    """The place of a heading in its page, as GitHub names it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
