"""A lower bound on min F_τ by as much work as a run can spare for it: an estimate.

D(a) = −R*(a) − τ log Z(a) ≤ min F_τ for every dual point a in the domain (see gibbs). Tried are multiples of the
ensemble's residual, of the dual points that a search at τ = 0 finds, and of the maximizer of D where Newton's method
is cheap. Z is an integral over the sphere whose mass lies about the peaks of ‖G_a‖ at small τ or in many dimensions: it
is taken by importance sampling, half of the nodes uniform, half about the peaks at several widths. A multiple that the
nodes do not resolve is refused: it would make the bound too high.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.special import betaln

from ..engine.engine import Moments
from ..ensemble import Ensemble
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .budget import Budget
from .conditional_gradient import needed
from .gibbs import PEAK_SHARE, Dual
from .quick_certificate import QuickSearch
from .sphere_ascent import Peaks, climb, distinct
from .sphere_quadrature import Nodes

_SCALES = (1.0, 0.999, 0.998, 0.996, 0.99, 0.98, 0.965, 0.94, 0.91, 0.87, 0.8, 0.7, 0.5, 0.3)
_WIDTHS = 4.0 ** np.arange(8)  # concentrations about a peak, in units of d
_LEAST = 50.0  # effective nodes below which an integral is not called anything
_PEAKS = 24
_NEWTON = 40  # steps that Newton's method is taken to need


def free_energy_bound(
    problem: Problem, ensemble: Ensemble, moments: Moments, work: float, threads: int | None = None
) -> float | None:
    """An estimate of a lower bound on min F_τ at the λ and τ > 0 of the ensemble's step; None if nothing is resolved.

    Arguments as of `quick_certificate.quick_bound`. InputError: a loss that lacks what is needed, predictions that are
    not finite.
    """
    problem.neuron.require_relu("the free-energy gap at the end of a run")
    problem.require_plain("the free-energy gap at the end of a run")
    problem.loss.require("the free-energy gap at the end of a run", *needed(problem.outputs))
    particles, k = ensemble.sample(4096), ensemble.step

    def bounded() -> float | None:
        with single_threaded_blas():
            search = QuickSearch(problem, problem.reg(k), moments, particles, Budget(0.4 * work), threads)
            return _Integrals(search, problem, problem.reg(k), problem.temperature(k), 0.6 * work).best()

    return ensemble.span.ranks.once(bounded)


class _Integrals:
    """D(a) of the dual points of a search at τ = 0, and of the maximizer of D."""

    def __init__(self, search: QuickSearch, problem: Problem, reg: float, tau: float, work: float) -> None:
        self.quick, self.problem, self.reg, self.tau, self.work = search, problem, reg, tau, work
        n, d = problem.X.shape
        each = 0.2 * n * (d + problem.outputs) + 10.0 * _PEAKS * len(_WIDTHS) + 2000  # work of a node
        self.count = int(np.clip(0.15 * work / each, 512, min(1 << 15, max(512, 2e7 / n))))
        self.rng = np.random.default_rng(0)

    def best(self) -> float | None:
        self.quick.bound()
        residual, *others = self.quick.candidates
        points = [residual, max(others, key=lambda one: one.bound)] if others else [residual]
        found = [self.highest(one.dual, self.quick.known) for one in points]
        found += [self.highest(a, self.quick.known) for a in self.maximizers()]
        return max((one for one in found if one is not None), default=None)

    def maximizers(self) -> Iterator[np.ndarray]:
        """The maximizer of D over few nodes, a dual point as any other, where it is cheap and the loss allows it."""
        problem, size = self.problem, self.problem.n * self.problem.outputs
        nodes = min(self.count, int(0.5 * self.work / (_NEWTON * (0.3 * size * size + 10 * size))))
        offered = all(problem.loss.offers(name) for name in ("conjugate_gradient", "conjugate_hessian"))
        if offered and nodes >= 512 and 0.1 * _NEWTON * size**3 < 0.3 * self.work:
            about, _ = sphere_mixture(self.quick.known[-_PEAKS:], nodes, self.rng)
            yield Dual(problem, self.reg, self.tau, about).maximized()

    def highest(self, a: np.ndarray, known: np.ndarray) -> float | None:
        """The highest D of resolved multiples of a; its peaks are climbed to from directions known to be peaks."""
        problem, reg, d = self.problem, self.reg, self.problem.d
        peaks = distinct(climb(problem.X, a, known, budget=Budget(0.05 * self.work)), _PEAKS, 1e-4)
        if not len(peaks.value) or not peaks.value[0] > 0:
            peaks = Peaks(np.eye(d)[:1], np.zeros(1))
        nodes, at_peak = sphere_mixture(peaks.u, self.count, self.rng)
        features = np.maximum(nodes.s @ problem.X.T, 0.0)
        pulls = np.linalg.norm(features @ a, axis=1) / (2 * reg)
        top = max(float(peaks.value[0]) / (2 * reg), float(pulls.max()))
        limit = problem.loss.largest_scale(a, problem.targets)
        largest = min(limit, (1 - 1e-6) / top) if top > 0 else min(limit, 1.0)
        values = [self.value(scale * largest * a, scale * largest, pulls, nodes, top, at_peak) for scale in _SCALES]
        return max((one for one in values if one is not None), default=None)

    def value(
        self, a: np.ndarray, scale: float, pulls: np.ndarray, nodes: Nodes, top: float, at_peak: float
    ) -> float | None:
        """D(a) of a = scale times the point whose ‖G‖/2λ at the nodes are the pulls; None where it is not resolved."""
        half, problem = 0.5 * self.problem.d, self.problem
        logs = np.log(nodes.weight) - half * np.log1p(-((scale * pulls) ** 2))
        highest = float(logs.max())
        terms = np.exp(logs - highest)
        total = float(terms.sum())
        peak = math.log(at_peak) - half * math.log1p(-((scale * top) ** 2)) - highest - math.log(total)
        effective = total * total / float(np.sum(terms * terms))
        if problem.d > 1 and (effective < _LEAST or peak > math.log(PEAK_SHARE)):
            return None
        log_z = (half + 0.5 * problem.outputs) * math.log(math.pi * self.tau / self.reg) + highest + math.log(total)
        return -problem.loss.conjugate(a, problem.targets) - self.tau * log_z


def sphere_mixture(centres: np.ndarray, count: int, rng: np.random.Generator) -> tuple[Nodes, float]:
    """Nodes on the unit sphere of R^d, half of them about centres (k, d), and the weight of a node at the first centre.

    The law is the uniform one mixed with powers of 1 + u·s about each centre u (De Cao and Aziz 2020), of several
    widths. Weights are the inverse of its density, so that they give means over the uniform law.
    """
    d = centres.shape[1]
    if d == 1:
        return Nodes(np.array([[1.0], [-1.0]]), np.array([0.5, 0.5])), 0.5
    repeats = count // (2 * len(centres) * len(_WIDTHS))
    u = np.repeat(centres, len(_WIDTHS) * repeats, axis=0)
    kappa = np.tile(np.repeat(d * _WIDTHS, repeats), len(centres))
    s = rng.standard_normal((count, d))
    across, t = s[: len(u)], 2 * rng.beta(0.5 * (d - 1) + kappa, 0.5 * (d - 1)) - 1
    across = across - np.sum(across * u, axis=1)[:, None] * u
    across = across / np.linalg.norm(across, axis=1)[:, None]
    s[: len(u)] = t[:, None] * u + np.sqrt(np.maximum(0.0, 1 - t * t))[:, None] * across
    s = s / np.linalg.norm(s, axis=1)[:, None]
    weight, first = (1 / _density(points, centres, repeats / count) for points in (s, centres[:1]))
    return Nodes(s, weight / weight.sum()), float(first[0] / weight.sum())


def _density(points: np.ndarray, centres: np.ndarray, share: float) -> np.ndarray:
    """Of the mixture at these points, relative to the uniform law; `share` is that of a width about a centre."""
    d = points.shape[1]
    alpha, near = 0.5 * (d - 1), np.log(np.maximum(0.5 + 0.5 * points @ centres.T, 1e-300))
    whole = np.full(len(points), 1 - share * len(centres) * len(_WIDTHS))
    for kappa in d * _WIDTHS:
        whole += share * np.exp(betaln(alpha, alpha) - betaln(alpha + kappa, alpha) + kappa * near).sum(axis=1)
    return whole
