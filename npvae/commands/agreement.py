"""How often is a picture that was drawn as a class taken for this class?

A linear classifier, fitted to the pixels of the training images by least squares, looks at draws
of every class, with z from the prior and, second, from a Gaussian fitted to the codes of the
training images of the class. `generate.py class` draws the first from a conditional model and the
second from any other. How often the classifier is right about test images is the measure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npvae.core.parameters import Array
from npvae.core.validation import one_hot
from npvae.datasets import Dataset
from npvae.datasets.minibatches import pixel_batches, to_pixels
from npvae.latent_space import draw_codes, encode_all, gaussian_of_class
from npvae.model import VAE

DRAWS = 100  # of each class


def agreement(vae: VAE, train: Dataset, test: Dataset, seed: int) -> dict[str, float | None] | None:
    """The classifier's opinion of 100 draws of every class; None if there is only one class.

    Shares from 0 to 1 that are taken for their class: of draws with z from the prior (None if the
    model is not conditional), with z from the fitted Gaussian, and of the test images.
    """
    present = [int(label) for label in np.unique(train.labels)]
    if len(present) < 2:
        return None
    rng, W = np.random.default_rng(seed), linear_classifier(train)
    prior, fitted = [], []
    for label in present:
        some = train.labels == label
        c = label if vae.num_classes else None
        codes = encode_all(vae, train.images[some], labels=vae.classes(train.labels[some]))
        z = draw_codes(*gaussian_of_class(*codes), DRAWS, rng)
        fitted.append((classify(W, vae.decode(z, c)) == label).mean())
        if vae.num_classes:
            prior.append((classify(W, vae.sample(DRAWS, rng, c)) == label).mean())
    on_test = classify(W, to_pixels(test.images, np.float32)) == test.labels
    return {
        "prior": float(np.mean(prior)) if prior else None,
        "fitted": float(np.mean(fitted)),
        "test_images": float(on_test.mean()),
    }


def linear_classifier(train: Dataset) -> Array:
    """W (D + 1, C), the least squares fit of [x, 1] @ W to the one-hot classes of the images."""
    size, classes = train.images[0].size + 1, len(train.class_names)
    products, W = 10.0 * np.eye(size), np.zeros((size, classes))  # 10: most pixels vary together
    for _, x, c in pixel_batches(train.images, 5000, np.float64, train.labels):
        x_1 = np.pad(x, [(0, 0), (0, 1)], constant_values=1)
        products += x_1.T @ x_1
        W += x_1.T @ one_hot(c, classes, len(x), np.float64)
    return np.linalg.solve(products, W)


def classify(W: Array, x: Array) -> NDArray[np.intp]:
    """The class of each image x (B, D) with the largest output."""
    found: NDArray[np.intp] = (x @ W[:-1] + W[-1]).argmax(axis=1)
    return found
