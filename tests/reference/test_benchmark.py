"""The benchmark runs from end to end, on a few images; its figures mean nothing here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from npvae.commands.benchmark import main
from npvae.fast import jit
from npvae.reference.timing import benchmark
from tests.reference.test_baselines import pictures, write_idx


@pytest.fixture
def data(tmp_path: Path) -> str:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", pictures(70))
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pictures(10))
    return str(tmp_path)


def test_every_program_that_is_there_is_timed(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "PROGRAMS", ("products", "npvae", "nobody"))
    monkeypatch.setattr(benchmark, "SWEEPS", {"hidden": (4,)})
    real: Any = benchmark.run

    def run(program: str, *arguments: Any, **options: Any) -> Any:
        """`nobody` lacks a package."""
        return None if program == "nobody" else real(program, *arguments, **options)

    monkeypatch.setattr(benchmark, "run", run)
    path = tmp_path / "figures.json"
    main(["--data", data, "--batch-sizes", "32", "--rounds", "2", "--sweep", "--json", str(path)])
    figures = json.loads(path.read_text())
    rows = figures["compared"]["32"]
    assert [row["program"] for row in rows] == ["products", "npvae"]
    for row in rows:
        assert row["seconds"] > 0
        assert row["from"] <= row["npvae_takes"] <= row["to"]
    assert rows[1]["npvae_takes"] == 1
    assert [row["hidden"] for row in figures["sweep"]["hidden"]] == [4]
    out = capsys.readouterr().out
    assert "batch 32: seconds per epoch, medians of 2 rounds" in out
    assert figures["machine"]["cpu"] in out


def test_beside_other_processes_one_worker_and_all_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    started: list[Any] = []
    popen = subprocess.Popen

    def start(*words: Any, **more: Any) -> Any:
        started.append(popen(*words, **more))
        return started[-1]

    def run(program: str, data: None, epochs: int, workers: int = 0, **_: int) -> Any:
        seen.append((sum(process.poll() is None for process in started), workers))
        return {"seconds": [9.0, *(epochs - 1) * [1.0 + workers]]}

    monkeypatch.setattr(benchmark, "CROWDS", (0, 2))
    monkeypatch.setattr(benchmark, "run", run)
    monkeypatch.setattr(subprocess, "Popen", start)
    main(["--crowd", "--rounds", "2", "--json", str(tmp_path / "figures.json")])
    assert seen == [(0, 1), (0, 0), (0, 1), (0, 0), (2, 1), (2, 0), (2, 1), (2, 0)]
    assert all(process.poll() is not None for process in started)
    rows = json.loads((tmp_path / "figures.json").read_text())["crowd"]
    both = {"one worker": 2.0, "a worker for each core": 1.0}
    ratio = {"ratio": 0.5, "from": 0.5, "to": 0.5}
    assert rows == [{"busy": busy, **both, **ratio} for busy in (0, 2)]
    assert "beside  2 busy processes: one worker 2.000" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(bool(jit.WHY_NOT), reason=f"there is no engine: {jit.WHY_NOT}")
def test_in_a_crowd_all_workers_take_no_longer_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured 1.0 to 1.1; threads that wait for one another would take four to ten times as long.

    The limit of 2 is for a machine that is crowded already.
    """
    monkeypatch.setattr(benchmark, "CROWDS", (8,))
    (row,) = benchmark.crowd(None, 32, 3, lambda line: None)
    assert row["ratio"] < 2


def test_by_default_it_compares_small_batches_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def compare(data: str | None, batch_size: int, *_: object) -> dict[str, list[float]]:
        seen.append(batch_size)
        return {"npvae": [1.0]}

    monkeypatch.setattr(benchmark, "compare", compare)
    main([])
    assert seen == [512, 128, 64, 32]
