"""The gap of the linearized problem, for a network of any neuron: a bound whose hardest direction is climbed to.

For every probability measure ρ and every a (n, C), R(f) ≥ ⟨a, f⟩ − R*(a), and f_ρ = ∫ Φ dρ, so that

    L[ρ] ≥ −R*(a) + ∫ (⟨a, Φ(θ)⟩ + λ‖θ‖²) dρ ≥ −R*(a) − max_u V_a(u),    V_a(u) = ‖G_a(u)‖²/4λ − λ‖u‖²,

G_a(u) = Σ_i a_i φ(u·x_i), the least over w being at w = −G_a(u)/2λ. At the residual, a = r, this is below L by

    ∫ L'[ρ] dρ − min_θ L'[ρ](θ),    L'[ρ](θ) = ⟨r, Φ(θ)⟩ + λ‖θ‖²,

what the linearized problem has to gain, which is 0 at a minimum. Here a = s r for the best s ≥ 0. The maximum over u
is looked for by ascent from particles and random starts, and may be missed: then the bound is too high, hence an
estimate. Where φ is linear far from 0 and s r pulls too hard there, V grows without end, and s comes out smaller.

Nothing rests on what φ is. Only where it grows faster than linearly there is no bound: few particles of large weights
make any f at a vanishing penalty, and the infimum of L is that of R.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..engine.engine import Moments
from ..engine.exact_algebra import product
from ..engine.exact_math import row_norms, row_sums
from ..ensemble import Ensemble
from ..errors import InputError
from ..neuron import Neuron
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .budget import Budget
from .duality import best_scale
from .sphere_ascent import random_starts

_STEPS = 60  # of an ascent
_ROUNDS = 12  # of ascents, each at the best s so far
_STARTS = 16, 4096  # in a round, at least and at most
_FAR = 1e3  # times the longest particle, or the length of 1/‖x‖: what stands for infinitely far
_SETTLED = 1e-7  # of the bound: rounds end where it moves no more
_LARGEST = 1e3  # s where the loss allows any


class LinearizedBound(NamedTuple):
    """L of an ensemble; an estimate of a lower bound on min L, and the dual point a = s r (n, C) of it.

    u (d,) is where V_a is highest, and pull = ‖G_a(u)‖ there. excess is what r itself has to gain: positive, it proves
    that the ensemble is no minimum.
    """

    primal: float
    lower_bound: float
    dual: np.ndarray
    u: np.ndarray
    pull: float
    excess: float


def linearized_bound(
    problem: Problem, ensemble: Ensemble, moments: Moments, budget: Budget, *, seed: int = 0
) -> LinearizedBound:
    """An estimate of a lower bound on min L at the λ of the ensemble's step, for any neuron.

    Parameters
    ----------
    problem : Problem
        At whatever temperature: what is bounded is L. Its loss needs a `conjugate`.
    ensemble : Ensemble
        Shared by ranks or not; all of them get the answer.
    moments : meanfield.engine.engine.Moments
        Its predictions f (n, C) and ∫‖θ‖² dρ.
    budget : Budget
        Of which about all is used, unless the bound settles before.
    seed : int
        Of the random starts.

    Returns
    -------
    LinearizedBound

    Raises
    ------
    InputError
        A neuron that grows faster than linearly, a loss without a conjugate, predictions that are not finite.

    Examples
    --------
    One example, x = 1 and y = 1, and one particle w = u = 1 of tanh:

    >>> from meanfield import Ensemble, Problem
    >>> from meanfield.dynamics import Field
    >>> from meanfield.optimality.budget import Budget
    >>> from meanfield.optimality.linearized_gap import linearized_bound
    >>> problem = Problem([[1.0]], [1.0], loss="squared", reg=0.1, neuron="tanh")
    >>> ensemble = Ensemble.from_arrays([[1.0]], [[1.0]])
    >>> moments = Field(problem, ensemble.dtype).predict(ensemble)
    >>> found = linearized_bound(problem, ensemble, moments, Budget(1e8))
    >>> round(found.primal, 4), round(found.lower_bound, 4)
    (0.2284, 0.2197)
    """
    reg = problem.reg(ensemble.step)
    primal = problem.evaluate(moments.f, moments.second, reg).value
    if not np.isfinite(primal):
        raise InputError("ensemble: its predictions are not finite")
    problem.neuron.require_linear_growth("a bound on the minimum")
    problem.loss.require("a bound on the minimum", "conjugate")
    particles = ensemble.sample(_STARTS[1])[1].astype(np.float64)

    def bounded() -> LinearizedBound:
        with single_threaded_blas():
            ascent = Ascent(problem, reg, problem.loss.residual(moments.f, problem.targets), budget, seed)
            return ascent.bound(particles, moments, primal)

    return ensemble.span.ranks.once(bounded)


class Hill(NamedTuple):
    """V_{sr}(u) = s² ‖G_r(u)‖²/4λ − λ‖u‖², of residuals r (n, C) at inputs X (n, d)."""

    neuron: Neuron
    X: np.ndarray
    r: np.ndarray
    reg: float

    def squares(self, U: np.ndarray) -> np.ndarray:
        """‖G_r(u)‖² (k,) for the rows u of U (k, d)."""
        G = product(self.neuron.evaluate(product(U, self.X.T))[0], self.r)
        return row_sums(G * G)

    def rise(self, U: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray]:
        """V_{sr} (k,) and its gradient (k, d)."""
        value, slope = self.neuron.evaluate(product(U, self.X.T))
        G, half = product(value, self.r), s * s / (2 * self.reg)
        V = 0.5 * half * row_sums(G * G) - self.reg * row_sums(U * U)
        return V, half * product(product(G, self.r.T) * slope, self.X) - 2 * self.reg * U


class Ascent:
    """Rounds of ascent of V at the best s so far; every u that was met bounds every s."""

    def __init__(self, problem: Problem, reg: float, residual: np.ndarray, budget: Budget, seed: int) -> None:
        self.problem, self.budget, self.seed, self.draws = problem, budget, seed, 0
        self.hill = Hill(problem.neuron, problem.X, residual, reg)
        self.each = 0.5 * problem.n * (2 * problem.d + 2 * problem.outputs + 16)  # nanoseconds of a look from one u
        self.u, self.squares = np.zeros((1, problem.d)), np.zeros(1)
        self.limit = min(problem.loss.largest_scale(residual, problem.targets), _LARGEST)
        self.far = _FAR / (float(row_norms(problem.X).max()) or 1.0)

    def bound(self, particles: np.ndarray, moments: Moments, primal: float) -> LinearizedBound:
        """Rounds until the bound settles or the budget is used, then the worst u that was met."""
        self.far = max(self.far, _FAR * float(row_norms(particles).max()))
        count = int(np.clip(0.25 * self.budget.work / (_STEPS * self.each), *_STARTS))
        self.meet(particles[:: max(1, len(particles) // (2 * count))])
        value, s = self.best()
        for done in range(_ROUNDS):
            mine = self.u[np.argsort(-self.heights(s), kind="stable")[: count // 2]]
            self.meet(self.climb(np.concatenate([mine, self.starts(count - len(mine))]), s))
            before, (value, s) = value, self.best()
            if self.budget.over() or (done > 2 and before - value <= _SETTLED * abs(value)):
                break
        highest, hill = int(np.argmax(self.heights(s))), self.hill
        gain = float(np.sum(hill.r * moments.f)) + hill.reg * moments.second + float(self.heights(1.0).max())
        return LinearizedBound(
            primal, min(value, primal), s * hill.r, self.u[highest], s * float(np.sqrt(self.squares[highest])), gain
        )

    def meet(self, U: np.ndarray) -> None:
        """Remember these u (k, d)."""
        self.budget.spend(self.each * len(U))
        self.u = np.concatenate([self.u, U])
        self.squares = np.concatenate([self.squares, self.hill.squares(U)])

    def heights(self, s: float) -> np.ndarray:
        """V_{sr} of all u that were met."""
        return s * s * self.squares / (4 * self.hill.reg) - self.hill.reg * row_sums(self.u * self.u)

    def best(self) -> tuple[float, float]:
        """The highest −R*(s r) − max V_{sr} over s, and that s; 0 at s = 0, since losses are not negative."""
        loss, targets = self.problem.loss, self.problem.targets
        return best_scale(lambda s: loss.conjugate(s * self.hill.r, targets) + float(self.heights(s).max()), self.limit)

    def starts(self, count: int) -> np.ndarray:
        """Random ones (count, d), of lengths spread over three powers of ten about what 1/‖x‖ is."""
        self.draws += 1
        U = random_starts(self.problem.X, count, seed=self.seed, draw=self.draws)
        lengths = 10.0 ** (-1.0 + 3.0 * ((np.arange(1, count + 1) * 0.6180339887498949) % 1.0))
        return U * (self.far / _FAR * np.sqrt(self.problem.d) * lengths / np.maximum(row_norms(U), 1e-300))[:, None]

    def climb(self, U: np.ndarray, s: float) -> np.ndarray:
        """Ascend V_{sr} from the rows of U, by steps of Barzilai and Borwein that are taken only upwards."""
        V, slope = self.hill.rise(U, s)
        eta = np.full(len(U), 0.5 / self.hill.reg)
        for _ in range(_STEPS):
            if self.budget.over():
                break
            self.budget.spend(2 * self.each * len(U))
            ahead = self._within(U + eta[:, None] * slope)
            V_ahead, slope_ahead = self.hill.rise(ahead, s)
            moved, bent = row_sums((ahead - U) ** 2), row_sums((ahead - U) * (slope - slope_ahead))
            up = V_ahead > V
            eta = np.where(up, np.where(bent > 1e-300 * moved, moved / np.maximum(bent, 1e-300), 2 * eta), 0.25 * eta)
            U, V = np.where(up[:, None], ahead, U), np.where(up, V_ahead, V)
            slope = np.where(up[:, None], slope_ahead, slope)
        return U

    def _within(self, U: np.ndarray) -> np.ndarray:
        """Held where it stands for infinitely far."""
        return U * np.minimum(1.0, self.far / np.maximum(row_norms(U), 1e-300))[:, None]
