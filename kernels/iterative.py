"""Ridge and interpolation without the matrix: preconditioned conjugate gradients on products with it.

What is solved is (K + reg I) coef = y, by block conjugate gradients on M^{−½} (K + reg I) M^{−½}, M = F Fᵀ + shift I
from a randomly pivoted Cholesky factor F of K (Díaz, Epperly, Frangella, Tropp & Webber 2023; `preconditioner.py`).
"""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np

from ..runtime.threads import single_threaded_blas
from .preconditioner import preconditioner
from .rounds import ConjugateGradients, solve_in_rounds
from .solve import Predictor, check_targets
from .streamed import Scaled
from .weights import check_weights


class IterativeRidge(Predictor):
    """Kernel ridge regression, or with reg 0 the least-norm interpolant, without the matrix.

    Parameters
    ----------
    reg : float
        λ ≥ 0, that of `Ridge`.
    method : ConjugateGradients, optional
        How to solve.

    Attributes
    ----------
    coef, fitted, targets, norm
        As of every predictor: coefficients, K coef and y, each (n,) or (n, C), and ‖f‖.
    converged : bool
        Whether `residual` came to the tolerance. A ConvergenceWarning says so where not.
    residual : float
        ‖(K + reg I) coef − y‖ / ‖y‖ by products in float64, of the output where it is largest.
    iterations : int
        Steps of conjugate gradients.
    rank : int
        Of the preconditioner.

    Raises
    ------
    ValueError
        A reg that is negative or not finite.

    Notes
    -----
    The same bits for any number of threads and of ranks, and after an interruption, on processors of one kind.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import IterativeRidge, StreamedGram
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> ridge = IterativeRidge(0.5).fit(StreamedGram(X), X[:, 0] * X[:, 1])
    >>> ridge.fitted.round(4), ridge.converged
    (array([ 0.7317, -0.7317, -0.7317,  0.7317]), True)
    """

    def __init__(self, reg: float = 1.0, method: ConjugateGradients | None = None) -> None:
        if not isinstance(reg, int | float | np.number) or not 0 <= float(reg) < np.inf:
            raise ValueError(f"reg = {reg!r}: expected a finite number of at least 0")
        self.reg, self.method = float(reg), method or ConjugateGradients()

    def fit(self, gram: Any, y: np.ndarray, weights: np.ndarray | None = None) -> IterativeRidge:
        """Solve (K + reg I) coef = y.

        Parameters
        ----------
        gram : StreamedGram
            The points and their kernel. Of several ranks each calls this, with the same arguments.
        y : array (n,) or (n, C)
            Targets.
        weights : array (n,), optional
            Of the examples in the sum, each > 0; by default 1. They weigh what is left in `residual` as well.

        Returns
        -------
        IterativeRidge
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite; a file `out` that is damaged or of other data.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            The residual did not come to the tolerance.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import IterativeRidge, StreamedGram
        >>> IterativeRidge(0).fit(StreamedGram(np.eye(2)), np.array([1.1592, 1.1592])).coef.round(4)
        array([1., 1.])
        """
        y = check_targets(y, gram.n)
        root = np.sqrt(check_weights(weights, gram.n)).reshape(-1, *[1] * (y.ndim - 1))
        if not gram.ranks.leads:
            gram.serve()
        system = gram if weights is None else Scaled(gram, root.ravel())
        inner, left, self.iterations, self.rank = gram.ranks.once(lambda: self._solved(system, root * y))
        lengths = np.linalg.norm(np.stack([left, root * y]).reshape(2, gram.n, -1), axis=1)
        self.residual = float((lengths[0] / np.where(lengths[1] > 0, lengths[1], 1)).max())
        self.converged = self.residual <= self.method.tolerance
        self._finish(root * inner, y - (self.reg * inner + left) / root, y)
        other = "a larger reg" if self.reg > 0 else "reg > 0 (equal points with different targets have no interpolant)"
        warn_unless_converged(self, f"rank {self.rank}", f"a larger rank, more iterations, or {other}")
        return self

    def _solved(self, gram: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        """(coef, what is left of y, iterations, rank), on the first rank."""
        try:
            targets, scale = scaled(y.reshape(len(y), -1))
            with single_threaded_blas():
                system = _Shifted(gram, targets, self.reg, self.method)
                state = solve_in_rounds(system, self.method)
            coef, left = (scale * part for part in (state.x, state.residual))
            return coef.reshape(y.shape), left.reshape(y.shape), state.iterations, system.rank
        finally:
            gram.dismiss()


class _Shifted:
    """(K + reg I) x = targets."""

    def __init__(self, gram: Any, targets: np.ndarray, reg: float, method: ConjugateGradients) -> None:
        self.gram, self.targets, self.reg = gram, targets, reg
        M = preconditioner(gram, reg, method.rank, method.seed)
        self.rank = len(M.eigenvalues)
        self.root, self.inverse_root = M.root, M.inverse_root

    def left(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.targets - self.gram.dot(x) - self.reg * x)

    def applied(self, V: np.ndarray, products: str) -> np.ndarray:
        V = self.inverse_root(V)
        return self.inverse_root(self.gram.dot(V, products=products) + self.reg * V)

    def belongs_to(self) -> str:
        return hashlib.sha256(f"ridge {self.reg} {self.gram.digest()}".encode() + self.targets.tobytes()).hexdigest()


def scaled(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(columns of length 1 or 0, their lengths (C,), 1 for 0)."""
    lengths = np.linalg.norm(columns, axis=0)
    lengths[lengths == 0] = 1
    return columns / lengths, lengths


def warn_unless_converged(ridge: Any, size: str, remedies: str) -> None:
    """ConvergenceWarning, in one line, of a ridge that has not converged."""
    if ridge.converged:
        return
    from sklearn.exceptions import ConvergenceWarning

    warnings.warn(
        f"not converged: relative residual {ridge.residual:.1e} after {ridge.iterations} iterations at {size}, "
        f"{ridge.method.tolerance:g} was asked for: try {remedies}",
        ConvergenceWarning,
        stacklevel=3,
    )
