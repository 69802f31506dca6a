"""Weights cross over to PyTorch and back, or are refused: never into the wrong place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npvae import VAE

torch = pytest.importorskip("torch", reason="weights from PyTorch need torch")

from npvae.reference.pytorch import TorchVAE  # noqa: E402
from npvae.reference.state_dict import (  # noqa: E402
    from_state_dict,
    load_state_dict,
    to_state_dict,
)

StateDict = dict[str, Any]


def random_vae(hidden_dims: tuple[int, ...] = (7, 5), latent_dim: int = 3, **settings: Any) -> VAE:
    vae = VAE(12, hidden_dims, latent_dim, **settings)
    vae.parameters.flat[:] = np.random.default_rng(0).standard_normal(vae.parameters.flat.shape)
    return vae


def named(vae: VAE, *names: str, log_var_first: bool = False) -> StateDict:
    """The tensors of vae under the names of other layers; both heads in one if names are few."""
    layers = [
        (array.T, vae.parameters[f"{name[:-2]}.b"])
        for name, array in vae.parameters.items()
        if name.endswith(".W")
    ]
    depth = len(vae.hidden_dims)
    heads = layers[depth : depth + 2][:: -1 if log_var_first else 1]
    if len(names) < len(layers):
        heads = [(np.concatenate([h[0] for h in heads]), np.concatenate([h[1] for h in heads]))]
    layers[depth : depth + 2] = heads
    found: StateDict = {}
    for name, (weight, bias) in zip(names, layers, strict=True):
        found |= {f"{name}.weight": torch.tensor(weight), f"{name}.bias": torch.tensor(bias)}
    return found


def assert_same(arrays: Any, vae: VAE) -> None:
    assert list(arrays) == list(vae.parameters)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, vae.parameters[name], strict=True)


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize("hidden_dims", [(7,), (7, 5), (6, 6, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_come_back_bit_by_bit(hidden_dims: tuple[int, ...], dtype: Any) -> None:
    vae = random_vae(hidden_dims, dtype=dtype)
    state_dict = to_state_dict(vae.parameters)
    model = TorchVAE(12, hidden_dims, 3).to(state_dict["encoder.mu.weight"].dtype)
    assert list(state_dict) == list(model.state_dict())
    model.load_state_dict(state_dict)
    back = from_state_dict(model.state_dict())
    assert_same(back, vae)
    assert all(array.flags.c_contiguous for array in back.values())
    other = VAE(12, hidden_dims, 3, dtype=dtype)
    load_state_dict(other.parameters, model.state_dict())
    assert_same(other.parameters, vae)


def test_what_crosses_over_is_a_copy() -> None:
    vae = VAE(1, (1,), 1)  # of one row and one column, where a transposed view looks like a copy
    before = vae.parameters.copy()
    state_dict = to_state_dict(vae.parameters)
    for like in (None, state_dict, {name: tensor.numpy() for name, tensor in state_dict.items()}):
        for array in from_state_dict(like or state_dict).values():
            array += 1
        for tensor in to_state_dict(vae.parameters, like).values():
            tensor += 1
        np.testing.assert_array_equal(vae.parameters.flat, before.flat)
        for name, array in from_state_dict(like or state_dict).items():
            np.testing.assert_array_equal(array, before[name])


def tutorial(*heads: str) -> Any:
    """784-20-4 as others write it, with two heads of these names, or a joined one."""
    nn = torch.nn
    head = {name: nn.Linear(20, 8 // len(heads)) for name in heads}
    decoder = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 784))
    return nn.ModuleDict({"fc1": nn.Linear(784, 20), **head, "decoder": decoder}).double()


def run(module: Any, x: Any, mu_first: bool, sigma: bool) -> tuple[Any, Any, Any]:
    """mu, log_var and probabilities for z = mu. With `sigma` the second head is log sigma."""
    first, *heads, decoder = module.values()
    h = torch.relu(first(x))
    mu, log_var = torch.cat([head(h) for head in heads], dim=1).split(4, dim=1)
    if not mu_first:
        mu, log_var = log_var, mu
    return mu, 2 * log_var if sigma else log_var, torch.sigmoid(decoder(mu))


@pytest.mark.parametrize(
    ("heads", "first_head", "mu_first", "sigma"),
    [
        ("fc21 fc22", "mu", True, False),
        ("fc21 fc22", "log_var", False, False),
        ("fc_sigma fc_mu", None, False, False),
        ("fc_mu fc_log_sigma", None, True, True),
        ("fc2", "mu", True, False),
        ("fc2", "log_var", False, False),
        ("log_std_and_mean", None, False, True),
    ],
)
def test_another_network_computes_the_same_after_crossing(
    heads: str, first_head: Any, mu_first: bool, sigma: bool
) -> None:
    x = np.random.default_rng(0).random((5, 784))
    module = tutorial(*heads.split())

    def agree(vae: VAE) -> None:
        with torch.no_grad():
            theirs = [t.numpy() for t in run(module, torch.tensor(x), mu_first, sigma)]
        mu, log_var = vae.encode(x)
        for a, b in zip((mu, log_var, vae.decode(mu)), theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)  # float64, some 1e-15

    vae = VAE(784, (20,), 4, dtype=np.float64)
    load_state_dict(vae.parameters, module.state_dict(), first_head, sigma)
    agree(vae)
    other = VAE(784, (20,), 4, dtype=np.float64, rng=np.random.default_rng(1))
    other.parameters.flat += 0.1  # biases that are not 0
    tensors = to_state_dict(other.parameters, module.state_dict(), first_head, sigma)
    agree(vae)  # the module has not changed yet
    module.load_state_dict(tensors)
    agree(other)


# ------------------------------------------------------------------ which head is which


@pytest.mark.parametrize(
    "names",
    [
        "fc_mu fc_sigma", "mean logstd", "mean std", "Mu LogVar", "z_mu z_lv", "encMu encLogVar",
        "hidden2mean hidden2logv", "z_mean z_log_var", "fc31_mu fc32_var", "loc.0 scale.0",
        "variational_encoder.fc_mu variational_encoder.fc_var", "mean_field.mu mean_field.ln_var",
        "fcMU fcVAR", "mu_log_var", "fc_meanLogStd",
    ],
)  # fmt: skip
@pytest.mark.parametrize("log_var_first", [False, True])
def test_heads_are_told_apart_by_the_words_of_their_names(names: str, log_var_first: bool) -> None:
    vae = random_vae()
    heads = names.split()
    if log_var_first:
        heads = heads[::-1] if len(heads) > 1 else ["LogVar_mu" if "_l" in names else "stdMean"]
    layers = ["encoder.0", "encoder.2", *heads, "decoder.0", "decoder.2", "decoder.4"]
    state_dict = named(vae, *layers, log_var_first=log_var_first)
    assert_same(from_state_dict(state_dict), vae)
    first: Any
    other: Any
    first, other = ("log_var", "mu") if log_var_first else ("mu", "log_var")
    assert_same(from_state_dict(state_dict, first_head=first), vae)
    with pytest.raises(ValueError, match=f"first_head='{other}' contradicts .*: {heads[0]}"):
        from_state_dict(state_dict, first_head=other)


@pytest.mark.parametrize(
    "heads",
    ["fc21 fc22", "fc_mu fc22", "mu1 mu2", "mu_var var_mu", "mute_a variety_b", "encoder.4", "mu"],
)
@pytest.mark.parametrize("log_var_first", [False, True])
def test_heads_whose_names_say_nothing_need_the_argument(heads: str, log_var_first: bool) -> None:
    vae = random_vae()
    layers = ["encoder.0", "encoder.2", *heads.split(), "decoder.0", "decoder.2", "decoder.4"]
    state_dict = named(vae, *layers, log_var_first=log_var_first)
    with pytest.raises(ValueError, match=r"no name says .*: pass first_head='mu' or first_head="):
        from_state_dict(state_dict)
    first: Any = "log_var" if log_var_first else "mu"
    assert_same(from_state_dict(state_dict, first), vae)
    with pytest.raises(ValueError, match="first_head must be 'mu' or 'log_var', not 'sigma'"):
        from_state_dict(state_dict, first_head="sigma")  # type: ignore[arg-type]


# ------------------------------------------------------------------ what people have


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "net"])
def test_a_checkpoint_is_unwrapped(key: str) -> None:
    vae = random_vae()
    model = TorchVAE(12, (7, 5), 3)
    model.load_state_dict(to_state_dict(vae.parameters))
    adam = torch.optim.Adam(model.parameters())
    torch.autograd.backward(model.losses(torch.rand(2, 12), torch.rand(2, 3), 1.0)[2])
    adam.step()
    load = {"epoch": 3, "loss": torch.tensor(1.0), "optimizer": adam.state_dict(), "hparams": {}}
    load_state_dict(vae.parameters, {**load, key: model.state_dict()})
    assert_same(from_state_dict(model.state_dict()), vae)
    with pytest.raises(ValueError, match=rf"several entries hold tensors \({key}, ema\)"):
        from_state_dict({**load, key: model.state_dict(), "ema": model.state_dict()})


@pytest.mark.parametrize("deep", [False, True])
def test_a_file_sorted_by_name_is_put_in_order(deep: bool) -> None:
    """As safetensors sorts it: decoders before encoders, 10 before 2, log_var before mu."""
    vae = random_vae((6,) * 12 if deep else (7, 5))
    state_dict = to_state_dict(vae.parameters)
    arrays = {name: state_dict[name].numpy() for name in sorted(state_dict)}
    assert next(iter(arrays)) == "decoder.hidden0.bias"
    back = from_state_dict(arrays)
    assert back.keys() == vae.parameters.keys()
    assert all(np.array_equal(back[name], vae.parameters[name]) for name in back)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_becomes_float32(dtype: str) -> None:
    vae = random_vae()
    half = {n: t.to(getattr(torch, dtype)) for n, t in to_state_dict(vae.parameters).items()}
    found = [from_state_dict(half)]
    if dtype == "float16":
        found.append(from_state_dict({name: tensor.numpy() for name, tensor in half.items()}))
    for arrays in found:
        for name, array in arrays.items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, vae.parameters[name], rtol=2**-8)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("vae", [VAE(12, (7,), 10), VAE(12, (7, 7), 1), VAE(13, (7,), 1)])
def test_weights_of_other_sizes_change_nothing(vae: VAE) -> None:
    """One latent would broadcast into ten, and a shallow network leave layers of a deep one out."""
    state_dict = to_state_dict(VAE(12, (7,), 1).parameters)
    before = vae.parameters.copy()
    with pytest.raises(ValueError, match="the PyTorch network is 12-7-1, but the VAE is 1"):
        load_state_dict(vae.parameters, state_dict)
    with pytest.raises(ValueError, match="the PyTorch network is 12-7-1, but the VAE is 1"):
        to_state_dict(vae.parameters, state_dict)
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


def change(**changes: Any) -> Callable[[StateDict], StateDict]:
    """Other tensors for some layers' weights; None for none."""

    def changed(state_dict: StateDict) -> StateDict:
        new = {**state_dict, **{name.replace("__", "."): value for name, value in changes.items()}}
        return {name: tensor for name, tensor in new.items() if tensor is not None}

    return changed


