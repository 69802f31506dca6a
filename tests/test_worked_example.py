"""Every number of the tour's section "A VAE by hand" is what the program computes.

The tables are read from the page. Each formula is evaluated with the program's own values, each
line of arithmetic as it stands, and both have to give the result in the last column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Adam
from npvae.layers import relu
from npvae.losses import sigmoid
from tests.helpers import ROOT

TOUR = (ROOT / "npvae" / "README.md").read_text()
SECTION = re.split(r"^## ", TOUR.partition("## 2 A VAE by hand\n")[2], flags=re.MULTILINE)[0]
HALF_A_DIGIT = 0.50001e-4  # of results with four digits after the point
ROUNDED = 2e-4  # sums of up to four terms that were rounded before


def table_rows(columns: int) -> Iterator[list[str]]:
    """The cells of all tables with this many columns, without their headings."""
    for line in SECTION.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == columns and "---" not in cells[0]:
            yield cells


STEPS = [cells for cells in table_rows(4) if cells[0].startswith("`")]


def numbers(text: str) -> list[float]:
    return [float(word) for word in re.findall(r"-?\d+\.?\d*", text)]


def softplus(logits: Any) -> Any:
    return np.logaddexp(0, logits)


FUNCTIONS = {"relu": relu, "sigmoid": sigmoid, "softplus": softplus, "exp": np.exp, "sum": np.sum}


@pytest.fixture
def run() -> dict[str, Any]:
    """What the code on the page makes: its names, after it has run."""
    code = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)[0]
    first, step, rest = code.partition("Adam(learning_rate")
    names: dict[str, Any] = {}
    exec(compile(first, "README.md", "exec"), names)
    names["gradients"] = names["vae"].gradients.copy()
    exec(compile(step + rest, "README.md", "exec"), names)
    return names


@pytest.fixture
def values(run: dict[str, Any]) -> dict[str, Any]:
    """Everything that has a name in the tables, as the program computes it."""
    vae: VAE = run["vae"]
    for name, W in run["weights"].items():  # as before the step of Adam
        vae.parameters[f"{name}.W"], vae.parameters[f"{name}.b"] = W, 0
    a = vae.forward(run["x"], run["epsilon"])
    loss, d = vae.objective(a), vae.backward(a)
    found: dict[str, Any] = {**a._asdict(), **d._asdict()}
    found |= {"h_enc": a.h_enc[-1], "h_dec": a.h_dec[-1], "sigma": np.exp(0.5 * a.log_var)}
    found |= {"bce": loss.bce, "kl": loss.kl, "loss": loss.total, "x_hat": vae.decode(a.z)}
    layers = {"enc": "encoder.hidden0", "mu": "encoder.mu", "log_var": "encoder.log_var"}
    layers |= {"dec": "decoder.hidden0", "logits": "decoder.logits"}
    for short, name in layers.items():
        found[f"W_{short}"] = vae.parameters[f"{name}.W"]
        found[f"d_W_{short}"] = run["gradients"][f"{name}.W"]
    for part in "enc", "dec":  # of one hidden unit and one image, d_b is d_y
        found[f"d_y_{part}"] = run["gradients"][f"{part}oder.hidden0.b"][np.newaxis]
    return found


def test_the_page_has_all_steps() -> None:
    names = [row[0].strip("`") for row in STEPS]
    assert names[:8] == ["h_enc", "mu", "log_var", "sigma", "z", "h_dec", "logits", "x_hat"]
    assert names[8:11] == ["bce", "kl", "loss"]
    assert len(names) == len(set(names)) == 24


@pytest.mark.parametrize("row", STEPS, ids=lambda row: row[0].strip("`"))
def test_each_result_is_that_of_the_program(row: list[str], values: dict[str, Any]) -> None:
    name, formula, arithmetic, result = (cell.strip("`") for cell in row)
    expected = np.ravel(values[name])
    np.testing.assert_allclose(numbers(result), expected, rtol=0, atol=HALF_A_DIGIT)
    by_formula = np.ravel(eval(formula, {**FUNCTIONS, **values}))
    np.testing.assert_allclose(by_formula, expected, rtol=1e-12)
    by_hand = np.ravel(eval(arithmetic, dict(FUNCTIONS)))
    np.testing.assert_allclose(by_hand, expected, rtol=0, atol=ROUNDED)


def test_weights_and_inputs_are_those_of_the_page(values: dict[str, Any]) -> None:
    for name, shape, given in table_rows(3):
        if name.startswith("`W"):
            W = values[name.strip("`")]
            assert W.shape == tuple(map(int, numbers(shape)))
            shown = numbers(given.partition("=")[2] or given)
            np.testing.assert_allclose(shown, W.ravel(), rtol=0, atol=HALF_A_DIGIT)
    assert "`x` = (1, 0)" in SECTION
    assert values["x"].tolist() == [[1, 0]]
    assert "`epsilon` = 1." in SECTION
    assert values["epsilon"].tolist() == [[1]]


def test_what_meets_at_mu_and_log_var(values: dict[str, Any]) -> None:
    """The parts of the two sums that the text names."""
    from_pixels = float((values["d_z"] * values["epsilon"] * 0.5 * values["sigma"]).item())
    from_prior = float(0.5 * (values["sigma"] ** 2 - 1).item())
    assert f"help the pixels ({from_pixels:.4f})" in SECTION
    assert f"wants `sigma` = 1 ({from_prior:.4f})" in SECTION
    assert f"pixels ask for more ({values['d_z'].item():.4f})" in SECTION
    assert f"asks for less (+{values['mu'].item():g})" in SECTION


def test_the_finite_difference(run: dict[str, Any], values: dict[str, Any]) -> None:
    vae, losses = run["vae"], {}
    for weight, shown in (map(float, row) for row in table_rows(2) if row[0][0].isdigit()):
        vae.parameters["encoder.hidden0.W"][0, 0] = weight
        losses[weight] = vae.loss(run["x"], run["epsilon"]).total
        assert shown == pytest.approx(losses[weight], abs=0.5e-7)
    assert sorted(losses) == [0.999, 1.001]
    difference = losses[1.001] - losses[0.999]
    words = f"{difference:.7f} / 0.002 = {difference / 0.002:.4f}"
    assert words in SECTION
    assert difference / 0.002 == pytest.approx(values["d_W_enc"][0, 0], abs=1e-6)


def test_the_step_of_adam(run: dict[str, Any], values: dict[str, Any]) -> None:
    before, after = values["loss"], run["vae"]
    optimizer = Adam(learning_rate=0.001)
    start = after.parameters.copy()
    after.parameters.flat[:] -= 0.001 * run["gradients"].flat
    loss = after.loss(run["x"], run["epsilon"]).total
    assert f"then gives a loss of {loss:.4f} instead of {before:.4f}" in SECTION
    after.parameters.flat[:] = start.flat
    optimizer.update(after.parameters, run["gradients"])
    moved = start.flat - after.parameters.flat
    signs = np.sign(run["gradients"].flat)
    np.testing.assert_allclose(moved, 0.001 * signs, rtol=1e-5)
    assert after.parameters["encoder.hidden0.W"].ravel() == pytest.approx([0.999, 0.5])
    loss = after.loss(run["x"], run["epsilon"]).total
    assert f"a loss of {loss:.4f} instead of {before:.4f}" in SECTION
    for name in after.parameters:
        if name.endswith(".b"):
            assert np.abs(after.parameters[name]) == pytest.approx(0.001, rel=1e-5)


def test_the_code_of_the_page_prints_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the step of Adam, and after it."""
    code = re.findall(r"```python\n(.*?)```", SECTION, flags=re.DOTALL)[0]
    exec(compile(code, "README.md", "exec"), {})
    printed = [numbers(text)[:2] for text in re.findall(r"Loss\((.*?)\)", capsys.readouterr().out)]
    assert [sum(parts) for parts in printed] == pytest.approx([0.8833, 0.8792], abs=HALF_A_DIGIT)
