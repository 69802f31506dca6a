"""Grade a folder of sheets: python -m npvae.lab.grade FOLDER prints a table as CSV.

Sizes and seeds differ from those of `lab.py check`. Each sheet runs in a process of its own, with
limits of time and memory, and without a network where `unshare` can take it away.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from npvae.core.errors import OptionError
from npvae.lab.checker import check_sheet
from npvae.lab.process import read_sheet
from npvae.lab.sheet import points
from npvae.lab.tasks import tasks

ALONE = ("unshare", "-rn", "--pid", "--fork", "--kill-child", "--")


def without_network() -> Sequence[str]:
    """Words in front of a command that take its network away; none where that does not work."""
    if not shutil.which(ALONE[0]):
        return ()
    tried = subprocess.run([*ALONE, "true"], capture_output=True, check=False)
    return ALONE if tried.returncode == 0 else ()


def grade(paths: Sequence[Path], worth: dict[int, float], seed: int) -> Iterator[list[object]]:
    """A row for each sheet: its name, the points of each task, their sum, remarks."""
    before = without_network()
    for path in paths:
        got: dict[int, float] = dict.fromkeys(worth, 0.0)
        causes: dict[str, list[str]] = {}  # each with the tasks that it concerns
        try:
            for verdict in check_sheet(path, worth, seed, before=before):
                number = verdict.task.number
                if verdict.state == "right":
                    got[number] = worth[number]
                elif verdict.state == "wrong":
                    causes.setdefault(" ".join(verdict.lines), []).append(str(number))
        except OptionError as error:
            causes = {str(error): []}
        except Exception as error:  # a bug of ours must not cost the other sheets their row
            causes = {f"not graded, which is a bug in npvae: {error!r}": []}
        remarks = [f"task {', '.join(k)}: {cause}" if k else cause for cause, k in causes.items()]
        name = path.name if path.name[0] not in "=+-@" else f"./{path.name}"  # no formula
        numbers = [f"{value:g}" for value in [*got.values(), sum(got.values())]]
        yield [name, *numbers, " | ".join(remarks)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m npvae.lab.grade", description=__doc__)
    parser.add_argument("folder", type=Path, help="the sheets, *.py and *.ipynb")
    parser.add_argument("--seed", type=int, default=1, help="of sizes and numbers (default: 1)")
    parser.add_argument("--sheet", type=Path, help="the one you gave out: its POINTS count")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.glob("*") if p.suffix in (".py", ".ipynb"))
    if not paths or options.seed < 0:
        parser.error(f"there is no sheet in {options.folder}" if not paths else "--seed is below 0")
    try:
        worth = points(read_sheet(options.sheet) if options.sheet else b"")
    except OptionError as error:
        parser.error(str(error))
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    table = csv.writer(sys.stdout, lineterminator="\n")
    of = f"points of {sum(worth.values()):g}"
    table.writerow(["sheet", *(f"{k} {tasks()[k].name}" for k in worth), of, "remarks"])
    for row in grade(paths, worth, options.seed):
        table.writerow(row)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
