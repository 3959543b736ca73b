"""A proven upper bound on γ*: weights q ≥ 0 of the margins give one, max_u ‖G_q(u)‖ over their sum.

For a network with Σ‖w_j‖‖u_j‖ = 1 the least margin is at most the mean by q, Σ_j w_j·G_q(u_j)/Σ least q. Many weights
have the lowest max ‖G_q‖, and the relaxation of `doubly_nonnegative` is nearer to it at some than at others: often at
those of least KL, sometimes at the vertex that a linear program returns. Both are tried.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .branch_and_bound import bound_on_sphere
from .budget import Budget
from .margin_program import Pairs
from .proof import proven_peak
from .soft_margin import SoftMargins

_CONES, _SOFT, _FIRST = 0.2, 0.2, 0.9  # of the work left: for cones, for weights of least KL, for the bound at them
_WEIGHT, _SETTLED = 80.0, 1e-3  # of max ‖G‖/γ against KL, to begin with, and to what gap of KL their sum is minimized
_STARTS, _LAST = 100, 1000  # of climbing, and for a last look
_EPS = float(np.finfo(float).eps)


class Weights(NamedTuple):
    """q (count,) with least·q = 1, the highest ‖G_q‖ met by climbing, and where, u (d,)."""

    q: np.ndarray
    peak: float
    u: np.ndarray


def bound_margin(
    pairs: Pairs, known: Weights, soft: SoftMargins | None, level: float, budget: Budget, threads: int
) -> tuple[float, Weights, float]:
    """A proven bound on the largest margin of the scaled inputs, its weights, and the lowest peak of any weights met.

    Of the known weights by cones, which settles small ranks; then of those of least KL, begun from the neurons of
    `soft`, and of the known ones, by whatever serves. Ends once the bound is at most `level`.
    """
    part = budget.part(_CONES)
    cut = bound_on_sphere(pairs.pulling, pairs.point(known.q), start=known.u, budget=part, threads=threads)
    budget.took(part)
    best = np.inf if cut is None else proven_margin(pairs, known.q, cut.upper), known
    rest, lowest = [(known, 1.0)], known.peak
    if best[0] > level and soft is not None:
        part = budget.part(_SOFT)
        smooth = least_divergence(soft, level, part)
        budget.took(part)
        lowest = min(lowest, smooth.peak)
        rest = [(smooth, _FIRST), *rest] if np.isfinite(smooth.peak) else rest
    for weights, share in rest:
        if best[0] > level:
            part, a = budget.part(share), pairs.point(weights.q)
            peak = proven_peak(pairs.pulling, a, start=weights.u, level=level, budget=part, threads=threads)
            budget.took(part)
            best = min(best, (proven_margin(pairs, weights.q, peak.upper), weights), key=lambda one: one[0])
    return *best, lowest


def least_divergence(soft: SoftMargins, level: float, budget: Budget) -> Weights:
    """Weights near those of least KL, of the lowest peak within the budget; of peak ∞ where it is too small to begin.

    Neurons are added until a last look finds no ‖G‖ above `level`; where that settles too high, max ‖G‖ counts for
    more.
    """
    S, starts, best = _WEIGHT / level, _STARTS, Weights(soft.scaled, np.inf, soft.u[0])
    while budget.holds(soft.work):
        budget.spend(soft.work)
        peaks = soft.refit(S, 0.1 * _SETTLED, starts)
        if soft.peak < best.peak or starts == _LAST:
            best = Weights(soft.scaled, soft.peak, peaks.u[0])
        if soft.peak <= level:
            if starts == _LAST:
                break
            starts = _LAST
        elif S * (soft.peak - soft.held) <= _SETTLED:
            S *= 4
        soft.add(peaks)
    return best


def proven_margin(pairs: Pairs, q: np.ndarray, peak: float) -> float:
    """The bound on the largest margin of the scaled inputs that weights q (count,) and `peak` ≥ max ‖G_q‖ prove.

    Scaled inputs are the inputs times 1/length but for a rounding of each entry, and G_q is formed from a sum of R
    terms, with R competing classes: both move ‖G_q‖ by at most so many roundings of Σ q ‖T‖. Σ least q is a sum of
    positive terms.
    """
    R = pairs.T.shape[1]
    size = pairs.mirror.spread * float(q @ np.linalg.norm(pairs.T, axis=2).ravel())
    norm = peak + 4 * _EPS * (R + 4) * size
    return norm / float(q @ pairs.least) * (1 + 4 * _EPS * (pairs.count + 10))


__all__ = ["Weights", "bound_margin", "least_divergence", "proven_margin"]
