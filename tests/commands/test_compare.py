"""scripts/compare.py shows what differs between runs, and samples of the same codes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.commands import comparison
from npvae.commands.compare import main
from npvae.commands.training_run import start
from npvae.core.errors import CheckpointError, OutputError
from npvae.datasets.drawn_digits import drawn_digits
from npvae.model import VAE
from npvae.plots.image_grid import to_uint8
from npvae.runs.run_directory import load_model
from npvae.settings import Settings
from npvae.storage import checkpoint
from tests.helpers import digits_file, full_disk

SMALL = Settings("digits.npz", hidden_dims=(8,), epochs=2, batch_size=50, pictures_every=0)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs."""
    folder = tmp_path_factory.mktemp("compare")
    digits_file(folder, 200, 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, latents, epochs, beta in (("a", 3, 2, 1.0), ("b", 5, 3, 1.0), ("c", 3, 2, 4.0)):
            changed = {"latent_dim": latents, "epochs": epochs, "beta": beta}
            start(Settings(**{**SMALL.__dict__, **changed}), None, f"runs/{name}", quiet=True)
    return folder


@pytest.fixture
def here(template: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "runs").symlink_to(template / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data_of(page: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(found)


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
        expected = [last["test_loss"], last["test_bce"], last["test_kl"]]
        assert row[1:4] == [f"{loss:.2f}" for loss in expected]
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


def test_losses_that_cannot_be_compared_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each caution where it belongs and nowhere else, and on the page, too."""
    monkeypatch.chdir(tmp_path)
    train, test = drawn_digits(train=200, test=60)
    labels: dict[str, Any] = {"y_train": train.labels, "y_test": test.labels}
    np.savez("digits.npz", x_train=train.images, x_test=test.images, **labels)
    np.savez("other.npz", x_train=train.images, x_test=test.images[::-1], **labels)
    small = replace(SMALL, epochs=1)
    start(replace(small, seed=1), None, "plain", quiet=True)
    for number, (words, changed) in enumerate(CAUTIONS.items()):
        start(replace(small, **changed), None, f"run{number}", quiet=True)
        main(["plain", f"run{number}", "--quiet", "--out", f"{number}.html"])
        same = data_of(Path(f"{number}.html").read_text())["same"]
        assert [other for other in CAUTIONS if other in same] == ([words] if changed else [])
    shutil.copy("digits.npz", "moved.npz")  # the same bytes are the same data
    start(replace(small, dataset="moved.npz", seed=2), None, "moved", quiet=True)
    assert "cannot be compared" not in comparison.Comparison.of(["plain", "moved"]).same


def test_the_page_holds_every_history(here: Path) -> None:
    main(["runs/a", "runs/b", "runs/c", "--quiet", "--out", "page.html"])
    data = data_of(Path("page.html").read_text())
    for run, name in zip(data["runs"], "abc", strict=True):
        assert run["short"] == name
        assert run["history"] == load_model(f"runs/{name}/last.npz")[1]["history"]
        assert len(run["values"]) == len(data["columns"])
    assert data["columns"][:3] == ["test loss", "test bce", "test kl"]
    assert data["runs"][2]["values"][-1] == "latent-dim 3, beta 4, epoch 2"


def test_each_column_of_samples_is_one_code(here: Path) -> None:
    """The model with fewer latents takes the first part of it."""
    main(["runs/a", "runs/b", "--quiet", "--out", "page.html", "--seed", "4"])
    page = Path("page.html").read_text()
    assert "a model with fewer latents is given the first of them" in page
    bands = data_of(page)["samples"]
    z = np.random.default_rng(4).standard_normal((comparison.BANDS, comparison.SAMPLES, 5))
    for n, (run, latents) in enumerate((("a", 3), ("b", 5))):
        vae, _ = load_model(f"runs/{run}/last.npz")
        x_hat = to_uint8(vae.decode(z[1, :, :latents]))
        with Image.open(io.BytesIO(b64decode(bands[1][n]))) as picture:
            tiles = np.asarray(picture).reshape(30, comparison.SAMPLES, 30)
        np.testing.assert_array_equal(tiles[1:-1, 7, 1:-1], x_hat[7].reshape(28, 28))


def test_by_default_it_is_a_new_file_beside_the_runs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        main(["runs/a", "runs/b", "--quiet"])
        path = Path(capsys.readouterr().out.strip())
        assert path.name == f"comparison-{number:03d}.html"
        assert path.parent.resolve() == Path("runs").resolve()
    with pytest.raises(OutputError, match="exists"):
        main(["runs/a", "runs/b", "--out", str(path)])
    for made in Path("runs").glob("*.html"):
        made.unlink()


def test_no_trace_of_a_page_that_could_not_be_written(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        main(["runs/a", "runs/b", "--out", "page.html"])
    assert not Path("page.html").exists()


def test_what_is_no_run_is_refused(here: Path) -> None:
    VAE(784, (4,), 2).save("bare.npz")
    with pytest.raises(CheckpointError, match="no history of its training"):
        main(["runs/a", "bare.npz"])
    with pytest.raises(CheckpointError, match="nothing"):
        main(["runs/a", "nothing"])
    with pytest.raises(SystemExit, match="2"):
        main(["runs/a"])


def test_runs_of_one_name_are_called_by_their_paths(here: Path) -> None:
    (here / "more").mkdir()
    (here / "more" / "a").symlink_to((here / "runs" / "c").resolve())
    found = comparison.Comparison.of(["runs/a", "more/a"])
    assert [run.short for run in found.runs] == ["runs/a", "more/a"]


def test_histories_are_whole_even_if_an_earlier_epoch_was_the_best(here: Path) -> None:
    (here / "kept").mkdir()
    shutil.copy("runs/a/last.npz", "kept/last.npz")
    header, arrays = checkpoint.load("runs/a/last.npz")
    checkpoint.save("kept/best.npz", {**header, "history": header["history"][:1]}, arrays)
    found = comparison.Comparison.of(["kept", "runs/a"])
    assert [len(run.history) for run in found.runs] == [2, 2]


def test_a_setting_that_is_younger_than_a_run_had_its_default(here: Path) -> None:
    (here / "old").mkdir()
    header, arrays = checkpoint.load("runs/a/last.npz")
    settings = {name: value for name, value in header["settings"].items() if name != "augment"}
    checkpoint.save("old/last.npz", {**header, "settings": settings}, arrays)
    assert "augment" not in comparison.Comparison.of(["old", "runs/a"]).columns
