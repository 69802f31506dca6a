"""What evaluate.py reports: the bound on log p(x) against log p(x), and each figure by hand.

Where a mean over n draws is compared, five standard errors are allowed; the seeds are fixed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.commands.evaluate import main
from npvae.commands.evaluation_report import evaluation_report, mean_and_error, table
from npvae.core.errors import CheckpointError
from npvae.datasets import Dataset, load_dataset
from npvae.datasets.dataset import fingerprint
from npvae.datasets.minibatches import Images
from npvae.evaluation import (
    active_units,
    binarized,
    iwae_bound,
    kl_per_latent,
    losses_per_image,
    pixel_entropy,
    reconstruction_error,
)
from npvae.model import VAE
from npvae.storage import checkpoint
from tests.helpers import Bytes, digits, digits_file

Floats = NDArray[np.float64]
FEW = np.random.default_rng(0).integers(0, 256, (8, 12), np.uint8)


def small_vae(latent_dim: int = 3, dtype: str = "float64") -> VAE:
    """12 pixels and 6 hidden units; log_var is about 0.2, so that q is a little too wide."""
    vae, rng = VAE(12, (6,), latent_dim, dtype=dtype), np.random.default_rng(1)
    vae.parameters.flat[:] = rng.normal(0, 0.4, vae.parameters.flat.shape)
    vae.parameters["encoder.log_var.b"] = 0.2
    return vae


# ------------------------------------------------------------------ the bound


def draws_of_the_bound(vae: VAE, images: Images, samples: int, repeats: int, **more: Any) -> Floats:
    """The bound (N, repeats) of every image, computed repeatedly with new noise each time."""
    again, rng = np.repeat(images, repeats, axis=0), np.random.default_rng(samples)
    bound = iwae_bound(vae, again, samples, rng, **more)
    return bound.reshape(len(images), repeats)


def mean_errors(draws: Floats) -> tuple[Floats, Floats]:
    """The mean of each row and its standard error."""
    return draws.mean(axis=1), draws.std(axis=1) / math.sqrt(draws.shape[1])


def test_with_one_sample_it_is_the_elbo() -> None:
    """They agree on average, not in each draw: the bound draws kl, the loss has a closed form."""
    vae, n = small_vae(), 5000
    bound, error = mean_errors(draws_of_the_bound(vae, FEW, samples=1, repeats=n))
    again = np.repeat(FEW, n, axis=0)
    bce, kl = losses_per_image(vae, again, vae.noise(len(again), np.random.default_rng(2)))
    loss, loss_error = mean_errors((bce + kl).reshape(len(FEW), n))
    assert (np.abs(bound + loss) < 5 * np.hypot(error, loss_error)).all()
    assert (error < 0.05).all()


def test_the_bound_rises_with_the_number_of_samples() -> None:
    vae = small_vae()
    found = [mean_errors(draws_of_the_bound(vae, FEW, k, repeats=2000)) for k in (1, 2, 5, 20, 100)]
    for (low, low_error), (high, high_error) in pairwise(found):
        assert (high - low > -5 * np.hypot(low_error, high_error)).all()
    (first, first_error), (last, last_error) = found[0], found[-1]
    assert (last - first > 5 * np.hypot(first_error, last_error)).all()  # it does rise


def quadrature(vae: VAE, image: Bytes) -> tuple[float, float]:
    """log p(x) of one image by summing over a fine grid of its one latent z, and var(w) / mean(w)^2
    of the weights w = p(x, z) / q(z | x) under q."""
    x = image[np.newaxis] / 255
    (((mu,),), ((log_var,),)) = vae.encode(x)
    z = np.linspace(-15, 15, 20_001)[:, np.newaxis]
    dz = z[1, 0] - z[0, 0]
    x_hat = vae.decode(z)
    log_joint = (x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat)).sum(axis=1)
    log_joint -= 0.5 * (z[:, 0] ** 2 + math.log(2 * math.pi))
    log_q = -0.5 * ((z[:, 0] - mu) ** 2 / math.exp(log_var) + log_var + math.log(2 * math.pi))
    p = float(np.exp(log_joint).sum() * dz)
    second = float(np.exp(2 * log_joint - log_q).sum() * dz)
    return math.log(p), second / p**2 - 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_with_many_samples_it_meets_log_p(dtype: str) -> None:
    """The mean of K weights has the relative error sqrt(r / K) with r = var(w) / mean(w)^2, and so
    has its logarithm, which is also r / 2K too small. Each image has to get its own bound, whatever
    the batches. The grid is right to 1e-6, and so is float32 to 1e-5."""
    vae, K = small_vae(latent_dim=1, dtype=dtype), 3000
    exact = small_vae(latent_dim=1)
    exact.parameters.update(vae.parameters)
    for batch_size in (3, 500):
        rng = np.random.default_rng(3)
        bound = iwae_bound(vae, FEW, K, rng, batch_size=batch_size)
        for found, image in zip(bound, FEW, strict=True):
            log_p, r = quadrature(exact, image)
            assert r < 3  # else the estimate of its error would be no good
            assert abs(found - log_p) < 5 * math.sqrt(r / K) + r / K + 2e-5
    log_p_of_all = [quadrature(exact, image)[0] for image in FEW]
    assert np.std(log_p_of_all) > 0.5  # so that images exchanged would show


def test_one_sample_does_not_depend_on_the_batch_size() -> None:
    """Drawn in pieces, the numbers are the same: image k gets the k-th epsilon."""
    found = [
        iwae_bound(small_vae(), FEW, 1, np.random.default_rng(4), batch_size=size)
        for size in (1, 3, 8, 500)
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-12)


def test_several_samples_do_not_depend_on_the_batch_size_but_for_the_noise() -> None:
    one, one_error = mean_errors(draws_of_the_bound(small_vae(), FEW, 5, 500, batch_size=7))
    other, other_error = mean_errors(draws_of_the_bound(small_vae(), FEW, 5, 500, batch_size=4000))
    assert (np.abs(one - other) < 5 * np.hypot(one_error, other_error)).all()
    assert (one != other).all()


def test_a_code_that_tells_nothing_has_an_exact_bound() -> None:
    """q is the prior and the decoder ignores z, so every weight is p(x) itself."""
    vae = VAE(12, (6,), 3, dtype="float64")
    vae.parameters.flat[:] = 0
    bound = iwae_bound(vae, FEW, 7, np.random.default_rng(5))
    np.testing.assert_allclose(bound, -12 * math.log(2), rtol=1e-12)


def test_pictures_far_below_the_smallest_number_are_no_trouble() -> None:
    """p(x) = exp(-2000) is 0 in float64, its logarithm is not."""
    vae, black = VAE(12, (6,), 3, dtype="float64"), np.zeros((2, 12), np.uint8)
    vae.parameters.flat[:] = 0
    vae.parameters["decoder.logits.b"] = 2000 / 12
    bound = iwae_bound(vae, black, 3, np.random.default_rng(6))
    np.testing.assert_allclose(bound, -2000, rtol=1e-12)


# ------------------------------------------------------------------ black and white


def test_binarized_pixels_are_white_as_often_as_they_are_grey() -> None:
    n = 20_000
    grey = np.array([0, 1, 50, 127, 200, 254, 255], np.uint8)
    images = np.broadcast_to(grey, (n, 1, 7)).copy()
    found = binarized(images, np.random.default_rng(7))
    assert found.shape == (n, 1, 7)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 255}
    p = grey / 255
    often = (found[:, 0] == 255).mean(axis=0)
    assert (np.abs(often - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()  # black and white stay so
    np.testing.assert_array_equal(images[-1, 0], grey)  # the images themselves stay grey


def test_pixels_become_white_one_by_one_and_as_the_generator_says() -> None:
    images = np.full((200, 10), 128, np.uint8)
    first = binarized(images, np.random.default_rng(8))
    np.testing.assert_array_equal(first, binarized(images, np.random.default_rng(8)))
    assert (first != binarized(images, np.random.default_rng(9))).any()
    assert len(np.unique(first, axis=0)) > 100  # of 1024 patterns
    assert pixel_entropy(first) == 0


# ------------------------------------------------------------------ latents and pixels


def listening_vae(slopes: Sequence[float]) -> VAE:
    """mu of latent k is slopes[k] * the one pixel; nothing else happens."""
    vae = VAE(1, (1,), len(slopes), dtype="float64")
    vae.parameters.flat[:] = 0
    vae.parameters["encoder.hidden0.W"] = 1
    vae.parameters["encoder.mu.W"] = [slopes]
    vae.parameters["encoder.mu.b"] = 3  # which does not vary
    return vae


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_a_latent_is_active_if_its_mu_varies_by_more_than_a_hundredth(batch_size: int) -> None:
    images = np.random.default_rng(10).integers(0, 256, (100, 1), np.uint8)
    spread = (images / 255).std()
    slopes = np.array([0.0, 0.099, -0.101, 1.0]) / spread
    active = active_units(listening_vae(list(slopes)), images, batch_size)
    assert active.tolist() == [False, False, True, True]


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_reconstruction_error_by_hand(batch_size: int) -> None:
    vae = small_vae()
    x = FEW / 255
    by_hand = ((vae.decode(vae.encode(x)[0]) - x) ** 2).mean()
    pictures = FEW.reshape(8, 3, 4)
    assert reconstruction_error(vae, pictures, batch_size) == pytest.approx(by_hand, rel=1e-12)
    vae.parameters.flat[:] = 0  # always grey
    assert reconstruction_error(vae, FEW) == pytest.approx(((x - 0.5) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_kl_per_latent_adds_up_to_kl(batch_size: int) -> None:
    vae = small_vae()
    _, kl = losses_per_image(vae, FEW, np.zeros((8, 3)))
    per_latent = kl_per_latent(vae, FEW, batch_size)
    assert per_latent.shape == (3,)
    assert per_latent.sum() == pytest.approx(kl.mean(), rel=1e-12)
    # Of latent k alone: mu = slope * x + 3 and sigma = 1.
    x = FEW[:, :1] / 255
    found = kl_per_latent(listening_vae([0.0, 2.0]), FEW[:, :1], batch_size)
    expected = [4.5, float(((2 * x + 3) ** 2).mean()) / 2]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# ------------------------------------------------------------------ the report

TRAIN, TEST = (
    Dataset("digits", images, np.zeros(len(images), np.uint8), ("any",), "drawn")
    for images in digits(200, 60)
)


def untrained() -> VAE:
    return VAE(784, (8,), 2, rng=np.random.default_rng(11))


def report(vae: VAE | None = None, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"samples": 5, "bound_images": 20, "seed": 0, **changes}
    return evaluation_report(vae or untrained(), TRAIN, TEST, **options)


def test_the_figures_of_an_untrained_model() -> None:
    """It is near a coin flip for each pixel, and above the baseline, which needs no model."""
    found = report()
    assert found["images"] == 60
    assert 784 * math.log(2) - 20 < found["bce"]["mean"] < 784 * math.log(2) + 60
    assert found["loss"]["mean"] == pytest.approx(found["bce"]["mean"] + found["kl"]["mean"])
    assert found["floor"] < found["baseline"] < found["loss"]["mean"]
    assert sum(found["kl_per_latent"]) == pytest.approx(found["kl"]["mean"], rel=1e-5)
    assert 0.2 < found["mean_squared_error"] < 0.3  # of x_hat = 1/2 and pixels of 0 and 1: 1/4
    assert (found["nll_bound"]["samples"], found["nll_bound"]["images"]) == (5, 20)
    assert len(found["active"]) == len(found["kl_per_latent"]) == 2


def test_the_bound_of_the_report_is_a_loss_and_closer() -> None:
    """For the same 60 images; q is so narrow that more draws gain much."""
    vae = untrained()
    vae.parameters["encoder.log_var.b"] = -3
    one, many = (report(vae, samples=k, bound_images=60) for k in (1, 100))
    loss, bound = many["loss"], many["nll_bound"]
    error = math.hypot(loss["standard_error"], one["nll_bound"]["standard_error"])
    assert abs(one["nll_bound"]["mean"] - loss["mean"]) < 5 * error
    error = math.hypot(loss["standard_error"], bound["standard_error"])
    assert many["floor"] < bound["mean"] < loss["mean"] - 5 * error


def test_the_bound_takes_as_many_draws_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, asked = untrained(), []

    def noise(count: int, rng: np.random.Generator) -> Any:
        asked.append(count)
        return VAE.noise(vae, count, rng)

    monkeypatch.setattr(vae, "noise", noise)
    assert report(vae, samples=7)["nll_bound"]["samples"] == 7
    assert asked == [60, *7 * [20]]  # one for the loss of each image, seven for its bound


def test_fewer_images_than_the_bound_may_have() -> None:
    assert report(bound_images=10**6)["nll_bound"]["images"] == 60


def test_mean_and_standard_error() -> None:
    """Of 1, 2, 3, 6: mean 3, squares of the distances 4 + 1 + 0 + 9, so the variance is 14 / 3."""
    found = mean_and_error(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found["mean"] == 3
    assert found["standard_error"] == pytest.approx(math.sqrt(14 / 3) / 2)


def test_a_single_image_has_no_standard_error() -> None:
    assert mean_and_error(np.array([7.0])) == {"mean": 7.0, "standard_error": None}
    one = report() | {"bce": mean_and_error(np.array([7.0]))}
    (line,) = (line for line in table(one).splitlines() if line.startswith("bce"))
    assert line.split() == ["bce", "7.00", "the", "pixels,", "given", "the", "latent", "code"]


def test_equal_seeds_repeat_and_only_the_noise_differs_with_others() -> None:
    found, again, other = report(), report(), report(seed=1)
    assert found == again
    assert found["bce"] != other["bce"]
    same = ("kl", "floor", "baseline", "kl_per_latent", "mean_squared_error")
    assert [found[name] for name in same] == [other[name] for name in same]


def test_black_and_white_images_have_no_floor() -> None:
    images = TEST.images.copy()
    found = report(binarize=True)
    assert found["binarized"] is True
    assert found["floor"] == 0 < report()["floor"]
    assert found["baseline"] != report()["baseline"]
    np.testing.assert_array_equal(TEST.images, images)


def test_looking_changes_nothing() -> None:
    vae = untrained()
    report(vae)
    np.testing.assert_array_equal(vae.parameters.flat, untrained().parameters.flat)
    assert not vae.gradients.flat.any()


@pytest.mark.parametrize("binarize", [False, True])
def test_the_table_says_all_of_it(binarize: bool) -> None:
    found = report(binarize=binarize)
    text = table(found)
    for name in ("bce", "kl", "loss", "nll_bound"):
        mean, error = found[name]["mean"], found[name]["standard_error"]
        assert f"{mean:.2f} +- {error:.2f}" in text
    for name in ("floor", "baseline"):
        assert f"{found[name]:.2f}" in text
    assert f"{sum(found['active'])} of 2 latents are active" in text
    assert ("Posterior collapse" in text) == (not any(found["active"]))
    assert ("pseudo-likelihood" in text) == (not binarize)
    assert ("black and white, in nats" in text) == binarize


def test_the_table_begins_with_the_latent_of_greatest_kl() -> None:
    found = report() | {"kl_per_latent": [0.0, 4.0, 1.0], "active": [False, True, True]}
    bars = [line.split() for line in table(found).splitlines() if line.startswith("  z")]
    assert bars == [["z1", "4.000", 40 * "#"], ["z2", "1.000", 10 * "#"], ["z0", "0.000"]]
    assert "2 of 3 latents are active (z1, z2); the KL of each:" in table(found)


def test_the_table_of_a_latent_code_that_is_not_used() -> None:
    """A KL that is printed as 0.000 has no bar, although it may be the greatest one."""
    found = report() | {"kl_per_latent": [0.0, 4e-4], "active": [False, False]}
    assert "0 of 2 latents are active; the KL of each:" in table(found)
    assert "Posterior collapse: no latent is active, so z says nothing" in table(found)
    assert "#" not in table(found)


# ------------------------------------------------------------------ the command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a run of an untrained model and its dataset."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "digits-z2-001"
    folder.mkdir(parents=True)
    vae, data = untrained(), digits_file(tmp_path)
    about = {"name": str(data), **fingerprint(*load_dataset(str(data)))}
    header = {"model": vae.settings, "data": about, "epoch": 0}
    checkpoint.save(folder / "last.npz", header, vae.parameters)
    return folder


QUICK = ("--samples", "5", "--images", "20")


def test_json_is_the_report_and_nothing_else(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*QUICK, "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out, parse_constant=pytest.fail)  # no NaN, which is no JSON
    assert Path(found.pop("checkpoint")) == Path("runs/digits-z2-001/last.npz")
    assert found.pop("dataset") == str(run.parents[1] / "digits.npz")
    expected = report()
    assert expected.pop("dataset") == "digits"
    assert found == expected


def test_the_command_for_people(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*QUICK, "--checkpoint", str(run), "--binarize", "--seed", "3"])
    text = capsys.readouterr().out
    assert str(run / "last.npz") in text
    assert "made black and white" in text
    assert f"{report(binarize=True, seed=3)['bce']['mean']:.2f}" in text
    assert "generate.py" in text
    assert "`train`" not in text  # its loss is that of grey pixels
    header, arrays = checkpoint.load(run / "last.npz")
    checkpoint.save(run / "best.npz", {**header, "settings": {"beta": 4.0}}, arrays)
    main([*QUICK, "--checkpoint", str(run)])
    text = capsys.readouterr().out
    for words in ("draws other noise", "lowest validation loss", "with beta 4. The loss here is"):
        assert words in text
    (run / "best.npz").unlink()
    main([*QUICK, "--quiet"])
    quiet = capsys.readouterr().out
    assert "generate.py" not in quiet
    assert "-log p(x) <=" in quiet


def test_another_dataset_may_be_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dataset without a test set: people get a note about it, programs do not."""
    np.savez("other.npz", images=TRAIN.images, labels=TRAIN.labels)
    main([*QUICK, "--dataset", "other.npz"])
    assert "no test set of its own" in capsys.readouterr().out
    main([*QUICK, "--dataset", "other.npz", "--json"])
    assert json.loads(capsys.readouterr().out)["images"] == 20


@pytest.mark.parametrize("option", ["--samples=0", "--images=-1", "--samples=many"])
def test_bad_options_are_refused(
    run: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 2
    assert "is not a whole number, 1 or more" in capsys.readouterr().err


def test_without_a_model_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no trained model"):
        main(["--json"])


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    """Otherwise the table would end with a bug of ours, and --json would print invalid JSON."""
    images = np.zeros((4, 28, 28), np.uint8)
    data = Dataset("black", images, np.zeros(4, np.uint8), ("black",), "made here")
    vae = VAE(hidden_dims=(4,), latent_dim=2)
    vae.parameters["encoder.log_var.b"] = 100
    with pytest.raises(CheckpointError, match="not finite"):
        evaluation_report(vae, data, data, samples=2, bound_images=2, seed=0)
