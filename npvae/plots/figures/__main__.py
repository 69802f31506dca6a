"""Draw the figures of README and tour again, from these runs:

  python scripts/train.py --dataset fashion-mnist --epochs 20 --out runs/clothes
  python scripts/train.py --dataset mnist --epochs 20 --latent-dim 2 \\
      --out runs/digits
  for beta in 0 1 4; do
      python scripts/train.py --latent-dim 2 --epochs 5 --beta $beta \\
          --out runs/beta-$beta
  done
  python -m npvae.plots.figures npvae/pictures --clothes runs/clothes \\
      --digits runs/digits --betas runs/beta-0 runs/beta-1 runs/beta-4

No figure shows an image of a dataset: the models made up all of them. The page
explorer.html beside them is index.html of
`sh scripts/betas.sh runs/betas --examples model`, and explorer.png is its plane
and x_hat at beta 1, in a window 1101 pixels wide, so that a phone shows them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from npvae.datasets import Dataset, load_dataset
from npvae.latent_space import encode_all
from npvae.model import VAE
from npvae.plots.animation import gif, of_samples, samples_in
from npvae.plots.figures.computation_graph import computation_graph
from npvae.plots.image_grid import image_grid, in_rows
from npvae.plots.latent_ellipses import Posteriors, ellipses
from npvae.plots.manifold import latent_plane, manifold
from npvae.storage import checkpoint

EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20)
SAMPLES = 50  # of the run's 100
POSTERIORS = 300  # test images; more hide each other
COLORS = 64  # of a drawing: fewer bytes, and no difference to see


def training(clothes: Path) -> bytes:
    """The first samples of a run, epoch by epoch, as a GIF."""
    return gif(of_samples(clothes / "images", EPOCHS, "Fashion-MNIST, z = 10", SAMPLES))


def samples(clothes: Path) -> Image.Image:
    """The same samples after the last epoch."""
    with Image.open(clothes / "images" / f"sampled_epoch{EPOCHS[-1]}.png") as picture:
        return image_grid(in_rows(samples_in(np.asarray(picture))[:SAMPLES], 10))


def by_beta(runs: Sequence[Path], test: Dataset) -> tuple[Image.Image, Image.Image]:
    """Posteriors of test images, and samples, of models with two latents."""
    z = np.random.default_rng(0).standard_normal((12, 2))  # the same for all models
    panels, rows = [], []
    for path in (run / "last.npz" for run in runs):
        vae, (header, _) = VAE.load(path), checkpoint.load(path)
        title = f"beta = {header['settings']['beta']:g}"
        mu, log_var = encode_all(vae, test.images)
        sigma = np.exp(0.5 * log_var)
        kl = header["history"][-1]["test_kl"]
        note = f"kl {kl:.1f}, median sigma {np.median(sigma):.2g}"
        shown = slice(POSTERIORS)
        panels.append(Posteriors(title, note, mu[shown], sigma[shown], test.labels[shown]))
        rows.append(vae.decode(z))
    titles = [panel.title for panel in panels]
    return ellipses(panels, test.class_names).quantize(COLORS), image_grid(rows, titles)


def main(arguments: Sequence[str]) -> None:
    how = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("npvae.plots.figures", None, __doc__, formatter_class=how)
    parser.add_argument("folder", type=Path, help="where the figures go")
    parser.add_argument("--clothes", type=Path, metavar="RUN")
    parser.add_argument("--digits", type=Path, metavar="RUN")
    parser.add_argument("--betas", type=Path, nargs="+", metavar="RUN")
    options = parser.parse_args(arguments)
    pictures = {"graph": computation_graph().quantize(COLORS)}
    if options.clothes:
        (options.folder / "training.gif").write_bytes(training(options.clothes))
        pictures["samples"] = samples(options.clothes)
    if options.digits:
        vae, name = VAE.load(options.digits / "last.npz"), "mnist, z = 2, epoch 20"
        pictures["manifold"] = manifold(vae, latent_plane(2), 20, 2, name)
    if options.betas:
        test = load_dataset("fashion-mnist")[1]
        pictures["ellipses"], pictures["samples_by_beta"] = by_beta(options.betas, test)
    for name, picture in pictures.items():
        picture.save(options.folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
