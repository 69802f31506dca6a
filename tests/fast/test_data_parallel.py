"""However many workers share a batch: the same loss, the same gradients, and no error is lost."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pytest

from npvae.core.parameters import Array
from npvae.datasets.augmentation import random_warps, warp_pixels
from npvae.evaluation import average_loss
from npvae.fast.data_parallel import SMALLEST_SHARE, Team, shares
from npvae.fast.threads import cores as usable_cores
from npvae.fast.threads import workers
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.settings import AUGMENTATIONS

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 12), np.uint8)
TEAMS = pytest.mark.parametrize("size", [1, 2, 3])


def small_vae(dtype: str = "float64") -> VAE:
    """Untrained, but with biases, so that no gradient is special."""
    rng = np.random.default_rng(1)
    vae = VAE(12, (7, 6), 3, dtype=dtype)
    vae.parameters.flat[:] = rng.normal(0, 0.4, vae.parameters.flat.shape)
    return vae


def batch(count: int, seed: int = 2) -> tuple[Any, Array]:
    """Rows of IMAGES in random order, and noise for them."""
    rng = np.random.default_rng(seed)
    return rng.permutation(len(IMAGES))[:count], rng.standard_normal((count, 3))


# ------------------------------------------------------------------ loss and gradients


@TEAMS
@pytest.mark.parametrize("beta", [1.0, 0.25])
def test_a_team_computes_what_the_model_does(size: int, beta: float) -> None:
    """Batches too small to share, just large enough, and uneven; one after the other, in the same
    room. Only the order of the sums differs, 200 terms at most: 1e-12 in float64."""
    vae, alone = small_vae(), small_vae()
    team = Team(vae, size)
    for count in (1, 31, 63, 64, 65, 97, 131, 200, 64, 1):
        rows, epsilon = batch(count, seed=count)
        expected, gradients = alone.loss_and_gradients(IMAGES[rows] / 255, epsilon, beta)
        loss = team.backpropagate(IMAGES, rows, epsilon, beta)
        assert loss == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(vae.gradients.flat, gradients.flat, rtol=1e-12, atol=1e-13)


@TEAMS
def test_every_worker_moves_its_own_images_by_their_own_maps(size: int) -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (200, 16), np.uint8)  # 4 x 4
    vae, alone = VAE(16, (7,), 3, dtype="float64", rng=rng), VAE(16, (7,), 3, dtype="float64")
    alone.parameters.flat[:] = vae.parameters.flat
    team = Team(vae, size)
    for count in (1, 64, 131):
        rows, epsilon = batch(count, seed=count)
        warps = random_warps(count, AUGMENTATIONS, rng)
        x = np.empty((count, 16))
        warp_pixels(images, rows, warps, x)
        expected, gradients = alone.loss_and_gradients(x, epsilon)
        loss = team.backpropagate(images, rows, epsilon, 1.0, warps)
        assert loss == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(vae.gradients.flat, gradients.flat, rtol=1e-12, atol=1e-13)
        loss = team.backpropagate(images, rows, epsilon)  # and not those of the batch before
        assert loss == pytest.approx(alone.loss(images[rows] / 255, epsilon), rel=1e-12)


@TEAMS
def test_a_map_that_is_no_number_shows_in_the_loss(size: int) -> None:
    rng = np.random.default_rng(5)
    vae, images = VAE(16, (7,), 3), rng.integers(0, 256, (200, 16), np.uint8)
    rows, epsilon = batch(96)
    warps = random_warps(96, (), rng)
    warps[95] = math.nan
    loss = Team(vae, size).backpropagate(images, rows, epsilon.astype("float32"), 1.0, warps)
    assert math.isnan(loss.loss)


@TEAMS
def test_only_the_gradients_of_the_model_change(size: int) -> None:
    vae, images, (rows, epsilon) = small_vae(), IMAGES.copy(), batch(150)
    kept = rows.copy(), epsilon.copy()
    buffer = vae.gradients.flat
    Team(vae, size).backpropagate(images, rows, epsilon)
    np.testing.assert_array_equal(vae.parameters.flat, small_vae().parameters.flat)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(rows, kept[0])
    np.testing.assert_array_equal(epsilon, kept[1])
    assert vae.gradients.flat is buffer
    assert buffer.any()


@TEAMS
def test_every_worker_sees_the_step_that_was_taken(size: int) -> None:
    vae, (rows, epsilon) = small_vae(), batch(150)
    team = Team(vae, size)
    before = team.backpropagate(IMAGES, rows, epsilon)
    Adam(0.01).update(vae.parameters, vae.gradients)
    after = team.backpropagate(IMAGES, rows, epsilon)
    assert after == pytest.approx(vae.loss(IMAGES[rows] / 255, epsilon), rel=1e-12)
    assert after.loss < before.loss


def test_workers_share_the_parameters_and_not_the_gradients() -> None:
    vae = small_vae()
    models = [worker.vae for worker in Team(vae, 3).workers]
    assert models[0] is vae
    assert len({id(model) for model in models}) == 3
    for twin in models[1:]:
        assert twin.parameters is vae.parameters
        assert twin.to_logits.W is vae.parameters["decoder.logits.W"]
    buffers = [model.gradients.flat for model in models]
    assert not any(np.shares_memory(a, b) for a in buffers for b in buffers if a is not b)


@TEAMS
def test_a_loss_that_is_no_number_shows_without_warnings(size: int) -> None:
    """NumPy's warnings are a matter of each thread; here they would be errors."""
    vae, (rows, epsilon) = small_vae("float32"), batch(150)
    vae.parameters["encoder.log_var.b"] = 1e30
    loss = Team(vae, size).backpropagate(IMAGES, rows, epsilon.astype(np.float32))
    assert not math.isfinite(loss.loss)


