"""Is every gradient right?

The derivative of f at theta is the limit of (f(theta + step) - f(theta - step)) / (2 step). In
float64 with step 1e-5 this central difference is off by about step^2 f''' / 6 + 1e-16 f / step,
some 1e-10. So each entry of each gradient is computed a second time, from nothing but forward
passes, and has to agree to 1e-7 of the largest entry of its array.

Bottom-up: each activation, a dense layer, several in a row, each loss, the reparameterization, the
whole model, for parameters and inputs alike. Sizes are small, biases not zero, the noise is frozen,
the upstream gradients are random, and no activation is near its kink, where there is no derivative.

Two things this cannot see. A wrong formula with the right derivative: for that there is
tests/test_meaning.py. (The x and epsilon of a model are half an exception: `check_model` states
their gradients from what x and epsilon mean, not from the code under test.) And the short
polynomials for exp and log that the compiled loops use in float32, to train: those are held against
NumPy by tests/fast/test_kernels.py. Next: optimizers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from npvae.core.parameters import Array, NamedArrays
from npvae.layers import (
    ACTIVATIONS,
    MLP,
    Activation,
    Dense,
    reparameterize,
    reparameterize_backward,
)
from npvae.losses import (
    bce_with_logits,
    bce_with_logits_backward,
    kl_divergence,
    kl_divergence_backward,
)
from npvae.model import VAE

STEP = 1e-5
TOLERANCE = 1e-7


@dataclass(frozen=True)
class Check:
    """The comparison of one gradient array with central differences, at its worst entry."""

    what: str
    entries: int
    error: float  # |analytic - numeric| / largest |numeric| of the array
    where: tuple[int, ...]
    analytic: float
    numeric: float

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCE  # False for NaN


def central_differences(f: Callable[[], float], theta: Array, step: float = STEP) -> Array:
    """d f / d theta for every entry of theta, which f reads and which is put back as it was."""
    gradient = np.empty_like(theta)
    for index in np.ndindex(theta.shape):
        value = theta[index]
        theta[index] = value + step
        above = f()
        theta[index] = value - step
        below = f()
        theta[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def check(what: str, f: Callable[[], float], theta: Array, analytic: Array) -> Check:
    """Compare the analytic gradient of f with central differences, entry by entry.

    The error is relative to the largest entry of the array: an entry that is 0 by cancellation has
    no relative error of its own. A gradient wrong by 0.1 % shows an error near 1e-3.
    """
    if analytic.shape != theta.shape:
        raise ValueError(f"{what}: gradient {analytic.shape} for an array {theta.shape}")
    numeric = central_differences(f, theta)
    error = np.abs(analytic - numeric) / max(np.abs(numeric).max(), np.finfo(float).tiny)
    error[np.isnan(error)] = np.inf
    where = tuple(int(k) for k in np.unravel_index(np.argmax(error), error.shape))
    return Check(
        what, theta.size, float(error[where]), where, float(analytic[where]), float(numeric[where])
    )


def check_everything(seed: int = 0) -> Iterator[Check]:
    """All checks, from the bottom up."""
    rng = np.random.default_rng(seed)
    for name, activation in ACTIVATIONS.items():
        yield check_activation(name, activation, rng)
    yield from check_dense(rng)
    for name, activation in ACTIVATIONS.items():
        yield from check_mlp(name, activation, rng)
    yield from check_losses(rng)
    yield from check_reparameterize(rng)
    for name in ACTIVATIONS:
        for hidden_dims in ((7,), (7, 6)):
            yield from check_model(name, hidden_dims, rng)


def check_activation(name: str, activation: Activation, rng: np.random.Generator) -> Check:
    """y, on both sides of the kink and at least 0.05 away from it."""
    y: Array = rng.uniform(0.05, 2, (5, 6)) * rng.choice([-1, 1], (5, 6))
    d_h = rng.standard_normal((5, 6))

    def f() -> float:
        return float(np.sum(d_h * activation.forward(y)))

    return check(f"{name}: y", f, y, activation.backward(y, d_h))


def check_dense(rng: np.random.Generator) -> Iterator[Check]:
    """W, b and x of one layer."""
    parameters = NamedArrays({"layer.W": (4, 3), "layer.b": (3,)}, float)
    layer = Dense(parameters, parameters.copy(), "layer")
    parameters.flat[:] = rng.standard_normal(15)
    x, d_y = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    d_x = layer.backward(x, d_y)

    def f() -> float:
        return float(np.sum(d_y * layer.forward(x)))

    yield check("dense: W", f, layer.W, layer.d_W)
    yield check("dense: b", f, layer.b, layer.d_b)
    yield check("dense: x", f, x, d_x)


def check_mlp(name: str, activation: Activation, rng: np.random.Generator) -> Iterator[Check]:
    """Three layers in a row: every parameter, and the input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k, (n_in, n_out) in enumerate([(4, 5), (5, 3), (3, 2)]):
        shapes |= {f"layer{k}.W": (n_in, n_out), f"layer{k}.b": (n_out,)}
    parameters = NamedArrays(shapes, float)
    gradients = parameters.copy()
    mlp = MLP([Dense(parameters, gradients, f"layer{k}") for k in range(3)], activation)
    x, d_h = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    draw_away_from_kinks(lambda: np.concatenate(mlp.forward(x)[0], axis=1), parameters, rng)
    d_x = mlp.backward(x, *mlp.forward(x), d_h)

    def f() -> float:
        return float(np.sum(d_h * mlp.forward(x)[1][-1]))

    for parameter, theta in parameters.items():
        yield check(f"mlp {name}: {parameter}", f, theta, gradients[parameter])
    yield check(f"mlp {name}: x", f, x, d_x)


