"""Least squares in the kernel's Hilbert space: ridge, the whole ridge path, interpolation.

Every solver has `fit(K, y)`, `predict(K_test)` and `margin()`: K (n, n) is a Gram matrix, K_test (k, n) holds the
kernel of test against training points, y is (n,) or, for C outputs, (n, C). A predictor is f = Σ_i coef_i K(x_i, ·).
`reg` is λ in  Σ_i ℓ(y_i, f(x_i)) + ½ λ ‖f‖²,  ℓ = ½ (f − y)² here: a sum over examples, not a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cholesky import factorize, inverse_diagonal, reciprocal_condition, solve
from .tridiagonal import Tridiagonal


class Predictor:
    """What the solvers share; `fit` leaves coef (n,) or (n, C), fitted = K coef, targets, and norm = ‖f‖."""

    coef: np.ndarray
    fitted: np.ndarray
    targets: np.ndarray
    norm: float

    def predict(self, K_test: np.ndarray) -> np.ndarray:
        """f at the points whose kernel rows are K_test (k, n): (k,) or (k, C)."""
        if not hasattr(self, "coef"):
            raise ValueError(f"{type(self).__name__}: call fit before predict")
        if np.ndim(K_test) != 2 or K_test.shape[1] != len(self.coef):
            raise ValueError(f"K_test has shape {np.shape(K_test)}: expected (k, {len(self.coef)})")
        return np.asarray(K_test @ self.coef)

    def margin(self) -> float:
        """min_i y_i f(x_i) / ‖f‖ over the training points, y = ±1; for C outputs f_y − max of the others on top."""
        if not hasattr(self, "coef"):
            raise ValueError(f"{type(self).__name__}: call fit before margin")
        return float(margins(self.fitted, self.targets).min() / self.norm) if self.norm > 0 else 0.0

    def _finish(self, coef: np.ndarray, fitted: np.ndarray, targets: np.ndarray) -> None:
        self.coef, self.fitted, self.targets = coef, fitted, targets
        self.norm = float(np.sqrt(max(float(np.sum(coef * fitted)), 0.0)))


class Ridge(Predictor):
    """Kernel ridge regression at one reg > 0, by Cholesky: (K + reg I) coef = y."""

    def __init__(self, reg: float = 1.0) -> None:
        self.reg = check_regs(reg)[0]

    def fit(self, K: np.ndarray, y: np.ndarray, *, overwrite: bool = False) -> Ridge:
        """overwrite: K's memory may be used for the factor, so that nothing of its size is allocated.

        Raises ValueError if K + reg I is not positive definite in K's precision.
        """
        K, y = check_problem(K, y)
        self._factor, self._size = factorize(K, self.reg, overwrite=overwrite)
        coef = solve(self._factor, y)
        self._finish(coef, y - self.reg * coef, y)
        return self

    @property
    def rcond(self) -> float:
        """Estimate of the reciprocal condition number of K + reg I in the 1-norm, O(n²)."""
        return reciprocal_condition(self._factor, self._size)

    def leave_one_out(self) -> np.ndarray:
        """Prediction at each training point by the fit without it, (n,) or (n, C): y_i − coef_i / (K + reg I)⁻¹_ii.

        Costs about one more factorization. (Golub, Heath & Wahba 1979.)
        """
        return self.targets - (self.coef.T / inverse_diagonal(self._factor)).T


class RidgePath(Predictor):
    """Kernel ridge regression at every reg of a path, from one reduction of K to tridiagonal form.

    `fit` leaves `leave_one_out` (r, n) or (r, n, C), the predictions of each point by the fit without it, and selects
    the reg whose leave-one-out predictions have the fewest errors (`loss="error"`, ties by squares) or the smallest
    mean square (`loss="squared"`); `select` picks another. `scores` (r,) holds the criterion, `reg` the choice,
    `residuals` (r,) the largest |(K + reg I) coef − y| over the points, relative to what rounding allows a solver:
    ‖T‖ max |coef| + max |y|, T tridiagonal, ‖·‖ its largest row sum.
    """

    def __init__(self, regs: Sequence[float] | np.ndarray | None = None, *, loss: str = "squared") -> None:
        if loss not in ("squared", "error"):
            raise ValueError(f'loss = {loss!r}: expected "squared" or "error"')
        self.given, self.loss = None if regs is None else check_regs(regs), loss

    def fit(self, K: np.ndarray, y: np.ndarray) -> RidgePath:
        """Without `regs`, 50 values from 1e-10 to 10 times the trace of K."""
        K, y = check_problem(K, y)
        self.regs = reg_path(K) if self.given is None else self.given
        self._reduced, self.targets = Tridiagonal(K), y
        columns = y.reshape(len(y), -1)
        coefs = self._reduced.coefficients(columns, self.regs)
        self.residuals = self._residuals(K, columns, coefs)
        left_out = columns - coefs / self._reduced.inverse_diagonals(self.regs)[:, :, None]
        self.leave_one_out = left_out.reshape(len(self.regs), *y.shape)
        self.scores = np.array([score(f, y, self.loss) for f in self.leave_one_out])
        squares = np.array([score(f, y, "squared") for f in self.leave_one_out])
        return self.select(self.regs[np.lexsort((squares, self.scores))[0]])

    def select(self, reg: float) -> RidgePath:
        """Make `reg` (any positive number, on the path or not) the one that predict and margin speak of: O(n²)."""
        self.reg = check_regs(reg)[0]
        y = self.targets
        coef = self._reduced.coefficients(y.reshape(len(y), -1), np.array([self.reg])).reshape(y.shape)
        self._finish(coef, y - self.reg * coef, y)
        return self

    def _residuals(self, K: np.ndarray, y: np.ndarray, coefs: np.ndarray) -> np.ndarray:
        applied = np.moveaxis((K @ np.moveaxis(coefs, 0, 2).reshape(len(y), -1)).reshape(*y.shape, -1), 2, 0)
        missed = np.abs(applied + self.regs[:, None, None] * coefs - y).max(axis=(1, 2))
        allowed = (self._reduced.size + self.regs) * np.abs(coefs).max(axis=(1, 2)) + np.abs(y).max()
        return np.asarray(missed / np.where(allowed > 0, allowed, 1))


@dataclass(frozen=True)
class Conditioning:
    """How an interpolation was solved. rcond: reciprocal 1-norm condition estimate; residual: ‖K coef − y‖ / ‖y‖."""

    method: str
    rcond: float
    rank: int
    jitter: float
    residual: float


class Interpolation(Predictor):
    """The interpolant of least norm, ridge with reg → 0. jitter (on request) adds jitter × mean diagonal to K.

    If K is singular to rounding, the pseudo-inverse of numerical rank r takes over; `report` (a `Conditioning`) says
    so. `fit` raises ValueError where even that does not reproduce y to 1e-6 relative (equal points, different y).
    """

    def __init__(self, jitter: float = 0.0) -> None:
        if not 0 <= jitter < np.inf:
            raise ValueError(f"jitter = {jitter!r}: expected a finite number of at least 0")
        self.jitter = jitter

    def fit(self, K: np.ndarray, y: np.ndarray) -> Interpolation:
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


def margins(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(n,) functional margins: y f where y = ±1; f_y − max_{c≠y} f_c for (n, C) arrays, y the largest target."""
    if scores.ndim == 1 or scores.shape[1] == 1:
        return np.sign(targets.reshape(-1)) * scores.reshape(-1)
    true = np.arange(len(targets)), targets.argmax(axis=1)
    others = scores.copy()
    others[true] = -np.inf
    return scores[true] - others.max(axis=1)


