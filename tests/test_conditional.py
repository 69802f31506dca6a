"""A conditional model is given the class of each image, everywhere; what is missing is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from npvae import VAE, Adam, DataError, OptionError, fit
from npvae.commands import evaluate, generate
from npvae.commands import train as train_command
from npvae.commands.training_run import follow
from npvae.core.random_streams import Stream, generator
from npvae.evaluation import average_loss, iwae_bound, kl_per_latent, losses_per_image
from npvae.gradcheck_vae import check_parts
from npvae.latent_space import encode_all
from npvae.plots.image_grid import image_grid
from npvae.plots.request import Request
from npvae.plots.samples import reconstruct, styles
from npvae.runs.fit import Examples, Job, train, train_validation_split
from npvae.runs.mpi import Ranks
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.helpers import (
    Said,
    assert_same_run,
    drawn,
    refused,
    resume,
    save_dataset,
    start,
    unchanged,
)

TRAIN, TEST = drawn()
DICE = np.random.default_rng(0)
X, EPSILON, Z = DICE.random((5, 12)), DICE.standard_normal((5, 3)), DICE.standard_normal((5, 3))
C = np.array([3, 0, 2, 2, 1])
CONDITIONAL: dict[str, Any] = {"conditional": True, "epochs": 1, "latent_dim": 3}


@pytest.fixture(autouse=True)
def lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")


@pytest.fixture(params=["auto", "numpy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NPVAE_BACKEND", request.param)
    return str(request.param)


def small(num_classes: int = 4) -> VAE:
    return VAE(12, (7,), 3, dtype=np.float64, rng=0, num_classes=num_classes)


def for_digits(dtype: Any = np.float32) -> VAE:
    return VAE(784, (8,), 3, dtype=dtype, rng=0, num_classes=10)


# ------------------------------------------------------------------ the model


def test_a_class_is_a_bias_that_each_row_chooses() -> None:
    """The row of W that belongs to the class is added to b: the same as a model without classes."""
    vae, plain = small(), small(num_classes=0)
    for name, array in plain.parameters.items():
        array[:] = vae.parameters[name][: len(array)]
    for label in range(4):
        for half, rows in (("encoder", 12), ("decoder", 3)):
            W, b = (vae.parameters[f"{half}.hidden0.{kind}"] for kind in "Wb")
            plain.parameters[f"{half}.hidden0.b"] = b + W[rows + label]
        own = label == C
        for c, which in ((label, slice(None)), (C, own)):
            encoded = [values[which] for values in vae.encode(X, c)]
            np.testing.assert_allclose(encoded, plain.encode(X[which]), rtol=0, atol=1e-14)
            decoded = vae.decode(Z, c)[which]
            np.testing.assert_allclose(decoded, plain.decode(Z[which]), rtol=0, atol=1e-14)
    assert np.abs(vae.decode(Z, 0) - vae.decode(Z, 1)).max() > 1e-3
    np.testing.assert_array_equal(vae.sample(5, 1, C), vae.decode(vae.noise(5, 1), C))


def test_all_gradients_are_right() -> None:
    checks = list(check_parts(["vae conditional 7-6"]))
    assert {check.analytic.shape for check in checks} >= {(12 + 4, 7), (3 + 4, 6)}
    assert all(check.passed for check in checks)


WRONG: list[tuple[Any, str]] = [
    (None, "the model is conditional: it needs c, the class of each image, 0 to 3"),
    ([0, 1, 2, 3, 4], "c must hold classes from 0 to 3, not 0 to 4"),
    ([0, 1, 2, 3, -1], "c must hold classes from 0 to 3, not -1 to 3"),
    ([0, 1], "c must have shape (5,)"),
    ([0.0, 1.0, 2.0, 3.0, 0.0], "c must hold whole numbers, not float64"),
]
METHODS: list[Callable[[VAE, Any], object]] = [
    lambda vae, c: vae.encode(X, c),
    lambda vae, c: vae.decode(Z, c),
    lambda vae, c: vae.loss(X, EPSILON, 1.0, c),
]


def test_classes_that_do_not_fit_are_refused() -> None:
    for method in METHODS:
        for c, words in WRONG:
            with refused(ValueError, words):
                method(small(), c)
        with refused(ValueError, "not conditional: it has no classes, so c must be None"):
            method(small(num_classes=0), C)
    for number in (-1, 257, 2.0, True, None):
        with refused(ValueError, "num_classes must be 0 to 256"):
            small(cast(int, number))


def test_a_checkpoint_keeps_the_number_of_classes(tmp_path: Path) -> None:
    """Also one counted by NumPy, as in labels.max() + 1: added to 784, a byte would overflow."""
    vae, path = VAE(num_classes=cast(int, TRAIN.labels.max() + 1)), tmp_path / "model.npz"
    vae.save(path)
    same = VAE.load(path)
    assert same.num_classes == 10
    np.testing.assert_array_equal(same.sample(5, 0, C), vae.sample(5, 0, C))
    small(num_classes=0).save(path)
    assert "num_classes" not in checkpoint.load(path)[0]["model"]  # as before there were any
    assert VAE.load(path).num_classes == 0


# ------------------------------------------------------------------ training and evaluation


@pytest.mark.usefixtures("backend")
def test_fit_needs_the_labels_of_both_halves() -> None:
    both: dict[str, Any] = {"labels": TRAIN.labels, "test_labels": TEST.labels}
    more: dict[str, Any] = {"test_images": TEST.images, "epochs": 2, "batch_size": 64}
    vae = for_digits()
    for given, words in (
        ({**both, "test_labels": None}, "conditional: it needs test_labels, the class of each"),
        ({**both, "labels": None}, "conditional: it needs labels, the class of each"),
        ({**both, "labels": TEST.labels}, "labels must have shape (200,)"),
    ):
        with refused(ValueError, words):
            fit(vae, TRAIN.images, **more, **given)
    first, second = fit(vae, TRAIN.images, **more, **both)
    assert second.train.total < first.train.total
    with refused(ValueError, "not conditional"):
        fit(VAE(784, (8,), 3), TRAIN.images, **more, **both)


def test_it_draws_the_class_that_is_asked_for() -> None:
    """Nearest class mean of the training images, in pixels. By chance, a tenth would be right."""
    vae = VAE(784, (32,), 4, rng=1, num_classes=10)
    fit(vae, TRAIN.images, 20, labels=TRAIN.labels, batch_size=20, learning_rate=1e-2)
    means = np.stack([TRAIN.images[TRAIN.labels == k].mean(axis=0).ravel() for k in range(10)])
    asked = np.repeat(np.arange(10), 20)
    x_hat = vae.sample(200, 3, asked)
    distances = ((255 * x_hat[:, np.newaxis] - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == asked).mean() > 0.6


def test_evaluation_gives_each_image_its_class() -> None:
    """In batches that do not divide the images, and as the model computes it for one image."""
    vae, images, labels = for_digits(float), TEST.images, TEST.labels
    x, epsilon = images.reshape(60, 784) / 255, vae.noise(60, 1)
    bce, kl = losses_per_image(vae, images, epsilon, 7, labels)
    for k in (0, 7, 59):
        loss = vae.loss(x[[k]], epsilon[[k]], 1.0, labels[[k]])
        assert (bce[k], kl[k]) == pytest.approx((loss.bce, loss.kl), rel=1e-12)
    mu, log_var = vae.encode(x, labels)
    np.testing.assert_array_equal(encode_all(vae, images, 60, labels)[0], mu)
    expected = (0.5 * (mu**2 + np.exp(log_var) - 1 - log_var)).mean(axis=0)
    np.testing.assert_allclose(kl_per_latent(vae, images, 7, labels), expected, rtol=1e-12)
    a = vae.forward(x, epsilon, labels)
    log_w = 0.5 * (epsilon**2 - a.z**2 + log_var).sum(axis=1) - bce
    found = iwae_bound(vae, images, 1, np.random.default_rng(1), 7, labels)
    np.testing.assert_allclose(found, log_w, rtol=1e-12)
    loss = average_loss(vae, images, np.random.default_rng(1), labels=labels)
    assert loss == pytest.approx((bce.mean(), kl.mean(), 1), rel=1e-12)
    with refused(ValueError, "59 labels for 60 images"):
        losses_per_image(vae, images, epsilon, 7, labels[:59])


def test_held_out_images_keep_their_labels(backend: str) -> None:
    """At a learning rate that changes nothing, the validation loss is that of the model given."""
    vae, settings = for_digits(), Settings(validation=40, learning_rate=1e-30)
    job = Job(vae, Adam(), settings, Examples(TRAIN.images, TRAIN.labels), backend=backend)
    (epoch,) = train(job, range(1, 2))
    _, held_out = train_validation_split(200, 40, 0)
    images, labels = TRAIN.images[held_out], TRAIN.labels[held_out]
    expected = average_loss(vae, images, generator(0, Stream.VALIDATION), labels=labels)
    assert epoch.validation
    assert epoch.validation.total == pytest.approx(expected.total, rel=1e-6)


# ------------------------------------------------------------------ runs and commands


def save_digits(labels: Any, name: str = "digits.npz", test_labels: Any = TEST.labels) -> Path:
    return save_dataset(Path(name), TRAIN.images, TEST.images, labels, test_labels)


@pytest.fixture
def dataset(here: Path) -> Path:
    return save_digits(TRAIN.labels)


@pytest.fixture
def run(dataset: Path) -> None:
    """A conditional run of one epoch, in the folder run."""
    start(**CONDITIONAL)


@pytest.mark.usefixtures("dataset", "backend")
def test_a_resumed_run_has_the_same_bits() -> None:
    start("whole", **{**CONDITIONAL, "epochs": 3}, validation=40)
    start("parts", **CONDITIONAL, validation=40)
    resume("parts", epochs=3)
    assert_same_run("whole", "parts")
    assert VAE.load("whole").num_classes == 10


@pytest.mark.usefixtures("run")
def test_other_labels_are_refused() -> None:
    """They would be given to the model, and all figures would be wrong."""
    start("plain", epochs=1)
    save_digits(TRAIN.labels[::-1])
    with unchanged("run"), refused(DataError, "the labels are not those that run was trained on"):
        resume(epochs=2)
    evaluated = ["--images", "9", "--samples", "1", "--checkpoint"]
    with refused(DataError, "the labels of ", "digits.npz are not those that the model"):
        evaluate.main([*evaluated, "run"])
    evaluate.main([*evaluated, "run", "--dataset", "digits.npz"])  # if this is what is wanted
    evaluate.main([*evaluated, "plain"])

    class RankZero:
        """As if the file differed on the machine of rank 1."""

        rank, size = 1, 2

        def share(self) -> object:
            return *checkpoint.load("run/last.npz"), range(2, 3), [], "numpy"

    with refused(DataError, "here does not have the labels of rank 0"):
        follow(cast(Ranks, RankZero()))


@pytest.mark.usefixtures("dataset")
def test_a_class_that_only_the_extra_data_has_can_be_drawn_everywhere() -> None:
    """The test set has no image of it, but knows its name."""
    new, hats = TRAIN.images[:30, ::-1], ["hat"] * 30
    save_dataset(Path("extra.npz"), new, new[:3], hats, hats[:3])
    start("run", extra_data="extra.npz", **CONDITIONAL)
    start("plain", **CONDITIONAL)
    generate.main(["reconstruct", "--index", "0", "--as", "hat", "--checkpoint", "run"])
    generate.main(["explorer", "--checkpoint", "run"])
    assert '"9","hat"]' in Path("run/explorer.html").read_text(encoding="utf-8")
    with refused(OptionError, "have different test classes"):
        generate.main(["explorer", "--checkpoint", "run", "--checkpoint", "plain"])


@pytest.mark.usefixtures("dataset")
def test_every_command_works_for_a_conditional_run(capsys: pytest.CaptureFixture[str]) -> None:
    start(**CONDITIONAL, pictures_every=1)
    assert "generate.py styles" in capsys.readouterr().out
    for asked in (
        *("prior", "digit 4", "class 7", "styles", "reconstruct", "reconstruct --index 0 --as 7"),
        *("reconstruct --index 0 1 --as 7", "interpolate 0 1", "interpolate 0 1 --animate"),
        *("traverse", "traverse --animate", "manifold", "manifold --class 7", "scatter"),
    ):
        count = ["--count", "3"] if "index" not in asked else []
        generate.main([*asked.split(), "--checkpoint", "run", *count])
        assert "picture  run/images/" in capsys.readouterr().out
    evaluate.main(["--checkpoint", "run", "--images", "9", "--samples", "2"])
    assert "agreement" in capsys.readouterr().out


REFUSED = """
generate reconstruct --as shoe --checkpoint run
generate reconstruct --checkpoint run --dataset unlabelled.npz
generate styles --checkpoint run --dataset eleven.npz
generate styles --checkpoint plain.npz --dataset digits.npz
generate reconstruct --index 0 --as 7 --checkpoint plain.npz --dataset digits.npz
generate manifold --class 7 --checkpoint plain.npz --dataset digits.npz
evaluate --checkpoint run --dataset unlabelled.npz
train --conditional --dataset unlabelled.npz --out other
"""
MAIN = {"generate": generate.main, "evaluate": evaluate.main, "train": train_command.main}


@pytest.mark.usefixtures("run")
def test_missing_classes_are_refused_and_other_names_are_noted(
    said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names are numbered in their order, and "two" comes last: the model would draw a 9."""
    VAE(784, (8,), 3).save("plain.npz")
    np.savez("unlabelled.npz", x_train=TRAIN.images, x_test=TEST.images)
    save_digits([10, *TRAIN.labels[1:]], "eleven.npz")
    told = {}
    for line in REFUSED.strip().splitlines():
        command, *words = line.split()
        with unchanged("."), refused(OptionError) as error:
            MAIN[command](words)
        told[line] = str(error.value)
    names = np.array(["0", "two", *"23456789"])
    save_digits(names[TRAIN.labels], "named.npz", names[TEST.labels])
    for dataset in ("digits.npz", "named.npz"):
        capsys.readouterr()
        generate.main(["styles", "--checkpoint", "run", "--dataset", dataset])
        notes = re.findall("^note .*", capsys.readouterr().out, re.MULTILINE)
        told[f"notes about {dataset}"] = "\n".join(notes)
    said("classes are refused", told)


def test_styles_are_one_z_in_each_class() -> None:
    vae = for_digits(float)
    request = Request(vae, "m", 4, 1, np.random.default_rng(5), lambda: (TRAIN, TEST))
    drawn, z = styles(request), vae.noise(4, 5)
    rows = [[vae.decode(z[[row]], label)[0] for label in range(10)] for row in range(4)]
    title = "m: each row is one z, decoded in every class\n"
    assert drawn == image_grid(rows, [], list("0123456789"), 1, title)
    drawn = reconstruct(request, [2], "7")
    mu, _ = vae.encode(TEST.images[[2]] / 255, TEST.labels[[2]])
    pair = [TEST.images[2], vae.decode(mu, 7)[0]]
    expected = image_grid([pair], [], ["original", "as 7"], 1, f"m: {request.described(2)}\n")
    assert drawn == expected
