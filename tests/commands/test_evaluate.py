"""What evaluate.py reports: the bound on log p(x) against log p(x), and each figure by hand.

Where a mean over n draws is compared, five standard errors are allowed; the seeds are fixed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npvae.commands.agreement import agreement
from npvae.commands.evaluate import main
from npvae.commands.evaluation_report import evaluation_report, mean_and_error, table
from npvae.core.errors import CheckpointError
from npvae.datasets.dataset import fingerprint
from npvae.evaluation import (
    active_units,
    binarized,
    iwae_bound,
    kl_per_latent,
    losses_per_image,
    no_latent_loss,
    pixel_entropy,
    reconstruction_error,
)
from npvae.model import VAE
from npvae.storage import checkpoint
from tests.helpers import Bytes, Said, drawn, refused, save_dataset

Floats = NDArray[np.float64]
FEW = np.random.default_rng(0).integers(0, 256, (8, 12), np.uint8)


def small_vae(latent_dim: int = 3, dtype: str = "float64") -> VAE:
    """12 pixels and 6 hidden units; log_var is about 0.2, so that q is a little too wide."""
    vae, rng = VAE(12, (6,), latent_dim, dtype=dtype), np.random.default_rng(1)
    vae.parameters.flat[:] = rng.normal(0, 0.4, vae.parameters.flat.shape)
    vae.parameters["encoder.log_var.b"] = 0.2
    return vae


def test_with_one_sample_it_is_the_elbo() -> None:
    """They agree on average, not in each draw: the bound draws kl, the loss has a closed form."""
    vae, n, rng = small_vae(), 5000, np.random.default_rng(1)
    again = np.repeat(FEW, n, axis=0)
    bce, kl = losses_per_image(vae, again, vae.noise(len(again), rng))
    draws = np.reshape([iwae_bound(vae, again, 1, rng), bce + kl], (2, len(FEW), n))
    bound, loss = draws.mean(axis=-1)
    bound_error, loss_error = draws.std(axis=-1) / math.sqrt(n)
    assert (np.abs(bound + loss) < 5 * np.hypot(bound_error, loss_error)).all()
    assert (bound_error < 0.05).all()


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


@pytest.mark.parametrize(("dtype", "batch_size"), [("float64", 3), ("float32", 500)])
def test_with_many_samples_it_meets_log_p(dtype: str, batch_size: int) -> None:
    """The mean of K weights has the relative error sqrt(r / K) with r = var(w) / mean(w)^2, and so
    has its logarithm, which is also r / 2K too small. Each image has to get its own bound, whatever
    the batches. The grid is right to 1e-6, and so is float32 to 1e-5."""
    vae, K = small_vae(latent_dim=1, dtype=dtype), 3000
    exact = small_vae(latent_dim=1)
    exact.parameters.update(vae.parameters)
    log_p, r = np.transpose([quadrature(exact, image) for image in FEW])
    assert r.max() < 3  # else the estimate of its error would be no good
    assert log_p.std() > 0.5  # so that images exchanged would show
    bound = iwae_bound(vae, FEW, K, np.random.default_rng(3), batch_size=batch_size)
    assert (np.abs(bound - log_p) < 5 * np.sqrt(r / K) + r / K + 2e-5).all()


def test_a_code_that_tells_nothing_has_an_exact_bound() -> None:
    """q is the prior and the decoder ignores z, so every weight is p(x) itself.

    p(x) = exp(-2000) is 0 in float64, its logarithm is not.
    """
    vae, black = VAE(12, (6,), 3, dtype="float64"), np.zeros((2, 12), np.uint8)
    vae.parameters.flat[:] = 0
    vae.parameters["decoder.logits.b"] = 2000 / 12
    bound = iwae_bound(vae, black, 3, np.random.default_rng(6))
    np.testing.assert_allclose(bound, -2000, rtol=1e-12)


def test_binarized_pixels_are_white_as_often_as_they_are_grey() -> None:
    """Each for itself, as the generator says, and the images themselves stay grey."""
    n, grey = 20_000, np.array([0, 1, 50, 127, 200, 254, 255], np.uint8)
    images = np.broadcast_to(grey, (n, 1, 7)).copy()
    found, again, other = (binarized(images, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert (found.shape, found.dtype, {*found.flat}) == (images.shape, np.dtype(np.uint8), {0, 255})
    p, often = grey / 255, (found[:, 0] == 255).mean(axis=0)
    assert (np.abs(often - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()  # black and white stay so
    assert len(np.unique(found[:, 0, 2:5], axis=0)) == 8  # each pixel for itself
    np.testing.assert_array_equal(found, again)
    assert (found != other).any()
    np.testing.assert_array_equal(images[-1, 0], grey)


def listening_vae(slopes: Sequence[float] | Floats) -> VAE:
    """mu of latent k is slopes[k] * the one pixel; nothing else happens."""
    vae = VAE(1, (1,), len(slopes), dtype="float64")
    vae.parameters.flat[:] = 0
    vae.parameters["encoder.hidden0.W"] = 1
    vae.parameters["encoder.mu.W"] = [slopes]
    vae.parameters["encoder.mu.b"] = 3  # which does not vary
    return vae


batch_sizes = pytest.mark.parametrize("batch_size", [7, 500])


@batch_sizes
def test_a_latent_is_active_if_its_mu_varies_by_more_than_a_hundredth(batch_size: int) -> None:
    images = np.random.default_rng(10).integers(0, 256, (100, 1), np.uint8)
    spread = (images / 255).std()
    vae = listening_vae(np.array([0.0, 0.099, -0.101, 1.0]) / spread)
    active = active_units(vae, images, batch_size)
    assert active.tolist() == [False, False, True, True]


@batch_sizes
def test_reconstruction_error_by_hand(batch_size: int) -> None:
    vae = small_vae()
    x = FEW / 255
    by_hand = ((vae.decode(vae.encode(x)[0]) - x) ** 2).mean()
    pictures = FEW.reshape(8, 3, 4)
    assert reconstruction_error(vae, pictures, batch_size) == pytest.approx(by_hand, rel=1e-12)
    vae.parameters.flat[:] = 0  # always grey
    assert reconstruction_error(vae, FEW) == pytest.approx(((x - 0.5) ** 2).mean(), rel=1e-12)


@batch_sizes
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


TRAIN, TEST = drawn()


def untrained(**more: Any) -> VAE:
    return VAE(784, (8,), 2, rng=np.random.default_rng(11), **more)


def report(vae: VAE | None = None, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"samples": 5, "bound_images": 20, "seed": 0, **changes}
    return evaluation_report(vae or untrained(), TRAIN, TEST, **options)


@pytest.mark.parametrize(
    ("num_classes", "binarize", "bound_images"),
    [(0, False, 20), (10, False, 20), (10, True, 20), (0, True, 10**6)],
)
def test_every_figure_is_of_the_right_images_and_labels(
    num_classes: int, binarize: bool, bound_images: int
) -> None:
    vae = untrained(num_classes=num_classes)
    found = report(vae, seed=3, binarize=binarize, bound_images=bound_images)
    rng, train, images = np.random.default_rng(3), TRAIN.images, TEST.images
    if binarize:
        train, images = binarized(train, rng), binarized(images, rng)
    few, labels = min(bound_images, 60), vae.classes(TEST.labels)
    bce, kl = losses_per_image(vae, images, vae.noise(60, rng), labels=labels)
    some = None if labels is None else labels[:few]
    bound = mean_and_error(-iwae_bound(vae, images[:few], 5, rng, labels=some))
    of_these = (bce + kl)[:few].mean()
    assert found == {
        "dataset": TEST.name,
        "binarized": binarize,
        "conditional": num_classes > 0,
        "images": 60,
        "bce": mean_and_error(bce),
        "kl": mean_and_error(kl),
        "loss": mean_and_error(bce + kl),
        "nll_bound": {**bound, "samples": 5, "images": few, "loss_of_these": of_these},
        "mean_squared_error": reconstruction_error(vae, images, labels=labels),
        "floor": pixel_entropy(images),
        "baseline": no_latent_loss(train, images),
        "kl_per_latent": kl_per_latent(vae, images, labels=labels).tolist(),
        "agreement": agreement(vae, TRAIN, TEST, 3),
        "active": active_units(vae, images, labels=labels).tolist(),
    }
    assert (found["floor"] == 0) == binarize
    assert found["floor"] < found["baseline"] < found["loss"]["mean"]  # it is untrained
    before = untrained(num_classes=num_classes).parameters
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)
    assert not vae.gradients.flat.any()


def test_mean_and_standard_error() -> None:
    """Of 1, 2, 3, 6: mean 3, squares of the distances 4 + 1 + 0 + 9, so the variance is 14 / 3."""
    found = mean_and_error(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found["mean"] == 3
    assert found["standard_error"] == pytest.approx(math.sqrt(14 / 3) / 2)
    assert mean_and_error(np.array([7.0])) == {"mean": 7.0, "standard_error": None}


def test_the_tables_for_people(said: Said) -> None:
    """The latent of greatest KL comes first; a KL that is printed as 0.000 has no bar."""
    sure = {"mean": 200.456, "standard_error": 1.234}
    figures: dict[str, Any] = {
        **dict.fromkeys(("bce", "kl", "loss"), sure),
        "dataset": "digits",
        "images": 1000,
        "binarized": False,
        "conditional": False,
        "nll_bound": {"samples": 5, "images": 20, "loss_of_these": 204.25, **sure},
        "mean_squared_error": 0.0123,
        "floor": 150,
        "baseline": 300.5,
        "agreement": None,
        "kl_per_latent": [0, 4, 1],
        "active": [False, True, True],
    }
    agreed = {"test_images": 0.987, "fitted": 0.875, "prior": 0.75}
    changes: dict[str, dict[str, Any]] = {
        "grey": {},
        "black and white": {"binarized": True, "floor": 0, "active": [True, True, True]},
        "one image": {"bce": mean_and_error(np.array([7.0])), "images": 1},
        "conditional": {"conditional": True, "agreement": agreed},
        "collapsed": {"kl_per_latent": [0, 4e-4], "active": [False, False]}
        | {"agreement": {**agreed, "prior": None}},
    }
    said("evaluation tables", {name: table(figures | more) for name, more in changes.items()})


QUICK = ("--samples", "5", "--images", "20")
RUN = Path("runs/digits-z2-001")


@pytest.fixture
def run(here: Path) -> None:
    """In the current folder: the run of an untrained model, and its dataset."""
    RUN.mkdir(parents=True)
    data = save_dataset(here / "digits.npz", TRAIN.images, TEST.images, TRAIN.labels, TEST.labels)
    vae, about = untrained(), {"name": str(data), **fingerprint(TRAIN, TEST)}
    header = {"model": vae.settings, "data": about, "epoch": 0}
    checkpoint.save(RUN / "last.npz", header, vae.parameters)


@pytest.mark.usefixtures("run")
def test_json_is_the_report_and_nothing_else(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*QUICK, "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out, parse_constant=pytest.fail)  # no NaN, which is no JSON
    own = {"checkpoint": str(RUN / "last.npz"), "dataset": str(here / "digits.npz")}
    assert found == {**report(), **own}


@pytest.mark.usefixtures("run")
def test_people_get_the_table_and_what_belongs_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        main([*QUICK, *words])
        return capsys.readouterr().out

    text = told("--checkpoint", str(RUN), "--binarize", "--seed", "3")
    for words in (str(RUN / "last.npz"), "made black and white", "generate.py"):
        assert words in text
    assert f"{report(binarize=True, seed=3)['bce']['mean']:.2f}" in text
    assert "`train`" not in text  # its loss is that of grey pixels
    assert "already" not in text  # black or white
    header, arrays = checkpoint.load(RUN / "last.npz")
    checkpoint.save(RUN / "best.npz", {**header, "settings": {"beta": 4.0}}, arrays)
    text = told("--checkpoint", str(RUN))
    for words in ("draws other noise", "lowest validation loss", "with beta 4. The loss here is"):
        assert words in text
    text = told("--quiet")
    assert "-log p(x) <=" in text
    assert "generate.py" not in text


@pytest.mark.usefixtures("run")
def test_another_dataset_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A dataset without a test set: people get a note about it, programs do not."""
    np.savez("other.npz", images=TRAIN.images, labels=TRAIN.labels)
    main([*QUICK, "--dataset", "other.npz"])
    assert "no test set of its own" in capsys.readouterr().out
    main([*QUICK, "--dataset", "other.npz", "--json"])
    assert json.loads(capsys.readouterr().out)["images"] == 20


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    """Otherwise the table would end with a bug of ours, and --json would print invalid JSON."""
    vae = untrained()
    vae.parameters["encoder.log_var.b"] = 100
    with refused(CheckpointError, "not finite"):
        report(vae)


def test_the_error_of_a_mean_is_its_standard_error() -> None:
    found = mean_and_error(np.array([1.0, 2.0, 6.0]))
    assert found == pytest.approx({"mean": 3.0, "standard_error": math.sqrt(7 / 3)})
    assert mean_and_error(np.array([5.0])) == {"mean": 5.0, "standard_error": None}
