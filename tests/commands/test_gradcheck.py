"""gradcheck.py: what its options print, and the picture of --steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.commands import gradcheck
from npvae.commands.gradcheck_report import row, table
from npvae.core.errors import OptionError
from npvae.core.parameters import Array
from npvae.gradcheck import Check
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.reference.directions import check_directions
from npvae.reference.step_sizes import study
from npvae.reference.trace import random_example, trace, worked_example
from tests.helpers import digits, refused
from tests.test_worked_example import SECTION, STEPS, numbers

LAYERS = {"enc": "encoder.hidden0", "mu": "encoder.mu", "log_var": "encoder.log_var"}
LAYERS |= {"dec": "decoder.hidden0", "logits": "decoder.logits"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert gradcheck.main(arguments) == 0
    return capsys.readouterr().out


def test_only_some_rows(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--only", "reparameterize").splitlines()
    assert [line.split()[0] for line in lines if line][1:4] == ["reparameterize", "mu", "log_var"]
    assert lines[-1].startswith("all 2 right: 24 entries")
    assert run(capsys, "--only", "kl", "--quiet").startswith("all 2 right")
    with refused(OptionError, "no row of the table contains 'kl: z'"):
        gradcheck.main(["--only", "kl: z"])


def test_numbers_of_a_row_never_touch() -> None:
    for value in (-0.00062343, 5.7463e-05, -1.2345e-100, -12345.678):
        array = np.array([value])
        cells = row(Check("bce: logits", array, array)).split()
        assert len(cells) == 6, cells
        assert float(cells[-1]) == float(cells[-2]) == pytest.approx(value, rel=5e-3)


def test_the_trace_of_the_worked_example_is_that_of_the_tour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every number in the tables of "A VAE by hand", and in the same order."""
    out, places = run(capsys, "--trace"), []
    for cells in STEPS:
        name = cells[0].strip("`")
        if name.startswith("d_W_"):
            name = f"d {LAYERS[name.removeprefix('d_W_')]}.W"
        (found,) = re.finditer(rf"^{re.escape(name)} +\(.*?\)(.*(?:\n {{29}}.*)*)", out, re.M)
        assert numbers(found[1]) == pytest.approx(numbers(cells[3]), abs=1e-9), name
        places += [found.start()] if not name.startswith("d ") else []  # weights: after, there
    assert places == sorted(places)
    assert max(map(len, out.splitlines())) <= 60


def test_the_worked_example_is_the_code_of_the_tour() -> None:
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)Adam\(", SECTION, flags=re.DOTALL)[0], names)
    vae, x, epsilon = worked_example()
    np.testing.assert_array_equal(vae.parameters.flat, names["vae"].parameters.flat)
    np.testing.assert_array_equal(np.stack([x, x * 0 + epsilon]), [names["x"], [[1, 1]]])


def test_the_trace_of_a_random_batch(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "--trace", "random", "--seed", "3")
    assert out == run(capsys, "--trace", "random", "--seed", "3") != run(capsys, "--trace")
    assert max(map(len, out.splitlines())) <= 70


def test_the_random_network_lives() -> None:
    """Each image has units that are on and units that are off, in encoder and decoder."""
    for seed in range(10):
        forward, backward = trace(*random_example(seed))
        for side in ("enc", "dec"):
            assert set((forward[f"h_{side}"] > 0).sum(axis=1)) <= {1, 2}
            assert backward[f"d_y_{side}"].any(axis=1).all()


@pytest.mark.parametrize("example", [worked_example(), random_example(1)], ids=["worked", "random"])
def test_the_trace_leaves_nothing_out_and_adds_up(example: tuple[VAE, Array, Array]) -> None:
    vae, x, epsilon = example
    forward, backward = trace(*example)
    loss, gradients = vae.loss_and_gradients(x, epsilon)
    assert forward["loss"] == loss.total
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(backward[f"d {name}"], gradient)
    for name in ("d_mu", "d_log_var"):
        both = backward[f"{name} from pixels"] + backward[f"{name} from kl"]
        np.testing.assert_array_equal(backward[name], both)
    for side, layer in (("enc", "encoder"), ("dec", "decoder")):
        d_b = backward[f"d_y_{side}"].sum(axis=0)
        np.testing.assert_allclose(backward[f"d {layer}.hidden0.b"], d_b, rtol=1e-13)
    for name in ("logits", "h_dec", "z", "mu", "log_var", "h_enc", "x"):
        assert backward[f"d_{name}"].shape == forward[name].shape


def test_the_step_of_the_check_is_about_the_best() -> None:
    found = study()
    errors = found.errors["float64"]
    assert found.steps[errors.argmin()] == pytest.approx(1e-5)
    assert found.steps[found.errors["float32"].argmin()] == pytest.approx(1e-2)
    # Truncation falls with the square of the step; rounding is random, within a decade of theory.
    np.testing.assert_allclose(errors[:4], found.truncation[:4], rtol=0.1)
    ratio = errors[5:] / found.rounding["float64"][5:]
    assert ((ratio > 0.1) & (ratio < 10)).all()


def test_the_picture_of_the_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "--steps", "--out", str(tmp_path))
    assert "best step: 1e-05 in float64, 1e-02 in float32" in out
    with Image.open(tmp_path / "step-sizes-001.png") as picture:
        assert picture.size == (900, 620)
        colors = {color for _, color in picture.getcolors(10**6) or []}
    assert {(0, 114, 178), (213, 94, 0), (170, 170, 170)} <= colors


