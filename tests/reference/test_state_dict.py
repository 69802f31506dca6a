"""Weights cross over to PyTorch and back, or are refused: never into the wrong place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npvae import VAE
from npvae.core.parameters import Array

torch = pytest.importorskip("torch", reason="weights from PyTorch need torch")

from npvae.reference.pytorch import TorchVAE  # noqa: E402
from npvae.reference.state_dict import (  # noqa: E402
    Head,
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
        ("fc_sigma fc_mu", None, False, False),
        ("fc_mu fc_log_sigma", None, True, True),
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
    meaning = False if re.search("(?i)std|sigma|scale", names) else None
    assert_same(from_state_dict(state_dict, log_sigma=meaning), vae)
    first: Any
    other: Any
    first, other = ("log_var", "mu") if log_var_first else ("mu", "log_var")
    assert_same(from_state_dict(state_dict, first, meaning), vae)
    with pytest.raises(ValueError, match=f"first_head='{other}' contradicts .*: {heads[0]}"):
        from_state_dict(state_dict, other, meaning)
    if meaning is False:
        with pytest.raises(ValueError, match=r"log sigma, or log sigma\^2\?\nPass log_sigma=True"):
            from_state_dict(state_dict, first)


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


def renamed(state_dict: StateDict, pattern: str, new: str) -> StateDict:
    return {re.sub(pattern, new, name): tensor for name, tensor in state_dict.items()}


def in_out(state_dict: StateDict) -> dict[str, Array]:
    """NumPy arrays with weights (in, out), as in Keras."""
    return {name: tensor.numpy().T for name, tensor in state_dict.items()}


def separate(state_dict: StateDict) -> StateDict:
    tensors = list(state_dict.items())
    return {"decoder": dict(tensors[-4:]), "encoder": dict(tensors[:-4])}


WHAT_PEOPLE_HAVE: dict[str, Callable[[StateDict], Any]] = {
    "averaged": lambda sd: {**renamed(sd, "^", "module."), "n_averaged": torch.tensor(3)},
    "compiled": lambda sd: renamed(sd, "^", "_orig_mod."),
    "nested": lambda sd: {
        "epoch": 3,
        "run": {"vae": sd, "adam": {"state": {0: {"m": torch.ones(2)}}}},
    },
    "encoder and decoder apart": separate,
    "trainable": lambda sd: {name: tensor.requires_grad_() for name, tensor in sd.items()},
    "(in, out)": in_out,
    "Keras, by name": lambda sd: renamed(
        renamed(in_out(sd), r"\.weight", "/kernel:0"), r"\.b", "/b"
    ),
    "Keras, a list": lambda sd: list(in_out(sd).values()),
    "Keras, a list of layers": lambda sd: [*zip(*2 * [iter(in_out(sd).values())], strict=True)],
    "a list of parameters": lambda sd: tuple(sd.values()),
    "a list with names": lambda sd: list(sd.items()),
    "Flax": lambda sd: {
        "params": {
            layer: {"kernel": sd[f"{layer}.weight"].numpy().T, "bias": sd[f"{layer}.bias"].numpy()}
            for layer in sorted({name.rpartition(".")[0] for name in sd})
        }
    },
    "the last layer first": lambda sd: dict(reversed(sd.items())),
    "sorted by name": lambda sd: {name: sd[name] for name in sorted(sd)},
}


@pytest.mark.parametrize("names", ["e0 mu log_var d1 out", "fc1 fc21 fc22 fc3 fc4"])
@pytest.mark.parametrize("have", WHAT_PEOPLE_HAVE.values(), ids=WHAT_PEOPLE_HAVE)
def test_what_people_have_is_read(have: Callable[[StateDict], Any], names: str) -> None:
    vae = random_vae((5,))
    backwards = have is WHAT_PEOPLE_HAVE["the last layer first"]
    given = have(named(vae, *names.split()))
    first: Head | None = None
    if "mu" not in names or type(given) in (list, tuple):
        first = "log_var" if backwards else "mu"
    assert_same(from_state_dict(given, first), vae)


def test_where_every_layer_is_square_the_endings_of_the_names_decide() -> None:
    vae = VAE(5, (5,), 5)
    state_dict = to_state_dict(vae)
    assert_same(from_state_dict(state_dict), vae)
    assert_same(from_state_dict(renamed(in_out(state_dict), "weight", "kernel")), vae)


def test_a_model_is_as_good_as_its_weights() -> None:
    vae, module = random_vae(), TorchVAE(12, (7, 5), 3)
    averaged = torch.optim.swa_utils.AveragedModel(module)
    averaged.load_state_dict(to_state_dict(vae, like=averaged))  # with its counter
    other = VAE(12, (7, 5), 3)
    for given in (averaged, {"model": averaged, "adam": torch.optim.Adam(module.parameters())}):
        other.parameters.flat[:] = 0
        load_state_dict(other, given)
        assert_same(other.parameters, vae)
    with pytest.raises(TypeError, match=r"a VAE or vae\.parameters, not TorchVAE"):
        load_state_dict(module, vae)
    with pytest.raises(ValueError, match="like must be the state_dict of a network in PyTorch"):
        to_state_dict(vae, like=in_out(to_state_dict(vae)))


# ------------------------------------------------------------------ other pixels


@pytest.mark.parametrize(
    ("pixels", "num_classes"), [((-1, 1), 0), ((-0.42, 2.82), 4), ((0, 255), 0)]
)
def test_a_network_for_other_pixels_gives_the_same_loss_on_ours(
    pixels: tuple[float, float], num_classes: int
) -> None:
    """So the published weights of the second tutorial get its own figures, 1200.6 and 2926.4.

    They train on Normalize((0.5,), (0.5,)), pixels in [-1, 1]; the figures are the loss of images
    in [0, 1]. With pixels=(-1, 1) both come out, 1201.4 and 2926.7 with other noise; without, the
    first has 2139. Here a network learns likewise.
    """
    low, high = pixels
    module = TorchVAE(12, (7,), 3, num_classes=num_classes).double()
    x, epsilon = torch.rand(50, 12, dtype=float), torch.randn(50, 3, dtype=float)
    c = torch.arange(50) % num_classes if num_classes else None
    adam = torch.optim.Adam(module.parameters(), 0.01 / (high - low))

    def bce_and_kl() -> Any:
        logits, mu, log_var = module(low + (high - low) * x, epsilon, c)
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / 50
        return bce, 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum() / 50

    for _ in range(5):
        adam.zero_grad()
        sum(bce_and_kl()).backward()
        adam.step()
    vae = VAE(12, (7,), 3, dtype=float, num_classes=num_classes)
    load_state_dict(vae.parameters, module.state_dict(), pixels=pixels)
    loss = vae.loss(x.numpy(), epsilon.numpy(), c=None if c is None else c.numpy())
    expected = [float(part.detach()) for part in bce_and_kl()]
    np.testing.assert_allclose([loss.bce, loss.kl], expected, rtol=1e-12)
    for name, tensor in to_state_dict(vae, module, pixels=pixels).items():
        np.testing.assert_allclose(tensor, module.state_dict()[name], rtol=1e-12, atol=1e-13)


def test_scaled_weights_are_rounded_once_and_pixels_are_checked() -> None:
    vae = random_vae((5,))
    state_dict = to_state_dict(vae.parameters)
    found = from_state_dict(state_dict, pixels=(-1, 1))
    W, b = vae.parameters["encoder.hidden0.W"], vae.parameters["encoder.hidden0.b"]
    np.testing.assert_array_equal(found["encoder.hidden0.W"], 2 * W, strict=True)
    exact = (b.astype(float) - W.astype(float).sum(axis=0)).astype(np.float32)
    np.testing.assert_array_equal(found["encoder.hidden0.b"], exact, strict=True)
    wrong: Any
    for wrong in ((1, -1), (0, 0), (0, np.nan), (0, 1, 2), 1):
        with pytest.raises(ValueError, match="pixels must be two numbers, black and white"):
            from_state_dict(state_dict, pixels=wrong)


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(out__bias=None), "layer out has no bias"),
        (
            change(out__bias=None, out__weight=None),
            r"layer mu is \(5, 2\) .* but encoder.log_var must be \(5, 1\)",
        ),
        (change(e0__weight=torch.zeros(12, 5)), r"layer e0 is not linear: weight \(12, 5\), bias"),
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
        (
            lambda state_dict: {"W1": np.ones((12, 5))},
            r"no name .*: W1.\nPass the arrays as a list",
        ),
        (lambda state_dict: [*state_dict.values()][:3], "layer layer1 has no bias"),
        (lambda state_dict: {"vae": state_dict, "ema": state_dict}, r"several entries .*vae, ema"),
    ],
)
def test_another_network_is_refused(spoil: Callable[[StateDict], StateDict], message: str) -> None:
    state_dict = named(random_vae((5,)), "e0", "mu", "log_var", "d1", "out")
    from_state_dict(state_dict)
    with pytest.raises(ValueError, match=message):
        from_state_dict(spoil(state_dict))


@pytest.mark.parametrize("given", ["vae.pt", torch.zeros(3), None])
def test_what_is_no_state_dict_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match=r"a mapping such as model\.state_dict\(\), not "):
        from_state_dict(given)
