"""The gap of the linearized problem, for a network of any neuron: a bound whose hardest direction is climbed to.

For every probability measure ρ and every a (n, C), R(f) ≥ ⟨a, f⟩ − R*(a), and f_ρ = α ∫ Φ dρ, Φ = ψ(w) φ(u·x), so that

    L[ρ] ≥ −R*(a) + ∫ (α⟨a, Φ(θ)⟩ + λ p(θ)) dρ ≥ −R*(a) − max_u V_a(u),    V_a(u) = Σ_c h(G_ac(u)) − λ_u‖u‖²,

of p(θ) = (λ_u‖u‖² + λ_w‖w‖²)/λ, G_a(u) = α Σ_i a_i φ(u·x_i) and h(g) = −min_w (g ψ(w) + λ_w w²), which is g²/4λ_w where
ψ(w) = w. At the residual, a = r, this is below L by

    ∫ L'[ρ] dρ − min_θ L'[ρ](θ),    L'[ρ](θ) = α⟨r, Φ(θ)⟩ + λ p(θ),

what the linearized problem has to gain, which is 0 at a minimum. Here a = s r for the best s ≥ 0. The maximum over u
is looked for by ascent from particles and random starts, and may be missed: then the bound is too high, hence an
estimate. Where Φ grows as ‖θ‖² far from 0 and s r pulls too hard there, V grows without end, and s comes out smaller.

Nothing rests on what φ and ψ are. Only where Φ grows faster than ‖θ‖² there is no bound: few particles of large weights
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
_WEIGHTS = np.geomspace(1e-6, 1e4, 2048)  # |w| among which the best for ψ is looked for, then between two of them
_HALVINGS = 24  # of what is between them


class LinearizedBound(NamedTuple):
    """L of an ensemble; an estimate of a lower bound on min L, and the dual point s r (n, C) of it.

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
        Its predictions f (n, C) and ∫ p dρ.
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
        λ = 0; a penalty other than weights of ‖u‖² and ‖w‖²; a neuron that grows faster than quadratically in its
        weights; a loss without a conjugate; predictions that are not finite.

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
    primal = problem.evaluate(moments.f, moments.penalty, reg).value
    if not np.isfinite(primal):
        raise InputError("ensemble: its predictions are not finite")
    _check(problem)
    problem.loss.require("a bound on the minimum", "conjugate")
    particles = ensemble.sample(_STARTS[1])[1].astype(np.float64)

    def bounded() -> LinearizedBound:
        with single_threaded_blas():
            ascent = Ascent(problem, reg, problem.loss.residual(moments.f, problem.targets), budget, seed)
            return ascent.bound(particles, moments, primal, reg)

    return ensemble.span.ranks.once(bounded)


def _check(problem: Problem) -> None:
    """InputError: a problem that has no minimum, or a penalty for which the least over w is not known here."""
    what, p = "a bound on the minimum", problem.penalty
    problem.neuron.require_linear_growth(what)
    if min(problem.reg.start, problem.reg.end) == 0:
        problem.require_plain(what)
    if p.quartic > 0 or p.path > 0 or min(p.layers) == 0:
        raise InputError(f"{what} needs a penalty on ‖u‖² and ‖w‖² and no other, not {p!r}")


