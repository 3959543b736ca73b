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

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from scipy.optimize import linprog

from .arrangement import bound_on_sphere
from .ascent import Peaks, climb, distinct, random_starts
from .errors import InputError
from .problem import Problem
from .sweep import default_threads
from .threads import single_threaded_blas

_KEPT = 1200  # neurons kept in the program: those nearest to binding


@dataclass(frozen=True)
class MaxMargin:
    """`margin` is attained by the neurons w (K, C), u (K, d): f(x) = Σ_j w_j relu(u_j·x) with Σ ‖w_j‖² + ‖u_j‖² = 1.

    upper ≥ γ* if `rigorous`, else an estimate of such a bound, from the weights `dual` p, p ≥ 0, Σ p = 1: (n,), or
    (n, C) with 0 at the own class for cross-entropy. margin is 0, without neurons, where no network separates the data.
    """

    margin: float
    upper: float
    rigorous: bool
    w: np.ndarray
    u: np.ndarray
    dual: np.ndarray
    rounds: int
    seconds: float

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
    of max ‖G_p‖ against KL was doubled the last time; an estimate of its error.
    """

    margin: float
    dual: np.ndarray
    divergence: float
    excess: float
    peak: float
    precision: float
    rounds: int
    seconds: float

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
    X: Any, y: Any, *, loss: str = "logistic", tolerance: float = 1e-5, seconds: float = 60.0, seed: int = 0,
    threads: int | None = None,
) -> MaxMargin:  # fmt: skip
    """γ* of inputs X (n, d) and classes y (n,), to a relative (estimated) gap of `tolerance` or for `seconds`.

    loss: "logistic" (two classes, margins y f) or "cross_entropy" (any number, margins f_y − max of the others).
    InputError: as for a Problem with that loss, another loss, seconds that are not positive.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds = {seconds!r}: must be positive")
    pairs = _Pairs(X, y, loss)
    with single_threaded_blas():
        return _Columns(pairs, seed, threads or default_threads()).solved(tolerance, seconds)


def margin_law(
    X: Any, y: Any, found: MaxMargin | None = None, *, loss: str = "logistic", weight: float = 80.0,
    tolerance: float = 1e-4, rounds: int = 400, seed: int = 0, threads: int | None = None,
) -> MarginLaw:  # fmt: skip
    """The dual optimal weights of least KL, and with them c, of inputs X (n, d) and classes y (n,).

    p minimizes weight · max_u ‖G_p(u)‖/2γ* + KL(p), which tends to the least KL among the dual optimal as weight → ∞;
    weight is doubled up to the one given, each time to a gap of `tolerance` (in units of KL, estimated by climbing) or
    until there have been `rounds`. found: what max_margin returned for the same data (computed if not given).
    InputError: as for max_margin; data that no network separates.
    """
    found = found or max_margin(X, y, loss=loss)
    if not found.margin > 0:
        raise InputError("y: no network separates these data, so their margins obey no law")
    if not weight > 0:
        raise InputError(f"weight = {weight!r}: must be positive")
    with single_threaded_blas():
        search = _Entropic(_Pairs(X, y, loss), found, seed, threads or default_threads())
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
    c, _ = _program(np.concatenate([A := pairs.margins(np.ones((len(u), 1)), u), -A]))
    c = c[: len(u)] - c[len(u) :]
    margin = float((c @ A).min()) / max(np.abs(c).sum(), 1e-300)
    root = np.sqrt(np.abs(c) / (2 * max(np.abs(c).sum(), 1e-300)))[:, None] * (margin > 0)
    return max(0.0, margin) * 0.5 * pairs.scale, np.sign(c)[:, None] * root, u * root


