"""Does PyTorch get the same numbers?

Here is the VAE as a PyTorch user would write it, with its gradients left to autograd. `compare`
gives both programs the same weights, batch and noise in float64. It compares the losses, every
gradient, and every parameter after ten steps of an optimizer. The two programs share no
arithmetic, so a mistake would have to be made twice in the same way.

Next: state_dict.py, which carries weights from one to the other. See also scripts/compare_torch.py.
"""
# Where torch is not installed, nn.Module is Any to mypy:
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from npvae import optimizers
from npvae.core.errors import OptionError
from npvae.core.parameters import Array
from npvae.datasets.minibatches import Labels
from npvae.model import VAE
from npvae.reference.state_dict import to_state_dict

ONE_PASS = 1e-10  # allowed for losses and gradients; rounding in float64 gives some 1e-15
TEN_STEPS = 1e-9  # for parameters after steps: most optimizers divide by numbers that can be small
LEARNING_RATE = 1e-3

T = TypeVar("T")
Batch = tuple[Array, Array, float, Labels]  # x (B, D), epsilon (B, Z), beta, and classes (B,)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,  # slope 0.01
    "elu": F.elu,  # alpha 1
    "tanh": torch.tanh,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "rmsprop": torch.optim.RMSprop,  # its alpha, our decay, is 0.99
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def counterpart(name: str, known: Mapping[str, T]) -> T:
    """PyTorch's activation or optimizer of this name. Raises OptionError where there is none."""
    if name not in known:
        table = "ACTIVATIONS" if known is ACTIVATIONS else "OPTIMIZERS"
        where = f"{table} of npvae/reference/pytorch.py"
        raise OptionError(f"no counterpart of {name} in PyTorch is known: add it to {where}")
    return known[name]


class TorchVAE(nn.Module):
    """The network of model.py: the same arguments, the same names of the layers."""

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dims: Sequence[int] = (128,),
        latent_dim: int = 10,
        activation: str = "relu",
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.activation = counterpart(activation, ACTIVATIONS)
        self.depth = len(hidden_dims)

        def hidden(*sizes: int) -> dict[str, nn.Module]:
            return {f"hidden{k}": nn.Linear(*size) for k, size in enumerate(pairwise(sizes))}

        self.encoder = nn.ModuleDict(hidden(input_dim + num_classes, *hidden_dims))
        self.encoder["mu"] = nn.Linear(hidden_dims[-1], latent_dim)
        self.encoder["log_var"] = nn.Linear(hidden_dims[-1], latent_dim)
        self.decoder = nn.ModuleDict(hidden(latent_dim + num_classes, *reversed(hidden_dims)))
        self.decoder["logits"] = nn.Linear(hidden_dims[0], input_dim)

    def forward(
        self, x: Tensor, epsilon: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, D), mu and log_var (B, Z) for pixels x (B, D) and noise epsilon (B, Z).

        A conditional model needs labels (B,).
        """
        c = x.new_zeros(len(x), 0)
        if labels is not None:
            c = F.one_hot(labels, self.num_classes).to(x.dtype)
        h = torch.cat([x, c], dim=1)
        for k in range(self.depth):
            h = self.activation(self.encoder[f"hidden{k}"](h))
        mu, log_var = self.encoder["mu"](h), self.encoder["log_var"](h)
        z = mu + torch.exp(0.5 * log_var) * epsilon
        h = torch.cat([z, c], dim=1)
        for k in range(self.depth):
            h = self.activation(self.decoder[f"hidden{k}"](h))
        return self.decoder["logits"](h), mu, log_var

    def losses(
        self, x: Tensor, epsilon: Tensor, beta: float, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """bce, kl and loss = bce + beta * kl in nats per image."""
        logits, mu, log_var = self(x, epsilon, labels)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp()) / len(x)
        return bce, kl, bce + beta * kl


# ------------------------------------------------------------------ the comparison


@dataclass(frozen=True)
class Row:
    """One number of both programs, or one array at the entry where they differ most."""

    what: str  # "bce", "gradient encoder.mu.W", "10 steps encoder.mu.W"
    ours: float
    theirs: float
    difference: float  # largest |ours - theirs| of the array, divided by its largest |theirs|
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed  # False for NaN


def compare_arrays(what: str, ours: ArrayLike, theirs: ArrayLike) -> Row:
    """Compare two numbers, or two arrays of one shape, entry by entry.

    As in gradcheck.py the difference is relative to the largest entry of the array: an entry that
    cancels to 0 has no relative error of its own.
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
    c: Labels = None,
) -> list[Row]:
    """Losses, gradients, and parameters after `steps` of the optimizer on one batch, in float64.

    x (B, D) holds pixels, epsilon (B, Z) noise, and c (B,) labels if vae is conditional. The vae
    itself does not change. Raises OptionError for what PyTorch's side does not know.
    """
    ours = our_numbers(vae.in_float64(), (x, epsilon, beta, c), steps, optimizer)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second thread pool would compete with NumPy's for the cores
    try:
        theirs = their_numbers(vae, (x, epsilon, beta, c), steps, optimizer)
    finally:
        torch.set_num_threads(threads)
    names = ["bce", "kl", "loss"]
    names += [
        f"{what} {name}" for what in ("gradient", f"{steps} steps") for name in vae.parameters
    ]
    return [compare_arrays(*row) for row in zip(names, ours, theirs, strict=True)]


