"""The masses of given neurons, moved by a proximal step: how much each counts, its direction held.

With neurons of unit ‖θ‖², f = f_0 + Σ_j μ_j φ_j and the ℓ2 term λ Σ μ_j, the step

    μ⁺ = argmin R(f) + λ Σ μ_j + (1/α) KL(μ | μ⁰),   i.e.  μ_j⁺ = μ_j⁰ exp(−α(⟨R'(f⁺), φ_j⟩ + λ)),

is an implicit step of length α of the flow that moves mass and not particles (the Fisher–Rao part of conic particle
descent, arXiv 1907.10300): positive, convex, never ascending, of any length. Newton's method in n·C or in the number of
neurons, whichever is less.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..engine import exact_math
from ..engine.engine import Moments
from ..engine.exact_algebra import cholesky, cholesky_solve, combined, gram, product
from ..engine.kinks import enough, measure
from ..ensemble import Ensemble
from ..losses import Loss
from ..runtime.arithmetic import fma
from ..runtime.compiling import compiled
from ..runtime.threads import Workers
from .coupling import curvature_root
from .field import Field

COUNTS = 1e-2  # of the 1 that stands beside it
TOLERANCE = 1e-7  # of the objective: births look at a residual much smaller than that of 1e-4
ITERATIONS = 24  # of Newton's method in a fit, at most
SHORT = 0.1  # of Newton's first way: a step that is cut shorter is tried with a smaller length
FLOOR = 1e-6  # least mass of a particle that is fitted, of the mean


@compiled
def _bend(phi, Q, bent):  # type: ignore[no-untyped-def]
    """bent (J, n, C) ← φ_j Q, example by example, of phi (J, n, C) and the lower triangles Q (C, C, n)."""
    J, n, C = phi.shape
    own, out = np.empty((C, n)), np.empty((C, n))
    for j in range(J):
        own[:] = phi[j].T
        out[:] = 0.0
        for a in range(C):
            for c in range(a + 1):
                for i in range(n):
                    out[c, i] = fma(own[a, i], Q[a, c, i], out[c, i])
        bent[j] = out.T


class Risk(NamedTuple):
    """R at targets t, and λ."""

    loss: Loss
    t: np.ndarray
    reg: float


class MassStep:
    """One proximal step: features phi (J, n, C) of unit mass, masses mu (J,), f (n, C) at these masses."""

    def __init__(
        self, risk: Risk, phi: np.ndarray, mu: np.ndarray, f: np.ndarray, workers: Workers | None = None
    ) -> None:
        self.risk, self.phi, self.mu, self.workers = risk, phi, mu, workers
        self.J, self.n, self.C = phi.shape
        self.flat = phi.reshape(self.J, self.n * self.C)
        self.across = np.ascontiguousarray(self.flat.T)
        self.rest = f - self.sum(mu)

    def sum(self, mu: np.ndarray) -> np.ndarray:
        """Σ_j μ_j φ_j (n, C)."""
        return _sum(mu, self.phi)

    def run(
        self, alpha: float, *, sight: float = 1.0, iterations: int = ITERATIONS, tolerance: float = TOLERANCE
    ) -> tuple[np.ndarray, float]:
        """The masses after the step, made of shorter ones where Newton's method sees only a part `sight` of `alpha`.

        Each ends once Newton's next way would gain less than `tolerance` of the value. Where the iterations do not
        suffice, the step is shorter. Also the part that Newton's method sees at the end.
        """
        left, length = alpha, sight * alpha
        while left > 0 and iterations > 0:
            x, used = self._solved(min(left, length), iterations, tolerance)
            iterations -= used
            if x is None:
                length *= 0.1
                continue
            self.mu = self.mu * exact_math.exp(x)
            left, length = left - min(left, length), 4.0 * length
        return self.mu, min(1.0, length / alpha)

    def _solved(self, alpha: float, iterations: int, tolerance: float) -> tuple[np.ndarray | None, int]:
        """The logarithm of the masses' growth, or None if the first way must be cut short; and iterations used."""
        x = np.zeros(self.J)
        value = self._value(x, alpha)
        for done in range(iterations):
            gradient, step = self._newton(x, alpha)
            decrease = -exact_math.total(self.mu * exact_math.exp(x) * step * gradient)
            if not decrease > (tolerance if done else 0.0) * abs(value):
                return x, done + 1
            change = np.where(step > 0, exact_math.log1p(np.maximum(step, 0.0)), np.maximum(step, -5.0))
            length, after = 1.0, self._value(x + change, alpha)
            while not after <= value and length > 1e-3:
                length *= 0.5
                after = self._value(x + length * change, alpha)
            if length < (SHORT if done == 0 else 1e-3):
                return (x if done else None), done + 1
            x, value = x + length * change, after
        return x, iterations

    def _value(self, x: np.ndarray, alpha: float) -> float:
        mu, (loss, t, reg) = self.mu * exact_math.exp(x), self.risk
        distance = exact_math.total(mu * (x - 1.0) + self.mu)
        return loss.value(self.rest + self.sum(mu), t) + reg * exact_math.total(mu) + distance / alpha

    def _newton(self, x: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The gradient by μ and Newton's change of μ over μ."""
        mu, (loss, t, reg) = self.mu * exact_math.exp(x), self.risk
        f = self.rest + self.sum(mu)
        gradient = combined(loss.residual(f, t).reshape(-1), self.across) + reg + x / alpha
        P = self._bent(curvature_root(loss, f, t))
        return gradient, -alpha * (gradient - _correction(P, alpha * mu, gradient, self.workers))

    def _bent(self, Q: np.ndarray) -> np.ndarray:
        """φ_j Q (J, n C)."""
        if self.C == 1:
            return self.flat * Q[:, 0, 0]
        bent = np.empty_like(self.phi)
        _bend(self.phi, np.ascontiguousarray(Q.transpose(1, 2, 0)), bent)
        return bent.reshape(self.J, -1)


def _correction(P: np.ndarray, D: np.ndarray, gradient: np.ndarray, workers: Workers | None) -> np.ndarray:
    """P (I + Pᵀ D P)⁻¹ Pᵀ D g = P Pᵀ √D (I + √D P Pᵀ √D)⁻¹ √D g, by the smaller of the two.

    Neurons whose part of Pᵀ D P is below COUNTS have none: that changes Newton's way a little, and not its goal.
    """
    heavy = D * exact_math.row_sums(P * P) > COUNTS
    if not heavy.any():
        return np.zeros_like(gradient)
    root = np.sqrt(D[heavy])
    H, b = root[:, None] * P[heavy], root * gradient[heavy]
    wide = H.shape[1] > H.shape[0]
    M = gram(H.T, np.ones(H.shape[1]), workers) if wide else gram(H, np.ones(H.shape[0]), workers)
    M[np.diag_indices(len(M))] += 1.0 + 1e-12 * float(np.abs(np.diagonal(M)).max())
    L = cholesky(M)
    if L is None:
        return np.zeros(len(P))
    y = cholesky_solve(L, b if wide else combined(b, H))
    return combined(combined(y, H) if wide else y, np.ascontiguousarray(P.T))


class Census(NamedTuple):
    """Masses ‖θ_j‖² (m,), what they are once ‖u‖ = ‖w‖ at the same Φ, and the particles by these, heaviest first."""

    mass: np.ndarray
    balanced: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, ensemble: Ensemble) -> Census:
        """Of all particles, on every rank."""
        theta, span = ensemble.particles.packed().theta, ensemble.span
        mine = np.empty((2, theta.shape[0] * theta.shape[2]))
        measure(theta, ensemble.d, *mine)
        mass, balanced = (np.concatenate(span.ranks.gather(one[: span.count])) for one in mine)
        return cls(mass, balanced, np.argsort(-balanced, kind="stable"))

    def carriers(self, part: float, *, least: int = 64, most: int | None = None) -> np.ndarray:
        """The fewest particles that carry this part of all mass, from `least` to `most`: their numbers, ascending."""
        return np.sort(self.order[: max(least, enough(self.balanced[self.order], part))][:most])

    def lightest(self, count: int) -> np.ndarray:
        """The lightest particles, ascending."""
        return np.sort(self.order[len(self.order) - count :])


