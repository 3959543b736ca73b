"""Cholesky factors in place, by blocks of columns: matrix products do the work.

LAPACK's own routine is left to blocks of 512 columns, on one thread: the threaded one of OpenBLAS 0.3.30 crashes the
process somewhere between n = 14,000 and 20,000 on two threads, and on small blocks it mostly waits for itself.
"""

from __future__ import annotations

import numpy as np

from ..runtime.threads import single_threaded_blas

BLOCK = 512


def factorize(K: np.ndarray, reg: float | np.ndarray = 0.0, *, overwrite: bool = False) -> tuple[np.ndarray, float]:
    """L (n, n) with L Lᵀ = K + reg I, and the 1-norm of K + reg I; reg may be a diagonal (n,).

    K symmetric, float32 or float64, stored by rows; with `overwrite` its memory holds the result. Only the lower half
    of L is meaningful. Raises ValueError where K + reg I is not positive definite in its precision.
    """
    from scipy.linalg import LinAlgError, cholesky, get_lapack_funcs, solve_triangular

    usable = overwrite and K.flags.c_contiguous and K.flags.writeable
    L = K if usable else np.array(K, order="C")
    n = len(L)
    diagonal = np.arange(n)
    L[diagonal, diagonal] += reg
    size = float(get_lapack_funcs("lange", (L,))("1", L.T))
    for j in range(0, n, BLOCK):
        end = min(j + BLOCK, n)
        panel = L[j:, j:end]
        if j > 0:
            panel -= L[j:, :j] @ L[j:end, :j].T
        try:
            with single_threaded_blas():
                corner = cholesky(panel[: end - j], lower=True, check_finite=False)
        except LinAlgError:
            raise ValueError(
                f"K + reg I is not positive definite in {L.dtype} (rows {j} to {end}): increase reg"
            ) from None
        panel[: end - j] = corner
        if end < n:
            panel[end - j :] = solve_triangular(corner, panel[end - j :].T, lower=True, check_finite=False).T
    return L, size


def reciprocal_condition(L: np.ndarray, size: float) -> float:
    """Estimate of 1/(‖A‖ ‖A⁻¹‖), 1-norms, of A = L Lᵀ with ‖A‖ = size: some triangular solves, O(n²) but slow ones."""
    from scipy.linalg import get_lapack_funcs

    return float(get_lapack_funcs("pocon", (L,))(L.T, size, uplo="U")[0])


def solve(L: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x with L Lᵀ x = y; y (n,) or (n, C), x float64."""
    x = np.array(y, dtype=np.float64).reshape(len(y), -1)
    forward(L, x)
    backward(L, x)
    return x.reshape(y.shape)


def backward(L: np.ndarray, x: np.ndarray) -> None:
    """x ← L⁻ᵀ x in place, x (n, C)."""
    from scipy.linalg import solve_triangular

    for start in range((len(L) - 1) // BLOCK * BLOCK, -1, -BLOCK):
        end = min(start + BLOCK, len(L))
        x[start:end] -= L[end:, start:end].T @ x[end:]
        x[start:end] = solve_triangular(L[start:end, start:end], x[start:end], lower=True, trans=1, check_finite=False)


def forward(L: np.ndarray, x: np.ndarray) -> None:
    """x ← L⁻¹ x in place, x (n, C)."""
    from scipy.linalg import solve_triangular

    for start in range(0, len(L), BLOCK):
        end = min(start + BLOCK, len(L))
        x[start:end] -= L[start:end, :start] @ x[:start]
        x[start:end] = solve_triangular(L[start:end, start:end], x[start:end], lower=True, check_finite=False)


def inverse_diagonal(L: np.ndarray) -> np.ndarray:
    """Diagonal of (L Lᵀ)⁻¹, (n,): the squared norms of the columns of L⁻¹, a block of columns at a time."""
    n, diagonal = len(L), np.empty(len(L))
    for start in range(0, n, BLOCK):
        width = min(BLOCK, n - start)
        columns = np.eye(n - start, width)
        forward(L[start:, start:], columns)
        diagonal[start : start + width] = np.einsum("ij,ij->j", columns, columns)
    return diagonal
