"""Runs of the experiments on other ranks of MPI behave as those of --jobs."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from subprocess import Popen

import pytest

from tests.helpers import HANGS_AFTER, ROOT, digits_file, wait_for_files
from tests.runs.test_mpi import mpiexec, needs_mpi

pytestmark = needs_mpi
FEW = """
import os
from pathlib import Path
from npvae.commands import cli, experiment_runs
line = "--preset tutorial --dataset {} --hidden 5 --latent-dim 2 --epochs {}"
experiment_runs.option_lines = lambda which: [line.format(*given) for given in RUNS]
Path("rank0.pid").write_text(str(os.getpid()))
cli.run(cli.command("experiments"))
"""


@pytest.fixture(autouse=True)
def files(here: Path) -> None:
    digits_file(here)
    (here / "train.py").write_text((ROOT / "scripts" / "train.py").read_text())


def started(*runs: tuple[str, int], python: str = "-m mpi4py.futures") -> Popen[str]:
    """These runs, a dataset and epochs each, on three ranks."""
    program = f"RUNS = {runs}\n{FEW}"
    return mpiexec(3, program, "--seeds", "1", cwd=Path(), python=python.split())


def ended(process: Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    out, err = process.communicate(timeout=HANGS_AFTER)
    return process.returncode, out, err


def test_ranks_train_the_runs_and_the_same_command_continues(here: Path) -> None:
    runs = [("digits.npz", epochs) for epochs in (100, 101, 3)]
    process = started(*runs)
    wait_for_files(here, "last.npz", 2, process)  # two runs at once
    os.kill(int((here / "rank0.pid").read_text()), signal.SIGINT)  # mpiexec would pass it on
    code, _, err = ended(process)
    assert code == 130, err
    assert err.count("Interrupted. Finished epochs are kept; the same command continues.") == 1
    assert not list(here.rglob("*epochs-3-seed*"))

    code, out, err = ended(started(*runs))
    assert code == 0, err
    assert re.findall(r"(\d/3)  --preset", out) == ["1/3", "2/3", "3/3"]
    about = [json.loads(path.read_text()) for path in sorted(here.rglob("run.json"))]
    assert ["resumed" in each for each in about] == [True, True, False]
    assert ended(started(*runs))[1].count("bce + kl") == 0  # nothing is left to do


def test_a_run_that_fails_on_a_rank_ends_all() -> None:
    code, out, err = ended(started(("digits.npz", 100_000), ("nowhere.npz", 1)))
    # Of mpiexec it is sometimes 0, where the other ranks have just ended by themselves.
    assert code == 3 or "MPI_Abort(MPI_COMM_WORLD, 3)" in err
    assert "bce + kl" not in out
    assert err.count("failed (exit code 3):\nerror: there is no dataset") == 1


def test_without_mpi4py_futures_rank_0_says_how_to_start() -> None:
    code, _, err = ended(started(python=""))
    assert code == 2
    assert err.count("write  python -m mpi4py.futures  instead of  python") == 1
