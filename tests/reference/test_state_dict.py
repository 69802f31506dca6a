"""Weights cross over to PyTorch and back, or are refused: never into the wrong place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npvae import VAE
from npvae.core.parameters import Array
from tests.helpers import Said, refused

torch = pytest.importorskip("torch", reason="weights from PyTorch need torch")

from npvae.reference.pytorch import TorchVAE  # noqa: E402
from npvae.reference.state_dict import (  # noqa: E402
    Head,
    from_state_dict,
    load_state_dict,
    to_state_dict,
)

StateDict = dict[str, Any]


def random_vae(hidden_dims: tuple[int, ...] = (7, 5), dtype: Any = np.float32) -> VAE:
    vae = VAE(12, hidden_dims, 3, dtype=dtype)
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


def with_heads(vae: VAE, heads: list[str], log_var_first: bool = False) -> StateDict:
    layers = ["encoder.0", "encoder.2", *heads, "decoder.0", "decoder.2", "decoder.4"]
    return named(vae, *layers, log_var_first=log_var_first)


def assert_same(arrays: Any, vae: VAE) -> None:
    assert list(arrays) == list(vae.parameters)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, vae.parameters[name], strict=True)


# ------------------------------------------------------------------ there and back


@pytest.mark.parametrize(
    ("hidden_dims", "dtype"), [((7,), np.float32), ((7, 5), np.float64), ((6, 6, 6), np.float32)]
)
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


def test_weights_that_cross_over_are_copies() -> None:
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

TELLING = [
    *("mean logstd", "Mu LogVar", "z_mu z_lv", "hidden2mean hidden2logv", "fc31_mu fc32_var"),
    *("variational_encoder.fc_mu variational_encoder.fc_var", "mean_field.mu mean_field.ln_var"),
    *("encMu encLogVar", "fcMU fcVAR", "loc.0 scale.0", "mu_log_var", "fc_meanLogStd"),
]


@pytest.mark.parametrize("log_var_first", [False, True])
def test_heads_are_told_apart_by_the_words_of_their_names(log_var_first: bool) -> None:
    vae = random_vae()
    first: Head = "log_var" if log_var_first else "mu"
    other: Head = "mu" if log_var_first else "log_var"
    for names in TELLING:
        heads = names.split()
        if log_var_first:
            heads = heads[::-1] if len(heads) > 1 else ["LogVar_mu" if "_l" in names else "stdMean"]
        state_dict = with_heads(vae, heads, log_var_first)
        meaning = False if re.search("(?i)std|scale", names) else None
        assert_same(from_state_dict(state_dict, log_sigma=meaning), vae)
        assert_same(from_state_dict(state_dict, first, meaning), vae)
        with refused(ValueError, f"first_head='{other}' contradicts ", f": {heads[0]}"):
            from_state_dict(state_dict, other, meaning)
        if meaning is False:
            with refused(ValueError, "log sigma, or log sigma^2?\nPass log_sigma=True"):
                from_state_dict(state_dict, first)


@pytest.mark.parametrize("log_var_first", [False, True])
def test_heads_whose_names_say_nothing_need_the_argument(log_var_first: bool) -> None:
    vae = random_vae()
    first: Head = "log_var" if log_var_first else "mu"
    for heads in ("fc_mu fc22", "mu1 mu2", "mu_var var_mu", "mute_a variety_b", "encoder.4", "mu"):
        state_dict = with_heads(vae, heads.split(), log_var_first)
        with refused(ValueError, "no name says ", ": pass first_head='mu' or first_head="):
            from_state_dict(state_dict)
        assert_same(from_state_dict(state_dict, first), vae)
    with refused(ValueError, "first_head must be 'mu' or 'log_var', not 'sigma'"):
        from_state_dict(state_dict, first_head="sigma")  # type: ignore[arg-type]


# ------------------------------------------------------------------ what people have


def renamed(state_dict: StateDict, pattern: str, new: str) -> StateDict:
    return {re.sub(pattern, new, name): tensor for name, tensor in state_dict.items()}


def in_out(state_dict: StateDict) -> dict[str, Array]:
    """NumPy arrays with weights (in, out), as in Keras."""
    return {name: tensor.numpy().T for name, tensor in state_dict.items()}


def separate(state_dict: StateDict) -> StateDict:
    tensors = list(state_dict.items())
    return {"decoder": dict(tensors[-4:]), "encoder": dict(tensors[:-4])}


FORMS: dict[str, Callable[[StateDict], Any]] = {
    "averaged": lambda sd: {**renamed(sd, "^", "module."), "n_averaged": torch.tensor(3)},
    "compiled": lambda sd: renamed(sd, "^", "_orig_mod."),
    "a checkpoint": lambda sd: {
        "epoch": 3,
        "loss": torch.tensor(1.0),
        "run": {"net": sd, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
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


@pytest.mark.parametrize("have", FORMS.values(), ids=FORMS)
def test_weights_are_read_in_every_form_people_have(have: Callable[[StateDict], Any]) -> None:
    vae = random_vae((5,))
    for names in ("e0 mu log_var d1 out", "fc1 fc21 fc22 fc3 fc4"):
        given = have(named(vae, *names.split()))
        first: Head | None = None
        if "mu" not in names or type(given) in (list, tuple):
            first = "log_var" if have is FORMS["the last layer first"] else "mu"
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
    with refused(TypeError, "a VAE or vae.parameters, not TorchVAE"):
        load_state_dict(module, vae)
    with refused(ValueError, "like must be the state_dict of a network in PyTorch"):
        to_state_dict(vae, like=in_out(to_state_dict(vae)))


@pytest.mark.parametrize("hidden_dims", [(7, 5), (6,) * 12], ids=["flat", "deep"])
def test_a_file_sorted_by_name_is_put_in_order(hidden_dims: tuple[int, ...]) -> None:
    """As safetensors sorts it: decoders before encoders, 10 before 2, log_var before mu."""
    vae = random_vae(hidden_dims)
    arrays = {name: tensor.numpy() for name, tensor in sorted(to_state_dict(vae).items())}
    assert next(iter(arrays)) == "decoder.hidden0.bias"
    back = from_state_dict(arrays)
    assert back.keys() == vae.parameters.keys()
    assert all(np.array_equal(back[name], vae.parameters[name]) for name in back)


def test_half_precision_becomes_float32() -> None:
    vae = random_vae()
    tensors = to_state_dict(vae.parameters)
    halves = [
        {name: tensor.to(dtype) for name, tensor in tensors.items()}
        for dtype in (torch.float16, torch.bfloat16)
    ]
    for half in (*halves, {name: t.numpy() for name, t in halves[0].items()}):
        for name, array in from_state_dict(half).items():
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, vae.parameters[name], rtol=2**-8)


# ------------------------------------------------------------------ other pixels


@pytest.mark.parametrize(("pixels", "num_classes"), [((-1, 1), 0), ((-0.42, 2.82), 4)])
def test_a_network_for_other_pixels_gives_the_same_loss_on_ours(
    pixels: tuple[float, float], num_classes: int
) -> None:
    """So the published weights of the second tutorial get its own figures, 1200.6 and 2926.4.

    They train on Normalize((0.5,), (0.5,)), pixels in [-1, 1]; the figures are the loss of images
    in [0, 1]. With pixels=(-1, 1) both come out, 1201.4 and 2926.7 with other noise; without, the
    first has 2139.
    """
    low, high = pixels
    module = TorchVAE(12, (7,), 3, num_classes=num_classes).double()
    x, epsilon = torch.rand(50, 12, dtype=float), torch.randn(50, 3, dtype=float)
    c = torch.arange(50) % num_classes if num_classes else None
    with torch.no_grad():
        logits, mu, log_var = module(low + (high - low) * x, epsilon, c)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = 0.5 * (mu**2 + log_var.exp() - 1 - log_var).sum()
    vae = VAE(12, (7,), 3, dtype=float, num_classes=num_classes)
    load_state_dict(vae.parameters, module.state_dict(), pixels=pixels)
    loss = vae.loss(x.numpy(), epsilon.numpy(), c=None if c is None else c.numpy())
    np.testing.assert_allclose([loss.bce, loss.kl], [bce / 50, kl / 50], rtol=1e-12)
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
    for wrong in ((1, -1), (0, 0), (0, np.nan), (0, np.inf), (0, 1, 2), 1):
        with refused(ValueError, "pixels must be two numbers, black and white"):
            from_state_dict(state_dict, pixels=wrong)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("vae", [VAE(12, (7,), 10), VAE(12, (7, 7), 1), VAE(13, (7,), 1)])
def test_weights_of_other_sizes_change_nothing(vae: VAE) -> None:
    """One latent would broadcast into ten, and a shallow network leave layers of a deep one out."""
    state_dict = to_state_dict(VAE(12, (7,), 1).parameters)
    before = vae.parameters.copy()
    for cross in (load_state_dict, to_state_dict):
        with refused(ValueError, "the PyTorch network is 12-7-1, but the VAE is 1"):
            cross(vae.parameters, state_dict)
    np.testing.assert_array_equal(vae.parameters.flat, before.flat)


RIGHT = named(random_vae((5,)), "e0", "mu", "log_var", "d1", "out")


def changed(**others: Any) -> StateDict:
    """The right tensors but for these, out__bias for out.bias; None for none."""
    new = {**RIGHT, **{name.replace("__", "."): tensor for name, tensor in others.items()}}
    return {name: tensor for name, tensor in new.items() if tensor is not None}


OTHERS: dict[str, Any] = {
    "no bias": changed(out__bias=None),
    "no last layer": changed(out__bias=None, out__weight=None),
    "heads of two sizes": changed(mu__weight=torch.zeros(4, 5), mu__bias=torch.zeros(4)),
    "(in, out) in one layer": changed(e0__weight=torch.zeros(12, 5)),
    "a number as bias": changed(e0__bias=torch.tensor(1.0)),
    "batch normalization": changed(norm__num_batches_tracked=torch.tensor(3)),
    "integers": changed(e0__weight=torch.zeros(5, 12, dtype=torch.int8)),
    "NaN": changed(e0__bias=torch.full((5,), np.nan)),
    "nothing": {},
    "names without endings": {"W1": np.ones((12, 5))},
    "a list that ends in a weight": [*RIGHT.values()][:3],
    "two networks": {"epoch": 3, "vae": RIGHT, "ema": RIGHT},
    "the name of a file": "vae.pt",
}


def test_another_network_is_refused(said: Said) -> None:
    found = {}
    for what, other in OTHERS.items():
        with pytest.raises((TypeError, ValueError)) as caught:
            from_state_dict(other)
        found[what] = f"{caught.type.__name__}: {caught.value}"
    said("weights from PyTorch are refused", found)
