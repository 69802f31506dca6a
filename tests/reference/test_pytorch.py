"""PyTorch gets the same numbers, and `compare` would notice if it did not."""

import os
import re
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Loss
from npvae.commands import compare_torch
from npvae.core.errors import OptionError
from npvae.core.parameters import Array, NamedArrays
from npvae.optimizers import OPTIMIZERS
from tests.helpers import ROOT, command, environment, run

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")

from npvae.reference import pytorch  # noqa: E402
from npvae.reference.pytorch import (  # noqa: E402
    Row,
    TorchVAE,
    compare,
    compare_arrays,
    example,
    table,
)


def wrong(rows: list[Row]) -> set[str]:
    return {row.what for row in rows if not row.passed}


def small(cls: type[VAE] = VAE) -> tuple[VAE, Array, Array]:
    """A model of some class with the numbers of an example."""
    given, x, epsilon = example((16,), 3, batch_size=8)
    vae = cls(784, (16,), 3, dtype=np.float64)
    vae.parameters.flat[:] = given.parameters.flat
    return vae, x, epsilon


# ------------------------------------------------------------------ the comparison


@pytest.mark.parametrize("hidden_dims", [(24,), (24, 16)])
@pytest.mark.parametrize("optimizer", pytorch.OPTIMIZERS)
@pytest.mark.parametrize("activation", pytorch.ACTIVATIONS)
def test_pytorch_gets_the_same_numbers(
    activation: str, optimizer: str, hidden_dims: tuple[int, ...]
) -> None:
    vae, x, epsilon = example(hidden_dims, batch_size=16, activation=activation)
    assert vae.activation == activation
    rows = compare(vae, x, epsilon, beta=0.7, optimizer=optimizer)
    assert not wrong(rows), table(rows)
    names = list(vae.parameters)
    gradients, steps = [f"gradient {n}" for n in names], [f"10 steps {n}" for n in names]
    assert [row.what for row in rows] == ["bce", "kl", "loss", *gradients, *steps]
    for row in rows:
        assert row.allowed <= (1e-9 if "steps" in row.what else 1e-10)


def test_pytorch_gets_the_same_numbers_at_full_size() -> None:
    rows = compare(*example(), beta=0.7)
    assert not wrong(rows), table(rows)


@pytest.mark.parametrize("fall", [1.0, 0.8], ids=["constant", "falling"])
@pytest.mark.parametrize("name", pytorch.OPTIMIZERS)
def test_optimizers_take_the_steps_of_pytorch(name: str, fall: float) -> None:
    """20 steps from 0, each entry to 1e-12 of itself or of a step: some come back to nearly 0.

    One gradient of ten is always exactly 0, and of the others one of five at each step.
    """
    rng = np.random.default_rng(1)
    ours, theirs = NamedArrays({"it": (200,)}, float), torch.zeros(200, dtype=torch.float64)
    learning_rate = 0.01
    our_rule = OPTIMIZERS[name](learning_rate)
    their_rule = pytorch.OPTIMIZERS[name]([theirs], lr=learning_rate)
    gradients = ours.copy()
    for t in range(20):
        gradients.flat[:] = rng.normal(0, 10 ** rng.uniform(-3, 3, 200)) * (rng.random(200) < 0.8)
        gradients.flat[::10] = 0
        our_rule.learning_rate = their_rule.param_groups[0]["lr"] = learning_rate * fall**t
        our_rule.update(ours, gradients)
        theirs.grad = torch.tensor(gradients.flat)
        their_rule.step()
        allowed = 1e-12 * our_rule.learning_rate
        np.testing.assert_allclose(ours.flat, theirs.numpy(), rtol=1e-12, atol=allowed)
    assert np.count_nonzero(ours.flat) == 180


