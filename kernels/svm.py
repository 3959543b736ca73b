"""Support vector machines without a bias, hard or soft, on a precomputed Gram matrix."""

from __future__ import annotations

import numpy as np

from .solve import Predictor, check_problem
from .weights import check_weights


class SVM(Predictor):
    """Largest margin through the origin: max ρ − (1/νn) Σ ξ_i subject to ‖f‖ = 1, y_i f(x_i) ≥ ρ − ξ_i, ξ ≥ 0.

    No bias, as in the networks compared with: the signed points y_i φ(x_i) go to scikit-learn's one-class machine,
    whose plane passes through the origin. Class targets (n, C) are fitted one against the rest.

    Parameters
    ----------
    nu : float
        0 is the hard margin; nu in (0, 1] bounds the fraction of points inside the margin from above and the fraction
        of support vectors from below.
    tol : float
        Of scikit-learn's solver, K scaled to mean diagonal 1. The solution is made exact from there, by solving for the
        support vectors that are at no bound; where that fails it is as accurate as this.

    Attributes
    ----------
    coef, fitted, targets
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C).
    norm : float
        ‖f‖: 1 for one output, or 0 where the weighted points cancel and f = 0.
    support : ndarray (s,), int
        The indices with weight.
    margin_bound : float
        For nu = 0 and one output the norm of Σ_i a_i y_i φ(x_i), a in the simplex, which the margin of no f of norm 1
        exceeds; `margin()` is what is reached.

    Raises
    ------
    ValueError
        A nu outside [0, 1].

    Notes
    -----
    Schölkopf et al. 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import SVM, relu_ntk
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> y = X[:, 0] * X[:, 1]
    >>> machine = SVM().fit(relu_ntk(X), y)
    >>> round(machine.margin(), 4), round(machine.margin_bound, 4), machine.support
    (0.5838, 0.5838, array([0, 1, 2, 3]))
    """

    def __init__(self, nu: float = 0.0, *, tol: float = 1e-7) -> None:
        if not 0 <= nu <= 1:
            raise ValueError(f"nu = {nu!r}: expected a number from 0 (hard margin) to 1")
        self.nu, self.tol = nu, tol

    def fit(self, K: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> SVM:
        """Find the largest margin.

        Parameters
        ----------
        K : array (n, n)
            Gram matrix.
        y : array (n,) or (n, C)
            ±1, or class targets of both signs.
        weights : array (n,), optional
            Of the examples, each > 0, by default 1: their slack counts w_i / Σ w instead of 1/n. At nu 0 there is none.

        Returns
        -------
        SVM
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, a zero in y, K = 0; or a hard margin is asked for and the
            points cannot be separated.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import SVM
        >>> SVM(nu=1.0).fit(np.eye(4), np.array([1.0, -1.0, 1.0, 1.0])).coef
        array([ 0.5, -0.5,  0.5,  0.5])
        """
        K, y = check_problem(K, y)
        signs = np.sign(y.reshape(len(y), -1))
        if (signs == 0).any():
            raise ValueError("y contains 0: expected −1 and +1, or class targets of both signs")
        shares = check_weights(weights, len(y))
        shares = shares / shares.sum() if self.nu > 0 else np.full(len(y), 1 / len(y))
        columns = [self._fit_one(K, sign, shares) for sign in signs.T]
        coef = np.stack(columns, axis=1).reshape(y.shape)
        self.support = np.flatnonzero((coef.reshape(len(y), -1) != 0).any(axis=1))
        self._finish(coef, K @ coef, y)
        return self

    def _fit_one(self, K: np.ndarray, sign: np.ndarray, shares: np.ndarray) -> np.ndarray:
        from sklearn.svm import OneClassSVM

        n = len(K)
        scale = float(np.trace(K)) / n
        if scale <= 0:
            raise ValueError("K is zero: no direction separates anything")
        signed = K * np.outer(sign, sign) / scale
        nu, weights = self.nu or 1 / n, shares
        if nu < 1:
            machine = OneClassSVM(kernel="precomputed", nu=nu, tol=self.tol, cache_size=500)
            machine.fit(signed, sample_weight=n * shares)
            weights = np.zeros(n)
            weights[machine.support_] = machine.dual_coef_[0] / machine.dual_coef_[0].sum()
            weights = _polish(signed, weights, shares / nu)
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


def _polish(G: np.ndarray, weights: np.ndarray, upper: np.ndarray, rounds: int = 100) -> np.ndarray:
    """The a (n,) of sum 1, 0 ≤ a ≤ upper, that minimizes aᵀGa, from an approximation; that where it is no better.

    (G a)_i is one number ρ where a_i is between its bounds, at least ρ where it is 0 and at most where it is at upper.
    What is on the wrong side is exchanged until nothing is (block principal pivoting, Portugal, Júdice & Vicente 1994).
    """
    from scipy.linalg import lstsq  # equal points share their weight evenly

    free, full = (weights > 0) & (weights < (1 - 1e-8) * upper), weights >= (1 - 1e-8) * upper
    for _ in range(rounds):
        a = np.where(full, upper, 0.0)
        k = int(free.sum())
        bordered = np.block([[G[np.ix_(free, free)], -np.ones((k, 1))], [np.ones((1, k)), np.zeros((1, 1))]])
        solution = lstsq(bordered, np.append(-(G @ a)[free], 1 - a.sum()), cond=1e-14, lapack_driver="gelsy")[0]
        a[free], rho = solution[:k], solution[k]
        products = G @ a
        below, above = free & (a < 0), free & (a > upper)
        enter = ~free & np.where(full, products > rho * (1 + 1e-12), products < rho * (1 - 1e-12))
        if not (below | above | enter).any():
            return a if _reached(G, a, upper) > _reached(G, weights, upper) else weights
        free, full = (free | enter) & ~(below | above), (full & ~enter) | above
    return weights


def _reached(G: np.ndarray, a: np.ndarray, upper: np.ndarray) -> float:
    """max ρ − Σ_i upper_i ξ_i at f ∝ Σ a_i y_i φ(x_i), ξ_i what y_i f(x_i) lacks to ρ: √(aᵀGa) at most, and at best."""
    products = G @ a
    values = products / np.sqrt(max(float(a @ products), np.finfo(float).tiny))
    order = np.argsort(values)
    rho = values[order[min(int(np.searchsorted(np.cumsum(upper[order]), 1)), len(a) - 1)]]
    return float(rho - upper @ np.maximum(rho - values, 0))
