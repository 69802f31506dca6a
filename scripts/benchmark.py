"""How fast is an epoch: beside the bare matrix products, PyTorch and JAX, and part by part?"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

from npvae.commands import cli

del sys.path[0]
cli.run(cli.command("benchmark"))
