"""Experiments run once, are resumed, are never confused, and their tables are right."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from npvae.commands import experiment_runs
from npvae.commands import experiment_tables as tables
from npvae.commands.experiment_runs import CHANGES, Experiment, option_lines
from npvae.commands.experiment_workers import Here
from npvae.commands.experiments import main
from npvae.commands.train import parsed
from npvae.core.errors import NpvaeError, OutputError
from npvae.settings import PRESETS, Settings
from tests.forks import started
from tests.helpers import (
    HANGS_AFTER,
    ROOT,
    Said,
    command,
    digits_file,
    environment,
    refused,
    unchanged,
    wait_for_files,
)

TRAIN = command("train.py")
BASE = "--preset tutorial --dataset digits.npz --hidden 5 --latent-dim 2"


@pytest.fixture
def dataset(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits_file(here)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)


def meant(run: Experiment) -> Settings:
    """What train.py itself makes of the options."""
    options = vars(parsed([*run.options.split(), "--seed", str(run.seed)]))
    given = {field.name: options[field.name] for field in fields(Settings) if field.name in options}
    return replace(PRESETS[options["preset"]], **given)


def pretend(run: Experiment, epochs: int | None = None) -> None:
    """The files of a run with so many epochs, or all of them, without the model."""
    run.folder.mkdir(parents=True)
    about = {"settings": meant(run).as_dict(), "data": {"name": "x"}, "versions": {}}
    (run.folder / "run.json").write_text(json.dumps(about))
    rows = ["200,10,210,0.5"] * (run.epochs if epochs is None else epochs)
    names = "test_bce,test_kl,test_loss,seconds"
    (run.folder / "metrics.csv").write_text("\n".join([names, *rows, ""]))


@pytest.mark.usefixtures("dataset")
def test_runs_are_run_once_resumed_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    place = Path("runs with spaces")
    shorter = Experiment(f"{BASE} --epochs 1", 0, place)
    longer, other = (Experiment(f"{BASE} --epochs 3", seed, place) for seed in (0, 1))
    wild = Experiment(f"{BASE} --epochs 3 --learning-rate 1e+30", 0, place)
    experiment_runs.train_all([shorter], TRAIN, Here(1))
    shorter.folder.rename(longer.folder)  # as if it had been interrupted after one epoch
    about = longer.folder / "run.json"
    about.write_text(about.read_text().replace('"epochs": 1,', '"epochs": 3,'))
    assert not longer.done
    runs = [longer, other, wild]
    experiment_runs.train_all(runs, TRAIN, Here(2))
    assert longer.done
    assert [int(row["epoch"]) for row in longer.rows] == [1, 2, 3]
    assert wild.diverged
    assert "--learning-rate" in (wild.folder / "diverged.txt").read_text()
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("1/1  ")
    assert {line.split(" ")[0] for line in told[1:]} == {"1/3", "2/3", "3/3"}
    assert sum("diverged" in line for line in told) == 1

    with unchanged(place):
        experiment_runs.train_all(runs, TRAIN, Here(2))  # nothing is left to do
    assert capsys.readouterr().out == ""

    found = tables.outcomes(runs)
    assert list(found) == [longer.options, wild.options]
    last = [float(run.rows[-1]["test_bce"]) + float(run.rows[-1]["test_kl"]) for run in runs[:2]]
    assert found[longer.options].losses == pytest.approx(last, abs=1e-6)
    assert found[wild.options].loss == math.inf
    tables.write_csv(runs, Path("all.csv"))
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1", "0"]
    assert float(rows[0]["test_loss"]) == pytest.approx(last[0], abs=1e-4)

    # A kill between the last two files is no failure: the next call writes the missing row.
    csv_file = longer.folder / "metrics.csv"
    csv_file.write_text("\n".join([*csv_file.read_text().splitlines()[:-1], ""]))
    assert not longer.done
    experiment_runs.train_all(runs, TRAIN, Here(1), quiet=True)
    assert longer.done
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("here")
def test_a_run_that_fails_ends_it_with_what_it_said() -> None:
    wrong = Experiment("--preset tutorial --dataset nowhere.npz --epochs 1", 0, Path("runs"))
    with pytest.raises(NpvaeError, match=r"failed \(exit code 3\):\nerror: .*nowhere") as error:
        experiment_runs.train_all([wrong], TRAIN, Here(1))
    assert error.value.exit_code == 3


def test_every_experiment_is_a_command_line_with_a_folder_of_its_own() -> None:
    lines = option_lines("all")
    assert len(lines) == len(PRESETS) + len(CHANGES)
    assert option_lines("changes")[0] == "--preset tutorial" == option_lines("presets")[0]
    folders = {Experiment(line, seed, Path()).folder for line in lines for seed in range(3)}
    assert len(folders) == 3 * len(lines)
    assert Experiment("--preset tuned --epochs 7", 0, Path()).epochs == 7
    assert Experiment("--preset tuned", 0, Path()).epochs == PRESETS["tuned"].epochs


def test_the_settings_are_those_that_train_makes_of_the_options() -> None:
    for options in option_lines("all"):
        run = Experiment(options, 7, Path())
        assert run.settings == experiment_runs.option_values(meant(run)), options


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be started, not even by mistake: it would take hours."""
    monkeypatch.setattr(subprocess, "Popen", None)


