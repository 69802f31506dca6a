"""The programs that npvae is timed against compute what it computes, and leave no image out.

They are never timed here.
"""

import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Adam
from npvae.core.errors import DataError
from npvae.reference.timing import baselines
from tests import helpers
from tests.datasets.own import idx_bytes

Train = Any
TINY = baselines.Sizes(batch_size=32, hidden=64, latent_dim=3)


@pytest.fixture(params=["torch", "jax"])
def train(request: pytest.FixtureRequest) -> Train:
    """torch_epochs or jax_epochs, where the framework is installed."""
    framework = pytest.importorskip(request.param, reason=f"the rival needs {request.param}")
    if request.param == "jax":
        return baselines.jax_epochs
    framework.set_num_threads(1)  # two threads on a busy machine wait for each other
    return baselines.torch_epochs


def pictures(count: int) -> baselines.Bytes:
    """Images (count, 28, 28) of five kinds, each 7 x 7 blocks of black or white, with noise."""
    rng = np.random.default_rng(0)
    kinds = np.kron(rng.choice([0, 230], (5, 7, 7)), np.ones((4, 4), int))
    noise = rng.integers(0, 26, (count, 28, 28))
    return (kinds[rng.integers(0, 5, count)] + noise).astype(np.uint8)


def our_losses(images: baselines.Bytes, epochs: int) -> list[float]:
    """What training with npvae gives, in the plainest of loops."""
    rng, pixels = np.random.default_rng(0), images.reshape(len(images), -1) / 255
    vae, adam = VAE(784, (TINY.hidden,), TINY.latent_dim, rng=rng), Adam()
    losses = []
    for _ in range(epochs):
        total = 0.0
        rows = rng.permutation(len(images))
        for first in range(0, len(images), TINY.batch_size):
            x = pixels[rows[first : first + TINY.batch_size]]
            epsilon = rng.standard_normal((len(x), TINY.latent_dim))
            loss, gradients = vae.loss_and_gradients(x, epsilon)
            adam.update(vae.parameters, gradients)
            total += loss.loss * len(x)
        losses.append(total / len(images))
    return losses


@pytest.mark.parametrize("count", [70, 20])
def test_no_image_is_left_out_and_each_counts_once(train: Train, count: int) -> None:
    """With a short last batch, and with nothing but. One image in ten more or less shows: 54."""
    done = train(pictures(count), TINY._replace(epochs=2))
    assert len(done.losses) == len(done.seconds) == 2
    assert done.losses == [pytest.approx(543.4 + 5, abs=15)] * 2
    assert min(done.seconds) > 0
    if count == 20:
        another = train(pictures(count), TINY._replace(epochs=2, seed=1))
        assert another.losses != pytest.approx(done.losses, rel=1e-6)


def test_it_learns_what_npvae_learns(train: Train) -> None:
    """Weights, order and noise are drawn differently: over five seeds of each, ends within 1."""
    images = pictures(300)
    ours, theirs = our_losses(images, epochs=40), train(images, TINY._replace(epochs=40)).losses
    assert ours[-1] < 200
    assert theirs[-1] == pytest.approx(ours[-1], abs=2)


@pytest.mark.parametrize("train", ["torch"], indirect=True)
def test_pytorch_evaluates_after_each_epoch_if_asked(train: Train) -> None:
    images = pictures(300)
    done = train(images, TINY._replace(epochs=40), images)
    assert len(done.test_losses) == 40
    # On the training images themselves, and they change little in the last epochs.
    np.testing.assert_allclose(done.test_losses[30:-1], done.losses[31:], atol=2)


def test_the_products_take_some_time() -> None:
    done = baselines.products_epochs(pictures(100), baselines.Sizes(32, 8, epochs=2))
    assert len(done.seconds) == 2
    assert min(done.seconds) > 0


# ------------------------------------------------------------------ as a program


def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "error", "-m", "npvae.reference.timing.baselines", *arguments]
    return helpers.run(words, env=helpers.environment(**changes))


def write_idx(path: Path, images: baselines.Bytes) -> None:
    path.write_bytes(gzip.compress(idx_bytes(images)))


def test_images_come_from_idx_files_or_an_npz(tmp_path: Path) -> None:
    train, test = pictures(9), pictures(5)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", train)
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", test)
    np.savez(tmp_path / "one.npz", images=train)
    np.savez(
        tmp_path / "two.npz", x_train=train, y_train=np.zeros(9, int),
        x_test=test, y_test=np.zeros(5, int),
    )  # fmt: skip
    for path in (tmp_path, tmp_path / "two.npz"):
        for found, expected in zip(baselines.read_images(path), (train, test), strict=True):
            np.testing.assert_array_equal(np.asarray(found), expected)
    found, none = baselines.read_images(tmp_path / "one.npz")
    np.testing.assert_array_equal(found, train)
    assert none is None
    with pytest.raises(DataError):
        baselines.read_images(tmp_path / "nowhere.npz")


def test_the_program_prints_one_line_of_json(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=pictures(30))
    done = run(
        "products", "--batch-size", "32", "--hidden", "8", "--epochs", "3",
        "--data", str(tmp_path / "data.npz"), "--images", "70",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    result = json.loads(done.stdout)
    assert (result["program"], result["images"], result["batch_size"]) == ("products", 70, 32)
    assert len(result["seconds"]) == 3
    assert result["versions"] == {"numpy": np.__version__}


def test_the_program_runs_a_framework(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    name = train.__name__.removesuffix("_epochs")
    build = "2.13.0+cu130"  # what the usual torch of Linux says, whose metadata lack the last part
    monkeypatch.setattr(importlib.import_module(name), "__version__", build)
    baselines.main([name, "--hidden", "8", "--latent-dim", "2", "--epochs", "2", "--images", "100"])
    result = json.loads(capsys.readouterr().out)
    assert (result["program"], result["images"], result["latent_dim"]) == (name, 100, 2)
    assert len(result["seconds"]) == len(result["losses"]) == 2
    assert result["versions"][name] == build


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_missing_framework_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text(f"raise ImportError('No module named {name}')")
    done = run(name, "--images", "10", PYTHONPATH=f"{tmp_path}{os.pathsep}{helpers.ROOT}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"error: {name} is needed (No module named {name}): python -m pip install {name}"
    ]
