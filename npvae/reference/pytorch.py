"""Does PyTorch get the same numbers?

The same VAE as a PyTorch user would write it, its gradients left to autograd. `compare` gives both
the same weights, batch and noise in float64 and puts losses, gradients and ten steps of an
optimizer side by side. They share no arithmetic: a mistake would have to be made twice, and in the
same way. What PyTorch calls our activations and optimizers is in two tables below.

`to_state_dict` and `from_state_dict` carry weights over to PyTorch and back. An nn.Linear computes
y = x @ weight.T + bias: its weight (out, in) is our W (in, out), transposed.

This is the only module that imports torch when it is imported. See also scripts/compare_torch.py.
"""
# Where torch is not installed, nn.Module is Any to mypy:
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from npvae import optimizers
from npvae.core.architecture import parameter_shapes
from npvae.core.parameters import Array
from npvae.model import VAE

ONE_PASS = 1e-10  # allowed for losses and gradients: float64 is off by some 1e-14
TEN_STEPS = 1e-9  # for parameters after steps: most optimizers divide by what may be small
LEARNING_RATE = 1e-3

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,  # slope 0.01
    "elu": F.elu,  # alpha 1
    "tanh": torch.tanh,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "rmsprop": torch.optim.RMSprop,  # alpha, our decay, is 0.99
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


