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

from ..errors import InputError
from ..losses import Loss, get_loss
from ..neuron import Neuron, get_neuron
from ..runtime.threads import default_threads, single_threaded_blas
from ..shown import Shown
from .budget import Budget
from .margin_program import Pairs, solve_margin_program
from .max_margin import MaxMargin, max_margin
from .soft_margin import SoftMargins


@dataclass(frozen=True, kw_only=True, repr=False)
class MarginLaw(Shown):
    """The approach of the regularized optimum to γ* as λ → 0, from the dual solution p of least KL = Σ p log(n p).

    Attributes
    ----------
    margin : float
        γ* as the better of two linear programs has it, max_margin's and one over the neurons met here.
    upper, rigorous : float and bool
        Of γ*, as max_margin has it: a bound from above, and whether it is proven.
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

    SHOWN = ("margin", "upper", "rigorous", "divergence", "excess", "precision", "rounds", "seconds", "cut_short")

    margin: float
    upper: float
    rigorous: bool
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
    neuron: str | Neuron = "relu",
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
    neuron : str or Neuron
        "relu" or "leaky_relu".
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
        `best` of another neuron.

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
    pairs = Pairs(X, y, loss, "exact.margin_law", neuron)
    best = best or max_margin(X, y, loss=loss, neuron=neuron, seconds=seconds)
    if best.neuron.name != get_neuron(neuron).name:
        raise InputError(f"neuron = {neuron!r}: best is that of {best.neuron.name!r}")
    if not best.margin > 0:
        raise InputError("y: no network separates these data, so their margins obey no law")
    if not weight > 0:
        raise InputError(f"weight = {weight!r}: must be positive")
    with single_threaded_blas():
        search = _Approach(pairs, best, seed, threads or default_threads(), budget)
        return search.solved(weight, tolerance, rounds)


class _Approach:
    """p of least KL at a weight that grows, and what it says of small λ."""

    def __init__(self, pairs: Pairs, best: MaxMargin, seed: int, threads: int, budget: Budget) -> None:
        self.pairs, self.budget, self.best, self.rounds = pairs, budget, best, 0
        size = np.linalg.norm(best.w, axis=1)
        self.soft = SoftMargins(pairs, best.w / size[:, None], best.u / size[:, None], size**2, seed, threads)

    def solved(self, weight: float, tolerance: float, rounds: int) -> MarginLaw:
        """The law at `weight`, which is doubled up to there."""
        unit = 2 * self.best.margin / self.pairs.scale  # of ‖G_p‖ in the inputs as they are scaled here
        doublings = max(1, int(np.ceil(np.log2(weight / 10)))) if weight > 10 else 1
        deficits = []
        for k in range(doublings, -1, -1):
            self._settle(weight / 2**k / unit, tolerance, rounds)
            deficits.append(self._excess() - self._divergence())
        A = self.pairs.margins(self.soft.v, self.soft.u)
        reached = float((solve_margin_program(A, self.pairs.least)[0] @ A / self.pairs.least).min())
        margin = max(self.best.margin, 0.5 * self.pairs.scale * reached)
        return MarginLaw(
            margin=margin,
            upper=self.best.upper,
            rigorous=self.best.rigorous,
            dual=self.pairs.spread(self.soft.p),
            divergence=self._divergence(),
            excess=self._excess(),
            peak=0.5 * self.pairs.scale * self.soft.peak / margin,
            precision=abs(deficits[-1] - deficits[-2]),
            rounds=self.rounds,
            seconds=self.budget.seconds,
            cut_short=self.budget.cut_short,
        )

    def _settle(self, S: float, tolerance: float, rounds: int) -> None:
        """Add peaks of ‖G_p‖ and refit, until no peak exceeds those of the neurons at hand by tolerance/S."""
        starts = 100
        while True:
            peaks = self.soft.refit(S, 0.1 * tolerance, starts)
            self.rounds += 1
            settled = S * (self.soft.peak - self.soft.held) <= tolerance
            if self.rounds >= rounds or (settled and starts == 1000) or self.budget.over():
                return
            if settled:
                starts = 1000  # a last look from more starts
            self.soft.add(peaks)

    def _divergence(self) -> float:
        p = self.soft.p[self.soft.p > 0]
        return float(np.sum(p * np.log(self.pairs.n * p)))

    def _excess(self) -> float:
        return float(np.log(self.pairs.n * self.soft.p.max()))


__all__ = ["MarginLaw", "margin_law"]
