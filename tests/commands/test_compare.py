"""scripts/compare.py shows what differs between runs, and samples of the same codes."""

from __future__ import annotations

import io
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.commands import comparison
from npvae.commands.compare import main
from npvae.core.errors import CheckpointError, OutputError
from npvae.model import VAE
from npvae.plots.image_grid import to_uint8
from npvae.runs.run_directory import load_model
from npvae.storage import checkpoint
from tests.helpers import data_of, digits_file, drawn, refused, save_dataset, start, unchanged


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs."""
    folder = tmp_path_factory.mktemp("compare")
    digits_file(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NPVAE_BACKEND", "numpy")
        for name, latents, epochs, beta in (("a", 3, 2, 1.0), ("b", 5, 3, 1.0), ("c", 3, 2, 4.0)):
            start(f"runs/{name}", latent_dim=latents, epochs=epochs, beta=beta)
    return folder


@pytest.fixture(autouse=True)
def runs(template: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "runs").symlink_to(template / "runs")
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")


def test_the_table_holds_what_differs_and_the_losses(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["runs/a", "runs/b", "--out", "page.html"])
    said = capsys.readouterr().out
    head, a, b, *_ = (line.split() for line in said.splitlines())
    assert " ".join(head) == "run test loss test bce test kl bce + kl latent-dim epoch"
    assert ([a[0], *a[-2:]], [b[0], *b[-2:]]) == (["a", "3", "2"], ["b", "5", "3"])
    for row, name in ((a, "a"), (b, "b")):
        last = load_model(f"runs/{name}/last.npz")[1]["history"][-1]
        bce, kl = last["test_bce"], last["test_kl"]
        expected = [last["test_loss"], bce, kl, bce + kl]
        assert row[1:5] == [f"{loss:.2f}" for loss in expected]
    assert "hidden 8" in said
    assert "beta" not in said
    assert said.rstrip().endswith((here / "page.html").as_uri())
    main(["runs/a", "runs/c", "--out", "other.html"])
    assert "With different beta compare bce + kl" in capsys.readouterr().out


CAUTIONS: dict[str, dict[str, Any]] = {
    "no caution": {},
    "their losses are not the same quantity. Add log 10 = 2.30 nats": {"conditional": True},
    "different beta compare bce + kl": {"beta": 4.0},
    "full beta": {"kl_warmup": 1.0},
    "different data": {"dataset": "other.npz"},
    "use best.npz": {"validation": 20},
}


def test_losses_that_cannot_be_compared_are_named(here: Path) -> None:
    """Each caution where it belongs and nowhere else, and on the page, too."""
    train, test = drawn()
    labels = train.labels, test.labels
    save_dataset(here / "digits.npz", train.images, test.images, *labels)
    save_dataset(here / "other.npz", train.images, test.images[::-1], *labels)
    start("plain", epochs=1, seed=1)
    for number, (words, changed) in enumerate(CAUTIONS.items()):
        start(f"run{number}", **{"epochs": 1, **changed})
        main(["plain", f"run{number}", "--quiet", "--out", f"{number}.html"])
        same = data_of(Path(f"{number}.html"))["same"]
        assert [other for other in CAUTIONS if other in same] == ([words] if changed else [])
    shutil.copy("digits.npz", "moved.npz")  # the same bytes are the same data
    start("moved", "moved.npz", epochs=1, seed=2)
    assert "cannot be compared" not in comparison.Comparison.of(["plain", "moved"]).same


def test_the_page_holds_every_history_and_each_column_of_samples_is_one_code() -> None:
    """The model with fewer latents takes the first part of it."""
    main(["runs/a", "runs/b", "runs/c", "--quiet", "--out", "page.html", "--seed", "4"])
    data = data_of(Path("page.html"))
    assert data["columns"][:3] == ["test loss", "test bce", "test kl"]
    assert data["runs"][2]["values"][-1] == "latent-dim 3, beta 4, epoch 2"
    page = Path("page.html").read_text()
    assert "a model with fewer latents is given the first of them" in page
    z = np.random.default_rng(4).standard_normal((comparison.BANDS, comparison.SAMPLES, 5))
    for n, (run, name) in enumerate(zip(data["runs"], "abc", strict=True)):
        vae, header = load_model(f"runs/{name}/last.npz")
        assert (run["short"], run["history"]) == (name, header["history"])
        assert len(run["values"]) == len(data["columns"])
        x_hat = to_uint8(vae.decode(z[1, :, : vae.latent_dim]))
        with Image.open(io.BytesIO(b64decode(data["samples"][1][n]))) as picture:
            tiles = np.asarray(picture).reshape(30, comparison.SAMPLES, 30)
        np.testing.assert_array_equal(tiles[1:-1, 7, 1:-1], x_hat[7].reshape(28, 28))


def test_by_default_it_is_a_new_file_beside_the_runs(
    here: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").unlink()
    shutil.copytree(template / "runs", here / "runs")
    for _ in range(2):
        main(["runs/a", "runs/b", "--quiet"])
    paths = [f"runs/comparison-{number:03d}.html" for number in (1, 2)]
    assert capsys.readouterr().out.split() == paths
    with unchanged("runs"), refused(OutputError, "exists"):
        main(["runs/a", "runs/b", "--out", paths[0]])


def test_what_is_no_run_is_refused() -> None:
    VAE(784, (4,), 2).save("bare.npz")
    for name, words in (("bare.npz", "no history of its training"), ("nothing", "no nothing")):
        with refused(CheckpointError, words):
            main(["runs/a", name])


def test_runs_of_one_name_are_called_by_their_paths(template: Path) -> None:
    Path("more").mkdir()
    Path("more", "a").symlink_to(template / "runs" / "c")
    found = comparison.Comparison.of(["runs/a", "more/a"])
    assert [run.short for run in found.runs] == ["runs/a", "more/a"]


def test_runs_of_an_earlier_best_epoch_or_of_an_earlier_version() -> None:
    """Histories are whole all the same, and a setting that was not there had its default."""
    shutil.copytree("runs/a", "kept")
    header, arrays = checkpoint.load("kept/last.npz")
    checkpoint.save("kept/best.npz", {**header, "history": header["history"][:1]}, arrays)
    settings = {name: value for name, value in header["settings"].items() if name != "augment"}
    checkpoint.save("kept/last.npz", {**header, "settings": settings}, arrays)
    found = comparison.Comparison.of(["kept", "runs/a"])
    assert [len(run.history) for run in found.runs] == [2, 2]
    assert "augment" not in found.columns
