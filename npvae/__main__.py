"""All commands under one name: `npvae train --epochs 20`, or `python -m npvae train`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from npvae import __version__
from npvae.commands import cli
from npvae.fast.threads import free_blas_threads

COMMANDS = (
    *("train", "generate", "evaluate", "compare", "experiments"),
    *("gradcheck", "lab", "mistakes", "compare_torch", "benchmark"),
)


def dispatch(arguments: Sequence[str]) -> int | None:
    """Run the command that the first argument names, with the rest of them."""
    modules = {name: import_module(f"npvae.commands.{name}") for name in COMMANDS}
    docs = {name: module.__doc__ or "\n" for name, module in modules.items()}  # none with -OO
    listed = "\n".join(f"  {name:14} {doc.splitlines()[0]}" for name, doc in docs.items())
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
    if command != "train":
        free_blas_threads()
    outcome: int | None = modules[command].main(arguments[1:])
    return outcome


def main() -> NoReturn:
    cli.run(dispatch)


if __name__ == "__main__":
    main()
