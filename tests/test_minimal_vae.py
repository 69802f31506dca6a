"""The one-page program computes what the package computes, stays on its page, and runs alone."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae import VAE, Adam
from tests.datasets.own import idx_bytes
from tests.helpers import ROOT, digits, run_script

PAGE = ROOT / "scripts" / "minimal_vae.py"
EXACT = 1e-12  # relative, in float64: sums of up to 784 terms in another order, eps = 2.2e-16


@pytest.fixture(scope="module")
def page() -> Any:
    """The program as a module; its last part, which trains, does not run."""
    spec = importlib.util.spec_from_file_location("minimal_vae", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_one_page_of_numpy() -> None:
    source = PAGE.read_text()
    assert len(source.splitlines()) <= 120
    imported: set[str | None] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported - set(sys.stdlib_module_names) == {"numpy", "PIL"}


def test_losses_gradients_and_adam_steps_are_those_of_the_package(page: Any) -> None:
    """The same weights, batches and noise: five steps of both, side by side."""
    rng = np.random.default_rng(0)
    vae, optimizer = VAE(784, (128,), 10, dtype=np.float64, rng=rng), Adam()
    for theta in vae.parameters.values():
        theta += rng.normal(0, 0.05, theta.shape)  # no bias is zero
    parameters = [theta.copy() for theta in vae.parameters.values()]
    moments = [(np.zeros_like(theta), np.zeros_like(theta)) for theta in parameters]
    images = digits(160, 10)[0].reshape(-1, 784) / 255

    for t, x in enumerate(np.split(images, 5), start=1):
        epsilon = rng.standard_normal((len(x), 10))
        loss, expected = vae.loss_and_gradients(x, epsilon)
        bce, kl, gradients = page.loss_and_gradients(parameters, x, epsilon)
        assert bce == pytest.approx(loss.bce, rel=EXACT)
        assert kl == pytest.approx(loss.kl, rel=EXACT)
        for found, (name, gradient) in zip(gradients, expected.items(), strict=True):
            allowed = EXACT * np.abs(gradient).max()
            np.testing.assert_allclose(found, gradient, rtol=0, atol=allowed, err_msg=name)

        optimizer.update(vae.parameters, expected)
        page.adam(parameters, gradients, moments, t)
        for found, (name, theta) in zip(parameters, vae.parameters.items(), strict=True):
            np.testing.assert_allclose(found, theta, rtol=EXACT, atol=EXACT, err_msg=name)


def test_it_begins_as_the_package_does(page: Any) -> None:
    """Glorot-uniform weights of the same shapes, zero biases, in float32."""
    vae = VAE()
    for theta, (name, ours) in zip(
        page.initialize(np.random.default_rng(0)), vae.parameters.items(), strict=True
    ):
        assert (theta.shape, theta.dtype) == (ours.shape, ours.dtype), name
        # Both are uniform between the same limits; of 1,280 or more numbers the largest is close.
        assert np.abs(theta).max() == pytest.approx(np.abs(ours).max(), rel=0.02), name


def test_it_learns_the_shapes_it_draws(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    shapes = page.draw_shapes(rng, 1200)
    assert shapes.shape == (1200, 784)
    assert shapes.dtype == np.float32
    assert shapes.min() == 0
    assert shapes.max() == 1
    assert len(np.unique(shapes, axis=0)) == 1200

    page.train(shapes[:1000], shapes[1000:], rng, epochs=10, batch_size=50)
    losses = [float(line.split("=")[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 10
    # What the mean picture costs, which takes no latent codes: see the guided tour.
    mean = shapes[:1000].mean(axis=0, dtype=float).clip(1e-3, 1 - 1e-3)
    x = shapes[1000:]
    no_latent = -np.mean(np.sum(x * np.log(mean) + (1 - x) * np.log(1 - mean), axis=1))
    assert losses[-1] < 0.6 * no_latent


@pytest.fixture
def data(here: Path) -> Path:
    """Two IDX files, one of them compressed, where $NPVAE_DATA_DIR would have them."""
    folder, (train, test) = here / "fashion-mnist", digits(200, 60)
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(train))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(test)))
    return folder


def test_it_runs_alone_on_idx_files_and_draws_a_picture(data: Path, page: Any) -> None:
    for name, images in zip(("train", "t10k"), digits(200, 60), strict=True):
        read = page.read_images(data / f"{name}-images-idx3-ubyte")
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, images.reshape(-1, 784) / 255, rtol=1e-6)
    done = run_script(PAGE.name, data, cwd=data.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 20
    assert done.stdout.splitlines()[-1].startswith("epoch 20: test bce ")
    with Image.open("minimal_vae.png") as image:
        assert (image.size, image.mode) == ((840, 420), "L")
        extrema: Any = image.getextrema()
        assert extrema[1] > 100  # something is on it


def test_it_finds_its_data_and_without_pillow_there_is_no_picture(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NPVAE_DATA_DIR", str(data.parent))
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setattr(sys, "argv", [str(PAGE)])
    runpy.run_path(str(PAGE), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 20
    assert not list(data.parent.glob("*.png"))


def test_a_folder_that_was_named_is_not_replaced(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(PAGE), str(here / "not-there")])
    with pytest.raises(FileNotFoundError, match="not-there"):
        runpy.run_path(str(PAGE), run_name="__main__")
    assert capsys.readouterr().out == ""
