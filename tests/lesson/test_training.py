"""The loop sees each image once, weighs it rightly, repeats itself exactly, and stops in time."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from npvae.core.errors import DivergedError
from npvae.core.parameters import Array
from npvae.core.random_streams import Stream, generator
from npvae.datasets.augmentation import AUGMENTATIONS, random_warps, warp
from npvae.evaluation import average_loss
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import SGD, Adam
from npvae.runs import fit
from npvae.runs.fit import Epoch, train_validation_split, watched
from npvae.settings import Settings
from tests.helpers import Bytes, digits, refused, train

TRAIN, TEST = digits(120, 40)
augmentations = pytest.mark.parametrize("augment", [(), AUGMENTATIONS], ids=["plain", "moved"])


class Watching(Adam):
    """Takes no step, and remembers the learning rate and the gradients of each."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.gradients: list[dict[str, Array]] = []

    def update(self, parameters: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        self.rates.append(self.learning_rate)
        self.gradients.append({name: gradient.copy() for name, gradient in gradients.items()})


class Listening(VAE):
    """Remembers x, epsilon and beta of each batch."""

    def loss_and_gradients(self, *given: Any) -> Any:
        self.heard = [*getattr(self, "heard", []), given[:3]]  # without the labels
        return super().loss_and_gradients(*given)


def small_vae(dtype: str = "float32") -> VAE:
    return VAE(784, (16,), 3, dtype=dtype)


def noiseless_vae() -> VAE:
    """A sigma of 1e-13: what it makes of an image does not depend on epsilon."""
    vae = small_vae("float64")
    vae.parameters["encoder.log_var.W"] = 0
    vae.parameters["encoder.log_var.b"] = -60
    return vae


def trained(
    vae: VAE, adam: Any, epochs: range, images: Bytes = TRAIN, test: Bytes = TEST, **settings: Any
) -> list[Epoch]:
    chosen = Settings(**{"batch_size": 50, **settings})
    found = list(train(vae, adam, images, test, chosen, epochs))
    assert all(epoch.seconds > 0 for epoch in found)
    return [epoch._replace(seconds=0.0) for epoch in found]


# ------------------------------------------------------------------ every image, once


def visits(seed: int, epoch: int, count: int, **settings: Any) -> list[frozenset[int]]:
    """Which images each batch of an epoch holds, found out from the gradients alone.

    Image k is black but for pixel k; x_hat is 0.5 throughout. So the gradient of the last bias,
    the mean of x_hat - x over the batch, is 0.5 except where the batch has a white pixel.
    """
    images = np.zeros((count, 784), np.uint8)
    images[np.arange(count), np.arange(count)] = 255
    vae, watching = small_vae(), Watching()
    vae.parameters["decoder.logits.W"] = 0
    trained(vae, watching, range(epoch, epoch + 1), images, seed=seed, batch_size=16, **settings)
    gradients = [seen["decoder.logits.b"] for seen in watching.gradients]
    return [frozenset(np.flatnonzero(gradient < 0.49).tolist()) for gradient in gradients]


def test_every_image_is_seen_once_in_an_epoch_among_strangers() -> None:
    """Images are shuffled, not batches, and anew in each epoch and for each seed."""
    epochs = {numbers: visits(*numbers, count=50) for numbers in product((0, 1), (1, 2, 3))}
    for batches in epochs.values():
        assert [len(batch) for batch in batches] == [16, 16, 16, 2]
        assert frozenset().union(*batches) == frozenset(range(50))
    neighbours = [frozenset(range(start, start + 16)) for start in range(0, 48, 16)]
    every = [*neighbours, *(batch for batches in epochs.values() for batch in batches[:3])]
    assert len(set(every)) == len(every)
    assert visits(1, 2, count=50) == epochs[1, 2]


def test_held_out_images_are_drawn_by_the_seed_and_not_trained_on() -> None:
    rows, held_out = train_validation_split(100, 30, seed=4)
    assert len(held_out) == 30
    assert sorted([*rows, *held_out]) == list(range(100))
    np.testing.assert_array_equal(
        held_out, np.sort(generator(4, Stream.VALIDATION_SPLIT).permutation(100)[:30])
    )
    seen = [k for batch in visits(4, 1, count=100, validation=30) for k in batch]
    assert sorted(seen) == rows.tolist()
    for validation in (-1, 120, 500):  # something must be left to train on
        with refused(ValueError, f"validation must be 0 to 119 of 120 images, not {validation}"):
            train_validation_split(120, validation, 0)


@pytest.mark.parametrize(
    "given",
    [(TRAIN / 255, TEST), (TRAIN, TEST / 255), (TRAIN, TEST[:0])],
    ids=["training pixels", "test pixels", "no test images"],
)
def test_images_that_are_no_bytes_are_refused_before_the_first_step(given: tuple[Any, Any]) -> None:
    adam = Adam()
    with refused(ValueError, "images must"):
        next(train(small_vae(), adam, *given, Settings(), range(1, 2)))
    assert adam.t == 0


# ------------------------------------------------------------------ losses and gradients


def test_a_short_last_batch_counts_by_its_images() -> None:
    """120 = 100 + 20. Without noise and without steps all means are those of all images."""
    vae, watching, images, reports = noiseless_vae(), Watching(), TRAIN.copy(), []
    images[::7] = 255  # such an image costs twice as much, so that a wrong weight shows
    settings = Settings(batch_size=100, beta=0.5)

    def report(*given: Any) -> None:
        reports.append(given)

    (epoch,) = train(vae, watching, images, None, settings, range(1, 2), report)
    x = images.reshape(120, -1) / 255
    whole, gradients = vae.loss_and_gradients(x, np.zeros((120, 3)), beta=0.5)
    # The rounding of float64 sums is all that differs, and a little noise.
    assert epoch.train == pytest.approx(whole, rel=1e-10)
    assert [report[:2] for report in reports] == [(1, 2), (2, 2)]
    assert reports[-1][2] == pytest.approx(whole.total, rel=1e-10)
    for name, expected in gradients.items():
        pairs = zip((100, 20), watching.gradients, strict=True)
        found = sum(count * seen[name] for count, seen in pairs) / 120
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_an_epoch_is_what_one_would_write_by_hand() -> None:
    """One batch of all images, and without noise, so that their order does not matter."""
    vae, by_hand = noiseless_vae(), noiseless_vae()
    (epoch,) = trained(vae, SGD(), range(1, 2), batch_size=500, beta=0.7, learning_rate=0.01)
    x = TRAIN.reshape(120, -1) / 255
    expected, gradients = by_hand.loss_and_gradients(x, np.zeros((120, 3)), beta=0.7)
    assert epoch.train == pytest.approx(expected, rel=1e-12)
    step = vae.parameters.flat - by_hand.parameters.flat
    near = 1e-9 * np.abs(gradients.flat).max()  # the noise is not quite 0
    np.testing.assert_allclose(step / -0.01, gradients.flat, rtol=1e-9, atol=near)


def test_losses_of_test_and_held_out_images_are_those_of_the_model_after_the_epoch() -> None:
    """These images are never moved, and each set draws its noise from a stream of its own."""
    settings = Settings(batch_size=50, validation=20, seed=7, beta=0.5, augment=AUGMENTATIONS)
    vae, held_out = small_vae(), train_validation_split(120, 20, seed=7)[1]
    for epoch in train(vae, Adam(0.01), TRAIN, TEST, settings, range(3, 5)):
        test_noise = generator(7, Stream.TESTING, epoch.epoch)
        assert epoch.test == average_loss(vae, TEST, test_noise, 0.5)
        noise = generator(7, Stream.VALIDATION)
        assert epoch.validation == average_loss(vae, TRAIN[held_out], noise, 0.5)


def test_streams_of_random_numbers_are_independent() -> None:
    every = product(range(3), Stream, range(4))  # seed, stream, epoch
    draws = {generator(*numbers).integers(2**62) for numbers in every}
    assert len(draws) == 3 * 7 * 4


# ------------------------------------------------------------------ repeating itself


@augmentations
def test_a_run_repeats_to_the_bit_in_one_part_or_two(augment: tuple[str, ...]) -> None:
    runs = []
    for seed, parts in ((3, [range(1, 5)]), (3, [range(1, 3), range(3, 5)]), (4, [range(1, 5)])):
        vae, adam, found = small_vae(), Adam(), []
        for part in parts:
            found += trained(vae, adam, part, seed=seed, augment=augment, validation=20)
        runs.append((vae.parameters.flat.tobytes(), found))
    whole, in_two_parts, another = runs
    assert whole == in_two_parts
    assert whole[0] != another[0]
    assert whole[1] != another[1]


def test_the_test_set_never_touches_the_parameters() -> None:
    runs = []
    for test in (TEST, np.full((7, 28, 28), 255, np.uint8)):
        vae, adam = small_vae(), Adam()
        found = trained(vae, adam, range(1, 3), test=test)
        numbers = [vae.parameters.flat, *adam.state_arrays.values()]
        runs.append(([epoch.train for epoch in found], [array.tobytes() for array in numbers]))
        assert all(epoch.test for epoch in found)
    assert runs[0] == runs[1]


@augmentations
def test_images_are_learned_from_and_left_alone(augment: tuple[str, ...]) -> None:
    """And so is the global random state."""
    before, state = TRAIN.copy(), str(np.random.get_state())
    epochs = trained(small_vae(), Adam(0.01), range(1, 6), augment=augment)
    np.testing.assert_array_equal(TRAIN, before)
    assert str(np.random.get_state()) == state
    losses = [epoch.train.loss for epoch in epochs]
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5]


