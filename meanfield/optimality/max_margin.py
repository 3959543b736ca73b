"""The largest normalized margin of any infinite-width network, by column generation.

γ_ℓ1 = max { min_i y_i Σ_j c_j relu(u_j·x_i) : Σ|c_j| ≤ 1, ‖u_j‖ = 1 } = min over p in the simplex of max_u |G_{p
y}(u)|, the ℓ1-SVM over all relu features. With balanced neurons ∫‖θ‖² dρ = 2 Σ|c_j|, so γ* = γ_ℓ1/2 (arXiv
1810.05369, theorem 4.1 and around). With several classes the margins are f_{y_i} − f_c, p has a weight for each pair
(i, c ≠ y_i), neurons carry unit vectors v_j (C,) and Σ|c_j| becomes Σ‖w_j‖.

A linear program over the neurons at hand gives their weights and p, climbing ‖G‖ at p (and halfway to the best p so
far, which damps the jumps of vertex solutions) the next neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..losses import Loss
from ..runtime.threads import default_threads, single_threaded_blas
from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .margin_program import Pairs, solve_margin_program
from .sphere_ascent import Peaks, climb, distinct, random_starts

_WORK = 6e10  # of `max_margin`: about a minute of one core
_PROOF = 0.05  # of it, for bounding the last dual weights
_KEPT = 1200  # neurons kept in the program: those nearest to binding


@dataclass(frozen=True, kw_only=True)
class MaxMargin:
    """A network of the largest normalized margin found, f(x) = Σ_j w_j relu(u_j·x), and a bound on any other's.

    Attributes
    ----------
    margin : float
        Attained by the neurons. 0, without neurons, where no network separates the data or none was found yet:
        `upper` tells.
    upper : float
        At least γ* if `rigorous`, else an estimate of such a bound.
    rigorous : bool
        Whether the bound is proven.
    w, u : ndarrays (K, C) and (K, d), float64
        The neurons, balanced, with Σ ‖w_j‖² + ‖u_j‖² = 1.
    dual : ndarray (n,) or (n, C), float64
        The weights p ≥ 0, Σ p = 1, of the bound; with several classes 0 at the own class.
    rounds : int
        Of column generation.
    seconds : float
        Wall-clock time.
    cut_short : bool
        Whether a limit in seconds ended the search before its work was done.

    Examples
    --------
    Two points on a line need two neurons, one for each side of 0.

    >>> from meanfield import exact
    >>> best = exact.max_margin([[1.0], [-1.0]], [1, -1])
    >>> best.w.shape, best.dual.round(4).tolist(), best.gap < 1e-5
    ((2, 1), [0.5, 0.5], True)
    >>> best.predict([[1.0], [-1.0]]).round(4).tolist()
    [[0.25], [-0.25]]
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
        """upper − margin."""
        return self.upper - self.margin

    def predict(self, X: np.ndarray) -> np.ndarray:
        """f (n, C), float64, at X (n, d)."""
        return np.maximum(X @ self.u.T, 0.0) @ self.w


def max_margin(
    X: Any,
    y: Any,
    *,
    loss: str | Loss = "logistic",
    tolerance: float = 1e-5,
    effort: float = 1.0,
    seconds: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> MaxMargin:
    """γ*, the largest normalized margin min_i margin_i/∫‖θ‖² dρ of any network (arXiv 1810.05369, theorem 4.1).

    Column generation: a linear program over the neurons at hand, then the directions that its dual weights pull most.

    Parameters
    ----------
    X : array (n, d)
        Inputs.
    y : array (n,)
        Classes.
    loss : str or Loss
        What encodes the classes and says what a margin is: y f for "logistic" (two classes), f_y − max of the others
        for "cross_entropy" (any number), `margin_rows` of a loss of one's own.
    tolerance : float
        The relative (estimated) gap at which to stop.
    effort : float
        1 is about a minute of one core, counted in work: the answer is the same every time, and more never gives a
        smaller margin.
    seconds : float, optional
        A limit, which only cuts the work short.
    seed : int
        Of the search.
    threads : int, optional
        By default the cores that this process may use; the answer does not depend on it.

    Returns
    -------
    MaxMargin

    Raises
    ------
    InputError
        As for a Problem with that loss; a loss without margins; effort or seconds not positive.

    Examples
    --------
    Two points on a line, one on each side of 0: w relu(u x) has margin 1/4 where w² + u² = ½ is shared by two neurons.

    >>> from meanfield import exact
    >>> found = exact.max_margin([[1.0], [-1.0]], [1, -1])
    >>> round(found.margin, 6), found.rigorous
    (0.25, True)
    """
    budget = Budget.of(_WORK, effort, seconds)
    pairs = Pairs(X, y, loss)
    with single_threaded_blas():
        return _Columns(pairs, seed, threads or default_threads(), budget).solved(tolerance)


def refitted(X: Any, y: Any, u: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """The largest normalized margin of all networks whose neurons have the directions u (m, d), and such a network.

    One linear program, for inputs X (n, d) and two classes y (n,). Returns the margin, w (m, 1) and u (m, d), balanced,
    with Σ ‖w_j‖² + ‖u_j‖² = 1; the margin is 0, with w = u = 0, if no weights separate. InputError: as for max_margin.
    """
    pairs, u = Pairs(X, y, "logistic"), np.asarray(u, dtype=np.float64)
    if u.ndim != 2 or u.shape[1] != pairs.X.shape[1] or not np.isfinite(u).all():
        raise InputError(f"u {u.shape}: must be (m, {pairs.X.shape[1]}), and finite")
    u = u / np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-300)
    A = pairs.margins(np.ones((len(u), 1)), u)
    c, _ = solve_margin_program(np.concatenate([A, -A]), pairs.least)
    c = c[: len(u)] - c[len(u) :]
    margin = float((c @ A / pairs.least).min()) / max(np.abs(c).sum(), 1e-300)
    root = np.sqrt(np.abs(c) / (2 * max(np.abs(c).sum(), 1e-300)))[:, None] * (margin > 0)
    return max(0.0, margin) * 0.5 * pairs.scale, np.sign(c)[:, None] * root, u * root


class _Columns:
    """Neurons (v, u) so far, the dual weights with the lowest peak, and the best network: value, v, u and its c ≥ 0."""

    def __init__(self, pairs: Pairs, seed: int, threads: int, budget: Budget) -> None:
        self.pairs, self.threads, self.budget = pairs, threads, budget
        self.seed, self.draws = seed, 0
        self.v, self.u = np.zeros((0, pairs.C)), np.zeros((0, pairs.X.shape[1]))
        self.network: tuple[float, np.ndarray, np.ndarray, np.ndarray] = 0.0, self.v, self.u, np.zeros(0)
        self.upper, self.best = np.inf, np.full(pairs.count, 1 / pairs.least.sum())

    @property
    def value(self) -> float:
        """The margin of the best network, on the scaled inputs."""
        return self.network[0]

    def solved(self, tolerance: float) -> MaxMargin:
        """Rounds until the relative gap is at most `tolerance`, or the budget is over."""
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
        c, q = solve_margin_program(A, self.pairs.least)
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
            margin=value * half,
            upper=upper * half,
            rigorous=rigorous,
            w=v[used] * root,
            u=u[used] * root,
            dual=pairs.spread(pairs.least * self.best),
            rounds=rounds,
            seconds=self.budget.seconds,
            cut_short=self.budget.cut_short,
        )
