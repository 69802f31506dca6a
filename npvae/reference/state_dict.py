"""Weights from PyTorch and back: which tensor is which parameter?

An nn.Linear computes y = x @ weight.T + bias: its weight (out, in) is the transpose of our W
(in, out). A state_dict lists the layers in the order in which the module defines them. This order
and the shapes identify every layer but the two heads, which have the same shape. The heads are
identified by the words in their names, or by the argument `first_head`.

Weights do not show everything. Nothing here can notice:

- which pixels the network was trained on: pass `pixels=(-1, 1)` if black was -1 and white was 1;
- which activation the hidden layers have: pass it to `npvae.VAE`;
- which activation follows the last layer. It is taken as a sigmoid. After a tanh, on pixels in
  [-1, 1], double `decoder.logits.W` and `.b`: (tanh(y) + 1) / 2 = sigmoid(2 y);
- what the second head means if its name does not say. It is taken as log sigma^2;
- how a joined head is divided. It is taken as two halves, not as every other row;
- hidden layers of equal sizes that the module defines in another order than it applies them.

tensors.py lists what is accepted beside a state_dict. See also pytorch.py, which compares the two
programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from npvae.core.network import parameter_shapes
from npvae.core.parameters import Array
from npvae.reference.tensors import DECODER_WORDS, Layers, linear_layers, weights_in, words_of

if TYPE_CHECKING:
    from torch import Tensor

Head = Literal["mu", "log_var"]

SIGMA_WORDS = {
    *("sigma", "sigmas", "sig", "std", "stds", "stddev", "stdev", "sd", "deviation", "scale"),
    *("logsigma", "logsig", "logstd", "logsd", "logscale", "lnsigma", "lnstd", "rho", "precision"),
}
HEAD_WORDS: dict[str, Head] = {
    **dict.fromkeys(("mu", "mus", "mean", "means", "loc"), "mu"),
    **dict.fromkeys(("var", "logvar", "lnvar", "lvar", "lv", "logv", "variance"), "log_var"),
    **dict.fromkeys(("logvariance", *SIGMA_WORDS), "log_var"),
}
KINDS = {"W": "weight", "b": "bias"}
Place: TypeAlias = tuple[str, slice]  # the name of a layer, and which rows of weight and bias


def to_state_dict(
    parameters: Any,
    like: Any = None,
    first_head: Head | None = None,
    log_sigma: bool | None = None,
    pixels: tuple[float, float] = (0, 1),
) -> dict[str, Tensor]:
    """The parameters of a VAE, or of this VAE, as PyTorch tensors, which are copies.

    Their names are those of a TorchVAE: "encoder.hidden0.weight" (H, D), "encoder.hidden0.bias"
    (H,), and so on. For another network, pass its state_dict as `like`: the result has its names
    and dtype, its order of the heads, and a joined head where it has one.

        model.load_state_dict(to_state_dict(vae.parameters, like=model.state_dict()))

    `first_head`, `log_sigma`, `pixels` and the errors are those of `from_state_dict`, for `like`.
    Raises ValueError, too, if the two networks differ in size, or `like` is not of PyTorch.
    """
    import torch

    low, high = checked_pixels(pixels)
    arrays = rescaled(parameters_of(parameters), -low / (high - low), 1 / (high - low))
    arrays = with_log_var_times(0.5, arrays) if log_sigma else arrays
    if like is None:
        return {
            f"{name[:-2]}.{KINDS[name[-1]]}": torch.tensor(array.T)
            for name, array in arrays.items()
        }
    check_same_sizes(from_state_dict(like, first_head, log_sigma), arrays)
    theirs = weights_in(like)
    layers = linear_layers(theirs)
    for name, (layer, rows) in places(theirs, layers, first_head, log_sigma).items():
        for key, kind in KINDS.items():
            layers[layer][kind][rows] = arrays[f"{name}.{key}"].T
    ours = {f"{n}.{kind}": array for n, pair in layers.items() for kind, array in pair.items()}
    if any(name not in theirs or theirs[name].shape != a.shape for name, a in ours.items()):
        raise ValueError("like must be the state_dict of a network in PyTorch")
    counters = {name: tensor.clone() for name, tensor in theirs.items() if name not in ours}
    return {**counters, **{name: torch.tensor(array) for name, array in ours.items()}}


def from_state_dict(
    state_dict: Any,
    first_head: Head | None = None,
    log_sigma: bool | None = None,
    pixels: tuple[float, float] = (0, 1),
) -> dict[str, Array]:
    """The parameters of a VAE by our names, from the state_dict of the same network in PyTorch.

    The network has hidden layers, the heads mu and log_var (or one joined head), and a decoder that
    mirrors the encoder. `state_dict` holds their tensors or NumPy arrays; it may also be the module
    itself, a checkpoint with one such entry, or weights of Keras: see tensors.py.

    `first_head`, "mu" or "log_var", is needed where the names do not show which head comes first in
    `state_dict` (fc21, fc22), or which one is the first half of a joined head.

    `log_sigma` is needed where a name says sigma, std or scale. True: the second head is log sigma.
    Then log_var = 2 log sigma, so its weight and bias are doubled. False: it is log sigma^2.

    `pixels` are the values of black and white that the network was trained on: (-1, 1) after
    Normalize((0.5,), (0.5,)), (0, 255) for bytes. Ours are 0 and 1, so the first layer takes over
    the scaling, which is exact up to one rounding. With p = low + (high - low) x,

        p @ W + b = x @ ((high - low) W) + (b + low * sum of W over the pixels)

    Classes beside the pixels are not scaled. The output stays: its sigmoid is in [0, 1] anyway.

    The arrays are copies of the same dtype, but half precision (float16, bfloat16) becomes float32.
    Raises ValueError if these are not the tensors of such a network, if one is not finite, or if
    the heads cannot be told apart, and TypeError if `state_dict` is nothing of this kind.
    """
    low, high = checked_pixels(pixels)
    tensors = weights_in(state_dict)
    layers = linear_layers(tensors)
    arrays = {
        f"{name}.{key}": layers[layer][kind][rows].T.copy()
        for name, (layer, rows) in places(tensors, layers, first_head, log_sigma).items()
        for key, kind in KINDS.items()
    }
    return rescaled(with_log_var_times(2, arrays) if log_sigma else arrays, low, high - low)


def load_state_dict(
    parameters: Any,
    state_dict: Any,
    first_head: Head | None = None,
    log_sigma: bool | None = None,
    pixels: tuple[float, float] = (0, 1),
) -> None:
    """Overwrite the parameters of a VAE with what `from_state_dict` finds, whose errors it raises.

    `parameters` may be the VAE itself. Raises ValueError, too, if the two networks differ in size.
    After an error nothing has changed.
    """
    parameters = parameters_of(parameters)
    arrays = from_state_dict(state_dict, first_head, log_sigma, pixels)
    check_same_sizes(arrays, parameters)
    for name, array in arrays.items():
        parameters[name][...] = array


def parameters_of(given: Any) -> Mapping[str, Array]:
    """The parameters themselves, or those of a VAE. Raises TypeError."""
    parameters: Mapping[str, Array] = getattr(given, "parameters", given)
    if not isinstance(parameters, Mapping) or "decoder.logits.W" not in parameters:
        raise TypeError(f"this takes a VAE or vae.parameters, not {type(given).__name__}")
    return parameters


def checked_pixels(pixels: tuple[float, float]) -> tuple[float, float]:
    """Black and white. Raises ValueError unless they are two numbers in rising order."""
    low, high = pixels if np.shape(pixels) == (2,) else (np.nan, np.nan)
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"pixels must be two numbers, black and white: (-1, 1), not {pixels}")
    return low, high


def rescaled(arrays: Mapping[str, Array], low: float, factor: float) -> dict[str, Array]:
    """The network that gets x where this one gets low + factor * x; classes stay as they are."""
    scaled = dict(arrays)
    if (low, factor) != (0, 1):
        first, bias = arrays["encoder.hidden0.W"], arrays["encoder.hidden0.b"]
        W, D = first.astype(np.float64), len(arrays["decoder.logits.b"])
        scaled["encoder.hidden0.b"] = (bias + low * W[:D].sum(axis=0)).astype(bias.dtype)
        W[:D] *= factor
        scaled["encoder.hidden0.W"] = W.astype(first.dtype)
    return scaled


def check_same_sizes(theirs: Mapping[str, Array], ours: Mapping[str, Array]) -> None:
    """Raises ValueError unless all names and shapes are equal."""
    shapes = [{name: array.shape for name, array in arrays.items()} for arrays in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the PyTorch network is {sizes(theirs)}, but the VAE is {sizes(ours)}")


def sizes(arrays: Mapping[str, Array]) -> str:
    """Of input, hidden layers and latents: "784-128-10"."""
    path = [array for name, array in arrays.items() if re.match(r"encoder\.(hidden|mu).*W", name)]
    return "-".join(map(str, [*(len(W) for W in path), *path[-1].shape[1:]]))


def with_log_var_times(factor: float, arrays: Mapping[str, Array]) -> dict[str, Array]:
    head = "encoder.log_var."
    return {name: a * factor if name.startswith(head) else a for name, a in arrays.items()}


# ------------------------------------------------------------------ which layer is which


def places(
    tensors: Mapping[str, Any], layers: Layers, first_head: Head | None, log_sigma: bool | None
) -> dict[str, Place]:
    """Where each of our layers is: the name of theirs, and which rows of its weight and bias."""
    names = sorted(layers, key=is_of_decoder)  # those last
    tried = [names]
    if list(tensors) == sorted(tensors):  # as in a safetensors file: fc10 comes before fc2
        tried.insert(0, sorted(sorted(layers, key=by_number), key=is_of_decoder))
    chosen = next((order for order in tried if fits(layers, order)), None)
    if chosen is None and len(names) <= 7:  # the shapes alone, if only the heads can change places
        fitting = [order for order in permutations(names) if fits(layers, order)]
        chosen = [*fitting[0]] if len(fitting) == 1 + len(names) % 2 else None
    found = in_order(layers, chosen or names)
    mu, log_var = found["encoder.mu"], found["encoder.log_var"]
    if order_of_heads(list(dict.fromkeys([mu[0], log_var[0]])), first_head, log_sigma) == "log_var":
        found["encoder.mu"], found["encoder.log_var"] = log_var, mu
    return found


def is_of_decoder(name: str) -> bool:
    """Whether a word of the name says so."""
    return not DECODER_WORDS.isdisjoint(words_of(name))


def by_number(name: str) -> str:
    """The name, such that sorting puts 2 before 10."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(9), name)


