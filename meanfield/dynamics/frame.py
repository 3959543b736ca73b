"""The coordinates in which an implicit step is taken: inputs on one scale, and the passes over them.

A neuron sees the data through u·x alone. Where one direction of the inputs is much longer than the others, the least
turn of u towards it flips most activations, and the time step is lost to it. The flow in another metric,

    u' = −P ∇_u L',   w' = −∇_w L',   P = V diag(p) Vᵀ,   p_k = 1 + σ_1²/(κ σ_k²),

has the same equilibria; V and σ_k² are the axes and second moments of the inputs, κ is the ratio of moments up to which
all is left as it is. In v = diag(p)^{−½} Vᵀ u it is the flow of the inputs X V diag(p)^½ with the ℓ2 term λ Σ p_k v_k².
"""

from __future__ import annotations

import numpy as np

from ..engine.engine import Engine
from ..engine.exact_algebra import product
from ..engine.kinks import Kinks
from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled
from .coupling import LARGEST_MATRIX

MODERATE = 10.0  # κ
SMALLEST = 1e-5  # moments below this part of the largest count as it
_LARGEST = 256  # inputs of more dimensions keep their own axes
_SWEEPS = 30


@compiled
def _rotate(M, i, j, c, s):  # type: ignore[no-untyped-def]
    """Turn the rows i and j of M in their plane, by the angle with this cosine and sine."""
    for k in range(M.shape[1]):
        a, b = M[i, k], M[j, k]
        M[i, k], M[j, k] = fma(c, a, -s * b), fma(s, a, c * b)


@compiled
def _diagonalize(A, V, sweeps):  # type: ignore[no-untyped-def]
    """Jacobi's method: A ← V A Vᵀ diagonal, the rows of V its axes."""
    n = A.shape[0]
    for _ in range(sweeps):
        largest = 0.0
        for i in range(n):
            for j in range(i + 1, n):
                size = np.sqrt(abs(A[i, i]) * abs(A[j, j]))
                if abs(A[i, j]) <= 1e-17 * size:
                    continue
                largest = max(largest, abs(A[i, j]) / (size + 1e-300))
                theta = (A[j, j] - A[i, i]) / (2.0 * A[i, j])
                t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                t = -t if theta < 0 else t
                c = 1.0 / np.sqrt(t * t + 1.0)
                _rotate(A.T, i, j, c, t * c)
                _rotate(A, i, j, c, t * c)
                _rotate(V, i, j, c, t * c)
        if largest < 1e-14:
            break


def _metric(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p (d,) and V (d, d), whose rows are the axes."""
    d = X.shape[1]
    scale, V = float(np.abs(X).max(initial=0.0)) or 1.0, np.eye(d)
    moments = product((X / scale).T, X / scale)
    if d <= _LARGEST:
        _diagonalize(moments, V, _SWEEPS)
    size = np.maximum(np.diagonal(moments), 0.0)
    top = float(size.max())
    return (1.0 + top / (MODERATE * np.maximum(size, SMALLEST * top)) if top > 0 else np.ones(d)), V


class Frame:
    """Inputs X (n, d) in the metric's coordinates, as `X`; p (d,); and the compiled passes over them.

    `whiten` = False leaves the inputs as they are. inner is X Xᵀ (n, n), or None where n·C is too large to form K.
    """

    def __init__(self, engine: Engine, X: np.ndarray, *, whiten: bool) -> None:
        n, d = X.shape
        self.whiten, self.p, self.X, self.engine = whiten, np.ones(d), X, engine
        if whiten:
            self.p, V = _metric(X)
            root = np.sqrt(self.p)[:, None]
            self._to, self._back = np.ascontiguousarray((V / root).T), V * root
            self.X = np.ascontiguousarray(product(X, self._back.T))
            self.engine = Engine(self.X, engine.C, engine.dtype, engine.workers)
        self.kinks = Kinks(self.engine)
        self.inner = product(self.X, self.X.T) if n * engine.C <= LARGEST_MATRIX else None

    def to(self, U: np.ndarray) -> np.ndarray:
        """Input weights (k, d) in these coordinates."""
        return product(U, self._to) if self.whiten else U

    def back(self, V: np.ndarray) -> np.ndarray:
        """The inverse of `to`."""
        return product(V, self._back) if self.whiten else V
