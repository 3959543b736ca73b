"""A bound on the test error from the margins of the examples, with all its constants.

Let F be the networks with Σ‖w_j‖‖u_j‖ ≤ 1 and one output. Twice that is at most ∫‖θ‖² dρ, so g = 2f/∫‖θ‖² dρ is in F,
and its margins are twice the normalized ones. With D = (1/n) Σ ‖x_i‖² and independent fair signs σ_i

    R(F) = E sup_F (1/n) Σ σ_i g(x_i) = E sup_{‖u‖=1} |(1/n) Σ σ_i relu(u·x_i)| ≤ 2 E ‖(1/n) Σ σ_i x_i‖ ≤ 2 √(D/n):

|·| is at most the sum of the suprema of both signs over ‖u‖ ≤ 1, neither of them negative, and equal in the mean; relu
is 1-Lipschitz (contraction). For a fixed r the ramp φ_r(z) = min(1, max(0, 1 − z/r)) is 1/r-Lipschitz and at least
1[z ≤ 0]. So with probability 1 − δ over n independent examples (Mohri, Rostamizadeh, Talwalkar, Foundations of Machine
Learning, 2018, theorem 3.3), for all networks at once,

    test error ≤ (1/n) Σ φ_r(y_i g(x_i)) + 4 √(D/n)/r + 3 √(log(2/δ)/2n).

For all r = e^{−k/10}, k an integer of either sign, at once, since the network and so the best r are chosen after the
examples are seen: δ_k = (2/3) δ/((|k| + 1)(|k| + 2)) in the place of δ, whose sum is δ. The bound is the least over k.
At r = 2γ, γ the normalized margin, the first term is 0 and the second (2/γ)√(D/n); the paper has (6/γ)√(D/n) + ….
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_GRID = 10.0  # values of r to a factor of e


class ErrorBound(NamedTuple):
    """A bound on the probability of an error, with the r that it is for and its three terms."""

    value: float
    r: float
    ramp: float
    complexity: float
    confidence: float

    @property
    def is_vacuous(self) -> bool:
        """Whether it says nothing, since no error is above 1."""
        return self.value >= 1


def error_bound(margins: np.ndarray, mean_square: float, delta: float = 0.05) -> ErrorBound:
    """The probability of misclassifying a new example is at most that, but for a probability of δ.

    Parameters
    ----------
    margins : array (n,)
        Normalized margins y_i f(x_i)/∫‖θ‖² dρ of a network with one output on n independent examples.
    mean_square : float
        D, the mean of ‖x_i‖² over the same examples.
    delta : float
        δ, between 0 and 1.

    Returns
    -------
    ErrorBound

    Examples
    --------
    The four neurons of |x₁| − |x₂| have the normalized margin ⅛ on every example of the paper's data.

    >>> import numpy as np
    >>> from meanfield.studies.error_bound import error_bound
    >>> for n in (160, 20000):
    ...     found = error_bound(np.full(n, 1 / 8), mean_square=19.0)
    ...     print(round(found.value, 3), found.is_vacuous)
    2.216 True
    0.546 False
    """
    margins, n = 2.0 * np.asarray(margins, dtype=float), len(margins)
    width = 4.0 * math.sqrt(mean_square / n)
    least = max(width, np.finfo(float).tiny)  # a smaller r has a second term above 1
    last = math.ceil(-_GRID * math.log(least))
    first = min(last, math.floor(-_GRID * math.log(max(least, float(margins.max())))))
    return min((_at(k, margins, width, delta) for k in range(first, last + 1)), key=lambda bound: bound.value)


def _at(k: int, margins: np.ndarray, width: float, delta: float) -> ErrorBound:
    r = math.exp(-k / _GRID)
    ramp = float(np.clip(1.0 - margins / r, 0.0, 1.0).mean())
    own = 2 / 3 * delta / ((abs(k) + 1) * (abs(k) + 2))
    terms = ramp, width / r, 3.0 * math.sqrt(math.log(2 / own) / (2 * len(margins)))
    return ErrorBound(sum(terms), r, *terms)


__all__ = ["ErrorBound", "error_bound"]
