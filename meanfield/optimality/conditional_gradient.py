"""The global minimum at zero temperature, found neuron by neuron.

`optimum` is fully corrective conditional gradient over neurons: climb ‖G_r‖ from many starts, add the peaks above 2λ to
the neurons at hand, refit all weights (a convex problem), repeat; where that crawls, once join the neurons of a run of
particles (`sliding`). In few dimensions cones look for what ascents miss (`branch_and_bound`). Its lower bound is that
of `dual_bound` for the best residual met, with the highest peak found in the place of the true maximum: an estimate,
unless `certify` proves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..engine.exact_algebra import product
from ..engine.exact_math import row_norms, total
from ..problem import Problem
from ..runtime.threads import default_threads, single_threaded_blas
from ..shown import Shown
from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .duality import dual_bound
from .group_lasso import Refit
from .mirror import RELU, Mirror
from .sliding import slid
from .sphere_ascent import FittedStarts, Peaks, climb, distinct, merged, pull, random_starts

_WORK = 6e10  # of `optimum`: about a minute of one core
_PATIENCE = 12  # rounds before neurons that slid are asked for
_FAR = 1e-3  # a relative gap for which they are, and ten times the tolerance
_CAREFUL = 16  # highest peaks that are climbed from once more
_LOW, _CUT = 4, 0.02  # dimensions up to which cones look for a higher one, each time for this part of the work left


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimum(Shown):
    """A network of K neurons, f(x) = Σ_j w_j φ(u_j·x), and how close to the global minimum it is.

    There is no factor 1/m: as an ensemble of m = K the particles are √m w_j, √m u_j.

    Attributes
    ----------
    value : float
        L of the network: attained.
    lower_bound : float
        An estimate of a lower bound on min L.
    w, u : ndarrays (K, C) and (K, d), float64
        The neurons, balanced: ‖w_j‖ = ‖u_j‖.
    dual : ndarray (n, C), float64
        The dual point of the lower bound.
    peak, direction : float and ndarray (d,), float64
        The highest ‖G_dual(u)‖ found, and where.
    rounds : int
        Of the search.
    seconds : float
        Wall-clock time.
    cut_short : bool
        Whether a limit in seconds ended the search before its work was done.
    tolerance : float
        The relative gap that was asked for.
    sides : tuple of float
        φ(1) and φ(−1): (1, 0) for relu.

    Examples
    --------
    One example, x = 1 and y = 1, and λ = ¼: one neuron, and f = 1 − 2λ. As an ensemble it has the same value.

    >>> from meanfield import Ensemble, Problem, exact
    >>> problem = Problem([[1.0]], [1.0], loss="squared", reg=0.25)
    >>> best = exact.optimum(problem)
    >>> scale = len(best.w) ** 0.5
    >>> ensemble = Ensemble.from_arrays(scale * best.w, scale * best.u)
    >>> round(best.value, 6), round(problem.objective(ensemble).value, 6), best.relative_gap < 1e-6
    (0.375, 0.375, True)
    """

    SHOWN = ("value", "lower_bound", "relative_gap", "converged", "w", "u", "rounds", "seconds", "cut_short")

    value: float
    lower_bound: float
    w: np.ndarray
    u: np.ndarray
    dual: np.ndarray
    peak: float
    direction: np.ndarray
    rounds: int
    seconds: float
    cut_short: bool = False
    tolerance: float = 0.0
    sides: tuple[float, float] = RELU

    @property
    def gap(self) -> float:
        """value − lower_bound."""
        return self.value - self.lower_bound

    @property
    def relative_gap(self) -> float:
        """gap/value."""
        return self.gap / self.value if self.value > 0 else 0.0

    @property
    def converged(self) -> bool:
        """Whether the gap came down to the tolerance asked for."""
        return self.relative_gap <= self.tolerance

    def predict(self, X: np.ndarray) -> np.ndarray:
        """f (n, C), float64, at X (n, d)."""
        return Mirror(*self.sides).features(X @ self.u.T) @ self.w


def needed(outputs: int) -> tuple[str, ...]:
    """What a search asks of a loss beside its value, residual and curvature."""
    return ("conjugate",) if outputs == 1 else ("conjugate", "hessian")


class Search:
    """Fully corrective conditional gradient on a problem at one λ, round by round.

    Rescaled so that the longest input has norm 1: φ(u·x) is homogeneous, so X/s with λ/s is the same problem.
    examples: where relu neurons pull as those of the problem do at X, under the dual points `point(a)`.
    """

    def __init__(
        self, problem: Problem, reg: float, *, seed: int = 0, threads: int | None = None, budget: Budget | None = None
    ) -> None:
        self.problem, self.budget = problem, budget or Budget()
        self.scale = float(row_norms(problem.X).max()) or 1.0
        self.X, self.reg = problem.X / self.scale, reg / self.scale
        self.mirror = Mirror(*problem.neuron.require_sides("a search for the minimum"))
        self.examples, self.point = self.mirror.examples(self.X), self.mirror.point
        self.loss, self.t, self.C = problem.loss, problem.targets, problem.outputs
        self.fitter = Refit(self.loss, self.t, self.C, self.reg, self.budget)
        self.seed, self.draws, self.threads = seed, 0, threads or default_threads()
        self.u, self.c = np.zeros((0, problem.d)), np.zeros((0, self.C))
        self.value = self.fitter.value(np.zeros((problem.n, 0)), self.c)
        self.residual = self.loss.residual(np.zeros((problem.n, self.C)), self.t)
        self.lower, self.peak, self.dual, self.direction = 0.0, np.inf, self.residual, np.zeros(problem.d)
        self.rounds, self.best = 0, (self.value, self.u, self.c)

    @property
    def gap(self) -> float:
        return self.best[0] - self.lower

    def features(self, U: np.ndarray) -> np.ndarray:
        return self.mirror.features(product(self.X, U.T))

    def starts(self, count: int) -> np.ndarray:
        """Fresh random starts (count, d)."""
        self.draws += 1
        return random_starts(self.X, count, seed=self.seed, draw=self.draws - 1)

    @cached_property
    def fitted(self) -> FittedStarts:
        """Where starts come from that know the shape of the data."""
        return FittedStarts(self.X, self.budget)

    def fitted_starts(self, count: int) -> np.ndarray:
        """Fresh fitted starts (count, d), climbed from a little way where the inputs are of one scale."""
        starts = self.fitted.draw(count, seed=self.seed, draw=self.draws)
        return self.fitted.climbed(starts, self.residual, self.mirror, self.threads)

    def peaks(self, starts: int, more: np.ndarray | None = None, *, fitted: bool = True) -> Peaks:
        """Peaks of ‖G_r‖ of the present residual, from random and fitted starts, the neurons at hand, and `more`.

        With fitted starts the highest are climbed from once more, with care: where features are nearly collinear a step
        is inexact. In two dimensions all are known, without any.
        """
        if self.problem.d == 2:
            return self.climb(self.u)
        U = [self.u] if more is None else [more, self.u]
        U += [self.fitted_starts(starts)] if fitted else []
        peaks = self.climb(np.concatenate([*U, self.starts(starts)]))
        if not fitted:
            return peaks
        return self.cut(merged(peaks, self.climb(distinct(peaks, _CAREFUL).u, rounds=200, sweeps=100)))

    def cut(self, known: Peaks) -> Peaks:
        """Known peaks of the present residual and, in few dimensions, a higher one that cones find with little work."""
        part, look = self.budget.part(_CUT), 5e3 * len(self.examples)
        if self.problem.d > _LOW or not len(known.u) or not part.holds(look):
            return known
        a = self.point(self.residual)
        with single_threaded_blas():
            found = bound_on_sphere(self.examples, a, start=known.u[0], budget=part, threads=self.threads)
        part.spend(look)
        self.budget.took(part)
        if found is None or not found.lower > known.value[0]:
            return known
        return merged(Peaks(found.u[None], pull(self.examples, a, found.u[None])), known)

    def climb(self, starts: np.ndarray, **care: int) -> Peaks:
        """Peaks of ‖G_r‖ of the present residual from these starts."""
        point = self.point(self.residual)
        return climb(self.examples, point, starts, threads=self.threads, budget=self.budget, **care)

    def bound(self, peaks: Peaks) -> None:
        """Keep the bound of the present residual if it is the best so far."""
        peak = float(peaks.value[0]) if len(peaks.value) else 0.0
        lower, _ = dual_bound(self.loss, self.t, self.residual, peak, self.reg)
        if lower > self.lower or not np.isfinite(self.peak):
            self.lower, self.dual, self.peak = lower, self.residual, peak
            self.direction = peaks.u[0] if len(peaks.u) else self.direction

    def round(self, peaks: Peaks, limit: int = 60) -> None:
        """Add the peaks above 2λ, refit, drop neurons of no weight."""
        above = peaks.value > 2 * self.reg * (1 + 1e-12)
        new = distinct(Peaks(peaks.u[above], peaks.value[above]), limit)
        self.u = np.concatenate([self.u, new.u])
        self.c = np.concatenate([self.c, np.zeros((len(new.u), self.C))])
        if len(self.u) and self.value > 0:
            phi = self.features(self.u)
            precision = max(1e-3 * self.gap, 1e-10 * self.value) / len(self.u)
            self.c = self.fitter.fit(phi, self.c, max(1e-2 * self.value / len(self.u), precision), precision)
            self.value, self.residual = self.fitter.value(phi, self.c), self.fitter.residual(phi, self.c)
            self.best = min(self.best, (self.value, self.u, self.c), key=lambda network: network[0])
            pulls, weights = row_norms(product(phi.T, self.residual)), row_norms(self.c)
            keep = (pulls > 2 * self.reg * (1 - 1e-2)) | (weights > 1e-6 * weights.max())
            self.u, self.c = self.u[keep], self.c[keep]
        self.rounds += 1

    def run(self, tolerance: float, starts: int) -> None:
        """Rounds until the relative gap is at most `tolerance`, then a last look from ten times as many starts.

        Stops in any case once the budget is over.
        """
        while True:
            peaks = self.peaks(starts)
            self.bound(peaks)
            if self.gap <= tolerance * self.value:
                peaks = self.peaks(10 * starts)
                self.lower, self.peak = 0.0, np.inf
                self.bound(peaks)
                if self.gap <= tolerance * self.value:
                    return
            if self.budget.over():
                return
            self.round(peaks)
            if self.mirror == RELU and self.rounds == _PATIENCE and self.gap > max(_FAR, 10 * tolerance) * self.value:
                self.slide()

    def slide(self) -> None:
        """Take up the neurons of a short run of particles, beside those at hand."""
        reg = self.reg * self.scale
        u, c = slid(self.problem, reg, seed=self.seed, threads=self.threads, budget=self.budget)
        self.u, self.c = np.concatenate([u, self.u]), np.concatenate([self.scale * c, 0 * self.c])
        phi = self.features(self.u)
        self.value, self.residual = self.fitter.value(phi, self.c), self.fitter.residual(phi, self.c)
        self.best = min(self.best, (self.value, self.u, self.c), key=lambda network: network[0])

    def result(self, tolerance: float = 0.0) -> Optimum:
        """The best network met, in the units of the problem; neurons that carry nothing measurable are left out."""
        _, u, c = self.best
        weight = row_norms(c)
        keep = weight > 1e-9 * weight.max() if len(weight) else np.zeros(0, bool)
        c = c[keep] / self.scale
        root = np.sqrt(row_norms(c))[:, None]
        w, u = c / np.where(root > 0, root, 1.0), u[keep] * root
        f = product(self.mirror.features(product(self.problem.X, u.T)), w)
        reg = self.reg * self.scale
        value = self.loss.value(f, self.t) + reg * (total(w * w) + total(u * u))
        return Optimum(
            value=value,
            lower_bound=self.lower,
            w=w,
            u=u,
            dual=self.dual,
            peak=self.peak * self.scale,
            direction=self.direction,
            rounds=self.rounds,
            seconds=self.budget.seconds,
            cut_short=self.budget.cut_short,
            tolerance=tolerance,
            sides=self.mirror,
        )


def optimum(
    problem: Problem,
    *,
    reg: float | None = None,
    tolerance: float = 1e-6,
    effort: float = 1.0,
    seconds: float | None = None,
    starts: int = 200,
    seed: int = 0,
    threads: int | None = None,
) -> Optimum:
    """The global minimum of L at τ = 0, to a relative (estimated) gap of `tolerance`, or as near as `effort` goes.

    Fully corrective conditional gradient over neurons; more work never gives a worse network.

    Parameters
    ----------
    problem : Problem
        Of relu or leaky_relu, at whatever temperature. Its loss needs a `conjugate`, and for C > 1 a `hessian`.
    reg : float, optional
        λ; by default the end of the problem's schedule.
    tolerance : float
        The relative gap at which to stop.
    effort : float
        1 is about a minute of one core, counted in work: the answer is the same every time.
    seconds : float, optional
        A limit, which only cuts the work short.
    starts : int
        Random starts a round, ten times as many in the last.
    seed : int
        Of the starts.
    threads : int, optional
        By default the cores that this process may use; the answer does not depend on it.

    Returns
    -------
    Optimum
        Its gap is an estimate.

    Raises
    ------
    InputError
        Effort or seconds not positive; another neuron; a loss that lacks what is needed.

    Examples
    --------
    One example, x = 1 and y = 1: the least of ½(f − 1)² + 2λ|f| is at f = 1 − 2λ.

    >>> from meanfield import Problem, exact
    >>> found = exact.optimum(Problem([[1.0]], [1.0], loss="squared", reg=0.25))
    >>> round(found.value, 6), found.predict([[1.0]]).round(6).tolist()
    (0.375, [[0.5]])
    """
    budget = Budget.of(_WORK, effort, seconds)
    problem.neuron.require_sides("exact.optimum")
    problem.require_plain("exact.optimum")
    problem.loss.require("exact.optimum", *needed(problem.outputs))
    search = Search(problem, problem.reg.end if reg is None else reg, seed=seed, threads=threads, budget=budget)
    search.run(tolerance, starts)
    return search.result(tolerance)
