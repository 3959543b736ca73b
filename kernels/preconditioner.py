"""M = F Fᵀ + shift I, F (n, r), and what conjugate gradients want of it: M^{½} and M^{−½} times a few vectors."""

from __future__ import annotations

import numpy as np

from ..runtime.threads import single_threaded_blas


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
        self._eigenvalues, self._shift = s**2, shift

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
        outside = self._shift**power
        inside = (self._eigenvalues + self._shift) ** power - outside
        return outside * V + self._Q @ (self._A @ (inside[:, None] * (self._A.T @ (self._Q.T @ V))))
