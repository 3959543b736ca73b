"""Ridge on centres: f = Σ_k coef_k K(c_k, ·) over M of the points, fitted to all n of them, for n up to a million.

The minimum of ½ ‖K coef − y‖² + ½ reg coefᵀ K_MM coef, K (n, M), by conjugate gradients with Falkon's preconditioner
(Rudi, Carratino & Rosasco 2017): with K_MM = L Lᵀ and KᵀK ≈ (n/M) K_MM² it is B = L⁻ᵀ R⁻ᵀ, R Rᵀ = (n/M) LᵀL + reg I,
and what is solved is BᵀKᵀK B + reg BᵀK_MM B = R⁻¹ (L⁻¹ Kᵀ K L⁻ᵀ + reg I) R⁻ᵀ, which is near the identity.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from ..runtime.threads import single_threaded_blas
from .cholesky import backward, factorize, forward
from .iterative import scaled, warn_unless_converged
from .rounds import ConjugateGradients, solve_in_rounds
from .solve import Predictor, check_regs, check_targets


class NystromRidge(Predictor):
    """Kernel ridge regression on centres (Nyström), without the matrix.

    Parameters
    ----------
    reg : float
        λ > 0, that of `Ridge`: with as many centres as points it is the same f.
    method : ConjugateGradients, optional
        How to solve; its rank has no part here.

    Attributes
    ----------
    coef : ndarray (M,) or (M, C)
        Coefficients of the centres.
    fitted, targets : ndarray (n,) or (n, C)
        f at the points, and y.
    norm : float
        ‖f‖ in the kernel's Hilbert space.
    converged : bool
        Whether `residual` came to the tolerance. A ConvergenceWarning says so where not.
    residual : float
        ‖gradient‖ relative to that at coef = 0, both in the preconditioner's norm, by products in float64, of the
        output where it is largest. What M centres lose against all n points it does not tell.
    iterations : int
        Steps of conjugate gradients.

    Raises
    ------
    ValueError
        A reg that is not positive and finite.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import NystromRidge, StreamedCentres
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> ridge = NystromRidge(0.5).fit(StreamedCentres(X, 4), X[:, 0] * X[:, 1])
    >>> ridge.fitted.round(4), ridge.converged
    (array([ 0.7317, -0.7317, -0.7317,  0.7317]), True)
    """

    def __init__(self, reg: float = 1.0, method: ConjugateGradients | None = None) -> None:
        self.reg, self.method = check_regs(reg)[0], method or ConjugateGradients()

    def fit(self, centres: Any, y: np.ndarray) -> NystromRidge:
        """Fit the coefficients of the centres to all points.

        Parameters
        ----------
        centres : StreamedCentres
            Points, centres and kernel. Of several ranks each calls this, with the same arguments.
        y : array (n,) or (n, C)
            Targets.

        Returns
        -------
        NystromRidge
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
        >>> from meanfield.kernels import NystromRidge, StreamedCentres
        >>> NystromRidge(1.0).fit(StreamedCentres([[1.0], [2.0]], 1), np.array([1.0, 2.0])).coef.shape
        (1,)
        """
        y = check_targets(y, centres.n)
        if not centres.ranks.leads:
            centres.serve()
        coef, self.norm, self.residual, self.iterations = centres.ranks.once(lambda: self._solved(centres, y))
        self.coef, self.targets = coef, y
        self.fitted = centres.dot(coef)
        self.converged = self.residual <= self.method.tolerance
        warn_unless_converged(self, f"{len(coef)} centres", "more iterations, or a larger reg")
        return self

    def _solved(self, centres: Any, y: np.ndarray) -> tuple[np.ndarray, float, float, int]:
        """(coef, norm, residual, iterations), on the first rank."""
        try:
            system = _Falkon(centres, y.reshape(len(y), -1), self.reg)
            with single_threaded_blas():
                state = solve_in_rounds(system, self.method)
                inner = system.scale * system.up(state.x)  # Lᵀ coef
                coef = inner.copy()
                backward(system.L, coef)
            residual = float(np.linalg.norm(state.residual, axis=0).max())
            return coef.reshape(-1, *y.shape[1:]), float(np.linalg.norm(inner)), residual, state.iterations
        finally:
            centres.dismiss()


class _Falkon:
    """R⁻¹ (L⁻¹ Kᵀ K L⁻ᵀ + reg I) R⁻ᵀ x = R⁻¹ L⁻¹ Kᵀ y: nothing is left for a preconditioner to do."""

    def __init__(self, centres: Any, y: np.ndarray, reg: float) -> None:
        self.centres, self.y, self.reg = centres, y, reg
        self.L = centres.factor
        self.R = factorize(centres.n / len(self.L) * (self.L.T @ self.L), reg, overwrite=True)[0]
        self.start = self.down(self.centres.normal(np.zeros((len(self.L), y.shape[1])), y))
        self.targets, self.scale = scaled(self.start)

    def left(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.targets - self.applied(x, "float64"))

    def applied(self, V: np.ndarray, products: str) -> np.ndarray:
        inner = self.up(V)
        coef = inner.copy()
        backward(self.L, coef)
        image = self.centres.normal(coef, products=products)
        forward(self.L, image)
        image += self.reg * inner
        forward(self.R, image)
        return image

    def up(self, x: np.ndarray) -> np.ndarray:
        """R⁻ᵀ x."""
        inner = x.copy()
        backward(self.R, inner)
        return inner

    def down(self, gradient: np.ndarray) -> np.ndarray:
        """R⁻¹ L⁻¹ gradient."""
        forward(self.L, gradient)
        forward(self.R, gradient)
        return gradient

    def root(self, V: np.ndarray) -> np.ndarray:
        return V

    inverse_root = root

    def belongs_to(self) -> str:
        return hashlib.sha256(f"centres {self.reg} {self.centres.digest()}".encode() + self.y.tobytes()).hexdigest()
