"""The tangent kernel of some neurons applied to residuals, never formed.

K v of v (n, C) is how predictions change when neuron j moves by its gradient: u by Σ_i (w·v_i) α_i x_i, w by Σ_i v_i
α_i u·x_i, with α the shares of its activations. One pass over neurons, in blocks that threads share out; the order of
every sum is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled
from ..runtime.threads import Workers
from .exact_algebra import combined
from .microkernels import take_ticket

WIDE = 16  # sums side by side, and what n is padded to
BLOCK = 32  # neurons whose sum a thread makes


class Neurons(NamedTuple):
    """alpha, relu = α u·x (J, N), w (J, C), weight (J,); X (d, N); N is n padded to WIDE with zeros."""

    X: np.ndarray
    alpha: np.ndarray
    relu: np.ndarray
    w: np.ndarray
    weight: np.ndarray


@register_jitable
def _inner(a, b):  # type: ignore[no-untyped-def]
    """Σ_i a_i b_i by WIDE sums side by side."""
    sums = np.zeros(WIDE)
    for i in range(0, len(a), WIDE):
        for k in range(WIDE):
            sums[k] = fma(a[i + k], b[i + k], sums[k])
    total = 0.0
    for k in range(WIDE):
        total += sums[k]
    return total


@register_jitable
def _add(factor, a, out):  # type: ignore[no-untyped-def]
    """out ← out + factor a."""
    for i in range(len(a)):
        out[i] = fma(factor, a[i], out[i])


@compiled
def _apply(neurons, V, out, ticket, limbs):  # type: ignore[no-untyped-def]
    """out (blocks, C, N) ← the parts of K V, V (C, N), by blocks of neurons; `limbs` are not used."""
    X, C = neurons.X, V.shape[0]
    slope, moved = np.empty(X.shape[1]), np.empty(X.shape[1])
    block = take_ticket(ticket)
    while block < out.shape[0]:
        out[block] = 0.0
        for j in range(block * BLOCK, min((block + 1) * BLOCK, len(neurons.w))):
            alpha, relu, weight = neurons.alpha[j], neurons.relu[j], neurons.weight[j]
            slope[:] = 0.0
            for c in range(C):
                _add(neurons.w[j, c], V[c], slope)
            for i in range(len(slope)):
                slope[i] *= alpha[i]
            moved[:] = 0.0
            for k in range(X.shape[0]):
                _add(_inner(slope, X[k]), X[k], moved)
            for i in range(len(moved)):
                moved[i] *= alpha[i]
            for c in range(C):
                _add(weight * neurons.w[j, c], moved, out[block, c])
                _add(weight * _inner(relu, V[c]), relu, out[block, c])
        block = take_ticket(ticket)


def _padded(A: np.ndarray) -> np.ndarray:
    """A (k, n) with zeros up to a multiple of WIDE."""
    k, n = A.shape
    padded = np.zeros((k, -(-n // WIDE) * WIDE))
    padded[:, :n] = A
    return padded


class TangentKernel:
    """K = Σ_j weight_j ∇Φ_j ∇Φ_jᵀ of neurons with shares alpha and relu (J, n), w (J, C), at inputs X (n, d)."""

    def __init__(
        self, X: np.ndarray, alpha: np.ndarray, relu: np.ndarray, w: np.ndarray, weight: np.ndarray,
        workers: Workers | None = None,
    ) -> None:  # fmt: skip
        self.n, self.workers = len(X), workers or Workers(1)
        self.neurons = Neurons(_padded(X.T), _padded(alpha), _padded(relu), w, weight)

    def times(self, v: np.ndarray) -> np.ndarray:
        """K v (n, C), float64."""
        V = _padded(v.T)
        parts = np.empty((-(-len(self.neurons.w) // BLOCK), *V.shape))
        self.workers.run(_apply, len(parts), (self.neurons, V, parts), 0)
        total = combined(np.ones(len(parts)), parts.reshape(len(parts), -1)).reshape(V.shape)
        return np.ascontiguousarray(total[:, : self.n].T)
