"""How fast is an epoch beside matrix products, PyTorch and JAX?

A benchmark, not a test: nothing fails because a machine is slow. Close other
programs meanwhile.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npvae.commands import cli
from npvae.core.errors import DataError, OutputError
from npvae.core.option_types import sizes, some_text, whole_number
from npvae.storage.files import CANNOT, write

EXAMPLES = """examples:
  python scripts/benchmark.py           compare
  python scripts/benchmark.py --sweep   and how it grows with every size
  python scripts/benchmark.py --mpi     what a second process gains
  python scripts/benchmark.py --crowd   what it takes beside busy processes
"""


def main(arguments: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    help = "a folder of IDX files, such as data/fashion-mnist (default: random pixels)"
    add("--data", metavar="FOLDER", help=help)
    help = "rounds that alternate between the programs (default: 5)"
    add("--rounds", type=whole_number(1), default=5, metavar="N", help=help)
    help, default = "batch sizes to compare at (default: 512,128,64,32)", (512, 128, 64, 32)
    add("--batch-sizes", type=sizes, default=default, metavar="N", help=help)
    help = "measure how time and memory grow, too: a few minutes"
    add("--sweep", action="store_true", help=help)
    help = "measure what a second process gains instead (needs mpi4py and mpiexec)"
    add("--mpi", action="store_true", help=help)
    help = "measure 200 batches of 32 beside other busy processes instead: some minutes"
    add("--crowd", action="store_true", help=help)
    help = "write all figures here as JSON (default: no file)"
    add("--json", type=some_text, metavar="FILE", help=help)
    add("--quiet", action="store_true", help="print results and errors only")
    add("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    if options.mpi:
        where = "with --mpi, which measures ranks alone"
        parser.refuse(options, ("data", "rounds", "sweep"), where)
    if options.data and not Path(options.data).is_dir():
        raise DataError(f"there is no folder {options.data}.\nName one of IDX files with --data.")
    if options.json and not Path(options.json).absolute().parent.is_dir():
        raise OutputError(f"there is no folder for {options.json}.\nName another file with --json.")
    figures = of_ranks(options) if options.mpi else compared(options)
    if options.json:
        write(options.json, json.dumps(figures, indent=2).encode() + b"\n", CANNOT)


def of_ranks(options: Namespace) -> dict[str, Any]:
    """What a second process gains."""
    from npvae.reference.timing import mpi_times

    one, two = (mpi_times.measured(ranks, options.batch_sizes) for ranks in (1, 2))
    print(mpi_times.table(one, two))
    return {"1 rank": one, "2 ranks": two}


def compared(options: Namespace) -> dict[str, Any]:
    """An epoch beside other programs, and what else is asked for."""
    from npvae.reference.timing import benchmark

    data, rounds = options.data, options.rounds
    say = (lambda line: None) if options.quiet else (lambda line: print(f"... {line}", flush=True))
    about = benchmark.machine()
    for name, value in about.items():
        text = ", ".join(map(" ".join, value.items())) if name == "versions" else value
        print(f"{name:18} {text}")
    figures: dict[str, Any] = {"machine": about, "compared": {}, "sweep": {}, "crowd": []}
    for batch_size in () if options.crowd else options.batch_sizes:
        times = benchmark.compare(data, batch_size, rounds, say)
        rows = figures["compared"][batch_size] = list(benchmark.compared(times))
        print(f"\nbatch {batch_size}: seconds per epoch, medians of {rounds} rounds")
        for row in rows:
            print(
                f"  {row['program']:10} {row['seconds']:7.3f}   npvae takes "
                f"{row['npvae_takes']:5.2f} times that ({row['from']:.2f} to {row['to']:.2f})"
            )
    if options.sweep:
        figures["sweep"] = benchmark.sweep(data, list(benchmark.SWEEPS), say)
    for name, rows in figures["sweep"].items():
        print(f"\n{name:>10}  seconds per epoch  peak MiB")
        for row in rows:
            print(f"{row[name]:10}  {row['seconds']:17.3f}  {row['peak_mib'] or 0:8.0f}")
    if options.crowd:
        rows = figures["crowd"] = benchmark.crowd(data, 32, rounds, say)
        print("\n200 batches of 32, seconds, medians of", rounds, "rounds")
        for row in rows:
            print(
                f"  beside {row['busy']:2} busy processes: one worker {row['one worker']:.3f}, "
                f"a worker for each core {row['a worker for each core']:.3f}, "
                f"{row['ratio']:.2f} times that ({row['from']:.2f} to {row['to']:.2f})"
            )
    return figures
