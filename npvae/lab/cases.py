"""With which arguments is each task called, and what has the result to be the gradient of?

All sizes differ, so that a factor tells where it comes from. Units are away from their kinks, and
upstream gradients are random. Next: checker.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from npvae.core.parameters import Array
from npvae.gradcheck_vae import draw_away_from_kinks
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

    if name == "dense_backward":
        yield Case([normal(s.B, s.D), normal(s.D, s.H), normal(s.B, s.H)])
    elif name == "relu_backward":
        y = rng.uniform(0.05, 2, (s.B, s.H)) * rng.choice([-1, 1], (s.B, s.H))
        yield Case([y, normal(s.B, s.H)])
    elif name == "bce_with_logits":
        yield Case([3 * normal(s.B, s.D), rng.random((s.B, s.D))])
        logits, x = np.array([[1000.0, 1000, -1000, -1000], [0, 1, 0, 1]])[..., np.newaxis]
        yield Case([logits, x], note="at logits of 1000 and -1000, where x_hat is 1 or 0")
    elif name == "kl_divergence":
        yield Case([normal(s.B, s.Z), normal(s.B, s.Z)])
    elif name in ("bce_with_logits_backward", "kl_divergence_backward"):
        bce = name.startswith("bce")
        values = [3 * normal(s.B, s.D), rng.random((s.B, s.D))]
        values = values if bce else [normal(s.B, s.Z), normal(s.B, s.Z)]
        yield Case([1 / s.B if bce else s.beta / s.B, *values])
        what = "d_bce" if bce else "d_kl"
        yield Case([normal(s.B, 1), *values], note=f"with a {what} for each image, (B, 1)")
    elif name.startswith("reparameterize"):
        yield Case([normal(s.B, s.Z), normal(s.B, s.Z), normal(s.B, s.Z)])
    elif name == "backward":
        sizes = (s.D, s.H), (s.H, s.Z), (s.H, s.Z), (s.Z, s.H), (s.H, s.D)
        vae = model([np.zeros(shape) for n in sizes for shape in (n, n[1:])])
        x, epsilon = rng.random((s.B, s.D)), normal(s.B, s.Z)

        def before_activations() -> Array:
            a = vae.forward(x, epsilon)
            return np.concatenate(a.y_enc + a.y_dec, axis=1)

        draw_away_from_kinks(before_activations, vae.parameters, rng)
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
    if name == "dense_backward":
        x, W, d_y = arguments
        b = np.zeros(W.shape[1])
        return lambda: float(np.sum(d_y * (x @ W + b))), [x, W, b]
    if name == "relu_backward":
        y, d_h = arguments
        return lambda: float(np.sum(d_h * np.maximum(y, 0))), [y]
    if name == "backward":
        parameters, values, beta = arguments
        vae, x, epsilon = model(parameters), values["x"], values["epsilon"]
        inputs = list(vae.parameters.values())
        return lambda: vae.objective(vae.forward(x, epsilon), beta).total, inputs
    if name == "reparameterize_backward":
        d_z, log_var, epsilon = arguments
        mu = np.zeros_like(log_var)
        return lambda: float(np.sum(d_z * forward(mu, log_var, epsilon))), [mu, log_var]
    upstream, first, second = arguments
    inputs = [first] if name.startswith("bce") else [first, second]
    return lambda: float(np.sum(np.reshape(upstream, -1) * forward(first, second))), inputs
