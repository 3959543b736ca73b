"""The logistic loss."""

from __future__ import annotations

import numpy as np

from ..engine import exact_math
from .base import ROUNDING
from .kinds import TwoClassLoss
from .terms import expit, log_or_nan, scale_to_one, xlogx


class Logistic(TwoClassLoss):
    """ℓ(y, f) = log(1 + e^{-yf}), y = ±1, C = 1.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import Logistic
    >>> targets, classes = Logistic().encode(np.array(["no", "yes"]))
    >>> targets, classes.tolist()
    (array([-1.,  1.]), ['no', 'yes'])
    >>> round(Logistic().value(np.zeros((2, 1)), targets), 6)  # log 2
    0.693147
    """

    name = "logistic"
    exponential_tail = True

    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        z = -t * f[:, 0]
        return exact_math.mean(np.maximum(z, 0.0) + exact_math.log1p(exact_math.exp(-np.abs(z))))

    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (-t * expit(-t * f[:, 0]) / len(t))[:, None]

    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        e = exact_math.exp(-np.abs(f[:, 0]))
        return e / ((1.0 + e) * (1.0 + e))

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """mean(p log p + (1-p) log(1-p)), p_i = -n a_i y_i in [0, 1]."""
        p = -len(t) * a[:, 0] * t
        if not np.all((p >= -ROUNDING) & (p <= 1 + ROUNDING)):
            return np.inf
        p = np.clip(p, 0.0, 1.0)
        return exact_math.mean(xlogx(p) + xlogx(1.0 - p, complement=p))

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        p = -len(t) * a[:, 0] * t
        return scale_to_one(p.max()) if np.all(p >= 0) else 0.0

    def conjugate_magnitude(self, a: np.ndarray, t: np.ndarray) -> float:
        """log 2, which the entropy of no coin exceeds."""
        return float(np.log(2))

    def conjugate_gradient(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        """-y log(p/(1-p))."""
        p = -len(t) * a[:, 0] * t
        return (-t * (log_or_nan(p) - log_or_nan(1.0 - p)))[:, None]

    def conjugate_hessian(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        """n/(p(1-p))."""
        p = -len(t) * a[:, 0] * t
        return (len(t) / (p * (1.0 - p)))[:, None, None]

    def probabilities(self, f: np.ndarray) -> np.ndarray:
        """(1 - σ(f), σ(f)), each without cancellation."""
        return np.stack([expit(-f[:, 0]), expit(f[:, 0])], axis=1)