def test_the_reference_agrees_with_the_distributions_of_pytorch() -> None:
    _, x, epsilon = small()
    model = TorchVAE(784, (16,), 3).double()
    batch, noise = torch.tensor(x), torch.tensor(epsilon)
    with torch.no_grad():
        logits, mu, log_var = model(batch, noise)
        bce, kl, loss = model.losses(batch, noise, 0.7)
    posterior = torch.distributions.Normal(mu, torch.exp(log_var).sqrt())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1))
    torch.testing.assert_close(kl, expected.sum(1).mean())
    pixels = torch.distributions.Bernoulli(logits=logits, validate_args=False)  # x is grey
    torch.testing.assert_close(bce, -pixels.log_prob(batch).sum(1).mean())
    torch.testing.assert_close(loss, bce + 0.7 * kl)


def test_a_float32_model_is_compared_in_float64_and_stays_as_it_is() -> None:
    vae = VAE(784, (16,), 3)
    before = vae.parameters.copy()
    _, x, epsilon = small()
    assert not wrong(compare(vae, x, epsilon))
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


# ------------------------------------------------------------------ it would notice


Given = tuple[Loss, NamedArrays]


class OneGradientIsOff(VAE):
    def loss_and_gradients(self, x: Any, epsilon: Any, beta: float = 1.0, c: Any = None) -> Given:
        loss, gradients = super().loss_and_gradients(x, epsilon, beta, c)
        gradients["encoder.log_var.W"][2, 1] += 1e-9 * np.abs(gradients["encoder.log_var.W"]).max()
        return loss, gradients


class NoMean(VAE):
    def loss_and_gradients(self, x: Any, epsilon: Any, beta: float = 1.0, c: Any = None) -> Given:
        loss, gradients = super().loss_and_gradients(x, epsilon, beta, c)
        gradients.flat *= len(x)
        return loss, gradients


class BetaIsForgotten(VAE):
    def loss_and_gradients(self, x: Any, epsilon: Any, beta: float = 1.0, c: Any = None) -> Given:
        return super().loss_and_gradients(x, epsilon)


def test_one_wrong_entry_of_one_gradient_is_noticed() -> None:
    rows = compare(*small(OneGradientIsOff), steps=0)
    assert wrong(rows) == {"gradient encoder.log_var.W"}
    lines = table(rows).splitlines()
    assert [line.split()[0] for line in lines if line.endswith(" WRONG")] == ["encoder.log_var.W"]
    assert lines[-1] == f"1 of {len(rows)} differ: worst relative difference 1.0e-09"


def test_a_forgotten_mean_over_the_batch_is_noticed() -> None:
    vae, x, epsilon = small(NoMean)
    rows = compare(vae, x, epsilon, steps=0)
    assert wrong(rows) == {f"gradient {name}" for name in vae.parameters}


def test_a_forgotten_beta_is_noticed() -> None:
    vae, x, epsilon = small(BetaIsForgotten)
    assert wrong(compare(vae, x, epsilon, beta=1.0)) == set()
    differs = wrong(compare(vae, x, epsilon, beta=1.001, steps=0))
    encoder = {f"gradient {name}" for name in vae.parameters if name.startswith("encoder")}
    assert differs == {"loss", *encoder}  # the decoder does not feel the KL


def test_a_wrong_spread_of_z_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """sigma^2 in place of sigma: what a gradient check cannot see."""

    def variance(mu: Array, log_var: Array, epsilon: Array) -> Array:
        return np.asarray(mu + np.exp(log_var) * epsilon)

    monkeypatch.setattr("npvae.model.reparameterize", variance)
    assert {"bce", "loss"} <= wrong(compare(*small()))