@pytest.mark.usefixtures("no_training", "here")
@pytest.mark.parametrize("kept", ["metrics.csv", "last.npz", "diverged.txt"])
def test_a_run_of_other_settings_is_refused(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is finished, was killed before its first row was written, or has diverged."""
    run = Experiment("--preset tutorial --hidden 128,128", 0, Path("runs"))
    pretend(run)
    (run.folder / "metrics.csv").rename(run.folder / kept)
    assert run.done == (kept != "last.npz")
    monkeypatch.setitem(PRESETS, "tutorial", replace(PRESETS["tutorial"], pictures_every=5))
    assert run.done == (kept != "last.npz")  # pictures change nothing
    now = replace(PRESETS["tutorial"], batch_size=64, augment=("flip",), hidden_dims=(9,))
    monkeypatch.setitem(PRESETS, "tutorial", now)
    others = "It started with --augment none, not flip; --batch-size 512, not 64.\n"
    with refused(OutputError, f"{run.folder} holds a run with", f"than {run.options} has", others):
        experiment_runs.train_all([run], TRAIN, Here(1))
    for words in ("changes --only-tables", "presets"):  # the latter before anything is trained
        with refused(OutputError, "holds a run with other settings"):
            main([*words.split(), "--out", "runs"])


def test_a_run_that_does_not_tell_its_settings_is_refused(tmp_path: Path) -> None:
    run = Experiment("--preset tutorial", 0, tmp_path)
    pretend(run)
    for text in ("", "{}", '{"settings": {"colour": "red"}}'):
        (run.folder / "run.json").write_text(text)
        with refused(OutputError, "--dataset (unknown), not fashion-mnist"):
            experiment_runs.finished(tmp_path)
    (run.folder / "metrics.csv").unlink()
    assert not run.done  # it has not begun, so that nothing can be mistaken


@pytest.mark.usefixtures("no_training")
def test_the_table_of_all_runs_has_all_that_are_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables hold all of them, whatever this call asked for."""
    asked = [Experiment(options, 0, tmp_path) for options in option_lines("presets")]
    change = f"--preset tutorial {CHANGES[0]}"
    more = [Experiment("--preset tutorial", 1, tmp_path), Experiment(change, 12, tmp_path)]
    for run in (*asked, *more, Experiment("--preset tutorial --epochs 3", 0, tmp_path)):
        pretend(run)
    pretend(Experiment(change, 1, tmp_path), epochs=2)  # not finished
    for name in ("my-seed-bank", "tutorial-seed-01"):
        (tmp_path / name).mkdir()
    for _ in range(2):  # then over its own table
        main(["presets", "--seeds", "1", "--quiet", "--out", str(tmp_path)])
        rows = list(csv.DictReader((tmp_path / "experiments.csv").read_text().splitlines()))
        told = [(row["options"], row["seed"]) for row in rows]
        assert told == [(run.options, str(run.seed)) for run in (*asked, *more)]
        assert "change" not in capsys.readouterr().out


def test_a_table_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    for text in (b"", b"options,result\n", b"\xff\xfe"):
        (tmp_path / "experiments.csv").write_bytes(text)
        with unchanged(tmp_path), refused(OutputError, "is not a table of experiments"):
            main(["presets", "--out", str(tmp_path)])


WAITS = """
import signal, sys, time
from pathlib import Path

def save(*ignored):
    (folder / "saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
folder = Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir(parents=True)
(folder / "started").touch()
time.sleep(600)
"""


def test_an_interruption_says_that_nothing_is_lost(here: Path) -> None:
    shutil.copy(ROOT / "scripts" / "experiments.py", here)
    Path("train.py").write_text(WAITS)
    process = started([sys.executable, "experiments.py", "presets", "--jobs", "2"], here)
    try:
        wait_for_files(here, "started", 2, process)
        process.terminate()
        told, complained = process.communicate(timeout=HANGS_AFTER)
    finally:
        process.kill()
    assert (process.returncode, told) == (143, "")
    assert complained == "Interrupted. Finished epochs are kept; the same command continues.\n"
    assert len(list(here.rglob("saved"))) == 2


def outcome(options: str, *losses: float, diverged: int = 0) -> tables.Outcome:
    return tables.Outcome(f"--preset {options}", list(losses), diverged, 200.0, 10.0, 60.0)


def test_the_tables_tell_what_helps_from_noise(said: Said) -> None:
    """All rows vary alike over their seeds: two standard errors are 2 sqrt(0.04 * 2 / 3) = 0.33."""
    changed = [f"tutorial {change}" for change in CHANGES]
    rows = [
        outcome(changed[0], 240.0, 240.2, 240.4),
        outcome(changed[1], 244.2, 244.4, 244.6),
        outcome(changed[2], 250.0, 250.2, 250.4, diverged=1),
        outcome(changed[3], diverged=3),
        outcome("tutorial", 244.0, 244.2, 244.4),
        outcome("vae-opt", 102.0, 103.0),
        outcome("tuned", diverged=3),
    ]
    found = {row.options: row for row in rows}
    one_seed = {row.options: replace(row, losses=row.losses[:1]) for row in rows[:5]}
    texts = {
        "presets": tables.presets_table(found),
        "changes": tables.changes_table(found),
        "changes, one seed": tables.changes_table(one_seed),
        "changes of nothing": tables.changes_table({}),
    }
    said("experiment tables", texts)
