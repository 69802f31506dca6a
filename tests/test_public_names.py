"""What `from npvae import ...` offers, and how it looks when printed."""

import sys

import pytest

import npvae
from npvae import VAE, Loss
from npvae.datasets.drawn_digits import drawn_digits
from tests.helpers import run


def test_every_public_name_is_there_and_listed_once() -> None:
    assert sorted(npvae.__all__) == sorted(set(npvae.__all__)) == sorted(npvae._HOME)
    for name in npvae.__all__:
        assert getattr(npvae, name).__name__ == name
    assert set(npvae.__all__) <= set(dir(npvae))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = npvae.nothing


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import npvae, sys; print({'numpy', 'numba', 'PIL'} & set(sys.modules))"
    assert run([sys.executable, "-c", code]).stdout == "set()\n"


def test_a_model_its_parameters_its_loss_and_a_dataset_can_be_read_when_printed() -> None:
    vae = VAE(6, (5,), 2, dtype=float)
    expected = "VAE(input_dim=6, hidden_dims=[5], latent_dim=2, activation='relu', dtype='float64')"
    assert repr(vae) == expected
    first, second, *_, last = repr(vae.parameters).splitlines()
    assert first == f"NamedArrays of {vae.parameters.flat.size} numbers of float64:"
    assert second.split(maxsplit=1) == ["encoder.hidden0.W", "(6, 5)"]
    assert last.split(maxsplit=1) == ["decoder.logits.b", "(6,)"]
    assert repr(Loss(230.0, 10.0, 2.0)) == "Loss(bce=230, kl=10, beta=2, total=250)"
    expected = "Dataset('drawn-digits', 1,000 images, 10 classes, drawn by this program)"
    assert repr(drawn_digits(train=1000, test=1)[0]) == expected
