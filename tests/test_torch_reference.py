"""PyTorch gets the same numbers, `compare` would notice if not, and weights cross over and back."""

import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npvae import VAE
from npvae.arrays import Array, NamedArrays
from npvae.layers import ACTIVATIONS
from npvae.losses import Loss

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")

from npvae import torch_reference  # noqa: E402
from npvae.torch_reference import (  # noqa: E402
    Row,
    TorchVAE,
    compare,
    compared,
    example,
    from_state_dict,
    table,
    to_state_dict,
    verdict,
)

ROOT = Path(__file__).parents[1]
DEPTHS = ((128,), (32, 16))


def wrong(rows: list[Row]) -> set[str]:
    return {row.what for row in rows if not row.passed}


# ------------------------------------------------------------------ the comparison


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_dims", DEPTHS)
def test_pytorch_gets_the_same_numbers(activation: str, hidden_dims: tuple[int, ...]) -> None:
    vae, x, epsilon = example(hidden_dims, activation=activation)
    rows = compare(vae, x, epsilon, beta=0.7)
    assert not wrong(rows), table(rows)
    names = list(vae.parameters)
    gradients, steps = [f"gradient {n}" for n in names], [f"10 steps {n}" for n in names]
    assert [row.what for row in rows] == ["bce", "kl", "loss", *gradients, *steps]
    # What is promised, whatever the constants of the module are.
    assert max(row.allowed for row in rows if "steps" not in row.what) <= 1e-10
    assert max(row.allowed for row in rows) <= 1e-9


def test_every_activation_has_its_counterpart() -> None:
    assert set(ACTIVATIONS) <= set(torch_reference.ACTIVATIONS)


def test_ten_steps_of_adam_move_the_parameters() -> None:
    """Each step is about 1e-3 for every parameter, so ten of them cannot agree by standing still."""
    vae, x, epsilon = example()
    before = {row.what: row.theirs for row in compare(vae, x, epsilon, steps=0)}
    after = {row.what: row.theirs for row in compare(vae, x, epsilon, steps=10)}
    assert all(f"0 steps {name}" in before for name in vae.parameters)
    assert all(f"10 steps {name}" in after for name in vae.parameters)
    moved = to_numpy_after_steps(vae, x, epsilon)
    for name, theta in vae.parameters.items():
        assert np.abs(moved[name] - theta).max() > 5e-3, name


def to_numpy_after_steps(vae: VAE, x: Array, epsilon: Array) -> dict[str, Array]:
    model = TorchVAE().double()
    model.load_state_dict(to_state_dict(vae.parameters))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        adam.zero_grad()
        model.losses(torch.tensor(x), torch.tensor(epsilon), 1.0)[2].backward()
        adam.step()
    return from_state_dict(model.state_dict())
