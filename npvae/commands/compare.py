"""Runs side by side: what differs, their curves, their samples.

Prints a table of the settings that differ, and writes a page for the browser:
the table, the curves over each other, and images decoded from the same codes z
by each model.
"""

from __future__ import annotations

from collections.abc import Sequence

from npvae.commands import cli
from npvae.commands.new_file import show_page
from npvae.core.option_types import some_text

EXAMPLES = """examples:
  python scripts/compare.py runs/mnist-z2-001 runs/mnist-z10-001
  python scripts/compare.py runs/*
"""


def main(arguments: Sequence[str]) -> None:
    parser = cli.Parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("runs", nargs="*", type=some_text, metavar="RUN", help="folders of two or more runs")
    out = "a folder, or a new .html file (default: the folder that holds the runs)"
    add("--out", type=some_text, metavar="PATH", help=out)
    parser.add_common()
    options = parser.parse_args(arguments)
    if len(options.runs) < 2:
        given = ", ".join(options.runs) or "none"
        parser.error(f"argument RUN: a comparison takes two runs or more, not {given}")

    from npvae.commands.comparison import Comparison, write_page
    from npvae.runs.terminal import show

    comparison = Comparison.of(options.runs)
    if not options.quiet:
        show(f"{comparison.table()}\n\n{comparison.same}")
    path = write_page(comparison, options.seed, options.out)
    show_page(path, options.quiet)
