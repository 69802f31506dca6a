"""The VAE of points on a plane: its likelihood, its gradients, and what its figure shows."""

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

import npvae.model
from tests.helpers import ROOT


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with its likelihood in the place of the cross-entropy until the test ends."""
    for name in "bce_with_logits", "bce_with_logits_backward":
        monkeypatch.setattr(npvae.model, name, vars(npvae.model)[name])
    monkeypatch.syspath_prepend(ROOT / "scripts")
    script = import_module("plane_vae")
    script.use_gaussian_likelihood()
    return script


def test_the_likelihood_is_a_density_and_every_gradient_right(page: ModuleType) -> None:
    """Its integral over the plane is 1: a forgotten constant would show."""
    side = np.linspace(-1, 1, 201)
    x = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(-page.gaussian_nll(np.array([[0.1, -0.2]]), x))
    assert density.sum() * 0.01**2 == pytest.approx(1, rel=1e-6)
    assert page.worst_error() < 1e-7


def test_it_learns_and_beta_makes_codes_cheap_or_expensive(page: ModuleType) -> None:
    kl = []
    for beta in page.BETAS:
        vae, loss = page.train(beta, steps=100)
        assert loss.bce < 5  # 85 at first
        kl.append(loss.kl)
    assert kl[0] > kl[1] > kl[2]
    assert page.figure([(vae, loss)]).width > 1000
    assert (ROOT / "npvae" / "pictures" / "plane_vae.png").stat().st_size < 150_000