def wanted(field: Field, ensemble: Ensemble, moments: Moments, census: Census) -> np.ndarray:
    """Particles where L' < 0, those first that lower the objective most for the mass they get."""
    reg, balanced = field.problem.reg(ensemble.step), census.balanced
    _, mine = field.engine.observe(ensemble.particles, field.residual(moments), reg, potentials=True)
    potential = np.concatenate(ensemble.span.ranks.gather(mine))
    cost = (potential - reg * census.mass) / np.where(balanced > 0, balanced, 1.0) + reg
    pays = np.flatnonzero((balanced > 0) & (cost < 0))
    return pays[np.argsort(cost[pays], kind="stable")]


def take(ensemble: Ensemble, chosen: np.ndarray) -> np.ndarray:
    """θ (k, d + C), float64, u first, of the particles `chosen` (ascending), on every rank."""
    span, theta = ensemble.span, ensemble.theta
    mine = chosen[(chosen >= span.first) & (chosen < span.first + span.count)] - span.first
    groups, lanes = np.divmod(mine, theta.shape[2])
    return np.concatenate(span.ranks.gather(theta[groups, :, lanes].astype(np.float64)))


def put(ensemble: Ensemble, chosen: np.ndarray, rows: np.ndarray) -> None:
    """Set the particles `chosen`, each rank its own."""
    span = ensemble.span
    here = (chosen >= span.first) & (chosen < span.first + span.count)
    with ensemble.particles.writing() as theta:
        groups, lanes = np.divmod(chosen[here] - span.first, theta.shape[2])
        theta[groups, :, lanes] = rows[here]


