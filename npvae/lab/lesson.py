"""What is the right answer? The lesson's functions under the names and arguments of the sheet.

They call the lesson, so a mistake that is planted in it changes them, too. Next: process.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from npvae.core.parameters import Array, NamedArrays
from npvae.lab.tasks import WHERE
from npvae.layers import Dense
from npvae.mistakes.mistake import lesson_function
from npvae.model import VAE, Activations
from npvae.optimizers import Adam


def dense_backward(x: Array, W: Array, d_y: Array) -> tuple[Array, Array, Array]:
    parameters = NamedArrays({"layer.W": W.shape, "layer.b": W.shape[1:]}, W.dtype)
    layer = Dense(parameters, parameters.copy(), "layer")
    layer.W[:] = W
    return layer.backward(x, d_y), layer.d_W, layer.d_b


def model(parameters: Sequence[Array]) -> VAE:
    """The lesson's VAE with these parameters, as they are listed on the sheet."""
    (D, H), (_, Z) = parameters[0].shape, parameters[2].shape
    vae = VAE(D, (H,), Z, dtype=parameters[0].dtype)
    for name, theta in zip(vae.parameters, parameters, strict=True):
        vae.parameters[name] = theta
    return vae


def forward(parameters: Sequence[Array], x: Array, epsilon: Array) -> dict[str, Array]:
    """The values of the sheet's `forward`, in its order."""
    a = model(parameters).forward(x, epsilon)
    names = ["x", "epsilon", "y_enc", "h_enc", "mu", "log_var", "z", "y_dec", "h_dec", "logits"]
    values = {name: getattr(a, name) for name in names}
    return {name: value[0] if isinstance(value, list) else value for name, value in values.items()}


def backward(parameters: Sequence[Array], values: dict[str, Array], beta: float) -> list[Array]:
    listed: dict[str, Any] = {n: [v] if n[:2] in ("y_", "h_") else v for n, v in values.items()}
    vae = model(parameters)
    vae.backward(Activations(x_c=values["x"], z_c=values["z"], **listed), beta)
    return list(vae.gradients.values())


def adam_step(
    theta: Array, gradient: Array, m: Array, v: Array, t: int, **settings: float
) -> tuple[Array, Array, Array]:
    """Returns theta, m and v, which it has changed in place."""
    adam = Adam(**settings)
    adam.t = t
    adam.step(theta, gradient, m, v)
    return theta, m, v


METHODS = {"dense_backward": dense_backward, "backward": backward, "adam_step": adam_step}
RIGHT: dict[str, Any] = {
    name: METHODS.get(name) or lesson_function(where) for name, where in WHERE.items()
}


def outcome(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> list[Array]:
    """What the lesson returns for copies of these arguments, always as a list."""
    result = RIGHT[name](*deepcopy(list(arguments)), **keywords)
    return list(result) if isinstance(result, (list, tuple)) else [result]