def fits(layers: Layers, names: Sequence[str]) -> bool:
    """Whether the shapes are those of a VAE if its layers are in this order."""
    try:
        in_order(layers, names)
    except ValueError:
        return False
    return True


def in_order(layers: Layers, names: Sequence[str]) -> dict[str, Place]:
    """The layers, in this order, by our names; mu is the first head. ValueError: wrong shapes."""
    depth, joined = len(names) // 2 - 1, len(names) % 2 == 0  # 2 depth + 3 layers, or + 2 if joined
    if depth < 1:
        raise ValueError(
            f"{len(names)} linear layers are too few: a VAE with one hidden layer has 5, or 4 if "
            "its heads are joined"
        )
    found = [(name, slice(None)) for name in names]
    latent_dim = len(layers[names[depth]]["bias"])
    if joined:
        latent_dim //= 2
        halves = slice(latent_dim), slice(latent_dim, None)
        found[depth : depth + 1] = [(names[depth], half) for half in halves]
    hidden_dims = [len(layers[name]["bias"]) for name in names[:depth]]
    inputs, outputs = layers[names[0]]["weight"].shape[1], len(layers[names[-1]]["bias"])
    classes = layers[names[-depth - 1]]["weight"].shape[1] - latent_dim  # one-hot, beside x and z
    classes = classes if 0 < classes == inputs - outputs else 0
    shapes = parameter_shapes(inputs - classes, hidden_dims, latent_dim, classes)
    ours = [name.removesuffix(".W") for name in shapes if name.endswith(".W")]
    for our_name, (name, rows) in zip(ours, found, strict=True):
        shape, needed = layers[name]["weight"][rows].T.shape, shapes[f"{our_name}.W"]
        if shape != needed:
            raise ValueError(
                f"layer {name} is {shape} as (in, out), but {our_name} must be {needed}.\n"
                f"The layers found are {', '.join(names)}.\n"
                "They must be in the order of data flow, the decoder must mirror the encoder, and "
                "an even number of layers means that the heads are joined.\n"
                "To restore the order: {name: tensors[name] for name in model.state_dict()}"
            )
    return dict(zip(ours, found, strict=True))


