"""M = F Fᵀ + shift I ≈ K + reg I, F (n, r), and what conjugate gradients want of it: M^{½} and M^{−½} times vectors.

F is a randomly pivoted Cholesky factor of K. What r columns tell of an eigenvector is blurred by what they do not
explain: with ρ the mean of the rest's diagonal and b = ρ n/r, an eigenvalue λ of K is about λ²/(λ + b) in F Fᵀ, as for
ridge regression from r noisy samples, and λ b/(λ + b) of it is left. Where that is well above the eigenvalues that
follow, since the spectrum has a gap, the eigenvectors above the gap are multiplied by K once, and their part of M is
made anew from the products (a step of subspace iteration, in Nyström's form).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.threads import single_threaded_blas
from .partial_cholesky import ROUNDING, partial_cholesky

GAP = 1.5  # from which on what is left above a gap is worth a product of K with the eigenvectors there


class LowRankPlus:
    """M = F Fᵀ + shift I.

    Parameters
    ----------
    F : ndarray (n, r), float64
        In columns; its memory is used up.
    shift : float
        > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels.preconditioner import LowRankPlus
    >>> M = LowRankPlus(np.array([[1.0], [0.0]]), 3.0)
    >>> M.root(np.eye(2)).round(4)
    array([[2.    , 0.    ],
           [0.    , 1.7321]])
    """

    def __init__(self, F: np.ndarray, shift: float) -> None:
        from scipy.linalg import qr, svd

        with single_threaded_blas():
            self._Q, R = qr(F, mode="economic", overwrite_a=True, check_finite=False)
            self._A, s, _ = svd(R, full_matrices=False, check_finite=False)
        self.eigenvalues, self.shift = s**2, shift

    def vectors(self, which: slice) -> np.ndarray:
        """Eigenvectors of F Fᵀ, by falling eigenvalues.

        Parameters
        ----------
        which : slice
            Of the r.

        Returns
        -------
        ndarray (n, k)

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels.preconditioner import LowRankPlus
        >>> abs(LowRankPlus(np.diag([1.0, 2.0]), 1.0).vectors(slice(0, 1)))
        array([[0.],
               [1.]])
        """
        return np.asarray(self._Q @ self._A[:, which])

    def root(self, V: np.ndarray) -> np.ndarray:
        """M^{½} V.

        Parameters
        ----------
        V : ndarray (n, C)
            Vectors.

        Returns
        -------
        ndarray (n, C)

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels.preconditioner import LowRankPlus
        >>> LowRankPlus(np.zeros((2, 1)), 4.0).root(np.eye(2))
        array([[2., 0.],
               [0., 2.]])
        """
        return self._power(V, 0.5)

    def inverse_root(self, V: np.ndarray) -> np.ndarray:
        """M^{−½} V.

        Parameters
        ----------
        V : ndarray (n, C)
            Vectors.

        Returns
        -------
        ndarray (n, C)

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels.preconditioner import LowRankPlus
        >>> LowRankPlus(np.zeros((2, 1)), 4.0).inverse_root(np.eye(2))
        array([[0.5, 0. ],
               [0. , 0.5]])
        """
        return self._power(V, -0.5)

    def _power(self, V: np.ndarray, power: float) -> np.ndarray:
        outside = self.shift**power
        inside = (self.eigenvalues + self.shift) ** power - outside
        return outside * V + self._Q @ (self._A @ (inside[:, None] * (self._A.T @ (self._Q.T @ V))))


def preconditioner(gram: Any, reg: float, rank: int, seed: int = 0) -> LowRankPlus:
    """M for K + reg I.

    Parameters
    ----------
    gram : StreamedGram
        Whatever has `n`, `diagonal()`, `columns(which)` and `dot(V, products=…)` will do.
    reg : float
        ≥ 0.
    rank : int
        Of F, at most.
    seed : int
        Of the pivots.

    Returns
    -------
    LowRankPlus

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import StreamedGram
    >>> from meanfield.kernels.preconditioner import preconditioner
    >>> preconditioner(StreamedGram(np.eye(3)), 0.5, 3).inverse_root(np.ones((3, 1))).round(4).ravel()
    array([0.7416, 0.7416, 0.7416])
    """
    diagonal = gram.diagonal()
    least = ROUNDING * float(diagonal.mean()) or 1.0
    part = partial_cholesky(gram, min(rank, gram.n), enough=reg, seed=seed)
    left, found = float(part.rest.mean()), len(part.pivots)
    M = LowRankPlus(part.factor, max(reg + left, least))
    above = _above_gap(M, left * gram.n / max(found, 1))
    if above == 0:
        return M
    with single_threaded_blas():
        F = np.empty((gram.n, found), order="F")
        F[:, :above] = _sharpened(gram, M.vectors(slice(0, above)))
        F[:, above:] = M.vectors(slice(above, None)) * np.sqrt(M.eigenvalues[above:])
        left = float(np.maximum(diagonal - np.einsum("ij,ij->i", F, F), 0).mean())
    return LowRankPlus(F, max(reg + left, least))


def _above_gap(M: LowRankPlus, blur: float) -> int:
    """How many eigenvalues stand above the largest gap, where it is worth it; else 0."""
    seen = M.eigenvalues
    true = 0.5 * (seen + np.sqrt(seen**2 + 4 * seen * blur))
    gaps = (true - seen)[:-1] / np.maximum(true[1:], M.shift)
    return int(gaps.argmax()) + 1 if gaps.max(initial=0) > GAP else 0


def _sharpened(gram: Any, V: np.ndarray) -> np.ndarray:
    """W with W Wᵀ = K V (Vᵀ K V)⁻¹ Vᵀ K."""
    from scipy.linalg import cholesky, solve_triangular

    KV = gram.dot(V, products="float32")
    H = V.T @ KV
    return np.asarray(solve_triangular(cholesky(0.5 * (H + H.T), lower=True), KV.T, lower=True).T)
