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
from npvae.core.errors import OptionError, RankError
from npvae.runs import launcher
from npvae.runs.mpi import Ranks, join
from npvae.storage import checkpoint
from tests.helpers import digits_file, environment, run_script

MPIEXEC = shutil.which("mpiexec")
HANGS_AFTER = 300.0  # seconds: generous, for a machine that is busy
needs_mpi = [
    pytest.mark.skipif(not importlib.util.find_spec("mpi4py"), reason="mpi4py is not installed"),
    pytest.mark.skipif(MPIEXEC is None, reason="mpiexec is not installed"),
]


def mpiexec(
    ranks: int, program: str, *arguments: str, cwd: Path, python: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start a Python program on so many ranks in the folder cwd; `python` are options of Python."""
    (cwd / "program.py").write_text(program)
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, *python, "program.py", *arguments],
        cwd=cwd,
        env=environment(PYTHONUNBUFFERED="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ------------------------------------------------------------------ the same weights

COMPARE = "from tests.runs import compare_ranks; compare_ranks.main()"


@pytest.mark.parametrize("ranks", [pytest.param(n, marks=needs_mpi) for n in (2, 3)])
def test_ranks_train_the_model_that_one_process_trains(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks and as many threads have the same bits, and one process the same but for rounding.

    Threads add up the ranks' sums in the same order. A plain process sums over the whole batch, or
    shares out pixels, so the order differs. In float32 Adam turns a gradient that is all rounding,
    such as 1e-9, into a step of the learning rate, whose sign is then open; eight steps bound that
    by 8 * 2 * 1e-3 at most.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", str(ranks))
    child = mpiexec(ranks, COMPARE, cwd=tmp_path)
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode == 0, err
    found = json.loads(out)
    assert len(found) == (8 if fast.why_not("auto") else 16)
    for name, row in found.items():
        assert row["models"] == 1, name
        assert row["models with threads"] == 1, name
        assert row["weights"] < (1e-12 if "float64" in name else 16e-3), (name, row)
        assert row["losses"] < (1e-12 if "float64" in name else 1e-4), (name, row)


@pytest.mark.parametrize("backend", [pytest.param(b, marks=needs_mpi) for b in ("numpy", "auto")])
def test_one_rank_is_a_plain_process_byte_for_byte(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    options = ["--dataset", str(digits_file(tmp_path)), "--epochs", "2", "--backend", backend]
    options += ["--batch-size", "64", "--pictures-every", "0"]
    child = mpiexec(1, TRAIN, *options, "--out", "rank", cwd=tmp_path)
    _, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode == 0, err
    plain = run_script("train.py", *options, "--out", "plain", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    arrays = [checkpoint.load(tmp_path / run / "last.npz")[1] for run in ("rank", "plain")]
    for name, array in arrays[0].items():
        assert array.tobytes() == arrays[1][name].tobytes(), name


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
OPTIONS = [
    "--epochs",
    "900",
    "--batch-size",
    "20",
    "--hidden",
    "16",
    "--pictures-every",
    "0",
    "--out",
    "run",
]


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=needs_mpi)])
def test_a_rank_that_is_killed_ends_all_and_loses_no_epoch(ranks: int, tmp_path: Path) -> None:
    data = str(digits_file(tmp_path, train=400))
    child = mpiexec(ranks, TRAIN, "--dataset", data, *OPTIONS, cwd=tmp_path)
    assert child.stdout is not None
    printed, how = 0, ""
    for line in child.stdout:
        how += line if "if a process is lost" in line else ""
        if epoch := re.search(EPOCH, line):
            printed = int(epoch[1])
        if printed == 2:
            break
    os.kill(int((tmp_path / "rank1.pid").read_text()), signal.SIGKILL)
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode, err
    printed = max([printed, *map(int, re.findall(EPOCH, out))])
    again = r"ontinue with:  mpiexec -n 2 python .*--resume run\n"
    assert re.search(again, how)
    assert len(re.findall(again, err)) == 1  # the last words
    assert "Traceback" not in err
    header, before = checkpoint.load(tmp_path / "run" / "last.npz")
    done = header["epoch"]
    assert done >= printed
    assert header["versions"]["ranks"] == "2"

    more = str(done + 1)
    resumed = run_script("train.py", "--resume", "run", "--epochs", more, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "last digits may differ: ranks is 1, it was 2" in resumed.stderr
    header, after = checkpoint.load(tmp_path / "run" / "last.npz")
    assert header["epoch"] == done + 1
    assert not np.array_equal(before["decoder.logits.W"], after["decoder.logits.W"])


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=needs_mpi)])
def test_an_error_on_one_rank_ends_all_and_rank_0_says_how_to_continue(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "DataParallel.loss_and_gradients")
    data = str(digits_file(tmp_path, train=200))  # ten batches: the error comes in epoch 3
    child = mpiexec(ranks, TRAIN, "--debug", "--dataset", data, *OPTIONS, cwd=tmp_path)
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode == 1, err
    assert "rank 1: MemoryError: no memory is left here" in err
    assert "rank 1 has failed, so all ranks end." in err
    assert "The state after epoch 2 is in " in err
    assert re.search(r"\nContinue with:  mpiexec -n 2 python .*--resume run\n", err)
    assert out.count("epoch  ") == 1  # rank 0 alone prints
    assert checkpoint.load(tmp_path / "run" / "last.npz")[0]["epoch"] == 2


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=needs_mpi)])
def test_an_error_while_the_others_wait_for_a_sum_ends_all(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "Ranks.add_up")
    data = str(digits_file(tmp_path, train=200))
    child = mpiexec(ranks, TRAIN, "--debug", "--dataset", data, *OPTIONS, cwd=tmp_path)
    _, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode, err
    assert "rank 1: MemoryError: no memory is left here" in err
    assert checkpoint.load(tmp_path / "run" / "last.npz")[0]["epoch"] == 2


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=needs_mpi)])
def test_ctrl_c_while_mpi_is_imported_ends_all(ranks: int, tmp_path: Path) -> None:
    child = mpiexec(ranks, INTERRUPTED + TRAIN, "--dataset", "drawn-digits", cwd=tmp_path)
    _, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode == 130, err


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param(options, code, marks=needs_mpi)
        for options, code in {"--epochs x": 2, "--help": 0, "--dataset nowhere.npz": 3}.items()
    ],
)
def test_bad_options_and_help_are_explained_once(options: str, code: int, tmp_path: Path) -> None:
    child = mpiexec(3, TRAIN, *options.split(), cwd=tmp_path)
    out, err = child.communicate(timeout=HANGS_AFTER)
    assert child.returncode == code
    assert out.count("usage: ") == (code == 0)
    assert err.count("error: " if code == 3 else "'x' is not a whole number") == (code != 0)


class Lost:
    """A communicator whose other rank is gone; `Exception` is that of mpi4py."""

    rank, size = 0, 2
    Exception = type("Exception", (RuntimeError,), {"__module__": "mpi4py.MPI"})

    def lost(self, *arrays: object) -> None:
        raise self.Exception("Other MPI error, error stack:\n" * 25)

    Allgather = Alltoall = bcast = lost


@pytest.mark.parametrize("call", ["meet", "add_up", "share"])
def test_a_lost_rank_is_named_without_the_stack_of_mpi(call: str) -> None:
    arguments = [np.zeros(4)] if call == "add_up" else []
    with pytest.raises(RankError, match=r"^a rank was lost, so all ranks end\.$"):
        getattr(Ranks(Lost()), call)(*arguments)


# ------------------------------------------------------------------ without MPI


@pytest.mark.parametrize(
    ("variables", "note"),
    [
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, "Slurm has .* 2 .*"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, ""),  # the first task says it
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ""),  # in the job's script itself
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, ""),
        ({"FLUX_JOB_SIZE": "3", "FLUX_TASK_RANK": "0"}, "Flux has .* 3 .*"),
        ({}, ""),
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
    for name in ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # its import would fail
    assert join() is None


def test_under_mpiexec_without_mpi4py_rank_0_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr("npvae.runs.mpi.on_failure", [])  # or this process ends with a command
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    with pytest.raises(OptionError, match=r"started 2 processes.*\n.*pip install mpi4py mpich"):
        join()
    monkeypatch.setenv("PMI_RANK", "1")
    with pytest.raises(SystemExit) as end:
        join()
    assert end.value.code == 0  # so that mpiexec does not end rank 0 before
