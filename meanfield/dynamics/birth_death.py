"""Langevin dynamics with birth and death: mass flows from particles in excess to those in deficit, their number stays.

    ∂ρ/∂t = ∇·(ρ ∇L'[ρ]) + τΔρ − α (L'[ρ] − ∫ L'[ρ] dρ) ρ

(Rotskoff, Jelassi, Bruna, Vanden-Eijnden 2019, arXiv 1902.01843.) A step moves the particles as Langevin dynamics does,
then each has an event with probability 1 − exp(−α |L'_j − mean| η).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine import exact_math, noise
from ..engine.engine import Moments, Move, Particles
from ..engine.exact_math import expm1_one
from ..ensemble import Ensemble
from ..runtime.compiling import compiled
from .base import Dynamics, check_rate, exponential_move
from .field import Field


@dataclass(frozen=True, repr=False)
class BirthDeath(Dynamics):
    """∂ρ/∂t = ∇·(ρ ∇L'[ρ]) + τΔρ − α (L'[ρ] − ∫ L'[ρ] dρ) ρ: a Langevin step, then exchange of mass.

    Rotskoff, Jelassi, Bruna, Vanden-Eijnden 2019 (arXiv 1902.01843). With probability 1 − exp(−α |L'_j − mean| η) a
    particle of high potential is replaced by a copy of a random one, one of low potential replaces a random one; the
    number of particles stays.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time; "auto" follows the curvature (`meanfield.dynamics.step_size`).
    batch : int, optional
        A step sees so many examples, drawn uniformly with replacement; by default all.
    exchange_rate : float
        α ≥ 0, events of a particle in a unit of the flow's time and of the potential.

    Raises
    ------
    InputError
        A step size that is not positive, a batch below 1, a negative rate.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import BirthDeath, Ensemble, Problem, simulate
    >>> problem = Problem(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, -1]), reg=0.01)
    >>> result = simulate(problem, Ensemble.sphere(64, 2), BirthDeath(step_size=0.5, exchange_rate=5.0), steps=10)
    >>> len(np.unique(result.ensemble.u, axis=0)) < 64  # some are copies of others
    True
    """

    exchange_rate: float = 1.0

    name = "birth_death"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("exchange_rate", self.exchange_rate)

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, temperature)

    def exchange(self, field: Field, ensemble: Ensemble, moments: Moments, eta: float) -> Moments:
        alpha, particles, step = self.exchange_rate, ensemble.particles, ensemble.step
        if not (alpha > 0 and np.isfinite(moments.f).all()):
            return moments
        _, potential = field.engine.observe(
            particles, field.residual(moments), field.problem.reg(step), potentials=True
        )
        potential = np.concatenate(particles.span.ranks.gather(potential))
        excess = (potential - exact_math.mean(potential)) * (alpha * eta)
        events = exchange(particles, excess, ensemble.seed, step)
        return field.predict(ensemble) if events else moments


@compiled
def _exchange(origin, excess, group, seed, step):  # type: ignore[no-untyped-def]
    """In the order of the particles: one in excess becomes a copy of a random one, one in deficit is copied onto it.

    origin (m,) ← which of the particles before the exchange each one is a copy of.
    """
    m, events = len(excess), 0
    w = np.empty((4, group), np.uint32)
    for j in range(m):
        lane = j % group
        if lane == 0:
            noise.words(seed, noise.Purpose.EXCHANGE.value, step, j, 0, w)
        if (np.float64(w[0, lane]) + 0.5) * 2.0**-32 < -expm1_one(-abs(excess[j])):
            other = ((np.uint64(w[1, lane]) << np.uint64(21)) | (np.uint64(w[2, lane]) >> np.uint64(11))) % np.uint64(m)
            source, target = (np.int64(other), j) if excess[j] > 0 else (j, np.int64(other))
            origin[target] = origin[source]
            events += 1
    return events


def exchange(particles: Particles, excess: np.ndarray, seed: int, step: int) -> int:
    """Birth and death in place: |excess_j| is the rate of particle j's event times the step; the number of events.

    excess (m,), float64, is of all particles, on every rank.
    """
    span, group = particles.span, particles.theta.shape[2]
    origin = np.arange(span.total)
    events = int(_exchange(origin, excess, group, np.uint64(seed), np.uint64(step)))
    changed = np.flatnonzero(origin != np.arange(span.total))
    if len(changed) == 0:
        return events

    def mine(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = np.flatnonzero((numbers >= span.first) & (numbers < span.first + span.count))
        return places, *divmod(numbers[places] - span.first, group)

    with particles.writing() as theta:
        places, groups, lanes = mine(origin[changed])
        copies = np.empty((len(changed), theta.shape[1]), theta.dtype)
        for where, rows in span.ranks.gather((places, theta[groups, :, lanes])):
            copies[where] = rows
        places, groups, lanes = mine(changed)
        theta[groups, :, lanes] = copies[places]
    return events
