"""The VAE of points on a plane: its likelihood, its gradients, and what its figure shows."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pytest

import npvae.model
from tests.helpers import ROOT

PICTURE = ROOT / "npvae" / "pictures" / "plane_vae.png"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with its likelihood in the place of the cross-entropy until the test ends."""
    for name in "bce_with_logits", "bce_with_logits_backward":
        monkeypatch.setattr(npvae.model, name, vars(npvae.model)[name])
    spec = importlib.util.spec_from_file_location("plane_vae", ROOT / "scripts" / "plane_vae.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.use_gaussian_likelihood()
    return module


def test_the_likelihood_is_a_density(page: ModuleType) -> None:
    """Its integral over the plane is 1: a forgotten constant would show."""
    side = np.linspace(-1, 1, 201)
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(-page.gaussian_nll(np.array([[0.1, -0.2]]), x))
    assert density.sum() * 0.01**2 == pytest.approx(1, rel=1e-6)


def test_every_gradient_is_right(page: ModuleType) -> None:
    assert page.worst_error() < 1e-7


def test_it_learns_and_beta_makes_codes_cheap_or_expensive(page: ModuleType) -> None:
    kl = []
    for beta in page.BETAS:
        vae, loss = page.train(beta, steps=300)
        assert loss.bce < 60  # 85 at first
        kl.append(loss.kl)
    assert kl == sorted(kl, reverse=True)
    assert page.figure([(vae, loss)]).width > 1000


def test_the_picture_of_the_tour_is_small() -> None:
    assert PICTURE.stat().st_size < 150_000
