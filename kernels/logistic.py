"""Kernel logistic regression by Newton's method, for two or more classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .solve import Predictor, check_problem, check_regs
from .weights import check_weights


class Logistic(Predictor):
    """min Σ_i ℓ(y_i, f(x_i)) + ½ reg ‖f‖², ℓ logistic for y (n,) = ±1, softmax cross-entropy for (n, C) class targets.

    A sum over examples, not a mean.

    Parameters
    ----------
    reg : float
        λ > 0.
    tol : float
        Newton's method ends when the gradient in function space, max |coef + ∂ℓ/reg| · reg, is not above it.
    max_iterations : int
        Most Newton steps.

    Attributes
    ----------
    coef, fitted, targets, norm
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C), and ‖f‖.
    iterations : int
        Newton steps made.
    gradient : float
        The gradient reached.

    Raises
    ------
    ValueError
        A reg that is not positive and finite.

    Notes
    -----
    Damped Newton steps in the form that stays stable where the Hessian of ℓ vanishes (Rasmussen & Williams 2006,
    Algorithms 3.1 and 3.3).

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import Logistic, relu_ntk
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> y = X[:, 0] * X[:, 1]
    >>> predictor = Logistic(0.1).fit(relu_ntk(X), y)
    >>> predictor.fitted.round(4), predictor.gradient < 1e-8
    (array([ 1.8509, -1.8509, -1.8509,  1.8509]), True)
    """

    def __init__(self, reg: float = 1.0, *, tol: float = 1e-8, max_iterations: int = 100) -> None:
        self.reg, self.tol, self.max_iterations = check_regs(reg)[0], tol, max_iterations

    def fit(
        self, K: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, *, start: np.ndarray | None = None
    ) -> Logistic:
        """Minimize.

        Parameters
        ----------
        K : array (n, n)
            Gram matrix.
        y : array (n,) or (n, C)
            ±1, or class targets, of which the largest is the class.
        weights : array (n,), optional
            Of the examples in the sum, each > 0; by default 1.
        start : array (n,) or (n, C), optional
            coef of an earlier fit, from which Newton's method begins; by default 0.

        Returns
        -------
        Logistic
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, y (n,) that is not ±1; `max_iterations` did not suffice.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Logistic
        >>> K, y = np.eye(3), np.array([1.0, 1.0, -1.0])
        >>> first = Logistic(1.0).fit(K, y)
        >>> Logistic(1.0).fit(K, y, start=first.coef).iterations
        0
        """
        K, y = check_problem(K, y)
        law: Any = (_Binary if y.ndim == 1 else _Softmax)(y, check_weights(weights, len(y)))
        coef = np.zeros(y.shape) if start is None else np.array(start, dtype=float)
        f = K @ coef
        value = law.loss(f) + 0.5 * self.reg * float(np.sum(coef * f))
        for iteration in range(self.max_iterations + 1):
            self.iterations = iteration
            self.gradient = float(np.abs(law.gradient(f) + self.reg * coef).max())
            if self.gradient <= self.tol:
                self._finish(coef, f, y)
                return self
            step = law.newton(K / self.reg, f) / self.reg - coef
            step_f = K @ step
            for shrink in 0.5 ** np.arange(40):
                new, new_f = coef + shrink * step, f + shrink * step_f
                new_value = law.loss(new_f) + 0.5 * self.reg * float(np.sum(new * new_f))
                # Near the minimum the decrease is below rounding; a step that loses no more than that is taken.
                if new_value <= value + 1e-13 * abs(value):
                    break
            coef, f, value = new, new_f, new_value
        raise ValueError(
            f"logistic regression did not converge in {self.max_iterations} Newton steps "
            f"(gradient {self.gradient:.1e}, tolerance {self.tol:.1e}): increase reg, tol or the steps"
        )


def logistic_path(K: np.ndarray, y: np.ndarray, regs: Sequence[float] | np.ndarray, **options: Any) -> list[Logistic]:
    """Fits at every reg, in the order given, each started from the one before; go from large to small.

    Parameters
    ----------
    K : array (n, n)
        Gram matrix.
    y : array (n,) or (n, C)
        ±1, or class targets.
    regs : array (r,)
        Each λ > 0.
    **options
        `tol` and `max_iterations` of `Logistic`.

    Returns
    -------
    list of Logistic
        r fits.

    Raises
    ------
    ValueError
        A reg that is not positive and finite; as of `Logistic.fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import logistic_path
    >>> fits = logistic_path(np.eye(3), np.array([1.0, 1.0, -1.0]), [1.0, 0.1])
    >>> [round(predictor.norm, 4) for predictor in fits]
    [0.6947, 2.8293]
    """
    fits: list[Logistic] = []
    for reg in check_regs(regs):
        start = fits[-1].coef if fits else None
        fits.append(Logistic(reg, **options).fit(K, y, start=start))
    return fits


class _Binary:
    """Σ w log(1 + e^{−y f}) for y = ±1."""

    def __init__(self, y: np.ndarray, weights: np.ndarray) -> None:
        if not np.isin(y, (-1, 1)).all():
            raise ValueError("y: logistic regression of shape (n,) expects targets −1 and +1")
        self.y, self.weights = y, weights

    def loss(self, f: np.ndarray) -> float:
        return float(self.weights @ np.logaddexp(0, -self.y * f))

    def gradient(self, f: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return np.asarray(-self.weights * self.y * expit(-self.y * f))

    def newton(self, K: np.ndarray, f: np.ndarray) -> np.ndarray:
        """The minimizer, as (f → K⁻¹ f), of the quadratic model at f plus ½ fᵀK⁻¹f."""
        from scipy.linalg import cho_factor, cho_solve
        from scipy.special import expit

        W = self.weights * expit(f) * expit(-f)
        root = np.sqrt(W)
        b = W * f - self.gradient(f)
        B = root[:, None] * K * root
        B[np.diag_indices(len(B))] += 1
        return np.asarray(b - root * cho_solve(cho_factor(B, overwrite_a=True), root * (K @ b)))


class _Softmax:
    """Σ w (log Σ_c e^{f_c} − f_y) for class targets (n, C), the largest being the class."""

    def __init__(self, y: np.ndarray, weights: np.ndarray) -> None:
        self.weights = weights
        self.hot = np.zeros(y.shape)
        self.hot[np.arange(len(y)), y.argmax(axis=1)] = 1

    def loss(self, f: np.ndarray) -> float:
        from scipy.special import logsumexp

        return float(self.weights @ (logsumexp(f, axis=1) - (f * self.hot).sum(axis=1)))

    def gradient(self, f: np.ndarray) -> np.ndarray:
        from scipy.special import softmax

        return np.asarray(self.weights[:, None] * (softmax(f, axis=1) - self.hot))

    def newton(self, K: np.ndarray, f: np.ndarray) -> np.ndarray:
        """As for two classes; the Hessian is w (diag(π) − ππᵀ) per example: one factor per class, one of their sum."""
        from scipy.linalg import cho_factor, cho_solve
        from scipy.special import softmax

        p = softmax(f, axis=1)
        b = self.weights[:, None] * p * (f - (p * f).sum(axis=1, keepdims=True)) - self.gradient(f)
        E = []
        for root in np.sqrt(self.weights[:, None] * p).T:
            B = root[:, None] * K * root
            B[np.diag_indices(len(B))] += 1
            E.append(root[:, None] * cho_solve(cho_factor(B, overwrite_a=True), np.diag(root)))
        c = np.stack([E_c @ (K @ b_c) for E_c, b_c in zip(E, b.T, strict=True)], axis=1)
        # ΣE is singular only as far as rounding goes: the probabilities of an example sum to one.
        shared = cho_solve(cho_factor(np.sum(E, axis=0)), c.sum(axis=1))
        return b - c + np.stack([E_c @ shared for E_c in E], axis=1)
