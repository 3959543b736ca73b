"""Kinetic (underdamped) Langevin dynamics: particles have velocities; without noise it is momentum.

    dθ = v dt,      dv = −∇L'[ρ](θ) dt − γ v dt + √(2γτ) dW

(Its mean-field law: Chen, Lin, Ren, Wang 2023, arXiv 2307.02990; the splitting: Leimkuhler and Matthews 2013, BAOAB.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..engine import exact_math
from ..engine.engine import Coefficients, Kick, Kinetic, Moments
from ..ensemble import Ensemble
from ..errors import InputError
from ..layers import Layers
from ..neuron import get_neuron
from ..problem import Problem
from .base import Dynamics, check_rate
from .field import Field


@dataclass(frozen=True, repr=False)
class KineticLangevin(Dynamics):
    """dθ = v dt, dv = −∇L'[ρ](θ) dt − γ v dt + √(2γτ) dW; at τ = 0 gradient descent with momentum (heavy ball).

    The splitting BAOAB, with one gradient a step: a kick by the gradient, half a drift, friction and noise exactly,
    half a drift. A drift is exact for the ℓ2 penalty: without a residual the law N(0, τ/2λ) is exact for any η.

    Parameters
    ----------
    step_size : "auto", float or Schedule
        η, in units of the flow's time; "auto" is the square root of that of `Langevin`.
    batch : int, optional
        A step sees so many examples, drawn uniformly with replacement; by default all.
    friction : float
        γ ≥ 0; heavy-ball momentum is e^{−γη}. As γ → ∞ the law is that of `Langevin` at the time t/γ.
    rates : pair of floats
        How fast the layers u and w move; 0 freezes one. Noise keeps its temperature.

    Raises
    ------
    InputError
        A step size that is not positive, a batch below 1, a negative friction.

    Notes
    -----
    Velocities begin at 0, are part of the ensemble (`ensemble.velocity`) and of the run file, and lag behind the
    particles by half a kick.

    Examples
    --------
    Without friction, noise and residual each particle swings, θ(t) = cos(√(2λ) t) θ(0), whatever the step:

    >>> import numpy as np
    >>> from meanfield import Ensemble, KineticLangevin, Problem, simulate
    >>> problem = Problem(np.zeros((1, 3)), np.zeros(1), loss="squared", reg=0.5)
    >>> start = Ensemble.gaussian(64, 3, dtype="float64")
    >>> end = simulate(problem, start, KineticLangevin(step_size=0.5, friction=0.0), steps=4).ensemble
    >>> bool(np.allclose(end.u, np.cos(2.0) * start.u)), end.velocity.u.shape
    (True, (64, 3))
    """

    friction: float = 1.0

    name = "kinetic_langevin"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate("friction", self.friction)
        if self.tail_index != 2:
            raise InputError(f"tail_index = {self.tail_index!r}: velocities have Gaussian noise only; use langevin")

    def eta(self, field: Field, ensemble: Ensemble, moments: Moments, residual: np.ndarray) -> float:
        found = super().eta(field, ensemble, moments, residual)
        return math.sqrt(found) if self.step_size == "auto" else found

    def moves(self, eta: float, problem: Problem, ensemble: Ensemble) -> Kinetic:
        last = ensemble.memory["step_size"] if ensemble.velocity is not None else 0.0
        if ensemble.velocity is None:
            ensemble.velocity = Layers(np.zeros_like(ensemble.theta), ensemble.span, ensemble.outputs)
        k, p = ensemble.step, problem.penalty
        reg, keep = problem.reg(k), exact_math.exp(-self.friction * eta)
        spread = math.sqrt(-problem.temperature(k) * exact_math.expm1(-2 * self.friction * eta))

        def kick(rate: float, weight: float, part: float) -> Kick:
            r, spring = math.sqrt(rate), math.sqrt(2 * weight * reg)
            sin, cos = (float(number[0]) for number in get_neuron("sine").evaluate([r * spring * eta / 2]))
            drift = sin / spring if spring > 0 else r * eta / 2
            return Kick(r * (last + eta) / 2, cos, drift, spring * sin, keep, math.sqrt(part) * spread)

        u, w = map(kick, self.rates, p.layers, self.noise)
        beyond = Coefficients(0.0, 0.0, p.quartic, p.path).times(reg)
        with ensemble.velocity.particles.writing() as velocity:
            return Kinetic(u, w, beyond, velocity)
