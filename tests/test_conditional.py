"""A conditional model is given the class of each image, everywhere; what is missing is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from npvae import VAE, fit
from npvae.commands import evaluate, generate
from npvae.commands.evaluation_report import evaluation_report
from npvae.commands.training_run import follow, resume, start
from npvae.core.errors import CheckpointError, DataError, OptionError
from npvae.core.parameters import Array
from npvae.core.random_streams import Stream, generator
from npvae.core.validation import one_hot
from npvae.datasets.drawn_digits import drawn_digits
from npvae.evaluation import (
    active_units,
    average_loss,
    iwae_bound,
    kl_per_latent,
    losses_per_image,
    no_latent_loss,
    pixel_entropy,
    reconstruction_error,
)
from npvae.gradcheck_vae import check_parts
from npvae.latent_space import encode_all
from npvae.optimizers import Adam
from npvae.plots.request import Request
from npvae.plots.samples import reconstruct, styles
from npvae.runs.fit import Examples, Job, train, train_validation_split
from npvae.runs.mpi import Ranks
from npvae.settings import Settings
from npvae.storage import checkpoint

TRAIN, TEST = drawn_digits(train=300, test=60)
DICE = np.random.default_rng(0)
X, EPSILON, Z = DICE.random((5, 12)), DICE.standard_normal((5, 3)), DICE.standard_normal((5, 3))
C = np.array([3, 0, 2, 2, 1])


def small(num_classes: int = 4, **more: Any) -> VAE:
    return VAE(12, (7,), 3, dtype=np.float64, rng=0, num_classes=num_classes, **more)


# ------------------------------------------------------------------ the model


def test_a_class_is_a_column_beside_x_and_beside_z() -> None:
    shapes = small().parameters.shapes
    assert shapes["encoder.hidden0.W"] == (12 + 4, 7)
    assert shapes["decoder.hidden0.W"] == (3 + 4, 7)
    assert shapes["decoder.logits.W"] == (7, 12)
    np.testing.assert_array_equal(one_hot([2, 0], 3, 2, float), [[0, 0, 1], [1, 0, 0]])
    assert one_hot(None, 0, 5, float).shape == (5, 0)


def test_a_class_is_a_bias_that_it_chooses() -> None:
    """The row of W that belongs to the class is added to b: the same as a model without classes."""
    vae, plain = small(), small(num_classes=0)
    for name, array in plain.parameters.items():
        array[:] = vae.parameters[name][: len(array)]
    for label in range(4):
        for half, rows in (("encoder", 12), ("decoder", 3)):
            W, b = (vae.parameters[f"{half}.hidden0.{kind}"] for kind in "Wb")
            plain.parameters[f"{half}.hidden0.b"] = b + W[rows + label]
        for found, expected in zip(vae.encode(X, label), plain.encode(X), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
        np.testing.assert_allclose(vae.decode(Z, label), plain.decode(Z), rtol=0, atol=1e-14)


def test_each_row_has_the_class_that_it_is_given() -> None:
    vae = small()
    together = vae.decode(Z, C)
    for k in range(5):
        np.testing.assert_allclose(together[k], vae.decode(Z[[k]], C[[k]])[0], atol=1e-15)
    np.testing.assert_array_equal(vae.sample(5, 1, C), vae.decode(vae.noise(5, 1), C))
    assert np.abs(vae.decode(Z, 0) - vae.decode(Z, 1)).max() > 1e-3


def test_all_gradients_are_right() -> None:
    checks = list(check_parts(["vae conditional 7-6"]))
    assert {check.analytic.shape for check in checks} >= {(16, 7), (7, 6)}
    assert all(check.passed for check in checks)


def test_the_class_has_a_gradient_only_where_it_occurs() -> None:
    _, gradients = small().loss_and_gradients(X[:2], EPSILON[:2], c=[1, 3])
    used = [bool(row.any()) for row in gradients["decoder.hidden0.W"][3:]]
    assert used == [False, True, False, True]


WRONG: list[tuple[Any, str]] = [
    (None, "the model is conditional: it needs c, the class of each image, 0 to 3"),
    ([0, 1, 2, 3, 4], "c must hold classes from 0 to 3, not 0 to 4"),
    ([0, 1, 2, 3, -1], "c must hold classes from 0 to 3, not -1 to 3"),
    ([0, 1], r"c must have shape \(5,\)"),
    ([0.0, 1.0, 2.0, 3.0, 0.0], "c must hold whole numbers, not float64"),
]
METHODS: list[Callable[[VAE, Any], object]] = [
    lambda vae, c: vae.encode(X, c),
    lambda vae, c: vae.decode(Z, c),
    lambda vae, c: vae.sample(5, 0, c),
    lambda vae, c: vae.loss(X, EPSILON, 1.0, c),
    lambda vae, c: vae.loss_and_gradients(X, EPSILON, 1.0, c),
]


@pytest.mark.parametrize("method", METHODS)
def test_classes_that_do_not_fit_are_refused(method: Callable[[VAE, Any], object]) -> None:
    for c, words in WRONG:
        with pytest.raises(ValueError, match=words):
            method(small(), c)
    with pytest.raises(ValueError, match="not conditional: it has no classes, so c must be None"):
        method(small(num_classes=0), C)


@pytest.mark.parametrize("number", [-1, 257, 2.0, True, None])
def test_a_number_of_classes_that_cannot_be(number: Any) -> None:
    with pytest.raises(ValueError, match="num_classes must be 0 to 256"):
        small(num_classes=number)


def test_a_number_of_classes_counted_by_numpy(tmp_path: Path) -> None:
    """As in labels.max() + 1: added to 784, a byte would overflow."""
    vae = VAE(num_classes=cast(int, TRAIN.labels.max() + 1))
    assert vae.parameters["encoder.hidden0.W"].shape == (794, 128)
    vae.save(tmp_path / "model.npz")
    assert VAE.load(tmp_path / "model.npz").num_classes == 10


# ------------------------------------------------------------------ training and evaluation


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_fit_needs_the_labels_of_both_halves(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", backend)
    vae = VAE(784, (8,), 3, rng=0, num_classes=10)
    both: dict[str, Any] = {"test_images": TEST.images, "epochs": 2, "batch_size": 64}
    with pytest.raises(ValueError, match="conditional: it needs test_labels, the class of each"):
        fit(vae, TRAIN.images, labels=TRAIN.labels, **both)
    with pytest.raises(ValueError, match="conditional: it needs labels, the class of each"):
        fit(vae, TRAIN.images, test_labels=TEST.labels, **both)
    with pytest.raises(ValueError, match=r"labels must have shape \(300,\)"):
        fit(vae, TRAIN.images, labels=TEST.labels, test_labels=TEST.labels, **both)
    labels: dict[str, Any] = {"labels": TRAIN.labels, "test_labels": TEST.labels}
    first, second = fit(vae, TRAIN.images, **labels, **both)
    assert second.train.total < first.train.total
    with pytest.raises(ValueError, match="not conditional"):
        fit(VAE(784, (8,), 3), TRAIN.images, **labels, **both)


def trained() -> VAE:
    vae = VAE(784, (64,), 4, rng=1, num_classes=10)
    fit(vae, TRAIN.images, 30, labels=TRAIN.labels, batch_size=20, learning_rate=3e-3)
    return vae


def test_it_draws_the_class_that_is_asked_for() -> None:
    """Nearest class mean of the training images, in pixels. By chance, a tenth would be right."""
    means = np.stack([TRAIN.images[TRAIN.labels == k].mean(axis=0).ravel() for k in range(10)])
    asked = np.repeat(np.arange(10), 20)
    x_hat = trained().sample(200, 3, asked)
    distances = ((255 * x_hat[:, np.newaxis] - means) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == asked).mean() > 0.6


def test_evaluation_gives_each_image_its_class() -> None:
    """In batches that do not divide the images, and as the model computes it for one image."""
    vae = VAE(784, (8,), 3, dtype=float, rng=0, num_classes=10)
    x, images, labels = TEST.images.reshape(60, 784) / 255, TEST.images, TEST.labels
    epsilon = vae.noise(60, 1)
    bce, kl = losses_per_image(vae, images, epsilon, 7, labels)
    for k in (0, 7, 59):
        loss = vae.loss(x[[k]], epsilon[[k]], 1.0, labels[[k]])
        assert (bce[k], kl[k]) == pytest.approx((loss.bce, loss.kl), rel=1e-12)
    mu, log_var = vae.encode(x, labels)
    assert np.array_equal(encode_all(vae, images, 60, labels)[0], mu)
    expected = (0.5 * (mu**2 + np.exp(log_var) - 1 - log_var)).mean(axis=0)
    np.testing.assert_allclose(kl_per_latent(vae, images, 7, labels), expected, rtol=1e-12)
    one, many = (
        iwae_bound(vae, images, k, np.random.default_rng(0), labels=labels).mean() for k in (1, 20)
    )
    loss = average_loss(vae, images, np.random.default_rng(0), labels=labels)
    assert one == pytest.approx(loss.elbo, rel=1e-3)
    assert many > one
    with pytest.raises(ValueError, match="59 labels for 60 images"):
        losses_per_image(vae, images, epsilon, 7, labels[:59])


@pytest.mark.parametrize("num_classes", [0, 10])
def test_every_figure_of_the_report_is_of_the_right_images_and_labels(num_classes: int) -> None:
    vae = VAE(784, (8,), 3, rng=0, num_classes=num_classes)
    found = evaluation_report(vae, TRAIN, TEST, samples=5, bound_images=20, seed=3)
    images, labels, rng = TEST.images, vae.classes(TEST.labels), np.random.default_rng(3)
    first = None if labels is None else labels[:20]
    bce, kl = losses_per_image(vae, images, vae.noise(60, rng), labels=labels)
    bound = -iwae_bound(vae, images[:20], 5, rng, labels=first)
    per_image = {"bce": bce, "kl": kl, "loss": bce + kl, "nll_bound": bound}
    assert {name: found[name]["mean"] for name in per_image} == {
        name: values.mean() for name, values in per_image.items()
    }
    assert found["nll_bound"]["loss_of_these"] == (bce + kl)[:20].mean()
    assert found["floor"] == pixel_entropy(images)
    assert found["baseline"] == no_latent_loss(TRAIN.images, images)
    assert found["kl_per_latent"] == kl_per_latent(vae, images, labels=labels).tolist()
    assert found["active"] == active_units(vae, images, labels=labels).tolist()
    assert found["mean_squared_error"] == reconstruction_error(vae, images, labels=labels)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_held_out_images_keep_their_labels(backend: str) -> None:
    """At a learning rate that changes nothing, the validation loss is that of the model given."""
    vae, settings = VAE(784, (8,), 3, rng=0, num_classes=10), Settings(validation=40)
    settings, labels = replace(settings, learning_rate=1e-30), TRAIN.labels
    job = Job(vae, Adam(), settings, Examples(TRAIN.images, labels), backend=backend)
    (epoch,) = train(job, range(1, 2))
    _, held_out = train_validation_split(300, 40, 0)
    rng = generator(0, Stream.VALIDATION)
    expected = average_loss(vae, TRAIN.images[held_out], rng, labels=labels[held_out])
    assert epoch.validation
    assert epoch.validation.total == pytest.approx(expected.total, rel=1e-6)


# ------------------------------------------------------------------ files and commands


def test_a_checkpoint_keeps_the_number_of_classes(tmp_path: Path) -> None:
    vae, path = small(), tmp_path / "model.npz"
    vae.save(path)
    same = VAE.load(path)
    assert same.num_classes == 4
    np.testing.assert_array_equal(same.decode(Z, C), vae.decode(Z, C))
    small(num_classes=0).save(path)
    header, _ = checkpoint.load(path)
    assert "num_classes" not in header["model"]  # as before there were any
    assert VAE.load(path).num_classes == 0
    for wrong in (3, -4, 1e9, "4", 10**12):
        about = {"model": {**vae.settings, "num_classes": wrong}}
        checkpoint.save(path, about, vae.parameters)
        with pytest.raises(CheckpointError, match=r"its header is not|do not fit"):
            VAE.load(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_digits(TRAIN.labels)
    return tmp_path


def save_digits(labels: Array) -> None:
    np.savez(
        "digits.npz",
        x_train=TRAIN.images,
        y_train=labels,
        x_test=TEST.images,
        y_test=TEST.labels,
    )


def settings(epochs: int) -> Settings:
    return Settings(
        "digits.npz", conditional=True, epochs=epochs, hidden_dims=(8,), latent_dim=3, batch_size=50
    )


def test_a_resumed_run_has_the_same_bits(here: Path) -> None:
    start(settings(4), None, "whole", quiet=True)
    start(settings(2), None, "parts", quiet=True)
    resume("parts", {"epochs": 4}, None, quiet=True)
    whole, parts = (VAE.load(folder).parameters.flat for folder in ("whole", "parts"))
    assert whole.tobytes() == parts.tobytes()
    assert VAE.load("whole").num_classes == 10


def test_other_labels_are_refused(here: Path) -> None:
    """They would be given to the model, and all figures would be wrong."""
    start(settings(1), None, "run", quiet=True)
    start(replace(settings(1), conditional=False), None, "plain", quiet=True)
    save_digits(TRAIN.labels[::-1])
    with pytest.raises(DataError, match="the labels are not those that run was trained on"):
        resume("run", {"epochs": 2}, None, quiet=True)
    evaluated = ["--images", "9", "--samples", "1", "--checkpoint"]
    with pytest.raises(
        DataError, match=r"the labels of .*digits\.npz are not those that the model"
    ):
        evaluate.main([*evaluated, "run"])
    evaluate.main([*evaluated, "run", "--dataset", "digits.npz"])  # if this is what is wanted
    evaluate.main([*evaluated, "plain"])


def test_ranks_with_other_labels_end_with_an_error(here: Path) -> None:
    """As if the file differed on the machine of one rank."""

    class RankZero:
        rank, size = 1, 2

        def share(self) -> object:
            return header, arrays, range(2, 3), [], "numpy"

    start(settings(1), None, "run", quiet=True)
    header, arrays = checkpoint.load("run/last.npz")
    save_digits(TRAIN.labels[::-1])
    with pytest.raises(DataError, match="here does not have the labels of rank 0"):
        follow(cast(Ranks, RankZero()))


def test_a_class_that_only_the_extra_data_has_can_be_drawn_everywhere(here: Path) -> None:
    """The test set has no image of it, but knows its name."""
    new = TRAIN.images[:30, ::-1]
    np.savez("extra.npz", x_train=new, y_train=["hat"] * 30, x_test=new[:3], y_test=["hat"] * 3)
    start(replace(settings(1), extra_data="extra.npz"), None, "run", quiet=True)
    start(settings(1), None, "plain", quiet=True)
    generate.main(["reconstruct", "--index", "0", "--as", "hat", "--checkpoint", "run"])
    generate.main(["explorer", "--checkpoint", "run"])
    assert '"9","hat"]' in Path("run/explorer.html").read_text(encoding="utf-8")
    with pytest.raises(OptionError, match="have different test classes"):
        generate.main(["explorer", "--checkpoint", "run", "--checkpoint", "plain"])


def test_pictures_without_labels_are_refused(here: Path) -> None:
    np.savez("plain.npz", x_train=TRAIN.images, x_test=TEST.images)
    asked = Settings("plain.npz", conditional=True)
    with pytest.raises(OptionError, match=r"needs the class of each image, and .* has no labels"):
        start(asked, None, "run", quiet=True)
    assert not Path("run").exists()
    start(settings(1), None, "run", quiet=True)
    for main, words in ((evaluate.main, []), (generate.main, ["reconstruct"])):
        with pytest.raises(OptionError, match=r"it needs the class of each image, and .* no label"):
            main([*words, "--checkpoint", "run", "--dataset", "plain.npz"])


def test_every_command_works_for_a_conditional_run(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(settings(1), None, "run")
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
    evaluated = capsys.readouterr().out
    assert "agreement" in evaluated
    assert "p(x) is p(x | c) here" in evaluated
    generate.main(["explorer", "--checkpoint", "run"])
    assert Path("run/explorer.html").is_file()
    with pytest.raises(OptionError, match='there is no class "shoe"'):
        generate.main(["reconstruct", "--as", "shoe", "--checkpoint", "run"])


def test_what_needs_classes_refuses_a_model_without(here: Path) -> None:
    start(Settings("digits.npz", epochs=1, hidden_dims=(8,)), None, "plain", quiet=True)
    for asked in ("styles", "reconstruct --index 0 --as 7", "manifold --class 7"):
        with pytest.raises(OptionError, match="needs a conditional model"):
            generate.main([*asked.split(), "--checkpoint", "plain"])


def test_another_dataset_may_not_have_more_classes(here: Path) -> None:
    start(settings(1), None, "run", quiet=True)
    more = TRAIN.labels.copy()
    more[0] = 10
    save_digits(more)
    with pytest.raises(OptionError, match=r"conditional on 10 classes, but digits\.npz has 11"):
        generate.main(["styles", "--checkpoint", "run", "--dataset", "digits.npz"])


def test_classes_of_other_names_are_noted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names are numbered in their order, and "two" comes last: the model would draw a 9."""
    start(settings(1), None, "run", quiet=True)
    names = np.array(["0", "two", *"23456789"])
    np.savez(
        "named.npz",
        x_train=TRAIN.images,
        y_train=names[TRAIN.labels],
        x_test=TEST.images,
        y_test=names[TEST.labels],
    )
    generate.main(["styles", "--checkpoint", "run"])
    assert "note" not in capsys.readouterr().out
    generate.main(["styles", "--checkpoint", "run", "--dataset", "named.npz"])
    (note,) = re.findall("^note .*", capsys.readouterr().out, re.MULTILINE)
    assert note.endswith(
        "the model knows classes by number and takes 2 as 1, 3 as 2, 4 as 3, 5 as 4, 6 as 5, ..."
    )


def test_styles_are_one_z_in_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    grid = "npvae.plots.samples.image_grid"
    monkeypatch.setattr(grid, lambda rows, *rest, **_: drawn.append((rows, *rest)))
    vae = VAE(784, (8,), 3, rng=0, num_classes=10)
    request = Request(vae, "m", 4, 1, np.random.default_rng(5), lambda: (TRAIN, TEST))
    styles(request)
    (rows, _, columns, *_) = drawn.pop()
    assert columns == list("0123456789")
    z = vae.noise(4, 5)
    for row in range(4):
        for label in range(10):
            np.testing.assert_allclose(rows[row][label], vae.decode(z[[row]], label)[0], atol=1e-6)
    reconstruct(request, [2], "7")
    (((_, as_seven),), _, pair, *_) = drawn.pop()
    mu, _ = vae.encode(TEST.images[[2]] / 255, TEST.labels[[2]])
    np.testing.assert_allclose(as_seven, vae.decode(mu, 7)[0], atol=1e-6)
    assert pair == ["original", "as 7"]
