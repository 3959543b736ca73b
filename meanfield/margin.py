"""The largest normalized margin of any infinite-width network: the ℓ1-SVM over all relu features.

γ_ℓ1 = max { min_i y_i Σ_j c_j relu(u_j·x_i) : Σ|c_j| ≤ 1, ‖u_j‖ = 1 } = min over p in the simplex of max_u |G_{p
y}(u)|. With balanced neurons ∫‖θ‖² dρ = 2 Σ|c_j|, so γ* = γ_ℓ1/2 (arXiv 1810.05369, theorem 4.1 and around). Column
generation: a linear program over the neurons at hand gives c and p, climbing |G| at p (and halfway to the best p so
far, which damps the jumps of vertex solutions) the next neurons.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
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
    """`margin` is attained by the neurons w (K, 1), u (K, d): f(x) = Σ_j w_j relu(u_j·x) with Σ ‖w_j‖² + ‖u_j‖² = 1.

    upper ≥ γ* if `rigorous`, else an estimate of such a bound, from the weights `dual` p (n,), p ≥ 0, Σ p = 1. margin
    is 0, without neurons, where no network separates the data.
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


def max_margin(
    X: Any, y: Any, *, tolerance: float = 1e-5, seconds: float = 60.0, seed: int = 0, threads: int | None = None
) -> MaxMargin:
    """γ* of inputs X (n, d) with two classes y (n,), to a relative (estimated) gap of `tolerance` or for `seconds`.

    InputError: as for a logistic Problem.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds = {seconds!r}: must be positive")
    problem = Problem(X, y, loss="logistic")
    with single_threaded_blas():
        return _Columns(problem.X, problem.targets, seed, threads or default_threads()).solved(tolerance, seconds)


class _Columns:
    """Neurons so far, both signs of each, and the best dual weights; inputs scaled to a longest one of 1."""

    def __init__(self, X: np.ndarray, t: np.ndarray, seed: int, threads: int) -> None:
        self.scale = float(np.linalg.norm(X, axis=1).max()) or 1.0
        self.X, self.t, self.threads = X / self.scale, t, threads
        self.rng = np.random.default_rng(seed)
        self.u, self.c = np.zeros((0, X.shape[1])), np.zeros(0)
        self.value, self.upper, self.best = 0.0, np.inf, np.full(len(t), 1 / len(t))

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
            self.u = np.concatenate([self.u, *new])
            p = self._program()
            rounds += 1
        return self._result(rounds, began)

    def _judge(self, p: np.ndarray, starts: int = 200) -> np.ndarray:
        """Peaks of |G| at p, as new neurons; p becomes the best if its highest peak is the lowest."""
        a = (p * self.t)[:, None]
        U = np.concatenate([random_starts(self.X, a, starts, self.rng), self.u[-300:]])
        peaks = climb(self.X, a, U, threads=self.threads)
        highest = float(peaks.value[0]) if len(peaks.value) else 0.0
        if highest < self.upper:
            self.upper, self.best = highest, p
        above = peaks.value > self.value * (1 + 1e-10)
        return distinct(Peaks(peaks.u[above], peaks.value[above]), 30).u

    def _program(self) -> np.ndarray:
        """Solve for c over the neurons at hand; returns the weights p. Neurons far from binding are dropped."""
        n, K = len(self.t), len(self.u)
        signed = self.t[:, None] * np.maximum(self.X @ self.u.T, 0.0)
        rows = np.hstack([-signed, signed, np.ones((n, 1))])
        cost = np.append(np.zeros(2 * K), -1.0)
        total = np.append(np.ones(2 * K), 0.0)[None]
        found = linprog(cost, A_ub=rows, b_ub=np.zeros(n), A_eq=total, b_eq=[1.0],
                        bounds=[(0, None)] * (2 * K) + [(None, None)], method="highs")  # fmt: skip
        if found.status != 0:
            raise ArithmeticError(f"the linear program of {n} examples and {K} neurons failed: {found.message}")
        p = np.maximum(-found.ineqlin.marginals, 0.0)
        p /= p.sum()
        self.c = found.x[:K] - found.x[K : 2 * K]
        pulls = np.abs(signed.T @ p)
        keep = (np.abs(self.c) > 0) | (pulls >= np.sort(pulls)[-min(K, _KEPT)])
        self.u, self.c = self.u[keep], self.c[keep]
        self.value = max(0.0, float((signed[:, keep] @ self.c).min()) / max(np.abs(self.c).sum(), 1e-300))
        return p

    def _result(self, rounds: int, began: float) -> MaxMargin:
        c = np.append(self.c, np.zeros(len(self.u) - len(self.c)))
        used = np.abs(c) > 0 if self.value > 0 else np.zeros(len(c), bool)
        c, u = c[used], self.u[used]
        root = np.sqrt(np.abs(c) / (2 * max(np.abs(c).sum(), 1e-300)))[:, None]
        a = (self.best * self.t)[:, None]
        proof = bound_on_sphere(self.X, a, seconds=3.0, threads=self.threads) if self.upper > 0 else None
        rigorous = proof is not None and proof.closed
        upper = proof.upper * (1 + 1e-12) if rigorous and proof is not None else self.upper
        half = 0.5 * self.scale
        return MaxMargin(self.value * half, upper * half, rigorous, np.sign(c)[:, None] * root, u * root, self.best,
                         rounds, time.monotonic() - began)  # fmt: skip
