"""The largest normalized margin of any infinite-width network, and how the regularized optimum approaches it.

γ_ℓ1 = max { min_i y_i Σ_j c_j relu(u_j·x_i) : Σ|c_j| ≤ 1, ‖u_j‖ = 1 } = min over p in the simplex of max_u |G_{p
y}(u)|, the ℓ1-SVM over all relu features. With balanced neurons ∫‖θ‖² dρ = 2 Σ|c_j|, so γ* = γ_ℓ1/2 (arXiv
1810.05369, theorem 4.1 and around). With several classes the margins are f_{y_i} − f_c, p has a weight for each pair
(i, c ≠ y_i), neurons carry unit vectors v_j (C,) and Σ|c_j| becomes Σ‖w_j‖.

`max_margin`: column generation. A linear program over the neurons at hand gives their weights and p, climbing ‖G‖ at p
(and halfway to the best p so far, which damps the jumps of vertex solutions) the next neurons.

`margin_law`: as λ → 0, of all dual optimal p the optimum of a loss with an exponential tail takes the one nearest to
the uniform law, which minimizes KL = Σ p log(n p): its dual value is σ (log 1/σ + 1 − KL) with σ = 2λ/max‖G_p‖. So

    y_i f_i = log(γ*/λ) − log(n p_i),    ∫‖θ‖² dρ = (log(γ*/λ) − KL)/γ*,    and, dividing the least by the latter,
    γ(ρ_λ) = γ* (1 − c/log(1/λ) + O(1/log²)),    c = max_i log(n p_i) − KL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from scipy.optimize import linprog

from ..engine.engine import default_threads
from ..errors import InputError
from ..problem import Problem
from ..runtime.threads import single_threaded_blas
from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .sphere_ascent import Peaks, climb, distinct, random_starts

_WORK = 6e10  # of `max_margin`: about a minute of one core
_PROOF = 0.05  # of it, for bounding the last dual weights
_KEPT = 1200  # neurons kept in the program: those nearest to binding


@dataclass(frozen=True)
class MaxMargin:
    """`margin` is attained by the neurons w (K, C), u (K, d): f(x) = Σ_j w_j relu(u_j·x) with Σ ‖w_j‖² + ‖u_j‖² = 1.

    upper ≥ γ* if `rigorous`, else an estimate of such a bound, from the weights `dual` p, p ≥ 0, Σ p = 1: (n,), or
    (n, C) with 0 at the own class for cross-entropy. margin is 0, without neurons, where no network separates the data
    or none was found yet: upper tells. cut_short: a limit in seconds ended the search before its work was done.
    """

    margin: float
    upper: float
    rigorous: bool
    w: np.ndarray
    u: np.ndarray
    dual: np.ndarray
    rounds: int
    seconds: float
    cut_short: bool = False

    @property
    def gap(self) -> float:
        return self.upper - self.margin

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n, C) float64 at X (n, d)."""
        return np.maximum(X @ self.u.T, 0.0) @ self.w


@dataclass(frozen=True)
class MarginLaw:
    """The approach of the regularized optimum to γ* as λ → 0, from the dual solution `dual` of least KL.

    margin: γ* as the better of two linear programs has it, max_margin's and one over the neurons met here. dual: (n,),
    or (n, C) with 0 at the own class; `divergence` = KL, `excess` = max log(n p), natural logarithms. `peak`
    = max_u ‖G_p(u)‖/2γ* found by climbing: 1 where p is optimal. `precision`: how much `deficit` moved when the weight
    of max ‖G_p‖ against KL was doubled the last time; an estimate of its error. cut_short: a limit in seconds ended the
    search before its work was done.
    """

    margin: float
    dual: np.ndarray
    divergence: float
    excess: float
    peak: float
    precision: float
    rounds: int
    seconds: float
    cut_short: bool = False

    @property
    def deficit(self) -> float:
        """c of γ(ρ_λ) = γ* (1 − c/log(1/λ) + …)."""
        return self.excess - self.divergence

    def margin_at(self, reg: Any) -> Any:
        """γ(ρ_λ) to all orders that p* alone decides: γ* (log(γ*/λ) − excess)/(log(γ*/λ) − KL), for λ ≪ γ*."""
        size = np.log(self.margin / np.asarray(reg))
        return self.margin * (size - self.excess) / (size - self.divergence)

    def norm_at(self, reg: Any) -> Any:
        """∫‖θ‖² dρ_λ = (log(γ*/λ) − KL)/γ*, for λ ≪ γ*."""
        return (np.log(self.margin / np.asarray(reg)) - self.divergence) / self.margin


