"""K = Q T Qᵀ with Q orthogonal and T tridiagonal: after that one reduction every K + λI costs O(n²), not O(n³).

T + λI = L D Lᵀ with L unit lower bidiagonal, so that (K + λI)⁻¹ y = Q L⁻ᵀ D⁻¹ L⁻¹ Qᵀ y, and with qᵢ the rows of Q

    (K + λI)⁻¹ᵢᵢ = Σ_j (L⁻¹ qᵢ)_j² / D_jj :

four operations an entry of Q, where an eigendecomposition first turns Q into eigenvectors (2n³ operations more, and
the eigenvalues). The factor of a positive definite T + λI is backward stable without pivoting.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled
from ..runtime.threads import on_threads

BLOCK, STRIP = 128, 512  # reflectors applied at once, and columns they are applied to: a strip stays in cache
ROWS = 64  # rows of Q swept together, along the vector lanes


class Tridiagonal:
    """The reduction of a symmetric K (n, n), positive semidefinite up to rounding, and what follows for K + reg I.

    diagonal (n,), off_diagonal (n − 1,): T. Q (n, n), stored by columns. float64 throughout.
    """

    def __init__(self, K: np.ndarray) -> None:
        from scipy.linalg.lapack import dsytrd, dsytrd_lwork

        n = len(K)
        lwork = int(dsytrd_lwork(n, lower=1)[0])
        packed, self.diagonal, self.off_diagonal, tau, _ = dsytrd(
            np.array(K, dtype=float).T, lower=1, lwork=lwork, overwrite_a=1
        )
        self.Q = _orthogonal(packed, tau)
        self.size = float((np.abs(self.diagonal) + _neighbours(self.off_diagonal)).max())
        self._spectrum: tuple[np.ndarray, np.ndarray] | None = None

    def eigenvalues(self) -> np.ndarray:
        """(n,), increasing, rounding below zero removed."""
        from scipy.linalg import eigvalsh_tridiagonal

        return np.maximum(eigvalsh_tridiagonal(self.diagonal, self.off_diagonal, check_finite=False), 0)

    def coefficients(self, y: np.ndarray, regs: np.ndarray) -> np.ndarray:
        """(K + reg I)⁻¹ y for y (n, C) at each of regs (r,): (r, n, C)."""
        factor, safe = self._factor(regs)
        rotated = self.Q.T @ y
        x = np.empty((len(regs), *y.shape))
        _solve(*factor, rotated, x)
        if not safe.all():
            s, Z = self._eigen()
            filters = 1 / (s + regs[~safe, None])
            x[~safe] = Z @ (filters[:, :, None] * (Z.T @ rotated))
        n, columns = len(y), np.moveaxis(x, 0, 2).reshape(len(y), -1)
        return np.moveaxis((self.Q @ columns).reshape(n, y.shape[1], len(regs)), 2, 0)

    def inverse_diagonals(self, regs: np.ndarray) -> np.ndarray:
        """Diagonal of (K + reg I)⁻¹ at each of regs (r,): (r, n)."""
        factor, safe = self._factor(regs)
        out = np.empty((len(regs), len(self.Q)))
        if not safe.all():
            s, Z = self._eigen()
            filters = 1 / (s[:, None] + regs[~safe])
        bad = np.flatnonzero(~safe)

        def strip(i: int) -> None:
            rows = slice(i * ROWS, i * ROWS + ROWS)
            _sweep(*factor, np.ascontiguousarray(self.Q[rows].T), out[:, rows])
            if len(bad):
                out[bad, rows] = ((self.Q[rows] @ Z) ** 2 @ filters).T

        on_threads(strip, range(-(-len(out[0]) // ROWS)), None)
        return out

    def _factor(self, regs: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """L's subdiagonals and 1/D, each (r, n), and (r,) whether K + reg I is positive definite beyond rounding."""
        lower, inverse = np.zeros((2, len(regs), len(self.diagonal)))
        smallest = _factorize(self.diagonal, self.off_diagonal, regs, lower, inverse)
        return (lower, inverse), smallest > len(self.diagonal) * np.finfo(float).eps * self.size

    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues ≥ 0 and vectors of T: what is left where reg is below K's rounding, and factors mean nothing."""
        from scipy.linalg import eigh_tridiagonal

        if self._spectrum is None:
            s, Z = eigh_tridiagonal(self.diagonal, self.off_diagonal, check_finite=False)
            self._spectrum = np.maximum(s, 0), Z
        return self._spectrum


