"""scripts/generate.py explorer writes one page, with one or more models that share a test set."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npvae import losses
from npvae.commands.generate import main
from npvae.commands.training_run import start
from npvae.core.errors import CheckpointError, OptionError, OutputError
from npvae.datasets.dataset import fingerprint
from npvae.datasets.drawn_digits import drawn_digits
from npvae.layers import ACTIVATIONS
from npvae.model import VAE
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.helpers import data_of, digits_file, full_disk, run_script

pytestmark = pytest.mark.usefixtures("here")

TRAIN, TEST = drawn_digits(train=100, test=40)


def save_run(
    folder: str,
    epoch: int = 3,
    beta: float = 1.0,
    images: int = 40,
    latent_dim: int = 2,
    num_classes: int = 0,
    activation: str = "relu",
) -> Path:
    """A run in runs/ of the current folder, and its dataset, of the first test images."""
    dataset = Path(f"digits{images}.npz")
    np.savez(
        dataset,
        x_train=TRAIN.images,
        y_train=TRAIN.labels,
        x_test=TEST.images[:images],
        y_test=TEST.labels[:images],
    )
    test = replace(TEST, images=TEST.images[:images])
    rng = np.random.default_rng(epoch)
    vae = VAE(784, (8,), latent_dim, activation, rng=rng, num_classes=num_classes)
    about = {
        "model": vae.settings,
        "settings": {"beta": beta, "seed": 0},
        "data": {"name": str(dataset), **fingerprint(TRAIN, test)},
        "epoch": epoch,
    }
    path = Path("runs", folder, "last.npz")
    path.parent.mkdir(parents=True)
    checkpoint.save(path, about, vae.parameters)
    return path.parent


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    run = save_run("one")
    process = run_script("generate.py", "explorer", cwd=tmp_path)
    assert process.returncode == 0
    assert process.stderr == ""
    page = tmp_path / run / "explorer.html"
    assert page.as_uri() in process.stdout
    (model,) = data_of(page)["models"]
    assert model["name"] == "digits40.npz, z = 2, epoch 3"


def test_the_page_of_a_run_is_replaced_by_a_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    page = save_run("one") / "explorer.html"
    page.write_text("somebody's own")
    with pytest.raises(OutputError, match="it is not a page of ours"):
        main(["explorer", "--quiet"])
    assert page.read_text() == "somebody's own"
    page.unlink()
    main(["explorer", "--quiet"])
    assert capsys.readouterr().out == f"{page}\n"
    first = page.read_bytes()
    page.write_bytes(first + b"old")
    main(["explorer", "--quiet"])
    assert page.read_bytes() == first


@pytest.mark.parametrize("out", ["new.html", "folder/new.html", "folder"])
def test_out_is_a_new_file_or_a_folder(out: str) -> None:
    run = save_run("one")
    main(["explorer", "--quiet", "--out", out])
    page = Path(out) if out.endswith("html") else Path(out, "explorer.html")
    before = page.read_bytes()
    assert data_of(page)["models"]
    with pytest.raises(OutputError, match="never overwritten"):
        main(["explorer", "--quiet", "--out", out])
    assert page.read_bytes() == before
    assert not (run / "explorer.html").exists()


def test_where_nothing_can_be_written() -> None:
    save_run("one")
    Path("file").write_text("")
    with pytest.raises(OutputError, match="no page can be written"):
        main(["explorer", "--quiet", "--out", "file/page.html"])


def test_no_trace_of_a_page_that_could_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    save_run("one")
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        main(["explorer", "--quiet", "--out", "page.html"])
    assert not Path("page.html").exists()


def test_models_are_named_by_what_differs() -> None:
    runs = [save_run("a", 1, 0.0), save_run("b", 1, 4.0), save_run("c", 5, 4.0, latent_dim=3)]
    chosen = [word for run in runs for word in ("--checkpoint", str(run))]
    main(["explorer", "--quiet", *chosen, "--examples", "none"])
    models = data_of(runs[0] / "explorer.html")["models"]
    expected = ["epoch 1, beta 0, z 2", "epoch 1, beta 4, z 2", "epoch 5, beta 4, z 3"]
    assert [model["short"] for model in models] == expected
    assert models[1]["name"] == "digits40.npz, z = 2, epoch 1, beta 4"
    assert [model["latent_dim"] for model in models] == [2, 2, 3]


def test_conditional_models_and_others_share_a_page() -> None:
    runs = [save_run("a", num_classes=10), save_run("b")]
    chosen = [word for run in runs for word in ("--checkpoint", str(run))]
    main(["explorer", "--quiet", *chosen])
    models = data_of(runs[0] / "explorer.html")["models"]
    assert [model["short"] for model in models] == ["conditional", "unconditional"]
    assert models[0]["name"] == "digits40.npz, z = 2, epoch 3, conditional"
    assert [model["classes"] for model in models] == [10, 0]


def test_a_conditional_model_needs_the_labels_of_the_others() -> None:
    """Labels that differ matter to it alone."""
    plain, conditional = save_run("a"), save_run("b", num_classes=10)
    np.savez("unlabelled.npz", x_train=TRAIN.images, x_test=TEST.images, y_train=TRAIN.labels * 0)
    header, arrays = checkpoint.load(plain / "last.npz")
    header["data"]["name"] = "unlabelled.npz"
    checkpoint.save(plain / "last.npz", header, arrays)
    chosen = ["--checkpoint", str(plain), "--checkpoint", str(conditional)]
    with pytest.raises(OptionError, match="different test labels"):
        main(["explorer", "--quiet", *chosen])
    assert not (plain / "explorer.html").exists()
    main(["explorer", "--quiet", *chosen[:2], "--checkpoint", str(save_run("c"))])


def test_training_keeps_some_epochs_and_writes_the_page_that_shows_them() -> None:
    """`explorer` shows them, too, unless a checkpoint is named."""
    digits_file(Path())
    settings = Settings("digits.npz", hidden_dims=(8,), epochs=6, latent_dim=2)
    start(settings, None, "runs/a", quiet=True)
    page = Path("runs/a/explorer.html")
    for _ in range(2):
        shown = [model["short"] for model in data_of(page)["models"]]
        assert shown == [f"epoch {n}" for n in (1, 2, 5, 6)]
        assert "explorer.html" in Path("runs/a/report.html").read_text()
        main(["explorer", "--quiet"])
    main(["explorer", "--quiet", "--checkpoint", "runs/a/epoch2.npz", "--out", "one.html"])
    (model,) = data_of(Path("one.html"))["models"]
    assert model["name"].endswith("epoch 2")
    start(replace(settings, epochs=1, pictures_every=0), None, "plain", quiet=True)
    assert not {"epoch1.npz", "explorer.html"} & set(os.listdir("plain"))


def test_models_without_a_difference_are_named_by_their_folders() -> None:
    runs = [save_run("a"), save_run("b")]
    main(["explorer", "--quiet", "--checkpoint", str(runs[0]), "--checkpoint", str(runs[1])])
    assert [model["short"] for model in data_of(runs[0] / "explorer.html")["models"]] == [
        str(run) for run in runs
    ]


def test_what_cannot_share_a_page() -> None:
    runs = [save_run("a"), save_run("b", images=30)]
    chosen = [word for run in runs for word in ("--checkpoint", str(run))]
    with pytest.raises(OptionError, match="different test images"):
        main(["explorer", "--quiet", *chosen])
    assert not (runs[0] / "explorer.html").exists()
    main(["explorer", "--quiet", *chosen, "--dataset", "digits40.npz"])
    assert len(data_of(runs[0] / "explorer.html")["models"]) == 2


def test_a_model_of_other_images_is_refused() -> None:
    run = Path("runs/small")
    run.mkdir(parents=True)
    vae = VAE(100, (4,), 2)
    checkpoint.save(run / "last.npz", {"model": vae.settings}, vae.parameters)
    with pytest.raises(CheckpointError, match="100 pixels"):
        main(["explorer", "--quiet", "--checkpoint", str(run)])


def test_an_activation_by_hand_is_named_by_what_does_not_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody adds one to layers.py, trains, and takes it back."""
    monkeypatch.setitem(ACTIVATIONS, "swish", ACTIVATIONS["tanh"])
    digits_file(Path())
    own = Settings("digits.npz", hidden_dims=(8,), activation="swish", epochs=1)
    start(own, None, "own", quiet=True)
    assert not Path("own/explorer.html").exists()
    run = save_run("swish", activation="swish")
    with pytest.raises(OptionError, match="cannot compute the activation swish, which"):
        main(["explorer", "--quiet", "--checkpoint", str(run)])
    assert not (run / "explorer.html").exists()
    monkeypatch.delitem(ACTIVATIONS, "swish")
    with pytest.raises(CheckpointError, match="does not know:\nactivation must be one of"):
        main(["explorer", "--quiet", "--checkpoint", str(run)])


def test_a_page_of_a_changed_lesson_says_what_it_does_not_compute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(losses, "kl_divergence", lambda mu, log_var: 0 * mu.sum(axis=1))
    main(["explorer", "--checkpoint", str(save_run("a"))])
    assert "engine computes: kl_divergence. The page computes what" in capsys.readouterr().out
