"""The largest normalized margin of any infinite-width network, by column generation.

γ_ℓ1 = max { min_i y_i Σ_j c_j relu(u_j·x_i) : Σ|c_j| ≤ 1, ‖u_j‖ = 1 } = min over p in the simplex of max_u |G_{p
y}(u)|, the ℓ1-SVM over all relu features. With balanced neurons ∫‖θ‖² dρ = 2 Σ|c_j|, so γ* = γ_ℓ1/2 (arXiv
1810.05369, theorem 4.1 and around). With several classes the margins are f_{y_i} − f_c, p has a weight for each pair
(i, c ≠ y_i), neurons carry unit vectors v_j (C,) and Σ|c_j| becomes Σ‖w_j‖. leaky_relu likewise (`mirror`).

A linear program over the neurons at hand gives their weights and p, climbing ‖G‖ at p (and halfway to the best p so
far, which damps the jumps of vertex solutions) the next neurons. The upper bound is then proven (`margin_bound`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..losses import Loss
from ..neuron import Neuron, get_neuron
from ..runtime.threads import default_threads, single_threaded_blas
from ..shown import Shown
from .budget import Budget
from .margin_bound import Weights, bound_margin
from .margin_program import Pairs, solve_margin_program
from .soft_margin import SoftMargins
from .sphere_ascent import Peaks, climb, distinct, random_starts

_WORK, _PROOF = 6e10, 2e10  # of the search and of the proof: about a minute of one core, and twenty seconds
_SEARCH = 0.75  # of a limit in seconds that a proof is to share
_PROVEN = 1e-4  # relative: a bound so close to the margin is good enough, or one at the tolerance where that is more
_KEPT = 1200  # neurons kept in the program: those nearest to binding


@dataclass(frozen=True, kw_only=True, repr=False)
class MaxMargin(Shown):
    """A network of the largest normalized margin found, f(x) = Σ_j w_j φ(u_j·x), and a bound on any other's.

    Attributes
    ----------
    margin : float
        Attained by the neurons. 0, without neurons, where no network separates the data or none was found yet:
        `upper` tells, which is 0 but for rounding in the first case.
    upper : float
        At least γ*, rounding included, if `rigorous`; else the estimate. How tight a proven one is says upper/margin.
    rigorous : bool
        Whether `upper` is proven.
    estimate : float
        Of the upper bound, by climbing: too low only where all starts missed the highest peak.
    w, u : ndarrays (K, C) and (K, d), float64
        The neurons, balanced, with Σ ‖w_j‖² + ‖u_j‖² = 1.
    dual : ndarray (n,) or (n, C), float64
        The weights p ≥ 0, Σ p = 1, of `upper`; with several classes 0 at the own class.
    rounds : int
        Of column generation.
    seconds : float
        Wall-clock time.
    cut_short : bool
        Whether a limit in seconds ended the search before its work was done.
    neuron : Neuron
        Whose φ.

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

    SHOWN = ("margin", "upper", "rigorous", "w", "u", "rounds", "seconds", "cut_short")

    margin: float
    upper: float
    rigorous: bool
    estimate: float
    w: np.ndarray
    u: np.ndarray
    dual: np.ndarray
    rounds: int
    seconds: float
    cut_short: bool = False
    neuron: Neuron = field(default_factory=lambda: get_neuron("relu"))

    @property
    def gap(self) -> float:
        """upper − margin."""
        return self.upper - self.margin

    def predict(self, X: np.ndarray) -> np.ndarray:
        """f (n, C), float64, at X (n, d)."""
        return self.neuron.evaluate(X @ self.u.T)[0] @ self.w


