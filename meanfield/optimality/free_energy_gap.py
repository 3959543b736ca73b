"""The free-energy gap at τ > 0: what an ensemble's residual says about min F_τ.

Any a inside the domain bounds min F_τ from below by D(a) = −R*(a) − τ log Z(a) (see gibbs). An ensemble of points has
no entropy of its own; the measure that its residual stands for is the Gibbs measure of a, whose free energy exceeds
D(a) by Fenchel's gap R(f(a)) + R*(a) − ⟨a, f(a)⟩, zero exactly if f(a) and a belong together. Beside it, f(a) − f_ρ:
zero at the optimum. The integral over the sphere is by quadrature (d ≤ 3) or by quasi-random nodes with replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..runtime.threads import default_threads, single_threaded_blas
from .certificate import predictions
from .gibbs import PEAK_SHARE, Dual
from .proven_integral import proven_mean
from .sphere_ascent import climb, random_starts
from .sphere_quadrature import Nodes, sphere_nodes

_REPLICATES = 8
_EPS = float(np.finfo(float).eps)
_SCALES = np.array([1.0, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5])
_LEAST = 50.0  # effective nodes below which an integral is not called anything


@dataclass(frozen=True, kw_only=True)
class FreeEnergyCertificate:
    """Estimates at τ = `temperature`, λ = `reg`, and for d ≤ 3 a proven bound beside them.

    Attributes
    ----------
    reg, temperature : float
        λ and τ.
    method : str
        "quadrature", "quasi-Monte Carlo", or "refused" where fewer than 50 effective nodes carry the integral, or one
        node at the peak of the density would carry 2 % of it; the next four are None then.
    lower_bound, standard_error : float or None
        D(a), and its standard error (quadrature: the difference from a coarser rule).
    gap : float or None
        The free energy of the Gibbs measure of a, less D(a).
    consistency : float or None
        ‖f(a) − f_ρ‖/‖f_ρ‖.
    effective : float
        How many nodes carry the integral.
    min_q : float
        1 − (max ‖G_a‖/2λ)².
    scale : float
        a = scale · residual, of a few scales ≤ 1 that which gives the highest D; all but the bound are about that a.
    dual : array (n, C)
        The dual point a.
    rigorous : bool
        False: whether `lower_bound` is proven.
    proven_bound : float or None
        D(a) with an upper sum in the place of the integral, rounding included: no F_τ is below it. None for d > 3, and
        where no finite one was found.
    """

    reg: float
    temperature: float
    method: str
    lower_bound: float | None = None
    standard_error: float | None = None
    gap: float | None = None
    consistency: float | None = None
    effective: float
    min_q: float
    scale: float
    dual: np.ndarray = field(repr=False)
    rigorous: bool = False
    proven_bound: float | None = None


class _Rules(NamedTuple):
    """Rules for the sphere integral: a fine and a coarse one, or independent replicates, each of a count of nodes."""

    method: str
    nodes: list[Nodes]

    @classmethod
    def of(cls, X: np.ndarray, count: int, seed: int) -> _Rules:
        if X.shape[1] <= 3:
            return cls("quadrature", [*sphere_nodes(X, count, seed)])
        return cls("quasi-Monte Carlo", [sphere_nodes(X, count, seed + k)[0] for k in range(_REPLICATES)])

    def mean(self, values: Sequence[Any]) -> Any:
        """The integral from those of all rules: the fine one's, or the mean."""
        return values[0] if self.method == "quadrature" else np.mean(values, axis=0)

    def error(self, values: Sequence[float]) -> float:
        """Its standard error, or the difference from the coarse rule."""
        if self.method == "quadrature":
            return abs(values[0] - values[1])
        return float(np.std(values, ddof=1) / np.sqrt(len(values)))


class _Point(NamedTuple):
    """A dual point: scale · residual, with the least q = 1 − (‖G_a‖/2λ)² over the sphere."""

    a: np.ndarray
    scale: float
    min_q: float


