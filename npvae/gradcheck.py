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
from functools import partial

import numpy as np

from npvae.core import differences
from npvae.core.parameters import Array

STEP = 1e-5
TOLERANCE = 1e-7


@dataclass(frozen=True)
class Check:
    """The comparison of one gradient array with central differences."""

    what: str
    analytic: Array
    numeric: Array
    rounding: float = 0.0  # so much of a difference may be due to the rounding of f
    hint: str = ""  # why it did not pass, unless the gradient is wrong

    @property
    def errors(self) -> Array:
        """|analytic - numeric| / largest |numeric|, for each entry; 1e-7 where rounding does it."""
        largest = max(np.abs(self.numeric).max(), np.finfo(float).tiny)
        difference = np.abs(self.analytic - self.numeric)
        with np.errstate(invalid="ignore"):
            errors = difference / largest
        errors = np.where(difference <= self.rounding, np.minimum(errors, TOLERANCE), errors)
        return np.asarray(np.where(np.isnan(errors), np.inf, errors))

    @property
    def error(self) -> float:
        """The error of the worst entry."""
        return float(self.errors.max())

    @property
    def where(self) -> tuple[int, ...]:
        """The index of the worst entry."""
        return differences.index(int(self.errors.argmax()), self.errors)

    @property
    def passed(self) -> bool:
        return self.error <= TOLERANCE and not self.hint


def central_differences(f: Callable[[], float], theta: Array, step: float = STEP) -> Array:
    """d f / d theta for every entry of theta. f reads theta, which is put back in any case."""
    gradient = np.empty_like(theta)
    with differences.put_back(theta):
        for entry in np.ndindex(theta.shape):
            value = theta[entry]
            theta[entry] = value + step
            above = f()
            theta[entry] = value - step
            below = f()
            theta[entry] = value
            gradient[entry] = (above - below) / (2 * step)
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

    If all entries are 0, as for a bias before a normalisation, there is nothing to be relative to.
    Their differences are not 0: f is rounded, by about 2e-16 * |f|, and a sum of large terms by
    more. Division by 2 step makes 1e-10 of it if f = 10. Such differences pass. But rounding
    excuses at most 0.01 % of a gradient that is not 0.

    `hint` says so if it is not the gradient that is wrong: f is random, is not finite, does not
    read theta, or has a kink within a step. Raises ValueError if theta, f() or the gradient is
    nothing that can be compared.
    """
    analytic = differences.matching(what, theta, analytic, STEP)
    f = partial(differences.number, what, f)
    with differences.put_back(theta):
        rounding, hint = differences.first_look(f, theta, STEP)
        numeric = central_differences(f, theta)
        excused = differences.excused(rounding, analytic, numeric)
        found = Check(what, analytic, numeric, excused, hint)
        if not found.passed and not hint:
            largest = np.abs(numeric).max(where=np.isfinite(numeric), initial=0)
            allowed = max(TOLERANCE * largest, excused)
            numeric, hint = differences.closer_look(
                f, theta, analytic, numeric, allowed, rounding, STEP
            )
            found = Check(what, analytic, numeric, allowed, hint)
    return found
