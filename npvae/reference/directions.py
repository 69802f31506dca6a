"""Is the gradient of the real network right, 784-128-10, with its trained weights?

A central difference for each of its 200,000 parameters would take 400,000 forward passes. Along a
direction u it takes two: (f(theta + step u) - f(theta - step u)) / (2 step) must be the sum of
gradient * u. A wrong entry is missed only if u happens to be at right angles to what is wrong, and
a random u is not. A few directions for each array tell in a second which array is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from npvae.core.differences import excused
from npvae.core.parameters import Array
from npvae.core.validation import Classes
from npvae.gradcheck import Check
from npvae.model import VAE

STEP = 1e-4  # along u, whose length is 1, so that single parameters move by far less
ROUNDING = 8 * np.finfo(float).eps / (2 * STEP)  # of a difference, if f is 1: see gradcheck.check
AT_A_KINK = "a unit is at the kink of its activation, where there is no derivative to compare with."


def check_directions(
    vae: VAE,
    x: Array,
    rng: np.random.Generator,
    directions: int = 4,
    beta: float = 0.7,
    c: Classes = None,
) -> Iterator[Check]:
    """For every parameter of the model, derivatives of the loss of x (B, D) along directions.

    Each `Check` holds `directions` numbers. A direction along which a unit crosses the kink of its
    activation is drawn again, as there is no derivative at a kink. After 20 draws it is taken as it
    is: a unit whose weights are all 0 crosses its kink along every one. A conditional model needs
    the class c of each image (B,).
    """
    vae = vae.in_float64()
    epsilon = vae.noise(len(x), rng)
    _, gradients = vae.loss_and_gradients(x, epsilon, beta, c)

    def look() -> tuple[float, Array]:
        a = vae.forward(x, epsilon, c)
        side = np.concatenate(a.y_enc + a.y_dec, axis=1) > 0
        return vae.objective(a, beta).total, side

    for name, theta in vae.parameters.items():
        start = theta.copy()
        analytic, numeric, crossed = np.empty(directions), np.empty(directions), False
        for k in range(directions):
            for _ in range(20):
                u = rng.standard_normal(theta.shape)
                u /= np.linalg.norm(u)
                theta[:] = start + STEP * u
                above, side_above = look()
                theta[:] = start - STEP * u
                below, side_below = look()
                if np.array_equal(side_above, side_below):
                    break
            else:
                crossed = True
            analytic[k], numeric[k] = np.vdot(gradients[name], u), (above - below) / (2 * STEP)
        theta[:] = start
        rounding = excused(ROUNDING * abs(above), analytic, numeric)
        check = Check(name, analytic, numeric, rounding)
        yield replace(check, hint=AT_A_KINK) if crossed and not check.passed else check
