"""All commands under one name: `npvae train --epochs 20`, or `python -m npvae train`.

A command is a module in commands/ that has a `main`. The first line of its docstring is its help.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from npvae import __version__
from npvae.commands import cli

FIRST = (
    *("train", "generate", "evaluate", "compare", "experiments"),
    *("gradcheck", "lab", "mistakes", "compare_torch", "benchmark"),
)


def commands() -> dict[str, str]:
    """The source of each command by its name. Nothing is imported before it is needed."""
    files = sorted(Path(cli.__file__).parent.glob("*.py"))
    sources = {file.stem: file.read_text(encoding="utf-8") for file in files}
    names = dict.fromkeys([*FIRST, *sources])
    return {name: sources[name] for name in names if "\ndef main(" in sources.get(name, "")}


COMMANDS = commands()


def first_line(source: str) -> str:
    """The first line of the docstring in the source of a module."""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def dispatch(arguments: Sequence[str]) -> int | None:
    """Run the command that the first argument names, with the rest of them."""
    listed = ""
    if not arguments or arguments[0].startswith("-"):
        listed = "\n".join(f"  {name:14} {first_line(text)}" for name, text in COMMANDS.items())
    more = "Each command explains its options: npvae train --help"
    parser = cli.Parser(
        "A variational autoencoder in NumPy, with every gradient checked.",
        f"commands:\n{listed}\n\n{more}",
        prog="npvae",
        usage="npvae COMMAND [options]",
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"npvae {__version__}")
    command = parser.parse_args(arguments[:1]).command
    if not command:
        parser.print_help()
        return 0
    return cli.command(command)(arguments[1:])


def main() -> NoReturn:
    cli.run(dispatch)


if __name__ == "__main__":
    main()
