"""Ridge and interpolation without the matrix: preconditioned conjugate gradients on products with it.

What is solved is (K + reg I) coef = y, in rounds: each goes on from the residual that products in float64 leave, and
reduces it by block conjugate gradients on M^{−½} (K + reg I) M^{−½}, M = F Fᵀ + shift I from a randomly pivoted
Cholesky factor F of K (Díaz, Epperly, Frangella, Tropp & Webber 2023). Products of a round may be float32: the residual
stays a true one, and a round that gains nothing is followed by rounds in float64.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..runtime.threads import single_threaded_blas
from .conjugate_gradients import Krylov, advance, begin
from .partial_cholesky import ROUNDING, partial_cholesky
from .preconditioner import LowRankPlus
from .solve import Predictor, check_targets
from .solve_file import load_solve, save_solve
from .solve_progress import Line, Silent

REDUCTION = {"float64": 1e-10, "float32": 1e-4}  # of the residual within a round: what products of a precision bear out


@dataclass(frozen=True)
class ConjugateGradients:
    """How to solve without the matrix; immutable.

    Parameters
    ----------
    rank : int
        ≥ 0, of the preconditioner, which takes 16 n × rank bytes while it is made, and half of that afterwards.
    tolerance : float
        > 0, largest ‖(K + reg I) coef − y‖ / ‖y‖ of an output.
    max_iterations : int
        ≥ 1, products with K at most, those for the true residual apart.
    products : "float64" or "float32"
        Of points with points, within a round; the residual that counts is float64 in any case.
    seed : int
        Of the pivots.
    out : path, optional
        An .npz that keeps the state of the solve; where it is there already, the solve goes on from it.
    save_every : float
        ≥ 0, seconds between two writings of it.
    progress : bool
        Whether a line on stderr says how far it is.

    Raises
    ------
    ValueError
        A number out of range, another word.

    Examples
    --------
    >>> from meanfield.kernels import ConjugateGradients
    >>> ConjugateGradients(rank=200, tolerance=1e-6).rank
    200
    """

    rank: int = 1000
    tolerance: float = 1e-8
    max_iterations: int = 1000
    products: str = "float64"
    seed: int = 0
    out: str | Path | None = None
    save_every: float = 60.0
    progress: bool = False

    def __post_init__(self) -> None:
        for name, least in (("rank", 0), ("max_iterations", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} = {value!r}: expected a whole number of at least {least}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance = {self.tolerance!r}: expected a number between 0 and 1")
        if self.products not in REDUCTION:
            raise ValueError(f'products = {self.products!r}: expected "float32" or "float64"')
        if not self.save_every >= 0:
            raise ValueError(f"save_every = {self.save_every!r}: expected a number of at least 0")


class State(NamedTuple):
    """All that the next step of a solve needs, targets being scaled to length 1.

    Attributes
    ----------
    coef, residual : ndarray (n, C)
        As the round began: coefficients, and what is left of the targets, by products in float64.
    krylov : Krylov
        The round.
    steps, iterations : int
        Of the round, and in all.
    single, stalled : bool
        Whether products are float32; whether a round in float64 gained nothing.
    """

    coef: np.ndarray
    residual: np.ndarray
    krylov: Krylov
    steps: int
    iterations: int
    single: bool
    stalled: bool


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

    def fit(self, gram: Any, y: np.ndarray) -> IterativeRidge:
        """Solve (K + reg I) coef = y.

        Parameters
        ----------
        gram : StreamedGram
            The points and their kernel. Of several ranks each calls this, with the same arguments.
        y : array (n,) or (n, C)
            Targets.

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
        if not gram.ranks.leads:
            gram.serve()
        coef, left, self.iterations, self.rank = gram.ranks.once(lambda: self._solved(gram, y))
        lengths = np.linalg.norm(np.stack([left, y]).reshape(2, gram.n, -1), axis=1)
        self.residual = float((lengths[0] / np.where(lengths[1] > 0, lengths[1], 1)).max())
        self.converged = self.residual <= self.method.tolerance
        self._finish(coef, y - self.reg * coef - left, y)
        if not self.converged:
            self._warn()
        return self

    def _solved(self, gram: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, int]:
        """(coef, what is left of y, iterations, rank), on the first rank."""
        try:
            columns = y.reshape(len(y), -1)
            scale = np.linalg.norm(columns, axis=0)
            scale[scale == 0] = 1
            with single_threaded_blas():
                solve = _Solve(gram, columns / scale, self.reg, self.method)
                state = solve.run()
            coef, left = (scale * part for part in (state.coef, state.residual))
            return coef.reshape(y.shape), left.reshape(y.shape), state.iterations, solve.rank
        finally:
            gram.dismiss()

    def _warn(self) -> None:
        from sklearn.exceptions import ConvergenceWarning

        other = "a larger reg" if self.reg > 0 else "reg > 0 (equal points with different targets have no interpolant)"
        warnings.warn(
            f"not converged: relative residual {self.residual:.1e} after {self.iterations} iterations at rank "
            f"{self.rank}, {self.method.tolerance:g} was asked for: try a larger rank, more iterations, or {other}",
            ConvergenceWarning,
            stacklevel=3,
        )


