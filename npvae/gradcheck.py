"""Is every gradient right? An instrument that can tell.

The derivative of f at theta is the limit of (f(theta + step) - f(theta - step)) / (2 step). In
float64 with step 1e-5 this central difference is off by about step^2 f''' / 6 + 1e-16 f / step,
some 1e-10. So each entry of each gradient is computed a second time, from nothing but forward
passes, and has to agree to 1e-7 of the largest entry of its array.

A gradient check compares backward with forward, so it accepts a wrong forward. mistakes/ shows what
that can do; tests/test_meaning.py finds such mistakes. `check` works for your own layers, too.
Next: gradcheck_vae.py, all checks of this VAE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npvae.core.parameters import Array

STEP = 1e-5
TOLERANCE = 1e-7


@dataclass(frozen=True)
class Check:
    """The comparison of one gradient array with central differences."""

    what: str
    analytic: Array
    numeric: Array

    @property
    def errors(self) -> Array:
        """|analytic - numeric| / largest |numeric|, for each entry."""
        largest = max(np.abs(self.numeric).max(), np.finfo(float).tiny)
        errors = np.abs(self.analytic - self.numeric) / largest
        return np.where(np.isnan(errors), np.inf, errors)

    @property
    def error(self) -> float:
        """The error of the worst entry."""
        return float(self.errors.max())

    @property
    def where(self) -> tuple[int, ...]:
        """The index of the worst entry."""
        return tuple(int(k) for k in np.unravel_index(self.errors.argmax(), self.errors.shape))

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCE


def central_differences(f: Callable[[], float], theta: Array, step: float = STEP) -> Array:
    """d f / d theta for every entry of theta. f reads theta, which is restored in the end."""
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

    f reads theta, an array of float64, and returns a number. To check a layer, let this number be
    the sum of d_h * h, with any d_h: its gradient is what backward returns for d_h. For example:

        >>> import numpy as np
        >>> from npvae.gradcheck import check
        >>> y, d_h = np.random.default_rng(0).standard_normal((2, 4, 3))
        >>> softplus = lambda: float(np.sum(d_h * np.log(1 + np.exp(y))))
        >>> check("softplus", softplus, y, d_h / (1 + np.exp(-y))).passed
        True
        >>> check("softplus", softplus, y, d_h / (1 + np.exp(y))).where  # the worst entry
        (3, 0)

    The error is relative to the largest entry of the array: an entry that is 0 by cancellation has
    no relative error of its own. A gradient wrong by 0.1 % shows an error near 1e-3.
    """
    if analytic.shape != theta.shape:
        raise ValueError(f"{what}: gradient {analytic.shape} for an array {theta.shape}")
    return Check(what, analytic.copy(), central_differences(f, theta))
