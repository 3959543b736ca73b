"""A proven upper bound on max ‖G_a(u)‖ over the unit sphere in any dimension: the dual of a semidefinite relaxation.

With z = X u and h = relu(z), h_i² = h_i z_i. Multipliers μ_i for these, ν for ‖u‖² ≤ 1, and for C = 1 also p, q ≥ 0 for
h ≥ 0 and h ≥ z, give a quadratic function of (h, u) above b·h (b = ±a); its maximum over all of (h, u), minimized over
the scale of μ and ν, bounds

    max_u Σ b_i relu(u·x_i) ≤ ½ √S,   S = Σ (b + p + q)_i²/m_i + eᵀ (I − Xᵀ m X)⁻¹ e,   e = Xᵀ(b + p − q),

for every m > 0 with Xᵀ m X ≺ I. For C > 1 it is ½ √λmax(Aᵀ(m⁻¹ + X (I − XᵀmX)⁻¹ Xᵀ) A), A = a, p = q = 0. Any
multipliers give a valid bound, so the minimization over them needs no proof. How loose it is depends on the data.
"""

from __future__ import annotations

import contextlib

import numpy as np

from ..runtime.threads import single_threaded_blas
from .budget import Budget

_SLACK = 1e-8  # relative, for rounding: 1 − λmax(XᵀmX) is kept above 9e-4, so that inverses keep ten digits and more
_EPS = float(np.finfo(float).eps)
_WORK = 2e9


class _Over(Exception):
    pass


def relaxed_bound(X: np.ndarray, a: np.ndarray, *, seconds: float | None = None, budget: Budget | None = None) -> float:
    """An upper bound on max ‖G_a(u)‖ over unit u, X (n, d), a (n, C), rounding included.

    It gets lower with the budget (about two seconds of one core; a limit in `seconds` cuts that short).
    """
    with single_threaded_blas():  # small matrices; and the answer shall not depend on the number of threads
        return _relaxed(X, a, budget or Budget(_WORK, seconds))


def _relaxed(X: np.ndarray, a: np.ndarray, budget: Budget) -> float:
    size = np.linalg.norm(X, axis=1)
    active = np.linalg.norm(a, axis=1) * size > 0
    if not active.any():
        return 0.0
    X, a, size = X[active], a[active], size[active]
    unit = X / size[:, None]
    a = a * size[:, None]  # relu is homogeneous: unit inputs, so that multipliers have one scale
    C, largest = a.shape[1], float(np.abs(a).max())
    parts = C + (C > 1)
    each = [_one_output(unit, a[:, c], budget, c / parts, (c + 1) / parts) for c in range(C)]
    found = float(np.linalg.norm(each))  # ‖G‖² is the sum over outputs, each at most its own maximum
    if C > 1:
        found = min(found, _Norm(unit, a).minimized(budget, 1.0))
    lipschitz = float(np.linalg.norm(a, axis=1).sum())
    absolute = 70 * sum(X.shape) * _EPS * C * (lipschitz + 4 * len(X) * largest)  # e is a sum that may cancel
    return min(found + absolute, lipschitz) * (1 + _SLACK)


def _one_output(X: np.ndarray, b: np.ndarray, budget: Budget, low: float, high: float) -> float:
    if not np.any(b):
        return 0.0
    return max(
        _Signed(X, sign * b).minimized(budget, share) for sign, share in ((1.0, 0.5 * (low + high)), (-1.0, high))
    )


