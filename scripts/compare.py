"""Runs side by side: what differs, their curves, their samples."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

from npvae.commands import cli

del sys.path[0]
cli.run(cli.command("compare"))
