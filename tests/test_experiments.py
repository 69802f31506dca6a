"""Experiments are run once, resumed, counted and weighed rightly."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from statistics import variance

import pytest

from npvae import experiments
from npvae.errors import NpvaeError
from npvae.experiments import CHANGES, Experiment, Outcome, changes_table, outcomes, presets_table
from npvae.settings import PRESETS
from tests.helpers import ROOT, digits_file, environment, run_script

TRAIN = ROOT / "scripts" / "train.py"
BASE = "--preset tutorial --dataset digits.npz --hidden 5 --latent-dim 2"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    digits_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_runs_are_run_once_resumed_and_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path("runs with spaces")
    shorter = Experiment(f"{BASE} --epochs 1", 0, place)
    longer, other = (Experiment(f"{BASE} --epochs 3", seed, place) for seed in (0, 1))
    wild = Experiment(f"{BASE} --epochs 3 --learning-rate 1e30", 0, place)
    experiments.train_all([shorter], TRAIN)
    shorter.folder.rename(longer.folder)  # as if it had been interrupted after one epoch
    assert not longer.done
    experiments.train_all([longer, other, wild], TRAIN, jobs=2)
    assert longer.done
    assert [int(row["epoch"]) for row in longer.rows] == [1, 2, 3]
    assert wild.diverged
    assert "--learning-rate" in (wild.folder / "diverged.txt").read_text()
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("1/1  ")
    assert {line.split(" ")[0] for line in told[1:]} == {"1/3", "2/3", "3/3"}
    assert sum("diverged" in line for line in told) == 1

    times = {path: path.stat().st_mtime_ns for path in place.rglob("*.npz")}
    experiments.train_all([longer, other, wild], TRAIN, jobs=2)  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.npz")} == times
    assert capsys.readouterr().out == ""

    runs = [longer, other, wild, Experiment("--preset tuned", 0, place)]
    found = outcomes(runs)
    assert list(found) == [longer.options, wild.options]
    last = [float(run.rows[-1]["test_bce"]) + float(run.rows[-1]["test_kl"]) for run in runs[:2]]
    assert found[longer.options].losses == pytest.approx(last, abs=1e-6)
    assert found[wild.options].loss == math.inf
    experiments.write_csv(runs, here / "all.csv")
    rows = list(csv.DictReader((here / "all.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "0"]
    assert float(rows[0]["test_loss"]) == pytest.approx(last[0], abs=1e-4)


def test_a_run_that_fails_ends_it_with_what_it_said(here: Path) -> None:
    wrong = Experiment("--preset tutorial --dataset nowhere.npz --epochs 1", 0, Path("runs"))
    with pytest.raises(NpvaeError, match=r"has failed:\nerror: .*nowhere"):
        experiments.train_all([wrong], TRAIN)


def test_every_experiment_is_a_command_line_with_a_folder_of_its_own() -> None:
    lines = experiments.chosen("all")
    assert len(lines) == len(PRESETS) + len(CHANGES)
    assert (
        experiments.chosen("changes")[0] == "--preset tutorial" == experiments.chosen("presets")[0]
    )
    folders = {Experiment(line, seed, Path()).folder for line in lines for seed in range(3)}
    assert len(folders) == 3 * len(lines)
    assert Experiment("--preset tuned --epochs 7", 0, Path()).epochs == 7
    assert Experiment("--preset tuned", 0, Path()).epochs == PRESETS["tuned"].epochs


def outcome(options: str, *losses: float) -> Outcome:
    return Outcome(options, list(losses), 200.0, 10.0, 60.0)


def test_what_is_noise_depends_on_how_much_seeds_differ() -> None:
    start = "--preset tutorial"
    base = outcome(start, 244.0, 244.2, 244.4)
    rows = [
        outcome(f"{start} {CHANGES[0]}", 240.0, 240.2, 240.4),
        outcome(f"{start} {CHANGES[1]}", 244.2, 244.4, 244.6),
        outcome(f"{start} {CHANGES[2]}", 250.0, 250.2, 250.4),
        outcome(f"{start} {CHANGES[3]}"),
    ]
    lines = changes_table({row.options: row for row in (*rows, base)}).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:7]] == [
        f"`{CHANGES[0]}`",
        "(the preset itself)",
        *(f"`{change}`" for change in CHANGES[1:4]),
    ]
    assert [line.split("|")[-2].strip() for line in lines[2:7]] == [
        "helps",
        "",
        "noise",
        "hurts",
        "hurts",
    ]
    assert "-4.00" in lines[2]
    assert "diverged" in lines[6]
    noise = 2 * math.sqrt(variance(base.losses) * 2 / 3)  # every row has the same variance
    assert f"{noise:.2f} nats" in lines[-1]


def test_presets_stand_beside_the_figures_of_others() -> None:
    table = presets_table({"--preset vae-opt": outcome("--preset vae-opt", 102.0, 103.0)})
    (row,) = table.splitlines()[2:]
    assert row.split(" | ") == [
        "| `vae-opt`",
        "200.00",
        "10.00",
        "**102.50**",
        "102.00 to 103.00",
        "60",
        "102.54",
        "2926.4 |",
    ]


def test_the_tables_alone_train_nothing(tmp_path: Path) -> None:
    done = run_script("experiments.py", "presets", "--only-tables", "--out", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| preset |")
    assert not list(tmp_path.iterdir())