def test_one_share_that_overflows_shows_in_the_whole() -> None:
    vae, (rows, epsilon) = small_vae("float32"), batch(96)
    epsilon[-1] = np.inf
    loss = Team(vae, 3).backpropagate(IMAGES, rows, epsilon.astype(np.float32))
    assert not math.isfinite(loss.bce)
    assert math.isfinite(loss.kl)  # which does not depend on the noise


# ------------------------------------------------------------------ together


def test_the_workers_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """None gets past the barrier before all three are there; alone, each would wait in vain."""
    team, (rows, epsilon) = Team(small_vae(), 3), batch(150)
    barrier = threading.Barrier(3, timeout=10)
    for worker in team.workers:
        monkeypatch.setattr(worker.vae, "forward", after(barrier.wait, worker.vae.forward))
    loss = team.backpropagate(IMAGES, rows, epsilon)
    assert loss == pytest.approx(small_vae().loss(IMAGES[rows] / 255, epsilon), rel=1e-12)


def after(first: Callable[[], object], then: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any, **named: Any) -> Any:
        first()
        return then(*arguments, **named)

    return both


@pytest.mark.parametrize("who", [0, 1, 2])
def test_an_error_of_any_worker_reaches_the_caller(
    who: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise MemoryError("no room")

    team, (rows, epsilon) = Team(small_vae(), 3), batch(150)
    worker = team.workers[who]
    monkeypatch.setattr(worker.vae, "backward", after(fails, worker.vae.backward))
    with pytest.raises(MemoryError, match="no room"):
        team.backpropagate(IMAGES, rows, epsilon)


@pytest.mark.parametrize("who", [0, 1])
def test_after_an_error_nobody_is_still_at_work(who: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next batch would be written into the room where they still compute the last."""
    done: list[int] = []

    def act(k: int) -> None:
        if k == who:
            raise MemoryError
        time.sleep(0.05 * k)
        done.append(k)

    vae, (rows, epsilon) = small_vae(), batch(150)
    team = Team(vae, 3)
    with monkeypatch.context() as patch:
        for k, worker in enumerate(team.workers):
            patch.setattr(worker.vae, "backward", after(partial(act, k), worker.vae.backward))
        with pytest.raises(MemoryError):
            team.backpropagate(IMAGES, rows, epsilon)
        assert sorted(done) == sorted({0, 1, 2} - {who})
    loss = team.backpropagate(IMAGES, rows, epsilon)  # the team is none the worse for it
    expected, gradients = small_vae().loss_and_gradients(IMAGES[rows] / 255, epsilon)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(vae.gradients.flat, gradients.flat, rtol=1e-12, atol=1e-13)


@TEAMS
def test_noise_that_is_too_short_is_refused(size: int) -> None:
    rows, epsilon = batch(150)
    with pytest.raises(ValueError, match="epsilon must have shape"):
        Team(small_vae(), size).backpropagate(IMAGES, rows, epsilon[:-1])


def steps(size: int, seed: int) -> tuple[bytes, list[Loss]]:
    vae, adam, rng = small_vae("float32"), Adam(0.01), np.random.default_rng(seed)
    team, losses = Team(vae, size), []
    for _ in range(20):
        rows = rng.permutation(len(IMAGES))[:150]
        losses.append(team.backpropagate(IMAGES, rows, vae.noise(150, rng)))
        adam.update(vae.parameters, vae.gradients)
    return vae.parameters.flat.tobytes(), losses


@TEAMS
def test_equal_seeds_repeat_to_the_bit_and_others_differ(size: int) -> None:
    """Whoever is done first: the parts are added up in the same order."""
    assert steps(size, seed=0) == steps(size, seed=0)
    assert steps(size, seed=0) != steps(size, seed=1)


# ------------------------------------------------------------------ looking


@TEAMS
@pytest.mark.parametrize("count", [1, 63, 64, 131, 200])
def test_average_loss_is_that_of_evaluation(size: int, count: int) -> None:
    vae, images = small_vae(), IMAGES[:count].reshape(count, 3, 4)
    expected = average_loss(vae, images, np.random.default_rng(3), beta=0.5)
    found = Team(vae, size).average_loss(images, np.random.default_rng(3), beta=0.5)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found.beta == 0.5
    assert not vae.gradients.flat.any()


def test_average_loss_takes_as_much_noise_as_that_of_evaluation() -> None:
    vae, one, other = small_vae("float32"), np.random.default_rng(4), np.random.default_rng(4)
    average_loss(vae, IMAGES, one)
    Team(vae, 3).average_loss(IMAGES, other)
    assert one.random() == other.random()


# ------------------------------------------------------------------ who gets what


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_shares_cover_everything_once_and_nearly_evenly(most: int) -> None:
    for count in range(1, 10 * SMALLEST_SHARE):
        parts = [range(count)[share] for share in shares(count, most)]
        assert list(chain(*parts)) == list(range(count))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == 1 or min(sizes) >= SMALLEST_SHARE
        assert len(sizes) == min(most, max(1, count // SMALLEST_SHARE))


# ------------------------------------------------------------------ how many


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with five cores, of which this process may use three, and no environment."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    return monkeypatch


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        *((None, 3), ("", 3), ("1", 1), ("2", 2), ("7", 7), ("0", 1), ("x", 3)),
        *(("99999", 1024), ("9" * 5000, 1024)),
    ],
)
def test_threads_are_the_cores_that_one_may_use(
    cores: pytest.MonkeyPatch, wanted: str | None, expected: int
) -> None:
    if wanted is not None:
        cores.setenv("OMP_NUM_THREADS", wanted)
    assert usable_cores() == expected


def test_threads_where_nobody_tells_which_cores_one_may_use(cores: pytest.MonkeyPatch) -> None:
    cores.delattr(os, "sched_getaffinity")
    assert usable_cores() == 5
    cores.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("products", "wanted", "expected"),
    [("1", None, 3), ("1", "2", 2), ("1", "1", 1), (None, None, 1), ("2", None, 1), ("2", "2", 1)],
)
def test_there_are_several_workers_only_where_products_keep_to_one_thread(
    cores: pytest.MonkeyPatch, products: str | None, wanted: str | None, expected: int
) -> None:
    if products is not None:
        cores.setenv("OPENBLAS_NUM_THREADS", products)
    if wanted is not None:
        cores.setenv("OMP_NUM_THREADS", wanted)
    assert workers() == expected
