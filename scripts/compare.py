"""Runs side by side: settings that differ, curves over each other, samples of the same codes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

from npvae.commands import cli

del sys.path[0]
cli.run(cli.command("compare"))
