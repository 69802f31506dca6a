"""PyTorch gets the same numbers, and `compare` would notice if it did not."""

import re
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest

from npvae import VAE
from npvae.commands import compare_torch
from npvae.core.errors import OptionError
from npvae.core.parameters import Array, NamedArrays
from npvae.optimizers import OPTIMIZERS
from tests.helpers import refused

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


def small() -> tuple[VAE, Array, Array]:
    return example((16,), 3, batch_size=8)


# ------------------------------------------------------------------ the comparison


@pytest.mark.parametrize(
    ("activation", "optimizer"),
    [
        *((name, "adam") for name in pytorch.ACTIVATIONS),
        *(("elu", name) for name in pytorch.OPTIMIZERS),
    ],
)
def test_pytorch_gets_the_same_numbers(activation: str, optimizer: str) -> None:
    vae, x, epsilon = example((24, 16), batch_size=16, activation=activation)
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


@pytest.mark.parametrize("name", pytorch.OPTIMIZERS)
def test_optimizers_take_the_steps_of_pytorch(name: str) -> None:
    """20 steps from 0, each entry to 1e-12 of itself or of a step: some come back to nearly 0.

    The learning rate falls. One gradient of ten is always exactly 0, and of the others one of five
    at each step.
    """
    rng = np.random.default_rng(1)
    ours, theirs = NamedArrays({"it": (200,)}, float), torch.zeros(200, dtype=torch.float64)
    our_rule, their_rule = OPTIMIZERS[name](1.0), pytorch.OPTIMIZERS[name]([theirs], lr=1.0)
    gradients = ours.copy()
    for t in range(20):
        gradients.flat[:] = rng.normal(0, 10 ** rng.uniform(-3, 3, 200)) * (rng.random(200) < 0.8)
        gradients.flat[::10] = 0
        our_rule.learning_rate = their_rule.param_groups[0]["lr"] = 0.01 * 0.8**t
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

right = VAE.loss_and_gradients


def one_entry(vae: VAE, *batch: Any) -> Any:
    loss, gradients = right(vae, *batch)
    W = gradients["encoder.log_var.W"]
    W[2, 1] += 1e-9 * np.abs(W).max()
    return loss, gradients


def no_mean(vae: VAE, *batch: Any) -> Any:
    loss, gradients = right(vae, *batch)
    gradients.flat *= 8
    return loss, gradients


def no_beta(vae: VAE, x: Any, epsilon: Any, *_: Any) -> Any:
    return right(vae, x, epsilon)


@pytest.mark.parametrize(
    ("mistake", "layers", "losses"),
    [
        (one_entry, "encoder.log_var.W", set()),
        (no_mean, "", set()),
        (no_beta, "encoder", {"loss"}),  # the decoder does not feel the KL
    ],
)
def test_a_mistake_is_noticed_where_it_is(
    mistake: Any, layers: str, losses: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VAE, "loss_and_gradients", mistake)
    vae, x, epsilon = small()
    rows = compare(vae, x, epsilon, beta=1.001, steps=0)
    expected = {f"gradient {name}" for name in vae.parameters if name.startswith(layers)}
    assert wrong(rows) == {*losses, *expected}
    text, worst = table(rows), max(row.difference for row in rows)
    assert text.count(" WRONG\n") == len(wrong(rows))
    assert f"\n{len(wrong(rows))} of 23 differ: worst relative difference {worst:.1e}" in text


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
    rule = OPTIMIZERS[name](1e-3)
    value = getattr(rule, setting) * (0.1 if setting == "eps" else 0.99)
    setattr(rule, setting, value)
    monkeypatch.setitem(OPTIMIZERS, name, lambda learning_rate: rule)
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


# ------------------------------------------------------------------ the command


def test_the_command_prints_versions_and_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "--hidden", "32,16", "--latent-dim", "4", "--batch-size", "8"
    assert compare_torch.main([*sizes, "--activation", "elu", "--optimizer", "rmsprop"]) == 0
    out = capsys.readouterr().out
    assert f"PyTorch {torch.__version__}\n" in out
    assert "784-32-16-4, 8 images, beta 0.7, seed 0\nelu, rmsprop\n" in out
    titles = "losses, allowed 1e-10", "gradients, allowed 1e-10"
    assert re.findall(r".*allowed.*", out) == [*titles, "parameters after 10 steps, allowed 1e-09"]
    assert len(re.findall(r"^(?:bce|kl|loss|\w+coder\.\w+\.[Wb]) ", out, re.MULTILINE)) == 31
    assert out.splitlines()[-1].startswith("all 31 agree: worst relative difference")
    assert max(map(len, out.splitlines())) <= 60


@pytest.mark.parametrize("options", [["--optimizer", "rmsprop"], ["--activation", "elu"]])
def test_the_command_fails_if_anything_differs(
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


def test_the_command_says_what_the_reference_does_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(pytorch.ACTIVATIONS, "elu")  # as if it were new in layers.py
    monkeypatch.delitem(pytorch.OPTIMIZERS, "sgd")
    for option, name in (("--activation", "elu"), ("--optimizer", "sgd")):
        with refused(OptionError, f"no counterpart of {name} in PyTorch ", option[2:].upper()):
            compare_torch.main([option, name])


def test_the_command_takes_as_many_classes_as_a_model_can_have() -> None:
    assert compare_torch.main(["--hidden", "8", "--classes", "256", "--batch-size", "257"]) == 0


def test_without_torch_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with refused(OptionError, "PyTorch is needed", "python -m pip install torch") as caught:
        compare_torch.main([])
    assert "\n" not in str(caught.value)
