"""Draw the figures of the guided tour again: the computation graph, and what beta does.

    for beta in 0 1 4; do
        python scripts/train.py --latent-dim 2 --epochs 5 --beta $beta --out runs/beta-$beta
    done
    python -m npvae.plots.tour_figures npvae/pictures runs/beta-0 runs/beta-1 runs/beta-4

The first word is the folder for the pictures, the others are runs with two latents. No picture
shows an image of the dataset: the codes of test images are drawn, and samples.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from npvae.datasets import Dataset, load_dataset
from npvae.latent_space import encode_all
from npvae.model import VAE
from npvae.plots.computation_graph import computation_graph
from npvae.plots.image_grid import image_grid
from npvae.plots.latent_ellipses import Posteriors, ellipses
from npvae.storage import checkpoint

SHOWN = 300  # test images; more hide each other
COLORS = 64  # of a drawing: fewer bytes, and no difference to see


def figures(runs: Sequence[Path], test: Dataset) -> tuple[Image.Image, Image.Image]:
    """Posteriors of test images, and samples, of the models in these runs."""
    z = np.random.default_rng(0).standard_normal((12, 2))  # the same for all models
    panels, rows = [], []
    for path in (run / "last.npz" for run in runs):
        vae, (header, _) = VAE.load(path), checkpoint.load(path)
        title = f"beta = {header['settings']['beta']:g}"
        mu, log_var = encode_all(vae, test.images)
        sigma = np.exp(0.5 * log_var)
        kl = header["history"][-1]["test_kl"]
        note = f"kl {kl:.1f}, median sigma {np.median(sigma):.2g}"
        shown = Posteriors(title, note, mu[:SHOWN], sigma[:SHOWN], test.labels[:SHOWN])
        panels.append(shown)
        rows.append(vae.decode(z))
    samples = image_grid(rows, [shown.title for shown in panels])
    return ellipses(panels, test.class_names).quantize(COLORS), samples


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, optimize=True)
    print(path)


def main(arguments: Sequence[str]) -> None:
    folder, *runs = map(Path, arguments)
    save(computation_graph().quantize(COLORS), folder / "graph.png")
    if runs:
        by_ellipses, by_samples = figures(runs, load_dataset("fashion-mnist")[1])
        save(by_ellipses, folder / "ellipses.png")
        save(by_samples, folder / "samples_by_beta.png")


if __name__ == "__main__":
    main(sys.argv[1:])