def max_margin(
    X: Any,
    y: Any,
    *,
    loss: str | Loss = "logistic",
    neuron: str | Neuron = "relu",
    tolerance: float = 1e-5,
    effort: float = 1.0,
    seconds: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    prove: bool = True,
) -> MaxMargin:
    """γ*, the largest normalized margin min_i margin_i/∫‖θ‖² dρ of any network (arXiv 1810.05369, theorem 4.1).

    Column generation: a linear program over the neurons at hand, then the directions that its dual weights pull most.
    The upper bound is proven, in any dimension. It is tight, to 1e-4 or to the tolerance if that is more, up to rank 4;
    in general it can be loose, which upper/margin tells. On the paper's data, d = 20, at tolerance 1e-4, one draw each:
    1e-4 at n = 40 after 11 s of one core and at n = 160 after 80 s; 1.3 % at n = 80 after 34 s, where more effort
    proves more.

    Parameters
    ----------
    X : array (n, d)
        Inputs.
    y : array (n,)
        Classes.
    loss : str or Loss
        What encodes the classes and says what a margin is: y f for "logistic" (two classes), f_y − max of the others
        for "cross_entropy" (any number), `margin_rows` of a loss of one's own.
    neuron : str or Neuron
        "relu" or "leaky_relu".
    tolerance : float
        The relative (estimated) gap at which to stop.
    effort : float
        1 is about a minute of one core for the network and twenty seconds for the proof at most, counted in work: the
        answer is the same every time, and more never gives a smaller margin. Ascents that have begun are not cut.
    seconds : float, optional
        A limit, which only cuts the work short.
    seed : int
        Of the search.
    threads : int, optional
        By default the cores that this process may use; the answer does not depend on it.
    prove : bool
        False leaves `upper` an estimate.

    Returns
    -------
    MaxMargin

    Raises
    ------
    InputError
        As for a Problem with that loss; a loss without margins; another neuron; effort or seconds not positive.

    Examples
    --------
    Two points on a line, one on each side of 0: w relu(u x) has margin 1/4 where w² + u² = ½ is shared by two neurons.

    >>> from meanfield import exact
    >>> found = exact.max_margin([[1.0], [-1.0]], [1, -1])
    >>> round(found.margin, 6), found.rigorous
    (0.25, True)
    """
    neuron = get_neuron(neuron)
    budget, pairs = Budget.of(_WORK, effort, seconds), Pairs(X, y, loss, neuron=neuron)
    if prove and seconds is not None:
        budget.limit = _SEARCH * seconds
    with single_threaded_blas():
        columns = _Columns(pairs, seed, threads or default_threads(), budget)
        columns.solve(tolerance)
        left = None if seconds is None else max((1 - _SEARCH) * seconds, seconds - budget.seconds)
        found = columns.result(max(tolerance, _PROVEN), Budget(effort * _PROOF, left) if prove else None)
    return replace(found, neuron=neuron)


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
        self.rounds, self.best = 0, Weights(np.full(pairs.count, 1 / pairs.least.sum()), np.inf, pairs.X[0])

    @property
    def value(self) -> float:
        """The margin of the best network, on the scaled inputs."""
        return self.network[0]

    def solve(self, tolerance: float) -> None:
        """Rounds until the relative gap is at most `tolerance`, or the budget is over."""
        q = self.pairs.contradiction()
        if q is not None:
            self.best = Weights(q, 0.0, self.pairs.X[0])
            return
        q = self.best.q
        while True:
            mixes = (1.0,) if self.rounds == 0 else (1.0, 0.5, 0.1)
            new = [self._judge(share * q + (1 - share) * self.best.q) for share in mixes]
            if self.best.peak - self.value <= tolerance * self.best.peak:
                self.best = self.best._replace(peak=np.inf)
                new.append(self._judge(self.best.q, 2000))
                if self.best.peak - self.value <= tolerance * self.best.peak:
                    break
            if self.rounds and self.budget.over():
                break
            self.v = np.concatenate([self.v, *(v for v, _ in new)])
            self.u = np.concatenate([self.u, *(u for _, u in new)])
            try:
                q = self._refit()
            except ArithmeticError:  # the solver's: what was found before stands, with its gap
                break
            self.rounds += 1

    def _judge(self, q: np.ndarray, starts: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """Peaks of ‖G‖ at q, as new neurons; q becomes the best if its highest peak is the lowest."""
        X, a = self.pairs.pulling, self.pairs.point(q)
        climbing = Budget()  # uncut: a peak overlooked would pass for a bound
        U = np.concatenate([random_starts(X, starts, seed=self.seed, draw=self.draws), self.u[-300:]])
        peaks = climb(X, a, U, threads=self.threads, budget=climbing)
        self.draws += 1
        self.budget.took(climbing)
        if peaks.value[0] < self.best.peak:
            self.best = Weights(q, float(peaks.value[0]), peaks.u[0])
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

    def result(self, level: float, proof: Budget | None) -> MaxMargin:
        """What was found, its bound proven to 1 + `level` times the margin if there is a budget for that."""
        pairs, (value, v, u, c) = self.pairs, self.network
        used = c > 0
        root = np.sqrt(c[used] / (2 * max(c.sum(), 1e-300)))[:, None]
        upper, weights, estimate = self.best.peak, self.best, self.best.peak
        if proof is not None:
            soft = SoftMargins(pairs, v[used], u[used], c[used], self.seed, self.threads) if value > 0 else None
            upper, weights, estimate = bound_margin(
                pairs, self.best, soft, value * (1 + level), proof, threads=self.threads
            )
        half = 0.5 * pairs.scale
        return MaxMargin(
            margin=value * half,
            upper=upper * half,
            rigorous=proof is not None,
            estimate=estimate * half,
            w=v[used] * root,
            u=u[used] * root,
            dual=pairs.spread(pairs.least * weights.q),
            rounds=self.rounds,
            seconds=self.budget.seconds,
            cut_short=self.budget.cut_short or (proof is not None and proof.cut_short),
        )
