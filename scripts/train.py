"""Train a variational autoencoder and look at what it has learned."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation, too

from npvae.commands import cli, train

cli.run(train.main)
