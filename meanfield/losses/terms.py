"""Terms that several losses and conjugates are made of, accurate where they are small."""

from __future__ import annotations

import numpy as np

from ..engine import exact_math


def expit(z: np.ndarray) -> np.ndarray:
    """1/(1 + e^{−z}) without overflow."""
    e = exact_math.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def softmax(f: np.ndarray) -> np.ndarray:
    """e^{f_c}/Σ e^{f} by rows of f (n, C)."""
    e = exact_math.exp(f - f.max(axis=1, keepdims=True))
    return e / exact_math.row_sums(e)[:, None]


def xlogx(x: np.ndarray, complement: np.ndarray | None = None) -> np.ndarray:
    """x log x with 0 log 0 = 0; given 1 − x as `complement`, accurate where x is next to 1."""
    log = exact_math.log(np.where(x > 0, x, 1.0))
    if complement is not None:
        log = np.where(x > 0.5, exact_math.log1p(-np.where(x > 0.5, complement, 0.0)), log)
    return x * log


def scale_to_one(largest: float) -> float:
    """1/largest; inf where that is not a number of float64."""
    return float(1.0 / largest) if largest > 1.0 / np.finfo(float).max else np.inf


def log_or_nan(p: np.ndarray) -> np.ndarray:
    """log p where p > 0, else NaN, without a warning."""
    inside = p > 0
    return np.where(inside, exact_math.log(np.where(inside, p, 1.0)), np.nan)
