"""The squared loss."""

from __future__ import annotations

import numpy as np

from ..engine import exact_math
from .kinds import RegressionLoss


class Squared(RegressionLoss):
    """ℓ(y, f) = ½ ‖f - y‖².

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import Squared
    >>> Squared().value(np.array([[1.0], [3.0]]), np.array([[0.0], [0.0]]))
    2.5
    """

    name = "squared"

    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        return 0.5 * self.error(f, t)

    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (f - t) / len(t)

    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.ones(len(f))

    def hessian(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        n, C = f.shape
        return np.broadcast_to(np.eye(C), (n, C, C))

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """Σ (n a_i²/2 + a_i y_i)."""
        return exact_math.total(0.5 * len(t) * a * a + a * t)

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        return np.inf

    def conjugate_magnitude(self, a: np.ndarray, t: np.ndarray) -> float:
        """Σ (n a_i²/2 + |a_i y_i|)."""
        return exact_math.total(0.5 * len(t) * a**2 + np.abs(a * t))

    def conjugate_gradient(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        return len(t) * a + t

    def conjugate_hessian(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        n, C = a.shape
        return np.broadcast_to(n * np.eye(C), (n, C, C))
