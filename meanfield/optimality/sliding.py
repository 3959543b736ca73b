"""Neurons for a search that is far from done: those of particles that moved to where the objective wants them.

Conditional gradient adds neurons and never moves them; where hundreds are needed, each near its place but not at it, it
crawls. Particles under `Implicit` slide there together (as in sliding Frank–Wolfe: Denoyelle, Duval, Peyré and Soubies,
Inverse Problems 36, 2019).
"""

from __future__ import annotations

import numpy as np

from ..dynamics import Field, Implicit
from ..engine.exact_math import row_norms
from ..ensemble import Ensemble
from ..problem import Problem
from .budget import Budget
from .sphere_ascent import Peaks, distinct

_PARTICLES, _STEPS = 1024, 240
_CARRIED = 0.99999  # of the mass, by the neurons that are taken


def slid(problem: Problem, reg: float, *, seed: int, threads: int, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Unit u (K, d), no two alike, and c (K, C) of a network Σ_j c_j relu(u_j·x): what a run from a uniform start left.

    At λ = reg and τ = 0. A run whose budget is over ends early; since only its last steps are cold, it may have little
    to give.
    """
    problem = problem.with_schedules(reg=reg, temperature=0.0)
    field, dynamics = Field(problem, np.dtype(np.float64), threads), Implicit()
    ensemble = Ensemble.sphere(_PARTICLES, problem.d, problem.outputs, seed=seed, dtype="float64")
    moments, cost = field.predict(ensemble), dynamics.cost(ensemble.m, problem.n, problem.d, problem.outputs)
    for _ in range(_STEPS):
        if budget.over():
            break
        moments = dynamics.step(field, ensemble, moments)
        budget.spend(1e9 * cost)
    length = row_norms(ensemble.u)
    mass = length * row_norms(ensemble.w)
    order = np.argsort(-mass, kind="stable")
    order = order[: 1 + int(np.searchsorted(np.cumsum(mass[order]), _CARRIED * mass.sum()))]
    order = order[mass[order] > 0]
    kept = distinct(Peaks(ensemble.u[order] / length[order, None], order), _PARTICLES)
    c = ensemble.w[kept.value] * (length[kept.value, None] / ensemble.m)
    return kept.u, c * (mass[order].sum() / max(mass[kept.value].sum(), 1e-300))
