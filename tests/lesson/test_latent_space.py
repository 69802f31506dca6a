"""The arithmetic of latent codes: paths between them, Gaussians of classes, planes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.latent_space import (
    draw_codes,
    encode_all,
    gaussian_of_class,
    lerp,
    normal_quantiles,
    principal_axes,
    principal_plane,
    slerp,
)
from tests.plots.toys import TEST, model, x_of

T = np.linspace(0, 1, 7)


def norms(codes: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(codes, axis=1))


# ------------------------------------------------------------------ paths between codes


def test_the_spherical_way_keeps_the_norm_and_turns_evenly() -> None:
    a, b = np.array([3.0, 0, 0, 4]), np.array([0.0, 5, 0, 0])  # at a right angle
    way = slerp(a, b, T)
    np.testing.assert_allclose(norms(way), 5, rtol=1e-14)
    for step in range(6):
        cosine = way[step] @ way[step + 1] / 25
        assert cosine == pytest.approx(math.cos(math.pi / 2 / 6), abs=1e-14)
    np.testing.assert_allclose(way[3], (a + b) / math.sqrt(2), atol=1e-14)
    assert norms(lerp(a, b, T))[3] == pytest.approx(5 / math.sqrt(2))  # the straight way does not


def test_both_ways_go_from_a_to_b_and_the_norm_evenly() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 6)) * [[1.0], [3.0]]
    for way in slerp(a, b, T), lerp(a, b, T):
        np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-14)
        assert np.linalg.matrix_rank(np.vstack([way, a, b])) == 2  # it stays in their plane
    expected = (1 - T) * np.linalg.norm(a) + T * np.linalg.norm(b)
    np.testing.assert_allclose(norms(slerp(a, b, T)), expected, rtol=1e-13)


@pytest.mark.parametrize("distance", [0.0, 1e-300, 1e-15, 1e-10, 1e-8, 1e-6])
def test_between_codes_in_nearly_one_direction_both_ways_are_one(distance: float) -> None:
    a = np.array([1.0, 2, -2])
    b = 2 * a + distance * np.array([0.0, 1, 1])
    # All of both is within their distance from the line through a, and rounding.
    np.testing.assert_allclose(slerp(a, b, T), lerp(a, b, T), rtol=1e-14, atol=2 * distance)


@pytest.mark.parametrize("a", [np.array([0.0, 2, 0]), 2 / 3 * np.array([1.0, 2, -2])])
def test_between_opposite_codes_it_goes_around(a: NDArray[np.float64]) -> None:
    way = slerp(a, -a, T)
    np.testing.assert_allclose(norms(way), 2, rtol=1e-14)
    np.testing.assert_allclose(way[[0, -1]], [a, -a], atol=1e-14)
    assert way[3] @ a == pytest.approx(0, abs=1e-14)


def test_where_there_is_no_way_around_it_goes_straight() -> None:
    zero, some, one = np.zeros(3), np.array([1.0, -2, 0.5]), np.array([2.0])
    for a, b in ((zero, some), (some, zero), (zero, zero), (one, -one)):
        np.testing.assert_array_equal(slerp(a, b, T), lerp(a, b, T))


# ------------------------------------------------------------------ classes, quantiles, planes


def test_the_gaussian_of_a_class_has_the_moments_of_its_codes() -> None:
    """Against draws: an image at random, then z from its q(z | x)."""
    rng, n = np.random.default_rng(0), 100_000
    mu = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 3)) + [5.0, 0, -5]
    log_var = rng.uniform(-2, 1, (40, 3))
    mean, covariance = gaussian_of_class(mu, log_var)
    which = rng.integers(0, 40, n)
    z = mu[which] + np.exp(0.5 * log_var[which]) * rng.standard_normal((n, 3))
    # Standard errors of a variance are variance * sqrt(2 / n); five of them, for products too.
    scale = float(np.diag(covariance).max())
    np.testing.assert_allclose(mean, z.mean(axis=0), atol=5 * math.sqrt(scale / n))
    np.testing.assert_allclose(covariance, np.cov(z.T), atol=5 * scale * math.sqrt(2 / n))
    np.testing.assert_allclose(
        covariance, np.cov(mu.T, bias=True) + np.diag(np.exp(log_var).mean(axis=0) + 1e-6)
    )


def test_one_image_is_enough_for_a_gaussian_even_if_it_is_certain_of_its_code() -> None:
    mean, covariance = gaussian_of_class(np.array([[1.0, 2]]), np.array([[-200.0, 0]]))
    np.testing.assert_array_equal(mean, [1, 2])
    np.testing.assert_allclose(covariance, np.diag([1e-6, 1 + 1e-6]))
    assert np.isfinite(draw_codes(mean, covariance, 3, np.random.default_rng(0))).all()


def test_draws_have_the_mean_and_the_covariance_that_are_asked_for() -> None:
    mean, covariance, n = np.array([1.0, -2]), np.array([[2.0, 0.9], [0.9, 0.5]]), 50_000
    z = draw_codes(mean, covariance, n, np.random.default_rng(0))
    np.testing.assert_allclose(z.mean(axis=0), mean, atol=5 * math.sqrt(2 / n))
    np.testing.assert_allclose(np.cov(z.T), covariance, atol=5 * 2 * math.sqrt(2 / n))


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_quantiles_cut_the_prior_into_equal_shares(count: int) -> None:
    below = [0.5 * (1 + math.erf(q / math.sqrt(2))) for q in normal_quantiles(count)]
    np.testing.assert_allclose(below, (np.arange(count) + 0.5) / count, rtol=1e-12)


def test_principal_axes_are_those_of_the_greatest_variance_and_the_plane_is_theirs() -> None:
    codes = np.random.default_rng(0).standard_normal((500, 4)) @ np.diag([1.0, 3, 0.1, 2]) + 5
    mean, axes, variance = principal_axes(codes)
    np.testing.assert_allclose(mean, codes.mean(axis=0))
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(variance[::-1], np.linalg.eigvalsh(np.cov(codes.T, bias=True)))
    points, share = principal_plane(codes)
    np.testing.assert_allclose(points, (codes - mean) @ axes.T)
    np.testing.assert_allclose(points.var(axis=0), variance[:2], rtol=1e-12)
    np.testing.assert_allclose(share, variance[:2] / variance.sum())
    for same in (axes, principal_axes(-codes)[1]):  # the same sign on any machine
        assert all(axis[np.abs(axis).argmax()] > 0 for axis in same)


def test_a_single_code_is_in_the_middle_of_its_plane() -> None:
    points, share = principal_plane(np.ones((1, 4)))
    np.testing.assert_array_equal(points, [[0, 0]])
    np.testing.assert_array_equal(share, [0, 0])


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_all_codes_are_those_of_the_images_in_order(batch_size: int) -> None:
    vae = model(3)
    for found, expected in zip(
        encode_all(vae, TEST.images, batch_size), vae.encode(x_of(TEST.images)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
