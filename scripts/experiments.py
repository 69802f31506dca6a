"""What is each choice worth? Train every preset, and every single change of the tutorial."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation, too

from npvae.commands import cli, experiments

cli.run(experiments.main)
