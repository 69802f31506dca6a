"""Pictures of a model show what they say: the right codes, decoded, in the right order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.core.errors import DataError, OptionError
from npvae.datasets import Dataset
from npvae.datasets.drawn_digits import drawn_digits
from npvae.evaluation import kl_per_latent
from npvae.latent_space import (
    draw_codes,
    encode_all,
    gaussian_of_class,
    lerp,
    normal_quantiles,
    principal_plane,
    slerp,
)
from npvae.model import VAE
from npvae.plots import generation, manifold
from npvae.plots.argument_checks import check_indices, check_size, class_label, class_name
from npvae.plots.axes import MARGIN
from npvae.plots.image_grid import to_uint8
from npvae.plots.labelled_grid import strip

TRAIN, TEST = drawn_digits(train=200, test=60)
T = np.linspace(0, 1, 7)


def model(latent_dim: int, seed: int = 1) -> VAE:
    """Untrained, but large enough weights make every latent count, each to another degree."""
    vae = VAE(784, (16,), latent_dim, dtype="float64", rng=np.random.default_rng(seed))
    vae.parameters["encoder.mu.W"] *= 1 + np.random.default_rng(seed).permutation(latent_dim)
    vae.parameters["encoder.log_var.b"] = -1.0
    vae.parameters["decoder.hidden0.W"] *= 3
    return vae


Drawn = dict[str, Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What was handed to the last `strip` or `scatter`; the pictures are made all the same."""
    last: Drawn = {}

    def watch(module: Any, name: str, names: str) -> None:
        original: Callable[..., Image.Image] = getattr(module, name)

        def watched(*args: Any, **named: Any) -> Image.Image:
            last.clear()
            last.update(zip(names.split(), args, strict=False))
            last.update(named)
            return original(*args, **named)

        monkeypatch.setattr(module, name, watched)

    for module in generation, manifold:
        watch(module, "strip", "rows row_labels column_labels scale title gap")
    watch(manifold, "scatter", "points labels class_names title x_label y_label")
    return last


def x_of(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255


def norms(codes: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(codes, axis=1))


# --- ways between codes --------------------------------------------------------------------------


def test_the_spherical_way_keeps_the_norm_and_turns_evenly() -> None:
    a, b = np.array([3.0, 0, 0, 4]), np.array([0.0, 5, 0, 0])  # at a right angle
    way = slerp(a, b, T)
    np.testing.assert_allclose(norms(way), 5, rtol=1e-14)
    for step in range(6):
        cosine = way[step] @ way[step + 1] / 25
        assert cosine == pytest.approx(math.cos(math.pi / 2 / 6), abs=1e-14)
    np.testing.assert_allclose(way[3], (a + b) / math.sqrt(2), atol=1e-14)
    assert norms(lerp(a, b, T))[3] == pytest.approx(5 / math.sqrt(2))  # the straight way does not


@pytest.mark.parametrize("seed", range(5))
def test_both_ways_go_from_a_to_b_and_the_norm_evenly(seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 6)) * [[1.0], [3.0]]
    for way in slerp(a, b, T), lerp(a, b, T):
        np.testing.assert_allclose(way[0], a, atol=1e-14)
        np.testing.assert_allclose(way[-1], b, atol=1e-14)
    expected = (1 - T) * np.linalg.norm(a) + T * np.linalg.norm(b)
    np.testing.assert_allclose(norms(slerp(a, b, T)), expected, rtol=1e-13)
    assert np.linalg.matrix_rank(np.vstack([slerp(a, b, T), a, b])) == 2  # it stays in their plane


@pytest.mark.parametrize("distance", [0.0, 1e-300, 1e-15, 1e-10, 1e-8, 1e-6])
def test_between_codes_in_nearly_one_direction_both_ways_are_one(distance: float) -> None:
    a = np.array([1.0, 2, -2])
    b = 2 * a + distance * np.array([0.0, 1, 1])
    # All of both is within their distance from the line through a, and rounding.
    np.testing.assert_allclose(slerp(a, b, T), lerp(a, b, T), rtol=1e-14, atol=2 * distance)


def test_between_opposite_codes_it_goes_around() -> None:
    a = np.array([0.0, 2, 0])
    way = slerp(a, -a, T)
    np.testing.assert_allclose(norms(way), 2, rtol=1e-14)
    np.testing.assert_allclose(way[[0, -1]], [a, -a], atol=1e-14)
    assert way[3] @ a == pytest.approx(0, abs=1e-14)


