"""What is each choice worth? Train all presets, and all changes.

This takes hours. You can stop it at any time; the same command continues where
it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npvae.commands import cli
from npvae.core.errors import CheckpointError
from npvae.core.option_types import some_text, whole_number
from npvae.runs import terminal

EXAMPLES = """examples:
  python scripts/experiments.py presets              train the presets, three seeds each
  python scripts/experiments.py changes --jobs 2     train the changes, two runs at a time
  python scripts/experiments.py all --only-tables    print the tables of the finished runs
  mpiexec -n 8 python -m mpi4py.futures scripts/experiments.py
                       train seven runs at a time, on this machine or several
"""


def main(arguments: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, EXAMPLES)
    groups, help = ("presets", "changes", "all"), "what is trained (default: all)"
    parser.add_argument("which", nargs="?", default="all", choices=groups, help=help)
    whole = whole_number(1)
    help = "runs of each experiment, with seeds 0, 1, ... (default: 3)"
    parser.add_argument("--seeds", type=whole, default=3, metavar="N", help=help)
    help = "how many runs train at the same time and share the cores (default: 1; not with mpiexec)"
    parser.add_argument("--jobs", type=whole, default=1, metavar="N", help=help)
    help = "folder of the runs and of experiments.csv (default: runs/experiments)"
    out = "runs/experiments"
    parser.add_argument("--out", type=some_text, default=out, metavar="FOLDER", help=help)
    help = "where the files of the datasets are (default: as train.py)"
    parser.add_argument("--data-dir", type=some_text, metavar="FOLDER", help=help)
    parser.add_argument("--only-tables", action="store_true", help="print the tables only")
    parser.add_common(seed=None)
    options = parser.parse_args(arguments)
    from npvae.commands import experiment_runs
    from npvae.commands import experiment_tables as tables
    from npvae.commands.experiment_workers import start_workers

    place = Path(options.out)
    if options.only_tables:
        training = ("seeds", "jobs", "data_dir")
        cli.note_unused(options, training, "with --only-tables, which shows all finished runs")
    finished = experiment_runs.finished(place)  # raises OutputError before hours are spent
    if not options.only_tables:
        tables.check_ours(place / "experiments.csv")  # likewise
        runs = [
            experiment_runs.Experiment(line, seed, place)
            for seed in range(options.seeds)
            for line in experiment_runs.option_lines(options.which)
        ]
        train = terminal.words("train")
        workers = start_workers(options.jobs)
        experiment_runs.train_all(runs, train, workers, options.data_dir, options.quiet)
        finished = experiment_runs.finished(place)
        tables.write_csv(finished, place / "experiments.csv")
    if not finished:
        command = terminal.command("experiments", options.which, "--out", place)
        raise CheckpointError(f"there are no finished runs in {place}.\nTrain them:  {command}")
    found = tables.outcomes(finished)
    if options.which != "changes":
        print(tables.presets_table(found), tables.about_presets(), sep="\n\n", end="\n\n")
    if options.which != "presets":
        print(tables.changes_table(found))
