"""Several processes train one model as one process would, and end together."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from npvae import fast
from npvae.commands import cli
from npvae.commands.session import restored
from npvae.core.errors import OptionError, RankError
from npvae.runs import launcher
from npvae.runs.mpi import Ranks, join
from npvae.storage import checkpoint
from tests.forks import started
from tests.helpers import (
    HANGS_AFTER,
    assert_same_run,
    digits_file,
    refused,
    resume,
    run_script,
)

MPIEXEC = shutil.which("mpiexec")
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or not importlib.util.find_spec("mpi4py"),
    reason="mpi4py and mpiexec are not installed",
)


def mpiexec(
    ranks: int, program: str, *words: str, cwd: Path, python: Sequence[str] = (), **changes: str
) -> subprocess.Popen[str]:
    """Start a Python program on so many ranks in the folder cwd; `python` are options of Python."""
    (cwd / "program.py").write_text(program)
    line = [str(MPIEXEC), "-n", str(ranks), sys.executable, *python, "program.py", *words]
    return started(line, cwd, PYTHONUNBUFFERED="1", **changes)


def ended(code: int, child: subprocess.Popen[str]) -> tuple[str, str]:
    """Output and errors of what ends by itself, with this exit code."""
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode == code, err
    return out, err


# ------------------------------------------------------------------ the same weights

COMPARE = "from tests.runs import compare_ranks; compare_ranks.main()"


@needs_mpi
def test_ranks_train_the_model_that_one_process_trains(here: Path) -> None:
    """All ranks and as many threads have the same bits, and one process the same but for rounding.

    Threads add up the ranks' sums in the same order. A plain process sums over the whole batch, or
    shares out pixels, so the order differs. In float32 Adam turns a gradient that is all rounding,
    such as 1e-9, into a step of the learning rate, whose sign is then open; eight steps bound that
    by 8 * 2 * 1e-3 at most.
    """
    out, _ = ended(0, mpiexec(3, COMPARE, cwd=here, OMP_NUM_THREADS="2"))
    found = json.loads(out)
    assert len(found) == (8 if fast.why_not("auto") else 16)
    for name, row in found.items():
        assert row["models"] == 1, name
        assert row["models with threads"] == 1, name
        assert row["weights"] < (1e-12 if "float64" in name else 16e-3), (name, row)
        assert row["losses"] < (1e-12 if "float64" in name else 1e-4), (name, row)


@needs_mpi
def test_one_rank_is_a_plain_process_byte_for_byte(here: Path) -> None:
    digits_file(here, 100, 20)
    options = ["--dataset", "digits.npz", "--epochs", "2", "--hidden", "8", "--validation", "20"]
    options += ["--pictures-every", "0", "--backend", "auto"]
    ended(0, mpiexec(1, TRAIN, *options, "--out", "rank", cwd=here, OMP_NUM_THREADS="2"))
    plain = run_script("train.py", *options, "--out", "plain", cwd=here, OMP_NUM_THREADS="2")
    assert plain.returncode == 0, plain.stderr
    assert_same_run("rank", "plain")


# ------------------------------------------------------------------ the same end

TRAIN = """
import os, sys
from pathlib import Path
from npvae.commands import cli
from npvae.runs.launcher import size_and_rank

rank = str(size_and_rank()[1])
Path(f"rank{rank}.pid").write_text(str(os.getpid()))
if rank == "1" and "--debug" in sys.argv:  # fails after so many batches
    from npvae.runs import mpi
    mpi.PATIENCE = float(os.environ["PATIENCE"])
    owner, _, name = os.environ["FAILS"].partition(".")
    owner = getattr(mpi, owner)
    right, calls = getattr(owner, name), []

    def wrong(*arguments):
        calls.append(1)
        if len(calls) > 25:
            raise MemoryError("no memory is left here")
        return right(*arguments)

    setattr(owner, name, wrong)
cli.run(cli.command("train"))
"""
INTERRUPTED = """
import sys
import mpi4py.MPI
from npvae.runs.launcher import size_and_rank

class CtrlC:  # where the import of mpi4py.MPI ends, after it has called MPI_Init
    def find_spec(name, *_):
        if name == "mpi4py.MPI":
            raise KeyboardInterrupt

if size_and_rank()[1] == 0:
    del sys.modules["mpi4py.MPI"], mpi4py.MPI
    sys.meta_path.insert(0, CtrlC)
