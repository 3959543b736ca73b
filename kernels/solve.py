"""Least squares in the kernel's Hilbert space: ridge and the whole ridge path; what all solvers share.

Every solver has `fit(K, y)`, `predict(K_test)` and `margin()`: K (n, n) is a Gram matrix, K_test (k, n) holds the
kernel of test against training points, y is (n,) or, for C outputs, (n, C). A predictor is f = Σ_i coef_i K(x_i, ·).
`reg` is λ in  Σ_i ℓ(y_i, f(x_i)) + ½ λ ‖f‖²,  ℓ = ½ (f − y)² here: a sum over examples, not a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .cholesky import factorize, inverse_diagonal, reciprocal_condition, solve
from .tridiagonal import Tridiagonal
from .weights import check_weights, left_out


class Predictor:
    """What the solvers share: f = Σ_i coef_i K(x_i, ·), as `fit` leaves it.

    Attributes
    ----------
    coef : ndarray (n,) or (n, C), float64
        Coefficients of the training points.
    fitted : ndarray (n,) or (n, C)
        K coef: f at the training points.
    targets : ndarray (n,) or (n, C), float64
        What was fitted.
    norm : float
        ‖f‖ in the kernel's Hilbert space.
    """

    coef: np.ndarray
    fitted: np.ndarray
    targets: np.ndarray
    norm: float

    def predict(self, K_test: np.ndarray) -> np.ndarray:
        """f at other points.

        Parameters
        ----------
        K_test : array (k, n)
            Kernel of these points against the training points.

        Returns
        -------
        ndarray (k,) or (k, C)

        Raises
        ------
        ValueError
            Before `fit`; K_test of another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Interpolation, relu_ntk
        >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> y = X[:, 0] * X[:, 1]
        >>> predictor = Interpolation().fit(relu_ntk(X), y)
        >>> predictor.predict(relu_ntk([[2.0, 2.0], [-0.5, 0.5]], X)).round(4)
        array([ 2. , -0.5])
        """
        if not hasattr(self, "coef"):
            raise ValueError(f"{type(self).__name__}: call fit before predict")
        if np.ndim(K_test) != 2 or K_test.shape[1] != len(self.coef):
            raise ValueError(f"K_test has shape {np.shape(K_test)}: expected (k, {len(self.coef)})")
        return np.asarray(K_test @ self.coef)

    def margin(self) -> float:
        """The normalized margin: min_i y_i f(x_i) / ‖f‖ over the training points, y = ±1.

        Returns
        -------
        float
            For C outputs with f_y − max of the others on top; 0 where f = 0.

        Raises
        ------
        ValueError
            Before `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Ridge, relu_ntk
        >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> y = X[:, 0] * X[:, 1]
        >>> round(Ridge(0.1).fit(relu_ntk(X), y).margin(), 4)
        0.5838
        """
        if not hasattr(self, "coef"):
            raise ValueError(f"{type(self).__name__}: call fit before margin")
        return float(margins(self.fitted, self.targets).min() / self.norm) if self.norm > 0 else 0.0

    def _finish(self, coef: np.ndarray, fitted: np.ndarray, targets: np.ndarray) -> None:
        self.coef, self.fitted, self.targets = coef, fitted, targets
        self.norm = float(np.sqrt(max(float(np.sum(coef * fitted)), 0.0)))


class Ridge(Predictor):
    """Kernel ridge regression at one reg, by Cholesky: (K + reg I) coef = y.

    The minimum of Σ_i ½ (f(x_i) − y_i)² + ½ reg ‖f‖²: a sum over examples, not a mean.

    Parameters
    ----------
    reg : float
        λ > 0.

    Attributes
    ----------
    coef, fitted, targets, norm
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C), and ‖f‖.

    Raises
    ------
    ValueError
        A reg that is not positive and finite.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import Ridge, relu_ntk
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> y = X[:, 0] * X[:, 1]
    >>> Ridge(0.5).fit(relu_ntk(X), y).fitted.round(4)
    array([ 0.7317, -0.7317, -0.7317,  0.7317])
    """

    def __init__(self, reg: float = 1.0) -> None:
        self.reg = check_regs(reg)[0]

    def fit(self, K: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, *, overwrite: bool = False) -> Ridge:
        """Solve (K + reg I) coef = y.

        Parameters
        ----------
        K : array (n, n), float32 or float64
            Gram matrix; the factor has its precision.
        y : array (n,) or (n, C)
            Targets.
        weights : array (n,), optional
            Of the examples in the sum, each > 0; by default 1.
        overwrite : bool
            K's memory may be used for the factor, so that nothing of its size is allocated.

        Returns
        -------
        Ridge
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite, K + reg I not positive definite in K's precision.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Ridge
        >>> Ridge(1.0).fit(np.eye(3), np.array([2.0, 0.0, -2.0])).coef
        array([ 1.,  0., -1.])
        """
        K, y = check_problem(K, y)
        self._weights = check_weights(weights, len(y))
        self._shift = self.reg / self._weights
        self._factor, self._size = factorize(K, self._shift, overwrite=overwrite)
        coef = solve(self._factor, y)
        self._finish(coef, y - (self._shift * coef.T).T, y)
        return self

    @property
    def rcond(self) -> float:
        """Estimate of the reciprocal condition number of K + reg I in the 1-norm, O(n²).

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Ridge
        >>> round(Ridge(1.0).fit(np.diag([1.0, 3.0]), np.ones(2)).rcond, 4)
        0.5
        """
        return reciprocal_condition(self._factor, self._size)

    def leave_one_out(self) -> np.ndarray:
        """Prediction at each training point by the fit without it: y_i − coef_i / (K + reg I)⁻¹_ii.

        Costs about one more factorization. Of a weight above 1, that by the fit with 1 less of it.

        Returns
        -------
        ndarray (n,) or (n, C), float64

        Notes
        -----
        Golub, Heath & Wahba 1979.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import Ridge
        >>> Ridge(1.0).fit(np.ones((3, 3)), np.array([0.0, 3.0, 3.0])).leave_one_out().round(4)
        array([2., 1., 1.])
        """
        unexplained = self._shift * inverse_diagonal(self._factor)
        return self.targets - left_out((self.targets - self.fitted).T, unexplained, self._weights).T


class RidgePath(Predictor):
    """Kernel ridge regression at every reg of a path, from one reduction of K to tridiagonal form.

    `fit` selects the reg with the best leave-one-out predictions; `select` picks another.

    Parameters
    ----------
    regs : array (r,), optional
        The path, each λ > 0; by default `reg_path(K)`.
    loss : "squared" or "error"
        What is best: the smallest mean square, or the fewest errors (ties by squares).

    Attributes
    ----------
    coef, fitted, targets, norm
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C), and ‖f‖, at `reg`.
    regs : ndarray (r,)
        The path.
    reg : float
        The choice.
    leave_one_out : ndarray (r, n) or (r, n, C)
        The predictions of each point by the fit without it.
    scores : ndarray (r,)
        The criterion: mean square, or fraction of errors, of the leave-one-out predictions.
    residuals : ndarray (r,)
        The largest |(K + reg I) coef − y| over the points, relative to what rounding allows a solver:
        ‖T‖ max |coef| + max |y|, T tridiagonal, ‖·‖ its largest row sum.

    Raises
    ------
    ValueError
        A reg that is not positive and finite, another loss.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import RidgePath
    >>> path = RidgePath([1.0, 0.1]).fit(np.ones((3, 3)), np.array([0.0, 3.0, 3.0]))
    >>> path.scores.round(4), float(path.reg)
    (array([4.    , 4.3673]), 1.0)
    """

    def __init__(self, regs: Sequence[float] | np.ndarray | None = None, *, loss: str = "squared") -> None:
        if loss not in ("squared", "error"):
            raise ValueError(f'loss = {loss!r}: expected "squared" or "error"')
        self.given, self.loss = None if regs is None else check_regs(regs), loss

    def fit(self, K: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> RidgePath:
        """Fit at every reg, and select the best; without `regs` 50 values from 1e-10 to 10 times the trace of K.

        Parameters
        ----------
        K : array (n, n)
            Gram matrix.
        y : array (n,) or (n, C)
            Targets.
        weights : array (n,), optional
            As of `Ridge.fit`; in the trace and in the scores they count as well.

        Returns
        -------
        RidgePath
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import RidgePath
        >>> path = RidgePath().fit(np.eye(3), np.array([1.0, -1.0, 1.0]))
        >>> path.leave_one_out.shape
        (50, 3)
        """
        K, y = check_problem(K, y)
        weights = check_weights(weights, len(y))
        self._root = np.sqrt(weights)[:, None]
        K = self._root * K * self._root.T if (weights != 1).any() else K
        self.regs = reg_path(K) if self.given is None else self.given
        self._reduced, self.targets = Tridiagonal(K), y
        columns, regs = y.reshape(len(y), -1), self.regs[:, None, None]
        coefs = self._reduced.coefficients(self._root * columns, self.regs)
        self.residuals = self._residuals(K, self._root * columns, coefs)
        unexplained = regs * self._reduced.inverse_diagonals(self.regs)[:, :, None]
        missed = left_out(regs * coefs / self._root, unexplained, weights[:, None])
        self.leave_one_out = (columns - missed).reshape(len(self.regs), *y.shape)
        self.scores = np.array([score(f, y, self.loss, weights) for f in self.leave_one_out])
        squares = np.array([score(f, y, "squared", weights) for f in self.leave_one_out])
        return self.select(self.regs[np.lexsort((squares, self.scores))[0]])

    def select(self, reg: float) -> RidgePath:
        """Make `reg` the one that predict and margin speak of: O(n²).

        Parameters
        ----------
        reg : float
            Any positive number, on the path or not.

        Returns
        -------
        RidgePath
            Itself.

        Raises
        ------
        ValueError
            A reg that is not positive and finite.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import RidgePath
        >>> path = RidgePath().fit(np.eye(3), np.array([1.0, -1.0, 1.0]))
        >>> path.select(1.0).coef
        array([ 0.5, -0.5,  0.5])
        """
        self.reg = check_regs(reg)[0]
        y = self.targets
        inner = self._reduced.coefficients(self._root * y.reshape(len(y), -1), np.array([self.reg]))[0]
        coef, rest = self._root * inner, self.reg * inner / self._root
        self._finish(coef.reshape(y.shape), y - rest.reshape(y.shape), y)
        return self

    def _residuals(self, K: np.ndarray, y: np.ndarray, coefs: np.ndarray) -> np.ndarray:
        applied = np.moveaxis((K @ np.moveaxis(coefs, 0, 2).reshape(len(y), -1)).reshape(*y.shape, -1), 2, 0)
        missed = np.abs(applied + self.regs[:, None, None] * coefs - y).max(axis=(1, 2))
        allowed = (self._reduced.size + self.regs) * np.abs(coefs).max(axis=(1, 2)) + np.abs(y).max()
        return np.asarray(missed / np.where(allowed > 0, allowed, 1))


def margins(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Functional margins: y f where y = ±1, f_y − max_{c≠y} f_c for C outputs, y the largest target.

    Parameters
    ----------
    scores : ndarray (n,) or (n, C)
        f at the points.
    targets : ndarray (n,) or (n, C)
        ±1 (their signs count), or class targets.

    Returns
    -------
    ndarray (n,)
        Positive where the point is classified rightly.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import margins
    >>> margins(np.array([0.5, 2.0]), np.array([1.0, -1.0]))
    array([ 0.5, -2. ])
    >>> margins(np.array([[3.0, 1.0, 0.0]]), np.array([[1.0, -0.5, -0.5]]))
    array([2.])
    """
    if scores.ndim == 1 or scores.shape[1] == 1:
        return np.sign(targets.reshape(-1)) * scores.reshape(-1)
    true = np.arange(len(targets)), targets.argmax(axis=1)
    others = scores.copy()
    others[true] = -np.inf
    return scores[true] - others.max(axis=1)


def score(scores: np.ndarray, targets: np.ndarray, loss: str, weights: np.ndarray | None = None) -> float:
    """Fraction of points with margin ≤ 0 ("error": zero and ties count as errors) or mean square ("squared")."""
    lost = margins(scores, targets) <= 0 if loss == "error" else (scores - targets) ** 2
    return float(np.average(lost, axis=0, weights=weights).mean())


def class_targets(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets for the solvers from labels: ±1 for two classes, else one output a class.

    Parameters
    ----------
    labels : array (n,)
        Of any type that sorts.

    Returns
    -------
    classes : ndarray (C,)
        The distinct labels, sorted.
    targets : ndarray (n,) or (n, C), float64
        ±1 for two classes (the larger is +1); else 1 for the label's class and −1/(C − 1) for the others.

    Raises
    ------
    ValueError
        Only one class.

    Examples
    --------
    >>> from meanfield.kernels import class_targets
    >>> classes, targets = class_targets(["no", "yes", "no"])
    >>> classes.tolist(), targets.tolist()
    (['no', 'yes'], [-1.0, 1.0, -1.0])
    >>> class_targets([2, 0, 1])[1]
    array([[-0.5, -0.5,  1. ],
           [ 1. , -0.5, -0.5],
           [-0.5,  1. , -0.5]])
    """
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"only one class in y ({classes.tolist()[0]!r}): a classifier needs at least two")
    if len(classes) == 2:
        return classes, 2.0 * index - 1
    return classes, np.where(index[:, None] == np.arange(len(classes)), 1.0, -1 / (len(classes) - 1))


def reg_path(K: np.ndarray, size: int = 50) -> np.ndarray:
    """Values of reg, largest first: 10 to 1e-10 times the trace of K, evenly spaced in their logarithm.

    Parameters
    ----------
    K : ndarray (n, n)
        Gram matrix.
    size : int
        How many.

    Returns
    -------
    ndarray (size,), float64
        In units of `Ridge`'s reg.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import reg_path
    >>> path = reg_path(np.eye(4), 12)
    >>> bool(np.allclose(path[:3], [40.0, 4.0, 0.4]))
    True
    """
    return (float(np.trace(K)) or 1.0) * np.logspace(1, -10, size)


def check_regs(regs: Any) -> np.ndarray:
    values = np.atleast_1d(np.asarray(regs, dtype=float))
    if values.ndim != 1 or len(values) == 0 or not ((values > 0) & np.isfinite(values)).all():
        raise ValueError(f"reg = {regs!r}: expected positive finite numbers")
    return values


def check_problem(K: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """K square, float32 or float64, finite; y (n,) or (n, C) float64, finite."""
    K = np.asarray(K)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) == 0:
        raise ValueError(f"K has shape {K.shape}: expected a square Gram matrix")
    K = K if K.dtype in (np.float32, np.float64) else K.astype(float)
    if not np.isfinite(K.sum()):
        raise ValueError("K contains NaN or infinity: expected finite numbers")
    return K, check_targets(y, len(K))


def check_targets(y: Any, n: int) -> np.ndarray:
    """y (n,) or (n, C) float64, finite."""
    y = np.asarray(y, dtype=float)
    if y.ndim not in (1, 2) or len(y) != n or 0 in y.shape:
        raise ValueError(f"y has shape {y.shape}: expected ({n},) or ({n}, C)")
    if not np.isfinite(y).all():
        raise ValueError("y contains NaN or infinity: expected finite numbers")
    return y


def eigendecomposition(K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of a positive semidefinite K, increasing, rounding below zero removed, and eigenvectors (n, n)."""
    from scipy.linalg import eigh

    values, vectors = eigh(K, check_finite=False, driver="evd")
    return np.maximum(values, 0), vectors
