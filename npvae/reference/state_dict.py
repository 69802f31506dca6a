"""Weights from PyTorch and back: which tensor is which parameter?

An nn.Linear computes y = x @ weight.T + bias: its weight (out, in) is the transpose of our W
(in, out). A state_dict lists the layers in the order in which the module defines them. This order
and the shapes identify every layer but the two heads, which have the same shape. The heads are
identified by the words in their names, or by the argument `first_head`.

Weights do not show everything. Nothing here can notice:

- which activation the hidden layers have: pass it to `npvae.VAE`;
- what the second head means. It is taken as log sigma^2; pass `log_sigma=True` if it is log sigma.
  A head that goes through a softplus or is sigma itself cannot be converted;
- how a joined head is divided. It is taken as two halves, not as every other row;
- hidden layers of equal sizes that the module defines in another order than it applies them.

See also pytorch.py, which compares the two programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from npvae.core.parameters import Array, parameter_shapes

if TYPE_CHECKING:
    from torch import Tensor

Head = Literal["mu", "log_var"]
Layers: TypeAlias = dict[str, dict[str, Array]]  # by name: "weight" (out, in) and "bias" (out,)

HEAD_WORDS: dict[str, Head] = {
    **dict.fromkeys(("mu", "mus", "mean", "means", "loc"), "mu"),
    **dict.fromkeys(("var", "logvar", "lnvar", "lvar", "lv", "logv", "variance"), "log_var"),
    **dict.fromkeys(("sigma", "logsigma", "std", "logstd", "stddev", "sd", "logsd"), "log_var"),
    **dict.fromkeys(("scale", "logscale", "logvariance"), "log_var"),
}
DECODER_WORDS = {"decoder", "decode", "dec"}
KINDS = {"W": "weight", "b": "bias"}


def to_state_dict(
    parameters: Mapping[str, Array],
    like: Mapping[str, Any] | None = None,
    first_head: Head | None = None,
    log_sigma: bool = False,
) -> dict[str, Tensor]:
    """The parameters of a VAE as PyTorch tensors, which are copies.

    Their names are those of a TorchVAE: "encoder.hidden0.weight" (H, D), "encoder.hidden0.bias"
    (H,), and so on. For another network, pass its state_dict as `like`: the result has its names
    and dtype, its order of the heads, and a joined head where it has one.

        model.load_state_dict(to_state_dict(vae.parameters, like=model.state_dict()))

    `first_head`, `log_sigma` and the errors are those of `from_state_dict`, for `like`. Raises
    ValueError, too, if the two networks differ in size.
    """
    import torch

    arrays = with_log_var_times(0.5, parameters) if log_sigma else parameters
    if like is None:
        return {
            f"{name[:-2]}.{KINDS[name[-1]]}": torch.tensor(array.T)
            for name, array in arrays.items()
        }
    check_same_sizes(from_state_dict(like, first_head), arrays)
    layers = linear_layers(like)
    for name, (layer, rows) in places(layers, first_head).items():
        for key, kind in KINDS.items():
            layers[layer][kind][rows] = arrays[f"{name}.{key}"].T
    return {
        f"{layer}.{kind}": torch.tensor(array)
        for layer, pair in layers.items()
        for kind, array in pair.items()
    }


def from_state_dict(
    state_dict: Mapping[str, Any], first_head: Head | None = None, log_sigma: bool = False
) -> dict[str, Array]:
    """The parameters of a VAE by our names, from the state_dict of the same network in PyTorch.

    The network has hidden layers, the heads mu and log_var (or one joined head), and a decoder that
    mirrors the encoder. `state_dict` holds their tensors or NumPy arrays, or is a checkpoint in
    which one entry is such a state_dict.

    `first_head`, "mu" or "log_var", is needed where the names do not show which head comes first in
    `state_dict` (fc21, fc22), or which one is the first half of a joined head. With `log_sigma` the
    second head is log sigma: log_var = 2 log sigma, so its weight and bias are doubled.

    The arrays are copies of the same dtype, but half precision (float16, bfloat16) becomes float32.
    Raises ValueError if these are not the tensors of such a network, if one is not finite, or if
    the heads cannot be told apart, and TypeError if `state_dict` is not a mapping.
    """
    layers = linear_layers(state_dict)
    arrays = {
        f"{name}.{key}": layers[layer][kind][rows].T.copy()
        for name, (layer, rows) in places(layers, first_head).items()
        for key, kind in KINDS.items()
    }
    return with_log_var_times(2, arrays) if log_sigma else arrays


def load_state_dict(
    parameters: Mapping[str, Array],
    state_dict: Mapping[str, Any],
    first_head: Head | None = None,
    log_sigma: bool = False,
) -> None:
    """Overwrite the parameters of a VAE with what `from_state_dict` finds, whose errors it raises.

    Raises ValueError, too, if the two networks differ in size. After an error nothing has changed.
    """
    arrays = from_state_dict(state_dict, first_head, log_sigma)
    check_same_sizes(arrays, parameters)
    for name, array in arrays.items():
        parameters[name][...] = array


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


def places(layers: Layers, first_head: Head | None) -> dict[str, tuple[str, slice]]:
    """Where each of our layers is: the name of theirs, and which rows of its weight and bias."""
    names = list(layers)
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
    if order_of_heads(names[depth : -depth - 1], first_head) == "log_var":
        found[depth : depth + 2] = reversed(found[depth : depth + 2])
    return dict(zip(ours, found, strict=True))


def order_of_heads(names: list[str], asked: Head | None) -> Head:
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


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: "vae.fcLog_var2" has vae, fc, log and var."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


# ------------------------------------------------------------------ reading


def linear_layers(state_dict: Mapping[str, Any]) -> Layers:
    """Every weight and bias, copied, layer by layer; the layers of a decoder last."""
    tensors = the_state_dict(state_dict)
    layers: Layers = {}
    for name, tensor in tensors.items():
        layer, _, kind = str(name).rpartition(".")
        if kind not in KINDS.values():
            raise ValueError(f"{name} is not the weight or bias of a linear layer")
        layers.setdefault(layer, {})[kind] = as_array(name, tensor)
    for layer, pair in layers.items():
        if len(pair) < 2:
            missing = "bias" if "weight" in pair else "weight"
            raise ValueError(f"layer {layer} has no {missing}: if it is zero, add it as zeros")
        if pair["weight"].ndim != 2 or pair["bias"].shape != pair["weight"].shape[:1]:
            shapes = f"weight {pair['weight'].shape}, bias {pair['bias'].shape}"
            raise ValueError(f"layer {layer} is not linear: {shapes}")
    names = list(layers)
    if list(tensors) == sorted(tensors):  # a safetensors file: 10 comes before 2
        names.sort(key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(9), name))
    names.sort(key=lambda name: not DECODER_WORDS.isdisjoint(words_of(name)))
    return {name: layers[name] for name in names}


def the_state_dict(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """`given` itself, or what a checkpoint such as {"model": ..., "epoch": 3} holds."""
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise TypeError(f"state_dict must be a mapping such as model.state_dict(), not {kind}")
    inner = {
        name: value
        for name, value in given.items()
        if isinstance(value, Mapping)
        and value
        and all(hasattr(tensor, "shape") for tensor in value.values())
    }
    if len(inner) > 1:
        raise ValueError(f"several entries hold tensors ({', '.join(inner)}): pass one of them")
    return next(iter(inner.values()), given)


def as_array(name: str, tensor: Any) -> Array:
    """A tensor, or anything array-like, as a new array of floats. Raises ValueError."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and tensor.element_size() < 4:
            tensor = tensor.float()  # NumPy has no bfloat16
        tensor = tensor.numpy()
    array = np.array(tensor)
    if "float" not in array.dtype.name:
        raise ValueError(f"{name} must hold floats, not {array.dtype}")
    if array.itemsize < 4:
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array
