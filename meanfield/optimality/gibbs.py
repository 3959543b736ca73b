"""The infinite-width minimizer of the free energy at τ > 0, by maximizing its concave dual over n·C numbers.

    D(a) = −R*(a) − τ log Z(a),   Z(a) = (πτ/λ)^{(C+d)/2} E_{s ~ U(S^{d−1})} q(s)^{−d/2},   q(s) = 1 − (‖G_a(s)‖/2λ)²

At an interior maximum the optimal measure is the Gibbs measure of a: s has density ∝ q^{−d/2} on the sphere, |u|²
given s is Gamma(d/2, τ/(λq)), w given u is N(−G_a(u)/2λ, τ/2λ I), and its predictions f(a) = E[w relu(u·x)] satisfy a
= R'(f(a)). Newton's method on quadrature nodes (d ≤ 3: between kinks, by Gauss and Legendre) or quasi-random ones
(larger d).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg

from ..errors import InputError
from ..problem import Problem
from .sphere_ascent import climb, random_starts
from .sphere_quadrature import Nodes, sphere_nodes


@dataclass(frozen=True, kw_only=True)
class Gibbs:
    """The Gibbs measure that minimizes F_τ, or, where there is none, the lower bound of its dual point.

    Attributes
    ----------
    a : ndarray (n, C), float64
        The dual point.
    lower_bound, error : float
        D(a) ≤ min F_τ, up to the error of the sphere integral (an estimate of it).
    attained : bool
        Whether the maximum is interior and resolved by the nodes.
    f : ndarray (n, C), float64, or None
        The predictions of the optimal measure; None if it is not attained.
    free_energy : float or None
        Its F_τ, likewise.
    min_q : float
        1 − (max ‖G_a‖/2λ)², with the highest peak found.
    residual : float
        max |a − R'(f(a))| n.
    effective : float
        How many nodes carry the density.
    nodes, weights : ndarrays (N, d) and (N,), float64
        Unit vectors and their probabilities.
    reg, temperature : float
        λ and τ.

    Examples
    --------
    With y = 0 and one input the law of a neuron's direction is uniform on the two of them.

    >>> from meanfield import Problem, exact
    >>> measure = exact.gibbs(Problem([[1.0]], [0.0], loss="squared", reg=0.1, temperature=0.1))
    >>> nodes, weights = measure.density()
    >>> nodes.ravel().tolist(), weights.round(6).tolist(), measure.f.round(6).tolist()
    ([1.0, -1.0], [0.5, 0.5], [[0.0]])
    >>> w, u = measure.samples(64)
    >>> w.shape, u.shape
    ((64, 1), (64, 1))
    """

    a: np.ndarray = field(repr=False)
    lower_bound: float
    error: float
    attained: bool
    f: np.ndarray | None = field(repr=False)
    free_energy: float | None
    min_q: float
    residual: float
    effective: float
    nodes: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    reg: float
    temperature: float
    _G: np.ndarray = field(repr=False)

    def density(self) -> tuple[np.ndarray, np.ndarray]:
        """The law of a neuron's direction.

        Returns
        -------
        nodes, weights : arrays (N, d) and (N,)
            Unit vectors and their probabilities, which sum to 1.

        Raises
        ------
        InputError
            No minimizer was found.
        """
        self._must_exist()
        return self.nodes, self.weights

    def samples(self, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Particles drawn from the optimal measure, their directions among the nodes.

        Parameters
        ----------
        m : int
            How many.
        seed : int
            Of the random numbers.

        Returns
        -------
        w, u : arrays (m, C) and (m, d), float64

        Raises
        ------
        InputError
            No minimizer was found.
        """
        self._must_exist()
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.nodes), size=m, p=self.weights)
        d, G = self.nodes.shape[1], self._G[chosen]
        q = 1 - np.sum(G * G, axis=1) / (2 * self.reg) ** 2
        radius = np.sqrt(rng.gamma(0.5 * d, self.temperature / (self.reg * q)))[:, None]
        spread = np.sqrt(self.temperature / (2 * self.reg))
        return -radius * G / (2 * self.reg) + spread * rng.standard_normal(G.shape), radius * self.nodes[chosen]

    def _must_exist(self) -> None:
        if not self.attained:
            raise InputError(
                "gibbs: no minimizer was found (the optimum lies on or near the boundary); there is only "
                "the lower bound"
            )


