"""scripts/generate.py explorer writes one page, with one or more models that share a test set."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import losses
from npvae.commands.generate import main
from npvae.core.errors import CheckpointError, OptionError, OutputError
from npvae.datasets.dataset import fingerprint
from npvae.layers import ACTIVATIONS
from npvae.model import VAE
from npvae.storage import checkpoint
from tests.helpers import data_of, drawn, refused, resume, save_dataset, start, unchanged

TRAIN, TEST = drawn()


@pytest.fixture(autouse=True)
def lesson(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")


def save_run(
    folder: str = "a", epoch: int = 3, beta: float = 1.0, images: int = 60, **model: Any
) -> Path:
    """A run in runs/ of the current folder, and its dataset, of the first test images."""
    test = replace(TEST, images=TEST.images[:images], labels=TEST.labels[:images])
    data = f"digits{images}.npz"
    save_dataset(Path(data), TRAIN.images, test.images, TRAIN.labels, test.labels)
    rng = np.random.default_rng(epoch)
    vae = VAE(**{"hidden_dims": (8,), "latent_dim": 2, "rng": rng, **model})
    settings = {"beta": beta, "seed": 0}
    about = {"model": vae.settings, "settings": settings, "epoch": epoch}
    about["data"] = {"name": data, **fingerprint(TRAIN, test)}
    path = Path("runs", folder, "last.npz")
    path.parent.mkdir(parents=True)
    checkpoint.save(path, about, vae.parameters)
    return path.parent


def explorer(*runs: Path, more: str = "") -> Path:
    """The page of these runs, or of the newest one."""
    chosen = [word for run in runs for word in ("--checkpoint", str(run))]
    main(["explorer", "--quiet", *chosen, *more.split()])
    return (runs[0] if runs else Path("runs/a")) / "explorer.html"


def test_the_page_of_a_run_is_replaced_by_a_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    page = save_run() / "explorer.html"
    page.write_text("somebody's own")
    with unchanged("."), refused(OutputError, "it is not a page of ours"):
        explorer()
    page.unlink()
    explorer()
    assert capsys.readouterr().out == f"{page}\n"
    first = page.read_bytes()
    page.write_bytes(first + b"old")
    main(["explorer"])
    assert page.resolve().as_uri() in capsys.readouterr().out
    assert page.read_bytes() == first


@pytest.mark.parametrize("out", ["new.html", "folder/new.html", "folder"])
def test_out_is_a_new_file_or_a_folder(out: str) -> None:
    run = save_run()
    explorer(more=f"--out {out}")
    page = Path(out) if out.endswith("html") else Path(out, "explorer.html")
    assert data_of(page)["models"]
    with unchanged("."), refused(OutputError, "never overwritten"):
        explorer(more=f"--out {out}")
    assert not (run / "explorer.html").exists()


BETA_4: dict[str, Any] = {"epoch": 1, "beta": 4.0}
# The models of a page: what each is called beside the others, and the name of the first.
NAMES: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "settings": (
        [BETA_4, {"epoch": 1, "beta": 0.0}, {**BETA_4, "epoch": 5, "latent_dim": 3}],
        ["epoch 1, beta 4, z 2", "epoch 1, beta 0, z 2", "epoch 5, beta 4, z 3"],
        "digits60.npz, z = 2, epoch 1, beta 4",
    ),
    "classes": (
        [{"num_classes": 10}, {}],
        ["conditional", "unconditional"],
        "digits60.npz, z = 2, epoch 3, conditional",
    ),
    "folders": ([{}, {}], ["runs/0", "runs/1"], "digits60.npz, z = 2, epoch 3, runs/0"),
    "one": ([{}], [""], "digits60.npz, z = 2, epoch 3"),
}


@pytest.mark.parametrize(("models", "short", "name"), NAMES.values(), ids=NAMES)
def test_models_are_named_by_what_differs(
    models: list[dict[str, Any]], short: list[str], name: str
) -> None:
    runs = [save_run(str(k), **model) for k, model in enumerate(models)]
    found = data_of(explorer(*runs, more="--examples none"))["models"]
    assert [model["short"] for model in found] == short
    assert found[0]["name"] == name
    for key, default in (("latent_dim", 2), ("classes", 0)):
        asked = [model.get(key.replace("classes", "num_classes"), default) for model in models]
        assert [model[key] for model in found] == asked


def test_models_of_other_test_images_cannot_share_a_page() -> None:
    runs = save_run("a"), save_run("b", images=30)
    with unchanged("."), refused(OptionError, "different test images"):
        explorer(*runs)
    assert len(data_of(explorer(*runs, more="--dataset digits60.npz"))["models"]) == 2


def test_a_conditional_model_needs_the_labels_of_the_others() -> None:
    """Labels that differ matter to it alone."""
    plain, other, conditional = save_run("a"), save_run("b"), save_run("c", num_classes=10)
    save_dataset(Path("unlabelled.npz"), TRAIN.images, TEST.images)  # every class is 0
    header, arrays = checkpoint.load(plain / "last.npz")
    header["data"]["name"] = "unlabelled.npz"
    checkpoint.save(plain / "last.npz", header, arrays)
    with unchanged("."), refused(OptionError, "different test labels"):
        explorer(plain, conditional)
    explorer(plain, other)


def test_training_keeps_some_epochs_and_writes_the_page_that_shows_them() -> None:
    """`explorer` shows them, too, unless a checkpoint is named."""
    run = Path("runs/a")

    def shown() -> list[str]:
        return [model["short"] for model in data_of(run / "explorer.html")["models"]]

    save_dataset(Path("digits.npz"), TRAIN.images, TEST.images)
    start(run, epochs=5, latent_dim=2, pictures_every=5)
    assert shown() == ["epoch 1", "epoch 2", "epoch 5"]
    assert "explorer.html" in (run / "report.html").read_text()
    explorer()
    assert shown() == ["epoch 1", "epoch 2", "epoch 5"]
    resume(run, epochs=6)
    assert shown() == ["epoch 1", "epoch 2", "epoch 5", "epoch 6"]
    assert sorted(run.glob("epoch*")) == [run / f"epoch{n}.npz" for n in (1, 2, 5)]
    explorer(run / "epoch2.npz", more="--out one.html")
    (model,) = data_of(Path("one.html"))["models"]
    assert model["name"].endswith("epoch 2")
    start("plain", epochs=1)
    assert not {"epoch1.npz", "explorer.html"} & set(os.listdir("plain"))


def test_an_activation_by_hand_is_named_by_what_does_not_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody adds one to layers.py, trains, and takes it back."""
    monkeypatch.setitem(ACTIVATIONS, "swish", ACTIVATIONS["tanh"])
    save_dataset(Path("digits.npz"), TRAIN.images, TEST.images)
    start("own", epochs=1, activation="swish", pictures_every=1)
    assert not Path("own/explorer.html").exists()
    save_run(activation="swish")
    with unchanged("."), refused(OptionError, "cannot compute the activation swish, which"):
        explorer()
    monkeypatch.delitem(ACTIVATIONS, "swish")
    with refused(CheckpointError, "does not know:\nactivation must be one of"):
        explorer()


def test_a_page_of_a_changed_lesson_says_what_it_does_not_compute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(losses, "kl_divergence", lambda mu, log_var: 0 * mu.sum(axis=1))
    save_run()
    main(["explorer"])
    assert "engine computes: kl_divergence. The page computes what" in capsys.readouterr().out
