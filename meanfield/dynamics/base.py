"""The laws of motion: each a page, each one step of one equation.

All share the potential L'[ρ](θ) = ⟨r, Φ(θ; ·)⟩ + λ‖θ‖² (arXiv 1810.05369, section 3) and one scheme. Its linear part is
solved exactly (an exponential integrator: at zero residual the step is exact for any η, so the ℓ2 term brings neither
bias nor a bound on the step size); the rest is explicit:

    θ ← e^{−2λη} θ − (1 − e^{−2λη})/(2λ) ∇⟨r, Φ⟩ + √(τ (1 − e^{−4λη})/(2λ)) ξ

which is θ − η∇L' + √(2ητ) ξ to first order in η. A step has three verbs: from the residual (n·C numbers, all that
particles know of each other) find the step size, advance every particle, predict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..engine import exact_algebra, exact_math, noise
from ..engine.engine import BLOCK, Moments, Move, Sweep, Workers
from ..ensemble import Ensemble
from ..errors import InputError
from ..problem import Problem
from ..schedules import Schedule
from .birth_death import exchange


def safety(reg: Schedule, k: int) -> float:
    """The automatic step as a fraction of 1/(curvature); stability needs less than 2.

    Particles that come to rest on a kink step over it and back, which costs the objective a part linear in η. So the
    fraction is 5/4 while λ is being lowered, and falls like 1/k after that, the steps of a subgradient method; under a
    constant λ it is ¼ throughout.
    """
    if reg.steps == 0:
        return 0.25
    rest = reg.steps / 50
    return 1.25 * rest / (rest + max(0, k - reg.steps))


class Field:
    """A problem bound to compiled loops: what a step reads besides the particles. Holds no state of the run."""

    def __init__(self, problem: Problem, dtype: np.dtype, threads: int | Workers | None = None) -> None:
        self.problem, self.dtype = problem, dtype
        self.sweep = Sweep(problem.X, problem.outputs, dtype, threads)

    def minibatch(self, size: int, seed: int, step: int) -> Field:
        """The same problem on `size` examples drawn uniformly with replacement, by address: an unbiased residual."""
        rows = (noise.uniforms(seed, noise.Purpose.BATCH, step, size) * self.problem.n).astype(np.int64)
        return Field(self.problem.restricted(rows), self.dtype, self.sweep.workers)

    def predict(self, ensemble: Ensemble) -> Moments:
        return self.sweep.predict(ensemble.theta, ensemble.span)

    def residual(self, moments: Moments) -> np.ndarray:
        """r = ∂R/∂f (n, C)."""
        return self.problem.loss.residual(moments.f, self.problem.targets)

    @cached_property
    def _norms(self) -> tuple[np.ndarray, float]:
        """(‖x_i‖, the spectral norm of X)."""
        return exact_math.row_norms(self.problem.X), exact_algebra.spectral_norm(self.problem.X)

    def curvature_bound(self, moments: Moments) -> float:
        """(1/n) Σ ℓ''_i ‖x_i‖² ∫‖θ‖² dρ: bounds the curvature that particles feel through the residual."""
        weights = self.problem.loss.curvature(moments.f, self.problem.targets) / self.problem.n
        return exact_math.total(weights * self._norms[0] * self._norms[0]) * moments.second

    def pull_bound(self, residual: np.ndarray) -> float:
        """Bounds ‖Σ_i r_i 1[u·x_i > 0] x_iᵀ‖ over all u: the curvature of ⟨r, Φ⟩ for a single particle."""
        sizes = exact_math.row_norms(residual)
        return min(exact_math.total(sizes * self._norms[0]), exact_math.norm(sizes) * self._norms[1])

    def curvature_ratio(self, ensemble: Ensemble, moments: Moments, *, iterations: int = 8) -> float:
        """Top eigenvalue of D^½ K D^½ over `curvature_bound`, D = diag(ℓ''_i)/n and K the tangent kernel of ρ.

        Power iteration, K v as the change of the predictions when particles move a little along −∇⟨v, Φ⟩; an estimate
        (from below, and from the first particles only: K is a mean over particles), a pure function of the ensemble.
        """
        bound = self.curvature_bound(moments)
        theta, m = ensemble.head(2 * BLOCK)
        weights = (self.problem.loss.curvature(moments.f, self.problem.targets) / self.problem.n)[:, None]
        sweep = Sweep(self.problem.X, self.problem.outputs, self.dtype, self.sweep.workers)
        f = sweep.predict(theta, m).f
        v = noise.normals(0, 0, 0, f.size, 1, dtype="float64").reshape(f.shape)
        top = 0.0
        for _ in range(iterations):
            v /= exact_math.norm(v)
            nudge = 1e-2 / max(self.pull_bound(v), 1e-300)
            moved = theta.copy()
            sweep.predict(moved, m)
            Kv = (f - sweep.advance(moved, m, v, Move(0.0, nudge), 0, 0).f) / nudge
            along = exact_math.total(v * Kv)
            if not along > 0:
                break
            top = exact_math.total(Kv * weights * Kv) / along
            v = weights * Kv
            if not exact_math.norm(v) > 0:
                break
        return min(1.0, top / bound) if bound > 0 and top > 0 else 1.0


@dataclass(frozen=True)
class Dynamics:
    """What all dynamics share: a step size ("auto", a number or a schedule) and, if wanted, minibatches of the data.

    "auto" is η = s / (κ B + P + 2λ), s from `safety` and each term a bound on a part of the objective's curvature in
    the space of measures: B = (1/n) Σ ℓ''_i ‖x_i‖² ∫‖θ‖² dρ bounds the coupling of the particles, κ (re-estimated at
    powers of two and every 50 steps, remembered between) corrects it to the top eigenvalue of the tangent kernel,
    P ≥ ‖Σ r_i 1[·] x_iᵀ‖ bounds the pull on one particle, 2λ is the ℓ2 term's. It depends on the state alone and
    follows a rescaling of the features. An estimate, not a guarantee: kinks have no curvature bound.
    """

    step_size: str | float | Schedule = "auto"
    batch: int | None = None

    name: ClassVar[str]

    def __post_init__(self) -> None:
        if self.step_size != "auto":
            if isinstance(self.step_size, str):
                raise InputError(f'step_size = {self.step_size!r}: must be "auto", a positive number or a schedule')
            schedule = Schedule.of(self.step_size)
            if min(schedule.start, schedule.end) <= 0:
                raise InputError(f"step_size = {min(schedule.start, schedule.end)!r}: must be positive")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch = {self.batch!r}: must be at least 1")

    @classmethod
    def of(cls, section: Any) -> Dynamics:
        """The dynamics that a configuration's section asks for."""
        return cls(**{one.name: getattr(section, one.name) for one in fields(cls)})

    def section(self) -> dict[str, Any]:
        """The same in the words of a configuration."""
        return {"method": self.name, **{one.name: getattr(self, one.name) for one in fields(self)}}

    def eta(self, field: Field, ensemble: Ensemble, moments: Moments, residual: np.ndarray) -> float:
        """The step size at this state; an automatic one refreshes what the ensemble remembers."""
        k = ensemble.step
        if self.step_size != "auto":
            return Schedule.of(self.step_size)(k)  # type: ignore[arg-type]
        if "curvature_ratio" not in ensemble.memory or k % 50 == 0 or (k < 50 and k & (k - 1) == 0):
            ensemble.memory["curvature_ratio"] = field.curvature_ratio(ensemble, moments)
        coupling = ensemble.memory["curvature_ratio"] * field.curvature_bound(moments)
        return safety(field.problem.reg, k) / (coupling + field.pull_bound(residual) + 2 * field.problem.reg(k))

    def step(self, field: Field, ensemble: Ensemble, moments: Moments) -> Moments:
        """Advance the ensemble in place by one step; its new moments (with a minibatch: on the batch's examples)."""
        k = ensemble.step
        if self.batch is not None:
            field = field.minibatch(self.batch, ensemble.seed, k)
            moments = field.predict(ensemble)
        residual = field.residual(moments)
        eta = self.eta(field, ensemble, moments, residual)
        move = self.move(eta, field.problem.reg(k), field.problem.temperature(k))
        moments = field.sweep.advance(ensemble.theta, ensemble.span, residual, move, ensemble.seed, k)
        moments = self.exchange(field, ensemble, moments, eta)
        ensemble.memory["step_size"] = eta
        ensemble.step += 1
        ensemble.time += eta
        return moments

    def exchange(self, field: Field, ensemble: Ensemble, moments: Moments, eta: float) -> Moments:
        """What follows the move; nothing, unless particles exchange mass."""
        return moments

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        raise NotImplementedError