SETTINGS = [(name, it) for name in pytorch.OPTIMIZERS for it in asdict(OPTIMIZERS[name]())]


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_a_wrong_step_is_noticed(name: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting of each optimizer, a hundredth smaller than it should be; eps ten times."""
    right = OPTIMIZERS[name]
    value = asdict(right(1e-3))[setting] * (0.1 if setting == "eps" else 0.99)
    wrong_one = right(1e-3)
    setattr(wrong_one, setting, value)
    monkeypatch.setitem(OPTIMIZERS, name, lambda learning_rate: wrong_one)
    vae, x, epsilon = small()
    found = wrong(compare(vae, x, epsilon, optimizer=name))
    assert found == {f"10 steps {name}" for name in vae.parameters}


@pytest.mark.parametrize(
    ("ours", "theirs", "difference"),
    [
        ([2.0, 0.0], [2.0, 1e-12], 5e-13),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, np.nan], [1.0, 1.0], np.inf),
        ([1.0, np.nan], [1.0, np.nan], np.inf),
    ],
)
def test_differences_are_relative_to_the_largest_entry(
    ours: list[float], theirs: list[float], difference: float
) -> None:
    row = compare_arrays("loss", ours, theirs)
    assert row.difference == pytest.approx(difference)
    assert row.passed == (difference < 1)


# ------------------------------------------------------------------ the script


def run_script(*arguments: str, first: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The script, with the modules in this folder before all others."""
    words = [sys.executable, "-W", "error", *command("compare_torch.py", *arguments)[1:]]
    return run(words, env=environment(PYTHONPATH=f"{first}{os.pathsep}{ROOT}"))


def test_the_script_prints_versions_and_the_table() -> None:
    arguments = ("--hidden", "32,16", "--latent-dim", "4", "--batch-size", "8")
    done = run_script(*arguments, "--activation", "elu", "--optimizer", "rmsprop")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"PyTorch {torch.__version__}" in done.stdout
    assert "784-32-16-4, 8 images, beta 0.7, seed 0\nelu, rmsprop\n" in done.stdout
    titles = r"\n(losses|gradients|parameters after 10 steps), allowed (1e-\d\d)\n"
    _, losses, ten, bce, gradients, ten_, first, steps, nine, second = re.split(titles, done.stdout)
    assert (losses, gradients, steps) == ("losses", "gradients", "parameters after 10 steps")
    assert (ten, ten_, nine) == ("1e-10", "1e-10", "1e-09")
    assert re.findall(r"^\w+", bce, re.MULTILINE) == ["bce", "kl", "loss"]
    for section in (first, second):
        assert len(re.findall(r"^(?:en|de)coder\.\w+\.[Wb] ", section, re.MULTILINE)) == 14
    assert done.stdout.splitlines()[-1].startswith("all 31 agree: worst relative difference")
    assert max(map(len, done.stdout.splitlines())) <= 60


@pytest.mark.parametrize("options", [["--optimizer", "rmsprop"], ["--activation", "elu"]])
def test_the_script_fails_if_anything_differs(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are wrong here: only the defaults, and what the options name, may be compared."""
    alpha = 0.9
    monkeypatch.setitem(pytorch.OPTIMIZERS, "rmsprop", partial(torch.optim.RMSprop, alpha=alpha))
    monkeypatch.setitem(pytorch.ACTIVATIONS, "elu", partial(torch.nn.functional.elu, alpha=alpha))
    assert compare_torch.main(["--quiet", "--hidden", "8"]) == 0
    assert capsys.readouterr().out.startswith("all 23 agree")
    assert compare_torch.main(["--quiet", "--hidden", "8", *options]) == 1
    assert " of 23 differ" in capsys.readouterr().out


def test_the_script_says_what_the_reference_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(pytorch.ACTIVATIONS, "elu")  # as if it were new in layers.py
    monkeypatch.delitem(pytorch.OPTIMIZERS, "sgd")
    for option, name in (("--activation", "elu"), ("--optimizer", "sgd")):
        with pytest.raises(OptionError, match=f"^no counterpart of {name} in PyTorch .*py$"):
            compare_torch.main([option, name])


def test_the_script_takes_as_many_classes_as_a_model_can_have() -> None:
    assert compare_torch.main(["--hidden", "8", "--classes", "256", "--batch-size", "257"]) == 0


def test_without_torch_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError(\"No module named 'torch'\")\n")
    done = run_script(first=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "python -m pip install torch" in done.stderr


@pytest.mark.parametrize("arguments", [("--hidden", "0"), ("--optimizer", "no-such")])
def test_a_bad_option_is_named_before_anything_heavy_is_imported(
    arguments: tuple[str, str], tmp_path: Path
) -> None:
    for name in ("torch", "numba"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    done = run_script(*arguments, first=tmp_path)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert arguments[1] in done.stderr
    assert run_script("--help", first=tmp_path).returncode == 0
