"""Check every gradient against central differences in float64, and print the table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation, too

from npvae.commands import cli, gradcheck

cli.run(gradcheck.main)