def gibbs(problem: Problem, *, step: int | None = None, seed: int = 0, nodes: int = 1 << 14) -> Gibbs:
    """The infinite-width minimizer of F_τ, or a lower bound on its value.

    Newton's method on the concave dual D(a) = −R*(a) − τ log Z(a), n·C numbers, over nodes on the sphere.

    Parameters
    ----------
    problem : Problem
        With τ > 0 and at most 4000 numbers n·C; its loss needs `conjugate`, `conjugate_gradient`, `conjugate_hessian`.
    step : int, optional
        The step whose λ and τ are meant; by default the ends of their schedules.
    seed : int
        Of quasi-random nodes and of starts.
    nodes : int
        How many quasi-random ones, for d > 3.

    Returns
    -------
    Gibbs
        `attained` says whether it is a measure or only a bound.

    Raises
    ------
    InputError
        Temperature zero, too many numbers, a loss that lacks what is needed.

    Examples
    --------
    With y = 0 and the squared loss the minimizer is the Gaussian N(0, τ/2λ I), and F = −τ (C + d)/2 log(πτ/λ).

    >>> from meanfield import Problem, exact
    >>> found = exact.gibbs(Problem([[1.0]], [0.0], loss="squared", reg=0.1, temperature=0.1))
    >>> found.attained, round(found.free_energy, 6)
    (True, -0.114473)
    """
    problem.neuron.require_relu("exact.gibbs")
    problem.require_plain("exact.gibbs")
    problem.loss.require("exact.gibbs", "conjugate", "conjugate_gradient", "conjugate_hessian")
    reg = problem.reg.end if step is None else problem.reg(step)
    tau = problem.temperature.end if step is None else problem.temperature(step)
    if not tau > 0:
        raise InputError(f"temperature = {tau!r}: must be positive for a Gibbs measure; see exact.optimum for 0")
    if problem.n * problem.outputs > 4000:
        raise InputError(f"gibbs: {problem.n} examples × {problem.outputs} outputs: must be at most 4000 numbers")
    fine, coarse = sphere_nodes(problem.X, nodes, seed)
    dual = Dual(problem, reg, tau, fine)
    return _judged(problem, dual, dual.maximized(), coarse, seed)


def _judged(problem: Problem, dual: Dual, a: np.ndarray, coarse: Nodes, seed: int) -> Gibbs:
    """Decide whether the stationary point over the nodes is one of the integral."""
    reg = dual.reg
    starts = np.concatenate([random_starts(problem.X, 500, seed=seed), dual.heaviest(a)])
    peaks = climb(problem.X, a, starts)
    highest = float(peaks.value[0]) if len(peaks.value) else 0.0
    if highest > 2 * reg * (1 - 1e-12):  # nodes do not see every peak: pull the point into the domain
        a = a * (2 * reg * (1 - 1e-9) / highest)
        highest = 2 * reg * (1 - 1e-9)
    value, error = dual.value(a), abs(dual.value(a) - Dual(problem, reg, dual.tau, coarse).value(a))
    weights, G, f = dual.moments(a)
    residual = float(np.abs(a - problem.loss.residual(f, problem.targets)).max()) * problem.n
    effective = 1 / float(np.sum(weights**2))
    min_q = 1 - (highest / (2 * reg)) ** 2
    resolved = (effective >= 50 or problem.d == 1) and dual.peak_share(a, min_q) <= PEAK_SHARE
    attained = bool(resolved and residual < 1e-6 and error <= 1e-3 * abs(dual.tau) + 1e-8)
    energy = None
    if attained:  # F[ρ_a] − D(a) is Fenchel's gap between f(a) and a
        loss, t = problem.loss, problem.targets
        energy = value + loss.value(f, t) + loss.conjugate(a, t) - float(np.sum(a * f))
    return Gibbs(
        a=a,
        lower_bound=value,
        error=error,
        attained=attained,
        f=f if attained else None,
        free_energy=energy,
        min_q=min_q,
        residual=residual,
        effective=effective,
        nodes=dual.nodes.s,
        weights=weights,
        reg=reg,
        temperature=dual.tau,
        _G=G,
    )


PEAK_SHARE = 0.02  # of the integral, that one quasi-random node at the peak would carry: above, the nodes miss the peak


