"""The free-energy gap at τ > 0: what an ensemble's residual says about min F_τ.

Any a inside the domain bounds min F_τ from below by D(a) = −R*(a) − τ log Z(a) (see gibbs). An ensemble of points has
no entropy of its own; the measure that its residual stands for is the Gibbs measure of a, whose free energy exceeds
D(a) by Fenchel's gap R(f(a)) + R*(a) − ⟨a, f(a)⟩, zero exactly if f(a) and a belong together. Beside it, f(a) − f_ρ:
zero at the optimum. The integral over the sphere is by quadrature (d ≤ 3) or by quasi-random nodes with replicates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..engine.engine import default_threads
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .certificate import predictions
from .gibbs import PEAK_SHARE, Dual
from .sphere_ascent import climb, random_starts
from .sphere_quadrature import sphere_nodes

_REPLICATES = 8
_SCALES = np.array([1.0, 0.99, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5])
_LEAST = 50.0  # effective nodes below which an integral is not called anything


@dataclass(frozen=True)
class FreeEnergyCertificate:
    """Estimates at τ = `temperature`, λ = `reg`; never rigorous.

    lower_bound: D(a) for the dual point `dual` (n, C), with its standard error (quadrature: the difference from a
    coarser rule). gap: the free energy of the Gibbs measure of a, less D(a). consistency: ‖f(a) − f_ρ‖/‖f_ρ‖. All
    None, with method "refused", where fewer than 50 effective nodes carry the integral, or one node at the peak of the
    density would carry 2 % of it. scale: a = scale · residual, of a few scales ≤ 1 that which gives the highest D (all
    but the bound are about that a). min_q: 1 − (max ‖G_a‖/2λ)².
    """

    reg: float
    temperature: float
    method: str
    lower_bound: float | None
    standard_error: float | None
    gap: float | None
    consistency: float | None
    effective: float
    min_q: float
    scale: float
    dual: np.ndarray = field(repr=False)
    rigorous: bool = False


def certify_free_energy(
    problem: Problem, ensemble: Ensemble, *, nodes: int = 1 << 13, seed: int = 0, threads: int | None = None
) -> FreeEnergyCertificate:
    """The dual point of an ensemble's residual at the λ and τ of its step.

    InputError: τ = 0, predictions not finite.
    """
    problem.check(ensemble)
    reg, tau = problem.reg(ensemble.step), problem.temperature(ensemble.step)
    if not tau > 0:
        raise InputError("temperature = 0: the free energy needs a positive one; use certify")
    f, _ = predictions(problem, ensemble, threads)
    if not np.isfinite(f).all():
        raise InputError("ensemble: its predictions are not finite")
    a = problem.loss.residual(f, problem.targets)
    with single_threaded_blas():
        starts = random_starts(problem.X, 1000, seed=seed)
        own = ensemble.rows(0, min(ensemble.m, 1000))[1].astype(np.float64)
        peaks = climb(problem.X, a, np.concatenate([starts, own]), threads=threads or default_threads())
        peak = float(peaks.value[0]) if len(peaks.value) else 0.0
        largest = min(1.0, 2 * reg * (1 - 1e-6) / peak) if peak > 0 else 1.0
        tried = []
        for scale in largest * _SCALES:
            min_q = float(1 - (scale * peak / (2 * reg)) ** 2)
            tried.append(_integrated(problem, f, scale * a, reg, tau, min_q, float(scale), nodes, seed))
    return max(tried, key=lambda one: -np.inf if one.lower_bound is None else one.lower_bound)


def _integrated(
    problem: Problem,
    f: np.ndarray,
    a: np.ndarray,
    reg: float,
    tau: float,
    min_q: float,
    scale: float,
    nodes: int,
    seed: int,
) -> FreeEnergyCertificate:
    if problem.d <= 3:
        rules, method = [*sphere_nodes(problem.X, nodes, seed)], "quadrature"
    else:
        rules = [sphere_nodes(problem.X, nodes, seed + k)[0] for k in range(_REPLICATES)]
        method = "quasi-Monte Carlo"
    values, gaps, fits, effective, share = [], [], [], np.inf, 0.0
    for rule in rules:
        dual = Dual(problem, reg, tau, rule)
        weights, _, predicted = dual.moments(a)
        values.append(dual.value(a))
        loss, t = problem.loss, problem.targets
        gaps.append(loss.value(predicted, t) + loss.conjugate(a, t) - float(np.sum(a * predicted)))
        fits.append(predicted)
        effective = min(effective, 1 / float(np.sum(weights**2)))
        share = max(share, dual.peak_share(a, min_q))
    if (effective < _LEAST and problem.d > 1) or share > PEAK_SHARE or not np.all(np.isfinite(values)):
        return FreeEnergyCertificate(reg, tau, "refused", None, None, None, None, effective, min_q, scale, a)
    if problem.d <= 3:
        value, error, predicted, gap = values[0], abs(values[0] - values[1]), fits[0], gaps[0]
    else:
        value, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
        predicted = np.mean(fits, axis=0)
        gap = float(np.mean(gaps))
    consistency = float(np.linalg.norm(predicted - f)) / max(float(np.linalg.norm(f)), 1e-300)
    return FreeEnergyCertificate(reg, tau, method, value, error, gap, consistency, effective, min_q, scale, a)