def our_numbers(vae: VAE, batch: Batch, steps: int, optimizer: str) -> list[ArrayLike]:
    """What `compare` compares; this changes the vae."""
    loss, gradients = vae.loss_and_gradients(*batch)
    numbers: list[ArrayLike] = [loss.bce, loss.kl, loss.loss, *gradients.copy().values()]
    rule = optimizers.OPTIMIZERS[optimizer](LEARNING_RATE)
    for _ in range(steps):
        rule.update(vae.parameters, vae.loss_and_gradients(*batch)[1])
    return [*numbers, *vae.parameters.values()]


def their_numbers(vae: VAE, batch: Batch, steps: int, optimizer: str) -> list[ArrayLike]:
    """The same from a TorchVAE with the weights of vae, whose layers are in the same order."""
    sizes = vae.input_dim, vae.hidden_dims, vae.latent_dim
    model = TorchVAE(*sizes, vae.activation, vae.num_classes).double()
    model.load_state_dict(to_state_dict(vae.parameters))
    x, epsilon, beta, c = batch
    labels = None if c is None else torch.tensor(c, dtype=torch.int64)
    given = torch.tensor(x).double(), torch.tensor(epsilon).double(), beta, labels
    losses = model.losses(*given)
    gradients = torch.autograd.grad(losses[2], list(model.parameters()))
    rule = counterpart(optimizer, OPTIMIZERS)(model.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        rule.zero_grad()
        torch.autograd.backward(model.losses(*given)[2])
        rule.step()
    arrays = [tensor.detach().numpy().T for tensor in (*gradients, *model.parameters())]
    return [*(number.item() for number in losses), *arrays]


def example(
    hidden_dims: Sequence[int] = (128,),
    latent_dim: int = 10,
    batch_size: int = 64,
    activation: str = "relu",
    seed: int = 0,
    num_classes: int = 0,
) -> tuple[VAE, Array, Array]:
    """A float64 VAE with biases that are not 0, random pixels x (B, 784) and epsilon (B, Z)."""
    rng = np.random.default_rng(seed)
    vae = VAE(784, hidden_dims, latent_dim, activation, np.float64, rng, num_classes)
    vae.parameters.flat += rng.normal(0, 0.02, vae.parameters.flat.shape)
    return vae, rng.random((batch_size, 784)), rng.standard_normal((batch_size, latent_dim))


def table(rows: list[Row]) -> str:
    """The report, at most 60 columns wide."""
    lines = [f"{'':18}{'npvae':>12}{'PyTorch':>12}{'differ':>10}"]
    group = None
    for row in rows:
        before, _, name = row.what.rpartition(" ")
        if before != group:
            lines += [""] if group is not None else []
            group = before
            title = {"": "losses", "gradient": "gradients"}.get(group, f"parameters after {group}")
            lines.append(f"{title}, allowed {row.allowed:.0e}")
        line = f"{name:18}{row.ours:12.5g}{row.theirs:12.5g}{row.difference:10.1e}"
        lines.append(line if row.passed else f"{line} WRONG")
    wrong, worst = sum(not row.passed for row in rows), max(row.difference for row in rows)
    result = f"{wrong} of {len(rows)} differ" if wrong else f"all {len(rows)} agree"
    return "\n".join([*lines, "", f"{result}: worst relative difference {worst:.1e}"])
