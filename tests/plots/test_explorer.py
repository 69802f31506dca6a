"""The explorer's page is one file that holds all it needs, whatever the model; small, and the same
each time. What it does in a browser is tested in test_explorer_browser.py."""

from __future__ import annotations

import re
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import npvae
from npvae.datasets import Dataset
from npvae.datasets.drawn_digits import drawn_digits
from npvae.evaluation import active_units, kl_per_latent
from npvae.latent_space import encode_all
from npvae.model import VAE
from npvae.plots import explorer
from npvae.plots.explorer import EXAMPLES, FOLDER, ModelOnPage, explorer_page
from npvae.plots.page import page
from tests.helpers import data_of

TEST = drawn_digits(train=1, test=300)[1]


def on_page(name: str = "digits, z = 3", **settings: Any) -> ModelOnPage:
    settings = {"hidden_dims": (8,), "latent_dim": 3, **settings}
    return ModelOnPage(VAE(784, rng=np.random.default_rng(1), **settings), name, name[:5])


@pytest.mark.parametrize("examples", ["test", "model"])
def test_a_page_of_the_tutorials_network_is_below_a_megabyte(examples: str) -> None:
    model = on_page(hidden_dims=(128,), latent_dim=10)
    many = np.resize(TEST.images, (10_000, 28, 28)), np.resize(TEST.labels, 10_000)
    test = Dataset(TEST.name, *many, TEST.class_names, "")
    assert len(explorer_page([model], test, examples).encode()) < 1_000_000


def test_the_same_arguments_give_the_same_bytes_that_link_nothing() -> None:
    first, second = (explorer_page([on_page()], TEST, "model") for _ in range(2))
    assert first == second != explorer_page([on_page(activation="tanh")], TEST, "model")
    addresses = re.findall(r'(?:href|src)="([^"]*)"', first)
    assert all(address.startswith(("data:", "#")) for address in addresses)


def test_the_weights_are_those_of_the_model_rounded() -> None:
    model = on_page(hidden_dims=(8, 5))
    stored, given = data_of(explorer_page([model], TEST))["models"][0], model.vae.parameters
    assert stored["parameters"] == [[name, [*array.shape]] for name, array in given.items()]
    weights = b64decode(stored["weights"])
    assert weights == b"".join(array.astype("<f2").tobytes() for array in given.values())
    assert zlib.crc32(weights) == stored["crc32"]
    assert 0 < stored["rounding"]["x_hat"] < 1e-3


def numbers(text: str, dtype: str, *shape: int) -> NDArray[Any]:
    return np.frombuffer(b64decode(text), dtype).reshape(shape)


def test_a_conditional_model_has_the_class_of_each_image() -> None:
    model = on_page(num_classes=10, dtype=np.float64)
    vae, labels, images = model.vae, TEST.labels, TEST.images
    plain, stored = data_of(explorer_page([on_page(), model], TEST))["models"]
    assert [(of["classes"], len(set(of["test"]["c"]))) for of in (plain, stored)] == [
        (0, 0),
        (10, 4),
    ]
    mu, _ = encode_all(vae, images, labels=labels)
    np.testing.assert_allclose(numbers(stored["points"], "<f2", -1, 3), mu, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(stored["kl"], kl_per_latent(vae, images, labels=labels), atol=1e-4)
    assert stored["active"] == active_units(vae, images, labels=labels).tolist()
    # The self-test: what NumPy computes with the rounded weights, each example in its class.
    vae.parameters.flat[:] = vae.parameters.flat.astype(np.float16)
    test, c = stored["test"], stored["test"]["c"]
    z, x_hat = numbers(test["z"], "<f4", -1, 3), numbers(test["x_hat"], "<f4", -1, 784)
    np.testing.assert_allclose(x_hat, vae.decode(z, c), atol=1e-6)
    for name, expected in zip(("mu", "log_var"), vae.encode(x_hat, c), strict=True):
        np.testing.assert_allclose(numbers(test[name], "<f4", -1, 3), expected, atol=1e-6)


def test_a_conditional_model_draws_its_classes() -> None:
    model = on_page(num_classes=10)
    examples = data_of(explorer_page([model], TEST, "model"))["examples"]
    assert examples["labels"] == [*range(10)] * explorer.DRAWS
    drawn = numbers(examples["pixels"], "u1", -1, 784)
    mu, _ = encode_all(model.vae, TEST.images, labels=TEST.labels)
    means = np.stack([mu[TEST.labels == k].mean(axis=0) for k in range(10)])
    expected = 255 * model.vae.decode(means, np.arange(10))
    np.testing.assert_allclose(drawn[:10], expected, atol=0.6)  # to a whole number


def test_weights_too_large_for_float16_are_kept_as_float32() -> None:
    """Codes that are too large stand at the edge, and the sliders reach as far as nearly all."""
    model = on_page()
    assert data_of(explorer_page([model], TEST))["models"][0]["range"] == 4
    model.vae.parameters["decoder.logits.b"][0] = 1e6
    model.vae.parameters["encoder.mu.b"][:] = 1e6, 7.0, 0.0
    stored = data_of(explorer_page([model], TEST))["models"][0]
    assert stored["precision"] == "float32"
    assert numbers(stored["weights"], "<f4", -1).max() == 1e6
    assert stored["rounding"]["x_hat"] < 1e-6  # float32 against float64 arithmetic
    assert numbers(stored["points"], "<f2", -1, 3)[:, 0] == pytest.approx(65000, rel=1e-3)
    assert stored["range"] == pytest.approx(1e6, rel=1e-3)


def test_the_images_to_pick_are_test_images_or_draws_of_each_class_or_none() -> None:
    pages = {kind: explorer_page([on_page()], TEST, kind) for kind in EXAMPLES}
    given = {kind: data_of(html)["examples"] for kind, html in pages.items()}
    images = {kind: numbers(of["pixels"], "u1", -1, 28, 28) for kind, of in given.items()}
    np.testing.assert_array_equal(images["test"], TEST.images[: explorer.TEST_IMAGES])
    assert given["test"]["labels"] == TEST.labels[: explorer.TEST_IMAGES].tolist()
    assert given["model"]["labels"] == [*range(10)] * explorer.DRAWS
    assert [len(images[kind]) for kind in ("model", "none")] == [10 * explorer.DRAWS, 0]
    # A page to be given away holds no image of the dataset.
    for kind in ("model", "none"):
        texts = [b64decode(text) for text in re.findall(r'"([A-Za-z0-9+/]{40,}=*)"', pages[kind])]
        for image in TEST.images:
            middle = image[10:18].tobytes()  # a strip, wherever it may lie
            assert not any(middle in text for text in texts)


def test_the_page_in_the_repository_is_up_to_date() -> None:
    """It keeps its model, and has the present style and scripts: else write `expected` to it."""
    path = Path(npvae.__file__).with_name("pictures") / "explorer.html"
    found = path.read_text(encoding="utf-8")
    data = data_of(found)
    expected = page(FOLDER / "explorer.html", {"title": "Latent explorer"}, data)
    assert found == expected, "style or scripts have changed"
    assert len(found.encode()) < 1_000_000
    assert data["examples"]["kind"] == "model"  # no images of the dataset
    names = [model["name"] for model in data["models"]]
    assert names == [f"mnist, z = 2, epoch 20, beta {beta}" for beta in (0, 0.25, 1, 4, 784)]
