"""The figures of README and guided tour show what they say, and are small."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae import VAE
from npvae.datasets import Dataset
from npvae.losses import sigmoid
from npvae.plots.axes import FAINT, INK, MEDIUM, largest
from npvae.plots.figures.__main__ import EPOCHS, SAMPLES, by_beta, main
from npvae.plots.figures.computation_graph import (
    BACKWARD,
    BOXES,
    FORWARD,
    HIGH,
    NOTES,
    SIZE,
    WIDE,
    arrows,
    computation_graph,
)
from npvae.plots.image_grid import image_grid, save_png, to_uint8
from npvae.plots.latent_ellipses import DEVIATIONS, SIDE, Posteriors, ellipses, reach
from npvae.plots.samples import grid
from npvae.storage import checkpoint
from tests.helpers import ROOT
from tests.plots.toys import TEST, assert_same, find, history, noise, pixels_of, x_of

Box = tuple[float, float, float, float]
PICTURES = ROOT / "npvae" / "pictures"

# What feeds what in `VAE.forward`, and the losses. No gradient comes back to x and epsilon.
EDGES = {
    *[("x", "h_enc"), ("h_enc", "mu"), ("h_enc", "log_var"), ("epsilon", "z")],
    *[("mu", "z"), ("log_var", "z"), ("mu", "kl"), ("log_var", "kl")],
    *[("z", "h_dec"), ("h_dec", "logits"), ("logits", "bce"), ("bce", "loss"), ("kl", "loss")],
}


def at(x: float, y: float) -> str:
    """The box at whose edge this point is."""
    return next(
        name
        for name, (left, middle, _) in BOXES.items()
        if abs(x - left) <= WIDE + 4 and abs(y - middle) <= HIGH + 4
    )


def test_the_graph_has_the_arrows_of_the_model() -> None:
    found = {FORWARD: set(), BACKWARD: set()}  # type: dict[object, set[tuple[str, str]]]
    for line, color in arrows():
        edge = at(*line[0]), at(*line[-1])
        assert edge not in found[color]
        found[color].add(edge)
    assert found[FORWARD] == EDGES
    assert found[BACKWARD] == {(b, a) for a, b in EDGES if a not in ("x", "epsilon")}


def test_the_formulas_of_the_graph_are_those_of_the_model() -> None:
    """Each is evaluated with values and gradients of the program."""
    vae, rng = VAE(12, (5,), 3, dtype=np.float64), np.random.default_rng(0)
    a = vae.forward(rng.random((4, 12)), rng.standard_normal((4, 3)))
    d, sigma = vae.backward(a), np.exp(0.5 * a.log_var)
    names = {**a._asdict(), **d._asdict(), "sigma": sigma, "B": 4, "x_hat": vae.decode(a.z)}
    names |= {"W_mu": vae.to_mu.W, "W_log_var": vae.to_log_var.W}
    names |= {"exp": np.exp, "sigmoid": sigmoid}
    words = " ".join(words for *_, color, words in NOTES if color != FAINT)
    _, *parts = re.split(r"(\w+) = ", words)
    formulas = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(formulas) == 7
    for name, formula in formulas.items():
        value = eval(formula.replace("^", "**"), dict(names))
        np.testing.assert_allclose(value, names[name], rtol=1e-12, err_msg=name)


def test_words_and_boxes_of_the_graph_have_room() -> None:
    areas: list[Box] = [(x - WIDE, y - HIGH, x + WIDE, y + HIGH) for x, y, _ in BOXES.values()]
    for x, y, anchor, _, words in NOTES:
        width, height = largest([words], MEDIUM)
        corner = x - width / 2 * (anchor[0] != "l"), y - height * (anchor[1] != "a")
        areas.append((*corner, corner[0] + width, corner[1] + height))
    for k, (left, top, right, bottom) in enumerate(areas):
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        for other in areas[:k]:
            apart = other[0] >= right or other[2] <= left or other[1] >= bottom or other[3] <= top
            assert apart, (areas[k], other)


def test_an_ellipse_is_as_large_as_its_sigma_and_the_circle_as_the_prior() -> None:
    """Counted in pixels: the area of the ellipse, and how far the circle reaches."""
    mu, sigma = np.full((1, 2), 4.0), np.ones((1, 2))
    shown = Posteriors("beta", "note", mu, sigma, np.zeros(1, np.uint8))
    panel = pixels_of(ellipses([shown], ["one"]))[108 : 108 + SIDE, 62:]  # without its words
    unit = SIDE / (2 * reach(shown))  # pixels
    blue = panel[..., 2] - panel[..., 0] > 12  # the first class is blue, all else is grey
    assert blue.sum() == pytest.approx(np.pi * (DEVIATIONS * unit) ** 2, rel=0.03)
    for places in np.nonzero(np.all(panel == INK, axis=-1)):
        assert np.ptp(places) == pytest.approx(2 * DEVIATIONS * unit, abs=4)


def test_figures_come_from_runs(tmp_path: Path) -> None:
    vae, images, labels = VAE(784, (4,), 2, rng=0), TEST.images[:5], np.zeros(5, np.uint8)
    about = {"model": vae.settings, "history": history(2), "epoch": 2}
    for beta in 0.0, 4.0:
        header = {**about, "settings": {"beta": beta}}
        (tmp_path / f"{beta}").mkdir()
        checkpoint.save(tmp_path / f"{beta}" / "last.npz", header, vae.parameters)
    runs, test = sorted(tmp_path.iterdir()), Dataset("drawn-digits", images, labels, ("zero",), "")
    by_ellipses, by_samples = by_beta(runs, test)
    x_hat = vae.decode(np.random.default_rng(0).standard_normal((12, 2)))
    titles = ["beta = 0", "beta = 4"]
    assert_same(by_samples, image_grid([x_hat, x_hat], titles))
    mu, log_var = vae.encode(x_of(images))
    sigma = np.exp(0.5 * log_var)
    note = f"kl 9.5, median sigma {np.median(sigma):.2g}"
    shown = [Posteriors(title, note, mu, sigma, labels) for title in titles]
    difference = pixels_of(by_ellipses.convert("RGB")) - pixels_of(ellipses(shown, ["zero"]))
    assert np.mean(np.abs(difference) > 60) < 1e-4  # it has 64 colours


def test_the_pictures_of_the_readme_come_from_runs(tmp_path: Path) -> None:
    clothes, digits, out = (tmp_path / name for name in ("clothes", "digits", "out"))
    for folder in (clothes / "images", digits, out):
        folder.mkdir(parents=True)
    for epoch in EPOCHS:
        picture = grid(noise(100, epoch), 3, f"epoch {epoch}")
        save_png(clothes / "images" / f"sampled_epoch{epoch}.png", picture)
    vae = VAE(784, (8,), 2, rng=0)
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


def test_the_pictures_of_readme_and_tour_are_small() -> None:
    most = {"training.gif": 400_000, "samples.png": 60_000, "manifold.png": 250_000}
    tour = [f"{name}.png" for name in ("graph", "ellipses", "samples_by_beta")]
    for name, size in {**most, **dict.fromkeys(tour, 60_000)}.items():
        assert (PICTURES / name).stat().st_size < size
        with Image.open(PICTURES / name) as picture:
            assert picture.width > (900 if name in tour else 500)
            assert getattr(picture, "n_frames", 1) == (len(EPOCHS) if name == "training.gif" else 1)


def test_the_graph_in_the_tour_is_the_one_that_is_drawn() -> None:
    """But for the letters, which a new Pillow may draw a little differently."""
    with Image.open(PICTURES / "graph.png") as kept:
        difference = np.asarray(kept.convert("RGB"), int) - np.asarray(computation_graph(), int)
    assert np.mean(np.abs(difference) > 60) < 0.01