def max_margin(
    X: Any,
    y: Any,
    *,
    loss: str = "logistic",
    tolerance: float = 1e-5,
    effort: float = 1.0,
    seconds: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> MaxMargin:
    """γ* of inputs X (n, d) and classes y (n,), to a relative (estimated) gap of `tolerance`, or what `effort` gives.

    effort 1 is about a minute of one core, counted in work: the answer is the same every time, and more never gives a
    smaller margin. A limit in `seconds` only cuts it short. loss: "logistic" (two classes, margins y f) or
    "cross_entropy" (any number, margins f_y − max of the others). InputError: as for a Problem with that loss, another
    loss, effort or seconds not positive.
    """
    budget = Budget.of(_WORK, effort, seconds)
    pairs = _Pairs(X, y, loss)
    with single_threaded_blas():
        return _Columns(pairs, seed, threads or default_threads(), budget).solved(tolerance)


def margin_law(
    X: Any,
    y: Any,
    found: MaxMargin | None = None,
    *,
    loss: str = "logistic",
    weight: float = 80.0,
    tolerance: float = 1e-4,
    rounds: int = 400,
    seconds: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> MarginLaw:
    """The dual optimal weights of least KL, and with them c, of inputs X (n, d) and classes y (n,).

    p minimizes weight · max_u ‖G_p(u)‖/2γ* + KL(p), which tends to the least KL among the dual optimal as weight → ∞;
    weight is doubled up to the one given, each time to a gap of `tolerance` (in units of KL, estimated by climbing) or
    until there have been `rounds`; a limit in `seconds` only cuts that short. found: what max_margin returned for the
    same data (computed if not given). InputError: as for max_margin; data that no network separates.
    """
    budget = Budget.of(np.inf, 1.0, seconds)
    found = found or max_margin(X, y, loss=loss, seconds=seconds)
    if not found.margin > 0:
        raise InputError("y: no network separates these data, so their margins obey no law")
    if not weight > 0:
        raise InputError(f"weight = {weight!r}: must be positive")
    with single_threaded_blas():
        search = _Entropic(_Pairs(X, y, loss), found, seed, threads or default_threads(), budget)
        return search.solved(weight, tolerance, rounds)


def refitted(X: Any, y: Any, u: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """The largest normalized margin of all networks whose neurons have the directions u (m, d), and such a network.

    One linear program, for inputs X (n, d) and two classes y (n,). Returns the margin, w (m, 1) and u (m, d), balanced,
    with Σ ‖w_j‖² + ‖u_j‖² = 1; the margin is 0, with w = u = 0, if no weights separate. InputError: as for max_margin.
    """
    pairs, u = _Pairs(X, y, "logistic"), np.asarray(u, dtype=np.float64)
    if u.ndim != 2 or u.shape[1] != pairs.X.shape[1] or not np.isfinite(u).all():
        raise InputError(f"u {u.shape}: must be (m, {pairs.X.shape[1]}), and finite")
    u = u / np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-300)
    A = pairs.margins(np.ones((len(u), 1)), u)
    c, _ = _program(np.concatenate([A, -A]), pairs.least)
    c = c[: len(u)] - c[len(u) :]
    margin = float((c @ A / pairs.least).min()) / max(np.abs(c).sum(), 1e-300)
    root = np.sqrt(np.abs(c) / (2 * max(np.abs(c).sum(), 1e-300)))[:, None] * (margin > 0)
    return max(0.0, margin) * 0.5 * pairs.scale, np.sign(c)[:, None] * root, u * root


def _program(A: np.ndarray, least: np.ndarray, corrections: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """c (K,) ≥ 0, Σ c = 1, for which γ = min Aᵀc/least, A (K, n), is largest, and dual weights q (n,), least·q = 1.

    A solver's tolerances are absolute: where `least` differs much, what it takes for feasible can be worth nothing. So
    γ is computed from c, and the program solved again for the correction that c lacks, magnified by the most that a
    row falls short of the dual value (iterative refinement: Gleixner, Steffy and Wolter 2016).
    """
    c, best, value, upper, short, q = np.zeros(len(A)), np.zeros(len(A)), -np.inf, 0.0, 1.0, np.zeros(0)
    for k in range(corrections + 1):
        try:
            change, weights = _corrected(A, least, (c @ A - upper * least) / short, c / short, float(k == 0))
        except ArithmeticError:
            if not k:
                raise
            break
        if (highest := float((A @ weights).max())) < upper or not k:
            upper, q = highest, weights
        c = np.maximum(0.0, c + short * change)
        c /= c.sum()
        before, margins = short, c @ A
        if (reached := float((margins / least).min())) > value:
            value, best = reached, c
        short = float((upper * least - margins).max())
        if upper - value <= 1e-10 * abs(upper) + 1e-15 or not 0 < short < before:
            break
    return best, q


def _corrected(
    A: np.ndarray, least: np.ndarray, slack: np.ndarray, room: np.ndarray, total: float
) -> tuple[np.ndarray, np.ndarray]:
    """δ (K,) ≥ −room with Σ δ = total and the largest t for which Aᵀδ + slack ≥ t least; and the dual weights."""
    K, n = A.shape
    for options in ({"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}, {}):
        found = linprog(
            np.append(np.zeros(K), -1.0),
            A_ub=np.hstack([-A.T, least[:, None]]),
            b_ub=slack,
            A_eq=np.append(np.ones(K), 0.0)[None],
            b_eq=[total],
            bounds=[*((-most, None) for most in room), (None, None)],
            method="highs",
            options=options,
        )
        if found.status == 0:
            q = np.maximum(-found.ineqlin.marginals, 0.0)
            return found.x[:K], q / (q @ least)
    raise ArithmeticError(f"the linear program of {n} margins and {K} neurons failed: {found.message}")


class _Pairs:
    """The margins as linear functions of the outputs: margin_ir = T_ir · f(x_i), one r a competing class.

    Inputs X are scaled to length 1, each by itself. A margin of the data is that of the scaled input times scale/least:
    `scale` is the length of the shortest input (of those that are not 0), `least` (count,) that over the length of its
    own. Weights q of the scaled inputs, least·q = 1, are weights p = least q of the data.
    """

    def __init__(self, X: Any, y: Any, loss: str) -> None:
        if loss not in ("logistic", "cross_entropy"):
            raise InputError(f"loss = {loss!r}: must be 'logistic' or 'cross_entropy', which have margins")
        problem = Problem(X, y, loss=loss)
        size = np.linalg.norm(problem.X, axis=1)
        self.scale = float(size[size > 0].min(initial=np.inf)) if size.any() else 1.0
        size = np.where(size > 0, size, self.scale)
        self.X, self.C = problem.X / size[:, None], problem.outputs
        self.n, t = len(self.X), problem.targets
        if loss == "logistic":
            self.T = t[:, None, None]
        else:
            eye = np.eye(self.C)
            self.T = np.stack([eye[k] - np.delete(eye, k, axis=0) for k in t])
        self.least = np.repeat(self.scale / size, self.T.shape[1])

    @property
    def count(self) -> int:
        return self.T.shape[0] * self.T.shape[1]

    def margins(self, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(K, count): of the networks v_j relu(u_j·x), on the scaled inputs."""
        one = np.einsum("nrc,kc->knr", self.T, v) * np.maximum(u @ self.X.T, 0.0)[:, :, None]
        return one.reshape(len(u), -1)

    def point(self, q: np.ndarray) -> np.ndarray:
        """a (n, C) of weights q (count,), so that q · margins of (v, u) = v · G_a(u)."""
        return np.einsum("nr,nrc->nc", q.reshape(self.n, -1), self.T)

    def pull(self, q: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Unit vectors v (K, C) of G_a(u): the output weights that gain most at u."""
        G = np.maximum(u @ self.X.T, 0.0) @ self.point(q)
        return G / np.maximum(np.linalg.norm(G, axis=1, keepdims=True), 1e-300)

    def spread(self, p: np.ndarray) -> np.ndarray:
        """p (count,) as the public `dual`: (n,), or (n, C) with 0 at the own class."""
        if self.C == 1:
            return p
        return np.where(self.T.sum(axis=1) > 0, 0.0, np.einsum("nr,nrc->nc", p.reshape(self.n, -1), -self.T))


class _Columns:
    """Neurons (v, u) so far, the dual weights with the lowest peak, and the best network: value, v, u and its c ≥ 0."""

    def __init__(self, pairs: _Pairs, seed: int, threads: int, budget: Budget) -> None:
        self.pairs, self.threads, self.budget = pairs, threads, budget
        self.seed, self.draws = seed, 0
        self.v, self.u = np.zeros((0, pairs.C)), np.zeros((0, pairs.X.shape[1]))
        self.network: tuple[float, np.ndarray, np.ndarray, np.ndarray] = 0.0, self.v, self.u, np.zeros(0)
        self.upper, self.best = np.inf, np.full(pairs.count, 1 / pairs.least.sum())

    @property
    def value(self) -> float:
        return self.network[0]

    def solved(self, tolerance: float) -> MaxMargin:
        rounds, q = 0, self.best
        self.budget.share = 1 - _PROOF
        while True:
            mixes = (1.0,) if rounds == 0 else (1.0, 0.5, 0.1)
            new = [self._judge(share * q + (1 - share) * self.best) for share in mixes]
            if self.upper - self.value <= tolerance * self.upper:
                self.upper = np.inf
                new.append(self._judge(self.best, 2000))
                if self.upper - self.value <= tolerance * self.upper:
                    break
            if not self.upper > 0 or self.budget.over():
                break
            self.v = np.concatenate([self.v, *(v for v, _ in new)])
            self.u = np.concatenate([self.u, *(u for _, u in new)])
            try:
                q = self._refit()
            except ArithmeticError:  # the solver's: what was found before stands, with its gap
                break
            rounds += 1
        return self._result(rounds)

    def _judge(self, q: np.ndarray, starts: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Peaks of ‖G‖ at q, as new neurons; q becomes the best if its highest peak is the lowest."""
        X, a, climbing = self.pairs.X, self.pairs.point(q), Budget()  # uncut: a peak overlooked would pass for a bound
        U = np.concatenate([random_starts(X, starts, seed=self.seed, draw=self.draws), self.u[-300:]])
        peaks = climb(X, a, U, threads=self.threads, budget=climbing)
        self.draws += 1
        self.budget.took(climbing)
        highest = float(peaks.value[0]) if len(peaks.value) else 0.0
        if highest < self.upper:
            self.upper, self.best = highest, q
        above = peaks.value > self.value * (1 + 1e-10)
        u = distinct(Peaks(peaks.u[above], peaks.value[above]), 30).u
        return self.pairs.pull(q, u), u

    def _refit(self) -> np.ndarray:
        """Solve for c over the neurons at hand; returns the weights q. Neurons far from binding are dropped."""
        A = self.pairs.margins(self.v, self.u)
        self.budget.spend(1200 * A.size)
        c, q = _program(A, self.pairs.least)
        value = float((c @ A / self.pairs.least).min())
        if value > self.value:
            self.network = value, self.v, self.u, c
        pulls = A @ q
        keep = (c > 0) | (pulls >= np.sort(pulls)[-min(len(pulls), _KEPT)])
        self.v, self.u = self.v[keep], self.u[keep]
        return q

    def _result(self, rounds: int) -> MaxMargin:
        pairs, (value, v, u, c) = self.pairs, self.network
        used = c > 0
        root = np.sqrt(c[used] / (2 * max(c.sum(), 1e-300)))[:, None]
        proof, self.budget.share = None, 1.0
        if self.upper > 0:
            part = self.budget.part(1.0, least=_PROOF)
            proof = bound_on_sphere(pairs.X, pairs.point(self.best), budget=part, threads=self.threads)
            self.budget.took(part)
        rigorous = proof is not None and proof.closed
        upper = proof.upper * (1 + 1e-12) if rigorous and proof is not None else self.upper
        half = 0.5 * pairs.scale
        return MaxMargin(
            value * half,
            upper * half,
            rigorous,
            v[used] * root,
            u[used] * root,
            pairs.spread(pairs.least * self.best),
            rounds,
            self.budget.seconds,
            self.budget.cut_short,
        )


class _Entropic:
    """Neurons (v, u) with weights c ≥ 0, and p = softmax(−margins), which balances max ‖G_p‖ against KL(p).

    The dual of min_p S max_u ‖G_p(u)‖ + KL(p) is the least log mean exp(−margins) over networks with Σ c = S. Margins
    and ‖G_p‖ are in units of the shortest input's length.
    """

    def __init__(self, pairs: _Pairs, found: MaxMargin, seed: int, threads: int, budget: Budget) -> None:
        self.pairs, self.threads, self.budget = pairs, threads, budget
        self.seed, self.found, self.rounds = seed, found, 0
        self.u = found.u / np.linalg.norm(found.u, axis=1, keepdims=True)
        self.v = found.w / np.linalg.norm(found.w, axis=1, keepdims=True)
        self.c = np.linalg.norm(found.w, axis=1) ** 2
        self.p, self.peak = np.full(pairs.count, 1 / pairs.count), np.inf

    def solved(self, weight: float, tolerance: float, rounds: int) -> MarginLaw:
        unit = 2 * self.found.margin / self.pairs.scale  # of ‖G_p‖ in the inputs as they are scaled here
        doublings = max(1, int(np.ceil(np.log2(weight / 10)))) if weight > 10 else 1
        deficits = []
        for k in range(doublings, -1, -1):
            self._settle(weight / 2**k / unit, tolerance, rounds)
            deficits.append(self._excess() - self._divergence())
        A = self.pairs.margins(self.v, self.u)
        best = float((_program(A, self.pairs.least)[0] @ A / self.pairs.least).min())
        margin = max(self.found.margin, 0.5 * self.pairs.scale * best)
        return MarginLaw(
            margin,
            self.pairs.spread(self.p),
            self._divergence(),
            self._excess(),
            0.5 * self.pairs.scale * self.peak / margin,
            abs(deficits[-1] - deficits[-2]),
            self.rounds,
            self.budget.seconds,
            self.budget.cut_short,
        )

    def _settle(self, S: float, tolerance: float, rounds: int) -> None:
        """Add peaks of ‖G_p‖ and refit, until no peak exceeds those of the neurons at hand by tolerance/S."""
        self.c *= S / self.c.sum()
        X, starts = self.pairs.X, 100
        while True:
            A = self.pairs.margins(self.v, self.u) / self.pairs.least
            self.c, self.p = soft_margin(A, self.c, S, 0.1 * tolerance)
            pulls = A @ self.p
            keep = (self.c > 1e-5 * S / len(A)) | (pulls > pulls.max() * (1 - 1e-3))
            self.v, self.u, self.c = self.v[keep], self.u[keep], self.c[keep]
            U = np.concatenate([random_starts(X, starts, seed=self.seed, draw=self.rounds), self.u])
            peaks = climb(X, self.pairs.point(self._scaled()), U, threads=self.threads)
            self.peak = max(float(peaks.value[0]), float(pulls.max()))
            self.rounds += 1
            settled = S * (self.peak - pulls.max()) <= tolerance
            if self.rounds >= rounds or (settled and starts == 1000) or self.budget.over():
                return
            if settled:
                starts = 1000  # a last look from more starts
            above = peaks.value > pulls.max() * (1 + 1e-10)
            self._add(distinct(Peaks(peaks.u[above], peaks.value[above]), 40).u, 1e-3 * S)

    def _scaled(self) -> np.ndarray:
        """p as weights q of the scaled inputs."""
        return self.p / self.pairs.least

    def _add(self, u: np.ndarray, share: float) -> None:
        if len(u):
            self.v = np.concatenate([self.v, self.pairs.pull(self._scaled(), u)])
            self.u = np.concatenate([self.u, u])
            self.c = np.append(self.c, np.full(len(u), share / len(u)))

    def _divergence(self) -> float:
        p = self.p[self.p > 0]
        return float(np.sum(p * np.log(self.pairs.n * p)))

    def _excess(self) -> float:
        return float(np.log(self.pairs.n * self.p.max()))


def soft_margin(A: np.ndarray, c: np.ndarray, S: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """c (K,) > 0 with Σ c = S that minimizes log mean exp(−Aᵀc), A (K, n), from c, and p (n,) = softmax(−Aᵀc).

    Newton's method on the logarithmic barrier −μ Σ log c, μ lowered until the duality gap, S max Ap + KL(p) against
    −log mean exp(−Aᵀc), is at most 2 · tolerance, or for 300 steps. Where the margin is small against the inputs, c is
    large and the Hessian B Bᵀ + μ would lose μ to rounding; least squares with its root does not.
    """
    K = len(c)
    c = np.maximum(c, 1e-6 * S / K)
    c, mu = c * (S / c.sum()), 1e-2
    for _ in range(300):
        z = -(c @ A)
        p = np.exp(z - z.max())
        p /= p.sum()
        pulls = A @ p
        B = (A - pulls[:, None]) * np.sqrt(p) * c[:, None]  # everything relative to c, whose sizes differ widely
        g = c * ((c @ pulls) / S - pulls) - mu  # the multiplier of Σ c = S taken off already, as nearly as it is known
        Q, R = scipy.linalg.qr(np.vstack([B.T, np.sqrt(mu) * np.eye(K)]), mode="economic", check_finite=False)
        free, along = scipy.linalg.solve_triangular(R, Q[-K:].T @ np.stack([g, c], axis=1) / np.sqrt(mu)).T
        step = along * ((c @ free) / (c @ along)) - free
        slope = -float(g @ step)
        if K * mu <= tolerance and S * pulls.max() - c @ pulls <= 2 * tolerance:
            break
        if slope <= 0.1 * mu and K * mu > tolerance:
            mu = max(0.1 * mu, 0.99 * tolerance / K)
            continue
        c = _damped(A, c, step, mu, slope) if np.abs(step).max() > 0.01 else c * (1 + step)
        c *= S / c.sum()
    return c, p


def _damped(A: np.ndarray, c: np.ndarray, step: np.ndarray, mu: float, slope: float) -> np.ndarray:
    """c (1 + η step) for the first η = 1, ½, … that stays positive and lowers the barrier's objective enough."""

    def value(c: np.ndarray) -> float:
        z = -(c @ A)
        return float(z.max() + np.log(np.mean(np.exp(z - z.max()))) - mu * np.sum(np.log(c)))

    eta, before = min(1.0, 0.9 / max(1e-300, -float(step.min()))), value(c)
    while eta > 1e-12 and value(c * (1 + eta * step)) > before - 1e-4 * eta * slope + 1e-14 * abs(before):
        eta *= 0.5
    return c * (1 + eta * step)
