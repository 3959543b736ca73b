"""The coupled part of an implicit step, in n·C numbers: a residual that agrees with the predictions it leads to.

    f⁺ = b − B r⁺,   r⁺ = R'(f⁺),   B = c K positive semidefinite

is what makes φ(a) = R(b − B a) + ½⟨a, B a⟩ smallest over a: strictly convex in B a, solved by Newton's method with a
line search. With R'' = Q Qᵀ (blocks C × C, one an example) Newton's a is R' + Q y, (I + Qᵀ B Q) y = Qᵀ(b − f − B R'),
positive definite with eigenvalues from 1: by Cholesky where K is a matrix, by conjugate gradients where it is only ever
applied. All of it is exact_math's arithmetic in a fixed order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..engine import exact_math
from ..engine.exact_algebra import cholesky, cholesky_solve, combined, gram
from ..engine.tangent_kernel import TangentKernel
from ..losses import Loss
from ..runtime.compiling import compiled
from ..runtime.threads import Workers

ITERATIONS = 30  # of conjugate gradients, at most
LARGEST_MATRIX = 2000  # n·C up to which K is formed
_JITTER = 1e-9  # of the diagonal, in float64
_RANK = 1e-12  # of a block's largest pivot: below it there is none


def curvature_root(loss: Loss, f: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Q (n, C, C) with R''(f) = Q Qᵀ, the 1/n included: each block's Cholesky factor.

    A loss of several outputs without a `hessian` has its bound on the curvature in the place of R''.
    """
    n, C = f.shape
    if C == 1 or not loss.offers("hessian"):
        root = np.sqrt(np.maximum(loss.curvature(f, t), 0.0) / n)
        return root[:, None, None] * np.eye(C)
    H, Q = loss.hessian(f, t) / n, np.zeros((n, C, C))
    least = _RANK * np.maximum(np.diagonal(H, axis1=1, axis2=2).max(axis=1), 1e-300)
    for c in range(C):
        pivot = H[:, c, c]
        column = np.where((pivot > least)[:, None], H[:, :, c] / np.sqrt(np.maximum(pivot, least))[:, None], 0.0)
        column[:, :c] = 0.0
        Q[:, :, c] = column
        H = H - column[:, :, None] * column[:, None, :]
    return Q


