"""How does a trained model become a page that one can play with? One HTML file, and nothing else.

`explorer_page` fills the template beside this module with the weights and some images. The page
decodes and encodes by itself: model.js is the forward pass once more. For its self-test it also
gets examples of what NumPy computes with exactly the weights it holds.
"""

from __future__ import annotations

import math
import zlib
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npvae.datasets.dataset import SIDE, Dataset
from npvae.evaluation import active_units, kl_per_latent
from npvae.latent_space import draw_codes, encode_all, gaussian_of_class
from npvae.model import VAE
from npvae.plots.page import page

EXAMPLES = ("test", "model", "none")  # which images the page offers to pick
TEST_IMAGES = 200  # of them, where they are test images: 209 kB of text
DRAWS = 4  # of each class, where the model draws them itself
DOTS = 1000  # test images whose codes are dots in the plane
SELF_TEST = 4  # codes that NumPy decodes, and encodes again, for the page to compare with
FOLDER = Path(__file__).parent


class ModelOnPage(NamedTuple):
    """A model, with its name for the page, and a short one for the switch between models."""

    vae: VAE
    name: str
    short: str


def explorer_page(models: Sequence[ModelOnPage], test: Dataset, examples: str = "test") -> str:
    """The HTML text of a page with one or more models of 28 x 28 pixels.

    KL, dots and classes come from the test set. `examples` says which images can be picked: "test"
    the first test images, "model" draws that the first model makes of each class (for a page that
    must not hold images of the dataset), or "none". The same arguments give the same bytes.
    A conditional model needs a test set with labels below its number of classes.
    Raises ValueError for no model, for another number of pixels, for an activation that the page
    does not know, for more classes than a conditional model has, and for other examples.
    """
    if not models or any(model.vae.input_dim != SIDE * SIDE for model in models):
        raise ValueError(f"a page needs at least one model, and each of {SIDE} x {SIDE} pixels")
    if examples not in EXAMPLES:
        raise ValueError(f"examples are {', '.join(EXAMPLES)}, not {examples!r}")
    if unknown := [vae.activation for vae, *_ in models if not knows(vae.activation)]:
        raise ValueError(f"model.js does not know the activation {unknown[0]}")
    if any(0 < model.vae.num_classes < len(test.class_names) for model in models):
        raise ValueError(f"a model is conditional on fewer than {len(test.class_names)} classes")
    data = {
        "class_names": list(test.class_names),
        "labels": as_text(test.labels[:DOTS], "u1"),
        "examples": example_images(models[0].vae, test, examples),
        "models": [model_data(model, test) for model in models],
    }
    return page(FOLDER / "explorer.html", {"title": "Latent explorer"}, data)


def knows(activation: str) -> bool:
    """Whether the page can compute it. An activation that is new in layers.py, it cannot."""
    return f"\n  {activation}: " in (FOLDER / "model.js").read_text(encoding="utf-8")


def model_data(model: ModelOnPage, test: Dataset) -> dict[str, Any]:
    """All that the page has to know of one model."""
    vae = model.vae
    largest = max(float(np.abs(array).max()) for array in vae.parameters.values())
    precision, dtype = ("float16", "<f2") if largest < 65504 else ("float32", "<f4")
    weights = b"".join(array.astype(dtype).tobytes() for array in vae.parameters.values())
    labels = vae.classes(test.labels)
    mu, _ = encode_all(vae, test.images, labels=labels)
    return {
        "name": model.name,
        "short": model.short,
        "hidden_dims": list(vae.hidden_dims),
        "latent_dim": vae.latent_dim,
        "classes": vae.num_classes,
        "activation": vae.activation,
        "parameters": [[name, array.shape] for name, array in vae.parameters.items()],
        "precision": precision,
        "weights": b64encode(weights).decode(),
        "crc32": zlib.crc32(weights),
        "kl": [round(nats, 4) for nats in kl_per_latent(vae, test.images, labels=labels).tolist()],
        "active": active_units(vae, test.images, labels=labels).tolist(),
        # Sliders and plane end here: at 4 sigma of the prior, or where hardly any code lies beyond.
        "range": max(4, math.ceil(np.quantile(np.abs(mu), 0.999))),
        "points": as_text(np.clip(mu[:DOTS], -65000, 65000), "<f2"),
        **self_test(vae, dtype),
    }


def self_test(vae: VAE, dtype: str) -> dict[str, Any]:
    """What NumPy computes with the weights as embedded, and how much their rounding changes it."""
    replica = vae.in_float64()
    replica.parameters.flat[:] = replica.parameters.flat.astype(dtype)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((SELF_TEST, vae.latent_dim)).astype(np.float32)
    labels = np.arange(SELF_TEST) % max(1, vae.num_classes)
    c = vae.classes(labels.astype(np.uint8))
    x_hat = replica.decode(z, c).astype(np.float32)
    mu, log_var = replica.encode(x_hat, c)
    expected = {"z": z, "x_hat": x_hat, "mu": mu, "log_var": log_var}
    return {
        "test": {
            **{name: as_text(array, "<f4") for name, array in expected.items()},
            "c": [] if c is None else c.tolist(),
        },
        "rounding": {
            "x_hat": float(np.abs(vae.decode(z, c) - x_hat).max()),
            "mu": float(np.abs(vae.encode(x_hat, c)[0] - mu).max()),
        },
    }


def example_images(vae: VAE, test: Dataset, kind: str) -> dict[str, Any]:
    """Images to pick, as bytes, with their classes; `points` are the dots that belong to them."""
    images, labels, points = test.images[:0], test.labels[:0], []
    if kind == "test":
        images, labels = test.images[:TEST_IMAGES], test.labels[:TEST_IMAGES]
        points = list(range(len(images)))
    elif kind == "model":
        images, labels = class_draws(vae, test)
    return {
        "kind": kind,
        "labels": labels.tolist(),
        "points": points,
        "pixels": as_text(images, "u1"),
    }


def class_draws(vae: VAE, test: Dataset) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 784) that the model makes up, some of each class, and their classes (N,).

    Their codes are drawn from a Gaussian fitted to the codes of the class, the first is its mean.
    A conditional model is given the class as well.
    """
    rng = np.random.default_rng(0)
    mu, log_var = encode_all(vae, test.images, labels=vae.classes(test.labels))
    classes = np.unique(test.labels)
    codes = np.empty((DRAWS, len(classes), vae.latent_dim))
    for k, label in enumerate(classes):
        mean, covariance = gaussian_of_class(
            mu[test.labels == label], log_var[test.labels == label]
        )
        codes[:, k] = np.vstack([mean, draw_codes(mean, covariance, DRAWS - 1, rng)])
    labels = np.tile(classes, DRAWS)
    x_hat = vae.decode(codes.reshape(-1, vae.latent_dim), vae.classes(labels))
    return np.rint(255 * x_hat).astype(np.uint8), labels


def as_text(array: ArrayLike, dtype: str) -> str:
    """The bytes of an array in C order, in base64."""
    return b64encode(np.asarray(array).astype(dtype).tobytes()).decode()
