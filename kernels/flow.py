"""Gradient flow in the kernel's Hilbert space: what training for a time t, from f = 0, has learned."""

from __future__ import annotations

import numpy as np

from .solve import Predictor, check_problem, eigendecomposition


class GradientFlow(Predictor):
    """Squared loss ½ Σ (f − y)², df/dt = −K (f − y) on the training points from f = 0, stopped at a time.

    Parameters
    ----------
    time : float
        In [0, ∞]. Its unit is that of an infinitely wide network whose weights move by the gradient of that sum.

    Attributes
    ----------
    coef, fitted, targets, norm
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C), and ‖f‖, at `time`.
    eigenvalues : ndarray (n,)
        Of K, increasing, rounding below zero removed.

    Raises
    ------
    ValueError
        A negative time, or NaN.

    Notes
    -----
    With K = V diag(s) Vᵀ: coef = V diag((1 − e^{−s t})/s) Vᵀ y; at t = ∞ the least-norm interpolant on the s above
    rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import GradientFlow, relu_ntk
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> y = X[:, 0] * X[:, 1]
    >>> GradientFlow(1.0).fit(relu_ntk(X), y).fitted.round(4)
    array([ 0.7442, -0.7442, -0.7442,  0.7442])
    """

    def __init__(self, time: float = np.inf) -> None:
        self.time = _check_time(time)

    def fit(self, K: np.ndarray, y: np.ndarray) -> GradientFlow:
        """Decompose K, and stop at `time`.

        Parameters
        ----------
        K : array (n, n)
            Gram matrix.
        y : array (n,) or (n, C)
            Targets.

        Returns
        -------
        GradientFlow
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import GradientFlow
        >>> GradientFlow().fit(np.diag([1.0, 2.0]), np.array([1.0, 1.0])).coef.round(4)
        array([1. , 0.5])
        """
        K, y = check_problem(K, y)
        self.targets = y
        self.eigenvalues, self._vectors = eigendecomposition(K)
        self._rotated = self._vectors.T @ y
        return self.until(self.time)

    def until(self, time: float) -> GradientFlow:
        """Stop at another time, from the same eigendecomposition: O(n²).

        Parameters
        ----------
        time : float
            In [0, ∞], earlier or later.

        Returns
        -------
        GradientFlow
            Itself.

        Raises
        ------
        ValueError
            A negative time, or NaN.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import GradientFlow
        >>> flow = GradientFlow().fit(np.diag([1.0, 2.0]), np.array([1.0, 1.0]))
        >>> flow.until(np.log(2)).fitted.round(4)
        array([0.5 , 0.75])
        """
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