def certify_free_energy(
    problem: Problem, ensemble: Ensemble, *, nodes: int = 1 << 13, seed: int = 0, threads: int | None = None
) -> FreeEnergyCertificate:
    """What the dual point of an ensemble's residual says about min F_τ, at the λ and τ of the ensemble's step.

    Parameters
    ----------
    problem : Problem
        Its loss needs a `conjugate`.
    ensemble : Ensemble
        Shared by ranks or not; all of them get the answer.
    nodes : int
        How many quasi-random ones a replicate has, for d > 3.
    seed : int
        Of the nodes and of the starts of the search for the peak.
    threads : int, optional
        By default the cores that this process may use.

    Returns
    -------
    FreeEnergyCertificate

    Raises
    ------
    InputError
        τ = 0, predictions not finite, a loss without a conjugate.

    Examples
    --------
    With y = 0 and particles at rest the residual is 0, and D(0) = −τ (C + d)/2 log(πτ/λ), the minimum.

    >>> from meanfield import Ensemble, Problem
    >>> from meanfield.optimality.free_energy_gap import certify_free_energy
    >>> problem = Problem([[1.0]], [0.0], loss="squared", reg=0.1, temperature=0.1)
    >>> found = certify_free_energy(problem, Ensemble.from_arrays([[0.0]], [[0.0]]))
    >>> found.method, round(found.lower_bound, 6), found.gap
    ('quadrature', -0.114473, 0.0)
    """
    problem.check(ensemble)
    problem.neuron.require_relu("certify_free_energy")
    problem.require_plain("certify_free_energy")
    problem.loss.require("certify_free_energy", "conjugate")
    reg, tau = problem.reg(ensemble.step), problem.temperature(ensemble.step)
    if not tau > 0:
        raise InputError("temperature = 0: the free energy needs a positive one; use certify")
    f, _ = predictions(problem, ensemble, threads)
    if not np.isfinite(f).all():
        raise InputError("ensemble: its predictions are not finite")
    with ensemble.gathered() as leads:  # the first particles may be another rank's
        own = ensemble.rows(0, min(ensemble.m, 1000))[1].astype(np.float64) if leads else None

    def judged() -> FreeEnergyCertificate:
        assert own is not None
        starts = np.concatenate([random_starts(problem.X, 1000, seed=seed), own])
        with single_threaded_blas():
            points = _points(problem, f, reg, starts, threads or default_threads())
            rules = _Rules.of(problem.X, nodes, seed)
            duals = [Dual(problem, reg, tau, rule) for rule in rules.nodes]
            tried = [_integrated(duals, rules, point, f) for point in points]
        best = max(tried, key=lambda found: -np.inf if found.lower_bound is None else found.lower_bound)
        return replace(best, proven_bound=_proven(problem, best))

    return ensemble.span.ranks.once(judged)


def _points(problem: Problem, f: np.ndarray, reg: float, starts: np.ndarray, threads: int) -> list[_Point]:
    """Multiples of the residual at f, from the largest that is inside the domain downwards."""
    a = problem.loss.residual(f, problem.targets)
    peaks = climb(problem.X, a, starts, threads=threads)
    peak = float(peaks.value[0]) if len(peaks.value) else 0.0
    largest = min(1.0, 2 * reg * (1 - 1e-6) / peak) if peak > 0 else 1.0
    scales = largest * _SCALES
    return [_Point(scale * a, float(scale), float(1 - (scale * peak / (2 * reg)) ** 2)) for scale in scales]


def _proven(problem: Problem, found: FreeEnergyCertificate) -> float | None:
    """D(a) of its dual point, rounded down."""
    if problem.d > 3 or not problem.loss.offers("conjugate_magnitude"):
        return None
    a, reg, tau, (n, C) = found.dual, found.reg, found.temperature, found.dual.shape
    mean = proven_mean(problem.X, a, reg)
    if not np.isfinite(mean):
        return None
    conjugate = problem.loss.conjugate(a, problem.targets)
    log_Z = 0.5 * (C + problem.d) * np.log(np.pi * tau / reg) + np.log(mean)
    rounding = 8 * _EPS * (n * C + 20) * problem.loss.conjugate_magnitude(a, problem.targets)
    return float(-conjugate - tau * log_Z - rounding - 16 * _EPS * (abs(conjugate) + tau * abs(log_Z)))


def _integrated(duals: list[Dual], rules: _Rules, point: _Point, f: np.ndarray) -> FreeEnergyCertificate:
    """D and the free energy of the Gibbs measure of a point, by all rules."""
    values, gaps, fits, effective, share = [], [], [], np.inf, 0.0
    a, problem = point.a, duals[0].problem
    for dual in duals:
        weights, _, predicted = dual.moments(a)
        values.append(dual.value(a))
        loss, t = problem.loss, problem.targets
        gaps.append(loss.value(predicted, t) + loss.conjugate(a, t) - float(np.sum(a * predicted)))
        fits.append(predicted)
        effective = min(effective, 1 / float(np.sum(weights**2)))
        share = max(share, dual.peak_share(a, point.min_q))
    refused = FreeEnergyCertificate(
        method="refused",
        reg=duals[0].reg,
        temperature=duals[0].tau,
        effective=effective,
        min_q=point.min_q,
        scale=point.scale,
        dual=a,
    )
    if (effective < _LEAST and problem.d > 1) or share > PEAK_SHARE or not np.all(np.isfinite(values)):
        return refused
    predicted = rules.mean(fits)
    return replace(
        refused,
        method=rules.method,
        lower_bound=float(rules.mean(values)),
        standard_error=rules.error(values),
        gap=float(rules.mean(gaps)),
        consistency=float(np.linalg.norm(predicted - f)) / max(float(np.linalg.norm(f)), 1e-300),
    )
