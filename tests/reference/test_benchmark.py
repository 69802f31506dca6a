"""The benchmark compares what its programs print; a machine here says how long they took."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.commands.benchmark import main
from npvae.core.errors import NpvaeError
from npvae.fast import why_not
from npvae.reference.timing import benchmark
from tests.helpers import Said, refused

needs_engine = pytest.mark.skipif(bool(why_not("auto")), reason="the engine cannot run here")


class Machine:
    """Programs that print figures, PyTorch and JAX missing, and processes that keep it busy."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []  # the options of each program that was run
        self.busy: list[subprocess.Popen[bytes]] = []
        self.popen, self.real_run = subprocess.Popen, subprocess.run

    def start(self, *words: Any, **more: Any) -> Any:
        self.busy.append(self.popen(*words, **more))
        return self.busy[-1]

    def run(self, words: list[str], **more: Any) -> Any:
        """The first epoch takes 9 s, npvae's others 1, 2, 3 s or so, with one worker 2 s more."""
        if words[1] == "-n":  # as mpi_times.py says: 1 ms and 10 us an image, 1 ms for an exchange
            steps = {size: 1e-3 + 1e-5 * int(size) / int(words[2]) for size in words[6].split(",")}
            exchange = 1e-3 * (int(words[2]) - 1)
            figures = {"step": {k: t + exchange for k, t in steps.items()}, "exchange": exchange}
            return subprocess.CompletedProcess(words, 0, json.dumps(figures))
        if words[0] != sys.executable:  # what Python asks about the system
            return self.real_run(words, **more)
        program, options = words[3], dict(zip(words[4::2], words[5::2], strict=True))
        if program in ("torch", "jax"):
            return subprocess.CompletedProcess(words, 2)
        workers = int(more["env"].get("OMP_NUM_THREADS", 0))
        busy = sum(process.poll() is None for process in self.busy)
        self.asked.append({**options, "program": program, "beside": f"{workers} {busy}"})
        times = sum(asked["program"] == "npvae" for asked in self.asked)
        seconds = 2.0 if program == "products" else times + 2 * workers
        epochs = np.linspace(seconds - 0.5, seconds + 0.5, int(options["--epochs"]) - 1)
        printed = json.dumps({"seconds": [9.0, *epochs], "peak_mib": 100 + times})
        return subprocess.CompletedProcess(words, 0, printed)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(subprocess, "run", machine.run)
    monkeypatch.setattr(subprocess, "Popen", machine.start)
    return machine


def test_every_program_that_is_there_is_compared_round_by_round(
    machine: Machine, said: Said, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    words = ["--batch-sizes", "32", "--rounds", "3", "--sweep", "--json", str(path)]
    main(["--data", str(tmp_path), *words])
    figures, out = json.loads(path.read_text()), capsys.readouterr().out
    assert figures["machine"]["cpu"] in out
    said("a benchmark", {"compared, and a sweep": out[out.index("...") :]})
    ratio = {"npvae_takes": 1.0, "from": 0.5, "to": 1.5}
    assert figures["compared"]["32"][0] == {"program": "products", "seconds": 2.0, **ratio}
    assert {asked["--data"] for asked in machine.asked} == {str(tmp_path)}
    assert machine.asked[-1]["--images"] == "240000"


def test_by_default_it_compares_small_batches_too(machine: Machine) -> None:
    main(["--quiet"])
    asked = [asked["--batch-size"] for asked in machine.asked if asked["program"] == "npvae"]
    assert asked == [size for size in ("512", "128", "64", "32") for _ in range(5)]


def test_beside_other_processes_one_worker_and_all_take_turns(
    machine: Machine,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "CROWDS", (0, 2))  # up to 20 would keep this machine busy
    main(["--crowd", "--rounds", "2"])
    beside = [asked["beside"] for asked in machine.asked]
    assert beside == [*["1 0", "0 0"] * 2, *["1 2", "0 2"] * 2]
    assert {asked["--images"] for asked in machine.asked} == {"6400"}
    assert all(process.poll() is not None for process in machine.busy)
    out = capsys.readouterr().out
    said("a benchmark in a crowd", {"beside 0 and 2": out[out.index("...") :]})


def test_a_program_runs_in_a_process_and_says_why_it_fails() -> None:
    result = benchmark.run("products", None, 3, batch_size=32, hidden=8, images=70)
    assert result is not None
    assert (result["program"], result["images"], result["batch_size"]) == ("products", 70, 32)
    assert (len(result["seconds"]), result["losses"]) == (3, [])
    assert min(result["seconds"]) > 0
    assert result["versions"] == {"numpy": np.__version__}
    with refused(NpvaeError, "nowhere.npz"):
        benchmark.run("products", "nowhere.npz", 1)


@needs_engine
@pytest.mark.usefixtures("machine")
def test_with_mpi_it_says_what_more_ranks_gain(
    said: Said, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    found = {}
    for sizes in ("100,1000", "500"):
        main(["--mpi", "--batch-sizes", sizes])
        found[f"batches of {sizes}"] = capsys.readouterr().out
    said("a benchmark of ranks", found)


@needs_engine
@pytest.mark.skipif(not importlib.util.find_spec("mpi4py"), reason="mpi4py is not installed")
@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec is not installed")
def test_two_ranks_are_measured() -> None:
    from npvae.reference.timing.mpi_times import measured

    two = measured(2, [8, 4])
    assert set(two["step"]) == {"8", "4"}
    assert all(time > 0 for time in [*two["step"].values(), two["exchange"]])


@pytest.mark.slow
@needs_engine
def test_in_a_crowd_all_workers_take_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured 1.0 to 1.1; threads that wait for one another would take four to ten times as long.

    The limit of 2 is for a machine that is crowded already.
    """
    monkeypatch.setattr(benchmark, "CROWDS", (8,))
    (row,) = benchmark.crowd(None, 32, 3, lambda line: None)
    assert row["ratio"] < 2