def test_the_seconds_of_an_epoch_are_those_of_training_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that ticks at each look at images: at three batches, then at two losses."""
    now = 0.0

    class Ticking(VAE):
        def forward(self, *given: Any) -> Any:
            nonlocal now
            now += 1
            return super().forward(*given)

    monkeypatch.setattr(fit, "perf_counter", lambda: now)  # the clock
    vae, settings = Ticking(784, (8,), 3), Settings(batch_size=40, validation=20)
    epochs = train(vae, Adam(), TRAIN, TEST, settings, range(1, 3))
    assert [epoch.seconds for epoch in epochs] == [3, 3]


# ------------------------------------------------------------------ moved images


def batches(**settings: Any) -> list[tuple[Any, ...]]:
    """x, epsilon and beta of the three batches of each of two epochs."""
    vae = Listening(784, (16,), 3)
    trained(vae, Adam(), range(1, 3), **settings)
    return vae.heard


def test_every_image_has_fresh_noise_in_every_epoch() -> None:
    noise = np.concatenate([epsilon for _, epsilon, _ in batches()])
    assert len(np.unique(noise, axis=0)) == len(noise) == 240
    # Of n draws, the mean is off by 1 / sqrt(n), the deviation by 1 / sqrt(2 n); five times.
    assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
    assert abs(noise.std() - 1) < 5 / math.sqrt(2 * noise.size)


def test_moved_images_have_the_same_order_and_noise_and_fresh_maps() -> None:
    """So that a comparison of runs with and without it compares nothing else."""
    plain, moved = (batches(augment=kinds, seed=3) for kinds in ((), AUGMENTATIONS))
    for epoch in (1, 2):
        order = generator(3, Stream.TRAINING, epoch).permutation(120)
        rng = generator(3, Stream.WARPS, epoch)
        for k, start in enumerate((0, 50, 100), start=3 * epoch - 3):
            batch = TRAIN[order[start : start + 50]]
            warps = random_warps(len(batch), AUGMENTATIONS, rng)
            np.testing.assert_array_equal(moved[k][0], warp(batch, warps, np.float32))
            np.testing.assert_array_equal(moved[k][1], plain[k][1])
            assert moved[k][2] == plain[k][2]


# ------------------------------------------------------------------ divergence


@pytest.mark.parametrize(
    "bad", [Loss(math.inf, 1), Loss(-math.inf, 1), Loss(1, math.inf), Loss(1, math.nan)], ids=str
)
def test_a_loss_that_is_not_finite_in_either_part_stops_it(bad: Loss) -> None:
    with refused(DivergedError, f"batch 1 of 2: the loss is {bad.loss}, in the very first batch"):
        watched(iter([bad, Loss(2, 1)]), [50, 20], beta=1)
    with refused(DivergedError, f"batch 2 of 2: the loss is {bad.loss}, it was 3 before"):
        watched(iter([Loss(2, 1), bad]), [50, 20], beta=1)


class Breaking(VAE):
    """At its n-th look at so many images, their kl is not finite."""

    def breaks(self, count: int, look: int) -> VAE:
        self.when, self.looks = (count, look), Counter[int]()
        return self

    def forward(self, x: Array, *given: Any) -> Any:
        a = super().forward(x, *given)
        self.looks[len(x)] += 1
        broken = (len(x), self.looks[len(x)]) == self.when
        return a._replace(mu=a.mu * np.inf) if broken else a


@pytest.mark.parametrize(
    ("count", "look", "epoch", "words", "steps"),
    [
        pytest.param(50, 1, 1, "batch 1 of 2: the loss is inf", 0, id="at once"),
        pytest.param(50, 4, 2, "batch 2 of 2: the loss is inf", 3, id="a batch"),
        pytest.param(40, 2, 2, "the test loss is inf after the last batch", 4, id="test"),
        pytest.param(20, 1, 1, "the validation loss is inf", 2, id="validation"),
    ],
)
def test_no_step_is_taken_with_the_gradients_of_a_loss_that_is_not_finite(
    count: int, look: int, epoch: int, words: str, steps: int
) -> None:
    """Of 100 images in batches of 50, of 40 to test or of the 20 that are held out.

    The epochs before were handed out; that one is not, for its caller would save it.
    """
    vae, adam, seen = Breaking(784, (8,), 3).breaks(count, look), Adam(), list[Epoch]()
    settings = Settings(batch_size=50, validation=20)
    with refused(DivergedError, f"in epoch {epoch}, {words}", "--learning-rate"):
        seen.extend(train(vae, adam, TRAIN, TEST, settings, range(1, 4)))
    assert adam.t == steps
    assert [done.epoch for done in seen] == list(range(1, epoch))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_learning_rate_of_a_million_diverges(dtype: str) -> None:
    with pytest.raises(DivergedError, match=r"epoch \d+, (batch \d+ of 3|.*last batch)"):
        trained(small_vae(dtype), Adam(), range(1, 20), learning_rate=1e6)


# ------------------------------------------------------------------ whoever calls it


@pytest.mark.parametrize(
    "given", [lambda: {"learning_rate": 3e-3}, lambda: {"optimizer": Adam(3e-3)}]
)
def test_fit_trains_in_one_call(given: Callable[[], Any]) -> None:
    """With Adam, or a given optimizer, which keeps its rate."""
    vae, same, seen = small_vae(), small_vae(), list[Epoch]()
    options: dict[str, Any] = {"batch_size": 50, "beta": 0.5, "seed": 3}
    history = fit.fit(vae, TRAIN, 2, test_images=TEST, callback=seen.append, **options, **given())
    expected = trained(same, Adam(), range(1, 3), learning_rate=3e-3, **options)
    assert [epoch._replace(seconds=0.0) for epoch in history] == expected
    assert seen == history
    assert vae.parameters.flat.tobytes() == same.parameters.flat.tobytes()
    assert fit.fit(vae, TRAIN, 1)[0].test is None


def test_the_caller_may_stop_at_any_time() -> None:
    before = signal.getsignal(signal.SIGINT)
    epochs = train(small_vae(), Adam(), TRAIN, TEST, Settings(batch_size=50), range(1, 10**9))
    assert next(epochs).epoch == 1
    assert next(epochs).epoch == 2
    epochs.close()  # type: ignore[attr-defined]  # a generator
    assert signal.getsignal(signal.SIGINT) is before
