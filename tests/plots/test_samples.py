"""Pictures of a model show what they say: the right codes, decoded, in the right order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.core.errors import DataError, OptionError
from npvae.datasets import Dataset
from npvae.latent_space import draw_codes, gaussian_of_class
from npvae.plots import image_grid as grids
from npvae.plots import samples
from npvae.plots.axes import MARGIN
from npvae.plots.class_names import class_label, class_name, numbered
from npvae.plots.image_grid import image_grid
from npvae.plots.latent_walks import (
    animate_interpolation,
    animate_traversal,
    interpolate,
    traverse,
)
from npvae.plots.request import check_size, model_name
from npvae.plots.samples import best_fits, of_class, prior, reconstruct
from tests.plots.toys import NAME, TEST, TRAIN, asked, model, pixels_of, x_of

Drawn = dict[str, Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What was handed to the last `image_grid`; the pictures are made all the same."""
    last: Drawn = {}
    original: Callable[..., Image.Image] = image_grid
    names = ["rows", "row_labels", "column_labels", "scale", "title", "gap", "marks"]

    def watched(*args: Any, **named: Any) -> Image.Image:
        last.clear()
        last.update(zip(names, args, strict=False))
        last.update(named)
        return original(*args, **named)

    for module in (samples, grids):
        monkeypatch.setattr(module, "image_grid", watched)
    return last


def test_a_model_is_named_by_dataset_latents_and_epoch() -> None:
    assert model_name("mnist", 2, 20) == "mnist, z = 2, epoch 20"
    assert model_name("mnist", 2) == "mnist, z = 2"
    assert model_name("x" * 300, 2, 1) == 21 * "x" + "..., z = 2, epoch 1"


# ------------------------------------------------------------------ samples


def test_prior_shows_the_draws_of_the_generator(drawn: Drawn) -> None:
    vae = model(3)
    prior(asked(vae, 23))
    assert [len(row) for row in drawn["rows"]] == [10, 10, 3]
    np.testing.assert_array_equal(
        np.concatenate(drawn["rows"]), vae.sample(23, np.random.default_rng(5))
    )
    assert drawn["title"] == f"{NAME}: samples from the prior"
    prior(asked(vae, 400))
    assert [len(row) for row in drawn["rows"]] == 20 * [20]


def test_a_class_is_drawn_from_the_codes_of_its_training_images_alone(drawn: Drawn) -> None:
    vae = model(3)
    of_class(asked(vae, 12), "4")
    shown = np.concatenate(drawn["rows"])
    fours = x_of(TRAIN.images[TRAIN.labels == 4])
    gaussian = gaussian_of_class(*vae.encode(fours))
    z = draw_codes(*gaussian, 12, np.random.default_rng(5))
    np.testing.assert_allclose(shown, vae.decode(z), rtol=1e-9)
    of_class(asked(vae, 12), "5")
    assert np.abs(shown - np.concatenate(drawn["rows"])).max() > 0.01


def test_a_class_without_training_images_cannot_be_drawn() -> None:
    without = replace(TRAIN, labels=np.where(TRAIN.labels == 4, 5, TRAIN.labels))
    of_class(asked(model(2), 2, data=(without, TEST)), "5")
    with pytest.raises(DataError, match="no training image of drawn-digits has the class 4"):
        of_class(asked(model(2), 2, data=(without, TEST)), "4")


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


