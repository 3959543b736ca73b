"""A linear system solved in rounds of conjugate gradients, each from a true residual.

Within a round residuals are those of the recursion, and products may be float32; a round starts from what products in
float64 leave. One that gains nothing is followed by rounds in float64, and such a one ends the solve.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .conjugate_gradients import Krylov, advance, begin
from .solve_file import load_solve, save_solve
from .solve_progress import Line, Silent

REDUCTION = {"float64": 1e-10, "float32": 1e-4}  # of the residual within a round: what products of a precision bear out


@dataclass(frozen=True)
class ConjugateGradients:
    """How to solve without the matrix; immutable.

    Parameters
    ----------
    rank : int
        ≥ 0, of the preconditioner of `IterativeRidge`: 16 n × rank bytes while it is made, and half of that afterwards.
    tolerance : float
        > 0, of the relative residual of an output.
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
    """All that the next step of a solve needs.

    Attributes
    ----------
    x, residual : ndarray (n, C)
        As the round began: the solution, and what is left of the targets, by products in float64.
    krylov : Krylov
        The round.
    steps, iterations : int
        Of the round, and in all.
    single, stalled : bool
        Whether products are float32; whether a round in float64 gained nothing.
    """

    x: np.ndarray
    residual: np.ndarray
    krylov: Krylov
    steps: int
    iterations: int
    single: bool
    stalled: bool


class System(Protocol):
    """A x = targets, and a symmetric root of a preconditioner M ≈ A.

    Attributes
    ----------
    targets : ndarray (n, C)
        Columns of length 1 or 0.
    """

    targets: np.ndarray

    def left(self, x: np.ndarray) -> np.ndarray:
        """targets − A x, from products in float64."""

    def applied(self, V: np.ndarray, products: str) -> np.ndarray:
        """M^{−½} A M^{−½} V."""

    def root(self, V: np.ndarray) -> np.ndarray:
        """M^{½} V."""

    def inverse_root(self, V: np.ndarray) -> np.ndarray:
        """M^{−½} V."""

    def belongs_to(self) -> str:
        """A digest of all that the solution depends on, but for `ConjugateGradients`."""


def solve_in_rounds(system: System, method: ConjugateGradients) -> State:
    """Advance, show, save, until it has ended.

    Parameters
    ----------
    system : System
        What is solved.
    method : ConjugateGradients
        How.

    Returns
    -------
    State
        At the beginning of a round, so that its residual is a true one.

    Raises
    ------
    ValueError
        A file `out` that is damaged or of another system.

    Examples
    --------
    `IterativeRidge` and `NystromRidge` are made of it.

    >>> from meanfield.kernels.rounds import solve_in_rounds
    >>> callable(solve_in_rounds)
    True
    """
    rounds, saved = _Rounds(system, method), time.monotonic()
    progress = Line() if method.progress else Silent()
    state = rounds.begun()
    while not rounds.ended(state):
        state = rounds.next(state)
        progress.show(state.iterations, rounds.error(state), method.tolerance)
        if method.out is not None and (rounds.ended(state) or time.monotonic() - saved >= method.save_every):
            save_solve(method.out, rounds.belongs_to, _flat(state))
            saved = time.monotonic()
    progress.end()
    return state


class _Rounds:
    def __init__(self, system: System, method: ConjugateGradients) -> None:
        self.system, self.method = system, method
        settings = f"1 {method.rank} {method.products} {method.seed} {system.belongs_to() if method.out else ''}"
        self.belongs_to = hashlib.sha256(settings.encode()).hexdigest()

    def begun(self) -> State:
        """As it was saved, or at x = 0."""
        kept = load_solve(self.method.out, self.belongs_to) if self.method.out is not None else {}
        if kept:
            return _from_flat(kept)
        targets = self.system.targets
        start = begin(self.system.inverse_root(targets))
        return State(np.zeros_like(targets), targets, start, 0, 0, self.method.products == "float32", False)

    def next(self, state: State) -> State:
        """One step of conjugate gradients, or, where the round has done what it can, the next round."""
        products = "float32" if state.single else "float64"
        goal = max(0.5 * self.method.tolerance, REDUCTION[products] * _largest(state.residual))
        if self.error(state) <= goal or state.iterations >= self.method.max_iterations:
            return self.refined(state)
        krylov = advance(lambda P: self.system.applied(P, products), state.krylov)
        return state._replace(krylov=krylov, steps=state.steps + 1, iterations=state.iterations + 1)

    def refined(self, state: State) -> State:
        """The next round, from the true residual; the same solution where the last one made it no less."""
        x = state.x + self.system.inverse_root(state.krylov.x)
        residual = self.system.left(x)
        before, after = _largest(state.residual), _largest(residual)
        if not after < before:
            x, residual = state.x, state.residual
        gained = after < 0.5 * before
        start = begin(self.system.inverse_root(residual))
        return State(x, residual, start, 0, state.iterations, state.single and gained, not (gained or state.single))

    def ended(self, state: State) -> bool:
        done = _largest(state.residual) <= self.method.tolerance
        return state.steps == 0 and (done or state.stalled or state.iterations >= self.method.max_iterations)

    def error(self, state: State) -> float:
        """The relative residual, as the recursion has it."""
        return _largest(state.residual) if state.steps == 0 else _largest(self.system.root(state.krylov.residual))


def _largest(columns: np.ndarray) -> float:
    return float(np.linalg.norm(columns, axis=0).max())


def _flat(state: State) -> dict[str, Any]:
    fields = state._asdict()
    krylov = fields.pop("krylov")._asdict()
    return {**fields, **{f"krylov_{name}": value for name, value in krylov.items()}}


def _from_flat(kept: dict[str, np.ndarray]) -> State:
    fields: dict[str, Any] = {name: value if value.ndim else value.item() for name, value in kept.items()}
    return State(krylov=Krylov(*(fields.pop(f"krylov_{name}") for name in Krylov._fields)), **fields)