class Dual:
    """D(a) and its derivatives over fixed nodes, in the coordinates of the loss's `dual_basis`."""

    def __init__(self, problem: Problem, reg: float, tau: float, nodes: Nodes) -> None:
        self.problem, self.reg, self.tau, self.nodes = problem, reg, tau, nodes
        self.phi = np.maximum(nodes.s @ problem.X.T, 0.0)
        self.T = problem.loss.dual_basis(problem.outputs)

    def value(self, a: np.ndarray) -> float:
        """D(a); −inf outside the domain."""
        d, C, half = self.problem.d, self.problem.outputs, 0.5 * self.problem.d
        q = self._q(self.phi @ a)
        if not q.min() > 0:
            return -np.inf
        logs = np.log(self.nodes.weight) - half * np.log(q)
        top = logs.max()
        log_z = 0.5 * (C + d) * np.log(np.pi * self.tau / self.reg) + top + np.log(np.exp(logs - top).sum())
        return -self.problem.loss.conjugate(a, self.problem.targets) - self.tau * float(log_z)

    def _q(self, G: np.ndarray) -> np.ndarray:
        return 1 - np.sum(G * G, axis=1) / (2 * self.reg) ** 2

    def moments(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities of the nodes (N,), G_a there (N, C), and the predictions f(a) (n, C)."""
        G = self.phi @ a
        q = self._q(G)
        logs = np.log(self.nodes.weight) - 0.5 * self.problem.d * np.log(q)
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        factor = self.problem.d * self.tau / (2 * self.reg) ** 2
        return weights, G, -factor * self.phi.T @ ((weights / q)[:, None] * G)

    def peak_share(self, a: np.ndarray, min_q: float) -> float:
        """The share of the integral that one node at the highest peak would carry; 0 for quadrature (d ≤ 3)."""
        half = 0.5 * self.problem.d
        if self.problem.d <= 3:
            return 0.0
        q = self._q(self.phi @ a)
        return float(np.inf if not (min_q > 0 and q.min() > 0) else min_q**-half / np.sum(q**-half))

    def heaviest(self, a: np.ndarray) -> np.ndarray:
        """The 100 nodes (100, d) of largest ‖G_a‖."""
        return self.nodes.s[np.argsort(-self._pulls(a))[:100]]

    def _pulls(self, a: np.ndarray) -> np.ndarray:
        return np.linalg.norm(self.phi @ a, axis=1)

    def maximized(self) -> np.ndarray:
        """Damped Newton from a small multiple of the residual of the zero network."""
        problem = self.problem
        a = problem.loss.residual(np.zeros((problem.n, problem.outputs)), problem.targets)
        a = a * min(0.5, 1.8 * self.reg / max(float(self._pulls(a).max()), 1e-300))
        value = self.value(a)
        for _ in range(200):
            gradient, hessian = self._derivatives(a)
            step = scipy.linalg.solve(hessian, gradient.ravel(), assume_a="sym").reshape(gradient.shape) @ self.T
            rise, eta = float(np.sum(gradient * (step @ self.T.T))), 1.0
            if not rise > 1e-24:
                break
            while eta > 1e-10:
                new = self.value(a + eta * step)
                if new >= value + 1e-4 * eta * rise - 1e-15 * abs(value) and self._inside(a + eta * step):
                    break
                eta *= 0.5
            else:
                break
            a, value = a + eta * step, new
        return a

    def _inside(self, a: np.ndarray) -> bool:
        """Whether R* has a gradient at a: it has none at the edge of its domain and beyond."""
        return bool(np.isfinite(self.problem.loss.conjugate_gradient(a, self.problem.targets)).all())

    def _derivatives(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """∇D and −∇²D in the coordinates of T: (n, C') and (n C', n C')."""
        problem, n = self.problem, self.problem.n
        weights, G, f = self.moments(a)
        q, g = self._q(G), G @ self.T.T
        kappa, C = problem.d / (2 * self.reg) ** 2, self.T.shape[0]
        slope = problem.loss.conjugate_gradient(a, problem.targets)
        H = np.empty((n, C, n, C))
        mean = kappa * self.phi.T @ ((weights / q)[:, None] * g)
        for i in range(C):
            for j in range(i, C):
                both = weights * g[:, i] * g[:, j] / q**2 * (kappa**2 + 2 * kappa / (2 * self.reg) ** 2)
                if i == j:
                    both = both + kappa * weights / q
                H[:, i, :, j] = H[:, j, :, i] = self.tau * (self.phi.T * both) @ self.phi
                spread = self.tau * np.outer(mean[:, i], mean[:, j])
                H[:, i, :, j] -= spread
                if i != j:
                    H[:, j, :, i] -= spread.T
        k = np.arange(n)
        own = problem.loss.conjugate_hessian(a, problem.targets)
        H[k, :, k, :] += np.einsum("ic,ncd,jd->nij", self.T, own, self.T)
        return (f - slope) @ self.T.T, H.reshape(n * C, n * C)
