"""How the regularized optimum's margin approaches the largest one as λ → 0.

Of all dual optimal p (see max_margin) the optimum of a loss with an exponential tail takes the one nearest to the
uniform law, which minimizes KL = Σ p log(n p): its dual value is σ (log 1/σ + 1 − KL) with σ = 2λ/max‖G_p‖. So

    y_i f_i = log(γ*/λ) − log(n p_i),    ∫‖θ‖² dρ = (log(γ*/λ) − KL)/γ*,    and, dividing the least by the latter,
    γ(ρ_λ) = γ* (1 − c/log(1/λ) + O(1/log²)),    c = max_i log(n p_i) − KL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from ..errors import InputError
from ..losses import Loss, get_loss
from ..runtime.threads import default_threads, single_threaded_blas
from .budget import Budget
from .margin_program import Pairs, solve_margin_program
from .max_margin import MaxMargin, max_margin
from .sphere_ascent import Peaks, climb, distinct, random_starts


@dataclass(frozen=True, kw_only=True)
class MarginLaw:
    """The approach of the regularized optimum to γ* as λ → 0, from the dual solution p of least KL = Σ p log(n p).

    Attributes
    ----------
    margin : float
        γ* as the better of two linear programs has it, max_margin's and one over the neurons met here.
    dual : ndarray (n,) or (n, C), float64
        p; with several classes 0 at the own class.
    divergence, excess : float
        KL and max log(n p), natural logarithms.
    peak : float
        max_u ‖G_p(u)‖/2γ* found by climbing: 1 where p is optimal.
    precision : float
        How much `deficit` moved when the weight of max ‖G_p‖ against KL was doubled the last time: an estimate of its
        error.
    rounds : int
        Of the search.
    seconds : float
        Wall-clock time.
    cut_short : bool
        Whether a limit in seconds ended the search before its work was done.

    Examples
    --------
    Two points, alike but for their side: p is uniform, and γ(ρ_λ) = γ* for every λ.

    >>> from meanfield import exact
    >>> law = exact.margin_law([[1.0], [-1.0]], [1, -1])
    >>> law.dual.round(4).tolist(), round(float(law.margin_at(1e-3)), 4), round(float(law.norm_at(1e-3)), 2)
    ([0.5, 0.5], 0.25, 22.09)
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


def margin_law(
    X: Any,
    y: Any,
    best: MaxMargin | None = None,
    *,
    loss: str | Loss = "logistic",
    weight: float = 80.0,
    tolerance: float = 1e-4,
    rounds: int = 400,
    seconds: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> MarginLaw:
    """How the optimum's normalized margin approaches γ* as λ → 0: γ(ρ_λ) = γ* (1 − c/log(1/λ) + …).

    p minimizes weight · max_u ‖G_p(u)‖/2γ* + KL(p), which tends to the least KL among the dual optimal as weight → ∞;
    the derivation is in this module's docstring.

    Parameters
    ----------
    X : array (n, d)
        Inputs.
    y : array (n,)
        Classes.
    best : MaxMargin, optional
        What max_margin returned for the same data; computed if not given.
    loss : str or Loss
        With margins and an exponential tail: "logistic", "cross_entropy", or one's own.
    weight : float
        Doubled up to this, each time to a gap of `tolerance`.
    tolerance : float
        In units of KL, estimated by climbing.
    rounds : int
        The most there may be.
    seconds : float, optional
        A limit, which only cuts the work short.
    seed : int
        Of the search.
    threads : int, optional
        By default the cores that this process may use.

    Returns
    -------
    MarginLaw

    Raises
    ------
    InputError
        As for max_margin; a loss without an exponential tail; data that no network separates; a weight not positive.

    Examples
    --------
    Two points, alike but for their side: p is uniform and c = 0.

    >>> from meanfield import exact
    >>> law = exact.margin_law([[1.0], [-1.0]], [1, -1])
    >>> round(law.margin, 6), round(law.deficit, 4) + 0.0
    (0.25, 0.0)
    """
    budget = Budget.of(np.inf, 1.0, seconds)
    if not get_loss(loss).exponential_tail:
        raise InputError(
            f"exact.margin_law needs a loss with an exponential tail; loss {get_loss(loss).name!r} has none"
        )
    pairs = Pairs(X, y, loss, "exact.margin_law")
    best = best or max_margin(X, y, loss=loss, seconds=seconds)
    if not best.margin > 0:
        raise InputError("y: no network separates these data, so their margins obey no law")
    if not weight > 0:
        raise InputError(f"weight = {weight!r}: must be positive")
    with single_threaded_blas():
        search = _Entropic(pairs, best, seed, threads or default_threads(), budget)
        return search.solved(weight, tolerance, rounds)


class _Entropic:
    """Neurons (v, u) with weights c ≥ 0, and p = softmax(−margins), which balances max ‖G_p‖ against KL(p).

    The dual of min_p S max_u ‖G_p(u)‖ + KL(p) is the least log mean exp(−margins) over networks with Σ c = S. Margins
    and ‖G_p‖ are in units of the shortest input's length.
    """

    def __init__(self, pairs: Pairs, best: MaxMargin, seed: int, threads: int, budget: Budget) -> None:
        self.pairs, self.threads, self.budget = pairs, threads, budget
        self.seed, self.known, self.rounds = seed, best.margin, 0
        self.u = best.u / np.linalg.norm(best.u, axis=1, keepdims=True)
        self.v = best.w / np.linalg.norm(best.w, axis=1, keepdims=True)
        self.c = np.linalg.norm(best.w, axis=1) ** 2
        self.p, self.peak = np.full(pairs.count, 1 / pairs.count), np.inf

    def solved(self, weight: float, tolerance: float, rounds: int) -> MarginLaw:
        """The law at `weight`, which is doubled up to there."""
        unit = 2 * self.known / self.pairs.scale  # of ‖G_p‖ in the inputs as they are scaled here
        doublings = max(1, int(np.ceil(np.log2(weight / 10)))) if weight > 10 else 1
        deficits = []
        for k in range(doublings, -1, -1):
            self._settle(weight / 2**k / unit, tolerance, rounds)
            deficits.append(self._excess() - self._divergence())
        A = self.pairs.margins(self.v, self.u)
        reached = float((solve_margin_program(A, self.pairs.least)[0] @ A / self.pairs.least).min())
        margin = max(self.known, 0.5 * self.pairs.scale * reached)
        return MarginLaw(
            margin=margin,
            dual=self.pairs.spread(self.p),
            divergence=self._divergence(),
            excess=self._excess(),
            peak=0.5 * self.pairs.scale * self.peak / margin,
            precision=abs(deficits[-1] - deficits[-2]),
            rounds=self.rounds,
            seconds=self.budget.seconds,
            cut_short=self.budget.cut_short,
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
