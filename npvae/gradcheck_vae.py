"""All gradient checks of this VAE, bottom-up.

They check each activation, a dense layer, several in a row, each loss, the reparameterization and
the whole model, for parameters and inputs. Sizes are small, biases not zero, the noise is fixed.
The upstream gradients `d_h` and `d_y`, which a layer gets from the next one, are random. No unit is
near its kink, where there is no derivative.

The rows x and epsilon of a model see a little more than backward: `check_model` states their
gradients from what x and epsilon mean, not from the code under test. Next: mistakes/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import TypeAlias

import numpy as np

from npvae.core.parameters import Array, NamedArrays
from npvae.core.validation import Classes
from npvae.gradcheck import STEP, Check, check
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

Part: TypeAlias = Callable[[np.random.Generator], Iterator[Check]]


def parts() -> dict[str, Part]:
    """All checks by name, from the bottom up. Each draws its numbers from a generator."""
    found: dict[str, Part] = {}
    for name, activation in ACTIVATIONS.items():
        found[name] = partial(check_activation, name, activation)
    found["dense"] = check_dense
    for name, activation in ACTIVATIONS.items():
        found[f"mlp {name}"] = partial(check_mlp, name, activation)
    found |= {"bce": check_bce, "kl": check_kl, "reparameterize": check_reparameterize}
    for name, hidden_dims in product(ACTIVATIONS, [(7,), (7, 6)]):
        found[f"vae {name} {'-'.join(map(str, hidden_dims))}"] = partial(
            check_model, name, hidden_dims
        )
    found["vae conditional 7-6"] = partial(check_model, "relu", (7, 6), num_classes=4)
    return found


def check_parts(names: Iterable[str], seed: int = 0) -> Iterator[Check]:
    """Some of the parts. The numbers of each are its own, whichever others are checked."""
    every = parts()
    for name in names:
        yield from every[name](np.random.default_rng([seed, *name.encode()]))


def check_everything(seed: int = 0, only: str = "") -> Iterator[Check]:
    """All checks, from the bottom up; or those whose name contains the text `only`."""
    names = list(parts())
    chosen = [name for name in names if only.partition(":")[0] in name]
    return (row for row in check_parts(chosen or names, seed) if only in row.what)


def check_activation(
    name: str, activation: Activation, rng: np.random.Generator
) -> Iterator[Check]:
    """The gradient for y, on both sides of the kink and at least 0.05 away from it."""
    y: Array = rng.uniform(0.05, 2, (5, 6)) * rng.choice([-1, 1], (5, 6))
    d_h = rng.standard_normal((5, 6))

    def f() -> float:
        return float(np.sum(d_h * activation.forward(y)))

    yield check(f"{name}: y", f, y, activation.backward(y, d_h))


def check_dense(rng: np.random.Generator) -> Iterator[Check]:
    """The gradients for W, b and x of one layer."""
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
    """The gradients for every parameter and the input of three layers in a row."""
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


def check_bce(rng: np.random.Generator) -> Iterator[Check]:
    """The bce of each image, weighted by a random upstream gradient."""
    logits, x, d_bce = rng.normal(0, 3, (4, 6)), rng.random((4, 6)), rng.standard_normal(4)

    def f() -> float:
        return float(np.sum(d_bce * bce_with_logits(logits, x)))

    yield check("bce: logits", f, logits, bce_with_logits_backward(d_bce[:, None], logits, x))


def check_kl(rng: np.random.Generator) -> Iterator[Check]:
    """The same for the KL divergence."""
    mu, log_var, d_kl = (rng.standard_normal(shape) for shape in ((4, 3), (4, 3), 4))

    def f() -> float:
        return float(np.sum(d_kl * kl_divergence(mu, log_var)))

    d_mu, d_log_var = kl_divergence_backward(d_kl[:, None], mu, log_var)
    yield check("kl: mu", f, mu, d_mu)
    yield check("kl: log_var", f, log_var, d_log_var)


def check_reparameterize(rng: np.random.Generator) -> Iterator[Check]:
    mu, log_var, epsilon, d_z = rng.standard_normal((4, 4, 3))

    def f() -> float:
        return float(np.sum(d_z * reparameterize(mu, log_var, epsilon)))

    d_mu, d_log_var = reparameterize_backward(d_z, log_var, epsilon)
    yield check("reparameterize: mu", f, mu, d_mu)
    yield check("reparameterize: log_var", f, log_var, d_log_var)


def check_model(
    activation: str,
    hidden_dims: tuple[int, ...],
    rng: np.random.Generator,
    beta: float = 0.7,
    num_classes: int = 0,
) -> Iterator[Check]:
    """Every parameter of a whole VAE, its input x and its noise epsilon; beta is not 1."""
    vae = VAE(12, hidden_dims, 3, activation, float, rng, num_classes)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))
    c = rng.integers(0, num_classes, 5) if num_classes else None
    draw_model(vae, x, epsilon, c, rng)
    a = vae.forward(x, epsilon, c)
    d = vae.backward(a, beta)
    gradients = vae.gradients.copy()
    # x reaches the loss through the encoder and, as the target, directly: bce = softplus(logits) -
    # x * logits, so d bce / d x = -logits. epsilon reaches it through z alone.
    d_x = d.d_x - a.logits / len(x)
    d_epsilon = d.d_z * np.exp(0.5 * a.log_var)

    def f() -> float:
        return vae.objective(vae.forward(x, epsilon, c), beta).total

    kind = "conditional" if num_classes else activation
    title = f"vae {kind} {'-'.join(map(str, hidden_dims))}"
    for name, theta in vae.parameters.items():
        yield check(f"{title}: {name}", f, theta, gradients[name])
    yield check(f"{title}: x", f, x, d_x)
    yield check(f"{title}: epsilon", f, epsilon, d_epsilon)


def draw_model(vae: VAE, x: Array, epsilon: Array, c: Classes, rng: np.random.Generator) -> None:
    """Draw parameters for which no unit of a model is near its kink."""

    def before_activations() -> Array:
        a = vae.forward(x, epsilon, c)
        return np.concatenate(a.y_enc + a.y_dec, axis=1)

    draw_away_from_kinks(before_activations, vae.parameters, rng)


def draw_away_from_kinks(
    before_activations: Callable[[], Array], parameters: NamedArrays, rng: np.random.Generator
) -> None:
    """Draw all parameters, biases too, until no unit is within 100 steps of its kink at y = 0.

    A step of a bias moves its own unit by one step. One of a weight or an input grows on its way:
    in 40 seeds, to at most 65. If 1000 draws do not suffice, the check itself reports the kink.
    """
    for _ in range(1000):
        parameters.flat[:] = rng.normal(0, 0.5, parameters.flat.shape)
        if np.abs(before_activations()).min() > 100 * STEP:
            return
