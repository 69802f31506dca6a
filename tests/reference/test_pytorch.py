"""PyTorch gets the same numbers, `compare` would notice if not, and weights cross over and back."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae import VAE, Adam, Loss
from npvae.commands import compare_torch
from npvae.core.parameters import Array, NamedArrays
from npvae.layers import ACTIVATIONS
from npvae.optimizers import OPTIMIZERS

torch = pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")

from npvae.reference import pytorch  # noqa: E402
from npvae.reference.pytorch import (  # noqa: E402
    ONE_PASS,
    Row,
    TorchVAE,
    compare,
    compared,
    example,
    from_state_dict,
    table,
    to_state_dict,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_torch.py"


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
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
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


def test_everything_has_its_counterpart() -> None:
    assert pytorch.ACTIVATIONS.keys() == ACTIVATIONS.keys()
    assert pytorch.OPTIMIZERS.keys() == OPTIMIZERS.keys()


@pytest.mark.parametrize("fall", [1.0, 0.8], ids=["constant", "falling"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_take_the_steps_of_pytorch(name: str, fall: float) -> None:
    """20 steps from 0, each entry to 1e-12 of itself or of a step: some come back to nearly 0.

    One gradient of ten is always exactly 0, and of the others one of five at each step.
    """
    rng = np.random.default_rng(1)
    ours, theirs = NamedArrays({"it": (200,)}, float), torch.zeros(200, dtype=torch.float64)
    learning_rate = 0.01
    by_hand = OPTIMIZERS[name](learning_rate)
    stepping = pytorch.OPTIMIZERS[name]([theirs], lr=learning_rate)
    gradients = ours.copy()
    for t in range(20):
        gradients.flat[:] = rng.normal(0, 10 ** rng.uniform(-3, 3, 200)) * (rng.random(200) < 0.8)
        gradients.flat[::10] = 0
        by_hand.learning_rate = stepping.param_groups[0]["lr"] = learning_rate * fall**t
        by_hand.update(ours, gradients)
        theirs.grad = torch.tensor(gradients.flat)
        stepping.step()
        allowed = 1e-12 * by_hand.learning_rate
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
    def loss_and_gradients(self, x: Any, epsilon: Any, beta: float = 1.0) -> Given:
        loss, gradients = super().loss_and_gradients(x, epsilon, beta)
        gradients["encoder.log_var.W"][2, 1] += 1e-9 * np.abs(gradients["encoder.log_var.W"]).max()
        return loss, gradients


class NoMean(VAE):
    def loss_and_gradients(self, x: Any, epsilon: Any, beta: float = 1.0) -> Given:
        loss, gradients = super().loss_and_gradients(x, epsilon, beta)
        gradients.flat *= len(x)
        return loss, gradients


class BetaIsForgotten(VAE):
    def loss_and_gradients(self, x: Any, epsilon: Any, beta: float = 1.0) -> Given:
        return super().loss_and_gradients(x, epsilon)


def test_one_wrong_entry_of_one_gradient_is_noticed() -> None:
    rows = compare(*small(OneGradientIsOff), steps=0)
    assert wrong(rows) == {"gradient encoder.log_var.W"}
    assert "WRONG" in table(rows)
    last = table(rows).splitlines()[-1]
    assert last == f"1 of {len(rows)} differ: worst relative difference 1.0e-09"


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

    def variance(mu: Array, log_var: Array, epsilon: Array, out: Array) -> None:
        out[:] = mu + np.exp(log_var) * epsilon

    monkeypatch.setattr("npvae.model.reparameterize", variance)
    assert {"bce", "loss"} <= wrong(compare(*small()))


SETTINGS = [(name, setting) for name, it in OPTIMIZERS.items() for setting in asdict(it())]


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
    row = compared("loss", ours, theirs)
    assert row.difference == pytest.approx(difference)
    assert row.passed == (difference < 1)


# ------------------------------------------------------------------ weights, there and back


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("hidden_dims", [(7,), (7, 5), (6, 6, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_come_back_bit_by_bit(
    joined: bool, hidden_dims: tuple[int, ...], dtype: Any
) -> None:
    vae = VAE(12, hidden_dims, 3, dtype=dtype)
    vae.parameters.flat[:] = np.random.default_rng(0).standard_normal(vae.parameters.flat.shape)
    back = from_state_dict(to_state_dict(vae.parameters, joined))
    assert list(back) == list(vae.parameters)
    for name, array in back.items():
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, vae.parameters[name], strict=True)


@pytest.mark.parametrize("hidden_dims", [(7,), (7, 5)])
def test_a_state_dict_comes_back_bit_by_bit(hidden_dims: tuple[int, ...]) -> None:
    state_dict = TorchVAE(12, hidden_dims, 3).state_dict()
    back = to_state_dict(from_state_dict(state_dict))
    assert list(back) == list(state_dict)
    for name, tensor in back.items():
        assert torch.equal(tensor, state_dict[name])


def test_the_joined_head_is_mu_above_log_var() -> None:
    vae = VAE(12, (7,), 3)
    both = to_state_dict(vae.parameters, joined=True)
    weight = both["encoder.mu_log_var.weight"]
    assert weight.shape == (6, 7)
    np.testing.assert_array_equal(weight[:3].numpy(), vae.parameters["encoder.mu.W"].T)
    np.testing.assert_array_equal(weight[3:].numpy(), vae.parameters["encoder.log_var.W"].T)
    again = to_state_dict(from_state_dict(both), joined=True)
    assert list(again) == list(both)
    assert all(torch.equal(again[name], both[name]) for name in both)


@pytest.mark.parametrize("joined", [False, True])
def test_what_crosses_over_is_a_copy(joined: bool) -> None:
    vae = VAE(1, (1,), 1)  # of one row and one column, where a transposed view looks like a copy
    before = vae.parameters.copy()
    state_dict = to_state_dict(vae.parameters, joined)
    for array in from_state_dict(state_dict).values():
        array += 1
    for name, array in from_state_dict(state_dict).items():
        np.testing.assert_array_equal(array, before[name])
    for tensor in state_dict.values():
        tensor += 1
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


def networks_of_the_tutorials() -> list[tuple[Any, Callable[[Any, Any], tuple[Any, Any, Any]]]]:
    """784-20-4 as others write it, with names of their own: two heads, and one joined head."""
    nn, relu = torch.nn, torch.relu
    sizes = {"fc1": (784, 20), "fc21": (20, 4), "fc22": (20, 4), "fc3": (4, 20), "fc4": (20, 784)}
    separate = nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})
    joined = nn.ModuleDict(
        {
            "inference": nn.Sequential(nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 8)),
            "generative": nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 784)),
        }
    )

    def run_separate(net: Any, x: Any) -> tuple[Any, Any, Any]:
        h = relu(net["fc1"](x))
        mu, log_var = net["fc21"](h), net["fc22"](h)
        return mu, log_var, torch.sigmoid(net["fc4"](relu(net["fc3"](mu))))

    def run_joined(net: Any, x: Any) -> tuple[Any, Any, Any]:
        mu, log_var = torch.chunk(net["inference"](x), 2, dim=1)
        return mu, log_var, torch.sigmoid(net["generative"](mu))

    return [(separate, run_separate), (joined, run_joined)]


@pytest.mark.parametrize("joined", [False, True])
def test_networks_of_the_tutorials_compute_the_same_after_crossing(joined: bool) -> None:
    net, run = networks_of_the_tutorials()[joined]
    x = np.random.default_rng(0).random((5, 784))

    def agree(vae: VAE) -> None:
        with torch.no_grad():
            theirs = [tensor.numpy() for tensor in run(net.double(), torch.tensor(x))]
        mu, log_var = vae.encode(x)
        for a, b in zip((mu, log_var, vae.decode(mu)), theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)  # float64, some 1e-15

    vae = VAE(784, (20,), 4, dtype=np.float64)
    for name, array in from_state_dict(net.state_dict()).items():
        vae.parameters[name] = array
    agree(vae)

    other = example((20,), 4)[0]
    tensors = to_state_dict(other.parameters, joined).values()
    net.load_state_dict(dict(zip(net.state_dict(), tensors, strict=True)))
    agree(other)


def without_last(state_dict: dict[str, Any]) -> dict[str, Any]:
    return dict(list(state_dict.items())[:-1])


def without_logits(state_dict: dict[str, Any]) -> dict[str, Any]:
    return dict(list(state_dict.items())[:-2])


def backwards(state_dict: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(state_dict.items())))


def log_var_first(state_dict: dict[str, Any]) -> dict[str, Any]:
    items = list(state_dict.items())
    return dict([*items[:2], *items[4:6], *items[2:4], *items[6:]])


def not_transposed(state_dict: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in state_dict.items()}


def odd_head(state_dict: dict[str, Any]) -> dict[str, Any]:
    items = list(state_dict.items())
    head = [("head.weight", torch.zeros(7, 5)), ("head.bias", torch.zeros(7))]
    return dict([*items[:2], *head, *items[6:]])


def with_a_counter(state_dict: dict[str, Any]) -> dict[str, Any]:
    return {**state_dict, "norm.num_batches_tracked": torch.tensor(3)}


def empty(state_dict: dict[str, Any]) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    "spoil",
    [
        without_last, without_logits, backwards, log_var_first, not_transposed, odd_head,
        with_a_counter, empty,
    ],
)  # fmt: skip
def test_another_network_is_refused(spoil: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    state_dict = to_state_dict(VAE(12, (5,), 3).parameters)
    from_state_dict(state_dict)
    with pytest.raises(ValueError, match=r"VAE|log_var"):
        from_state_dict(spoil(state_dict))


# ------------------------------------------------------------------ the script


def run_script(
    *arguments: str, python_path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    folders = [*([str(python_path)] if python_path else []), str(SCRIPT.parents[1])]
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def script() -> Any:
    return compare_torch


def test_the_script_prints_versions_and_the_table() -> None:
    arguments = ("--hidden", "32,16", "--latent-dim", "4", "--batch-size", "8")
    done = run_script(*arguments, "--activation", "elu", "--optimizer", "rmsprop")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"PyTorch {torch.__version__}" in done.stdout
    assert "784-32-16-4, 8 images, beta 0.7, seed 0\nelu, rmsprop\n" in done.stdout
    for what in ("bce", "kl", "loss", "gradient encoder.hidden1.W", "10 steps decoder.logits.b"):
        assert f"\n{what} " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("all 31 agree: worst relative difference")


def test_the_script_takes_any_activation_and_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def watching(vae: VAE, *arguments: Any, optimizer: str) -> list[Row]:
        asked.append((vae.activation, optimizer))
        return [Row("loss", 1.0, 1.0, 0.0, ONE_PASS)]

    monkeypatch.setattr(pytorch, "compare", watching)
    combinations = list(product(ACTIVATIONS, OPTIMIZERS))
    for activation, optimizer in combinations:
        options = ["--activation", activation, "--optimizer", optimizer, "--hidden", "8", "--quiet"]
        assert script().main(options) == 0
    assert asked == combinations


def test_the_script_fails_if_anything_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(OPTIMIZERS, "adam", partial(Adam, eps=1e-7))
    assert script().main(["--quiet", "--hidden", "8"]) == 1
    assert capsys.readouterr().out.startswith("10 of 23 differ")


def test_without_torch_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError(\"No module named 'torch'\")\n")
    done = run_script(python_path=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "python -m pip install torch" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hidden", "0"),
        ("--batch-size", "-3"),
        ("--latent-dim", "x"),
        ("--activation", "gelu"),
        ("--optimizer", "lion"),
    ],
)
def test_a_bad_option_is_named_before_anything_heavy_is_imported(
    arguments: tuple[str, str], tmp_path: Path
) -> None:
    for name in ("torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    done = run_script(*arguments, python_path=tmp_path)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert arguments[1] in done.stderr
    assert run_script("--help", python_path=tmp_path).returncode == 0
