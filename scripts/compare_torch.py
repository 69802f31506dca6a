"""The same weights, batch and noise through npvae and PyTorch: do they agree?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works without installation, too

from npvae.commands import cli, compare_torch

cli.run(compare_torch.main)
