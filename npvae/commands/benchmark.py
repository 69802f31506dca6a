"""How fast is an epoch beside the bare matrix products, PyTorch and JAX?

A benchmark, not a test: nothing fails because a machine is slow. Close other programs meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from npvae.commands import cli
from npvae.core.errors import DataError, OutputError
from npvae.storage.files import CANNOT, write

EXAMPLES = """examples:
  python scripts/benchmark.py                        compare
  python scripts/benchmark.py --sweep --json b.json  and how it grows with every size
  python scripts/benchmark.py --mpi                  what a second process gains
  python scripts/benchmark.py --crowd                what it takes beside busy processes
"""


def main(arguments: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="a folder of IDX files, such as data/fashion-mnist (default: random pixels)",
    )
    rounds = cli.whole_number(1)
    help = "rounds that alternate between the programs (default: 5)"
    parser.add_argument("--rounds", type=rounds, default=5, metavar="N", help=help)
    help = "batch sizes to compare at (default: 512,128,64,32)"
    sizes = (512, 128, 64, 32)
    parser.add_argument("--batch-sizes", type=cli.sizes, default=sizes, metavar="N", help=help)
    help = "measure how time and memory grow, too: a few minutes"
    parser.add_argument("--sweep", action="store_true", help=help)
    help = "measure what a second process gains instead (needs mpi4py and mpiexec)"
    parser.add_argument("--mpi", action="store_true", help=help)
    help = "measure 200 batches of 32 beside other busy processes instead: some minutes"
    parser.add_argument("--crowd", action="store_true", help=help)
    help = "write all figures here as JSON"
    parser.add_argument("--json", type=cli.some_text, metavar="FILE", help=help)
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    if options.mpi:
        parser.refuse(
            options, ("data", "rounds", "sweep"), "with --mpi, which measures ranks alone"
        )
    if options.data and not Path(options.data).is_dir():
        raise DataError(f"there is no folder {options.data}.\nName one of IDX files with --data.")
    if options.json and not Path(options.json).absolute().parent.is_dir():
        raise OutputError(f"there is no folder for {options.json}.\nName another file with --json.")

    from npvae.reference.timing import benchmark

    if options.mpi:
        from npvae.reference.timing import mpi_times

        one, two = (mpi_times.measured(ranks, options.batch_sizes) for ranks in (1, 2))
        print(mpi_times.table(one, two))
        if options.json:
            text = json.dumps({"1 rank": one, "2 ranks": two}, indent=2)
            write(options.json, text.encode() + b"\n", CANNOT)
        return
    say = (lambda line: None) if options.quiet else (lambda line: print(f"... {line}", flush=True))
    about = benchmark.machine()
    for name, value in about.items():
        print(
            f"{name:18} {', '.join(map(' '.join, value.items())) if name == 'versions' else value}"
        )
    figures: dict[str, Any] = {"machine": about, "compared": {}, "sweep": {}, "crowd": []}

    for batch_size in () if options.crowd else options.batch_sizes:
        times = benchmark.compare(options.data, batch_size, options.rounds, say)
        rows = figures["compared"][batch_size] = list(benchmark.compared(times))
        print(f"\nbatch {batch_size}: seconds per epoch, medians of {options.rounds} rounds")
        for row in rows:
            spread = f"{row['from']:.2f} to {row['to']:.2f}"
            print(
                f"  {row['program']:10} {row['seconds']:7.3f}   "
                f"npvae takes {row['npvae_takes']:5.2f} times that ({spread})"
            )
    if options.sweep:
        figures["sweep"] = benchmark.sweep(options.data, list(benchmark.SWEEPS), say)
        for name, rows in figures["sweep"].items():
            print(f"\n{name:>10}  seconds per epoch  peak MiB")
            for row in rows:
                print(f"{row[name]:10}  {row['seconds']:17.3f}  {row['peak_mib'] or 0:8.0f}")
    if options.crowd:
        rows = figures["crowd"] = benchmark.crowd(options.data, 32, options.rounds, say)
        print("\n200 batches of 32, seconds, medians of", options.rounds, "rounds")
        for row in rows:
            print(
                f"  beside {row['busy']:2} busy processes: one worker {row['one worker']:.3f}, "
                f"a worker for each core {row['a worker for each core']:.3f}, "
                f"{row['ratio']:.2f} times that ({row['from']:.2f} to {row['to']:.2f})"
            )
    if options.json:
        write(options.json, json.dumps(figures, indent=2).encode() + b"\n", CANNOT)