def fit(field: Field, ensemble: Ensemble, moments: Moments, chosen: np.ndarray, length: float) -> Moments:
    """Balance the particles `chosen`, then a proximal step of `length` of all masses; the moments after.

    Each of the chosen has a mass of its own; all others are scaled by one factor.
    """
    problem, d, m = field.problem, field.problem.d, ensemble.m
    rows = take(ensemble, chosen)
    u, w = exact_math.row_norms(rows[:, :d]), exact_math.row_norms(rows[:, d:])
    works = (u > 0) & (w > 0)
    chosen, rows, u, w = chosen[works], rows[works], u[works], w[works]
    unit = math.sqrt(0.5) * np.concatenate([rows[:, :d] / u[:, None], rows[:, d:] / w[:, None]], axis=1)
    phi, was = features(problem.X, unit), 2.0 * u * w / m
    rest = moments.f - _sum(was, phi)
    left = moments.second - exact_math.total(rows * rows) / m
    several = left > 0 and len(chosen) < m
    mu = np.maximum(was, FLOOR * moments.second / m)
    if several:
        phi, mu = np.concatenate([phi, rest[None] / left]), np.append(mu, left)
    risk = Risk(problem.loss, problem.targets, problem.reg(ensemble.step))
    start = moments.f + _sum(mu[: len(was)] - was, phi[: len(was)])
    sight = ensemble.memory.get("sight", 1.0)
    after, ensemble.memory["sight"] = MassStep(risk, phi, mu, start, field.engine.workers).run(length, sight=sight)
    if several:
        with ensemble.particles.writing() as theta:
            theta *= theta.dtype.type(math.sqrt(after[-1] / left))
    put(ensemble, chosen, np.sqrt(m * after[: len(was)])[:, None] * unit)
    return field.predict(ensemble)


def _sum(weights: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Σ_j weights_j φ_j (n, C)."""
    n, C = phi.shape[1:]
    return combined(weights, phi.reshape(len(phi), n * C)).reshape(n, C)


def features(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """w relu(X u) (J, n, C) of neurons (J, d + C)."""
    d = X.shape[1]
    active = np.maximum(product(np.ascontiguousarray(rows[:, :d]), X.T), 0.0)
    return active[:, :, None] * rows[:, None, d:]