def directions(vae: VAE) -> list[Check]:
    images = digits(200, 60)[0][:8].reshape(8, -1) / 255
    return list(check_directions(vae, images, np.random.default_rng(0)))


def test_the_real_network_is_right_along_directions() -> None:
    vae = VAE()
    before = vae.parameters.copy()
    checks = directions(vae)
    assert [check.what for check in checks] == list(vae.parameters)
    assert all(check.passed and check.analytic.size == 4 for check in checks)
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


UNITS = ("encoder.hidden0.b", "decoder.hidden0.b")
DIED: dict[str, tuple[str, dict[str, float], str]] = {
    "at a kink": ("relu", {"decoder.hidden0.W": 0}, "decoder.hidden0.W"),
    "no kink": ("tanh", {"decoder.hidden0.W": 0}, ""),
    "flat": ("tanh", dict.fromkeys(UNITS, -18), ""),
    "dead": ("relu", dict.fromkeys(UNITS, -99), ""),
}


@pytest.mark.parametrize(("activation", "change", "red"), DIED.values(), ids=DIED)
def test_a_network_that_has_died_is_not_called_wrong(
    activation: str, change: dict[str, float], red: str
) -> None:
    """Its checks end, and say what is the matter."""
    vae = VAE(hidden_dims=(8,), activation=activation)
    vae.parameters |= change
    checks = directions(vae)
    wrong = [check for check in checks if not check.passed]
    assert [check.what for check in wrong] == ([red, f"{red[:-1]}b"] if red else [])
    assert all("at the kink of its activation" in check.hint for check in wrong)
    assert ("In 9 arrays every gradient is 0" in table(checks)) == (-99 in change.values())


@pytest.mark.parametrize("num_classes", [0, 3, 12])
def test_a_trained_network_is_right_too(
    num_classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The drawn digits have ten classes, the model none, fewer or more."""
    vae, adam, rng = VAE(num_classes=num_classes), Adam(), np.random.default_rng(0)
    x = digits(200, 60)[0][:50].reshape(50, -1) / 255
    c = vae.classes(np.arange(50, dtype=np.uint8) % max(1, num_classes))
    for _ in range(10):
        vae.loss_and_gradients(x, vae.noise(50, rng), c=c)
        adam.update(vae.parameters, vae.gradients)
    vae.save(tmp_path / "vae.npz")
    out = run(capsys, "--checkpoint", str(tmp_path / "vae.npz"))
    conditional = f", conditional on {num_classes} classes" if num_classes else ""
    assert out.startswith(f"784-128-10, relu, trained{conditional}: 8 drawn digits")
    assert "all 10 right: 40 entries" in out


def test_without_a_model_it_is_one_that_is_not_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "784-128-10, relu, not trained: 8 drawn digits" in run(capsys, "--network")


@pytest.mark.parametrize("name", ["encoder.hidden0.W", "decoder.logits.b"])
def test_a_wrong_gradient_of_the_real_network_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of an array is wrong by a thousandth."""
    right = VAE.backward

    def backward(self: VAE, *given: object) -> object:
        d = right(self, *given)  # type: ignore[arg-type]
        self.gradients[name][:400] *= 1.001
        return d

    monkeypatch.setattr(VAE, "backward", backward)
    assert gradcheck.main(["--network"]) == 1
    out = capsys.readouterr().out
    assert re.findall(r"^(\S+) .* WRONG$", out, re.M) == [name, name]  # in the table, and below it
    assert "1 of 10 WRONG: 40 entries" in out
