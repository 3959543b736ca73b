"""The first columns of a Cholesky factor, their pivots drawn at random: what a large kernel matrix mostly is.

K ≈ F Fᵀ of rank r, of which only r columns of K are looked at. A pivot is drawn with a probability proportional to what
is left of the diagonal, so that neither outliers nor clusters are missed (Chen, Epperly, Tropp & Webber 2022); pivots
are drawn by the hundred and kept with the probability that makes them what they would have been one by one (Epperly,
Tropp & Webber 2024).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..runtime.threads import single_threaded_blas

BLOCK = 128  # pivots drawn at once
ROUNDING = 1e-13  # of the diagonal: what is left of it below that is rounding, and no pivot


class PartialCholesky(NamedTuple):
    """K ≈ factor factorᵀ.

    Attributes
    ----------
    factor : ndarray (n, r), float64
        In columns.
    pivots : ndarray (r,)
        The rows of K that are reproduced exactly.
    rest : ndarray (n,)
        Diagonal of K − factor factorᵀ, ≥ 0.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import StreamedGram
    >>> from meanfield.kernels.partial_cholesky import PartialCholesky, partial_cholesky
    >>> isinstance(partial_cholesky(StreamedGram(np.eye(3)), 2), PartialCholesky)
    True
    """

    factor: np.ndarray
    pivots: np.ndarray
    rest: np.ndarray


def partial_cholesky(gram: Any, rank: int, *, enough: float = 0.0, seed: int = 0) -> PartialCholesky:
    """Randomly pivoted Cholesky of a matrix that is known by its diagonal and its columns.

    Parameters
    ----------
    gram : StreamedGram
        Whatever has `n`, `diagonal()` and `columns(which)` will do.
    rank : int
        Columns at most; fewer where the rest is no more than rounding.
    enough : float
        Trace of the rest at which to stop.
    seed : int
        Of the pivots.

    Returns
    -------
    PartialCholesky

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import StreamedGram
    >>> from meanfield.kernels.partial_cholesky import partial_cholesky
    >>> gram = StreamedGram(np.eye(3))
    >>> partial = partial_cholesky(gram, 3)
    >>> bool(np.allclose(partial.factor @ partial.factor.T, gram.columns(np.arange(3))))
    True
    """
    rng, diagonal = np.random.default_rng(seed), gram.diagonal()
    F, pivots, rest = np.empty((gram.n, rank), order="F"), np.empty(0, dtype=np.int64), diagonal.copy()
    with single_threaded_blas():
        while len(pivots) < rank and rest.sum() > enough:
            drawn = rng.choice(gram.n, BLOCK, p=rest / rest.sum())
            columns = gram.columns(drawn) - F[:, : len(pivots)] @ F[drawn, : len(pivots)].T
            kept, corner = _kept(columns[drawn], rest[drawn], ROUNDING * diagonal[drawn], rng)
            kept = kept[: rank - len(pivots)]
            if len(kept) == 0:
                break
            new = slice(len(pivots), len(pivots) + len(kept))
            F[:, new] = _divided(columns[:, kept], corner[: len(kept), : len(kept)])
            pivots = np.append(pivots, drawn[kept])
            rest -= np.einsum("ij,ij->i", F[:, new], F[:, new])
            rest[rest <= ROUNDING * diagonal] = 0
            rest[pivots] = 0
    return PartialCholesky(F[:, : len(pivots)], pivots, rest)


def _kept(
    H: np.ndarray, before: np.ndarray, rounding: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which of the drawn pivots are kept, and their lower triangular factor: each by what earlier ones leave of it."""
    H, kept = H.copy(), []
    chances = rng.random(len(H))
    for i in range(len(H)):
        left = H[i, i]
        if left <= max(chances[i] * before[i], rounding[i]):
            continue
        column = H[:, i] / np.sqrt(left)
        H -= np.outer(column, column)
        kept.append((i, column))
    which = np.array([i for i, _ in kept], dtype=np.int64)
    return which, np.array([column for _, column in kept]).reshape(len(kept), len(H)).T[which]


def _divided(columns: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """columns corner⁻ᵀ."""
    from scipy.linalg import solve_triangular

    return solve_triangular(corner, columns.T, lower=True, check_finite=False).T
