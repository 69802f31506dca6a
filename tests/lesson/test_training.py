"""The loop sees each image once, weighs it rightly, repeats itself exactly, and stops in time."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Mapping
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import training
from npvae.core.errors import DivergedError
from npvae.core.random_streams import Stream, generator
from npvae.datasets.augmentation import AUGMENTATIONS, random_warps, warp
from npvae.evaluation import average_loss
from npvae.losses import Loss
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.runs import fit
from npvae.runs.fit import Epoch, train_validation_split
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.helpers import Bytes, digits, train

TRAIN, TEST = digits(120, 40)


class Watching(Adam):
    """Takes no step, and remembers the gradients of each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def update(self, parameters: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        self.seen.append({name: gradient.copy() for name, gradient in gradients.items()})


class Poisoning(Adam):
    """Adam whose step number `step` goes wrong."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.when = step

    def update(self, parameters: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        super().update(parameters, gradients)
        if self.t == self.when:
            parameters["encoder.mu.b"][...] = math.nan


def small_vae(seed: int = 0, dtype: str = "float32") -> VAE:
    return VAE(784, (16,), 3, dtype=dtype, rng=np.random.default_rng(seed))


def noiseless_vae() -> VAE:
    """A sigma of 1e-13: what it makes of an image does not depend on epsilon."""
    vae = small_vae(dtype="float64")
    vae.parameters["encoder.log_var.W"] = 0
    vae.parameters["encoder.log_var.b"] = -60
    return vae


def one_epoch(vae: VAE, adam: Adam, settings: Settings, epoch: int = 1, **more: Any) -> Loss:
    """The mean loss of one epoch over TRAIN, or other images."""
    images = more.pop("images", TRAIN)
    epochs = range(epoch, epoch + 1)
    (found,) = train(vae, adam, images, None, settings, epochs, **more)
    return found.train


def trained(
    vae: VAE, adam: Adam, epochs: range, test: Bytes = TEST, **settings: Any
) -> list[Epoch]:
    chosen = Settings(**{"batch_size": 50, **settings})
    return list(train(vae, adam, TRAIN, test, chosen, epochs))


# ------------------------------------------------------------------ every image, once


def visits(seed: int, epoch: int, count: int, batch_size: int) -> list[set[int]]:
    """Which images each batch of an epoch holds, found out from the gradients alone.

    Image k is black but for pixel k; x_hat is 0.5 throughout. So the gradient of the last bias,
    the mean of x_hat - x over the batch, is 0.5 except where the batch has a white pixel.
    """
    images = np.zeros((count, 784), np.uint8)
    images[np.arange(count), np.arange(count)] = 255
    vae, watching = small_vae(), Watching()
    vae.parameters["decoder.logits.W"] = 0
    settings = Settings(seed=seed, batch_size=batch_size)
    list(train(vae, watching, images, TEST, settings, range(epoch, epoch + 1)))
    gradients = [seen["decoder.logits.b"] for seen in watching.seen]
    return [set(np.flatnonzero(gradient < 0.49).tolist()) for gradient in gradients]


def test_every_image_is_seen_once_in_each_epoch() -> None:
    for epoch in (1, 2):
        batches = visits(seed=0, epoch=epoch, count=50, batch_size=16)
        assert [len(batch) for batch in batches] == [16, 16, 16, 2]
        assert sorted(k for batch in batches for k in batch) == list(range(50))


def test_images_are_shuffled_anew_in_each_epoch_and_for_each_seed() -> None:
    orders = [visits(seed, epoch, count=30, batch_size=1) for seed in (0, 1) for epoch in (1, 2, 3)]
    image_batches = [{k} for k in range(30)]
    assert all(sorted(map(list, order)) == sorted(map(list, image_batches)) for order in orders)
    assert all(a != b for k, a in enumerate(orders) for b in (image_batches, *orders[:k]))
    assert visits(seed=1, epoch=2, count=30, batch_size=1) == orders[4]


def test_images_not_batches_are_shuffled() -> None:
    """Neighbours in the dataset are strangers in the batch, and not the same ones each time."""
    first, second = (visits(seed=0, epoch=epoch, count=48, batch_size=16) for epoch in (1, 2))
    runs = [set(range(start, start + 16)) for start in range(0, 48, 16)]
    assert all(batch not in runs and batch not in second for batch in first)


def test_held_out_images_are_not_trained_on() -> None:
    rows, held_out = train_validation_split(100, 30, seed=4)
    assert len(held_out) == 30
    assert sorted([*rows, *held_out]) == list(range(100))
    assert not np.array_equal(held_out, train_validation_split(100, 30, seed=5)[1])

    images = np.zeros((100, 784), np.uint8)
    images[np.arange(100), np.arange(100)] = 255
    vae, watching = small_vae(), Watching()
    vae.parameters["decoder.logits.W"] = 0
    settings = Settings(seed=4, batch_size=7, validation=30)
    list(train(vae, watching, images, TEST, settings, range(1, 2)))
    seen = [k for s in watching.seen for k in np.flatnonzero(s["decoder.logits.b"] < 0.49)]
    assert sorted(seen) == rows.tolist()


def test_the_validation_loss_is_that_of_the_held_out_images() -> None:
    _, held_out = train_validation_split(120, 20, seed=4)
    vae, images = noiseless_vae(), TRAIN.copy()
    images[held_out] = 255 - images[held_out]  # so that no others have that loss
    settings = Settings(seed=4, batch_size=50, validation=20)
    (epoch,) = train(vae, Watching(), images, TEST, settings, range(1, 2))
    expected = average_loss(vae, images[held_out], np.random.default_rng(0))
    assert epoch.validation == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "given",
    [(TRAIN / 255, TEST), (TRAIN, TEST / 255), (TRAIN, TEST[:0])],
    ids=["training pixels", "test pixels", "no test images"],
)
def test_images_that_are_no_bytes_are_refused_before_the_first_step(given: tuple[Any, Any]) -> None:
    adam = Adam()
    with pytest.raises(ValueError, match="images must"):
        next(train(small_vae(), adam, *given, Settings(), range(1, 2)))
    assert adam.t == 0


# ------------------------------------------------------------------ weighing a short last batch


def test_a_short_last_batch_is_weighed_by_its_images() -> None:
    """120 = 100 + 20. Without noise and without steps the mean loss is that of all images."""
    vae, images = noiseless_vae(), TRAIN.copy()
    images[::7] = 255  # such an image costs twice as much, so that a wrong weight shows
    settings = Settings(batch_size=100, beta=0.5)
    loss = one_epoch(vae, Watching(), settings, images=images)
    whole = average_loss(vae, images, np.random.default_rng(1))
    # The rounding of float64 sums is all that differs.
    assert loss.bce == pytest.approx(whole.bce, rel=1e-10)
    assert loss.kl == pytest.approx(whole.kl, rel=1e-10)
    assert loss.loss == pytest.approx(whole.bce + 0.5 * whole.kl, rel=1e-10)


def test_the_gradient_of_a_short_batch_is_a_mean_over_its_own_images() -> None:
    vae, watching = noiseless_vae(), Watching()
    one_epoch(vae, watching, Settings(batch_size=100))
    x = TRAIN.reshape(120, -1) / 255
    _, whole = vae.loss_and_gradients(x, np.zeros((120, 3)))
    for name, expected in whole.items():
        pairs = zip((100, 20), watching.seen, strict=True)
        found = sum(count * seen[name] for count, seen in pairs) / 120
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_an_epoch_is_what_one_would_write_by_hand() -> None:
    """One batch of all images, so that their order does not matter; the noise does not either."""
    vae, by_hand = noiseless_vae(), noiseless_vae()
    settings = Settings(batch_size=500, learning_rate=0.01, beta=0.7)
    loss = one_epoch(vae, Adam(), settings)
    expected, gradients = by_hand.loss_and_gradients(
        TRAIN.reshape(120, -1) / 255, np.zeros((120, 3)), beta=0.7
    )
    Adam(0.01).update(by_hand.parameters, gradients)
    assert loss.loss == pytest.approx(expected.loss, rel=1e-12)
    # Adam's first step is learning_rate * sign(gradient): it magnifies the rounding of tiny ones.
    np.testing.assert_allclose(vae.parameters.flat, by_hand.parameters.flat, atol=1e-6)


def test_progress_is_reported_after_each_batch() -> None:
    reports: list[tuple[int, int, float]] = []

    def report(*given: Any) -> None:
        reports.append(given)

    settings = Settings(batch_size=50, beta=0.5)
    loss = one_epoch(noiseless_vae(), Watching(), settings, report=report)
    assert [report[:2] for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert reports[-1][2] == pytest.approx(loss.loss, rel=1e-12)


# ------------------------------------------------------------------ repeating itself


def same_numbers(epochs: list[Epoch]) -> list[Epoch]:
    return [epoch._replace(seconds=0.0) for epoch in epochs]


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    twins = [small_vae(), small_vae(), small_vae()]
    seeds = (3, 3, 4)
    runs = [
        same_numbers(trained(vae, Adam(), range(1, 3), seed=seed, batch_size=100))
        for vae, seed in zip(twins, seeds, strict=True)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert twins[0].parameters.flat.tobytes() == twins[1].parameters.flat.tobytes()
    assert twins[0].parameters.flat.tobytes() != twins[2].parameters.flat.tobytes()


def test_a_run_in_two_parts_is_the_run_in_one() -> None:
    whole, parts = small_vae(), small_vae()
    adam = Adam()
    expected = trained(whole, Adam(), range(1, 5), validation=20)
    found = trained(parts, adam, range(1, 3), validation=20)
    found += trained(parts, adam, range(3, 5), validation=20)
    assert same_numbers(found) == same_numbers(expected)
    assert parts.parameters.flat.tobytes() == whole.parameters.flat.tobytes()


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["pos"]
    trained(small_vae(), Adam(), range(1, 2))
    assert np.random.get_state(legacy=False)["state"]["pos"] == before


def test_the_test_set_never_touches_the_parameters() -> None:
    one, other = small_vae(), small_vae()
    adams = Adam(), Adam()
    a = trained(one, adams[0], range(1, 3))
    b = trained(other, adams[1], range(1, 3), test=np.full((7, 28, 28), 255, np.uint8))
    assert one.parameters.flat.tobytes() == other.parameters.flat.tobytes()
    for name, moment in adams[0].state_arrays.items():
        np.testing.assert_array_equal(moment, adams[1].state_arrays[name])
    assert [epoch.train for epoch in a] == [epoch.train for epoch in b]
    assert all(x.test and y.test and x.test.bce < y.test.bce for x, y in zip(a, b, strict=True))


def test_the_test_loss_is_that_of_the_model_after_the_epoch() -> None:
    vae = small_vae()
    (epoch,) = trained(vae, Adam(0.01), range(1, 2))
    # Another draw of epsilon: 40 images times 3 latents leave the mean uncertain by a few nats.
    again = average_loss(vae, TEST, np.random.default_rng(0))
    assert epoch.test is not None
    assert epoch.test.kl == pytest.approx(again.kl, rel=1e-6)  # does not depend on epsilon
    assert epoch.test.bce == pytest.approx(again.bce, abs=5)


def test_images_are_left_alone_and_learned_from() -> None:
    before = TRAIN.copy()
    epochs = trained(small_vae(), Adam(0.01), range(1, 6))
    np.testing.assert_array_equal(TRAIN, before)
    losses = [epoch.train.loss for epoch in epochs]
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4, 5]
    assert all(epoch.seconds > 0 for epoch in epochs)


def test_streams_of_random_numbers_are_independent() -> None:
    every = product(range(3), Stream, range(4))  # seed, stream, epoch
    draws = {generator(*numbers).integers(2**62) for numbers in every}
    assert len(draws) == 3 * 7 * 4


def test_what_is_drawn_from_which_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, Stream, int]] = []

    def asking(seed: int, stream: Stream, epoch: int = 0) -> np.random.Generator:
        asked.append((seed, stream, epoch))
        return generator(seed, stream, epoch)

    for module in (training, fit):
        monkeypatch.setattr(module, "generator", asking)
    trained(small_vae(), Adam(), range(3, 5), seed=7, validation=20)
    each = [Stream.TRAINING, Stream.WARPS, Stream.TESTING]
    assert asked == [
        (7, Stream.VALIDATION_SPLIT, 0),
        *((7, stream, 3) for stream in each),
        (7, Stream.VALIDATION, 0),
        *((7, stream, 4) for stream in each),
        (7, Stream.VALIDATION, 0),
    ]


def test_the_seconds_of_an_epoch_are_those_of_training_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that is a second later after training, and ten after each look at a loss."""
    now, watch = 0.0, fit.watched

    def train_a_second(*given: Any) -> Loss:
        nonlocal now
        now += 1
        return watch(*given)

    def look_for_ten(*given: Any) -> Loss:
        nonlocal now
        now += 10
        return average_loss(*given)

    monkeypatch.setattr(fit, "perf_counter", lambda: now)
    monkeypatch.setattr(fit, "watched", train_a_second)
    monkeypatch.setattr(fit, "average_loss", look_for_ten)
    epochs = trained(small_vae(), Adam(), range(1, 3), validation=20)
    assert [epoch.seconds for epoch in epochs] == [1, 1]


# ------------------------------------------------------------------ moved images


def batches_seen(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[tuple[Any, ...]]:
    """x, epsilon and beta of the three batches of each of two epochs."""
    seen: list[tuple[Any, ...]] = []
    right = VAE.loss_and_gradients

    def loss_and_gradients(self: VAE, *given: Any) -> Any:
        seen.append(given[:3])  # without the labels
        return right(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "loss_and_gradients", loss_and_gradients)
        trained(small_vae(), Adam(), range(1, 3), **settings)
    return seen


def test_every_image_has_fresh_noise_in_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.concatenate([epsilon for _, epsilon, _ in batches_seen(monkeypatch)])
    assert len(np.unique(noise, axis=0)) == len(noise) == 240
    # Of n draws, the mean is off by 1 / sqrt(n), the deviation by 1 / sqrt(2 n); five times.
    assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
    assert abs(noise.std() - 1) < 5 / math.sqrt(2 * noise.size)


def test_moved_images_have_the_same_order_and_noise_and_fresh_maps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a comparison of runs with and without it compares nothing else."""
    plain = batches_seen(monkeypatch, seed=3)
    moved = batches_seen(monkeypatch, augment=AUGMENTATIONS, seed=3)
    for epoch in (1, 2):
        order = generator(3, Stream.TRAINING, epoch).permutation(120)
        rng = generator(3, Stream.WARPS, epoch)
        for k, start in enumerate((0, 50, 100)):
            batch = TRAIN[order[start : start + 50]]
            x, epsilon, beta = moved[3 * epoch - 3 + k]
            warps = random_warps(len(batch), AUGMENTATIONS, rng)
            np.testing.assert_array_equal(x, warp(batch, warps, np.float32))
            np.testing.assert_array_equal(epsilon, plain[3 * epoch - 3 + k][1])
            assert beta == plain[3 * epoch - 3 + k][2]


def test_only_training_images_are_moved() -> None:
    """Without noise and without steps all that can differ between two runs is the images."""
    runs = []
    for kinds in ((), AUGMENTATIONS):
        found = trained(noiseless_vae(), Watching(), range(1, 3), augment=kinds, validation=20)
        runs.append(found)
    for plain, moved in zip(*runs, strict=True):
        assert moved.test == plain.test
        assert moved.validation == plain.validation is not None
        assert abs(moved.train.bce - plain.train.bce) > 1e-6


def test_an_epoch_of_moved_images_is_what_one_would_write_by_hand() -> None:
    vae, by_hand = noiseless_vae(), noiseless_vae()
    settings = Settings(batch_size=500, beta=0.7, augment=AUGMENTATIONS, seed=5)
    watching = Watching()
    loss = one_epoch(vae, watching, settings, epoch=2)
    order = generator(5, Stream.TRAINING, 2).permutation(120)
    warps = random_warps(120, AUGMENTATIONS, generator(5, Stream.WARPS, 2))
    x = warp(TRAIN[order], warps, float)
    expected, gradients = by_hand.loss_and_gradients(x, np.zeros((120, 3)), beta=0.7)
    assert loss.loss == pytest.approx(expected.loss, rel=1e-12)
    for name, gradient in gradients.items():
        near = 1e-9 * np.abs(gradient).max()  # the noise is not quite 0
        np.testing.assert_allclose(watching.seen[0][name], gradient, rtol=1e-9, atol=near)


def test_moved_images_repeat_to_the_bit() -> None:
    runs = []
    for seed, parts in ((3, [range(1, 5)]), (3, [range(1, 3), range(3, 5)]), (4, [range(1, 5)])):
        vae, adam = small_vae(), Adam()
        found = []
        for part in parts:
            settings: dict[str, Any] = {"augment": AUGMENTATIONS, "seed": seed, "batch_size": 100}
            found += trained(vae, adam, part, **settings)
        runs.append((vae.parameters.flat.tobytes(), same_numbers(found)))
    whole, in_two_parts, another = runs
    assert whole == in_two_parts
    assert whole[0] != another[0]


def test_moved_images_are_left_alone() -> None:
    before = TRAIN.copy()
    trained(small_vae(), Adam(), range(1, 3), augment=AUGMENTATIONS)
    np.testing.assert_array_equal(TRAIN, before)


# ------------------------------------------------------------------ divergence


def test_a_loss_that_is_not_finite_stops_before_the_next_step() -> None:
    vae, adam = small_vae(), Poisoning(step=2)
    losses: list[float] = []

    def report(k: int, count: int, loss: float) -> None:
        losses.append(loss)

    settings = Settings(batch_size=50)
    with pytest.raises(DivergedError) as caught:
        list(train(vae, adam, TRAIN, TEST, settings, range(4, 6), report=report))
    message = str(caught.value)
    assert adam.t == 2  # no step was taken with the gradients of a NaN
    assert re.search(r"\bepoch 4\b", message)
    assert re.search(r"\bbatch 3 of 3\b", message)
    assert re.search(r"\bnan\b", message)
    # The mean so far was reported; the loss of batch 2 alone is what was finite last.
    last = 2 * losses[1] - losses[0]
    assert f"{last:.1f}" in message
    assert "--learning-rate" in message
    assert message.count("\n") <= 3


@pytest.mark.parametrize(
    "loss", [Loss(math.inf, 1), Loss(-math.inf, 1), Loss(1, math.inf), Loss(1, math.nan)], ids=str
)
@pytest.mark.parametrize(
    ("where", "call", "message", "steps"),
    [
        ("a batch", 1, "epoch 1, batch 1 of 3: the loss", 0),
        ("a batch", 5, "epoch 2, batch 2 of 3: the loss", 4),
        ("the test set", 2, "epoch 2, the test loss", 6),
    ],
)
def test_a_loss_that_is_not_finite_in_either_part_stops_it(
    loss: Loss, where: str, call: int, message: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = (VAE, "objective") if where == "a batch" else (fit, "average_loss")
    original, calls, adam = getattr(owner, name), 0, Adam()

    def going_wrong(*given: Any) -> Loss:
        nonlocal calls
        calls += 1
        right: Loss = original(*given)
        return loss if calls == call else right

    monkeypatch.setattr(owner, name, going_wrong)
    with pytest.raises(DivergedError, match=f"{message} is {loss.loss}") as caught:
        trained(small_vae(), adam, range(1, 4))
    assert adam.t == steps
    assert ("in the very first batch" in str(caught.value)) == (call == 1)


def test_a_last_step_that_goes_wrong_is_noticed_at_once() -> None:
    """The epoch is never handed to the caller, who would save it."""
    with pytest.raises(DivergedError, match="epoch 1"):
        trained(small_vae(), Poisoning(step=3), range(1, 3))


def test_a_validation_loss_that_is_not_finite_is_a_divergence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test loss may be finite, where test images are simpler than those held out."""
    held_out = 20

    def infinite(vae: VAE, images: Any, *rest: Any) -> Loss:
        loss = average_loss(vae, images, *rest)
        return loss._replace(kl=float("inf")) if len(images) == held_out else loss

    monkeypatch.setattr(fit, "average_loss", infinite)
    settings = Settings(batch_size=50, validation=held_out)
    with pytest.raises(DivergedError, match="epoch 1, the validation loss is inf"):
        list(train(small_vae(), Adam(), TRAIN, TEST, settings, range(1, 3)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_learning_rate_of_a_million_diverges(dtype: str) -> None:
    settings = Settings(batch_size=50, learning_rate=1e6)
    with pytest.raises(DivergedError, match=r"epoch \d+, (batch \d+ of 3|.*last batch)"):
        list(train(small_vae(dtype=dtype), Adam(), TRAIN, TEST, settings, range(1, 20)))


def test_what_was_saved_before_a_divergence_is_untouched(tmp_path: Path) -> None:
    vae, path = small_vae(), tmp_path / "last.npz"
    saved: list[bytes] = []

    def go() -> None:
        settings = Settings(batch_size=50)
        for epoch in train(vae, Poisoning(step=8), TRAIN, TEST, settings, range(1, 9)):
            checkpoint.save(path, {"epoch": epoch.epoch}, vae.parameters)
            saved.append(path.read_bytes())

    with pytest.raises(DivergedError, match="epoch 3"):  # 3 batches an epoch
        go()
    assert path.read_bytes() == saved[-1]
    header, arrays = checkpoint.load(path)
    assert header["epoch"] == 2
    assert all(np.isfinite(array).all() for array in arrays.values())


# ------------------------------------------------------------------ whoever calls it


def test_fit_trains_in_one_call() -> None:
    vae, same = small_vae(), small_vae()
    seen: list[Epoch] = []
    history = fit.fit(vae, TRAIN, 2, test_images=TEST, batch_size=50, seed=3, callback=seen.append)
    assert same_numbers(history) == same_numbers(trained(same, Adam(), range(1, 3), seed=3))
    assert seen == history
    assert vae.parameters.flat.tobytes() == same.parameters.flat.tobytes()
    assert fit.fit(vae, TRAIN, 1)[0].test is None


def test_fit_keeps_the_rate_of_a_given_optimizer() -> None:
    adam, history = Adam(3e-3), trained(small_vae(), Adam(), range(1, 2), learning_rate=3e-3)
    found = fit.fit(small_vae(), TRAIN, 1, test_images=TEST, optimizer=adam, batch_size=50)
    assert same_numbers(found) == same_numbers(history)
    assert adam.learning_rate == 3e-3


@pytest.mark.parametrize("validation", [-1, 120, 500])
def test_something_must_be_left_to_train_on(validation: int) -> None:
    with pytest.raises(ValueError, match="validation must be 0 to 119 of 120 images"):
        train_validation_split(120, validation, 0)


def test_the_caller_may_stop_at_any_time() -> None:
    before = signal.getsignal(signal.SIGINT)
    epochs = train(small_vae(), Adam(), TRAIN, TEST, Settings(batch_size=50), range(1, 10**9))
    assert next(epochs).epoch == 1
    assert next(epochs).epoch == 2
    epochs.close()  # type: ignore[attr-defined]  # a generator
    assert signal.getsignal(signal.SIGINT) is before