@pytest.mark.parametrize(("apart", "warned"), [(0.5, True), (8.0, False)])
def test_a_class_that_overlaps_another_is_warned_of(
    apart: float, warned: bool, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes whose codes have the variance 1 + 1 (of mu and within) and lie `apart` apart."""

    def encode_all(vae: object, images: Any) -> tuple[Any, Any]:
        label = int(TRAIN.labels[np.flatnonzero((TRAIN.images == images[0]).all(axis=(1, 2)))[0]])
        mu = np.random.default_rng(label).standard_normal((500, 2))
        return mu + np.array([apart * (label == 4), 99.0 * (label not in (4, 9))]), np.zeros(
            (500, 2)
        )

    monkeypatch.setattr(samples, "encode_all", encode_all)
    said: list[str] = []
    of_class(asked(model(2), 4, say=said.append), "4")
    title, _, warning = drawn["title"].partition("\n")
    assert title == f"{NAME}: samples like the class 4"
    assert said == ([f"note     4 is {warning}"] if warned else [])
    if warned:
        assert warning.startswith("poorly separated: ")
        assert warning.endswith("% the class 9")


# ------------------------------------------------------------------ reconstructions


def test_reconstructions_stand_below_their_originals(drawn: Drawn) -> None:
    vae, indices = model(3), [7, 0, 9]
    reconstruct(asked(vae, 10), indices)
    originals, x_hat = drawn["rows"]
    np.testing.assert_array_equal(originals, TEST.images[indices])
    mu, _ = vae.encode(x_of(TEST.images[indices]))
    np.testing.assert_allclose(x_hat, vae.decode(mu), rtol=1e-12)
    assert drawn["column_labels"] == [f"image {k}\nclass {TEST.labels[k]}" for k in indices]
    assert drawn["row_labels"] == ["original", "reconstruction"]
    assert drawn["title"] == f"{NAME}: drawn-digits test images and reconstructions\n"
    reconstruct(asked(vae, 10, name="drawn-digits, z = 3, epoch 7"), indices)
    assert drawn["title"] == "drawn-digits, z = 3, epoch 7: test images and reconstructions\n"


def test_one_reconstruction_stands_beside_its_original(drawn: Drawn) -> None:
    vae = model(3)
    reconstruct(asked(vae, 10), [4])
    ((original, x_hat),) = drawn["rows"]
    np.testing.assert_array_equal(original, TEST.images[4])
    mu, _ = vae.encode(x_of(TEST.images[4:5]))
    np.testing.assert_allclose(x_hat, vae.decode(mu)[0], rtol=1e-12)
    assert drawn["column_labels"] == ["original", "reconstruction"]
    assert drawn["title"].endswith(f"test image 4 (class {TEST.labels[4]})\n")


def test_many_reconstructions_stand_in_bands_of_ten(drawn: Drawn) -> None:
    vae = model(2)
    ten = reconstruct(asked(vae, 10, 3))
    picture = reconstruct(asked(vae, 23, 3))
    assert drawn["column_labels"] == [f"image {k}\nclass {TEST.labels[k]}" for k in (20, 21, 22)]
    np.testing.assert_array_equal(drawn["rows"][0], TEST.images[20:23])
    pixels, band = pixels_of(picture), pixels_of(ten)
    np.testing.assert_array_equal(
        pixels[: ten.height - MARGIN, : ten.width], band[: ten.height - MARGIN]
    )
    last = pixels_of(image_grid(**drawn))  # the third band, at the bottom
    np.testing.assert_array_equal(pixels[-last.shape[0] :, : last.shape[1]], last)


# ------------------------------------------------------------------ what does not exist


def clothes() -> Dataset:
    names = ("T-shirt/top", "Trouser", "Shirt", *"3456789")
    return replace(TRAIN, name="clothes", class_names=names)


@pytest.mark.parametrize(
    ("name", "label"),
    [("trouser", 1), ("TROUSER", 1), ("shirt", 2), ("t-shirt/top", 0), ("t-shirt", 0), ("rous", 1)],
)
def test_a_class_is_found_by_its_name_or_a_part_in_capitals_or_not(name: str, label: int) -> None:
    assert class_label(clothes(), name) == label


def test_an_unknown_class_is_an_error_that_lists_the_classes() -> None:
    with pytest.raises(OptionError, match=r'there is no class "trousers" in clothes') as caught:
        class_label(clothes(), "trousers")
    assert "T-shirt/top, Trouser, Shirt, 3" in str(caught.value)
    with pytest.raises(OptionError, match=r'there is no class "shir" in clothes'):  # two have it
        class_label(clothes(), "shir")
    with pytest.raises(OptionError, match=r'no class "1" in clothes\.\n.*T-shirt/top, Trouser'):
        class_label(clothes(), "1")


def test_names_in_pictures_are_short_whatever_the_dataset_is_called() -> None:
    """Neither a path nor a sentence makes a picture wide."""
    odd = replace(TEST, name="/home/me/all my/pictures", class_names=("x" * 300,) * 10)
    assert reconstruct(asked(model(2), 3, 3, (TRAIN, odd))).width < 1000
    assert class_name(odd, 0) == 21 * "x" + "..."
    assert odd.title == "pictures"


def test_a_name_that_the_font_cannot_draw_gets_its_number(drawn: Drawn) -> None:
    names = ("お", "carrés", "Shirt", "shirt", *"456789")
    odd = replace(TEST, class_names=names, labels=np.arange(len(TEST), dtype=np.uint8) % 10)
    assert [class_name(odd, k) for k in range(5)] == [
        "#0",
        "#1: carres",
        "Shirt",
        "shirt",
        "class 4",
    ]
    assert numbered(odd) == {"0": "お", "1": "carrés"}
    reconstruct(asked(model(2), 3, data=(TRAIN, odd)))
    assert drawn["title"].endswith("\n#0 is class 0: this font lacks letters of its name.")
    assert [class_label(odd, name) for name in ("お", "0", "CARRÉS", "1")] == [0, 0, 1, 1]
    assert [class_label(odd, name) for name in ("Shirt", "shirt", "SHIRT")] == [2, 3, 2]


def test_a_name_of_a_digit_is_called_a_class() -> None:
    assert class_name(TEST, 4) == f"class {TEST.labels[4]}"
    assert class_name(replace(clothes(), labels=np.ones(200, np.uint8)), 4) == "Trouser"


@pytest.mark.parametrize("index", [60, 10**9, -1])
def test_an_index_out_of_range_is_an_error_that_names_the_range(index: int) -> None:
    with pytest.raises(OptionError, match=f"no test image {index}: .* 0 to 59"):
        reconstruct(asked(model(2), 10), [0, index])


def test_a_picture_that_nobody_could_open_is_refused_before_it_is_made() -> None:
    check_size(400, 17)
    with pytest.raises(OptionError, match=r"102 million pixels.*\n.*--count or --scale"):
        check_size(400, 18)
    many, huge = asked(model(2), 10**7, 3), asked(model(2), 5, 10**4)
    pictures: list[Callable[[], object]] = [
        lambda: prior(many),
        lambda: of_class(many, "4"),
        lambda: interpolate(many, (0, 1)),
        lambda: animate_interpolation(huge, (0, 1)),
        lambda: traverse(many, 0),
        lambda: animate_traversal(huge, 0),
        lambda: reconstruct(huge, [0]),
    ]
    for picture in pictures:
        with pytest.raises(OptionError, match="million pixels"):
            picture()
