"""Block conjugate gradients for a symmetric positive matrix A and several right-hand sides at once, step by step.

Residuals are kept as Q C, Q orthonormal, so that right-hand sides that are solved before others do no harm (Dubrulle
2001, the method called BCGrQ); dependent ones are told apart at the beginning, since A may be singular outside of what
they span:

    α = (Pᵀ A P)⁻¹,   x ← x + P α C,   Q S ← Q − A P α (a QR factorization),   P ← Q + P Sᵀ,   C ← S C
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

DEPENDENT = 1e-13  # of the largest singular value of the right-hand sides: what is below that is rounding


class Krylov(NamedTuple):
    """All that the next step needs.

    Attributes
    ----------
    x : ndarray (n, C)
        The solution so far.
    Q, P : ndarray (n, k)
        Orthonormal basis of the residuals, and directions; k ≤ C.
    C : ndarray (k, C)
        The residuals are Q C.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels.conjugate_gradients import Krylov, begin
    >>> isinstance(begin(np.ones((2, 1))), Krylov)
    True
    """

    x: np.ndarray
    Q: np.ndarray
    P: np.ndarray
    C: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """B − A x, (n, C), as the recursion has it.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels.conjugate_gradients import begin
        >>> begin(np.ones((2, 1))).residual.round(6).tolist()
        [[1.0], [1.0]]
        """
        return self.Q @ self.C


def begin(B: np.ndarray) -> Krylov:
    """At x = 0.

    Parameters
    ----------
    B : ndarray (n, C)
        Right-hand sides.

    Returns
    -------
    Krylov

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels.conjugate_gradients import begin
    >>> begin(np.ones((2, 1))).x.tolist()
    [[0.0], [0.0]]
    """
    U, s, V = np.linalg.svd(B, full_matrices=False)
    own = s > DEPENDENT * s[0]
    Q = np.ascontiguousarray(U[:, own])
    return Krylov(np.zeros_like(B), Q, Q, s[own, None] * V[own])


def advance(apply: Callable[[np.ndarray], np.ndarray], state: Krylov) -> Krylov:
    """One step: one application of A.

    Parameters
    ----------
    apply : function
        P (n, C) to A P (n, C).
    state : Krylov
        Where it is.

    Returns
    -------
    Krylov

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels.conjugate_gradients import advance, begin
    >>> A, state = np.diag([1.0, 2.0]), begin(np.array([[1.0], [1.0]]))
    >>> for _ in range(2):
    ...     state = advance(lambda P: A @ P, state)
    >>> state.x.round(6).tolist()
    [[1.0], [0.5]]
    """
    x, Q, P, C = state
    AP = apply(P)
    G = P.T @ AP
    alpha = np.linalg.pinv(0.5 * (G + G.T), rcond=1e-15 * len(G), hermitian=True)
    x = x + P @ (alpha @ C)
    Q, S = np.linalg.qr(Q - AP @ alpha)
    return Krylov(x, Q, Q + P @ S.T, S @ C)