def check_losses(rng: np.random.Generator) -> Iterator[Check]:
    """BCE and KL divergence of each image, weighted by random upstream gradients."""
    logits, x, d_bce = rng.normal(0, 3, (4, 6)), rng.random((4, 6)), rng.standard_normal(4)

    def bce() -> float:
        return float(np.sum(d_bce * bce_with_logits(logits, x)))

    yield check("bce: logits", bce, logits, bce_with_logits_backward(d_bce[:, None], logits, x))

    mu, log_var, d_kl = (rng.standard_normal(shape) for shape in ((4, 3), (4, 3), 4))

    def kl() -> float:
        return float(np.sum(d_kl * kl_divergence(mu, log_var)))

    d_mu, d_log_var = kl_divergence_backward(d_kl[:, None], mu, log_var)
    yield check("kl: mu", kl, mu, d_mu)
    yield check("kl: log_var", kl, log_var, d_log_var)


def check_reparameterize(rng: np.random.Generator) -> Iterator[Check]:
    mu, log_var, epsilon, d_z = rng.standard_normal((4, 4, 3))

    def f() -> float:
        return float(np.sum(d_z * reparameterize(mu, log_var, epsilon)))

    d_mu, d_log_var = reparameterize_backward(d_z, log_var, epsilon)
    yield check("reparameterize: mu", f, mu, d_mu)
    yield check("reparameterize: log_var", f, log_var, d_log_var)


def check_model(
    activation: str, hidden_dims: tuple[int, ...], rng: np.random.Generator, beta: float = 0.7
) -> Iterator[Check]:
    """Every parameter of a whole VAE, its input x and its noise epsilon; beta is not 1."""
    vae = VAE(12, hidden_dims, 3, activation, float, rng)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))

    def before_activations() -> Array:
        a = vae.forward(x, epsilon)
        return np.concatenate(a.y_enc + a.y_dec, axis=1)

    draw_away_from_kinks(before_activations, vae.parameters, rng)
    a = vae.forward(x, epsilon)
    d = vae.backward(a, beta)
    gradients = vae.gradients.copy()
    # x reaches the loss through the encoder and, as the target, directly: bce = softplus(logits) -
    # x * logits, so d bce / d x = -logits. epsilon reaches it through z alone.
    d_x = d.d_x - a.logits / len(x)
    d_epsilon = d.d_z * np.exp(0.5 * a.log_var)

    def f() -> float:
        return vae.objective(vae.forward(x, epsilon), beta).total

    title = f"vae {activation} {'-'.join(map(str, hidden_dims))}"
    for name, theta in vae.parameters.items():
        yield check(f"{title}: {name}", f, theta, gradients[name])
    yield check(f"{title}: x", f, x, d_x)
    yield check(f"{title}: epsilon", f, epsilon, d_epsilon)


def draw_away_from_kinks(
    before_activations: Callable[[], Array], parameters: NamedArrays, rng: np.random.Generator
) -> None:
    """Draw all parameters, biases too, until no unit is within 100 steps of its kink at y = 0.

    A bias moves its unit by one step, anything else that is checked by far less.
    """
    while True:
        parameters.flat[:] = rng.normal(0, 0.5, parameters.flat.shape)
        if np.abs(before_activations()).min() > 100 * STEP:
            return


def table(checks: list[Check]) -> str:
    """The report, for people: what, entries checked, worst relative error, where."""
    width = max(len(check.what) for check in checks)
    lines = [f"{'gradient':{width}}  entries  worst error  at entry      by hand     numerically"]
    for check in checks:
        line = f"{check.what:{width}}  {check.entries:7}  {check.error:11.1e}"
        line += f"  {check.where!s:9} {check.analytic:+.7f}  {check.numeric:+.7f}"
        lines.append(line if check.passed else f"{line}  WRONG")
    wrong = sum(not check.passed for check in checks)
    entries = sum(check.entries for check in checks)
    worst = max(check.error for check in checks)
    verdict = f"{wrong} of {len(checks)} WRONG" if wrong else f"all {len(checks)} right"
    lines.append(
        f"{verdict}: {entries} entries, worst relative error {worst:.1e}, {TOLERANCE:g} allowed"
    )
    return "\n".join(lines)
