"""Draw the pictures of the README again: samples, epoch by epoch, and the manifold of two latents.

    python scripts/train.py --dataset fashion-mnist --epochs 20 --out runs/clothes
    python scripts/train.py --dataset mnist --epochs 20 --latent-dim 2 --out runs/digits
    python -m npvae.plots.readme_figures npvae/pictures runs/clothes runs/digits

All images in them are made up by the models. The first folder is where the pictures go. The page
explorer.html there is index.html of `sh scripts/betas.sh runs/betas --examples model`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from npvae.model import VAE
from npvae.plots.animation import gif, of_samples, samples_in
from npvae.plots.image_grid import image_grid, in_rows
from npvae.plots.manifold import latent_plane, manifold

EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20)
SHOWN = 50  # of the run's 100 samples


def training(clothes: Path) -> bytes:
    """The first samples of a run, epoch by epoch, as a GIF."""
    return gif(of_samples(clothes / "images", EPOCHS, "Fashion-MNIST, z = 10", SHOWN))


def samples(clothes: Path) -> Image.Image:
    """The same samples after the last epoch."""
    with Image.open(clothes / "images" / f"sampled_epoch{EPOCHS[-1]}.png") as picture:
        return image_grid(in_rows(samples_in(np.asarray(picture))[:SHOWN], 10))


def main(arguments: Sequence[str]) -> None:
    folder, clothes, digits = map(Path, arguments)
    (folder / "training.gif").write_bytes(training(clothes))
    samples(clothes).save(folder / "samples.png", optimize=True)
    plane = manifold(
        VAE.load(digits / "last.npz"), latent_plane(2), 20, 2, "mnist, z = 2, epoch 20"
    )
    plane.save(folder / "manifold.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