class TorchVAE(nn.Module):
    """The network of model.py, its layers under the same names; arguments as of `npvae.VAE`."""

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dims: Sequence[int] = (128,),
        latent_dim: int = 10,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.depth = len(hidden_dims)

        def hidden(*sizes: int) -> dict[str, nn.Module]:
            return {f"hidden{k}": nn.Linear(*size) for k, size in enumerate(pairwise(sizes))}

        self.encoder = nn.ModuleDict(hidden(input_dim, *hidden_dims))
        self.encoder["mu"] = nn.Linear(hidden_dims[-1], latent_dim)
        self.encoder["log_var"] = nn.Linear(hidden_dims[-1], latent_dim)
        self.decoder = nn.ModuleDict(hidden(latent_dim, *reversed(hidden_dims)))
        self.decoder["logits"] = nn.Linear(hidden_dims[0], input_dim)

    def forward(self, x: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, D), mu and log_var (B, Z) for pixels x (B, D) and noise epsilon (B, Z)."""
        h = x
        for k in range(self.depth):
            h = self.activation(self.encoder[f"hidden{k}"](h))
        mu, log_var = self.encoder["mu"](h), self.encoder["log_var"](h)
        h = mu + torch.exp(0.5 * log_var) * epsilon
        for k in range(self.depth):
            h = self.activation(self.decoder[f"hidden{k}"](h))
        return self.decoder["logits"](h), mu, log_var

    def losses(self, x: Tensor, epsilon: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        """bce, kl and loss = bce + beta * kl in nats per image."""
        logits, mu, log_var = self(x, epsilon)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp()) / len(x)
        return bce, kl, bce + beta * kl


# ------------------------------------------------------------------ weights, there and back


def to_state_dict(parameters: Mapping[str, Array], joined: bool = False) -> dict[str, Tensor]:
    """The parameters of a VAE as the state_dict of a TorchVAE: "encoder.hidden0.weight" (H, D), ...

    With `joined`, "encoder.mu_log_var" stands for both heads: weight (2Z, H), bias (2Z,), mu first.
    The tensors are copies, of the same dtype and in the order of the data flow. So a network of
    other names, whose layers were made in that order, takes them with

        model.load_state_dict(dict(zip(model.state_dict(), to_state_dict(parameters).values())))
    """
    state_dict: dict[str, Tensor] = {}
    for name, array in parameters.items():
        layer, kind = name.rsplit(".", 1)
        state_dict[f"{layer}.{'weight' if kind == 'W' else 'bias'}"] = torch.tensor(array.T)
    if not joined:
        return state_dict
    both: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if name.startswith("encoder.mu."):
            log_var = state_dict[name.replace("mu", "log_var")]
            both[name.replace("mu", "mu_log_var")] = torch.cat([tensor, log_var])
        elif not name.startswith("encoder.log_var."):
            both[name] = tensor
    return both


def from_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Array]:
    """The parameters of a VAE by our names, from the state_dict of the same network in PyTorch.

    The layers are told by their order, not their names: hidden layers, mu, log_var (or both in one,
    mu first), hidden layers of the decoder, logits, each with weight and bias. An even number of
    layers means that the heads are joined. The arrays are copies, of the same dtype:

        for name, array in from_state_dict(model.state_dict()).items():
            vae.parameters[name] = array

    Raises ValueError if the tensors are not those of such a network.
    """
    arrays = [tensor.detach().cpu().numpy().T for tensor in state_dict.values()]
    depth = len(arrays) // 4 - 1  # hidden layers of the encoder: 4 depth + 6 tensors, or + 4
    if depth < 1:
        raise ValueError(f"{len(arrays)} tensors are too few for a VAE with a hidden layer")
    head = 2 * depth
    if len(arrays) % 4 == 0:
        (mu_W, log_var_W), (mu_b, log_var_b) = (
            np.array_split(array, 2, axis=-1) for array in arrays[head : head + 2]
        )
        arrays[head : head + 2] = [mu_W, mu_b, log_var_W, log_var_b]
    elif "var" in list(state_dict)[head]:
        raise ValueError(f"mu comes before log_var, but {list(state_dict)[head]} comes first")

    hidden_dims = [b.size for b in arrays[1:head:2]]
    shapes = parameter_shapes(arrays[-1].size, hidden_dims, arrays[head + 1].size)
    found = [array.shape for array in arrays]
    if found != list(shapes.values()):
        raise ValueError(
            f"not the layers of a VAE: as (in, out), their shapes are {found}, "
            f"while a VAE of these sizes has {list(shapes.values())}"
        )
    return {name: array.copy() for name, array in zip(shapes, arrays, strict=True)}


# ------------------------------------------------------------------ side by side


@dataclass(frozen=True)
class Row:
    """One number, or one array at its worst entry, as computed here and by PyTorch."""

    what: str
    ours: float
    theirs: float
    difference: float  # largest |ours - theirs| / largest |theirs| of the array
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed  # False for NaN


def compared(what: str, ours: ArrayLike, theirs: ArrayLike) -> Row:
    """Compare two numbers, or two arrays of one shape, entry by entry.

    As in gradcheck.py the error is relative to the largest entry of the array: one that is 0 by
    cancellation has no relative error of its own.
    """
    a, b = np.atleast_1d(np.asarray(ours)), np.atleast_1d(np.asarray(theirs))
    if a.shape != b.shape:
        raise ValueError(f"{what}: {a.shape} here, {b.shape} in PyTorch")
    error = np.abs(a - b) / max(np.abs(b).max(), np.finfo(float).tiny)
    error[np.isnan(error)] = np.inf
    worst = np.unravel_index(np.argmax(error), error.shape)
    allowed = TEN_STEPS if "steps" in what else ONE_PASS
    return Row(what, float(a[worst]), float(b[worst]), float(error[worst]), allowed)


def compare(
    vae: VAE,
    x: Array,
    epsilon: Array,
    beta: float = 1.0,
    steps: int = 10,
    optimizer: str = "adam",
) -> list[Row]:
    """The losses and gradients of vae for pixels x (B, D) and noise epsilon (B, Z), and what its
    parameters become after `steps` of an optimizer on this batch, beside PyTorch's. All is in
    float64, whatever the dtype of vae, which stays as it is.
    """
    ours = by_hand(vae, x, epsilon, beta, steps, optimizer)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second pool of threads would fight with that of NumPy
    try:
        theirs = by_pytorch(vae, x, epsilon, beta, steps, optimizer)
    finally:
        torch.set_num_threads(threads)
    return [compared(what, ours[what], theirs[what]) for what in ours]


def by_hand(
    vae: VAE, x: Array, epsilon: Array, beta: float, steps: int, optimizer: str
) -> dict[str, Array | float]:
    """What `compare` compares, by name, from a float64 copy of vae."""
    model = type(vae)(**{**vae.settings, "dtype": "float64"})
    model.parameters.flat[:] = vae.parameters.flat
    loss, gradients = model.loss_and_gradients(x, epsilon, beta)

    stepping = optimizers.OPTIMIZERS[optimizer](LEARNING_RATE)
    for _ in range(steps):
        stepping.update(model.parameters, model.loss_and_gradients(x, epsilon, beta)[1])
    return {
        "bce": loss.bce,
        "kl": loss.kl,
        "loss": loss.loss,
        **{f"gradient {name}": gradient for name, gradient in gradients.items()},
        **{f"{steps} steps {name}": theta for name, theta in model.parameters.items()},
    }


def by_pytorch(
    vae: VAE, x: Array, epsilon: Array, beta: float, steps: int, optimizer: str
) -> dict[str, Array | float]:
    """The same from a TorchVAE with the weights of vae."""
    model = TorchVAE(vae.input_dim, vae.hidden_dims, vae.latent_dim, vae.activation).double()
    model.load_state_dict(to_state_dict(vae.parameters))
    batch, noise = (torch.tensor(array, dtype=torch.float64) for array in (x, epsilon))
    bce, kl, loss = model.losses(batch, noise, beta)
    gradients = torch.autograd.grad(loss, list(model.parameters()))

    stepping = OPTIMIZERS[optimizer](model.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        stepping.zero_grad()
        torch.autograd.backward(model.losses(batch, noise, beta)[2])
        stepping.step()
    by_name = dict(zip(model.state_dict(), gradients, strict=True))
    return {
        "bce": bce.item(),
        "kl": kl.item(),
        "loss": loss.item(),
        **{f"gradient {name}": array for name, array in from_state_dict(by_name).items()},
        **{f"{steps} steps {name}": a for name, a in from_state_dict(model.state_dict()).items()},
    }


def example(
    hidden_dims: Sequence[int] = (128,),
    latent_dim: int = 10,
    batch_size: int = 64,
    activation: str = "relu",
    seed: int = 0,
) -> tuple[VAE, Array, Array]:
    """Something to compare: a float64 VAE with biases that are not 0, random pixels x, epsilon."""
    rng = np.random.default_rng(seed)
    vae = VAE(784, hidden_dims, latent_dim, activation, np.float64, rng)
    vae.parameters.flat += rng.normal(0, 0.02, vae.parameters.flat.shape)
    return vae, rng.random((batch_size, 784)), rng.standard_normal((batch_size, latent_dim))


def table(rows: list[Row]) -> str:
    """The report, for people."""
    width = max(len(row.what) for row in rows)
    lines = [f"{'':{width}}{'npvae':>16}{'PyTorch':>16}  difference  allowed"]
    for row in rows:
        line = f"{row.what:{width}}{row.ours:16.9g}{row.theirs:16.9g}"
        line += f"  {row.difference:10.1e}  {row.allowed:7.0e}"
        lines.append(line if row.passed else f"{line}  WRONG")
    wrong, worst = sum(not row.passed for row in rows), max(row.difference for row in rows)
    verdict = f"{wrong} of {len(rows)} differ" if wrong else f"all {len(rows)} agree"
    lines.append(f"{verdict}: worst relative difference {worst:.1e}")
    return "\n".join(lines)
