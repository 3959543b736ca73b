"""Weights of the margins that are near to uniform: the least of S max_u ‖G_p(u)‖ + KL(p) over p in the simplex.

Its dual is the least log mean exp(−margins) over networks with Σ‖w_j‖‖u_j‖ = S, and p = softmax(−margins) there. From
some S on p is, of all weights with the lowest max ‖G_p‖, the one of least KL = Σ p log(n p): the margin law rests on
it, and often it is what a bound on γ* is best proven by (`margin_bound`).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from .margin_program import Pairs
from .sphere_ascent import Peaks, climb, distinct, random_starts


class SoftMargins:
    """Neurons v (K, C) and u (K, d) with weights c (K,) > 0, and the weights p (count,) that belong to them.

    Margins and ‖G_p‖ are in units of the shortest input's length. `held` is the highest ‖G_p‖ of the neurons at hand,
    `peak` the highest known.
    """

    def __init__(self, pairs: Pairs, v: np.ndarray, u: np.ndarray, c: np.ndarray, seed: int, threads: int) -> None:
        self.pairs, self.v, self.u, self.c = pairs, v, u, c
        self.seed, self.draws, self.threads = seed, 0, threads
        self.p, self.held, self.peak = np.full(pairs.count, 1 / pairs.count), np.inf, np.inf
        self.size = float(c.sum())

    @property
    def scaled(self) -> np.ndarray:
        """p as weights q of the scaled inputs."""
        return self.p / self.pairs.least

    @property
    def work(self) -> float:
        """Of a refit, in about nanoseconds of one core: some fifty decompositions."""
        K = len(self.c)
        return 50 * (0.1 * (K + self.pairs.count) * K**2 + 1e5)

    def refit(self, S: float, tolerance: float, starts: int) -> Peaks:
        """c and p at Σ c = S, without the neurons that they do not need; and the peaks of ‖G_p‖ from so many starts."""
        self.size = S
        A = self.pairs.margins(self.v, self.u) / self.pairs.least
        self.c, self.p = soft_margin(A, self.c, S, tolerance)
        pulls = A @ self.p
        keep = (self.c > 1e-5 * S / len(A)) | (pulls > pulls.max() * (1 - 1e-3))
        self.v, self.u, self.c = self.v[keep], self.u[keep], self.c[keep]
        U = np.concatenate([random_starts(self.pairs.X, starts, seed=self.seed, draw=self.draws), self.u])
        peaks = climb(self.pairs.pulling, self.pairs.point(self.scaled), U, threads=self.threads)
        self.draws += 1
        self.held = float(pulls.max())
        self.peak = max(float(peaks.value[0]), self.held)
        return peaks

    def add(self, peaks: Peaks) -> None:
        """Those that pull harder than all neurons at hand become neurons."""
        above = peaks.value > self.held * (1 + 1e-10)
        u = distinct(Peaks(peaks.u[above], peaks.value[above]), 40).u
        if len(u):
            self.v = np.concatenate([self.v, self.pairs.pull(self.scaled, u)])
            self.u = np.concatenate([self.u, u])
            self.c = np.append(self.c, np.full(len(u), 1e-3 * self.size / len(u)))


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


__all__ = ["SoftMargins", "soft_margin"]