def test_where_there_is_no_way_around_it_goes_straight() -> None:
    zero, b = np.zeros(3), np.array([1.0, -2, 0.5])
    np.testing.assert_array_equal(slerp(zero, b, T), lerp(zero, b, T))
    np.testing.assert_array_equal(slerp(b, zero, T), lerp(b, zero, T))
    np.testing.assert_array_equal(slerp(zero, zero, T), np.zeros((7, 3)))
    one = np.array([2.0])
    np.testing.assert_array_equal(slerp(one, -one, T), lerp(one, -one, T))


# --- classes, quantiles, planes ------------------------------------------------------------------


def test_the_gaussian_of_a_class_has_the_moments_of_its_codes() -> None:
    """Against draws: an image at random, then z from its q(z | x)."""
    rng = np.random.default_rng(0)
    mu = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 3)) + [5.0, 0, -5]
    log_var = rng.uniform(-2, 1, (40, 3))
    mean, covariance = gaussian_of_class(mu, log_var)
    which = rng.integers(0, 40, 400_000)
    z = mu[which] + np.exp(0.5 * log_var[which]) * rng.standard_normal((400_000, 3))
    # Standard errors are variance * sqrt(2 / 400,000), 0.2 %; five of them, for products too.
    scale = float(np.diag(covariance).max())
    np.testing.assert_allclose(mean, z.mean(axis=0), atol=5 * math.sqrt(scale / 400_000))
    np.testing.assert_allclose(covariance, np.cov(z.T), atol=0.012 * scale)
    np.testing.assert_allclose(
        covariance, np.cov(mu.T, bias=True) + np.diag(np.exp(log_var).mean(axis=0) + 1e-6)
    )


def test_one_image_is_enough_for_a_gaussian_even_if_it_is_certain_of_its_code() -> None:
    mean, covariance = gaussian_of_class(np.array([[1.0, 2]]), np.array([[-200.0, 0]]))
    np.testing.assert_array_equal(mean, [1, 2])
    np.testing.assert_allclose(covariance, np.diag([1e-6, 1 + 1e-6]))
    assert np.isfinite(draw_codes(mean, covariance, 3, np.random.default_rng(0))).all()


def test_draws_have_the_mean_and_the_covariance_that_are_asked_for() -> None:
    mean, covariance = np.array([1.0, -2]), np.array([[2.0, 0.9], [0.9, 0.5]])
    z = draw_codes(mean, covariance, 200_000, np.random.default_rng(0))
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=0.016)  # 5 sqrt(2 / 200,000)
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=0.032)  # 5 * 2 * sqrt(2 / 200,000)


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_quantiles_cut_the_prior_into_equal_shares(count: int) -> None:
    below = [0.5 * (1 + math.erf(q / math.sqrt(2))) for q in normal_quantiles(count)]
    np.testing.assert_allclose(below, (np.arange(count) + 0.5) / count, rtol=1e-12)


def test_the_principal_plane_is_the_plane_of_greatest_variance() -> None:
    """Codes with known spreads along known axes, turned into five dimensions."""
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    plain = rng.standard_normal((2000, 5))
    plain -= plain.mean(axis=0)
    plain = plain @ np.linalg.inv(np.linalg.cholesky(np.cov(plain.T))).T  # exactly uncorrelated
    plain *= [1.0, 4, 0.5, 2, 0.1]
    points, share = principal_plane(plain @ turn.T + 7)
    for found, expected in zip(points.T, plain[:, [1, 3]].T, strict=True):
        assert np.allclose(found, expected) or np.allclose(found, -expected)
    np.testing.assert_allclose(share, np.array([16, 4]) / (1 + 16 + 0.25 + 4 + 0.01))


def test_principal_axes_point_where_their_largest_component_is_positive() -> None:
    for sign in (-1, 1):
        points, _ = principal_plane(np.array([[0.0, 0, 0], [1, -3, 0], [-1, 3, 0]]) * sign)
        assert points[1, 0] * sign < 0  # the second component is the largest, and -3 here


def test_a_single_code_is_in_the_middle_of_its_plane() -> None:
    points, share = principal_plane(np.ones((1, 4)))
    np.testing.assert_array_equal(points, [[0, 0]])
    np.testing.assert_array_equal(share, [0, 0])


