"""The interpolant of least norm: ridge in the limit reg → 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cholesky import factorize, reciprocal_condition, solve
from .solve import Predictor, check_problem, eigendecomposition


@dataclass(frozen=True)
class Conditioning:
    """How an interpolation was solved.

    Attributes
    ----------
    method : str
        "cholesky" or "pseudo-inverse".
    rcond : float
        Estimate of the reciprocal condition number in the 1-norm; 0 where Cholesky failed.
    rank : int
        Numerical rank.
    jitter : float
        What was added to the diagonal.
    residual : float
        ‖K coef − y‖ / ‖y‖.
    """

    method: str
    rcond: float
    rank: int
    jitter: float
    residual: float


class Interpolation(Predictor):
    """The interpolant of least norm, ridge with reg → 0.

    If K is singular to rounding, the pseudo-inverse of numerical rank r takes over, and `report` says so.

    Parameters
    ----------
    jitter : float
        ≥ 0; jitter × mean diagonal is added to K. None unless asked for.

    Attributes
    ----------
    coef, fitted, targets, norm
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C), and ‖f‖.
    report : Conditioning
        How it was solved: method, rcond, rank, jitter, residual.

    Raises
    ------
    ValueError
        A jitter that is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import Interpolation, relu_ntk
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> y = X[:, 0] * X[:, 1]
    >>> predictor = Interpolation().fit(relu_ntk(X), y)
    >>> predictor.fitted.round(4), round(predictor.norm, 4), predictor.report.rank
    (array([ 1., -1., -1.,  1.]), 1.7129, 4)
    """

    def __init__(self, jitter: float = 0.0) -> None:
        if not 0 <= jitter < np.inf:
            raise ValueError(f"jitter = {jitter!r}: expected a finite number of at least 0")
        self.jitter = jitter

    def fit(self, K: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> Interpolation:
        """Solve K coef = y, by Cholesky or, if K is singular to rounding, by its pseudo-inverse.

        Parameters
        ----------
        K : array (n, n), float32 or float64
            Gram matrix.
        y : array (n,) or (n, C)
            Targets.
        weights : array (n,), optional
            Without effect: what is met exactly is met at any weight.

        Returns
        -------
        Interpolation
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite; y that even the pseudo-inverse does not reproduce to 1e-6
            relative (equal points, different y).

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Interpolation
        >>> predictor = Interpolation().fit(np.ones((2, 2)), np.array([3.0, 3.0]))
        >>> predictor.report.method, predictor.report.rank, predictor.coef.round(4)
        ('pseudo-inverse', 1, array([1.5, 1.5]))
        """
        K, y = check_problem(K, y)
        n, added = len(K), self.jitter * float(np.trace(K)) / len(K)
        try:
            factor, size = factorize(K, added)
            rcond = reciprocal_condition(factor, size)
            method, rank, coef = "cholesky", n, solve(factor, y)
        except ValueError:
            rcond = 0.0
        if rcond < n * np.finfo(K.dtype).eps:
            method, rank, coef = pseudo_solve(K, added, y)
        fitted = K @ coef
        scale = np.linalg.norm(y)
        residual = float(np.linalg.norm(fitted - y) / scale) if scale > 0 else 0.0
        missed = float(np.linalg.norm(fitted + added * coef - y) / scale) if scale > 0 else 0.0
        if not missed <= 1e-6:
            raise ValueError(
                f"y cannot be interpolated: relative residual {missed:.1e} at numerical rank "
                f"{rank} of {n} (equal points with different targets?); use ridge, or ask for jitter"
            )
        self.report = Conditioning(method, rcond, rank, added, residual)
        self._finish(coef, fitted, y)
        return self


def pseudo_solve(K: np.ndarray, added: float, y: np.ndarray) -> tuple[str, int, np.ndarray]:
    """Least-norm solution of (K + added I) coef = y on the eigenvectors above rounding."""
    s, V = eigendecomposition(K)
    s = s + added
    keep = s > len(K) * np.finfo(K.dtype).eps * s[-1]
    return "pseudo-inverse", int(keep.sum()), V[:, keep] @ ((V[:, keep].T @ y).T / s[keep]).T
