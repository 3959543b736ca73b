"""From a dual point to a proven lower bound on min L: max ‖G_a‖ over all directions, and the rounding of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..engine.exact_math import row_norms, total
from ..losses import Loss
from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .conditional_gradient import Search
from .duality import dual_bound
from .semidefinite_relaxation import relaxed_bound
from .sign_branching import bound_by_signs
from .sphere_bound import SphereBound

_WORK = 2e10  # about twenty seconds of one core
_CONES = 0.2  # of it, for cones where they may not finish
_LOSS = 1e-4  # of the primal, that a bound may lie below its estimate when nothing is said
_EPS = float(np.finfo(float).eps)


Watch = Callable[[float, float, int], None]


class ProofRequest(NamedTuple):
    """How hard to try: `effort` times about twenty seconds of one core; None, until the gap is reached.

    `until_gap`: the relative gap at which to stop. `exact`: whether to go on, five times as long, until nothing is left
    open. `keep`: whether the proof itself is wanted. `watch` gets the proven lower bound, the relative gap and the
    number of open cells now and then.
    """

    effort: float | None = 1.0
    until_gap: float | None = None
    keep: bool = False
    watch: Watch | None = None
    exact: bool = False


class Proof(NamedTuple):
    """An upper bound on max ‖G_a‖, the lower bound on min L that it proves, and what that gave up for rounding."""

    sphere: SphereBound
    bound: float
    allowance: float


def prove(search: Search, primal: float, request: ProofRequest) -> Proof:
    """The best proven bound that the dual point of a search gives within the request."""
    budget = _budget(search.budget, request)
    level = 0.0 if request.exact else _level(search, primal, request.until_gap)
    cut = proven_peak(
        search.examples,
        search.point(search.dual),
        start=search.direction,
        level=level,
        budget=budget,
        threads=search.threads,
        keep=request.keep,
        watch=None if request.watch is None else _in_bounds(search, primal, request.watch),
    )
    search.budget.took(budget)
    spread = search.mirror.spread
    return Proof(cut, *proven_bound(search.loss, search.t, search.dual, search.X, search.reg, cut, spread))


def proven_peak(
    X: np.ndarray,
    a: np.ndarray,
    *,
    start: np.ndarray,
    level: float,
    budget: Budget,
    threads: int = 1,
    keep: bool = False,
    watch: Callable[[float, int], None] | None = None,
) -> SphereBound:
    """A proven bound on max ‖G_a(u)‖ over unit u, X (n, d), a (n, C): the best that the budget gives, down to `level`.

    Cones up to rank 4, which take next to no time there, then cells cut by signs; where even one relaxation is too
    large, the looser one that sees no products of examples. `start` (d,) is a direction known to pull hard.
    """
    part = budget.part(_CONES)
    cut = bound_on_sphere(X, a, start=start, budget=part, threads=threads)
    budget.took(part)
    if cut is not None and cut.closed:
        return cut
    other = bound_by_signs(
        X, a, start=start, level=level, budget=budget, threads=threads, keep=keep, watch=watch
    ) or _relaxed(X, a, start, budget)
    return other if cut is None or other.upper < cut.upper else cut


def _budget(search: Budget, request: ProofRequest) -> Budget:
    """Of a proof: its own work, and of a limit in seconds what the search has left, but a fifth."""
    seconds = None if search.limit is None else max(0.2 * search.limit, search.limit - search.seconds)
    work = _WORK * (5 if request.exact else 1)
    return Budget(np.inf if request.effort is None else request.effort * work, seconds)


def _level(search: Search, primal: float, until_gap: float | None) -> float:
    """The highest bound on ‖G‖ that is good enough, by bisection: with it the lower bound is what is asked for."""
    wanted = search.lower - _LOSS * primal if until_gap is None else primal * (1 - until_gap)
    low, high = search.peak, 4 * search.peak
    if _lower(search, low) <= wanted:
        return low
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _lower(search, middle) > wanted else (low, middle)
    return low * (1 - 1e-9)


def _lower(search: Search, peak: float) -> float:
    return dual_bound(search.loss, search.t, search.dual, peak, search.reg)[0]


def _in_bounds(search: Search, primal: float, watch: Watch) -> Callable[[float, int], None]:
    def told(peak: float, cells: int) -> None:
        lower = _lower(search, peak)
        watch(lower, (primal - lower) / primal if primal > 0 else 0.0, cells)

    return told


def _relaxed(X: np.ndarray, a: np.ndarray, start: np.ndarray, budget: Budget) -> SphereBound:
    return SphereBound(
        upper=relaxed_bound(X, a, budget=budget),
        lower=float(np.linalg.norm(np.maximum(X @ start, 0.0) @ a)),
        u=start,
        allowance=0.0,
        closed=False,
        cells=1,
        dimension=min(X.shape),
    )


def proven_bound(
    loss: Loss,
    targets: np.ndarray,
    a: np.ndarray,
    X: np.ndarray,
    reg: float,
    sphere: SphereBound,
    spread: float = 1.0,
) -> tuple[float, float]:
    """The lower bound of a dual point a (n, C) with all rounding subtracted, and how much that was.

    A computed dual point may miss the domain of R* by roundings (rows that must sum to zero, p ≤ 1): the nearest point
    within is 8C roundings away, which moves ‖G‖ by as much of `spread` Σ ‖a_i‖‖x_i‖. R* itself is a sum of n·C terms.
    """
    n, C = a.shape
    lipschitz = spread * total(row_norms(a) * row_norms(X))
    norm = (sphere.upper + 8 * C * _EPS * lipschitz) * (1 + 8 * _EPS)
    lower, s = dual_bound(loss, targets, a, norm, reg)
    rounding = 8 * _EPS * (n * C + 20) * loss.conjugate_magnitude(s * a, targets)
    bare, _ = dual_bound(loss, targets, a, sphere.upper - sphere.allowance, reg)
    return max(0.0, lower - rounding), max(0.0, bare - lower) + rounding


__all__ = ["Proof", "ProofRequest", "Watch", "prove", "proven_bound", "proven_peak"]
