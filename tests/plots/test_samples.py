"""Pictures of a model show what they say: the right codes, decoded, in the right order.

Each is compared with the grid of what it should show, its labels and its title.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from npvae.core.errors import OptionError
from npvae.latent_space import draw_codes, gaussian_of_class
from npvae.plots.class_names import class_label, class_name, numbered
from npvae.plots.image_grid import image_grid, in_rows, reconstruction_grid
from npvae.plots.request import check_size, model_name
from npvae.plots.samples import best_fits, of_class, prior, reconstruct
from tests.helpers import refused
from tests.plots.toys import CLOTHES, NAME, TEST, TRAIN, asked, assert_same, model, x_of


def test_a_model_is_named_by_dataset_latents_and_epoch() -> None:
    assert model_name("mnist", 2, 20) == "mnist, z = 2, epoch 20"
    assert model_name("mnist", 2) == "mnist, z = 2"
    assert model_name("x" * 300, 2, 1) == 21 * "x" + "..., z = 2, epoch 1"


# ------------------------------------------------------------------ samples


@pytest.mark.parametrize(
    ("count", "columns", "num_classes"), [(23, 10, 0), (400, 20, 0), (23, 10, 10)]
)
def test_prior_shows_the_draws_of_the_generator(count: int, columns: int, num_classes: int) -> None:
    """In rows of ten, or in a square. Of a conditional model in each class in turn."""
    vae, words = model(3, 1, num_classes), "; the 10 classes in turn" if num_classes else ""
    c = np.arange(count) % 10 if num_classes else None
    rows = in_rows(vae.sample(count, np.random.default_rng(5), c), columns)
    expected = image_grid(rows, scale=1, title=f"{NAME}: samples from the prior{words}")
    assert_same(prior(asked(vae, count)), expected)


def test_a_conditional_model_draws_the_class_itself() -> None:
    vae, title = model(3, 1, num_classes=10), f"{NAME}: samples of the class 4\n"
    rows = in_rows(vae.sample(12, np.random.default_rng(5), 4), 10)
    assert_same(of_class(asked(vae, 12), "4"), image_grid(rows, scale=1, title=title))


def test_a_class_is_drawn_from_the_codes_of_its_training_images_alone() -> None:
    """With a note where another class has such codes, too: here 4s and 9s are any digits."""
    images, label, said = TRAIN.images.copy(), np.resize([4, 9, 2], 200), list[str]()
    images[label == 2] = 255 - images[label == 2]  # far from the others
    data, vae = (replace(TRAIN, images=images, labels=label.astype(np.uint8)), TEST), model(3)
    for name in ("4", "2"):
        picture = of_class(asked(vae, 12, data=data, say=said.append), name)
        gaussian = gaussian_of_class(*vae.encode(x_of(images[label == int(name)])))
        x_hat = vae.decode(draw_codes(*gaussian, 12, np.random.default_rng(5)))
        note = said.pop().removeprefix(f"note     {name} is ") if name == "4" else ""
        title = f"{NAME}: samples like the class {name}\n{note}"
        assert_same(picture, image_grid(in_rows(x_hat, 10), scale=1, title=title))
        if note:
            assert note.startswith("poorly separated: ")
            assert note.endswith("% the class 9")
    assert not said


def test_codes_fit_the_gaussian_with_the_greatest_density() -> None:
    """Against the densities themselves, written out."""
    rng = np.random.default_rng(0)
    gaussians = []
    for _ in range(3):
        a = rng.standard_normal((2, 2))
        gaussians.append((rng.standard_normal(2), a @ a.T + np.eye(2)))
    z = 2 * rng.standard_normal((400, 2))
    density = [
        np.exp(-0.5 * np.sum((z - mean) @ np.linalg.inv(cov) * (z - mean), axis=1))
        / np.sqrt(np.linalg.det(cov))
        for mean, cov in gaussians
    ]
    expected = np.bincount(np.argmax(density, axis=0), minlength=3) / 400
    np.testing.assert_allclose(best_fits(z, gaussians), expected)
    assert expected.min() > 0.05
    np.testing.assert_allclose(best_fits(z, [None, gaussians[0], None]), [0, 1, 0])


# ------------------------------------------------------------------ reconstructions


@pytest.mark.parametrize("name", [NAME, "drawn-digits, z = 3, epoch 7"])
def test_reconstructions_stand_below_their_originals(name: str) -> None:
    """In bands of ten; the dataset is named once."""
    vae, data = model(3), "drawn-digits " if name == NAME else ""
    for given, index in (([7, 0, 9], [7, 0, 9]), (None, [*range(23)])):
        originals = TEST.images[index]
        x_hat = vae.decode(vae.encode(x_of(originals))[0])
        labels = [f"image {k}\nclass {TEST.labels[k]}" for k in index]
        title = f"{name}: {data}test images and reconstructions\n"
        expected = reconstruction_grid(originals, x_hat, 1, title, names=labels)
        assert_same(reconstruct(asked(vae, 23, name=name), given), expected)


def test_one_reconstruction_stands_beside_its_original() -> None:
    vae = model(3)
    x_hat = vae.decode(vae.encode(x_of(TEST.images[4:5]))[0])[0]
    title = f"{NAME}: drawn-digits test image 4 (class {TEST.labels[4]})\n"
    pair = [TEST.images[4], x_hat]
    for scale, default in ((1, 1), (0, 8)):
        expected = image_grid([pair], [], ["original", "reconstruction"], default, title)
        assert_same(reconstruct(asked(vae, 10, scale), [4]), expected)


# ------------------------------------------------------------------ names of classes


@pytest.mark.parametrize(
    ("name", "label"),
    [("trouser", 1), ("TROUSER", 1), ("shirt", 2), ("t-shirt/top", 0), ("t-shirt", 0), ("rous", 1)],
)
def test_a_class_is_found_by_its_name_or_a_part_in_capitals_or_not(name: str, label: int) -> None:
    assert class_label(CLOTHES, name) == label


def test_names_in_pictures_are_short_whatever_the_dataset_is_called() -> None:
    """Neither a path nor a sentence makes a picture wide. Digits are called classes."""
    odd = replace(TEST, name="/home/me/all my/pictures", class_names=("x" * 300,) * 10)
    assert reconstruct(asked(model(2), 3, 3, (TRAIN, odd))).width < 1000
    assert class_name(odd, 0) == 21 * "x" + "..."
    assert odd.title == "pictures"
    assert class_name(TEST, 4) == f"class {TEST.labels[4]}"
    assert class_name(replace(CLOTHES, labels=np.ones(200, np.uint8)), 4) == "Trouser"


def test_a_name_that_the_font_cannot_draw_gets_its_number() -> None:
    names = ("お", "carrés", "Shirt", "shirt", *"456789")
    odd = replace(TEST, class_names=names, labels=np.arange(len(TEST), dtype=np.uint8) % 10)
    drawn = ["#0", "#1: carres", "Shirt", "shirt", "class 4"]
    assert [class_name(odd, k) for k in range(5)] == drawn
    assert numbered(odd) == {"0": "お", "1": "carrés"}
    assert [class_label(odd, name) for name in ("お", "0", "CARRÉS", "1")] == [0, 0, 1, 1]
    assert [class_label(odd, name) for name in ("Shirt", "shirt", "SHIRT")] == [2, 3, 2]
    vae, originals = model(2), TEST.images[:3]
    note = "#0 is class 0: this font lacks letters of its name."
    title = f"{NAME}: drawn-digits test images and reconstructions\n{note}"
    x_hat, labels = vae.decode(vae.encode(x_of(originals))[0]), drawn[:3]
    labels = [f"image {k}\n{name}" for k, name in enumerate(labels)]
    expected = reconstruction_grid(originals, x_hat, 1, title, names=labels)
    assert_same(reconstruct(asked(vae, 3, data=(TRAIN, odd))), expected)


def test_a_hundred_million_pixels_are_the_most() -> None:
    check_size(10**8 // 28**2, 1)
    with refused(OptionError, "100 million pixels"):
        check_size(10**8 // 28**2 + 1, 1)