def order_of_heads(names: list[str], asked: Head | None, log_sigma: bool | None) -> Head:
    """Which head comes first, by the names of the two layers, or of the joined one."""
    if asked not in (None, "mu", "log_var"):
        raise ValueError(f"first_head must be 'mu' or 'log_var', not {asked!r}")
    if len(names) == 2:  # words that both share say nothing
        words = [words_of(name) for name in names]
        own = [[word for word in words[0] if word not in words[1]]]
        own += [[word for word in words[1] if word not in words[0]]]
        question = f"which of the layers {names[0]} and {names[1]} is mu and which is log_var"
    else:
        own = [[word] for word in words_of(names[0]) if word in HEAD_WORDS]
        question = f"which half of the layer {names[0]} is mu and which is log_var"
    if log_sigma is None and any(word in SIGMA_WORDS for words in own for word in words):
        raise ValueError(
            f"is the second head of {' and '.join(names)} log sigma, or log sigma^2?\n"
            "Pass log_sigma=True or log_sigma=False. If it is sigma itself, or softplus makes it\n"
            "sigma, no weights give its logarithm: train the network with a head for log sigma^2."
        )
    said = [{HEAD_WORDS[word] for word in words if word in HEAD_WORDS} for words in own]
    named: Head | None = None
    if said in ([{"mu"}, {"log_var"}], [{"log_var"}, {"mu"}]):
        (named,) = said[0]
    chosen = asked or named
    if chosen is None:
        raise ValueError(f"no name says {question}: pass first_head='mu' or first_head='log_var'")
    if named not in (None, chosen):
        raise ValueError(f"first_head={asked!r} contradicts the layer names: {', '.join(names)}")
    return chosen