def score(scores: np.ndarray, targets: np.ndarray, loss: str) -> float:
    """Fraction of points with margin ≤ 0 ("error": zero and ties count as errors) or mean square ("squared")."""
    return float((margins(scores, targets) <= 0).mean() if loss == "error" else ((scores - targets) ** 2).mean())


def class_targets(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(classes, targets): ±1 of shape (n,) for two classes (the larger is +1); else (n, C), 1 and −1/(C−1)."""
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"only one class in y ({classes.tolist()[0]!r}): a classifier needs at least two")
    if len(classes) == 2:
        return classes, 2.0 * index - 1
    return classes, np.where(index[:, None] == np.arange(len(classes)), 1.0, -1 / (len(classes) - 1))


def reg_path(K: np.ndarray, size: int = 50) -> np.ndarray:
    """`size` values of reg, largest first: 10 to 1e-10 times the trace of K."""
    return (float(np.trace(K)) or 1.0) * np.logspace(1, -10, size)


def check_regs(regs: Any) -> np.ndarray:
    values = np.atleast_1d(np.asarray(regs, dtype=float))
    if values.ndim != 1 or len(values) == 0 or not ((values > 0) & np.isfinite(values)).all():
        raise ValueError(f"reg = {regs!r}: expected positive finite numbers")
    return values


def check_problem(K: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """K square, float32 or float64, finite; y (n,) or (n, C) float64, finite."""
    K, y = np.asarray(K), np.asarray(y, dtype=float)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) == 0:
        raise ValueError(f"K has shape {K.shape}: expected a square Gram matrix")
    if y.ndim not in (1, 2) or len(y) != len(K) or 0 in y.shape:
        raise ValueError(f"y has shape {y.shape}: expected ({len(K)},) or ({len(K)}, C)")
    K = K if K.dtype in (np.float32, np.float64) else K.astype(float)
    if not np.isfinite(y).all() or not np.isfinite(K.sum()):
        raise ValueError("K or y contains NaN or infinity: expected finite numbers")
    return K, y


def eigendecomposition(K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of a positive semidefinite K, increasing, rounding below zero removed, and eigenvectors (n, n)."""
    from scipy.linalg import eigh

    values, vectors = eigh(K, check_finite=False, driver="evd")
    return np.maximum(values, 0), vectors