def _program(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """c (K,) ≥ 0 with Σ c = 1 for which the least of Aᵀc, A (K, n), is largest, and the dual weights p (n,)."""
    K, n = A.shape
    found = linprog(np.append(np.zeros(K), -1.0), A_ub=np.hstack([-A.T, np.ones((n, 1))]), b_ub=np.zeros(n),
                    A_eq=np.append(np.ones(K), 0.0)[None], b_eq=[1.0],
                    bounds=[(0, None)] * K + [(None, None)], method="highs")  # fmt: skip
    if found.status != 0:
        raise ArithmeticError(f"the linear program of {n} margins and {K} neurons failed: {found.message}")
    p = np.maximum(-found.ineqlin.marginals, 0.0)
    return found.x[:K], p / p.sum()


class _Pairs:
    """The margins as linear functions of the outputs: margin_ir = T_ir · f(x_i), one r a competing class.

    Inputs X are scaled to a longest one of 1, `scale` the length before.
    """

    def __init__(self, X: Any, y: Any, loss: str) -> None:
        if loss not in ("logistic", "cross_entropy"):
            raise InputError(f"loss = {loss!r}: must be 'logistic' or 'cross_entropy', which have margins")
        problem = Problem(X, y, loss=loss)
        self.scale = float(np.linalg.norm(problem.X, axis=1).max()) or 1.0
        self.X, self.C = problem.X / self.scale, problem.outputs
        self.n, t = len(self.X), problem.targets
        if loss == "logistic":
            self.T = t[:, None, None]
        else:
            eye = np.eye(self.C)
            self.T = np.stack([eye[k] - np.delete(eye, k, axis=0) for k in t])

    @property
    def count(self) -> int:
        return self.T.shape[0] * self.T.shape[1]

    def margins(self, v: np.ndarray, u: np.ndarray) -> np.ndarray:
        """(K, count): of the networks v_j relu(u_j·x)."""
        one = np.einsum("nrc,kc->knr", self.T, v) * np.maximum(u @ self.X.T, 0.0)[:, :, None]
        return one.reshape(len(u), -1)

    def point(self, p: np.ndarray) -> np.ndarray:
        """a (n, C) of weights p (count,), so that p · margins of (v, u) = v · G_a(u)."""
        return np.einsum("nr,nrc->nc", p.reshape(self.n, -1), self.T)

    def pull(self, p: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Unit vectors v (K, C) of G_a(u): the output weights that gain most at u."""
        G = np.maximum(u @ self.X.T, 0.0) @ self.point(p)
        return G / np.maximum(np.linalg.norm(G, axis=1, keepdims=True), 1e-300)

    def spread(self, p: np.ndarray) -> np.ndarray:
        """p (count,) as the public `dual`: (n,), or (n, C) with 0 at the own class."""
        if self.C == 1:
            return p
        return np.where(self.T.sum(axis=1) > 0, 0.0, np.einsum("nr,nrc->nc", p.reshape(self.n, -1), -self.T))


class _Columns:
    """Neurons (v, u) so far, their weights c ≥ 0, and the best dual weights."""

    def __init__(self, pairs: _Pairs, seed: int, threads: int) -> None:
        self.pairs, self.threads = pairs, threads
        self.rng = np.random.default_rng(seed)
        self.v, self.u, self.c = np.zeros((0, pairs.C)), np.zeros((0, pairs.X.shape[1])), np.zeros(0)
        self.value, self.upper, self.best = 0.0, np.inf, np.full(pairs.count, 1 / pairs.count)

    def solved(self, tolerance: float, seconds: float) -> MaxMargin:
        began, rounds = time.monotonic(), 0
        p = self.best
        while True:
            mixes = (1.0,) if rounds == 0 else (1.0, 0.5, 0.1)
            new = [self._judge(share * p + (1 - share) * self.best) for share in mixes]
            if self.upper - self.value <= tolerance * self.upper:
                self.upper = np.inf
                new.append(self._judge(self.best, 2000))
                if self.upper - self.value <= tolerance * self.upper:
                    break
            if time.monotonic() - began > seconds or not self.upper > 0:
                break
            self.v = np.concatenate([self.v, *(v for v, _ in new)])
            self.u = np.concatenate([self.u, *(u for _, u in new)])
            p = self._refit()
            rounds += 1
        return self._result(rounds, began)

    def _judge(self, p: np.ndarray, starts: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Peaks of ‖G‖ at p, as new neurons; p becomes the best if its highest peak is the lowest."""
        X, a = self.pairs.X, self.pairs.point(p)
        U = np.concatenate([random_starts(X, a, starts, self.rng), self.u[-300:]])
        peaks = climb(X, a, U, threads=self.threads)
        highest = float(peaks.value[0]) if len(peaks.value) else 0.0
        if highest < self.upper:
            self.upper, self.best = highest, p
        above = peaks.value > self.value * (1 + 1e-10)
        u = distinct(Peaks(peaks.u[above], peaks.value[above]), 30).u
        return self.pairs.pull(p, u), u

    def _refit(self) -> np.ndarray:
        """Solve for c over the neurons at hand; returns the weights p. Neurons far from binding are dropped."""
        A = self.pairs.margins(self.v, self.u)
        c, p = _program(A)
        pulls = A @ p
        keep = (c > 0) | (pulls >= np.sort(pulls)[-min(len(pulls), _KEPT)])
        self.v, self.u, self.c = self.v[keep], self.u[keep], c[keep]
        self.value = max(0.0, float((self.c @ A[keep]).min()) / max(self.c.sum(), 1e-300))
        return p

    def _result(self, rounds: int, began: float) -> MaxMargin:
        pairs, c = self.pairs, np.append(self.c, np.zeros(len(self.u) - len(self.c)))
        used = c > 0 if self.value > 0 else np.zeros(len(c), bool)
        root = np.sqrt(c[used] / (2 * max(c[used].sum(), 1e-300)))[:, None]
        proof = None
        if self.upper > 0:
            proof = bound_on_sphere(pairs.X, pairs.point(self.best), seconds=3.0, threads=self.threads)
        rigorous = proof is not None and proof.closed
        upper = proof.upper * (1 + 1e-12) if rigorous and proof is not None else self.upper
        half = 0.5 * pairs.scale
        return MaxMargin(self.value * half, upper * half, rigorous, self.v[used] * root, self.u[used] * root,
                         pairs.spread(self.best), rounds, time.monotonic() - began)  # fmt: skip


class _Entropic:
    """Neurons (v, u) with weights c ≥ 0, and p = softmax(−margins), which balances max ‖G_p‖ against KL(p).

    The dual of min_p S max_u ‖G_p(u)‖ + KL(p) is the least log mean exp(−margins) over networks with Σ c = S.
    """

    def __init__(self, pairs: _Pairs, found: MaxMargin, seed: int, threads: int) -> None:
        self.pairs, self.threads, self.rng = pairs, threads, np.random.default_rng(seed)
        self.found, self.began, self.rounds = found, time.monotonic(), 0
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
        margin = max(self.found.margin, 0.5 * self.pairs.scale * float((_program(A)[0] @ A).min()))
        return MarginLaw(margin, self.pairs.spread(self.p), self._divergence(), self._excess(),
                         0.5 * self.pairs.scale * self.peak / margin, abs(deficits[-1] - deficits[-2]), self.rounds,
                         time.monotonic() - self.began)  # fmt: skip

    def _settle(self, S: float, tolerance: float, rounds: int) -> None:
        """Add peaks of ‖G_p‖ and refit, until no peak exceeds those of the neurons at hand by tolerance/S."""
        self.c *= S / self.c.sum()
        starts = 100
        while True:
            A = self.pairs.margins(self.v, self.u)
            self.c, self.p = soft_margin(A, self.c, S, 0.1 * tolerance)
            pulls = A @ self.p
            keep = (self.c > 1e-5 * S / len(A)) | (pulls > pulls.max() * (1 - 1e-3))
            self.v, self.u, self.c = self.v[keep], self.u[keep], self.c[keep]
            X, a = self.pairs.X, self.pairs.point(self.p)
            peaks = climb(X, a, np.concatenate([random_starts(X, a, starts, self.rng), self.u]), threads=self.threads)
            self.peak = max(float(peaks.value[0]), float(pulls.max()))
            self.rounds += 1
            if S * (self.peak - pulls.max()) <= tolerance or self.rounds >= rounds:
                if starts == 1000 or self.rounds >= rounds:
                    return
                starts = 1000  # a last look from more starts
            above = peaks.value > pulls.max() * (1 + 1e-10)
            self._add(distinct(Peaks(peaks.u[above], peaks.value[above]), 40).u, 1e-3 * S)

    def _add(self, u: np.ndarray, share: float) -> None:
        if len(u):
            self.v, self.u = np.concatenate([self.v, self.pairs.pull(self.p, u)]), np.concatenate([self.u, u])
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
