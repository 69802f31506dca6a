"""Why is the step of the gradient check 1e-5?

A central difference has two errors. Truncation: it is off by step^2 f''' / 6, since it is a chord
and not a tangent. Rounding: f is known to about eps * |f|, which the division by the step enlarges.
The first falls with step^2, the second rises with 1 / step. They meet at the best step, where both
are small: about eps^(1/3), 1e-5 in float64 and 1e-2 in float32. There the error is eps^(2/3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from npvae.core.parameters import Array
from npvae.gradcheck import central_differences
from npvae.model import VAE

STEPS = 10.0 ** -np.arange(1, 13)


class Study(NamedTuple):
    """Errors of central differences, relative to the largest entry of the gradient."""

    steps: Array  # (S,)
    errors: dict[str, Array]  # by dtype, (S,)
    truncation: Array  # (S,) the slope step^2, through the error of the largest step
    rounding: dict[str, Array]  # by dtype, (S,) eps |f| / step


def study(seed: int = 0) -> Study:
    """The weights of the first layer of a small VAE, with tanh, which has no kinks."""
    rng = np.random.default_rng(seed)
    vae = VAE(12, (7,), 3, "tanh", np.float64)
    vae.parameters.flat[:] = rng.normal(0, 0.5, vae.parameters.flat.shape)
    x, epsilon = rng.random((5, 12)), rng.standard_normal((5, 3))
    loss, gradients = vae.loss_and_gradients(x, epsilon)
    exact = gradients["encoder.hidden0.W"]
    largest = np.abs(exact).max()
    errors, rounding = {}, {}
    for dtype in (np.float64, np.float32):
        same = VAE(12, (7,), 3, "tanh", dtype)
        same.parameters.flat[:] = vae.parameters.flat
        theta = same.parameters["encoder.hidden0.W"]
        a = x.astype(dtype), epsilon.astype(dtype)
        name = np.dtype(dtype).name
        errors[name] = np.array([error(same, theta, *a, exact, step) for step in STEPS]) / largest
        rounding[name] = np.finfo(dtype).eps * loss.total / STEPS / largest
    return Study(STEPS, errors, errors["float64"][0] * (STEPS / STEPS[0]) ** 2, rounding)


def error(vae: VAE, theta: Array, x: Array, epsilon: Array, exact: Array, step: float) -> float:
    """The largest error of central differences with this step."""

    def f() -> float:
        return vae.objective(vae.forward(x, epsilon)).total

    return float(np.abs(central_differences(f, theta, step) - exact).max())


def table(found: Study) -> str:
    """The errors, and what theory says: at most 60 columns."""
    lines = ["step     float64   float32   step^2    eps64/step  eps32/step"]
    columns = [*found.errors.values(), found.truncation, *found.rounding.values()]
    for step, *values in zip(found.steps, *columns, strict=True):
        errors = "   ".join(f"{value:.1e}" for value in values[:3])
        lines.append(f"{step:.0e}    {errors}   {values[3]:.1e}     {values[4]:.1e}")
    best = {name: found.steps[values.argmin()] for name, values in found.errors.items()}
    words = ", ".join(f"{step:.0e} in {name}" for name, step in best.items())
    return "\n".join([*lines, f"best step: {words}"])