class _Solve:
    """One solve: Y (n, C), its columns of length 1 or 0."""

    def __init__(self, gram: Any, Y: np.ndarray, reg: float, method: ConjugateGradients) -> None:
        self.gram, self.Y, self.reg, self.method = gram, Y, reg, method
        part = partial_cholesky(gram, min(method.rank, gram.n), enough=reg, seed=method.seed)
        least = ROUNDING * float(gram.diagonal().mean()) or 1.0
        self.rank = len(part.pivots)
        self.M = LowRankPlus(part.factor, max(reg + float(part.rest.mean()), least))
        self.progress = Line() if method.progress else Silent()

    def run(self) -> State:
        """Advance, show, save, until it has ended."""
        method, saved = self.method, time.monotonic()
        state = self.begun()
        while not self.ended(state):
            state = self.next(state)
            self.progress.show(state.iterations, self.error(state), method.tolerance)
            if method.out is not None and (self.ended(state) or time.monotonic() - saved >= method.save_every):
                save_solve(method.out, self.belongs_to(), _flat(state))
                saved = time.monotonic()
        self.progress.end()
        return state

    def begun(self) -> State:
        """As it was saved, or at coef = 0."""
        kept = load_solve(self.method.out, self.belongs_to()) if self.method.out is not None else {}
        if kept:
            return _from_flat(kept)
        start = begin(self.M.inverse_root(self.Y))
        return State(np.zeros_like(self.Y), self.Y, start, 0, 0, self.method.products == "float32", False)

    def next(self, state: State) -> State:
        """One step of conjugate gradients, or, where the round has done what it can, the next round."""
        goal = max(0.5 * self.method.tolerance, REDUCTION[self.precision(state)] * _largest(state.residual))
        if self.error(state) <= goal or state.iterations >= self.method.max_iterations:
            return self.refined(state)
        krylov = advance(lambda P: self.applied(P, self.precision(state)), state.krylov)
        return state._replace(krylov=krylov, steps=state.steps + 1, iterations=state.iterations + 1)

    def refined(self, state: State) -> State:
        """The next round, from the true residual; the same coefficients where the last one made it no less."""
        coef = state.coef + self.M.inverse_root(state.krylov.x)
        residual = self.Y - self.gram.dot(coef) - self.reg * coef
        before, after = _largest(state.residual), _largest(residual)
        if not after < before:
            coef, residual = state.coef, state.residual
        stalled = not after < 0.5 * before
        start = begin(self.M.inverse_root(residual))
        return State(
            coef, residual, start, 0, state.iterations, state.single and not stalled, stalled and not state.single
        )

    def ended(self, state: State) -> bool:
        done = _largest(state.residual) <= self.method.tolerance
        return state.steps == 0 and (done or state.stalled or state.iterations >= self.method.max_iterations)

    def error(self, state: State) -> float:
        """The relative residual, as the recursion has it."""
        return _largest(state.residual) if state.steps == 0 else _largest(self.M.root(state.krylov.residual))

    def precision(self, state: State) -> str:
        return "float32" if state.single else "float64"

    def applied(self, P: np.ndarray, products: str) -> np.ndarray:
        """M^{−½} (K + reg I) M^{−½} P."""
        V = self.M.inverse_root(P)
        return self.M.inverse_root(self.gram.dot(V, products=products) + self.reg * V)

    def belongs_to(self) -> str:
        settings = self.reg, self.rank, self.method.rank, self.method.products, self.method.seed
        return hashlib.sha256(f"1 {settings} {self.gram.digest()}".encode() + self.Y.tobytes()).hexdigest()


def _largest(columns: np.ndarray) -> float:
    return float(np.linalg.norm(columns, axis=0).max())


def _flat(state: State) -> dict[str, Any]:
    fields = state._asdict()
    return {**fields.pop("krylov")._asdict(), **fields}


def _from_flat(kept: dict[str, np.ndarray]) -> State:
    fields: dict[str, Any] = {name: value if value.ndim else value.item() for name, value in kept.items()}
    return State(krylov=Krylov(*(fields.pop(name) for name in Krylov._fields)), **fields)
