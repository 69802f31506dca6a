"""With which arguments is each task called, and what has the result to be the gradient of?

All sizes differ, so that a factor tells where it comes from. Units are away from their kinks, and
upstream gradients are random. Next: checker.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from npvae.core.parameters import Array
from npvae.gradcheck_vae import draw_model
from npvae.lab.lesson import forward, model, outcome


class Sizes(NamedTuple):
    """Of the arrays: those of `check` by default."""

    B: int = 5
    D: int = 12
    H: int = 7
    Z: int = 3
    beta: float = 0.7

    @classmethod
    def hidden(cls, rng: np.random.Generator) -> Sizes:
        """Those of `grade`: an answer that fits the sizes above alone fails."""
        B, D, H, Z = map(int, rng.permutation([3, 4, 6, 7, 9, 11, 13])[:4])
        return cls(B, D, H, Z, float(rng.uniform(0.3, 0.9)))


class Case(NamedTuple):
    """One call."""

    arguments: list[Any]
    keywords: dict[str, Any] = {}  # noqa: RUF012  never changed
    note: str = ""  # what is special


def cases(name: str, s: Sizes, rng: np.random.Generator) -> Iterator[Case]:
    """The calls of one task."""

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape)

    logits, x = 3 * normal(s.B, s.D), rng.random((s.B, s.D))
    mu, log_var, epsilon, d_z = normal(4, s.B, s.Z)
    y = rng.uniform(0.05, 2, (s.B, s.H)) * rng.choice([-1, 1], (s.B, s.H))
    plain: dict[str, list[Any]] = {
        "dense_backward": [x, normal(s.D, s.H), normal(s.B, s.H)],
        "relu_backward": [y, normal(s.B, s.H)],
        "bce_with_logits": [logits, x],
        "bce_with_logits_backward": [1 / s.B, logits, x],
        "kl_divergence": [mu, log_var],
        "kl_divergence_backward": [s.beta / s.B, mu, log_var],
        "reparameterize": [mu, log_var, epsilon],
        "reparameterize_backward": [d_z, log_var, epsilon],
    }
    if name in plain:
        yield Case(plain[name])
    if name == "bce_with_logits":
        logits, x = np.array([[1000.0, 1000, -1000, -1000], [0, 1, 0, 1]])[..., np.newaxis]
        yield Case([logits, x], note="at logits of 1000 and -1000, where x_hat is 1 or 0")
    elif name in ("bce_with_logits_backward", "kl_divergence_backward"):
        what = f"d_{name[: name.index('_')]}"
        note = f"with a {what} for each image, (B, 1)"
        yield Case([normal(s.B, 1), *plain[name][1:]], note=note)
    elif name == "backward":
        sizes = (s.D, s.H), (s.H, s.Z), (s.H, s.Z), (s.Z, s.H), (s.H, s.D)
        vae = model([np.zeros(shape) for n in sizes for shape in (n, n[1:])])
        on = False  # all units off would hide what is wrong below them
        while not on:
            draw_model(vae, x, epsilon, None, rng)
            a = vae.forward(x, epsilon)
            on = bool(a.h_enc[0].any(axis=1).all() and a.h_dec[0].any(axis=1).all())
        parameters = [theta.copy() for theta in vae.parameters.values()]
        yield Case([parameters, forward(parameters, x, epsilon), s.beta])
    elif name == "adam_step":
        theta, m, v = np.zeros((3, s.B, s.H))
        for t in 1, 2, 3:
            gradient = normal(s.B, s.H) * 10 ** rng.uniform(-5, 2, (s.B, s.H))
            yield Case([theta, gradient, m, v, t], note=f"at step t = {t}")
            theta, m, v = outcome(name, [theta, gradient, m, v, t], {})
        other = {"learning_rate": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
        state = [normal(4, 3), normal(4, 3), normal(4, 3), normal(4, 3) ** 2]
        yield Case([*state, 150], other, "at t = 150 and other rates than the defaults")


def objective(
    name: str, arguments: Sequence[Any], forward: Callable[..., Array]
) -> tuple[Callable[[], float], list[Array]]:
    """A number, made of a forward function, and the arrays whose gradients `name` returns."""
    if name == "backward":
        parameters, values, beta = arguments
        vae, x, epsilon = model(parameters), values["x"], values["epsilon"]
        inputs = list(vae.parameters.values())
        return lambda: vae.objective(vae.forward(x, epsilon), beta).total, inputs
    rest: list[Array] = []
    if name == "dense_backward":
        x, W, upstream = arguments
        inputs, forward = [x, W, np.zeros(W.shape[1])], lambda x, W, b: x @ W + b
    elif name == "relu_backward":
        y, upstream = arguments
        inputs, forward = [y], lambda y: np.maximum(y, 0)
    elif name == "reparameterize_backward":
        upstream, log_var, epsilon = arguments
        inputs, rest = [np.zeros_like(log_var), log_var], [epsilon]
    else:
        upstream, first, second = arguments
        upstream = np.reshape(upstream, -1)
        inputs, rest = ([first], [second]) if name.startswith("bce") else ([first, second], [])
    return lambda: float(np.sum(upstream * forward(*inputs, *rest))), inputs
