"""The pictures of the README: small, and what they say they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from npvae.model import VAE
from npvae.plots.figures.__main__ import EPOCHS, SAMPLES, main
from npvae.plots.image_grid import save_png, to_uint8
from npvae.plots.samples import grid
from npvae.storage import checkpoint
from tests.helpers import ROOT
from tests.plots.toys import find, noise

PICTURES = ROOT / "npvae" / "pictures"


def test_they_come_from_runs(tmp_path: Path) -> None:
    clothes, digits, out = (tmp_path / name for name in ("clothes", "digits", "out"))
    for folder in (clothes / "images", digits, out):
        folder.mkdir(parents=True)
    for epoch in EPOCHS:
        picture = grid(noise(100, epoch), 3, f"epoch {epoch}")
        save_png(clothes / "images" / f"sampled_epoch{epoch}.png", picture)
    vae = VAE(latent_dim=2, rng=0)
    checkpoint.save(digits / "last.npz", {"model": vae.settings}, vae.parameters)
    main([str(out), "--clothes", str(clothes), "--digits", str(digits)])
    with Image.open(out / "training.gif") as picture:
        assert getattr(picture, "n_frames", 1) == len(EPOCHS)
    with Image.open(out / "samples.png") as picture:
        last = noise(100, EPOCHS[-1])
        assert find(picture, last[SAMPLES - 1], 3)
        assert not find(picture, last[SAMPLES], 3)
    with Image.open(out / "manifold.png") as picture:
        middle = np.asarray(picture)[-24 - 20 * 56 :, -24 - 20 * 56 : -24]
        assert len(np.unique(to_uint8(middle))) > 3


def test_those_of_the_readme_are_small() -> None:
    sizes = {"training.gif": 400_000, "samples.png": 60_000, "manifold.png": 250_000}
    for name, most in sizes.items():
        assert (PICTURES / name).stat().st_size < most
    with Image.open(PICTURES / "training.gif") as picture:
        assert getattr(picture, "n_frames", 1) == len(EPOCHS)
