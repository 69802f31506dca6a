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
    LINEAR,
    MLP,
    Activation,
    Dense,
    reparameterize,
    reparameterize_backward,
)
from npvae.losses import (
    bce_and_gradient,
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
    for name, activation in {"linear": LINEAR, **ACTIVATIONS}.items():
        yield from check_dense(name, activation, rng)
    yield from check_mlp(rng)
    yield from check_losses(rng)
    yield from check_reparameterize(rng)
    for name in ACTIVATIONS:
        for hidden_dims in ((7,), (7, 6)):
            yield from check_model(name, hidden_dims, rng)


def check_activation(name: str, activation: Activation, rng: np.random.Generator) -> Check:
    """d_y of bend(y + b), on both sides of the kink and at least 0.05 away from it."""
    y: Array = rng.uniform(0.05, 2, (5, 6)) * rng.choice([-1, 1], (5, 6))
    b, d_h = np.zeros(6), rng.standard_normal((5, 6))

    def bend() -> Array:
        h: Array = y.copy()
        activation.forward(h, b)
        return h

    d_y = d_h.copy()
    activation.backward(bend(), d_y)
    return check(f"{name}: y", lambda: float(np.sum(d_h * bend())), y, d_y)


def check_dense(name: str, activation: Activation, rng: np.random.Generator) -> Iterator[Check]:
    """W, b and x of one layer."""
    parameters = NamedArrays({"layer.W": (4, 3), "layer.b": (3,)}, float)
    gradients = parameters.copy()
    layer = Dense(activation, parameters, gradients, "layer")
    x, d_h = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    draw_away_from_kinks(lambda: layer.forward(x), parameters, rng)

    h, d_y = layer.forward(x), d_h.copy()
    layer.backward(x, h, d_y)
    d_x = layer.backward_to_input(d_y)

    def f() -> float:
        return float(np.sum(d_h * layer.forward(x)))

    yield check(f"dense {name}: W", f, layer.W, layer.d_W)
    yield check(f"dense {name}: b", f, layer.b, layer.d_b)
    yield check(f"dense {name}: x", f, x, d_x)


def check_mlp(rng: np.random.Generator) -> Iterator[Check]:
    """Three layers in a row: every parameter, and the input."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k, (n_in, n_out) in enumerate([(4, 5), (5, 3), (3, 2)]):
        shapes |= {f"layer{k}.W": (n_in, n_out), f"layer{k}.b": (n_out,)}
    parameters = NamedArrays(shapes, float)
    gradients = parameters.copy()
    mlp = MLP([Dense(ACTIVATIONS["relu"], parameters, gradients, f"layer{k}") for k in range(3)])
    x, d_h = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    draw_away_from_kinks(lambda: np.concatenate(mlp.forward(x), axis=1), parameters, rng)

    h = mlp.forward(x)
    d = [np.empty_like(array) for array in h]
    d[-1][:] = d_h
    mlp.backward(x, h, d)
    d_x = mlp.backward_to_input(d)

    def f() -> float:
        return float(np.sum(d_h * mlp.forward(x)[-1]))

    for name, theta in parameters.items():
        yield check(f"mlp: {name}", f, theta, gradients[name])
    yield check("mlp: x", f, x, d_x)


def check_losses(rng: np.random.Generator) -> Iterator[Check]:
    """BCE and KL divergence of each image, weighted by random upstream gradients."""
    logits, x, d_bce = rng.normal(0, 3, (4, 6)), rng.random((4, 6)), rng.standard_normal(4)

    def bce(weights: Array | float) -> Callable[[], float]:
        return lambda: float(np.sum(weights * bce_with_logits(logits, x)))

    d_logits = bce_with_logits_backward(d_bce[:, None], logits, x)
    yield check("bce: logits", bce(d_bce), logits, d_logits)
    bce_and_gradient(logits, x, 1 / 4, d_logits)
    yield check("bce and gradient: logits", bce(1 / 4), logits, d_logits)

    mu, log_var, d_kl = (rng.standard_normal(shape) for shape in ((4, 3), (4, 3), 4))

    def kl() -> float:
        return float(np.sum(d_kl * kl_divergence(mu, log_var)))

    d_mu, d_log_var = kl_divergence_backward(d_kl[:, None], mu, log_var)
    yield check("kl: mu", kl, mu, d_mu)
    yield check("kl: log_var", kl, log_var, d_log_var)


def check_reparameterize(rng: np.random.Generator) -> Iterator[Check]:
    mu, log_var, epsilon, d_z = rng.standard_normal((4, 4, 3))

    def f() -> float:
        z = np.empty_like(mu)
        reparameterize(mu, log_var, epsilon, z)
        return float(np.sum(d_z * z))

    d_mu, d_log_var = reparameterize_backward(d_z, log_var, epsilon)
    yield check("reparameterize: mu", f, mu, d_mu)
    yield check("reparameterize: log_var", f, log_var, d_log_var)


def check_model(
    activation: str,
    hidden_dims: tuple[int, ...],
    rng: np.random.Generator,
    beta: float = 0.7,
    make: Callable[..., VAE] = VAE,
) -> Iterator[Check]:
    """Every parameter of a whole VAE, its input x and its noise epsilon; beta is not 1."""
    vae = make(12, hidden_dims, 3, activation, float, rng)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))

    def hidden() -> Array:
        a = vae.forward(x, epsilon)
        return np.concatenate(a.h_enc + a.h_dec, axis=1)

    draw_away_from_kinks(hidden, vae.parameters, rng)
    a, d = vae.forward(x, epsilon), vae.buffers(len(x))
    vae.backward(a, beta, out=d)
    gradients = vae.gradients.copy()
    # x reaches the loss through the encoder and, as the target, directly: bce = softplus(logits) -
    # x * logits, so d bce / d x = -logits. epsilon reaches it through z alone.
    d_x = vae.encoder.backward_to_input(d.h_enc) - a.logits / len(x)
    d_epsilon = d.z * np.exp(0.5 * a.log_var)

    def f() -> float:
        return vae.loss(x, epsilon, beta).loss

    title = f"vae {activation} {'-'.join(map(str, hidden_dims))}"
    for name, theta in vae.parameters.items():
        yield check(f"{title}: {name}", f, theta, gradients[name])
    yield check(f"{title}: x", f, x, d_x)
    yield check(f"{title}: epsilon", f, epsilon, d_epsilon)


def draw_away_from_kinks(
    hidden: Callable[[], Array], parameters: NamedArrays, rng: np.random.Generator
) -> None:
    """Draw all parameters, biases too, until no hidden unit is within 100 steps of its kink at 0.

    A unit that is off shows h = 0 exactly, and says nothing of how near it was to being on. So each
    bias in turn moves its unit by 100 steps either way, and that must switch no unit. One step of
    anything else that is checked moves a unit by far less.
    """
    biases = [array for name, array in parameters.items() if name.endswith(".b")]
    while True:
        parameters.flat[:] = rng.normal(0, 0.5, parameters.flat.shape)
        pattern = hidden() > 0
        steady = True
        for b in biases:
            for k, value in enumerate(b.copy()):
                for distance in (-100 * STEP, 100 * STEP):
                    b[k] = value + distance
                    steady &= bool(np.array_equal(hidden() > 0, pattern))
                b[k] = value
        if steady:
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