def exponential_move(eta: float, reg: float, temperature: float, death: float = 0.0) -> Move:
    """The coefficients of the scheme above: shrink = 1 − e^{−2λη}, drift, noise."""
    shrink = -exact_math.expm1(-2 * reg * eta)
    drift = shrink / (2 * reg)
    spread = math.sqrt(-temperature * exact_math.expm1(-4 * reg * eta) / (2 * reg))
    return Move(shrink, drift, spread, death)


@dataclass(frozen=True)
class Langevin(Dynamics):
    """Noisy gradient descent, dθ = −∇L'[ρ](θ) dt + √(2τ) dW: descends F_τ (arXiv 1810.05369, section 3)."""

    name = "langevin"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, temperature)


@dataclass(frozen=True)
class GradientFlow(Dynamics):
    """Gradient descent without noise, dθ = −∇L'[ρ](θ) dt, whatever the problem's temperature."""

    name = "gradient_flow"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, 0.0)


@dataclass(frozen=True)
class PerturbedFlow(Dynamics):
    """∂ρ/∂t = −σρ + σU − ∇·(ρ v), v = −∇L'[ρ]: the paper's own dynamics (arXiv 1810.05369, section 3).

    At rate σ (`rebirth_rate`) a particle dies and is reborn uniformly on the unit sphere of R^{d+C}: with probability
    1 − e^{−ση} a step, after its move. σ = 0 is the gradient flow, bit for bit.
    """

    rebirth_rate: float = 1e-4

    name = "perturbed_flow"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, 0.0, -exact_math.expm1(-self.rebirth_rate * eta))


