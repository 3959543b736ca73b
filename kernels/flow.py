"""Gradient flow in the kernel's Hilbert space: what training for a time t, from f = 0, has learned."""

from __future__ import annotations

import numpy as np

from .solve import Predictor, check_problem, eigendecomposition


class GradientFlow(Predictor):
    """Squared loss ½ Σ (f − y)², df/dt = −K (f − y) on the training points, stopped at `time` in [0, ∞].

    With K = V diag(s) Vᵀ: coef = V diag((1 − e^{−s t})/s) Vᵀ y; at t = ∞ the least-norm interpolant on the s above
    rounding. The unit of time is that of an infinitely wide network whose weights move by the gradient of that sum.
    """

    def __init__(self, time: float = np.inf) -> None:
        self.time = _check_time(time)

    def fit(self, K: np.ndarray, y: np.ndarray) -> GradientFlow:
        K, y = check_problem(K, y)
        self.targets = y
        self.eigenvalues, self._vectors = eigendecomposition(K)
        self._rotated = self._vectors.T @ y
        return self.until(self.time)

    def until(self, time: float) -> GradientFlow:
        """Stop at another time, from the same eigendecomposition: O(n²)."""
        self.time, s = _check_time(time), self.eigenvalues
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = -np.expm1(-s * time)
            filters = np.where(s * time > 1e-300, grown / s, time)
        if time == np.inf:
            filters = np.where(s > len(s) * np.finfo(s.dtype).eps * s[-1], filters, 0)
        coef = self._vectors @ (self._rotated.T * filters).T
        self._finish(coef, self._vectors @ (self._rotated.T * (filters * s)).T, self.targets)
        return self


def _check_time(time: float) -> float:
    if not time >= 0:
        raise ValueError(f"time = {time!r}: expected a number of at least 0, or infinity")
    return float(time)