class Gain:
    """h(g) = −min_w (g ψ(w) + λ w²) of many g, a convex function, and its slope −ψ(w) at that w.

    For ψ(w) = w, `psi` None, that is g²/4λ. Else the least of the lines g ψ(w) + λ w² through many w is found by their
    lower hull, and beside it the w where the derivative by w changes its sign, where that is less.
    """

    def __init__(self, psi: Neuron | None, reg: float) -> None:
        self.psi, self.reg = psi, reg
        if psi is None:
            return
        w = np.concatenate([-_WEIGHTS[::-1], [0.0], _WEIGHTS])
        value, slope = psi.evaluate(w)
        finite = np.isfinite(value) & np.isfinite(slope)
        w, value = w[finite], value[finite]
        kept = lower_hull(value, reg * w * w)[::-1]
        self.w, self.value = w[kept], value[kept]
        self.beside = w[np.maximum(kept - 1, 0)], w[np.minimum(kept + 1, len(w) - 1)]
        self.turns = np.diff(reg * self.w**2) / -np.diff(self.value)

    def of(self, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """h(g) and h'(g)."""
        if self.psi is None:
            return g * g / (4 * self.reg), g / (2 * self.reg)
        k = np.searchsorted(self.turns, g)
        low, high = (one[k] for one in self.beside)
        for _ in range(_HALVINGS):
            w = 0.5 * (low + high)
            rises = g * self.psi.evaluate(w)[1] + 2 * self.reg * w > 0
            low, high = np.where(rises, low, w), np.where(rises, w, high)
        w = 0.5 * (low + high)
        value = self.psi.evaluate(w)[0]
        first, second = g * self.value[k] + self.reg * self.w[k] ** 2, g * value + self.reg * w * w
        return -np.minimum(first, second), -np.where(second < first, value, self.value[k])


def lower_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The numbers of the points (x, y) on their lower convex hull, by rising x."""
    kept: list[int] = []
    for k in np.lexsort((y, x)):
        if kept and x[k] == x[kept[-1]]:
            continue
        while len(kept) > 1:
            j, i = kept[-1], kept[-2]
            if (y[j] - y[i]) * (x[k] - x[j]) < (y[k] - y[j]) * (x[j] - x[i]):
                break
            kept.pop()
        kept.append(int(k))
    return np.array(kept)


class Hill(NamedTuple):
    """V_{sr}(u) = Σ_c h(s G_c(u)) − λ_u‖u‖², of α r (n, C) at inputs X (n, d)."""

    neuron: Neuron
    X: np.ndarray
    r: np.ndarray
    gain: Gain
    reg: float

    def pulls(self, U: np.ndarray) -> np.ndarray:
        """G_r(u) (k, C) for the rows u of U (k, d)."""
        return product(self.neuron.evaluate(product(U, self.X.T))[0], self.r)

    def height(self, G: np.ndarray, squares: np.ndarray, s: float) -> np.ndarray:
        """V_{sr} (k,) where the pulls are G (k, C) and ‖u‖² = squares (k,)."""
        return row_sums(self.gain.of(s * G)[0]) - self.reg * squares

    def rise(self, U: np.ndarray, s: float) -> tuple[np.ndarray, np.ndarray]:
        """V_{sr} (k,) and its gradient (k, d)."""
        value, slope = self.neuron.evaluate(product(U, self.X.T))
        gain, by_g = self.gain.of(s * product(value, self.r))
        V = row_sums(gain) - self.reg * row_sums(U * U)
        return V, product(s * product(by_g, self.r.T) * slope, self.X) - 2 * self.reg * U


class Ascent:
    """Rounds of ascent of V at the best s so far; every u that was met bounds every s."""

    def __init__(self, problem: Problem, reg: float, residual: np.ndarray, budget: Budget, seed: int) -> None:
        self.problem, self.budget, self.seed, self.draws = problem, budget, seed, 0
        of_u, of_w = (reg * part for part in problem.penalty.layers)
        self.residual, gain = residual, Gain(problem.neuron.output, of_w)
        self.hill = Hill(problem.neuron, problem.X, problem.output_scale * residual, gain, of_u)
        self.each = 0.5 * problem.n * (2 * problem.d + 2 * problem.outputs + 16)  # nanoseconds of a look from one u
        self.each += 0.0 if gain.psi is None else 500.0 * problem.outputs
        self.u, self.pulls = np.zeros((1, problem.d)), np.zeros((1, problem.outputs))
        self.limit = min(problem.loss.largest_scale(residual, problem.targets), _LARGEST)
        self.far = _FAR / (float(row_norms(problem.X).max()) or 1.0)

    def bound(self, particles: np.ndarray, moments: Moments, primal: float, reg: float) -> LinearizedBound:
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
        highest = int(np.argmax(self.heights(s)))
        excess = float(np.sum(self.residual * moments.f)) + reg * moments.penalty + float(self.heights(1.0).max())
        pull = s * float(row_norms(self.pulls[highest : highest + 1])[0])
        return LinearizedBound(primal, min(value, primal), s * self.residual, self.u[highest], pull, excess)

    def meet(self, U: np.ndarray) -> None:
        """Remember these u (k, d)."""
        self.budget.spend(self.each * len(U))
        self.u = np.concatenate([self.u, U])
        self.pulls = np.concatenate([self.pulls, self.hill.pulls(U)])

    def heights(self, s: float) -> np.ndarray:
        """V_{sr} of all u that were met."""
        return self.hill.height(self.pulls, row_sums(self.u * self.u), s)

    def best(self) -> tuple[float, float]:
        """The highest −R*(s r) − max V_{sr} over s, and that s; 0 at s = 0, since losses are not negative."""
        loss, targets, squares = self.problem.loss, self.problem.targets, row_sums(self.u * self.u)

        def below(s: float) -> float:
            return loss.conjugate(s * self.residual, targets) + float(self.hill.height(self.pulls, squares, s).max())

        return best_scale(below, self.limit)

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
