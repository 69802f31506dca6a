"""The programs that npvae is timed against compute what it computes, and leave no image out.

They are never timed here.
"""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Adam
from npvae.core.errors import DataError
from npvae.reference.timing import baselines
from tests.datasets.own import idx_bytes
from tests.helpers import Bytes, save_dataset

SIZES = baselines.Sizes(batch_size=32, hidden=64, latent_dim=3, epochs=40)


@pytest.fixture(params=["torch", "jax"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A framework that is installed."""
    # JAX would compile for longer than it trains.
    passes = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    monkeypatch.setenv("XLA_FLAGS", passes)
    framework = pytest.importorskip(request.param, reason=f"the rival needs {request.param}")
    if request.param == "torch":
        framework.set_num_threads(1)  # two threads on a busy machine wait for each other
    return request.param


def pictures(count: int) -> Bytes:
    """Images (count, 28, 28) of five kinds, each 7 x 7 blocks of black or white, with noise."""
    rng = np.random.default_rng(0)
    kinds = np.kron(rng.choice([0, 230], (5, 7, 7)), np.ones((4, 4), int))
    noise = rng.integers(0, 26, (count, 28, 28))
    return (kinds[rng.integers(0, 5, count)] + noise).astype(np.uint8)


def our_losses(images: Bytes) -> list[float]:
    """What training with npvae gives, in the plainest of loops."""
    rng, pixels = np.random.default_rng(0), images.reshape(len(images), -1) / 255
    vae, adam = VAE(784, (SIZES.hidden,), SIZES.latent_dim, rng=rng), Adam()
    losses = []
    for _ in range(SIZES.epochs):
        total = 0.0
        rows = rng.permutation(len(images))
        for first in range(0, len(images), SIZES.batch_size):
            x = pixels[rows[first : first + SIZES.batch_size]]
            epsilon = rng.standard_normal((len(x), SIZES.latent_dim))
            loss, gradients = vae.loss_and_gradients(x, epsilon)
            adam.update(vae.parameters, gradients)
            total += loss.loss * len(x)
        losses.append(total / len(images))
    return losses


def test_it_learns_what_npvae_learns_and_leaves_no_image_out(name: str) -> None:
    """Weights, order and noise are drawn differently. Over four seeds of each, the first epoch has
    536 to 541, and 22 less without the last, short batch; the last one has 165.8 to 166.9.
    """
    images, train = pictures(300), baselines.PROGRAMS[name][0]
    done = train(images, SIZES, images) if name == "torch" else train(images, SIZES)
    assert len(done.losses) == len(done.seconds) == SIZES.epochs
    assert min(done.seconds) > 0
    ours = our_losses(images)
    assert done.losses[0] == pytest.approx(ours[0], abs=8)
    assert done.losses[-1] == pytest.approx(ours[-1], abs=2)
    # On the training images themselves, and they change little in the last epochs.
    tests = done.losses[31:] if name == "torch" else []
    np.testing.assert_allclose(done.test_losses[30:-1], tests, atol=2)


def test_the_program_runs_a_framework(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing but a short batch, of 100 images: a coin flip for each pixel costs 543.4."""
    build = "2.13.0+cu130"  # what the usual torch of Linux says, whose metadata lack the last part
    monkeypatch.setattr(importlib.import_module(name), "__version__", build)
    words = [name, "--hidden", "8", "--latent-dim", "2", "--epochs", "2", "--images", "100"]
    losses = []
    for seed in "01":
        baselines.main([*words, "--seed", seed])
        result = json.loads(capsys.readouterr().out)
        assert (result["program"], result["images"], result["latent_dim"]) == (name, 100, 2)
        assert (len(result["seconds"]), result["versions"][name]) == (2, build)
        assert result["losses"] == [pytest.approx(543.4 + 5, abs=15)] * 2
        losses.append(result["losses"])
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_a_missing_framework_is_said_in_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit) as end:
        baselines.main([name, "--images", "10"])
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {name} is needed (import of {name} halted")
    assert said.err.endswith(f"): python -m pip install {name}\n")
    assert said.err.count("\n") == 1


def test_images_come_from_idx_files_or_an_npz(tmp_path: Path) -> None:
    train, test = pictures(9), pictures(5)
    for part, images in (("train", train), ("t10k", test)):
        content = gzip.compress(idx_bytes(images))
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(content)
    np.savez(tmp_path / "one.npz", images=train)
    for path in (tmp_path, save_dataset(tmp_path / "two.npz", train, test)):
        for found, expected in zip(baselines.read_images(path), (train, test), strict=True):
            np.testing.assert_array_equal(np.asarray(found), expected)
    found, none = baselines.read_images(tmp_path / "one.npz")
    np.testing.assert_array_equal(found, train)
    assert none is None
    with pytest.raises(DataError):
        baselines.read_images(tmp_path / "nowhere.npz")