def backwards(state_dict: StateDict) -> StateDict:
    return dict(reversed(state_dict.items()))


def not_transposed(state_dict: StateDict) -> StateDict:
    return {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in state_dict.items()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(out__bias=None), "layer out has no bias"),
        (
            change(out__bias=None, out__weight=None),
            r"layer mu is \(5, 2\) .* but encoder.log_var must be \(5, 1\)",
        ),
        (
            backwards,
            r"layer d1 is \(3, 5\) as \(in, out\), but encoder.mu must be \(12, 5\)",
        ),
        (not_transposed, r"layer e0 is not linear: weight \(12, 5\), bias \(5,\)"),
        (
            change(mu__weight=torch.zeros(4, 5), mu__bias=torch.zeros(4)),
            r"layer log_var is \(5, 3\) .* must be \(5, 4\)",
        ),
        (change(norm__num_batches_tracked=torch.tensor(3)), "norm.num_batches_tracked is not the"),
        (change(log_scale=torch.zeros(1)), "log_scale is not the weight or bias"),
        (change(e0__weight=torch.zeros(5, 3, 2, 2)), r"layer e0 is not linear: weight \(5, 3"),
        (change(e0__weight=torch.zeros(5, 12, dtype=torch.int8)), "must hold floats, not int8"),
        (change(e0__bias=torch.full((5,), np.nan)), "e0.bias holds NaN or infinity"),
        (change(e0__bias=torch.tensor(1.0)), "layer e0 is not linear"),
        (lambda state_dict: {}, "0 linear layers are too few"),
        (lambda state_dict: {"model": TorchVAE()}, "model is not the weight or bias"),
    ],
)
def test_another_network_is_refused(spoil: Callable[[StateDict], StateDict], message: str) -> None:
    state_dict = named(random_vae((5,)), "e0", "mu", "log_var", "d1", "out")
    from_state_dict(state_dict)
    with pytest.raises(ValueError, match=message):
        from_state_dict(spoil(state_dict))


@pytest.mark.parametrize("given", [TorchVAE(), "vae.pt", [torch.zeros(3)], None])
def test_what_is_no_state_dict_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"a mapping such as model\.state_dict\(\), not "):
        from_state_dict(given)