"""
EPOCH = r"(\d+)/900  +\d"  # anywhere: Open MPI gives rank 0 a terminal, so a bar was there before
OPTIONS = "--epochs 900 --batch-size 20 --hidden 16 --pictures-every 0 --out run"


@needs_mpi
def test_a_rank_that_is_killed_ends_all_and_loses_no_epoch(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(digits_file(here, train=400))
    child = mpiexec(2, TRAIN, "--dataset", data, *OPTIONS.split(), cwd=here)
    assert child.stdout is not None
    printed, how = 0, ""
    for line in child.stdout:
        how += line if "if a process is lost" in line else ""
        if epoch := re.search(EPOCH, line):
            printed = int(epoch[1])
        if printed == 2:
            break
    os.kill(int(Path("rank1.pid").read_text()), signal.SIGKILL)
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode, err
    printed = max([printed, *map(int, re.findall(EPOCH, out))])
    again = r"ontinue with:  mpiexec -n 2 python .*--resume run\n"
    assert re.search(again, how)
    # Where rank 0 cannot read the memory of the one that is lost, MPICH ends mpiexec at once.
    assert len(re.findall(again, err)) == 1 or "process_vm_readv failed" in err
    assert "Traceback" not in err
    header, before = checkpoint.load("run/last.npz")
    done = header["epoch"]
    assert done >= printed
    assert header["versions"]["ranks"] == "2"

    monkeypatch.setenv("NPVAE_BACKEND", "numpy")  # as above
    resume("run", epochs=done + 1)
    assert "last digits may differ: ranks is 1, it was 2" in capsys.readouterr().err
    header, after = checkpoint.load("run/last.npz")
    assert header["epoch"] == done + 1
    assert not np.array_equal(before["decoder.logits.W"], after["decoder.logits.W"])


@needs_mpi
@pytest.mark.parametrize("others_wait", [False, True], ids=["at the next sum", "in this sum"])
def test_an_error_on_one_rank_ends_all_and_rank_0_says_how_to_continue(
    others_wait: bool, here: Path
) -> None:
    """If it waits for a sum, the rank that has failed ends it, and a watcher says so."""
    data = str(digits_file(here, train=200))  # ten batches: the error comes in epoch 3
    fails = "Ranks.add_up" if others_wait else "DataParallel.loss_and_gradients"
    arguments = ["--debug", "--dataset", data, *OPTIONS.split()]
    patience = "0.5" if others_wait else str(HANGS_AFTER)  # seconds
    child = mpiexec(2, TRAIN, *arguments, cwd=here, FAILS=fails, PATIENCE=patience)
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode if others_wait else child.returncode == 1, err
    assert "rank 1: MemoryError: no memory is left here" in err
    assert ("rank 1 has failed, so all ranks end." in err) == (not others_wait)
    assert re.search(r"The state after (epoch 2|the last epoch) is in run/last\.npz", err)
    assert re.search(r"\nContinue with:  mpiexec -n 2 python .*--resume run\n", err)
    assert out.count("epoch  ") == 1  # rank 0 alone prints
    assert checkpoint.load("run/last.npz")[0]["epoch"] == 2


@needs_mpi
def test_ctrl_c_while_mpi_is_imported_ends_all(here: Path) -> None:
    ended(130, mpiexec(2, INTERRUPTED + TRAIN, "--dataset", "drawn-digits", cwd=here))


@needs_mpi
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--epochs x", 2, "'x' is not a whole number"),
        ("--help", 0, "usage: "),
        ("--dataset nowhere.npz", 3, "error: "),
    ],
)
def test_bad_options_and_help_are_explained_once(
    options: str, code: int, words: str, here: Path
) -> None:
    out, err = ended(code, mpiexec(2, TRAIN, *options.split(), cwd=here))
    assert (err if code else out).count(words) == 1
    assert out.count("usage: ") == (code == 0)


class Lost:
    """A communicator whose other rank is gone; `Exception` is that of mpi4py."""

    rank, size = 0, 2
    Exception = type("Exception", (RuntimeError,), {"__module__": "mpi4py.MPI"})

    def lost(self, *arrays: object) -> None:
        raise self.Exception("Other MPI error, error stack:\n" * 25)

    Allgather = Alltoall = bcast = lost


def test_a_lost_rank_is_named_without_the_stack_of_mpi() -> None:
    ranks = Ranks(Lost())
    for call in (ranks.meet, ranks.share, lambda: ranks.add_up(np.zeros(4))):
        with pytest.raises(RankError, match=r"^a rank was lost, so all ranks end\.$"):
            call()


# ------------------------------------------------------------------ without MPI


@pytest.mark.parametrize(
    ("variables", "note"),
    [
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, "Slurm has .* 2 .*"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, ""),  # the first task says it
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ""),  # in the job's script itself
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ""),
        ({"FLUX_JOB_SIZE": "3", "FLUX_TASK_RANK": "0"}, "Flux has .* 3 .*"),
    ],
)
def test_tasks_that_do_not_see_each_other_say_so(
    variables: dict[str, str],
    note: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in filter(lambda name: name.startswith(launcher.OF_A_RANK), list(os.environ)):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert join() is None
    assert re.fullmatch(f"(note: {note} use mpiexec or .*\n)?", err := capsys.readouterr().err)
    assert bool(err) == bool(note)
    assert not launcher.environment_of_a_child().keys() & variables.keys() - {"SLURM_NTASKS"}


def test_without_mpiexec_nothing_of_mpi_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, _ in launcher.NUMBERS:
        monkeypatch.delenv(size, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # its import would fail
    assert join() is None


def test_under_mpiexec_without_mpi4py_rank_0_says_what_to_install_and_a_session_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    with restored(), refused(OptionError, "started 2 processes", "pip install mpi4py mpich"):
        join()
    monkeypatch.setenv("PMI_RANK", "1")
    with restored(), pytest.raises(SystemExit) as end:
        join()
    assert end.value.code == 0  # so that mpiexec does not end rank 0 before
    assert launcher.on_failure == []  # later commands do not end the process when they fail


def test_in_a_session_a_command_that_fails_ends_its_ranks_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes: list[int] = []

    def main(arguments: Sequence[str]) -> int:
        launcher.on_failure.append(codes.append)  # as join() does
        return 3

    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit):
        cli.run(main)
    assert (codes, launcher.on_failure) == ([3], [])
