"""What goes wrong in a VAE, and what sees it: run a mistake beside the right program."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

from npvae.commands import cli

del sys.path[0]
cli.run(cli.command("mistakes"))