@dataclass(frozen=True)
class BirthDeath(Dynamics):
    """∂ρ/∂t = ∇·(ρ ∇L'[ρ]) + τΔρ − α (L'[ρ] − ∫ L'[ρ] dρ) ρ: a Langevin step, then exchange of mass.

    Rotskoff, Jelassi, Bruna, Vanden-Eijnden 2019 (arXiv 1902.01843), with α = `exchange_rate`. With probability
    1 − exp(−α |L'_j − mean| η) a particle of high potential is replaced by a copy of a random one, and one of low
    potential replaces a random one; the number of particles stays.
    """

    exchange_rate: float = 1.0

    name = "birth_death"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        return exponential_move(eta, reg, temperature)

    def exchange(self, field: Field, ensemble: Ensemble, moments: Moments, eta: float) -> Moments:
        if not (self.exchange_rate > 0 and np.isfinite(moments.f).all()):
            return moments
        residual, reg = field.residual(moments), field.problem.reg(ensemble.step)
        _, potential = field.sweep.observe(ensemble.theta, ensemble.span, residual, reg, potentials=True)
        potential = np.concatenate(ensemble.span.ranks.gather(potential))
        excess = (potential - exact_math.mean(potential)) * (self.exchange_rate * eta)
        if exchange(ensemble.theta, ensemble.span, excess, ensemble.seed, ensemble.step) == 0:
            return moments
        return field.predict(ensemble)


DYNAMICS: dict[str, type[Dynamics]] = {kind.name: kind for kind in (Langevin, GradientFlow, PerturbedFlow, BirthDeath)}