def times(Q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Q v example by example: (n, C) of Q (n, C, C) and v (n, C)."""
    total = Q[:, :, 0] * v[:, :1]
    for c in range(1, v.shape[1]):
        total = total + Q[:, :, c] * v[:, c : c + 1]
    return total


@compiled
def _conjugate(Q, B, out):  # type: ignore[no-untyped-def]
    """out (n, C, n, C) ← Qᵀ B Q, Q (n, C, C), B (n, C, n, C)."""
    n, C, _ = Q.shape
    left = np.empty((C, C))
    for i in range(n):
        for k in range(n):
            left[:] = 0.0
            for b in range(C):
                for a in range(C):
                    for c in range(C):
                        left[b, c] += Q[i, a, b] * B[i, a, k, c]
            for b in range(C):
                for c in range(C):
                    value = 0.0
                    for a in range(C):
                        value += left[b, a] * Q[k, a, c]
                    out[i, b, k, c] = value


def conjugated(Q: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Qᵀ B Q of B (n C, n C) and the block diagonal Q."""
    n, C, _ = Q.shape
    if C == 1:
        return Q[:, 0] * B * Q[:, 0, 0]
    out = np.empty((n, C, n, C))
    _conjugate(Q, B.reshape(n, C, n, C), out)
    return out.reshape(n * C, n * C)


class Gates(NamedTuple):
    """K = Σ_j weight_j ∇Φ_j ∇Φ_jᵀ of some particles, with the shares α_ij of their activations.

    X (n, d); inner X Xᵀ, or None where K is only applied; alpha and relu = α u·x (J, n); w (J, C); weight (J,).
    """

    X: np.ndarray
    inner: np.ndarray | None
    alpha: np.ndarray
    relu: np.ndarray
    w: np.ndarray
    weight: np.ndarray

    def matrix(self, workers: Workers | None = None) -> np.ndarray:
        """K (n C, n C), index i C + c."""
        assert self.inner is not None
        n, C = len(self.X), self.w.shape[1]
        K, raised = np.empty((n, C, n, C)), gram(self.relu, self.weight, workers)
        for a in range(C):
            for b in range(a + 1):
                gate = gram(self.alpha, self.weight * self.w[:, a] * self.w[:, b], workers)
                K[:, a, :, b] = K[:, b, :, a] = self.inner * gate + (raised if a == b else 0.0)
        return K.reshape(n * C, n * C)


class Coupling:
    """K as it acts on residuals (n, C), and how often Newton's method may ask for it."""

    newtons = 30

    def times(self, v: np.ndarray) -> np.ndarray:
        """K v."""
        raise NotImplementedError

    def solve(self, Q: np.ndarray, c: float, b: np.ndarray) -> np.ndarray:
        """(I + c Qᵀ K Q)⁻¹ b."""
        raise NotImplementedError

    @staticmethod
    def of(gates: Gates, workers: Workers | None = None) -> Coupling:
        """The kind that fits the size."""
        return SparseCoupling(gates, workers) if gates.inner is None else DenseCoupling(gates, workers)


class DenseCoupling(Coupling):
    """K as a matrix, Newton's systems by Cholesky."""

    def __init__(self, gates: Gates, workers: Workers | None = None) -> None:
        self.K = gates.matrix(workers)
        self._known: tuple[np.ndarray, float, np.ndarray | None] | None = None

    def times(self, v: np.ndarray) -> np.ndarray:
        return combined(v.reshape(-1), self.K).reshape(v.shape)

    def solve(self, Q: np.ndarray, c: float, b: np.ndarray) -> np.ndarray:
        if self._known is None or self._known[1] != c or not np.array_equal(self._known[0], Q):
            M = conjugated(Q, c * self.K)
            M[np.diag_indices(len(M))] += 1.0 + _JITTER * float(np.abs(np.diagonal(M)).max())
            self._known = Q, c, cholesky(M)
        factor = self._known[2]
        return np.full_like(b, np.nan) if factor is None else cholesky_solve(factor, b.reshape(-1)).reshape(b.shape)


class SparseCoupling(Coupling):
    """K only applied, Newton's systems by conjugate gradients, to a relative residual of `tolerance`."""

    newtons = 3

    def __init__(
        self, gates: Gates, workers: Workers | None = None, *, iterations: int = ITERATIONS, tolerance: float = 1e-2
    ) -> None:
        self.K = TangentKernel(gates.X, gates.alpha, gates.relu, gates.w, gates.weight, workers)
        self.iterations, self.tolerance = iterations, tolerance

    def times(self, v: np.ndarray) -> np.ndarray:
        return self.K.times(v)

    def solve(self, Q: np.ndarray, c: float, b: np.ndarray) -> np.ndarray:
        Qt = Q.swapaxes(1, 2)
        x, rest = np.zeros_like(b), b.copy()
        way, size = rest.copy(), exact_math.total(rest * rest)
        until = self.tolerance**2 * size
        for _ in range(self.iterations):
            if not size > until:
                break
            image = way + c * times(Qt, self.times(times(Q, way)))
            length = size / exact_math.total(way * image)
            x, rest = x + length * way, rest - length * image
            before, size = size, exact_math.total(rest * rest)
            way = rest + (size / before) * way
        return x


class Balance(NamedTuple):
    """The equation r = R'(b − c K r)."""

    loss: Loss
    targets: np.ndarray
    b: np.ndarray
    K: Coupling
    c: float

    def merit(self, a: np.ndarray, back: np.ndarray) -> float:
        """φ(a), of a and back = c K a."""
        return self.loss.value(self.b - back, self.targets) + 0.5 * exact_math.total(a * back)

    def newton(self, a: np.ndarray, back: np.ndarray) -> np.ndarray:
        """Newton's step from a."""
        f = self.b - back
        r, Q = self.loss.residual(f, self.targets), curvature_root(self.loss, f, self.targets)
        y = self.K.solve(Q, self.c, times(Q.swapaxes(1, 2), back - self.c * self.K.times(r)))
        return r + times(Q, y) - a

    def solution(self, a: np.ndarray, *, newtons: int | None = None) -> np.ndarray:
        """r⁺ (n, C), from the guess a."""
        back = self.c * self.K.times(a)
        value = self.merit(a, back)
        for _ in range(newtons or self.K.newtons):
            step = self.newton(a, back)
            if not np.isfinite(step).all():
                break
            image, length = self.c * self.K.times(step), 1.0
            new = self.merit(a + step, back + image)
            while not new <= value + 1e-12 * abs(value) and length >= 1e-6:
                length *= 0.5
                new = self.merit(a + length * step, back + length * image)
            a, back = a + length * step, back + length * image
            done = length == 1.0 and abs(value - new) <= 1e-9 * abs(new)
            value = new
            if done or self._solved(a, back):
                break
        return self.loss.residual(self.b - back, self.targets)

    def _solved(self, a: np.ndarray, back: np.ndarray) -> bool:
        """Whether a is R' to ten digits; so after one step where R' is linear."""
        rest = self.loss.residual(self.b - back, self.targets) - a
        return exact_math.total(rest * rest) <= 1e-20 * exact_math.total(a * a)
