"""The gap of an ensemble by as much work as a run can spare for it: an estimate, or a proof in few dimensions.

What `certify` does, scaled down: the ensemble's residual as a dual point, refits of neurons where its bound is poor,
then a look from fresh starts at the best dual point, since a peak that was overlooked makes a bound too high. In up to
three dimensions the highest peak is proven by branch and bound, if that is done within the work. Counted work, hence
the same answer every time; not the same bits on every machine, so no part of a trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..engine.engine import Moments
from ..engine.exact_math import row_norms
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .certificate import notable_directions
from .conditional_gradient import Search, needed
from .duality import dual_bound
from .linearized_gap import linearized_bound
from .proof import proven_bound
from .sphere_ascent import Peaks, distinct, merged, pull
from .sphere_bound import SphereBound

_ENOUGH = 1e-4  # a relative gap that no more work is spent on
_SHARES = 0.15, 0.75  # parts of the work that are used up after the first look, and after refits
_BEFORE_PROOF = 0.1, 0.35  # the same where a proof is tried
_TIGHT = 1e-4  # of a proven peak, relatively
_PROVEN = 3  # dimensions up to which a proof is tried


class QuickBound(NamedTuple):
    """L of an ensemble, a lower bound on min L, and whether that is proven, rounding included, or an estimate."""

    primal: float
    lower_bound: float
    rigorous: bool


def quick_bound(
    problem: Problem, ensemble: Ensemble, moments: Moments, work: float, threads: int | None = None
) -> QuickBound:
    """A lower bound on min L at the λ of the ensemble's step, from its predictions on the training set.

    Parameters
    ----------
    problem : Problem
        With τ = 0 at that step. Its loss needs a `conjugate`, for C > 1 a `hessian`. For another neuron than
        relu and leaky_relu the bound is that of `linearized_gap`.
    ensemble : Ensemble
        Shared by ranks or not; all of them get the answer.
    moments : meanfield.engine.engine.Moments
        Its predictions f (n, C) and ∫‖θ‖² dρ.
    work : float
        About nanoseconds of one core. A few starts are climbed from whatever it is.
    threads : int, optional
        By default the cores that this process may use; the answer does not depend on it.

    Returns
    -------
    QuickBound

    Raises
    ------
    InputError
        A loss that lacks what is needed; predictions that are not finite; a neuron that grows faster than
        quadratically; a penalty that is not known.

    Examples
    --------
    One example, x = 1 and y = 1: the least of ½(f − 1)² + 2λ|f| is 3/8 at λ = ¼; this particle has f = 1.

    >>> from meanfield import Ensemble, Problem
    >>> from meanfield.dynamics import Field
    >>> from meanfield.optimality.quick_certificate import quick_bound
    >>> problem = Problem([[1.0]], [1.0], loss="squared", reg=0.25)
    >>> ensemble = Ensemble.from_arrays([[1.0]], [[1.0]])
    >>> found = quick_bound(problem, ensemble, Field(problem, ensemble.dtype).predict(ensemble), 1e8)
    >>> found.rigorous, round(found.primal, 6), round(found.lower_bound, 6)
    (True, 0.5, 0.375)
    """
    if problem.neuron.sides is None:
        found = linearized_bound(problem, ensemble, moments, Budget(work))
        return QuickBound(found.primal, found.lower_bound, False)
    problem.require_plain("the gap at the end of a run")
    problem.loss.require("the gap at the end of a run", *needed(problem.outputs))
    particles = ensemble.sample(4096)

    def bounded() -> QuickBound:
        with single_threaded_blas():
            return QuickSearch(problem, problem.reg(ensemble.step), moments, particles, Budget(work), threads).bound()

    return ensemble.span.ranks.once(bounded)


class Candidate:
    """A dual point a (n, C), the highest ‖G_a‖ known, and the bound on min L that both make."""

    def __init__(self, search: Search, dual: np.ndarray) -> None:
        self.search, self.dual, self.peak, self.bound, self.judged = search, dual, 0.0, np.inf, False

    def hear_of(self, u: np.ndarray) -> None:
        """Look at these directions (k, d)."""
        highest = float(pull(self.search.examples, self.search.point(self.dual), u).max(initial=0.0))
        if highest > self.peak or not np.isfinite(self.bound):
            self.peak = max(highest, self.peak)
            self.bound, _ = dual_bound(self.search.loss, self.search.t, self.dual, self.peak, self.search.reg)


class QuickSearch:
    """A search that counts what each of its parts may cost, so that little work is spread over all of them.

    It keeps every dual point that it comes by: what is climbed to for one of them can show another's bound too high.
    """

    def __init__(
        self,
        problem: Problem,
        reg: float,
        moments: Moments,
        particles: tuple[np.ndarray, np.ndarray],
        budget: Budget,
        threads: int | None,
    ) -> None:
        """InputError: predictions that are not finite."""
        self.primal = problem.evaluate(moments.f, moments.second, reg).value
        if not np.isfinite(self.primal):
            raise InputError("ensemble: its predictions are not finite")
        self.search = search = Search(problem, reg, threads=threads, budget=budget)
        search.residual = problem.loss.residual(moments.f, problem.targets)
        n, d = search.examples.shape
        self.passage = 0.5 * n * (d + 6)  # of a climb: one pass over X
        self.provable = d <= _PROVEN and search.loss.offers("conjugate_magnitude")
        each = 40.0 * n + 0.1 * n * d  # work of a particle's pull
        pulled, heavy = notable_directions(
            search, *_some(*particles, int(np.clip(0.05 * budget.work / each, 32, 4096)))
        )
        budget.spend(each * len(pulled))
        self.own, self.heavy = _alternating(pulled[:200], heavy[:200]), heavy
        self.candidates: list[Candidate] = []
        self.known = np.zeros((0, d))  # where a residual pulled most

    def bound(self) -> QuickBound:
        """The first look, refits while they are needed and affordable, the last look, a proof."""
        search, budget = self.search, self.search.budget
        first, refits = _BEFORE_PROOF if self.provable else _SHARES
        peaks, limit = self.look(self.own, first), self.affordable()
        own = np.concatenate([peaks.u[: limit // 2], self.heavy])
        search.u = distinct(Peaks(own, np.zeros(len(own))), limit, 1e-4).u
        search.c = np.zeros((len(search.u), search.C))
        while self.primal - search.lower > _ENOUGH * self.primal:
            budget.share = refits
            if budget.over():
                break
            search.round(peaks, max(8, limit // 4))
            peaks = self.look(search.u, min(refits, budget.used + 0.06))
            if search.gap <= 1e-5 * search.value:
                break
        return self.judged()

    def affordable(self) -> int:
        """How many neurons a refit of a few dozen Newton steps may have."""
        search = self.search
        part = 0.15 * search.budget.work / 10.0  # of a Newton step: n k² + k³ for k numbers
        features = min(np.sqrt(part / len(search.t)), np.cbrt(part))
        return int(np.clip(features / search.C, 12, 150))

    def look(self, own: np.ndarray, share: float) -> Peaks:
        """Peaks of the present residual, which is a candidate from now on."""
        search, peaks = self.search, self.peaks(own, share)
        if not any(one.dual is search.residual for one in self.candidates):
            self.candidates.append(Candidate(search, search.residual))
            self.candidates[-1].hear_of(self.known)
        self.learn(distinct(peaks, 20, 1e-4).u)
        return peaks

    def learn(self, u: np.ndarray) -> None:
        """Look at these directions (k, d) for every candidate."""
        self.known = np.concatenate([self.known, u])
        for one in self.candidates:
            one.hear_of(u)
        self.search.budget.spend(0.25 * len(self.candidates) * len(u) * self.search.examples.size)
        self.search.lower = self.best.bound

    @property
    def best(self) -> Candidate:
        return max(self.candidates, key=lambda one: one.bound)

    def peaks(self, own: np.ndarray, share: float) -> Peaks:
        """Climbed to from a few starts at a time, until this share of the work is used up; in two dimensions all."""
        search = self.search
        if search.problem.d == 2:
            return search.climb(own)
        left = max(0.0, share - search.budget.used) * search.budget.work / self.passage
        rounds = int(np.clip(left / 50, 3, 60))
        usual = self.passage * 10 * np.sqrt(len(search.examples))  # work of a start
        chunk = int(np.clip(4e6 / usual, 2, 64))
        found, search.budget.share = None, share
        for starts in self.chunks(own, chunk):
            some = search.climb(starts, rounds=rounds)
            found = some if found is None else merged(found, some)
            if search.budget.over():
                return found
        assert found is not None
        careful = min(8, int((share - search.budget.used) * search.budget.work / (5 * usual)))
        return merged(found, search.climb(distinct(found, careful).u, rounds=200, sweeps=100)) if careful > 0 else found

    def chunks(self, own: np.ndarray, size: int, most: int = 400) -> Iterator[np.ndarray]:
        """Starts, `size` at a time: a half of directions at hand while there are any, the rest random and fitted."""
        search, taken = self.search, 0
        for _ in range(0, most, size):
            mine = own[taken : taken + size // 2]
            taken, fresh = taken + len(mine), size - len(mine)
            fitted = search.fitted_starts(fresh // 2)
            yield np.concatenate([mine, fitted, search.starts(fresh - len(fitted))])

    def judged(self) -> QuickBound:
        """The best bound after a look at its own dual point, by branch and bound or by fresh starts.

        What that look finds may make another dual point the best, which is judged then as far as there is work for it.
        """
        search, budget = self.search, self.search.budget
        while not self.best.judged:
            best, left = self.best, max(0.0, 1.0 - budget.used)
            if left <= 0 and any(one.judged for one in self.candidates):
                break
            best.judged = True
            sphere = self.sphere(best, max(0.8 * left, 0.3)) if self.provable else None
            if sphere is not None and sphere.closed and self.best is best:
                search.dual = best.dual
                spread = search.mirror.spread
                proven, _ = proven_bound(search.loss, search.t, best.dual, search.X, search.reg, sphere, spread)
                return QuickBound(self.primal, proven, True)
            if sphere is None or not sphere.closed:
                search.residual = best.dual
                self.look(np.concatenate([self.known, self.own]), budget.used + max(0.4 * left, 0.1))
        return QuickBound(self.primal, min(self.best.bound, self.primal), False)  # above L it is known to be wrong

    def sphere(self, one: Candidate, share: float) -> SphereBound | None:
        """Bounds on the pull of a dual point by this share of the work."""
        search, X, point = self.search, self.search.examples, self.search.point(one.dual)
        start = self.known[int(np.argmax(pull(X, point, self.known)))] if len(self.known) else None
        part = Budget(share * search.budget.work)
        sphere = bound_on_sphere(
            X, point, start=start, tolerance=_TIGHT, budget=part, threads=search.threads, max_cones=20_000
        )
        search.budget.took(part)
        if sphere is not None:
            self.learn(sphere.u[None])
        return sphere


def _some(w: np.ndarray, u: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About so many particles: half of them the heaviest, half evenly spread."""
    heavy = np.argsort(-row_norms(w) * row_norms(u), kind="stable")[: count // 2]
    rows = np.unique(np.concatenate([heavy, np.arange(0, len(w), max(1, 2 * len(w) // count))]))
    return w[rows], u[rows]


def _alternating(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rows of both (k, d), in turn as long as both last."""
    k = min(len(one), len(other))
    return np.concatenate([np.stack([one[:k], other[:k]], axis=1).reshape(2 * k, one.shape[1]), one[k:], other[k:]])
