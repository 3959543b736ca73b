"""Cross-entropy of the softmax."""

from __future__ import annotations

import numpy as np

from ..engine import exact_math
from .base import ROUNDING
from .kinds import MulticlassLoss
from .terms import log_or_nan, scale_to_one, softmax, xlogx


class CrossEntropy(MulticlassLoss):
    """ℓ(y, f) = log Σ_c e^{f_c} - f_y.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.losses import CrossEntropy
    >>> targets, _ = CrossEntropy().encode(np.array([2, 5, 7]))
    >>> targets
    array([0, 1, 2])
    >>> round(CrossEntropy().value(np.zeros((3, 3)), targets), 6)  # log 3
    1.098612
    """

    name = "cross_entropy"
    exponential_tail = True

    def value(self, f: np.ndarray, t: np.ndarray) -> float:
        gaps = f - f[np.arange(len(t)), t][:, None]
        rows, top = np.arange(len(t)), gaps.argmax(axis=1)
        others = exact_math.exp(gaps - gaps[rows, top][:, None])
        others[rows, top] = 0.0  # log1p of the rest keeps losses far below one rounding of 1
        return exact_math.mean(gaps[rows, top] + exact_math.log1p(exact_math.row_sums(others)))

    def residual(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(softmax(f) - e_y)/n; the entry of y is minus the sum of the others, exact however small they are."""
        p = softmax(f)
        return _balanced(p, t) / len(t)

    def curvature(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """2 p(1-p) at the likeliest class: Gershgorin's bound for diag(p) - ppᵀ, at most ½, exact for two classes."""
        p = softmax(f)
        top = p.argmax(axis=1)
        return 2.0 * p.max(axis=1) * -_balanced(p, top)[np.arange(len(p)), top]

    def hessian(self, f: np.ndarray, t: np.ndarray) -> np.ndarray:
        """diag(p) - ppᵀ."""
        p = softmax(f)
        return p[:, :, None] * np.eye(f.shape[1]) - p[:, :, None] * p[:, None, :]

    def conjugate(self, a: np.ndarray, t: np.ndarray) -> float:
        """mean Σ_c p_ic log p_ic, p_i = n a_i + e_{y_i} in the simplex."""
        na = len(t) * a
        if not _sums_to_zero(na):
            return np.inf
        p = na.copy()
        p[np.arange(len(t)), t] += 1.0
        if not np.all(p >= -ROUNDING):
            return np.inf
        off = -na[np.arange(len(t)), t]
        plogp = xlogx(np.maximum(p, 0.0))
        plogp[np.arange(len(t)), t] = xlogx(np.maximum(1.0 - off, 0.0), complement=np.minimum(off, 1.0))
        return exact_math.total(plogp) / len(t)

    def largest_scale(self, a: np.ndarray, t: np.ndarray) -> float:
        na = len(t) * a
        off = -na[np.arange(len(t)), t]
        na[np.arange(len(t)), t] = 0.0
        in_cone = _sums_to_zero(a) and np.all(na >= 0)
        return scale_to_one(off.max()) if in_cone else 0.0

    def conjugate_magnitude(self, a: np.ndarray, t: np.ndarray) -> float:
        """log C, which the entropy of no law on C classes exceeds."""
        return float(np.log(a.shape[1]))

    def conjugate_gradient(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        """log p."""
        return log_or_nan(_law(a, t))

    def conjugate_hessian(self, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        """diag(n/p)."""
        return (len(t) / _law(a, t))[:, :, None] * np.eye(a.shape[1])

    def dual_basis(self, outputs: int) -> np.ndarray:
        """Of the rows that sum to zero, as those of a residual do: Helmert's contrasts (C − 1, C)."""
        contrasts = np.tril(np.ones((outputs - 1, outputs)))
        k = np.arange(1, outputs)
        contrasts[k - 1, k] = -k
        return contrasts / np.sqrt(k * (k + 1.0))[:, None]

    def probabilities(self, f: np.ndarray) -> np.ndarray:
        """softmax(f)."""
        return softmax(f)


def _balanced(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """p - e_t for rows p that sum to 1, without cancellation at t."""
    out = p.copy()
    rows = np.arange(len(p))
    out[rows, t] = 0.0
    out[rows, t] = -exact_math.row_sums(out)
    return out


def _law(a: np.ndarray, t: np.ndarray) -> np.ndarray:
    """p (n, C) of a dual point; the entry of y is 1 minus the others."""
    p, rows = len(t) * a, np.arange(len(t))
    p[rows, t] = 1.0 - (p.sum(axis=1) - p[rows, t])
    return p


def _sums_to_zero(a: np.ndarray) -> bool:
    """Whether each row sums to zero, to a relative 1e-12 of its largest entry."""
    return bool(np.all(np.abs(exact_math.row_sums(a)) <= 1e-12 * np.abs(a).max(axis=1)))
