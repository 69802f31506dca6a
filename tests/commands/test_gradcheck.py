"""gradcheck.py: what its options print, and the picture of --steps."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.commands import gradcheck
from npvae.core.errors import OptionError
from npvae.gradcheck import TOLERANCE, Check
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.reference.directions import check_directions
from npvae.reference.step_sizes import study
from npvae.reference.trace import random_example, trace, worked_example
from npvae.runs.fit import fit
from tests.helpers import digits

TOUR = {  # the worked example of the guided tour, done by hand
    "h_enc": [1],
    "mu": [0.5],
    "log_var": [-1.3863],
    "sigma": [0.5],
    "z": [1],
    "h_dec": [1],
    "logits": [2, -1],
    "x_hat": [0.8808, 0.2689],
    "bce": [0.4402],
    "kl": [0.4431],
    "loss": [0.8833],
    "d_logits": [-0.1192, 0.2689],
    "d_h_dec": [-0.5073],
    "d_z": [-0.5073],
    "d_mu": [-0.0073],
    "d_log_var": [-0.5018],
    "d_h_enc": [0.6920],
    "d encoder.hidden0.W": [0.6920, 0],
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert gradcheck.main(arguments) == 0
    return capsys.readouterr().out


def test_only_some_rows(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--only", "reparameterize").splitlines()
    assert [line.split(":")[0] for line in lines[1:3]] == ["reparameterize"] * 2
    assert lines[3].startswith("all 2 right: 24 entries")
    assert run(capsys, "--only", "kl", "--quiet").startswith("all 2 right")
    with pytest.raises(OptionError, match="no row of the table contains 'relu vae'"):
        gradcheck.main(["--only", "relu vae"])


# ------------------------------------------------------------------ the trace


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.\d{4}\b", text)]


def test_the_trace_of_the_worked_example_is_that_of_the_tour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = run(capsys, "--trace")
    for name, expected in TOUR.items():
        (found,) = re.findall(rf"^{re.escape(name)} +\(.*?\)(.*(?:\n {{29}}.*)*)", out, re.M)
        assert numbers(found) == pytest.approx(expected, abs=1e-9), name
    order = [out.index(f"\n{name} ") for name in TOUR]
    assert order == sorted(order)
    assert max(map(len, out.splitlines())) <= 60


def test_the_trace_of_a_random_batch(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "--trace", "random", "--seed", "3")
    assert out == run(capsys, "--trace", "random", "--seed", "3") != run(capsys, "--trace")
    assert max(map(len, out.splitlines())) <= 70


@pytest.mark.parametrize("example", [worked_example(), random_example(1)], ids=["worked", "random"])
def test_the_trace_leaves_nothing_out_and_adds_up(
    example: tuple[VAE, np.ndarray, np.ndarray],
) -> None:
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


# ------------------------------------------------------------------ the step


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
    with pytest.raises(SystemExit):
        gradcheck.main(["--out", str(tmp_path)])


# ------------------------------------------------------------------ the real network


def directions(vae: VAE) -> list[Check]:
    images = digits(8, 1)[0].reshape(8, -1) / 255
    return list(check_directions(vae, images, np.random.default_rng(0)))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_real_network_is_right_along_directions(activation: str) -> None:
    vae = VAE(activation=activation)
    before = vae.parameters.copy()
    checks = directions(vae)
    assert [check.what for check in checks] == list(vae.parameters)
    assert all(check.passed and check.analytic.size == 4 for check in checks)
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


def test_the_trained_network_is_right_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vae = VAE()
    fit(vae, digits(200, 1)[0], 3, batch_size=50, optimizer=Adam(1e-3))
    vae.save(tmp_path / "vae.npz")
    out = run(capsys, "--checkpoint", str(tmp_path / "vae.npz"))
    assert out.startswith("784-128-10, relu, trained")
    assert "all 10 right: 40 entries" in out
    assert "not trained" in run(capsys, "--network")


@pytest.mark.parametrize("name", ["encoder.hidden0.W", "decoder.logits.b"])
def test_a_wrong_gradient_of_the_real_network_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an array is wrong by a thousandth."""
    right = VAE.backward

    def backward(self: VAE, *given: object) -> object:
        d = right(self, *given)  # type: ignore[arg-type]
        self.gradients[name][:400] *= 1.001
        return d

    monkeypatch.setattr(VAE, "backward", backward)
    wrong = [check for check in directions(VAE()) if not check.passed]
    assert [check.what for check in wrong] == [name]
    assert wrong[0].error > 100 * TOLERANCE
