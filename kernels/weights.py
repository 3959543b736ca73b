"""Examples that count several times, or for a part: of weight w, in every sum, like w equal ones.

A sum Σ_i w_i (y_i − f(x_i))² is the plain one of √w y and √w f, so that least squares with weights are those of the
kernel √w_i K_ij √w_j; or, divided by √w on both sides, of K with reg / w_i in place of reg.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def check_weights(weights: Any, n: int) -> np.ndarray:
    """(n,) float64, positive and finite; ones for None."""
    if weights is None:
        return np.ones(n)
    values = np.asarray(weights, dtype=float)
    if values.shape != (n,) or not ((values > 0) & np.isfinite(values)).all():
        raise ValueError(f"weights: expected {n} positive finite numbers")
    return values


def that_count(X: np.ndarray, y: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Points, targets and weights without those of weight 0; ValueError for negative weights, or where all are 0."""
    if sample_weight is None:
        return X, y, None
    from sklearn.utils.validation import _check_sample_weight

    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    counts = weights > 0
    if (weights < 0).any() or not counts.any():
        raise ValueError("sample_weight: expected numbers of at least 0, not all of them 0")
    return X[counts], y[counts], weights[counts]


def left_out(residuals: np.ndarray, unexplained: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """y_i less the prediction at x_i of a ridge without example i, or, of a larger weight than 1, with 1 less of it.

    That is one of w equal examples left out. residuals: of the fit with all. unexplained: 1 − ∂f(x_i)/∂y_i.
    """
    share = 1 / np.maximum(weights, 1)
    return np.asarray(residuals / (1 - share + share * unexplained))
