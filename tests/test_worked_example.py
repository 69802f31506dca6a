"""Every number of the tour's section "A VAE by hand" is what the program computes.

The tables are read from the page. Each formula is evaluated with the program's own values, each
line of arithmetic as it stands, and both have to give the result in the last column.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from npvae.layers import relu
from npvae.losses import sigmoid
from tests.helpers import ROOT

TOUR = (ROOT / "npvae" / "README.md").read_text()
SECTION = re.split(r"^## ", TOUR.partition("## 2 A VAE by hand\n")[2], flags=re.MULTILINE)[0]
(CODE,) = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)
HALF_A_DIGIT = 0.50001e-4  # of results with four digits after the point
ROUNDED = 2e-4  # sums of up to four terms that were rounded before
FUNCTIONS: dict[str, Any] = {"relu": relu, "sigmoid": sigmoid, "exp": np.exp, "sum": np.sum}
FUNCTIONS["softplus"] = lambda logits: np.logaddexp(0, logits)
LAYERS = {"enc": "encoder.hidden0", "mu": "encoder.mu", "log_var": "encoder.log_var"}
LAYERS |= {"dec": "decoder.hidden0", "logits": "decoder.logits"}


def table_rows(columns: int) -> list[list[str]]:
    """The cells of all tables with this many columns, without their headings."""
    rows = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line[:2] == "| "]
    return [row for row in rows if len(row) == columns and row[0][0] in "`01"]


STEPS = table_rows(4)


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.?\d*", text)]


@pytest.fixture
def names() -> dict[str, Any]:
    """Everything that has a name in the code, before its step of Adam, or in the tables."""
    found: dict[str, Any] = {}
    exec(CODE.partition("Adam(learning_rate")[0], found)
    vae, a = found["vae"], found["activations"]
    loss, d = vae.objective(a), vae.backward(a)
    found |= {**a._asdict(), **d._asdict(), "bce": loss.bce, "kl": loss.kl, "loss": loss.total}
    found |= {"h_enc": a.h_enc[-1], "h_dec": a.h_dec[-1], "sigma": np.exp(0.5 * a.log_var)}
    found["x_hat"] = vae.decode(a.z)
    for short, name in LAYERS.items():
        W, d_W = (arrays[f"{name}.W"].copy() for arrays in (vae.parameters, vae.gradients))
        found |= {f"W_{short}": W, f"d_W_{short}": d_W}
    for part in "enc", "dec":  # of one hidden unit and one image, d_b is d_y
        found[f"d_y_{part}"] = vae.gradients[f"{part}oder.hidden0.b"][np.newaxis].copy()
    return found


def test_each_result_is_that_of_the_program(names: dict[str, Any]) -> None:
    steps = {cell.strip("`"): row for cell, *row in STEPS}
    forward = ["h_enc", "mu", "log_var", "sigma", "z", "h_dec", "logits", "x_hat"]
    assert list(steps)[:11] == [*forward, "bce", "kl", "loss"]
    assert len(steps) == len(STEPS) == 24
    for name, row in steps.items():
        formula, arithmetic, result = (cell.strip("`") for cell in row)
        expected = np.ravel(names[name])
        np.testing.assert_allclose(numbers(result), expected, 0, HALF_A_DIGIT, err_msg=name)
        by_formula = np.ravel(eval(formula, {**names, **FUNCTIONS}))
        np.testing.assert_allclose(by_formula, expected, 1e-12, err_msg=name)
        by_hand = np.ravel(eval(arithmetic, dict(FUNCTIONS)))
        np.testing.assert_allclose(by_hand, expected, 0, ROUNDED, err_msg=name)


def test_weights_and_inputs_are_those_of_the_page(names: dict[str, Any]) -> None:
    assert len(table_rows(3)) == len(LAYERS)
    for name, shape, given in table_rows(3):
        W = names[name.strip("`")]
        assert W.shape == tuple(map(int, numbers(shape)))
        shown = numbers(given.partition("=")[2] or given)
        np.testing.assert_allclose(shown, W.ravel(), rtol=0, atol=HALF_A_DIGIT)
    assert "`x` = (1, 0)" in SECTION
    assert names["x"].tolist() == [[1, 0]]
    assert "`epsilon` = 1." in SECTION
    assert names["epsilon"].tolist() == [[1]]


def test_what_meets_at_mu_and_log_var(names: dict[str, Any]) -> None:
    """The parts of the two sums that the text names."""
    d_z, mu, sigma = (names[name].item() for name in ("d_z", "mu", "sigma"))
    assert f"help the pixels ({d_z * names['epsilon'].item() * 0.5 * sigma:.4f})" in SECTION
    assert f"wants `sigma` = 1 ({0.5 * (sigma**2 - 1):.4f})" in SECTION
    assert f"pixels ask for more ({d_z:.4f})" in SECTION
    assert f"asks for less (+{mu:g})" in SECTION


def test_the_finite_difference(names: dict[str, Any]) -> None:
    losses = {}
    for weight, shown in table_rows(2):
        names["vae"].parameters["encoder.hidden0.W"][0, 0] = float(weight)
        losses[weight] = names["vae"].loss(names["x"], names["epsilon"]).total
        assert shown == f"{losses[weight]:.7f}"
    difference = losses["1.001"] - losses["0.999"]
    assert f"{difference:.7f} / 0.002 = {difference / 0.002:.4f}" in SECTION
    assert difference / 0.002 == pytest.approx(names["d_W_enc"][0, 0], abs=1e-6)


def test_the_steps(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Gradient descent, and that of Adam as the code of the page takes and prints it."""
    vae = names["vae"]
    start, gradients = vae.parameters.flat.copy(), vae.gradients.flat
    instead = f"instead of {names['loss']:.4f}"
    vae.parameters.flat[:] -= 0.001 * gradients
    loss = vae.loss(names["x"], names["epsilon"]).total
    assert f"then gives a loss of {loss:.4f} {instead}" in SECTION
    capsys.readouterr()
    exec(CODE, names)
    printed = re.findall(r"Loss\(bce=(.*?), kl=(.*?),", capsys.readouterr().out)
    before, after = (sum(map(float, parts)) for parts in printed)
    assert before == pytest.approx(names["loss"], abs=1e-6)
    assert f"now gives a loss of {after:.4f} {instead}" in SECTION
    stepped = names["vae"].parameters
    np.testing.assert_allclose(stepped.flat, start - 0.001 * np.sign(gradients), atol=1e-8)
    assert stepped["encoder.hidden0.W"].ravel() == pytest.approx([0.999, 0.5])
