"""What cannot be drawn is refused, with words that say what is wrong: approved as one text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.core.errors import NpvaeError
from npvae.model import VAE
from npvae.plots.animation import samples_in
from npvae.plots.class_names import class_label
from npvae.plots.explorer import ModelOnPage, explorer_page
from npvae.plots.image_grid import image_grid, png, reconstruction_grid, save_png, to_uint8
from npvae.plots.latent_ellipses import Posteriors, ellipses
from npvae.plots.latent_scatter import scatter
from npvae.plots.latent_walks import (
    animate_interpolation,
    animate_traversal,
    interpolate,
    traverse,
)
from npvae.plots.loss_curves import loss_curve
from npvae.plots.manifold import latent_plane, manifold
from npvae.plots.samples import of_class, prior, reconstruct
from tests.helpers import Said, unchanged
from tests.plots.toys import CLOTHES, NAME, TEST, TRAIN, asked, model, noise

IMAGES = noise(3)
CODES, GREY = np.zeros((4, 2)), np.zeros((4, 4), np.uint8)
MANY, HUGE, FEW = (asked(model(2), *given) for given in ((10**7, 3), (5, 10**4), (5,)))
WITHOUT_4 = replace(TRAIN, labels=np.where(TRAIN.labels == 4, 5, TRAIN.labels)), TEST


def pixels(bad: float) -> Callable[[], object]:
    return lambda: to_uint8(np.array([0.0, 0.5, bad, 1.0]))


def dots(points: Any, labels: Any) -> Callable[[], object]:
    return lambda: scatter(points, labels, ["a"], "", "x", "y")


def contours(sigma: object, label: int = 0) -> Callable[[], object]:
    labels = np.full(1, label, np.uint8)
    return lambda: ellipses([Posteriors("", "", CODES[:1], np.asarray(sigma), labels)], ["one"])


def page(*given: ModelOnPage, examples: str = "test") -> Callable[[], object]:
    return lambda: explorer_page(given, TEST, examples)


def on_page(input_dim: int = 784, num_classes: int = 0) -> ModelOnPage:
    return ModelOnPage(VAE(input_dim, (4,), 2, num_classes=num_classes), "name", "short")


REFUSED: dict[str, Callable[[], object]] = {
    **{f"a pixel {bad}": pixels(bad) for bad in (np.nan, np.inf, -0.001, 1.001, 255.0)},
    "whole numbers": lambda: to_uint8(np.zeros(3, dtype=np.int64)),
    "complex numbers": lambda: to_uint8(np.zeros(3, dtype=np.complex128)),
    "a grid of no row": lambda: image_grid([]),
    "a row without images": lambda: image_grid([IMAGES[:0]]),
    "one row label for two": lambda: image_grid([IMAGES, IMAGES], ["only one"]),
    "two column labels for three": lambda: image_grid([IMAGES], [], ["a", "b"]),
    "scale 0": lambda: image_grid([IMAGES], scale=0),
    "gap -1": lambda: image_grid([IMAGES], gap=-1),
    "an image of 14 x 56": lambda: image_grid([[np.zeros((14, 56))]]),
    "3 originals, 2 reconstructions": lambda: reconstruction_grid(IMAGES, IMAGES[:2], 1, ""),
    "a picture with opacity": lambda: png(np.stack([GREY] * 4, axis=-1)),
    "a picture without pixels": lambda: png(GREY[:0]),
    "codes in space": dots(np.zeros((4, 3)), np.zeros(4, int)),
    "too few labels": dots(CODES, np.zeros(3, int)),
    "NaN codes": dots(CODES[:1] * np.nan, [0]),
    "no codes": dots(CODES[:0], np.zeros(0, int)),
    "label -1": dots(CODES[:1], [-1]),
    "label 1 of one class": dots(CODES[:1], [1]),
    "sigma of another shape": contours(np.ones((2, 2))),
    "an ellipse without a class": contours(np.ones((1, 2)), label=1),
    "no epochs": lambda: loss_curve([]),
    "samples in a low picture": lambda: samples_in(np.zeros((280, 2000), np.uint8)),
    "samples in a narrow picture": lambda: samples_in(np.zeros((2000, 280), np.uint8)),
    "samples in colour": lambda: samples_in(np.zeros((1000, 1000, 3), np.uint8)),
    "a page without models": page(),
    "a page of 100 pixels": page(on_page(100)),
    "a page with other examples": page(on_page(), examples="tset"),
    "a page with too few classes": page(on_page(), on_page(num_classes=9)),
    "an unknown class": lambda: class_label(CLOTHES, "trousers"),
    "a part of two names": lambda: class_label(CLOTHES, "shir"),
    "the number of a class": lambda: class_label(CLOTHES, "1"),
    "a number, of clothes alone": lambda: class_label(replace(CLOTHES, class_names=("Hat",)), "1"),
    "a class without images": lambda: of_class(asked(model(2), 2, data=WITHOUT_4), "4"),
    "image 60": lambda: reconstruct(FEW, [0, 60]),
    "image -1": lambda: reconstruct(FEW, [-1]),
    "a path to no image": lambda: interpolate(FEW, (0, 60)),
    "frames to no image": lambda: animate_interpolation(FEW, (0, 60)),
    "a walk from no image": lambda: traverse(FEW, 60),
    "frames from no image": lambda: animate_traversal(FEW, 60),
    "a huge prior": lambda: prior(MANY),
    "a huge class": lambda: of_class(MANY, "4"),
    "a huge path": lambda: interpolate(MANY, (0, 1)),
    "huge frames of a path": lambda: animate_interpolation(HUGE, (0, 1)),
    "a huge walk": lambda: traverse(MANY, 0),
    "huge frames of a walk": lambda: animate_traversal(HUGE, 0),
    "a huge reconstruction": lambda: reconstruct(HUGE, [0]),
    "a huge manifold": lambda: manifold(model(2), latent_plane(2), 2000, 3, NAME),
}


def test_what_cannot_be_drawn_is_refused_before_anything_is_made(
    said: Said, tmp_path: Path
) -> None:
    messages = {}
    for name, draw in REFUSED.items():
        with pytest.raises((ValueError, NpvaeError)) as caught:
            draw()
        messages[name] = f"{type(caught.value).__name__}: {caught.value}"
        assert len(messages[name].splitlines()) <= 4
    with unchanged(tmp_path), pytest.raises(NpvaeError) as caught:
        save_png(tmp_path / "nowhere" / "picture.png", GREY)
    messages["a folder that is not there"] = f"{type(caught.value).__name__}: {caught.value}"
    said("pictures are refused", messages)