def _neighbours(off_diagonal: np.ndarray) -> Any:
    """Sum of the absolute off-diagonal entries of each row of T."""
    padded = np.concatenate([[0.0], np.abs(off_diagonal), [0.0]])
    return padded[1:] + padded[:-1]


def _orthogonal(packed: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """The product of the reflectors I − τ v vᵀ that LAPACK left below the subdiagonal, BLOCK of them at a time.

    I − V T Vᵀ is a block's product, T⁻¹ = diag(1/τ) + the strict upper half of VᵀV (Joffrain et al. 2006): matrix
    products throughout, where LAPACK's own routine works on 32 at a time.
    """
    n = len(packed)
    Q = np.zeros((n, n), order="F")
    Q[np.diag_indices(n)] = 1
    for start in range((n - 2) // BLOCK * BLOCK, -1, -BLOCK) if n > 1 else ():
        t = tau[start : start + BLOCK]
        V = np.tril(packed[start + 1 :, start : start + len(t)], -1)
        V[np.arange(len(t)), np.arange(len(t))] = 1
        V *= t != 0  # τ = 0 is the identity, whatever v
        VT = V @ np.linalg.inv(np.triu(V.T @ V, 1) + np.diag(1 / np.where(t == 0, 1, t)))
        for column in range(start + 1, n, STRIP):
            part = Q[start + 1 :, column : column + STRIP]
            part -= VT @ (V.T @ part)
    return Q


@compiled
def _factorize(d: np.ndarray, e: np.ndarray, regs: np.ndarray, lower: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Fill lower and inverse (r, n); the smallest pivot of each shift."""
    smallest = np.empty(regs.size)
    for k in range(regs.size):
        pivot = d[0] + regs[k]
        inverse[k, 0] = 1 / pivot
        smallest[k] = pivot
        for j in range(1, d.size):
            lower[k, j] = e[j - 1] / pivot
            pivot = d[j] + regs[k] - lower[k, j] * e[j - 1]
            inverse[k, j] = 1 / pivot
            smallest[k] = min(smallest[k], pivot)
    return smallest


@compiled
def _solve(lower: np.ndarray, inverse: np.ndarray, c: np.ndarray, x: np.ndarray) -> None:
    """x (r, n, C) with L D Lᵀ x = c (n, C) for each of r factors."""
    r, n, outputs = x.shape
    for k in range(r):
        for o in range(outputs):
            x[k, 0, o] = c[0, o]
            for j in range(1, n):
                x[k, j, o] = c[j, o] - lower[k, j] * x[k, j - 1, o]
            x[k, n - 1, o] *= inverse[k, n - 1]
            for j in range(n - 2, -1, -1):
                x[k, j, o] = x[k, j, o] * inverse[k, j] - lower[k, j + 1] * x[k, j + 1, o]


@compiled
def _sweep(lower: np.ndarray, inverse: np.ndarray, strip: np.ndarray, out: np.ndarray) -> None:
    """out[k, i] = Σ_j (L_k⁻¹ q_i)_j² / D_k,jj, the vectors q_i being the columns of strip (n, w)."""
    n, w = strip.shape
    z, total = np.empty(w), np.empty(w)
    for k in range(lower.shape[0]):
        z[:] = 0
        total[:] = 0
        for j in range(n):
            c, v = -lower[k, j], inverse[k, j]
            for i in range(w):
                z[i] = fma(c, z[i], strip[j, i])
                total[i] = fma(z[i] * z[i], v, total[i])
        out[k] = total