class _Norm:
    """The bound as a function of m = exp(s)/λmax: any s is admissible."""

    def __init__(self, X: np.ndarray, a: np.ndarray) -> None:
        self.X, self.a = X, a
        self.n, self.d = X.shape
        self.best, self.budget = float(np.linalg.norm(a, axis=1).sum()), Budget()

    def minimized(self, budget: Budget, share: float) -> float:
        """The best value by the time that this share of the budget is used up."""
        from scipy.optimize import minimize  # slow to load

        self.budget, budget.share = budget, share
        with contextlib.suppress(_Over):
            minimize(
                self._evaluate,
                self.start(),
                jac=True,
                method="L-BFGS-B",
                bounds=self.bounds(),
                options={"maxiter": 1000, "maxfun": 1500},
            )
        return self.best

    def start(self) -> np.ndarray:
        weight = np.linalg.norm(self.a, axis=1)
        s = np.log(np.maximum(weight, 1e-3 * weight.max()))
        return np.append(s - s.mean(), np.log(3.0))

    def bounds(self) -> list[tuple[float, float]]:
        return [(-18.0, 18.0)] * self.n + [(-6.0, 7.0)]

    def _count(self) -> None:
        """Of this evaluation: products at an eighth, an eigendecomposition, elementwise work."""
        if self.budget.over():
            raise _Over
        n, d = self.n, self.d
        self.budget.spend(0.125 * n * d * d + 6 * d**3 + 6 * n * d + 400 * n + 1e5)

    def _weights(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """m with λmax(XᵀmX) = share < 1, the inverse of I − XᵀmX, and the top eigenvector of XᵀmX."""
        raw, share = np.exp(s[: self.n]), 1 / (1 + np.exp(-s[self.n]))
        values, vectors = np.linalg.eigh((self.X.T * raw) @ self.X)
        m = raw * (share / values[-1])
        return m, (vectors / (1 - share * values / values[-1])) @ vectors.T, vectors[:, -1]

    def _chain(self, s: np.ndarray, m: np.ndarray, top: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """The gradient with respect to s, from that with respect to m."""
        share = 1 / (1 + np.exp(-s[self.n]))
        total = float(slope @ m)
        by_raw = slope * m - total * m * (self.X @ top) ** 2 / share
        return np.append(by_raw, total * (1 - share))

    def _evaluate(self, s: np.ndarray) -> tuple[float, np.ndarray]:
        self._count()
        m, inverse, top = self._weights(s)
        XtA = self.X.T @ self.a
        S = self.a.T @ (self.a / m[:, None]) + XtA.T @ inverse @ XtA
        values, vectors = np.linalg.eigh(S)
        self.best = min(self.best, 0.5 * float(np.sqrt(values[-1])))
        power = np.sum((values / values[-1]) ** 8) ** (1 / 8)  # a smooth stand-in for the largest eigenvalue
        weights = (values / values[-1]) ** 7 / power**7
        left = self.a @ vectors
        right = self.X @ (inverse @ XtA @ vectors)
        slope = (right**2 - (left / m[:, None]) ** 2) @ weights
        value = float(values[-1] * power)
        return float(np.log(value)), self._chain(s, m, top, slope / value)


class _Signed(_Norm):
    """One sign of C = 1, with the multipliers p and q of h ≥ 0 and h ≥ z."""

    def __init__(self, X: np.ndarray, b: np.ndarray) -> None:
        super().__init__(X, b[:, None])
        self.b, self.unit = b, float(np.abs(b).max())

    def start(self) -> np.ndarray:
        lift = 0.45 * np.maximum(-self.b, 0) / self.unit
        return np.concatenate([super().start(), lift, lift])

    def bounds(self) -> list[tuple[float, float]]:
        return super().bounds() + [(0.0, 2.0)] * (2 * self.n)

    def _evaluate(self, s: np.ndarray) -> tuple[float, np.ndarray]:
        self._count()
        m, inverse, top = self._weights(s)
        p, q = self.unit * s[self.n + 1 : 2 * self.n + 1], self.unit * s[2 * self.n + 1 :]
        h, e = self.b + p + q, self.X.T @ (self.b + p - q)
        solved = self.X @ (inverse @ e)
        S = float(np.sum(h * h / m) + e @ (inverse @ e))
        self.best = min(self.best, 0.5 * np.sqrt(S))
        slope = solved**2 - (h / m) ** 2
        by_p, by_q = 2 * h / m + 2 * solved, 2 * h / m - 2 * solved
        gradient = self._chain(s, m, top, slope)
        return float(np.log(S)), np.concatenate([gradient, self.unit * by_p, self.unit * by_q]) / S
