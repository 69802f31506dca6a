"""Tensors from elsewhere: which of all that people save are the linear layers of a network?

A state_dict, a model, or a checkpoint around one of them; encoder and decoder apart; averaged,
parallel or compiled models, whose names have prefixes; NumPy arrays, as from a safetensors file;
weights of Keras or Flax, which are (in, out). All become layers by name, each with a weight
(out, in) and a bias (out,). See also state_dict.py: which of them is which of ours?
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from npvae.core.parameters import Array

Layers: TypeAlias = dict[str, dict[str, Array]]  # by name: "weight" (out, in) and "bias" (out,)

DECODER_WORDS = {"decoder", "decode", "dec"}
ENDINGS = {"weight": "weight", "kernel": "weight", "W": "weight", "bias": "bias", "b": "bias"}
COUNTERS = {"n_averaged"}  # of torch.optim.swa_utils.AveragedModel: no part of the network


def linear_layers(tensors: Mapping[str, Any]) -> Layers:
    """Every weight and bias, copied, layer by layer, as they come. Raises ValueError."""
    if tensors and not count_of_weights(tensors):
        names = ", ".join(tensors)[:200]
        raise ValueError(
            f"no name ends in weight, kernel or W, as those of layers do: {names}.\n"
            "Pass the arrays as a list in the order of data flow, [W, b, W, b, ...]. Before that,\n"
            "torch.nn.utils.parametrize.remove_parametrizations, if there are any."
        )
    layers: Layers = {}
    endings = set()
    for name, tensor in tensors.items():
        layer, ending = parts(name)
        if ending in COUNTERS:
            continue
        if ending not in ENDINGS:
            raise ValueError(
                f"{name} is not the weight or bias of a linear layer: only these are converted.\n"
                "Drop it if the network works without it. Batch normalization can be folded into\n"
                "the layer before it: torch.nn.utils.fusion.fuse_linear_bn_eval(linear, norm)"
            )
        layers.setdefault(layer, {})[ENDINGS[ending]] = as_array(name, tensor)
        endings.add(ending)
    for layer, pair in layers.items():
        if len(pair) < 2:
            missing = "bias" if "weight" in pair else "weight"
            raise ValueError(f"layer {layer} has no {missing}: if it is zero, add it as zeros")
    if are_in_out(layers, likely=endings.isdisjoint({"weight"})):
        for pair in layers.values():
            pair["weight"] = pair["weight"].T
    for layer, pair in layers.items():
        if pair["weight"].ndim != 2 or pair["bias"].shape != pair["weight"].shape[:1]:
            shapes = f"weight {pair['weight'].shape}, bias {pair['bias'].shape}"
            raise ValueError(f"layer {layer} is not linear: {shapes}")
    return layers


def are_in_out(layers: Layers, likely: bool) -> bool:
    """Whether the weights are (in, out): by the shapes of the biases, or else what is likely."""
    shapes = [(pair["weight"].shape, pair["bias"].shape) for pair in layers.values()]
    out_in = all(weight[:1] == bias for weight, bias in shapes)
    in_out = all(weight[1:] == bias for weight, bias in shapes)
    return likely if out_in == in_out else in_out


def weights_in(given: Any) -> dict[str, Any]:
    """The tensors of one network by name, wherever they are in what is given.

    Raises TypeError if this is nothing of the kind, ValueError if there are several networks.
    """
    if hasattr(given, "state_dict"):  # a module, or an optimizer
        given = given.state_dict()
    if hasattr(given, "get_weights"):  # a model of Keras
        given = given.get_weights()
    if isinstance(given, list | tuple):
        given = by_name(given)
    if not isinstance(given, Mapping):
        raise TypeError(
            "state_dict must be a mapping such as model.state_dict(), not "
            f"{type(given).__name__}.\nA model will do, or a list of arrays. "
            "Load a file before: torch.load, numpy.load, safetensors."
        )
    here = {str(name): tensor for name, tensor in given.items()}
    nested = {
        name: weights_in(value)
        for name, value in here.items()
        if isinstance(value, Mapping) or hasattr(value, "state_dict")
    }
    found = {name: tensors for name, tensors in nested.items() if count_of_weights(tensors)}
    if count_of_weights(here) or not found:
        return {name: tensor for name, tensor in here.items() if name not in nested}
    if len(found) == 1:
        return next(iter(found.values()))
    says_decoder = any(not DECODER_WORDS.isdisjoint(words_of(name)) for name in found)
    if not says_decoder and max(map(count_of_weights, found.values())) > 1:
        raise ValueError(f"several entries hold tensors ({', '.join(found)}): pass one of them")
    return {f"{part}.{name}": tensor for part in found for name, tensor in found[part].items()}


def by_name(items: Sequence[Any]) -> dict[str, Any]:
    """The arrays of a list: pairs of name and tensor, or kernel and bias in turn, as in Keras."""
    if all(isinstance(item, list | tuple) for item in items):
        if all(isinstance(item[0], str) for item in items if item):  # named_parameters()
            return dict(items)
        items = list(chain.from_iterable(items))  # layer by layer
    return {f"layer{k // 2}.{('kernel', 'bias')[k % 2]}": item for k, item in enumerate(items)}


def count_of_weights(tensors: Mapping[str, Any]) -> int:
    """How many of these are the weights of layers, by their names."""
    return sum(
        hasattr(tensor, "shape") and ENDINGS.get(parts(name)[1]) == "weight"
        for name, tensor in tensors.items()
    )


def parts(name: str) -> tuple[str, str]:
    """The layer and the ending of a name such as "fc1.weight" or "dense_1/kernel:0"."""
    layer, _, ending = name.removesuffix(":0").replace("/", ".").rpartition(".")
    return layer, ending


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: "vae.fcLog_var2" has vae, fc, log and var."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


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