@pytest.mark.parametrize("batch_size", [1, 7, 60, 500])
def test_all_codes_are_those_of_the_images_in_order(batch_size: int) -> None:
    vae = model(3)
    for found, expected in zip(
        encode_all(vae, TEST.images, batch_size), vae.encode(x_of(TEST.images)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


# --- pictures ------------------------------------------------------------------------------------


def test_prior_shows_the_draws_of_the_generator(drawn: Drawn) -> None:
    vae = model(3)
    generation.prior(vae, np.random.default_rng(5), 23, 1, "toy")
    assert [len(row) for row in drawn["rows"]] == [10, 10, 3]
    np.testing.assert_array_equal(
        np.concatenate(drawn["rows"]), vae.sample(23, np.random.default_rng(5))
    )
    generation.prior(vae, np.random.default_rng(5), 400, 1, "toy")
    assert [len(row) for row in drawn["rows"]] == 20 * [20]


def test_a_class_is_drawn_from_the_codes_of_its_training_images_alone(drawn: Drawn) -> None:
    vae = model(3)
    generation.of_class(vae, TRAIN, "4", np.random.default_rng(5), 12, 1, "toy")
    shown = np.concatenate(drawn["rows"])
    fours = x_of(TRAIN.images[TRAIN.labels == 4])
    gaussian = gaussian_of_class(*vae.encode(fours))
    z = draw_codes(*gaussian, 12, np.random.default_rng(5))
    np.testing.assert_allclose(shown, vae.decode(z), rtol=1e-9)
    generation.of_class(vae, TRAIN, "5", np.random.default_rng(5), 12, 1, "toy")
    assert np.abs(shown - np.concatenate(drawn["rows"])).max() > 0.01


def test_reconstructions_stand_below_their_originals(drawn: Drawn) -> None:
    vae, indices = model(3), [7, 0, 9]
    generation.reconstruct(vae, TEST, "test", indices, 1)
    originals, decoded = drawn["rows"]
    np.testing.assert_array_equal(originals, TEST.images[indices])
    mu, _ = vae.encode(x_of(TEST.images[indices]))
    np.testing.assert_allclose(decoded, vae.decode(mu), rtol=1e-12)
    assert drawn["column_labels"] == [f"{k}: {TEST.labels[k]}" for k in indices]
    assert drawn["row_labels"] == ["original", "decoded"]


def test_one_reconstruction_stands_beside_its_original(drawn: Drawn) -> None:
    vae = model(3)
    generation.reconstruct(vae, TEST, "test", [4], 1)
    ((original, decoded),) = drawn["rows"]
    np.testing.assert_array_equal(original, TEST.images[4])
    mu, _ = vae.encode(x_of(TEST.images[4:5]))
    np.testing.assert_allclose(decoded, vae.decode(mu)[0], rtol=1e-12)
    assert drawn["column_labels"] == ["original", "decoded"]
    assert f'test image 4 ("{TEST.labels[4]}")' in drawn["title"]


def test_many_reconstructions_stand_in_bands_of_ten(drawn: Drawn) -> None:
    vae = model(2)
    ten = generation.reconstruct(vae, TEST, "test", range(10), 3)
    picture = generation.reconstruct(vae, TEST, "test", range(23), 3)
    assert drawn["column_labels"] == [f"{k}: {TEST.labels[k]}" for k in (20, 21, 22)]
    np.testing.assert_array_equal(drawn["rows"][0], TEST.images[20:23])
    assert picture.width == ten.width
    pixels = np.asarray(picture)
    band = np.asarray(ten)
    np.testing.assert_array_equal(pixels[: ten.height - MARGIN], band[: ten.height - MARGIN])
    last = np.asarray(strip(**drawn))  # the third band, at the bottom
    np.testing.assert_array_equal(pixels[-last.shape[0] :, : last.shape[1]], last)


def test_interpolation_goes_from_image_to_image_both_ways(drawn: Drawn) -> None:
    vae = model(3)
    generation.interpolate(vae, TEST, "test", (3, 8), 5, 1)
    mu, _ = vae.encode(x_of(TEST.images[[3, 8]]))
    ways = {"spherical": slerp, "straight": lerp}
    assert drawn["row_labels"] == list(ways)
    for row, way in zip(drawn["rows"], ways.values(), strict=True):
        first, *between, last = row
        np.testing.assert_array_equal(first, TEST.images[3])
        np.testing.assert_array_equal(last, TEST.images[8])
        expected = vae.decode(way(mu[0], mu[1], np.array([0, 0.25, 0.5, 0.75, 1])))
        np.testing.assert_allclose(between, expected, rtol=1e-9)
    assert drawn["column_labels"] == ["original", "0%", "25%", "50%", "75%", "100%", "original"]


def test_traversal_moves_one_latent_in_each_row_the_greatest_kl_first(drawn: Drawn) -> None:
    vae = model(5)
    generation.traverse(vae, TRAIN, "train", 3, TEST.images, 7, 1)
    mu, log_var = vae.encode(x_of(TEST.images))
    kl = np.mean(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=0)  # (Z,)
    order = sorted(range(5), key=lambda latent: -kl[latent])
    assert order != list(range(5))
    assert drawn["row_labels"] == [f"z{latent}  {kl[latent]:.2f} nats" for latent in order]
    assert drawn["column_labels"] == ["-3.0", "-2.0", "-1.0", "0.0", "1.0", "2.0", "3.0"]
    at, _ = vae.encode(x_of(TRAIN.images[3:4]))
    for latent, row in zip(order, drawn["rows"], strict=True):
        for value, image in zip(range(-3, 4), row, strict=True):
            z = at.copy()
            z[0, latent] = value
            np.testing.assert_allclose(image, vae.decode(z)[0], rtol=1e-9)


# --- planes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latent_dim", "plane"), [(2, (0, 1)), (4, (2, 1))])
def test_each_tile_of_the_manifold_is_its_quantile_decoded(
    latent_dim: int, plane: tuple[int, int]
) -> None:
    """In the picture itself: rows run downwards, the second latent upwards."""
    vae = model(latent_dim)
    pixels = np.asarray(manifold.manifold(vae, plane, 6, 1, "toy"))[..., 0]
    quantiles = normal_quantiles(6)
    top = pixels.shape[0] - MARGIN - 6 * 28
    for row in range(6):
        for column in range(6):
            z = np.zeros((1, latent_dim))
            z[0, plane[0]], z[0, plane[1]] = quantiles[column], quantiles[5 - row]
            down, right = top + 28 * row, MARGIN + 28 * column
            tile = pixels[down : down + 28, right : right + 28]
            expected = to_uint8(vae.decode(z)).reshape(28, 28)
            # One level: a batch of 36 may be rounded in another way than a batch of one.
            assert np.abs(tile.astype(int) - expected).max() <= 1
    assert len(np.unique(pixels[top:-MARGIN, MARGIN : MARGIN + 6 * 28])) > 20


def test_the_manifold_is_labelled_where_there_is_room(drawn: Drawn) -> None:
    manifold.manifold(model(2), (0, 1), 3, 2, "toy")
    assert drawn["column_labels"] == ["-0.97", "0.00", "0.97"]
    assert drawn["row_labels"] == ["0.97", "0.00", "-0.97"]
    assert drawn["title"] == "toy: z0 to the right, z1 upwards"
    manifold.manifold(model(3), (2, 0), 3, 1, "toy")
    assert drawn["column_labels"] == drawn["row_labels"] == []
    assert drawn["title"].endswith("z2 to the right, z0 upwards, all others 0")


def test_the_manifold_of_one_latent_is_a_strip(drawn: Drawn) -> None:
    vae = model(1)
    manifold.manifold(vae, (0,), 5, 2, "toy")
    (row,) = drawn["rows"]
    np.testing.assert_allclose(row, vae.decode(normal_quantiles(5)[:, None]), rtol=1e-12)
    assert len(drawn["column_labels"]) == 5


def test_the_most_active_latents_come_first() -> None:
    vae = model(5)
    kl = kl_per_latent(vae, TEST.images)
    order = manifold.most_active(vae, TEST.images)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert all(kl[a] >= kl[b] for a, b in pairwise(order))


def test_codes_stand_where_the_encoder_puts_them(drawn: Drawn) -> None:
    vae = model(2)
    manifold.codes(vae, TEST, 50, 1, "toy")
    np.testing.assert_allclose(drawn["points"], vae.encode(x_of(TEST.images[:50]))[0], rtol=1e-9)
    np.testing.assert_array_equal(drawn["labels"], TEST.labels[:50])
    assert (drawn["x_label"], drawn["y_label"]) == ("mu of z0", "mu of z1")
    assert "50 test images" in drawn["title"]


def test_codes_of_more_latents_stand_in_their_principal_plane_and_say_so(drawn: Drawn) -> None:
    vae = model(4)
    manifold.codes(vae, TEST, 10_000, 1, "toy")
    mu, _ = vae.encode(x_of(TEST.images))
    points, (first, second) = principal_plane(mu)
    np.testing.assert_allclose(drawn["points"], points, rtol=1e-7, atol=1e-9)
    assert drawn["x_label"] == f"first principal component of mu: {first:.0%} of the variance"
    assert drawn["y_label"] == f"second principal component of mu: {second:.0%} of the variance"
    assert 1 > first > second > 0


def test_codes_of_one_latent_stand_in_a_row_for_each_class(drawn: Drawn) -> None:
    vae = model(1)
    manifold.codes(vae, TEST, 10_000, 1, "toy")
    mu, _ = vae.encode(x_of(TEST.images))
    np.testing.assert_allclose(drawn["points"][:, 0], mu[:, 0], rtol=1e-9)
    np.testing.assert_array_equal(np.rint(drawn["points"][:, 1]), TEST.labels)


@pytest.mark.parametrize("scale", [50, 2**53 - 1])
def test_codes_are_not_enlarged_beyond_what_memory_holds(scale: int) -> None:
    with pytest.raises(OptionError, match="million pixels"):
        manifold.codes(model(2), TEST, 20, scale, "toy")


def test_a_scale_enlarges_the_codes_too() -> None:
    small, large = (manifold.codes(model(2), TEST, 20, scale, "toy") for scale in (1, 2))
    assert large.size == (2 * small.width, 2 * small.height)


# --- what is asked for and is not there ----------------------------------------------------------


def clothes() -> Dataset:
    names = ("T-shirt/top", "Trouser", "Shirt", *"3456789")
    return replace(TRAIN, name="clothes", class_names=names)


@pytest.mark.parametrize(
    ("name", "label"), [("trouser", 1), ("TROUSER", 1), ("shirt", 2), ("t-shirt/top", 0)]
)
def test_a_class_is_found_by_its_name_in_capitals_or_not(name: str, label: int) -> None:
    assert class_label(clothes(), name) == label


def test_an_unknown_class_is_an_error_that_lists_the_classes() -> None:
    with pytest.raises(OptionError, match=r'there is no class "trousers" in clothes') as caught:
        class_label(clothes(), "trousers")
    assert "T-shirt/top, Trouser, Shirt, 3" in str(caught.value)
    with pytest.raises(
        OptionError, match=r"clothes does not show digits.*\n.*T-shirt/top, Trouser"
    ):
        class_label(clothes(), "1")


def test_names_in_pictures_are_short_whatever_the_dataset_is_called() -> None:
    """Neither a path nor a sentence makes a picture wide."""
    odd = replace(TEST, name="/home/me/all my/pictures", class_names=("x" * 300,) * 10)
    assert generation.reconstruct(model(2), odd, "test", range(3), 3).width < 900
    assert class_name(odd, 0) == 21 * "x" + "..."
    assert odd.title == "pictures"
    assert TEST.title == TEST.name


def test_a_class_without_images_is_an_error() -> None:
    no_threes = replace(TRAIN, labels=np.where(TRAIN.labels == 3, 2, TRAIN.labels))
    with pytest.raises(DataError, match="shows the class 3"):
        generation.of_class(model(2), no_threes, "3", np.random.default_rng(0), 5, 1, "toy")


@pytest.mark.parametrize("index", [60, 10**9, -1])
def test_an_index_out_of_range_is_an_error_that_names_the_range(index: int) -> None:
    with pytest.raises(OptionError, match=f"no test image {index}: .* 0 to 59"):
        check_indices(TEST, "test", [0, 59, index])
    asked: list[Callable[[], Image.Image]] = [
        lambda: generation.reconstruct(model(2), TEST, "test", [index], 1),
        lambda: generation.interpolate(model(2), TEST, "test", (0, index), 3, 1),
        lambda: generation.traverse(model(2), TEST, "test", index, TEST.images, 3, 1),
    ]
    for picture in asked:
        with pytest.raises(OptionError, match="0 to 59"):
            picture()


def test_a_picture_that_nobody_could_open_is_refused_before_it_is_made() -> None:
    check_size(400, 17)
    with pytest.raises(OptionError, match=r"102 million pixels.*\n.*--count or --scale"):
        check_size(400, 18)
    vae, many, rng = model(2), 10**7, np.random.default_rng(0)
    asked: list[Callable[[], Image.Image]] = [
        lambda: generation.prior(vae, rng, many, 3, "toy"),
        lambda: generation.of_class(vae, TRAIN, "4", rng, many, 3, "toy"),
        lambda: generation.interpolate(vae, TEST, "test", (0, 1), many, 3),
        lambda: generation.traverse(vae, TEST, "test", 0, TEST.images, many, 3),
        lambda: generation.reconstruct(vae, TEST, "test", [0], 10**4),
        lambda: manifold.manifold(vae, (0, 1), many, 1, "toy"),
    ]
    for picture in asked:
        with pytest.raises(OptionError, match="million pixels"):
            picture()
