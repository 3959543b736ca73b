"""Support vector machines without a bias, hard or soft, on a precomputed Gram matrix."""

from __future__ import annotations

import numpy as np

from .solve import Predictor, check_problem


class SVM(Predictor):
    """Largest margin through the origin: max ρ − (1/νn) Σ ξ_i subject to ‖f‖ = 1, y_i f(x_i) ≥ ρ − ξ_i, ξ ≥ 0.

    nu = 0 is the hard margin; nu in (0, 1] bounds the fraction of points inside the margin from above and the
    fraction of support vectors from below (Schölkopf et al. 2001). No bias, as in the networks compared with: the
    signed points y_i φ(x_i) go to scikit-learn's one-class machine, whose plane passes through the origin. Class
    targets (n, C) are fitted one against the rest. After `fit`: `support`, the indices with weight; `margin()`, what is
    reached; `margin_bound`, for nu = 0 and one output the norm of Σ_i a_i y_i φ(x_i), a in the simplex, which no f of
    norm 1 exceeds; `norm` is 1 for one output, or 0 where the weighted points cancel and f = 0.
    """

    def __init__(self, nu: float = 0.0, *, tol: float = 1e-7) -> None:
        if not 0 <= nu <= 1:
            raise ValueError(f"nu = {nu!r}: expected a number from 0 (hard margin) to 1")
        self.nu, self.tol = nu, tol

    def fit(self, K: np.ndarray, y: np.ndarray) -> SVM:
        """Raises ValueError where a hard margin is asked for and the points cannot be separated."""
        K, y = check_problem(K, y)
        signs = np.sign(y.reshape(len(y), -1))
        if (signs == 0).any():
            raise ValueError("y contains 0: expected −1 and +1, or class targets of both signs")
        columns = [self._fit_one(K, sign) for sign in signs.T]
        coef = np.stack(columns, axis=1).reshape(y.shape)
        self.support = np.flatnonzero((coef.reshape(len(y), -1) != 0).any(axis=1))
        self._finish(coef, K @ coef, y)
        return self

    def _fit_one(self, K: np.ndarray, sign: np.ndarray) -> np.ndarray:
        from sklearn.svm import OneClassSVM

        n = len(K)
        scale = float(np.trace(K)) / n
        if scale <= 0:
            raise ValueError("K is zero: no direction separates anything")
        signed = K * np.outer(sign, sign) / scale
        nu = max(self.nu, 1 / n)
        weights = np.full(n, 1 / n)
        if nu < 1:
            machine = OneClassSVM(kernel="precomputed", nu=nu, tol=self.tol, cache_size=500).fit(signed)
            weights[:] = 0
            weights[machine.support_] = machine.dual_coef_[0] / machine.dual_coef_[0].sum()
        products = signed @ weights
        norm = float(np.sqrt(max(float(weights @ products), 0.0)))
        if self.nu == 0:
            self.margin_bound = norm * float(np.sqrt(scale))
            if products.min() <= 0:
                raise ValueError(
                    f"no function separates these points with a margin above {self.margin_bound:.1e} "
                    "(equal points with different labels?): use nu > 0"
                )
        if norm <= self.tol:
            return np.zeros(n)
        return weights * sign / (norm * np.sqrt(scale))
