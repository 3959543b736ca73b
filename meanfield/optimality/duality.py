"""A residual is a dual point: the lower bound on min L that it gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..losses import Loss

_GOLDEN = 0.6180339887498949


def dual_bound(loss: Loss, targets: np.ndarray, a: np.ndarray, peak: float, reg: float) -> tuple[float, float]:
    """max_s −R*(s a) over 0 ≤ s ≤ 2λ/peak within the domain of R*: a lower bound on min L if `peak` is high enough.

    At τ = 0, min L = max {−R*(a) : ‖G_a(u)‖ ≤ 2λ for all unit u} with G_a(u) = Σ_i a_i relu(u·x_i), the convex dual of
    R(f) + 2λ × (the variation norm of f over relu neurons). Losses are never negative, so R*(0) ≤ 0 and 0 is a bound.

    Parameters
    ----------
    loss : Loss
        With a `conjugate`.
    targets : array
        As the loss encodes them.
    a : array (n, C), float64
        A dual point, such as a residual.
    peak : float
        At least max ‖G_a(u)‖ over unit u; with less the answer is an estimate.
    reg : float
        λ.

    Returns
    -------
    bound, s : float
        (0, 0) where only s = 0 will do.

    Raises
    ------
    InputError
        A loss without a conjugate.

    Examples
    --------
    One example, x = 1 and y = 1: a = −1 scaled to ½ gives −(a²/2 + a) = 3/8, the minimum of ½(f − 1)² + 2λ|f| at λ = ¼.

    >>> import numpy as np
    >>> from meanfield import exact
    >>> from meanfield.losses import get_loss
    >>> bound, s = exact.dual_bound(get_loss("squared"), np.array([[1.0]]), np.array([[-1.0]]), 1.0, 0.25)
    >>> round(bound, 9), round(s, 9)
    (0.375, 0.5)
    """
    loss.require("dual_bound", "conjugate")
    largest = min(loss.largest_scale(a, targets), 2 * reg / peak if peak > 0 else np.inf)
    if not np.isfinite(largest):
        largest = 1e6
    if not largest > 0:
        return 0.0, 0.0
    return best_scale(lambda s: loss.conjugate(s * a, targets), largest)


def best_scale(function: Callable[[float], float], largest: float) -> tuple[float, float]:
    """max_s −f(s) over 0 ≤ s ≤ largest, and that s, for a convex f with f(0) ≤ 0, beyond whose domain f is infinite."""
    tried = _golden_section(function, largest)
    tried += [(function(s), s) for s in (largest, largest * (1 - 1e-12), 0.0)]
    value, s = min(tried)
    return max((-value, s), (0.0, 0.0))


def _golden_section(function: Callable[[float], float], largest: float, steps: int = 60) -> list[tuple[float, float]]:
    """(f(s), s) where a convex f was asked for its least on (0, largest): the interval shrinks by 0.618 each step."""
    left, right = 0.0, largest
    points = [(function(s), s) for s in ((1 - _GOLDEN) * largest, _GOLDEN * largest)]
    tried = list(points)
    for _ in range(steps):
        (low, s), (high, t) = points
        if low <= high:
            right = t
            s, t = left + (1 - _GOLDEN) * (right - left), s
            points = [(function(s), s), (low, t)]
            tried.append(points[0])
        else:
            left = s
            s, t = t, left + _GOLDEN * (right - left)
            points = [(high, s), (function(t), t)]
            tried.append(points[1])
    return tried
