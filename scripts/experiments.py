"""What is each choice worth? Train all presets, and all changes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

from npvae.commands import cli

del sys.path[0]
cli.run(cli.command("experiments"))
