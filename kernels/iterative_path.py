"""How strongly to regularize, without the matrix: generalized cross-validation by random probes, and its error.

With N = Σ w_i, f the ridge at reg and T = N − Σ_i m_i ∂f(x_i)/∂y_i, m_i = min(w_i, 1) what is left out, it is

    N Σ_i w_i (y_i − f(x_i))² / T² ,

the leave-one-out error with every example's ∂f(x_i)/∂y_i at their mean (Golub, Heath & Wahba 1979). With B the matrix
reg (√w K √w + reg I)⁻¹ it is T = N − Σ m_i + Σ m_i B_ii, and the last sum is the mean of Σ m_i z_i (B z)_i over vectors
z of fair signs (Hutchinson 1989), which are solved for together with y.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .iterative import IterativeRidge
from .rounds import ConjugateGradients
from .solve import check_regs, check_targets
from .weights import check_weights

TOLERANCE = 1e-6  # of the solves, at least: what a score needs
ENOUGH = 2.0  # times the lowest score: a path that has come so high again ends


class IterativePath:
    """The reg of the lowest generalized cross-validation score over a path, by `IterativeRidge`.

    Parameters
    ----------
    regs : array (r,), optional
        The path, each λ > 0; by default 10 values from 10 to 1e-8 times the trace of K. It is gone through from large
        to small, and ends where a score is twice the lowest, or where the iterations do not suffice.
    method : ConjugateGradients, optional
        How to solve; the tolerance is 1e-6 at least, `out` has no part here, and the seed is also that of the probes.
    probes : int
        ≥ 2. The error falls as one over their root, and over that of n as well.

    Attributes
    ----------
    regs : ndarray (r,)
        The path, as far as it was gone.
    reg : float
        The choice.
    scores, errors : ndarray (r,)
        Mean square over outputs, and its standard error by the probes, which are the same at every reg: differences
        along the path err less. Where few directions are fitted, the law of the error has a longer tail than a normal.
    freedom : ndarray (r,)
        Degrees of freedom, N − T: about the number of directions that are fitted.

    Raises
    ------
    ValueError
        A reg that is not positive and finite, fewer than two probes.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.kernels import IterativePath, StreamedGram
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 4))
    >>> path = IterativePath([100.0, 1.0, 0.01]).fit(StreamedGram(X), np.abs(X[:, 0]) + 0.1 * rng.normal(size=300))
    >>> path.reg, path.scores.round(4), path.errors.round(4)
    (1.0, array([0.2299, 0.019 , 0.0229]), array([0.0007, 0.0002, 0.0005]))
    """

    def __init__(
        self,
        regs: Sequence[float] | np.ndarray | None = None,
        method: ConjugateGradients | None = None,
        *,
        probes: int = 16,
    ) -> None:
        if not isinstance(probes, int | np.integer) or isinstance(probes, bool) or probes < 2:
            raise ValueError(f"probes = {probes!r}: expected a whole number of at least 2")
        self.given, self.probes = None if regs is None else np.sort(check_regs(regs))[::-1], probes
        method = method or ConjugateGradients()
        self.method = replace(method, tolerance=max(method.tolerance, TOLERANCE), out=None)

    def fit(self, gram: Any, y: np.ndarray, weights: np.ndarray | None = None) -> IterativePath:
        """Score the path.

        Parameters
        ----------
        gram : StreamedGram
            The points and their kernel. Of several ranks each calls this, with the same arguments.
        y : array (n,) or (n, C)
            Targets.
        weights : array (n,), optional
            As of `Ridge.fit`.

        Returns
        -------
        IterativePath
            Itself.

        Raises
        ------
        ValueError
            Shapes that do not fit, numbers not finite; iterations that do not suffice for any reg.

        Examples
        --------
        >>> import numpy as np
        >>> from meanfield.kernels import IterativePath, StreamedGram
        >>> IterativePath([1.0, 0.1]).fit(StreamedGram(np.eye(2)), np.array([1.0, 2.0])).freedom.round(3)
        array([1.024, 1.824])
        """
        y, counts = check_targets(y, gram.n).reshape(gram.n, -1), check_weights(weights, gram.n)
        root = np.sqrt(counts)[:, None]
        probes = np.random.default_rng(self.method.seed).choice([-1.0, 1.0], size=(gram.n, self.probes)) / root
        trace = float(counts @ gram.diagonal()) or 1.0
        path = trace * np.logspace(1, -8, 10) if self.given is None else self.given
        tried: list[tuple[float, float, float]] = []
        for reg in path:
            coef = self._solved(reg, gram, np.hstack([y, probes]), weights)
            if coef is None:
                break
            traces = np.minimum(counts, 1) @ (probes * coef[:, y.shape[1] :])
            tried.append(_scored(reg, coef[:, : y.shape[1]] / root, traces, counts))
            if tried[-1][0] > ENOUGH * min(score for score, _, _ in tried):
                break
        if not tried:
            most = self.method.max_iterations
            raise ValueError(f"max_iterations = {most}: enough for no reg of the path: try more, or a larger rank")
        self.regs = path[: len(tried)]
        self.scores, self.errors, self.freedom = np.array(tried).T
        self.reg = float(self.regs[self.scores.argmin()])
        return self

    def _solved(self, reg: float, gram: Any, targets: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        """Coefficients, or None where they do not converge."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ridge = IterativeRidge(reg, self.method).fit(gram, targets, weights)
        return ridge.coef if ridge.converged else None


def _scored(reg: float, coef: np.ndarray, traces: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """(score, its standard error, degrees of freedom); coef (n, C) over √w, of each probe Σ m_i z_i (B z)_i / reg."""
    total = counts.sum()
    left = total - np.minimum(counts, 1).sum() + reg * traces.mean()
    score = total * reg**2 * float((coef**2).sum(axis=0).mean()) / left**2
    return score, 2 * score * reg * float(traces.std(ddof=1)) / np.sqrt(len(traces)) / left, total - left
