"""The same weights, batch and noise through npvae and PyTorch: do they agree?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

from npvae.commands import cli, compare_torch

del sys.path[0]
cli.run(compare_torch.main)
